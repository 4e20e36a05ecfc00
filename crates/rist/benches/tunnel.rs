//! Packets and bytes a second through a tunnel, one direction, on one core: `cargo bench -p rist`.
#![allow(clippy::unwrap_used)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rist::psk::KeySize;
use rist::tunnel::{PskConfig, Role, Side, Tunnel, TunnelConfig};
use rist::wire::rtp::RtpHeader;
use units::Timestamp;

/// Packets per measured call: long enough that the call itself does not count.
const PACKETS: usize = 1000;
const PAYLOAD_BYTES: usize = 7 * 188;
const NOW: Timestamp = Timestamp::from_millis(1);

#[derive(Debug, Clone, Copy)]
enum Cipher {
    Clear,
    Aes128,
    Aes256,
}

const CIPHERS: [Cipher; 3] = [Cipher::Clear, Cipher::Aes128, Cipher::Aes256];

fn tunnel(side: Side, cipher: Cipher) -> Tunnel {
    let role = if side == Side::Sender { Role::Client } else { Role::Server };
    let key_size = match cipher {
        Cipher::Clear => None,
        Cipher::Aes128 => Some(KeySize::Aes128),
        Cipher::Aes256 => Some(KeySize::Aes256),
    };
    let psk = key_size.map(|key_size| PskConfig { key_size, ..PskConfig::new("benchmark") });
    Tunnel::new(TunnelConfig { psk, ..TunnelConfig::new(role, side) }, side as u64)
}

fn rtp() -> Vec<u8> {
    let mut out = Vec::new();
    let header = RtpHeader { payload_type: 33, sequence: 1, ssrc: 2, ..RtpHeader::default() };
    header.emit(&[0x47; PAYLOAD_BYTES], &mut out);
    out
}

#[divan::bench(args = CIPHERS)]
fn emit(bencher: Bencher<'_, '_>, cipher: Cipher) {
    let (rtp, mut tunnel, mut out) = (rtp(), tunnel(Side::Sender, cipher), Vec::with_capacity(2048));
    bencher.counter(ItemsCount::new(PACKETS)).counter(BytesCount::new(PACKETS * PAYLOAD_BYTES)).bench_local(|| {
        for _ in 0..PACKETS {
            out.clear();
            tunnel.emit_media(NOW, black_box(&rtp), &mut out);
            black_box(&out);
        }
    });
}

#[divan::bench(args = CIPHERS)]
fn parse(bencher: Bencher<'_, '_>, cipher: Cipher) {
    let (rtp, mut sender, mut receiver) = (rtp(), tunnel(Side::Sender, cipher), tunnel(Side::Receiver, cipher));
    bencher
        .counter(ItemsCount::new(PACKETS))
        .counter(BytesCount::new(PACKETS * PAYLOAD_BYTES))
        .with_inputs(|| {
            let mut datagrams: Vec<_> = (0..PACKETS).map(|_| Vec::with_capacity(2048)).collect();
            for datagram in &mut datagrams {
                sender.emit_media(NOW, &rtp, datagram);
            }
            datagrams
        })
        .bench_local_refs(|datagrams| {
            for datagram in datagrams {
                black_box(receiver.parse(NOW, datagram)).unwrap();
            }
        });
}

/// What an unknown nonce costs.
#[divan::bench(args = [Cipher::Aes128, Cipher::Aes256])]
fn derive_key(bencher: Bencher<'_, '_>, cipher: Cipher) {
    bencher.bench_local(|| tunnel(Side::Sender, cipher));
}

fn main() {
    divan::main();
}
