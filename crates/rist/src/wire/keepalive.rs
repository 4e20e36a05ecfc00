//! Keep-alive (TR-06-2 section 6): capabilities and a JSON announcement.
//!
//! Body: MAC 6, capabilities 2, optional JSON. Newer librist puts further binary words before the JSON's place; a tail
//! that is no JSON object is ignored, not refused.

use super::WireError;
use super::reader::Reader;
use serde::{Deserialize, Serialize};

/// The longest JSON that is looked at, in bytes: more cannot travel in one datagram.
pub const JSON_BYTES_MAX: usize = 1400;
/// The most feature names taken from an announcement.
pub const FEATURES_MAX: usize = 32;

/// What a peer can do; byte 1 in the high half, byte 2 in the low half, reserved bits kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(pub u16);

impl Capabilities {
    /// More capability words follow.
    pub const MORE: Self = Self(0x8000);
    /// Routing.
    pub const ROUTING: Self = Self(0x4000);
    /// Bonding.
    pub const BONDING: Self = Self(0x2000);
    /// Adaptive encoding (TR-06-4-1).
    pub const ADAPTIVE_ENCODING: Self = Self(0x1000);
    /// SMPTE 2022-1 FEC.
    pub const FEC_2022_1: Self = Self(0x0800);
    /// SMPTE 2022-7 duplication.
    pub const SMPTE_2022_7: Self = Self(0x0400);
    /// Load sharing over links.
    pub const LOAD_SHARING: Self = Self(0x0200);
    /// Null-packet deletion.
    pub const NULL_DELETION: Self = Self(0x0100);
    /// The sender of this message closes the tunnel.
    pub const DISCONNECT: Self = Self(0x0080);
    /// The sender of this message asks for a new connection.
    pub const RECONNECT: Self = Self(0x0040);
    /// Reduced-overhead encapsulation.
    pub const REDUCED_OVERHEAD: Self = Self(0x0020);
    /// A JSON announcement follows or is understood.
    pub const JSON: Self = Self(0x0010);
    /// The passphrase may change on the fly.
    pub const PASSPHRASE_CHANGE: Self = Self(0x0008);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive<'a> {
    /// An address-like number that tells peers apart; ours is random and locally administered, never a real MAC.
    pub mac: [u8; 6],
    /// What the peer can do.
    pub capabilities: Capabilities,
    /// What follows, unparsed: JSON, binary words of a later standard, or nothing.
    pub tail: &'a [u8],
}

impl<'a> KeepAlive<'a> {
    /// Parses the body.
    ///
    /// # Errors
    /// [`WireError::Truncated`] for less than 8 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new("a keep-alive", bytes);
        Ok(Self { mac: reader.array()?, capabilities: Capabilities(reader.u16()?), tail: reader.rest() })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.mac);
        out.extend_from_slice(&self.capabilities.0.to_be_bytes());
        out.extend_from_slice(self.tail);
    }

    /// The announcement in the tail; `None` when there is no JSON object.
    ///
    /// # Errors
    /// [`WireError::Json`] when the tail begins like an object but is none, or is longer than [`JSON_BYTES_MAX`].
    pub fn announcement(&self) -> Result<Option<Announcement>, WireError> {
        let Some(start) = self.tail.iter().position(|byte| *byte == b'{').filter(|at| at % 4 == 0) else {
            return Ok(None);
        };
        Announcement::parse(&self.tail[start..]).map(Some)
    }
}

/// The JSON of a keep-alive. Of the standard's keys `routing`, `remoteIP` and `excludedIP` are left out, for a tunnel without
/// an interface of its own has no routes; they are ignored like unknown ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Announcement {
    /// Address of the tunnel interface; not used here.
    #[serde(rename = "tunnelIP", skip_serializing_if = "Option::is_none")]
    pub tunnel_ip: Option<String>,
    /// Seconds between changes of nonce. This end counts packets instead and so does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psk_rotation: Option<u32>,
    /// Who made the peer and what it can do beyond the standard.
    pub vendor: Vendor,
}

/// Part of [`Announcement`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Vendor {
    /// Program and version.
    pub implementation: Implementation,
    /// Names of vendor features; at most [`FEATURES_MAX`] are kept.
    pub features: Vec<String>,
    /// The peer's canonical name (as in SDES); our own addition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
}

/// Part of [`Vendor`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Implementation {
    /// Version of the program.
    pub version: String,
    /// Name of the program.
    pub product: String,
    /// Its maker.
    pub vendor_name: String,
}

