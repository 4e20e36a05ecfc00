//! Two tunnels with the same passphrase, a network that loses, doubles, reorders and damages, and an attacker who has
//! recordings.
//!
//! Nothing here asserts that damaged datagrams are refused: AES-CTR proves nothing, so some garbage passes as a message.
//! What must hold for all inputs: what was sent arrives as it was or not at all, and once.

use crate::script::Script;
use crate::tunnel::make;
use rist::tunnel::{Inner, Tunnel};
use rist::wire::rtcp::{ReceiverReport, Sdes};
use rist::wire::rtp::RtpHeader;
use std::collections::VecDeque;
use std::time::Duration;
use units::Timestamp;

/// Datagrams on the wire and in the attacker's hands, each.
const KEPT_MAX: usize = 64;

struct World {
    now: Timestamp,
    sender: Tunnel,
    receiver: Tunnel,
    /// With the content each was made of: RTP or a compound.
    wire: VecDeque<(bool, Vec<u8>, Vec<u8>)>,
    /// And whether they were taken: one that was refused (too many new nonces at once) may be taken later.
    delivered: VecDeque<(bool, Vec<u8>, bool)>,
    number: u16,
}

impl World {
    fn tunnel(&mut self, receiver: bool) -> &mut Tunnel {
        if receiver { &mut self.receiver } else { &mut self.sender }
    }

    fn send(&mut self, to_receiver: bool, length: u8) {
        self.number += 1;
        let (now, number) = (self.now, self.number);
        let (mut content, mut datagram) = (Vec::new(), Vec::new());
        if to_receiver {
            let header = RtpHeader { payload_type: 33, sequence: number, ..RtpHeader::default() };
            header.emit(&vec![length; usize::from(length)], &mut content);
            self.sender.emit_media(now, &content, &mut datagram);
        } else {
            ReceiverReport::emit(u32::from(number), &[], None, &mut content);
            Sdes { ssrc: 7, cname: b"me" }.emit(&mut content);
            self.receiver.emit_rtcp(now, &content, &mut datagram);
        }
        self.wire.push_back((to_receiver, datagram, content));
        if self.wire.len() > KEPT_MAX {
            self.wire.pop_front();
        }
    }

    fn deliver(&mut self, index: u8, twice: bool) {
        if self.wire.is_empty() {
            return;
        }
        let index = usize::from(index) % self.wire.len();
        let Some((to_receiver, datagram, content)) = self.wire.remove(index) else { return };
        let now = self.now;
        let tunnel = self.tunnel(to_receiver);
        let mut bytes = datagram.clone();
        let mut taken = false;
        match tunnel.parse(now, &mut bytes).map(|received| received.inner) {
            Ok(Inner::Media(got) | Inner::Rtcp(got)) => {
                assert_eq!(got, content);
                taken = true;
            }
            Ok(other) => panic!("{other:?} instead of {content:?}"),
            Err(_) => {}
        }
        if twice {
            let again = tunnel.parse(now, &mut datagram.clone()).is_ok();
            assert!(!(taken && again), "delivered twice");
            taken |= again;
        }
        self.delivered.push_back((to_receiver, datagram, taken));
        if self.delivered.len() > KEPT_MAX {
            self.delivered.pop_front();
        }
    }

    fn attack(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (which, how) = (script.byte()?, script.byte()?);
        let index = usize::from(which) % KEPT_MAX;
        let Some((to_receiver, recorded, taken)) = self.delivered.get(index).cloned() else {
            return Some(());
        };
        let now = self.now;
        let mut bytes = recorded.clone();
        match how % 3 {
            0 => {
                let again = self.tunnel(to_receiver).parse(now, &mut bytes).is_ok();
                assert!(!(taken && again), "a replay was taken");
                self.delivered[index].2 |= again;
            }
            1 => assert!(self.tunnel(!to_receiver).parse(now, &mut bytes).is_err(), "a reflection was taken"),
            _ => {
                script.damage(&mut bytes)?;
                if bytes != recorded {
                    let _ = self.tunnel(to_receiver).parse(now, &mut bytes);
                }
            }
        }
        Some(())
    }
}

/// Kind (bit 4: the sender's media and RTCP travel as whole datagrams), then steps.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let _ = steps(&mut script);
}

fn steps(script: &mut Script<'_>) -> Option<()> {
    let mut world = World {
        now: Timestamp::ZERO,
        sender: make(1 | script.byte()? & 16),
        receiver: make(5),
        wire: VecDeque::new(),
        delivered: VecDeque::new(),
        number: 0,
    };
    let mut out = Vec::new();
    loop {
        match script.byte()? % 8 {
            0 | 1 => world.send(true, script.byte()?),
            2 => world.send(false, 0),
            3 | 4 => world.deliver(script.byte()?, false),
            5 => world.deliver(script.byte()?, true),
            6 => world.attack(script)?,
            _ => {
                world.now += Duration::from_millis(10 * u64::from(script.byte()?));
                for receiver in [false, true] {
                    let now = world.now;
                    out.clear();
                    for _ in 0..8 {
                        if !world.tunnel(receiver).poll_control(now, &mut out) {
                            break;
                        }
                    }
                    assert!(out.len() <= 1024);
                }
            }
        }
    }
}
