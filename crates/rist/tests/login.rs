//! The login (EAP-SRP) through whole tunnels: what it protects, and what forged login frames must not do.
#![allow(clippy::unwrap_used)]

use rist::srp::{Entropy, Login, Password, SrpConfig};
use rist::tunnel::{Inner, PskConfig, Role, Side, Tunnel, TunnelConfig, TunnelError};
use rist::wire::rtcp::{ReceiverReport, Sdes};
use rist::wire::rtp::RtpHeader;
use std::time::Duration;
use units::Timestamp;

const START: Timestamp = Timestamp::from_millis(1000);

fn config(role: Role, passphrase: Option<&str>) -> TunnelConfig {
    let side = if role == Role::Client { Side::Sender } else { Side::Receiver };
    let login = Login { username: "alice".to_owned(), password: Password::new("wonderland") };
    let srp = SrpConfig::new(vec![login], Entropy::new([role as u8; 32]));
    TunnelConfig { psk: passphrase.map(PskConfig::new), srp: Some(srp), ..TunnelConfig::new(role, side) }
}

/// A client that sends media and a server, logged in.
fn logged_in(passphrase: Option<&str>, edit: impl Fn(&mut TunnelConfig)) -> (Tunnel, Tunnel) {
    let (mut client, mut server) = (config(Role::Client, passphrase), config(Role::Server, passphrase));
    edit(&mut client);
    edit(&mut server);
    let (mut client, mut server) = (Tunnel::new(client, 1), Tunnel::new(server, 2));
    log_in(START, &mut client, &mut server);
    (client, server)
}

fn log_in(now: Timestamp, client: &mut Tunnel, server: &mut Tunnel) {
    for _ in 0..40 {
        let mut out = Vec::new();
        if client.poll_control(now, &mut out) {
            let _ = server.parse(now, &mut out);
        }
        out.clear();
        if server.poll_control(now, &mut out) {
            let _ = client.parse(now, &mut out);
        }
    }
    assert!(client.is_ready() && server.is_ready());
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    RtpHeader { payload_type: 33, sequence, ssrc: 2, ..RtpHeader::default() }
        .emit(b"what nobody else may read", &mut out);
    out
}

fn media(tunnel: &mut Tunnel, sequence: u16) -> Vec<u8> {
    let mut out = Vec::new();
    tunnel.emit_media(START, &rtp(sequence), &mut out);
    out
}

fn compound() -> Vec<u8> {
    let mut compound = Vec::new();
    ReceiverReport::emit(7, &[], None, &mut compound);
    Sdes { ssrc: 7, cname: b"what nobody else may read" }.emit(&mut compound);
    compound
}

fn rtcp(tunnel: &mut Tunnel) -> Vec<u8> {
    let mut out = Vec::new();
    tunnel.emit_rtcp(START, &compound(), &mut out);
    out
}

fn reveals(datagram: &[u8]) -> bool {
    datagram.windows(8).any(|window| b"what nobody else may read".windows(8).any(|secret| secret == window))
}

/// Goal: without passphrase the key of the session encrypts both ways, and nothing in the clear is taken any more.
#[test]
fn the_session_key_encrypts_and_the_clear_is_refused() {
    let (mut client, mut server) = logged_in(None, |_| ());
    let (mut up, mut down) = (media(&mut client, 1), rtcp(&mut server));
    for datagram in [&up, &down] {
        assert_eq!((datagram[0] & 0x20, datagram[1] & 0x40), (0x20, 0x40), "key and AES-256");
        assert!(!reveals(datagram));
    }
    assert_eq!(server.parse(START, &mut up).unwrap().inner, Inner::Media(&rtp(1)));
    assert_eq!(client.parse(START, &mut down).unwrap().inner, Inner::Rtcp(&compound()));
    let mut clear = Tunnel::new(TunnelConfig::new(Role::Client, Side::Sender), 3);
    assert!(reveals(&media(&mut clear, 2)));
    assert_eq!(server.parse(START, &mut media(&mut clear, 2)).err(), Some(TunnelError::Clear));
    let mut clear = Tunnel::new(TunnelConfig::new(Role::Server, Side::Receiver), 4);
    assert_eq!(client.parse(START, &mut rtcp(&mut clear)).err(), Some(TunnelError::Clear));
}

