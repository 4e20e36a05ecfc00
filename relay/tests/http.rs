//! Log-in, sessions, forged requests, claims and files over real HTTP and HTTPS.
#![allow(clippy::unwrap_used)] // helpers of tests may, as tests may

mod support;

use ::relay::enrolment::http::LIMITS;
use serde_json::json;
use std::time::{Duration, Instant};
use support::{Answer, Operator, RelayProcess, SOON, TestRelay, http, tcp_from, tls_on};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn try_login(relay: &TestRelay, password: &str) -> Answer {
    let body = json!({ "name": "admin", "password": password }).to_string();
    http(relay.at.dashboard, "POST", "/api/v1/login", &[JSON], &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_slow_refused_and_then_made_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    for _ in 0..6 {
        let began = Instant::now();
        let answer = try_login(&relay, "wrong").await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (401, Some("wrong-password")));
        assert!(began.elapsed() >= Duration::from_secs(1), "refused after {:?}", began.elapsed());
        assert!(answer.header("set-cookie").is_none());
    }
    // The sixth failure opens the wait: now even the right password is not read.
    let answer = try_login(&relay, &relay.password()).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (429, Some("too-many-tries")));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(try_login(&relay, &relay.password()).await.status, 200);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_or_done_without_a_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let at = relay.at.dashboard;
    for path in ["/api/v1/session", "/api/v1/devices", "/api/v1/streams", "/api/v1/destinations", "/devices-events"] {
        let answer = http(at, "GET", path, &[], "").await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (401, Some("not-logged-in")), "{path}");
    }
    for path in ["/", "/streams", "/destinations", "/devices/x"] {
        let answer = http(at, "GET", path, &[], "").await;
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.header("location").unwrap().starts_with("/login"), "{path}");
    }
    let answer = http(at, "GET", "/devices/x", &[("cookie", "strata_session=guess")], "").await;
    assert_eq!(answer.header("location"), Some("/login?next=/devices/x"));
    for path in ["/claims", "/destinations", "/devices/x/start", "/devices/x/revoke"] {
        assert_eq!(http(at, "POST", path, &[FORM], "name=x").await.status, 303, "{path}");
    }
    assert_eq!(http(at, "GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(http(at, "GET", "/api/v1/nothing", &[], "").await.status, 404);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_writes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let operator = relay.log_in().await;
    let Operator { at, cookie, csrf } = &operator;
    let body = json!({ "name": "Van" }).to_string();
    let post = async |headers: &[(&str, &str)]| {
        let all: Vec<_> = [("cookie", cookie.as_str()), JSON].into_iter().chain(headers.iter().copied()).collect();
        http(*at, "POST", "/api/v1/claims", &all, &body).await.status
    };
    assert_eq!(post(&[]).await, 403, "no token");
    assert_eq!(post(&[("x-csrf-token", "guess")]).await, 403, "wrong token");
    assert_eq!(post(&[("x-csrf-token", csrf), ("origin", "https://evil.example")]).await, 403, "foreign origin");
    assert_eq!(post(&[("x-csrf-token", csrf), ("sec-fetch-site", "cross-site")]).await, 403, "foreign site");
    assert_eq!(post(&[("x-csrf-token", csrf), ("origin", "http://relay")]).await, 200, "our own page");
    // Another log-in's token is no use with this cookie.
    let other = relay.log_in().await;
    assert_eq!(post(&[("x-csrf-token", &other.csrf)]).await, 403, "another log-in's token");

    // Forms: the field counts, and a foreign log-in form is refused before the password is looked at.
    let form = async |body: &str| http(*at, "POST", "/destinations", &[("cookie", cookie), FORM], body).await.status;
    let fields = "name=Main&kind=srt&url=srt%3A%2F%2F127.0.0.1%3A9000&key=";
    assert_eq!(form(fields).await, 403);
    assert_eq!(form(&format!("{fields}&csrf={csrf}")).await, 303);
    let login = format!("name=admin&password={}", relay.password());
    let foreign = [FORM, ("origin", "https://evil.example")];
    assert_eq!(http(*at, "POST", "/login", &foreign, &login).await.status, 403);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_ends_with_the_log_out_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(directory.path()).await;
    let form = format!("name=admin&password={}&next=%2Fstreams", relay.password());
    let answer = http(relay.at.dashboard, "POST", "/login", &[FORM], &form).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/streams")));
    let cookie = answer.header("set-cookie").unwrap();
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "insecure_cookies is set in this test");
    let operator = relay.log_in().await;
    relay.terminate();

    let relay = RelayProcess::start(directory.path()).await;
    let operator = Operator { at: relay.at.dashboard, ..operator };
    assert_eq!(operator.get("/api/v1/session").await.json()["user"], "admin", "kept over a restart");
    let page = operator.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let out = format!("csrf={}", operator.csrf);
    let answer = http(operator.at, "POST", "/logout", &[("cookie", &operator.cookie), FORM], &out).await;
    assert_eq!(answer.status, 303);
    assert_eq!(operator.get("/api/v1/session").await.status, 401);
    relay.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_code_works_once_and_guessing_is_slowed_down() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let claim = relay.log_in().await.claim("Van").await;
    let device = relay.enrol_with(&claim).await.unwrap();
    assert!(device.id().starts_with("van-"));
    let devices = relay.log_in().await.get("/api/v1/devices").await.json();
    assert_eq!(devices[0]["id"], device.id(), "shown at once");
    for _ in 0..6 {
        let (status, refusal) = relay.enrol_with(&claim).await.err().expect("refused");
        assert_eq!((status, refusal["reason"].as_str()), (403, Some("claim-refused")));
    }
    let (status, refusal) = relay.enrol_with(&claim).await.err().expect("refused");
    assert_eq!((status, refusal["reason"].as_str()), (429, Some("too-many-tries")));
    relay.end().await;
}

