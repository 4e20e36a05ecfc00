//! A login between two ends over a network that loses, doubles and damages; afterwards, left alone, it succeeds.

use crate::script::Script;
use crate::tunnel::make;
use rist::tunnel::Tunnel;
use std::time::Duration;
use units::Timestamp;

/// Time in which an undisturbed login succeeds, after whatever came before: retries become slow after failures.
const PEACE: Duration = Duration::from_mins(10);

/// First byte: odd, with a passphrase too; then steps, each for one frame of each end.
pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let Some(kind) = script.byte() else { return };
    let psk = kind & 1;
    let (mut client, mut server) = (make(2 | psk), make(6 | psk));
    let mut now = Timestamp::ZERO;
    while disturbed(&mut script, &mut now, &mut client, &mut server).is_some() {}
    let end = now + PEACE;
    while now < end && !(client.is_ready() && server.is_ready()) {
        now += Duration::from_millis(100);
        carry(now, &mut client, &mut server, |_| 1);
        carry(now, &mut server, &mut client, |_| 1);
    }
    assert!(client.is_ready() && server.is_ready(), "{:?} {:?}", client.login_state(), server.login_state());
}

fn disturbed(script: &mut Script<'_>, now: &mut Timestamp, client: &mut Tunnel, server: &mut Tunnel) -> Option<()> {
    let step = script.byte()?;
    *now += Duration::from_millis(u64::from(script.byte()?) * 8);
    let (from, to) = if step & 1 == 0 { (client, server) } else { (server, client) };
    match step >> 1 & 7 {
        0 => carry(*now, from, to, |_| 0),
        1 => carry(*now, from, to, |_| 2),
        2 => {
            let (mut at, mut change) = (script.byte()?, script.byte()?);
            carry(*now, from, to, |frame| {
                if let Some(byte) = frame.get_mut(usize::from(at)) {
                    *byte ^= change;
                }
                (at, change) = (at.wrapping_add(1), change.rotate_left(1));
                1
            });
        }
        3 => {
            let mut forged = script.bytes()?.to_vec();
            let _ = to.parse(*now, &mut forged);
        }
        _ => carry(*now, from, to, |_| 1),
    }
    Some(())
}

/// Takes what `from` wants sent to `to`, as many times as `network` says.
fn carry(now: Timestamp, from: &mut Tunnel, to: &mut Tunnel, mut network: impl FnMut(&mut Vec<u8>) -> u8) {
    for _ in 0..8 {
        let mut out = Vec::new();
        if !from.poll_control(now, &mut out) {
            return;
        }
        for _ in 0..network(&mut out) {
            let _ = to.parse(now, &mut out.clone());
        }
    }
}