/// Goal: each end says whether it encrypts with the session key, and the other believes it. Method: one of them does not.
#[test]
fn each_end_decides_for_its_own_direction() {
    for clear in [Role::Client, Role::Server] {
        let (mut client, mut server) = logged_in(None, |config| {
            if let Some(srp) = config.srp.as_mut().filter(|_| config.role == clear) {
                srp.use_session_key = false;
            }
        });
        let (mut up, mut down) = (media(&mut client, 1), rtcp(&mut server));
        assert_eq!((reveals(&up), reveals(&down)), (clear == Role::Client, clear == Role::Server));
        assert_eq!(server.parse(START, &mut up).unwrap().inner, Inner::Media(&rtp(1)));
        assert_eq!(client.parse(START, &mut down).unwrap().inner, Inner::Rtcp(&compound()));
    }
}

/// Goal: who forges requests for the passphrase learns nothing of it. Method: with all identifiers, all he gets is one
/// cipher text; two would be encrypted with overlapping key streams.
#[test]
fn forged_requests_for_the_passphrase_get_one_cipher_text() {
    let (mut client, mut server) = logged_in(Some("a long passphrase of more than 32 bytes"), |_| ());
    for tunnel in [&mut client, &mut server] {
        let mut answers = Vec::new();
        for identifier in (0..=255u8).chain(0..=255) {
            let mut request = hex::decode(format!("0008888e0300000601{identifier:02x}00061310")).unwrap();
            let taken = tunnel.parse(START, &mut request).is_ok();
            let mut out = Vec::new();
            assert_eq!(tunnel.poll_control(START, &mut out), taken);
            if taken {
                answers.push(out);
            }
        }
        assert_eq!(answers.len(), 2, "the first and its repetition");
        assert_eq!(answers[0], answers[1]);
    }
}

/// Goal: whoever forges EAPOL Starts costs no media. Method: ten a second for ten seconds, 50 ms each way, each lets the ends
/// log in anew; two of three proofs of the server are lost, so that log-ins stay half done.
#[test]
fn forged_starts_cost_no_media() {
    let (mut client, mut server) = logged_in(None, |_| ());
    let (mut up, mut down) = (Vec::<(u64, Vec<u8>)>::new(), Vec::<(u64, Vec<u8>)>::new());
    let (mut delivered, mut sessions, mut proofs) = (0, 0, 0u32);
    for ms in 0..10_050u64 {
        let now = START + Duration::from_millis(ms);
        let attacked = ms < 9_000;
        if attacked && ms % 100 == 0 {
            let _ = server.parse(now, &mut hex::decode("0008888e03010000").unwrap());
        }
        if ms < 10_000 {
            up.push((ms + 50, media(&mut client, ms as u16)));
        }
        let mut out = Vec::new();
        if client.poll_control(now, &mut out) {
            up.push((ms + 50, std::mem::take(&mut out)));
        }
        if server.poll_control(now, &mut out) {
            // Its proof: message 3.
            proofs += u32::from(out.get(12..14) == Some(&[0x13, 0x03]));
            if out.get(12..14) != Some(&[0x13, 0x03]) || proofs % 3 == 0 {
                down.push((ms + 50, out));
            }
        }
        for (_, mut datagram) in up.extract_if(.., |(due, _)| *due <= ms) {
            // A proof: message 2 of the client.
            sessions += u32::from(datagram.get(12..14) == Some(&[0x13, 0x02]));
            if let Ok(Inner::Media(got)) = server.parse(now, &mut datagram).map(|received| received.inner) {
                assert_eq!(got, rtp(delivered));
                delivered += 1;
            }
        }
        for (_, mut datagram) in down.extract_if(.., |(due, _)| *due <= ms) {
            let _ = client.parse(now, &mut datagram);
        }
    }
    assert!(sessions >= 10, "{sessions} new sessions");
    assert_eq!(delivered, 10_000);
}