/// One who opens connection after connection and never asks anything holds its own share only, and not for long.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_keep_nobody_from_enrolling() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let claim = relay.log_in().await.claim("Van").await;
    let mut idle = Vec::new();
    for _ in 0..LIMITS.connections_max + 20 {
        let stream = tcp_from("127.0.0.2", relay.at.enrolment).await.unwrap();
        idle.push(tls_on(stream, &relay.ca()).await.unwrap());
    }
    let began = Instant::now();
    relay.enrol_with(&claim).await.unwrap();
    assert!(began.elapsed() < LIMITS.silence_max / 2, "took {:?}", began.elapsed());
    let closed = tokio::time::timeout(LIMITS.silence_max + Duration::from_secs(5), idle[0].read(&mut [0; 1])).await;
    assert!(matches!(closed.expect("shown out in time"), Ok(0) | Err(_)));
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_write_only_and_bad_requests_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let operator = relay.log_in().await;
    let body = json!({ "name": "Main", "kind": "rtmp", "url": "rtmp://127.0.0.1/live", "key": "live_TOPSECRET" });
    let id = operator.post("/api/v1/destinations", &body).await.json()["id"].as_str().unwrap().to_owned();
    for path in ["/api/v1/destinations", "/destinations", "/"] {
        assert!(!operator.get(path).await.body.contains("TOPSECRET"), "{path}");
    }
    assert_eq!(operator.get("/api/v1/destinations").await.json()[0]["has_key"], true);
    let on_disk = std::fs::read(relay.data.join("store/sled/db")).unwrap();
    assert!(!on_disk.windows(9).any(|window| window == b"TOPSECRET"));

    let refused = async |path: &str, body: serde_json::Value, status, error: &str| {
        let answer = operator.post(path, &body).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{path}: {}", answer.body);
    };
    refused("/api/v1/destinations", json!({ "name": "x", "kind": "ftp", "url": "x" }), 400, "bad-request").await;
    refused("/api/v1/claims", json!({ "name": "" }), 400, "bad-request").await;
    refused("/api/v1/claims", json!({ "nmae": "Van" }), 400, "bad-request").await;
    refused("/api/v1/devices/nobody/start", json!({}), 404, "no-device").await;
    refused("/api/v1/devices/No%20Body/start", json!({}), 404, "not-found").await;
    refused("/api/v1/devices/nobody/stop", json!({}), 409, "idle").await;
    let van = relay.enrol("Van").await;
    refused(&format!("/api/v1/devices/{}/start", van.id()), json!({ "destinations": [id] }), 409, "offline").await;
    let huge = json!({ "name": "x".repeat(100_000) });
    assert_eq!(operator.post("/api/v1/claims", &huge).await.status, 413);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_downloaded_as_one_file_by_operators_only() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let operator = relay.log_in().await;
    let recording = relay.data.join("streams/s-1/recording");
    std::fs::create_dir_all(&recording).unwrap();
    // Longer than what is read at a time; text, because the test's HTTP client reads text.
    let (first, second) = ("first ".repeat(60_000), "second".to_owned());
    std::fs::write(recording.join("part-000001-20260101-000000.ts"), &first).unwrap();
    std::fs::write(recording.join("part-000002-20260101-000100.ts"), &second).unwrap();
    std::fs::write(recording.join("gaps.jsonl"), "{}").unwrap();
    let answer = operator.get("/streams/s-1/recording.ts").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("video/mp2t")));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"strata-s-1.ts\""));
    assert_eq!(answer.header("content-length"), Some((first.len() + second.len()).to_string().as_str()));
    assert!(answer.body == first + &second, "all parts in their order, and nothing else");
    assert_eq!(operator.get("/streams/s-2/recording.ts").await.status, 404);
    let anyone = http(relay.at.dashboard, "GET", "/streams/s-1/recording.ts", &[], "").await;
    assert_eq!(anyone.status, 401);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_outside_a_streams_hls_directory_are_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let operator = relay.log_in().await;
    let stream = relay.data.join("streams/s-1");
    std::fs::create_dir_all(stream.join("hls")).unwrap();
    std::fs::write(stream.join("hls/live.m3u8"), "#EXTM3U\n").unwrap();
    std::fs::write(stream.join("receiver.log"), "log").unwrap();
    let playlist = operator.get("/streams/s-1/hls/live.m3u8").await;
    assert_eq!((playlist.status, playlist.body.as_str()), (200, "#EXTM3U\n"));
    assert_eq!(playlist.header("content-type"), Some("application/vnd.apple.mpegurl"));
    for path in [
        "/streams/s-1/hls/..%2freceiver.log",
        "/streams/s-1/hls/%2e%2e/receiver.log",
        "/streams/../hls/live.m3u8",
        "/streams/..%2f..%2fca/hls/ca.key",
        "/streams/s-1/hls/receiver.log",
    ] {
        assert_eq!(operator.get(path).await.status, 404, "{path}");
    }
    let anyone = http(relay.at.dashboard, "GET", "/streams/s-1/hls/live.m3u8", &[], "").await;
    assert_eq!(anyone.status, 401);
    relay.end().await;
}

