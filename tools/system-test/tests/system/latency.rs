//! Goal: the age of the picture at the outputs is what the latency budget promises, and is measured. Method: a camera that
//! writes the time into its pictures; no threshold that a busy machine could miss, only what must hold in any case.

use crate::rig::{LATENCY_MS, lab_options};
use system_test::latency::{LatencyOptions, Output, measure};

/// Seconds that each way is measured.
const SECONDS: u64 = 4;
/// Nothing on the way holds this much, in milliseconds: beyond it something queues up.
const BEYOND_MAX_MS: u64 = 8_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_is_as_old_as_the_budget_says_and_not_much_older() {
    let (lab, _turn) = lab_options("latency").await;
    let report = measure(LatencyOptions { lab, seconds: SECONDS }).await.unwrap();
    println!("{report}");
    let names: Vec<_> = report.outputs.iter().map(|output| output.name).collect();
    assert_eq!(names, ["RTMP", "SRT", "HLS"]);
    for output in &report.outputs {
        let Output { name, through, direct, out_of_order, .. } = output;
        assert!(through.count() >= 25, "{name}: {} pictures in {SECONDS} s", through.count());
        let (median, budget) = (through.median(), u64::from(LATENCY_MS));
        assert!(median > budget, "{name}: {median} ms is less than the bond's own {budget}");
        assert!(median < budget + BEYOND_MAX_MS, "{name}: {median} ms");
        assert!(direct.as_ref().is_none_or(|direct| direct.median() < median), "{name}: the way without is slower");
        assert_eq!(*out_of_order, 0, "{name}");
    }
}
