//! How a device gets its identity: one HTTPS exchange with the relay, before it has a certificate.
//!
//! The operator makes a claim code in the dashboard; the crew enters the claim link on the device. The device makes its
//! key, sends [`EnrolRequest`] to `POST /enrol` on the relay's enrolment port, and checks the relay's CA by the
//! fingerprint in the link, so that no wall clock and no public CA is needed.

use crate::Secret;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use units::DeviceId;

/// Path of the enrolment call.
pub const ENROL_PATH: &str = "/enrol";

/// Device to relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The claim code, single use.
    pub claim_code: Secret,
    /// PKCS#10 request, PEM, signed by the device's key. Its subject is ignored: the relay names the device.
    pub csr_pem: String,
    /// What the hardware calls itself.
    pub board: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// Relay to device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The device's id from now on; the certificate's common name.
    pub device: DeviceId,
    /// Client certificate, PEM.
    pub certificate_pem: String,
    /// The relay's CA, PEM: what the device trusts from now on.
    pub ca_pem: String,
    /// Host of the MQTT listener.
    pub broker_host: String,
    /// Port of the MQTT listener.
    pub broker_port: u16,
}

/// Relay to device, when refused. HTTP status 403 for a bad claim, 400 for a bad request, 429 for too many tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRefusal {
    /// Why.
    pub reason: EnrolRefusalReason,
    /// In words, with what to do.
    pub detail: String,
}

/// Why an enrolment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrolRefusalReason {
    /// No such code, or it was used, or its time is over: deliberately not told apart to a stranger.
    ClaimRefused,
    /// The certificate request cannot be used.
    BadRequest,
    /// Too many tries; wait.
    TooManyTries,
    /// A reason this build does not know.
    #[serde(other)]
    Other,
}

/// What the crew enters or scans: `https://host:port/enrol#CODE.FINGERPRINT`.
///
/// The fragment holds the claim code and the SHA-256 of the relay's CA certificate (DER), in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimLink {
    /// Host of the enrolment listener; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The claim code.
    pub claim_code: Secret,
    /// SHA-256 of the CA certificate's DER.
    pub ca_fingerprint: [u8; 32],
}

/// Why a text is no claim link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClaimLinkError {
    /// Not `https://host:port/enrol#...`.
    #[error(
        "a claim link has the form https://host:port{ENROL_PATH}#code.fingerprint; copy it whole from the dashboard"
    )]
    Form,
    /// The port is no number from 1 to 65535.
    #[error("the claim link's port is not a number from 1 to 65535")]
    Port,
    /// The code is empty or has a foreign character.
    #[error("the claim code holds only letters, digits and '-'")]
    Code,
    /// The fingerprint is not 64 hexadecimal digits.
    #[error("the claim link's fingerprint must be 64 hexadecimal digits; copy the link whole from the dashboard")]
    Fingerprint,
}

impl FromStr for ClaimLink {
    type Err = ClaimLinkError;

    fn from_str(text: &str) -> Result<Self, ClaimLinkError> {
        let rest = text.trim().strip_prefix("https://").ok_or(ClaimLinkError::Form)?;
        let (authority, rest) = rest.split_once('/').ok_or(ClaimLinkError::Form)?;
        let fragment = rest.strip_prefix(&ENROL_PATH[1..]).and_then(|rest| rest.strip_prefix('#'));
        let (code, fingerprint) = fragment.and_then(|text| text.split_once('.')).ok_or(ClaimLinkError::Form)?;
        let (host, port) = authority.rsplit_once(':').ok_or(ClaimLinkError::Form)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(ClaimLinkError::Form);
        }
        let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or(ClaimLinkError::Port)?;
        if code.is_empty() || code.len() > 64 || !code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(ClaimLinkError::Code);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            claim_code: Secret::new(code),
            ca_fingerprint: parse_fingerprint(fingerprint).ok_or(ClaimLinkError::Fingerprint)?,
        })
    }
}

fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    }
    Some(bytes)
}

impl ClaimLink {
    /// The link as text, with its secret: for the one who made it, never for a log.
    pub fn reveal(&self) -> String {
        use fmt::Write as _;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut text = format!("https://{host}:{}{ENROL_PATH}#{}.", self.port, self.claim_code.reveal());
        for byte in self.ca_fingerprint {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_link_survives_a_round_trip() {
        for host in ["relay.example", "127.0.0.1", "::1"] {
            let link = ClaimLink {
                host: host.to_owned(),
                port: 8443,
                claim_code: Secret::new("ABCD-2345"),
                ca_fingerprint: [0xa7; 32],
            };
            assert_eq!(link.reveal().parse::<ClaimLink>(), Ok(link.clone()));
            assert!(!format!("{link:?}").contains("ABCD"));
        }
    }

    #[test]
    fn a_broken_claim_link_names_the_culprit() {
        let print = "a".repeat(64);
        let cases = [
            ("http://relay:1/enrol#A.b".to_owned(), ClaimLinkError::Form),
            ("https://relay/enrol#A.b".to_owned(), ClaimLinkError::Form),
            (format!("https://relay:0/enrol#A.{print}"), ClaimLinkError::Port),
            (format!("https://relay:1/enrol#.{print}"), ClaimLinkError::Code),
            (format!("https://relay:1/enrol#A B.{print}"), ClaimLinkError::Code),
            (format!("https://relay:1/enrol#A.{}", &print[1..]), ClaimLinkError::Fingerprint),
            (format!("https://relay:1/enrol#A.+{}", &print[1..]), ClaimLinkError::Fingerprint),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<ClaimLink>(), Err(error), "{text}");
        }
    }
}