impl Announcement {
    /// Parses JSON.
    ///
    /// # Errors
    /// [`WireError::Json`] when it is no such object or longer than [`JSON_BYTES_MAX`].
    pub fn parse(json: &[u8]) -> Result<Self, WireError> {
        let failed = WireError::Json { bytes: json.len() };
        if json.len() > JSON_BYTES_MAX {
            return Err(failed);
        }
        let end = json.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut announcement: Self = serde_json::from_slice(&json[..end]).map_err(|_| failed)?;
        announcement.vendor.features.truncate(FEATURES_MAX);
        Ok(announcement)
    }

    /// Appends the JSON.
    pub fn emit(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings and numbers always serialize into a Vec");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn librists_capabilities_read_as_bonding_2022_7_null_deletion_reduced() {
        let bytes = unhex("0ad2901333022520");
        let keepalive = KeepAlive::parse(&bytes).unwrap();
        let expected = Capabilities::BONDING
            .with(Capabilities::SMPTE_2022_7)
            .with(Capabilities::NULL_DELETION)
            .with(Capabilities::REDUCED_OVERHEAD);
        assert_eq!((keepalive.mac, keepalive.capabilities), ([0x0a, 0xd2, 0x90, 0x13, 0x33, 0x02], expected));
        assert!(!keepalive.capabilities.contains(Capabilities::JSON));
        assert_eq!(keepalive.announcement(), Ok(None));
        let mut out = Vec::new();
        keepalive.emit(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn an_announcement_survives_unknown_keys_and_a_binary_word_before_it() {
        let json = br#"{"routing":"x","excludedIP":[1],"pskRotation":60,"vendor":{"features":["a","b"],"implementation":{"vendorName":"V"}}}"#;
        let mut tail = vec![0xe0, 0, 0, 0];
        tail.extend_from_slice(json);
        let keepalive = KeepAlive { mac: [0; 6], capabilities: Capabilities::JSON, tail: &tail };
        let announcement = keepalive.announcement().unwrap().unwrap();
        assert_eq!(announcement.psk_rotation, Some(60));
        assert_eq!(announcement.vendor.features, ["a", "b"]);
        assert_eq!(announcement.vendor.implementation.vendor_name, "V");
        let broken = KeepAlive { tail: b"{\"vendor\":", ..keepalive };
        assert_eq!(broken.announcement(), Err(WireError::Json { bytes: 10 }));
        let long = [b'{'; JSON_BYTES_MAX + 1];
        assert_eq!(Announcement::parse(&long), Err(WireError::Json { bytes: JSON_BYTES_MAX + 1 }));
    }

    fn announcement() -> impl Strategy<Value = Announcement> {
        let implementation = ("\\PC{0,12}", "\\PC{0,12}", "\\PC{0,12}")
            .prop_map(|(version, product, vendor_name)| Implementation { version, product, vendor_name });
        let features = proptest::collection::vec("[ -~]{0,12}", 0..4);
        let vendor = (implementation, features, proptest::option::of("[ -~]{0,20}"))
            .prop_map(|(implementation, features, cname)| Vendor { implementation, features, cname });
        (proptest::option::of("[ -~]{0,40}"), any::<Option<u32>>(), vendor)
            .prop_map(|(tunnel_ip, psk_rotation, vendor)| Announcement { tunnel_ip, psk_rotation, vendor })
    }

    /// What the standard puts into keys that this end has no use for, and what others may.
    fn foreign() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::hash_map("[a-z]{1,6}", inner, 0..4)
                    .prop_map(|keys| serde_json::Value::Object(keys.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(mac: [u8; 6], capabilities: u16, announcement in announcement()) {
            let mut tail = Vec::new();
            announcement.emit(&mut tail);
            let keepalive = KeepAlive { mac, capabilities: Capabilities(capabilities), tail: &tail };
            let mut out = Vec::new();
            keepalive.emit(&mut out);
            prop_assert_eq!(KeepAlive::parse(&out), Ok(keepalive));
            prop_assert_eq!(keepalive.announcement(), Ok(Some(announcement)));
        }

        /// Goal: keys that this end does not know, at any place and of any kind, change nothing of what it reads.
        #[test]
        fn unknown_keys_change_nothing(announcement in announcement(), values in proptest::array::uniform4(foreign())) {
            let mut json = serde_json::to_value(&announcement).unwrap();
            let [routing, remote, excluded, other] = values;
            json["routing"] = routing;
            json["remoteIP"] = remote;
            json["excludedIP"] = excluded;
            json["vendor"]["other"] = other.clone();
            json["vendor"]["implementation"]["other"] = other;
            let bytes = json.to_string().into_bytes();
            prop_assume!(bytes.len() <= JSON_BYTES_MAX);
            prop_assert_eq!(Announcement::parse(&bytes), Ok(announcement));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(keepalive) = KeepAlive::parse(&bytes) {
                let _ = keepalive.announcement();
            }
        }
    }
}
