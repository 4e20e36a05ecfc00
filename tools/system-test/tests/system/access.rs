//! Who may do what: claims, log-in, and one device against another.

use crate::device::{Identity, Refusal, enrol, mqtt};
use crate::rig::relay_only;
use std::time::Duration;
use system_test::dashboard::Dashboard;
use system_test::lab::{Lab, USER};
use tokio::time::{Instant, sleep};

/// A guess costs at least this much time (the relay aims at a second).
const GUESS_TIME_MIN: Duration = Duration::from_millis(900);

/// How long nothing must arrive.
const QUIET: Duration = Duration::from_millis(500);
/// A few wrong guesses lock the right one out for no longer than this.
const THROTTLED_TIME_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_good_once() {
    let (mut lab, _turn) = relay_only("claim").await;
    let link = lab.dashboard.claim("Van 7").await.unwrap();
    let first = enrol(&lab, &link).await.unwrap();
    let Err(Refusal { status, body }) = enrol(&lab, &link).await else { panic!("a used claim was accepted") };
    assert_eq!(status, 403, "{body}");
    assert_eq!(body["reason"], "claim-refused", "{body}");
    let mut wrong = link.clone();
    let code = wrong.find('#').unwrap() + 1;
    wrong.replace_range(code..=code, if &link[code..=code] == "A" { "B" } else { "A" });
    assert_eq!(enrol(&lab, &wrong).await.err().unwrap().status, 403);
    let devices = lab.dashboard.devices().await.unwrap();
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert_eq!(devices[0]["id"], first.device.as_str());
    lab.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_slow_and_refused() {
    let (lab, _turn) = relay_only("log-in").await;
    let mut stranger = Dashboard::new(([127, 0, 0, 1], lab.options().ports.dashboard).into());
    for (user, password) in [(USER, "wrong"), ("nobody", "wrong"), (USER, "")] {
        let start = Instant::now();
        let answer = stranger.try_log_in(user, password).await.unwrap();
        assert!(answer.status.is_client_error(), "{}", answer.status);
        assert!(start.elapsed() >= GUESS_TIME_MIN, "{user:?} was refused after {:?} only", start.elapsed());
    }
    // Guessing on makes even a right password wait.
    let mut last = 0;
    for _ in 0..4 {
        last = stranger.try_log_in(USER, "wrong").await.unwrap().status.as_u16();
    }
    assert_eq!(last, 429, "guesses must be throttled");
    for path in ["/api/v1/devices", "/api/v1/streams", "/api/v1/destinations"] {
        assert_eq!(stranger.get_raw(path).await.unwrap().status, 401, "{path}");
    }
    let deadline = Instant::now() + THROTTLED_TIME_MAX;
    while let Err(error) = stranger.log_in(USER, &lab.password().unwrap()).await {
        assert!(Instant::now() < deadline, "{error:#}");
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(stranger.get_raw("/api/v1/devices").await.unwrap().status, 200);
    lab.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reads_and_writes_only_its_own_branch() {
    let (mut lab, _turn) = relay_only("two-devices").await;
    let link = lab.dashboard.claim("Victim").await.unwrap();
    let victim = enrol(&lab, &link).await.unwrap();
    let link = lab.dashboard.claim("Intruder").await.unwrap();
    let intruder = enrol(&lab, &link).await.unwrap();
    let (own, other) = (intruder.device.as_str(), victim.device.as_str());
    let mut watch = mqtt(&lab, &victim, other).await.unwrap();
    assert!(watch.subscribe(&format!("d/{other}/down/command")).await.unwrap());
    assert!(watch.publish_is_accepted(&format!("d/{other}/up/presence"), &message("online")).await);
    online(&mut lab, other).await;

    // The intruder may read and write its own branch, and that alone.
    let mut session = mqtt(&lab, &intruder, own).await.unwrap();
    assert!(session.subscribe(&format!("d/{own}/down/command")).await.unwrap());
    assert!(session.publish_is_accepted(&format!("d/{own}/up/presence"), &message("online")).await);
    let foreign = [format!("d/{other}/down/command"), format!("d/{other}/#"), "d/+/down/command".into(), "#".into()];
    for filter in foreign {
        let mut session = mqtt(&lab, &intruder, own).await.unwrap();
        assert!(!session.subscribe(&filter).await.unwrap_or(false), "{filter} was granted");
    }
    for topic in [format!("d/{other}/up/presence"), format!("d/{other}/down/command"), format!("d/{own}/down/command")]
    {
        let mut session = mqtt(&lab, &intruder, own).await.unwrap();
        assert!(!session.publish_is_accepted(&topic, &message("offline")).await, "{topic} was accepted");
    }
    assert_eq!(watch.next(QUIET).await, None, "the victim got an order from the intruder");
    online(&mut lab, other).await;

    // Nor may it call itself the other one, nor come with a certificate that the relay did not sign.
    assert!(mqtt(&lab, &intruder, other).await.is_err(), "client id and certificate must agree");
    assert!(mqtt(&lab, &Identity::self_signed(other), other).await.is_err(), "a foreign certificate");
    assert_eq!(watch.next(QUIET).await, None);
    online(&mut lab, other).await;
    lab.close().await.unwrap();
}

fn message(kind: &str) -> Vec<u8> {
    let body = format!("{{\"kind\":\"{kind}\"}}");
    format!("{{\"version\":1,\"id\":\"01935b2a-7c00-7000-8000-000000000000\",\"sent_at_ms\":0,\"body\":{body}}}")
        .into_bytes()
}

/// Waits until the relay sees the device connected.
async fn online(lab: &mut Lab, id: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let devices = lab.dashboard.devices().await.unwrap();
        if devices.iter().any(|device| device["id"] == id && device["online"] == true) {
            return;
        }
        assert!(Instant::now() < deadline, "{id} is not online: {devices:?}");
        sleep(Duration::from_millis(100)).await;
    }
}