/// A live page's connection.
async fn follow(operator: &Operator) -> TcpStream {
    let mut stream = TcpStream::connect(operator.at).await.unwrap();
    let cookie = &operator.cookie;
    let request =
        format!("GET /devices-events HTTP/1.1\r\nhost: relay\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_of_changes_and_of_its_log_out() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let operator = relay.log_in().await;
    let mut stream = follow(&operator).await;
    let mut heard = String::new();
    let mut read_until = async |what: &str| {
        let began = Instant::now();
        while !heard.contains(what) {
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.expect("in time");
            let read = read.unwrap();
            if read == 0 {
                return None;
            }
            heard += &String::from_utf8_lossy(&bytes[..read]);
        }
        Some(began.elapsed())
    };
    read_until("event: beat").await.expect("a beat");
    relay.enrol("Harbour crew").await;
    read_until("Harbour crew").await.expect("the new device");
    let out = format!("csrf={}", operator.csrf);
    http(operator.at, "POST", "/logout", &[("cookie", &operator.cookie), FORM], &out).await;
    assert!(read_until("never said").await.is_none(), "the stream ends with the log-in");
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_open_pages_ends_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let relay = TestRelay::start(directory.path()).await;
    let operator = relay.log_in().await;
    let mut stream = follow(&operator).await;
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).await.unwrap();
    let began = Instant::now();
    relay.end().await;
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
}
