//! EAPOL framing (IEEE 802.1X) of the EAP-SRP handshake (TR-06-2 section 7.4 and annex D).

use super::WireError;
use super::reader::Reader;

const WHAT: &str = "an EAPOL frame";
/// EAP type of SRP.
pub const TYPE_SRP: u8 = 0x13;
/// EAP type of the identity exchange.
pub const TYPE_IDENTITY: u8 = 0x01;

/// The EAPOL packet types RIST uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EapolFrame<'a> {
    /// Type 0.
    Eap(Eap<'a>),
    /// Type 1: the client asks to begin.
    Start,
    /// Type 2.
    Logoff,
}

/// One EAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eap<'a> {
    /// Request, response, success or failure.
    pub code: EapCode,
    /// Pairs a response with its request.
    pub identifier: u8,
    /// Type byte and what follows; empty in success and failure.
    pub body: &'a [u8],
}

/// Code of an EAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EapCode {
    /// 1.
    Request,
    /// 2.
    Response,
    /// 3.
    Success,
    /// 4.
    Failure,
}

impl<'a> EapolFrame<'a> {
    /// Parses a frame; returns the EAPOL version byte with it. A Start or Logoff whose length field promises more than
    /// is there is accepted (librist writes 4 with nothing behind it).
    ///
    /// # Errors
    /// [`WireError`] for a cut frame or an unknown type.
    pub fn parse(bytes: &'a [u8]) -> Result<(u8, Self), WireError> {
        let mut reader = Reader::new(WHAT, bytes);
        let [version, kind] = reader.array()?;
        let length = usize::from(reader.u16()?);
        let frame = match kind {
            0 => Self::Eap(Eap::parse(reader.take(length)?)?),
            1 => Self::Start,
            2 => Self::Logoff,
            other => return Err(WireError::Field { what: WHAT, field: "type", value: u32::from(other) }),
        };
        Ok((version, frame))
    }

    /// Appends the frame with EAPOL version `version`.
    pub fn emit(&self, version: u8, out: &mut Vec<u8>) {
        match self {
            Self::Eap(eap) => {
                let length = (4 + eap.body.len()) as u16;
                out.extend_from_slice(&[version, 0]);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&[eap.code as u8 + 1, eap.identifier]);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(eap.body);
            }
            Self::Start => out.extend_from_slice(&[version, 1, 0, 0]),
            Self::Logoff => out.extend_from_slice(&[version, 2, 0, 0]),
        }
    }
}

impl<'a> Eap<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        const WHAT: &str = "an EAP message";
        const HEADER_BYTES: usize = 4;
        let mut reader = Reader::new(WHAT, bytes);
        let code = match reader.u8()? {
            1 => EapCode::Request,
            2 => EapCode::Response,
            3 => EapCode::Success,
            4 => EapCode::Failure,
            other => return Err(WireError::Field { what: WHAT, field: "code", value: u32::from(other) }),
        };
        let identifier = reader.u8()?;
        let length = usize::from(reader.u16()?);
        let Some(body_bytes) = length.checked_sub(HEADER_BYTES) else {
            return Err(WireError::Field { what: WHAT, field: "length", value: length as u32 });
        };
        Ok(Self { code, identifier, body: reader.take(body_bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::unhex;
    use proptest::prelude::*;

    #[test]
    fn the_captured_frames_parse_and_emit() {
        for (hex, version, frame) in [
            ("02010000", 2, EapolFrame::Start),
            (
                "0200000501fc000501",
                2,
                EapolFrame::Eap(Eap { code: EapCode::Request, identifier: 0xfc, body: &[TYPE_IDENTITY] }),
            ),
            (
                "0200000a02fc000a01616c696365",
                2,
                EapolFrame::Eap(Eap { code: EapCode::Response, identifier: 0xfc, body: b"\x01alice" }),
            ),
            (
                "0200000602ff00061303",
                2,
                EapolFrame::Eap(Eap { code: EapCode::Response, identifier: 0xff, body: &[TYPE_SRP, 3] }),
            ),
            (
                "0300000601c100061310",
                3,
                EapolFrame::Eap(Eap { code: EapCode::Request, identifier: 0xc1, body: &[0x13, 0x10] }),
            ),
            (
                "0300000702c10007131080",
                3,
                EapolFrame::Eap(Eap { code: EapCode::Response, identifier: 0xc1, body: &[0x13, 0x10, 0x80] }),
            ),
        ] {
            let bytes = unhex(hex);
            assert_eq!(EapolFrame::parse(&bytes), Ok((version, frame)), "{hex}");
            let mut out = Vec::new();
            frame.emit(version, &mut out);
            assert_eq!(out, bytes, "{hex}");
        }
        assert_eq!(EapolFrame::parse(&unhex("03010004")), Ok((3, EapolFrame::Start)), "librist's odd length");
        assert_eq!(
            EapolFrame::parse(&unhex("03000006032900060000")),
            Ok((3, EapolFrame::Eap(Eap { code: EapCode::Success, identifier: 0x29, body: &[0, 0] })))
        );
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert!(matches!(EapolFrame::parse(&unhex("0300000901fc000501")), Err(WireError::Truncated { .. })));
        assert!(matches!(
            EapolFrame::parse(&unhex("0300000501fc000301")),
            Err(WireError::Field { field: "length", value: 3, .. })
        ));
        assert!(matches!(EapolFrame::parse(&unhex("0300000501fc000601")), Err(WireError::Truncated { .. })));
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses_back(
            version: u8, code in 0..4usize, identifier: u8, body in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            let code = [EapCode::Request, EapCode::Response, EapCode::Success, EapCode::Failure][code];
            let frame = EapolFrame::Eap(Eap { code, identifier, body: &body });
            let mut out = Vec::new();
            frame.emit(version, &mut out);
            prop_assert_eq!(EapolFrame::parse(&out), Ok((version, frame)));
        }

        #[test]
        fn start_and_logoff_parse_back_whatever_follows(
            version: u8, logoff: bool, padding in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            let frame = if logoff { EapolFrame::Logoff } else { EapolFrame::Start };
            let mut out = Vec::new();
            frame.emit(version, &mut out);
            prop_assert_eq!(&out, &[version, 1 + u8::from(logoff), 0, 0]);
            out.extend(padding);
            prop_assert_eq!(EapolFrame::parse(&out), Ok((version, frame)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = EapolFrame::parse(&bytes);
        }
    }
}
