//! What both elements are told by properties, and the text form of links.

use bond::config::{KeySize, PskConfig, Secret};
use gstreamer::glib;
use link_io::sender::LinkSpec;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use thiserror::Error;
use units::{Bitrate, LinkId};

/// The longest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// The RIST profile spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstRsRistBondProfile")]
pub enum Profile {
    /// RTP and RTCP on two ports, nothing encrypted.
    #[enum_value(name = "Simple Profile: RTP on the even port, RTCP on the next, no encryption", nick = "simple")]
    Simple,
    /// One port, encryption, several flows.
    #[default]
    #[enum_value(name = "Main Profile: one port, encryption", nick = "main")]
    Main,
}

impl From<Profile> for bond::config::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Simple => Self::Simple,
            Profile::Main => Self::Main,
        }
    }
}

/// Key length of the encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[repr(u32)]
#[enum_type(name = "GstRsRistBondAes")]
pub enum Aes {
    /// AES-128.
    #[enum_value(name = "AES with a key of 128 bits", nick = "128")]
    Aes128,
    /// AES-256.
    #[default]
    #[enum_value(name = "AES with a key of 256 bits", nick = "256")]
    Aes256,
}

/// The pass phrase, given as text or as a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encryption {
    pub(crate) passphrase: Option<Secret>,
    pub(crate) file: Option<String>,
    pub(crate) aes: Aes,
}

/// Why the pass phrase cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("cannot read the key file {path}")]
    Read { path: String, source: std::io::Error },
    #[error("the key file {path} is larger than {KEY_FILE_BYTES_MAX} bytes")]
    TooLarge { path: String },
}

impl Encryption {
    /// The engine's setting; the file is read now, its last line end left out.
    pub(crate) fn psk(&self) -> Result<Option<PskConfig>, KeyError> {
        let passphrase = match (&self.passphrase, &self.file) {
            (Some(passphrase), _) => passphrase.clone(),
            (None, Some(path)) => read_key(path)?,
            (None, None) => return Ok(None),
        };
        let key_size = match self.aes {
            Aes::Aes128 => KeySize::Aes128,
            Aes::Aes256 => KeySize::Aes256,
        };
        Ok(Some(PskConfig { passphrase, key_size, rotate_after_packets: None }))
    }
}

fn read_key(path: &str) -> Result<Secret, KeyError> {
    let fail = |source| KeyError::Read { path: path.to_owned(), source };
    if std::fs::metadata(Path::new(path)).map_err(fail)?.len() > KEY_FILE_BYTES_MAX {
        return Err(KeyError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// Why a text names no links.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkTextError {
    /// The address is missing or does not resolve.
    #[error("link {link:?}: {address:?} is no reachable name and port: {detail}")]
    Address {
        /// The link's text.
        link: String,
        /// Its first part.
        address: String,
        /// The resolver's words.
        detail: String,
    },
    /// An option is unknown or its value wrong.
    #[error(
        "link {link:?}: option {option:?} is wrong; known are id, name, bind, dev, priority, weight, rate-max, mtu"
    )]
    Option {
        /// The link's text.
        link: String,
        /// The option.
        option: String,
    },
}

/// Parses links separated by commas: `host:port`, then options after semicolons.
///
/// `id=N` (default: its place, from 0), `name=TEXT`, `bind=ADDRESS`, `dev=INTERFACE`, `priority=N`, `weight=N`,
/// `rate-max=KBIT/S`, `mtu=BYTES`. Names are resolved here, which may take time.
///
/// # Errors
/// [`LinkTextError`] names the link and the part.
pub fn parse_links(text: &str) -> Result<Vec<LinkSpec>, LinkTextError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.enumerate().map(|(place, part)| parse_link(place as u16, part)).collect()
}

fn parse_link(place: u16, text: &str) -> Result<LinkSpec, LinkTextError> {
    let mut parts = text.split(';').map(str::trim);
    let remote = resolve(text, parts.next().unwrap_or_default())?;
    let mut link = LinkSpec::new(LinkId(place), remote);
    let mut named = false;
    for option in parts.filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        named |= key == "name";
        set_option(&mut link, key, value)
            .ok_or_else(|| LinkTextError::Option { link: text.to_owned(), option: option.to_owned() })?;
    }
    if !named {
        link.name = format!("link {}", link.id);
    }
    Ok(link)
}

fn set_option(link: &mut LinkSpec, key: &str, value: &str) -> Option<()> {
    match key {
        "id" => link.id = LinkId(value.parse().ok()?),
        "name" => value.clone_into(&mut link.name),
        "bind" => link.bind = Some(value.parse().ok()?),
        "dev" if !value.is_empty() => link.device = Some(value.to_owned()),
        "priority" => link.options.priority = value.parse().ok()?,
        "weight" => link.options.weight = Some(value.parse().ok()?),
        "rate-max" => link.options.rate_max = Some(Bitrate::from_kbps(value.parse().ok()?)),
        "mtu" => link.options.mtu = value.parse().ok()?,
        _ => return None,
    }
    Some(())
}

fn resolve(link: &str, address: &str) -> Result<SocketAddr, LinkTextError> {
    let fail = |detail: String| LinkTextError::Address { link: link.to_owned(), address: address.to_owned(), detail };
    let mut found = address.to_socket_addrs().map_err(|error| fail(error.to_string()))?;
    found.next().ok_or_else(|| fail("the name has no address".to_owned()))
}

/// Addresses separated by commas.
///
/// # Errors
/// [`LinkTextError::Address`] names the one that does not resolve.
pub(crate) fn resolve_all(text: &str) -> Result<Vec<SocketAddr>, LinkTextError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| resolve(part, part)).collect()
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_options() {
        let text = "127.0.0.1:5000;name=Modem 1;bind=127.0.0.2;dev=wwan0, [::1]:5002;id=7;rate-max=2000;weight=5";
        let links = parse_links(text).unwrap();
        assert_eq!(links.len(), 2);
        assert_eq!((links[0].id, links[0].name.as_str()), (LinkId(0), "Modem 1"));
        assert_eq!(links[0].bind, Some("127.0.0.2".parse().unwrap()));
        assert_eq!(links[0].device.as_deref(), Some("wwan0"));
        assert_eq!((links[1].id, links[1].name.as_str()), (LinkId(7), "link 7"));
        assert_eq!(links[1].remote, "[::1]:5002".parse().unwrap());
        assert_eq!(links[1].options.rate_max, Some(Bitrate::from_kbps(2000)));
        assert_eq!(parse_links("").unwrap(), []);
    }

    #[test]
    fn a_wrong_link_is_named() {
        assert!(matches!(parse_links("127.0.0.1"), Err(LinkTextError::Address { .. })));
        let error = parse_links("127.0.0.1:5000;colour=red").unwrap_err();
        assert!(error.to_string().contains("colour=red"), "{error}");
        assert!(matches!(parse_links("127.0.0.1:5000;bind=nowhere"), Err(LinkTextError::Option { .. })));
    }

    #[test]
    fn a_key_file_gives_its_text_without_line_end_and_errors_name_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "open sesame\n").unwrap();
        let mut encryption = Encryption { file: Some(path.to_str().unwrap().to_owned()), ..Encryption::default() };
        assert_eq!(encryption.psk().unwrap().unwrap().passphrase.reveal(), "open sesame");
        encryption.file = Some("/no/such/key".to_owned());
        assert!(encryption.psk().unwrap_err().to_string().contains("/no/such/key"));
        assert!(Encryption::default().psk().unwrap().is_none());
    }
}
