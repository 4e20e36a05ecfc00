//! Client and server against each other.
#![allow(clippy::unnecessary_wraps)] // editors of frames share one signature, and most drop none

use super::*;
use crate::test_support::unhex;
use crate::wire::eapol::{Eap, EapolFrame};
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(10);

fn login(username: &str, password: &str) -> Login {
    Login { username: username.to_owned(), password: Password::new(password) }
}

fn client(password: &str) -> Client {
    Client::new(login("alice", password), true, Random::from_seed(1))
}

fn server() -> Server {
    Server::new(
        vec![login("bob", "builder"), login("alice", "wonderland")],
        true,
        Random::from_seed(2),
        ExchangeLimit::default(),
    )
}

/// Carries frames both ways until both are silent; returns them with the sender's initial. `edit` may change or drop.
fn run(
    now: Timestamp,
    client: &mut Client,
    server: &mut Server,
    mut edit: impl FnMut(char, Vec<u8>) -> Option<Vec<u8>>,
) -> Vec<(char, Vec<u8>)> {
    let mut frames = Vec::new();
    for _ in 0..40 {
        let mut out = Vec::new();
        let from = if client.poll(now, &mut out) {
            'C'
        } else if server.poll(now, &mut out) {
            'S'
        } else {
            return frames;
        };
        let Some(out) = edit(from, out) else { continue };
        let _ = if from == 'C' { server.handle(now, &out, None) } else { client.handle(now, &out, None) };
        frames.push((from, out));
    }
    panic!("the exchange does not end");
}

fn unchanged(_: char, frame: Vec<u8>) -> Option<Vec<u8>> {
    Some(frame)
}

/// Makes either end believe that the other speaks version 2, as librist 0.2.7 does.
fn as_version_2(_: char, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    frame[0] = 2;
    Some(frame)
}

