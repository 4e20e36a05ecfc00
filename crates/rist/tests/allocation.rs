//! Goal: a packet costs no allocation. Method: an allocator that counts.
#![allow(clippy::unwrap_used)]

use rist::tunnel::{Inner, PskConfig, Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtcp::{RtcpPacket, packets};
use rist::wire::rtp::{RtpHeader, RtpPacket};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use units::Timestamp;

struct Counting;

thread_local! {
    /// Of this thread: the others are the test harness's own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn emitting_and_parsing_packets_allocates_nothing() {
    const NOW: Timestamp = Timestamp::from_millis(1);
    let config = |role, side| TunnelConfig { psk: Some(PskConfig::new("x")), ..TunnelConfig::new(role, side) };
    let mut sender = Tunnel::new(config(Role::Client, Side::Sender), 1);
    let mut receiver = Tunnel::new(config(Role::Server, Side::Receiver), 2);
    let compound = hex::decode("80c9000103b7047e81ca000303b7047e010573656e644100").unwrap();
    let (mut rtp, mut out) = (Vec::with_capacity(2048), Vec::with_capacity(2048));
    let mut before = 0;
    for sequence in 0..1000u16 {
        if sequence == 10 {
            before = ALLOCATIONS.get();
        }
        rtp.clear();
        RtpHeader { payload_type: 33, sequence, ..RtpHeader::default() }.emit(&[0x47; 1316], &mut rtp);
        out.clear();
        sender.emit_media(NOW, &rtp, &mut out);
        let received = receiver.parse(NOW, &mut out).unwrap();
        let Inner::Media(media) = received.inner else { panic!("{received:?}") };
        assert_eq!(RtpPacket::parse(media).unwrap().header.sequence, sequence);
        out.clear();
        sender.emit_rtcp(NOW, &compound, &mut out);
        let received = receiver.parse(NOW, &mut out).unwrap();
        let Inner::Rtcp(compound) = received.inner else { panic!("{received:?}") };
        assert_eq!(packets(compound).filter(|packet| matches!(packet, Ok(RtcpPacket::Sdes(_)))).count(), 1);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
