//! The crew's way: GO LIVE and stop on the device's own page.

use crate::rig::{ON_AIR_TIME_MAX, Rig, STOP_TIME_MAX};
use bytes::Bytes;
use serde_json::Value;
use std::time::Duration;
use system_test::lab::Lab;
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread")]
async fn the_crew_goes_live_and_stops_on_the_device() {
    let mut rig = Rig::set_up("crew").await;
    press(&rig.lab, "/go-live").await;
    let on_air = |state: &Value| state["on_air"]["on_air"] == true && state["on_air"]["fresh"] == true;
    let state = device_until(&rig.lab, "ON AIR by the relay's word", ON_AIR_TIME_MAX, on_air).await;
    let stream = state["on_air"]["stream"].as_str().unwrap().to_owned();
    let names: Vec<_> = state["on_air"]["outputs"].as_array().unwrap().iter().map(|output| &output["name"]).collect();
    assert!(names.iter().any(|name| *name == "RTMP reader"), "the crew must see where it goes: {names:?}");
    let seen = rig.lab.dashboard.stream(&stream).await.unwrap();
    assert_eq!((&seen["on_air"], &seen["started_by"]), (&true.into(), &"the device".into()), "{seen}");

    press(&rig.lab, "/stop").await;
    rig.until(&stream, "ended by the crew", STOP_TIME_MAX, |state| state["state"] == "ended").await;
    device_until(&rig.lab, "idle", STOP_TIME_MAX, |state| state["streaming"]["state"] == "idle").await;
    assert_eq!(rig.lab.worker("strata-streamer"), None);
    rig.take_down().await;
}

/// A foreign web site must not press the buttons.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_cannot_press_the_buttons() {
    let rig = Rig::set_up("foreign-page").await;
    let mut page = rig.lab.device_page();
    for header in [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")] {
        let answer = page.post("/go-live", &[header], FORM, Bytes::new()).await.unwrap();
        assert!(answer.status == 403 || answer.status == 400, "{header:?}: {}", answer.status);
    }
    sleep(Duration::from_secs(1)).await;
    let state = rig.lab.device_state().await.unwrap();
    assert_eq!(state["streaming"]["state"], "idle", "{state}");
    rig.take_down().await;
}

const FORM: &str = "application/x-www-form-urlencoded";

async fn press(lab: &Lab, button: &str) {
    let answer = lab.device_page().post(button, &[], FORM, Bytes::new()).await.unwrap();
    assert!(
        answer.status.is_success() || answer.status.is_redirection(),
        "{button}: {} {}",
        answer.status,
        answer.text()
    );
}

async fn device_until(lab: &Lab, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + limit;
    loop {
        let state = lab.device_state().await.unwrap();
        if wanted(&state) {
            return state;
        }
        assert!(Instant::now() < deadline, "not {what} within {limit:?}: {state}");
        sleep(Duration::from_millis(100)).await;
    }
}
