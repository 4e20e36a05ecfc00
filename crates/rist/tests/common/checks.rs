//! What must hold for any bytes: every parser takes them without panic or endless work, and what it takes it emits again.

use rist::null_deletion::{TS_PACKET_BYTES_LONG, TS_PACKETS_MAX, restore};
use rist::wire::buffer_negotiation::BufferNegotiation;
use rist::wire::datagram::{self, Datagram};
use rist::wire::eapol::EapolFrame;
use rist::wire::gre::GreHeader;
use rist::wire::keepalive::{Announcement, FEATURES_MAX, JSON_BYTES_MAX, KeepAlive};
use rist::wire::lqm::Lqm;
use rist::wire::reduced::ReducedHeader;
use rist::wire::rtcp::{BitmaskEntry, COMPOUND_PACKETS_MAX, EchoKind, RtcpPacket, packets};
use rist::wire::rtp::RtpPacket;
use rist::wire::vsf::VsfSubtype;

/// RTP and the null packets left out.
pub fn rtp(bytes: &[u8]) {
    let Ok(packet) = RtpPacket::parse(bytes) else { return };
    let mut again = Vec::new();
    packet.header.emit(packet.payload, &mut again);
    assert_eq!(RtpPacket::parse(&again).unwrap(), packet);
    if let Some(extension) = packet.header.extension {
        let mut restored = Vec::new();
        let _ = restore(&extension, packet.payload, &mut restored);
        assert!(restored.len() <= (TS_PACKETS_MAX * TS_PACKET_BYTES_LONG).max(packet.payload.len()));
    }
}

/// Compounds: nothing amplifies, nothing is endless.
pub fn rtcp(bytes: &[u8]) {
    let mut seen = 0;
    for packet in packets(bytes) {
        seen += 1;
        match packet {
            Ok(RtcpPacket::NackRange(nack)) => {
                assert!(nack.entries.len() * 4 <= bytes.len());
                for entry in nack.entries.iter().take(4) {
                    assert_eq!(entry.sequences().count(), usize::from(entry.additional) + 1);
                }
            }
            Ok(RtcpPacket::NackBitmask(nack)) => {
                let asked = nack.entries.iter().flat_map(BitmaskEntry::sequences).count();
                assert!(asked <= nack.entries.len() * 17);
            }
            Ok(RtcpPacket::EchoRequest(echo)) => {
                let mut answer = Vec::new();
                echo.response(0).emit(EchoKind::Response, &mut answer);
                assert!(answer.len() <= bytes.len(), "an answer never amplifies");
            }
            other => drop(format!("{other:?}")),
        }
    }
    assert!(seen <= COMPOUND_PACKETS_MAX + 1);
}

/// GRE and what it carries.
pub fn gre(bytes: &[u8]) {
    if let Ok((header, rest)) = GreHeader::parse(bytes) {
        let mut again = Vec::new();
        header.emit(&mut again);
        again.extend_from_slice(rest);
        assert_eq!(GreHeader::parse(&again), Ok((header, rest)));
        framed(rest);
    }
    framed(bytes);
}

/// What stands behind a GRE header.
fn framed(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Ok((subtype, rest)) = VsfSubtype::parse(bytes) {
        subtype.emit(&mut again);
        again.extend_from_slice(rest);
        assert_eq!(again, bytes);
    }
    again.clear();
    if let Ok((ports, rest)) = ReducedHeader::parse(bytes) {
        ports.emit(&mut again);
        again.extend_from_slice(rest);
        assert_eq!(again, bytes);
    }
    if let Ok(Some(whole)) = Datagram::parse(bytes) {
        again.clear();
        datagram::emit(whole.addresses, whole.ports, &mut again, |out| out.extend_from_slice(whole.payload));
        assert_eq!(Datagram::parse(&again), Ok(Some(whole)));
    }
    if let Ok(negotiation) = BufferNegotiation::parse(bytes) {
        again.clear();
        negotiation.emit(&mut again);
        assert_eq!(BufferNegotiation::parse(&again), Ok(negotiation));
    }
}

/// Keep-alives and their JSON, which never grows.
pub fn keepalive(bytes: &[u8]) {
    if let Ok(keepalive) = KeepAlive::parse(bytes) {
        let mut again = Vec::new();
        keepalive.emit(&mut again);
        assert_eq!(again, bytes);
        if let Ok(Some(announcement)) = keepalive.announcement() {
            assert!(announcement.vendor.features.len() <= FEATURES_MAX);
            let mut json = Vec::new();
            announcement.emit(&mut json);
            if json.len() <= JSON_BYTES_MAX {
                assert_eq!(Announcement::parse(&json), Ok(announcement));
            }
        }
    }
    let _ = Announcement::parse(bytes);
}

/// Frames of the login.
pub fn eapol(bytes: &[u8]) {
    if let Ok((version, frame)) = EapolFrame::parse(bytes) {
        let mut again = Vec::new();
        frame.emit(version, &mut again);
        assert_eq!(EapolFrame::parse(&again), Ok((version, frame)));
    }
}

/// Link quality messages.
pub fn lqm(bytes: &[u8]) {
    if let Ok(lqm) = Lqm::parse(bytes) {
        let mut again = Vec::new();
        lqm.emit(&mut again);
        assert_eq!(Lqm::parse(&again), Ok(lqm));
    }
}
