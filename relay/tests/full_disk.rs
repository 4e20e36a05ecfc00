//! A relay whose disk is full to the last byte: it says so, lets people in, loses nothing, and goes on when there is room.
#![allow(clippy::unwrap_used)] // helpers of tests may, as tests may

mod support;

use serde_json::json;
use support::small_disk::{SmallDisk, fill};
use support::{Operator, RelayProcess, http};

fn destination(name: &str) -> serde_json::Value {
    json!({ "name": name, "kind": "srt", "url": "srt://127.0.0.1:9" })
}

async fn names(operator: &Operator) -> Vec<String> {
    let all = operator.get("/api/v1/destinations").await.json();
    all.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_changes_by_name_and_the_store_survives_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let Some(_disk) = SmallDisk::mount(&data, 48 << 20) else { return };
    let relay = RelayProcess::start(&data).await;
    let operator = relay.log_in().await;
    assert_eq!(operator.post("/api/v1/destinations", &destination("Before")).await.status, 200);
    assert!(!operator.get("/").await.body.contains("disk of"), "nothing to say yet");

    let other = fill(&data);
    for _ in 0..20 {
        let answer = operator.post("/api/v1/destinations", &destination("Refused")).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (507, Some("disk-full")));
        assert!(answer.json()["detail"].as_str().unwrap().contains("free some space"), "{}", answer.body);
    }
    let late = relay.log_in().await;
    let page = late.get("/").await.body;
    assert!(page.contains("is full") && page.contains("Free some space"), "{page}");
    assert_eq!(names(&late).await, ["Before"]);
    let form = ("content-type", "application/x-www-form-urlencoded");
    let out = format!("csrf={}", late.csrf);
    assert_eq!(http(late.at, "POST", "/logout", &[("cookie", &late.cookie), form], &out).await.status, 303);
    assert_eq!(late.get("/api/v1/session").await.status, 401, "a log-in in memory ends too");

    std::fs::remove_file(other).unwrap();
    assert_eq!(operator.post("/api/v1/destinations", &destination("After")).await.status, 200);
    assert!(!operator.get("/").await.body.contains("disk of"));
    let log = relay.log();
    assert!(!log.contains("\"level\":\"ERROR\"") || log.matches("cannot export").count() <= 1, "{log}");
    // Not even an orderly end: what was answered with 200 is there.
    relay.kill();
    let relay = RelayProcess::start(&data).await;
    assert_eq!(names(&relay.log_in().await).await, ["Before", "After"]);
    relay.terminate();
}
