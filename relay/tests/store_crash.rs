//! Kills a process that writes to the store with SIGKILL at odd moments, and looks for every change it had acknowledged.

use relay::store::{Batch, ClaimRecord, Store};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where the writing process finds its store; set only for that process.
const DIRECTORY: &str = "STRATA_TEST_STORE";
/// Processes killed.
const ROUNDS: u64 = 20;

fn record(number: u64) -> ClaimRecord {
    // The number is both key and content: a torn or swapped record is seen.
    let name = "x".repeat(40) + &number.to_string();
    ClaimRecord { code_hash: format!("{number:020}"), name, expires_ms: number, made_by: "writer".to_owned() }
}

/// Not a test: the process that is killed. Writes pairs of records and prints each number after its commit.
#[test]
#[ignore = "started by the crash test as a process of its own"]
fn writer() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let store = Store::open(Path::new(&directory)).unwrap();
    let first = store.scan::<ClaimRecord>().unwrap().len() as u64 / 2;
    for number in first.. {
        let twin = record(number + (1 << 40));
        store.commit_blocking(Batch::new().put(&record(number)).put(&twin)).unwrap();
        println!("ack {number}");
        if number % 16 == 0 {
            store.export_blocking().unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "writer", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Let it run over a different number of commits, then kill it between any two instructions.
        let mut acks = 0;
        let wanted = 3 + round * 7 % 23;
        while acks < wanted {
            let line = lines.next().expect("the writer goes on").unwrap();
            if let Some(number) = line.rsplit("ack ").next().and_then(|text| text.parse::<u64>().ok()) {
                acknowledged = acknowledged.max(number + 1);
                acks += 1;
            }
        }
        std::thread::sleep(Duration::from_micros(round * 397 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.rsplit("ack ").next().and_then(|text| text.parse::<u64>().ok()) {
                acknowledged = acknowledged.max(number + 1);
            }
        }
        let store = Store::open(directory.path()).unwrap();
        let records = store.scan::<ClaimRecord>().unwrap();
        let (low, high): (Vec<_>, Vec<_>) = records.iter().partition(|it| it.expires_ms < 1 << 40);
        assert!(low.len() as u64 >= acknowledged, "round {round}: {} kept, {acknowledged} acknowledged", low.len());
        assert_eq!(low.len(), high.len(), "round {round}: a batch was torn");
        for (number, kept) in low.iter().enumerate() {
            assert!(kept.expires_ms == number as u64 && kept.name.ends_with(&format!("x{number}")), "{kept:?}");
        }
    }
    assert!(acknowledged >= ROUNDS * 3, "{acknowledged}");
    let aside = std::fs::read_dir(directory.path()).unwrap().filter_map(Result::ok);
    let broken = aside.filter(|it| it.file_name().to_string_lossy().starts_with("sled.broken")).count();
    assert_eq!(broken, 0, "no kill broke the database itself");
}