fn bodies(frames: &[(char, Vec<u8>)]) -> Vec<(char, u8, Vec<u8>)> {
    frames
        .iter()
        .filter_map(|(from, bytes)| match EapolFrame::parse(bytes).unwrap() {
            (_, EapolFrame::Eap(Eap { code, body, .. })) => {
                Some((*from, code as u8 + 1, body[..body.len().min(2)].to_vec()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_login_of_version_3_takes_the_frames_of_the_table() {
    let (mut client, mut server) = (client("wonderland"), server());
    let frames = run(START, &mut client, &mut server, unchanged);
    assert_eq!(frames[0].1, unhex("03010000"), "EAPOL start");
    assert_eq!(
        bodies(&frames),
        [
            ('S', 1, vec![1]),
            ('C', 2, b"\x01a".to_vec()),
            ('S', 1, vec![0x13, 1]),
            ('C', 2, vec![0x13, 1]),
            ('S', 1, vec![0x13, 2]),
            ('C', 2, vec![0x13, 2]),
            ('S', 1, vec![0x13, 3]),
            ('C', 3, vec![0, 0]),
        ]
    );
    let (ours, theirs) = (client.session().unwrap(), server.session().unwrap());
    assert_eq!(ours.key(), theirs.key());
    assert!(ours.own_use_key() && ours.peer_use_key() && theirs.own_use_key() && theirs.peer_use_key());
    assert_eq!((client.state(), server.state()), (LoginState::Done, LoginState::Done));
    let later = START + Duration::from_secs(30);
    assert_eq!(run(later, &mut client, &mut server, unchanged), [], "both are content");
}

#[test]
fn a_login_of_version_2_uses_the_zero_state_hash_and_its_own_end() {
    let (mut client, mut server) = (client("wonderland"), server());
    let frames = run(START, &mut client, &mut server, as_version_2);
    assert_eq!(bodies(&frames).last(), Some(&('C', 2, vec![0x13, 3])));
    let (ours, theirs) = (client.session().unwrap(), server.session().unwrap());
    assert_eq!(ours.key(), theirs.key());
    assert!(!ours.own_use_key() && !theirs.own_use_key(), "version 2 knows no session key as passphrase");
    assert!(!ours.peer_use_key() && !theirs.peer_use_key());
}

/// Goal: what librist 0.2.7 leaves in the flags of its proof (0000fb8b was seen) says nothing about its encryption.
#[test]
fn stale_flags_of_version_2_mean_nothing() {
    const FLAGS: std::ops::Range<usize> = 10..14;
    let (mut client, mut server) = (client("wonderland"), server());
    run(START, &mut client, &mut server, |from, frame| {
        let mut frame = as_version_2(from, frame)?;
        // The proofs: 32 bytes behind the flags.
        if frame.len() == FLAGS.end + 32 {
            frame[FLAGS].copy_from_slice(&[0, 0, 0xfb, 0x8b]);
        }
        Some(frame)
    });
    for session in [client.session(), server.session()] {
        assert!(session.is_some_and(|session| !session.peer_use_key()), "{session:?}");
    }
}

#[test]
fn a_vendor_with_the_zero_state_hash_under_version_3_is_let_in_at_the_second_challenge() {
    let (mut client, mut server) = (client("wonderland"), server());
    // The client sees version 2 and so computes as the vendor would; the server sees version 3.
    let edit = |from: char, mut frame: Vec<u8>| {
        frame[0] = if from == 'S' { 2 } else { 3 };
        Some(frame)
    };
    let frames = run(START, &mut client, &mut server, edit);
    let challenges = bodies(&frames).iter().filter(|(from, _, body)| *from == 'S' && body[..] == [0x13, 1]).count();
    assert_eq!(challenges, 2);
    assert_eq!(client.session().unwrap().key(), server.session().unwrap().key());
}

#[test]
fn a_client_whose_proof_is_refused_tries_the_other_variant_next() {
    let (mut client, mut server) = (client("wonderland"), server());
    // The server sees version 2 (zero state), the client version 3 (standard): the first attempt must fail.
    let edit = |from: char, mut frame: Vec<u8>| {
        frame[0] = if from == 'S' { 3 } else { 2 };
        Some(frame)
    };
    run(START, &mut client, &mut server, edit);
    assert_eq!(client.state(), LoginState::Refused);
    run(START + Duration::from_secs(1), &mut client, &mut server, edit);
    assert_eq!(client.session().unwrap().key(), server.session().unwrap().key());
}

#[test]
fn wrong_passwords_and_unknown_users_fail_alike_and_are_locked_out() {
    let mut nobody = Client::new(login("carol", "wonderland"), true, Random::from_seed(1));
    for client in [&mut client("wrong"), &mut nobody] {
        let mut server = server();
        let mut now = START;
        let mut shapes = Vec::new();
        for _ in 0..FAILURES_MAX {
            let frames = run(now, client, &mut server, unchanged);
            shapes.push(frames.iter().map(|(from, bytes)| (*from, bytes.len())).collect::<Vec<_>>());
            assert_eq!(bodies(&frames).last(), Some(&('S', 4, vec![])), "EAP failure");
            assert_eq!((client.state(), server.state()), (LoginState::Refused, LoginState::Refused));
            now += Duration::from_secs(10);
        }
        assert_eq!(shapes[0], shapes[2]);
        let locked = server.handle(now, &unhex("03010000"), None);
        assert_eq!(locked, Err(TunnelError::Login(LoginError::TooMany)));
        assert_eq!(server.handle(now + Duration::from_mins(1), &unhex("03010000"), None), Ok(false));
    }
}

const FAILURES_MAX: usize = 3;

/// Goal: a client with a wrong password bothers the server with both hash variants at once, and then slowly.
#[test]
fn a_refused_client_tries_on_slowly() {
    let (mut client, mut server) = (client("wrong"), server());
    let mut attempts = Vec::new();
    for ms in 0..30_000 {
        let now = START + Duration::from_millis(ms);
        server.failures_forgotten();
        let frames = run(now, &mut client, &mut server, unchanged);
        if frames.iter().any(|(from, frame)| *from == 'C' && *frame == unhex("03010000")) {
            attempts.push(ms);
        }
    }
    assert_eq!(attempts, [0, 500, 5500, 6000, 11_000, 11_500, 16_500, 17_000, 22_000, 22_500, 27_500, 28_000]);
}

#[test]
fn any_single_lost_frame_is_made_up_for() {
    for lost in 0..9 {
        let (mut client, mut server) = (client("wonderland"), server());
        let mut count = 0;
        let mut now = START;
        for _ in 0..40 {
            run(now, &mut client, &mut server, |_, frame| {
                count += 1;
                (count != lost + 1).then_some(frame)
            });
            now += Duration::from_millis(100);
        }
        assert!(client.session().is_some() && server.session().is_some(), "frame {lost} lost");
        assert_eq!(client.session().unwrap().key(), server.session().unwrap().key(), "frame {lost} lost");
    }
}

#[test]
fn a_client_without_server_asks_on_and_ever_slower() {
    let mut client = client("wonderland");
    let starts: Vec<u64> = (0..11)
        .map(|_| {
            let due = client.timeout();
            assert!(!client.poll(due.back(Duration::from_micros(1)), &mut Vec::new()) || due == Timestamp::ZERO);
            assert!(due == Timestamp::ZERO || client.poll(due, &mut Vec::new()));
            due.as_millis()
        })
        .collect();
    assert_eq!(starts, [0, 500, 1000, 1500, 2000, 2500, 7500, 12_500, 17_500, 22_500, 27_500]);
}

#[test]
fn forged_frames_end_no_session_and_cost_little() {
    let (mut client, mut server) = (client("wonderland"), server());
    run(START, &mut client, &mut server, unchanged);
    let key = client.session().unwrap().key().to_vec();
    let mut now = START + Duration::from_secs(1);
    for forged in ["03020000", "030000040100000404", "0300000404290004", "03000004032a0004", "0300000801010008130300"] {
        let _ = server.handle(now, &unhex(forged), None);
        let _ = client.handle(now, &unhex(forged), None);
    }
    // A forged identity request is answered, and the exchange after it dies without a valid proof.
    client.handle(now, &unhex("0300000501fc000501"), None).unwrap();
    let challenge = unhex("0300000c01fd000c1301000000000000");
    client.handle(now, &challenge, None).unwrap();
    assert_eq!(client.handle(now, &unhex("0300000701fe0007130200"), None), Err(LoginError::BadPublicValue.into()));
    assert_eq!((client.session().unwrap().key(), server.session().unwrap().key()), (&key[..], &key[..]));
    // Flooded with starts, the server answers a bounded number of times.
    let mut sent = 0;
    for _ in 0..10_000 {
        let _ = server.handle(now, &unhex("03010000"), None);
        sent += usize::from(server.poll(now, &mut Vec::new()));
        now += Duration::from_micros(100);
    }
    assert!((1..=8).contains(&sent), "{sent} answers in one second");
    assert_eq!(server.session().unwrap().key(), key, "the session outlives all that");
}

#[test]
fn another_group_than_rfc_5054s_is_refused() {
    let mut client = client("wonderland");
    client.handle(START, &unhex("0300000501fc000501"), None).unwrap();
    let weak = unhex("0300000e01fd000e1301000000000001020f");
    assert_eq!(client.handle(START, &weak, None), Err(LoginError::UnknownGroup.into()));
}

#[test]
fn secrets_stay_out_of_debug() {
    let (mut client, mut server) = (client("wonderland"), server());
    run(START, &mut client, &mut server, unchanged);
    let text = format!("{client:?} {server:?} {:?}", client.session());
    assert!(!text.contains("wonderland") && !text.contains("builder") && text.contains("Password(..)"), "{text}");
}
