//! One tunnel of any kind, to which strangers send what they like.

use crate::script::Script;
use rist::srp::{Entropy, Login, Password, SrpConfig};
use rist::tunnel::{Encapsulation, Inner, PskConfig, Role, Side, Tunnel, TunnelConfig};
use std::time::Duration;
use units::Timestamp;

/// A tunnel as the bits of `kind` say: 1 encrypted, 2 with a login, 4 listening, 8 taking revision 0 too,
/// 16 sending whole datagrams.
pub fn make(kind: u8) -> Tunnel {
    let (role, side) = if kind & 4 == 0 { (Role::Client, Side::Sender) } else { (Role::Server, Side::Receiver) };
    let mut config = TunnelConfig::new(role, side);
    if kind & 16 == 16 {
        config.encapsulation = Encapsulation::full_datagram(role);
    }
    if kind & 1 == 1 {
        config.psk = Some(PskConfig {
            accept_revision_0: kind & 8 == 8,
            rotate_after_packets: Some(32),
            ..PskConfig::new("ristpsk128")
        });
    }
    if kind & 2 == 2 {
        let login = Login { username: "alice".to_owned(), password: Password::new("wonderland") };
        config.srp = Some(SrpConfig::new(vec![login], Entropy::new([kind; 32])));
    }
    Tunnel::new(config, u64::from(kind))
}

/// Kind, then datagrams: each is taken apart, and what the tunnel answers stays small.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let _ = steps(&mut script);
}

fn steps(script: &mut Script<'_>) -> Option<()> {
    let mut tunnel = make(script.byte()?);
    let mut now = Timestamp::ZERO;
    loop {
        now += Duration::from_millis(u64::from(script.byte()?));
        let mut datagram = script.bytes()?.to_vec();
        let length = datagram.len();
        if let Ok(received) = tunnel.parse(now, &mut datagram) {
            match received.inner {
                Inner::Media(rtp) => assert!(rtp.len() < length),
                Inner::Rtcp(compound) => assert!(compound.len() < length),
                _ => {}
            }
        }
        let mut out = Vec::new();
        for _ in 0..8 {
            if !tunnel.poll_control(now, &mut out) {
                break;
            }
        }
        assert!(out.len() <= 1024, "{} bytes for {length}", out.len());
    }
}
