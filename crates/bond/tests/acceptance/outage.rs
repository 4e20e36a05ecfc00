//! Figures 4 to 6: links that go and come back.

use super::simulation::follow;
use super::simulation::follow::Encoder;
use super::simulation::load::PAYLOAD_BYTES;
use super::{Row, Target, equal, fixed, limited, milliseconds};
use link_sim::{Outage, OutageKind};

pub fn rows(rows: &mut Vec<Row>) {
    for (load, encoder) in [("70 % load", limited(0.7)), ("70 % fixed load", fixed(0.7))] {
        cut(rows, load, encoder);
        all_out(rows, load, encoder);
        healed(rows, load, encoder);
    }
}

/// 4: each of four links cut in turn, within 400 ms.
fn cut(rows: &mut Vec<Row>, load: &str, encoder: Encoder) {
    let (mut lost, mut again) = (0, 0.0f64);
    for cut in 0..4 {
        let mut paths = equal();
        paths[cut].outages = vec![Outage { from_ms: 10_000, to_ms: 1_000_000, kind: OutageKind::Lose }];
        let mut before = 0;
        let run = follow::run(milliseconds(400), &paths, 20, 4, encoder, |simulation| {
            if simulation.now < follow::at(10.0) {
                before = simulation.sender.snapshot(simulation.now).retransmits;
            }
        });
        lost += run.made_and_lost(5.0, 20.0).1;
        let retransmits = run.simulation.sender.snapshot(run.simulation.now).retransmits - before;
        let second = run.delivered(5.0, 10.0) / 8.0 / PAYLOAD_BYTES as f64;
        again = again.max(100.0 * retransmits as f64 / second);
    }
    let mut row = |what: &str, target, unit, measured| rows.push(Row::new(4, what, target, unit, measured));
    row(
        &format!("packets lost, one of 4 links cut at {load}, D = 400 ms, each in turn"),
        Target::AtMost(0.0),
        "",
        lost as f64,
    );
    row(&format!("sent again there at {load}, of a second's packets"), Target::AtMost(10.0), " %", again);
}

/// 5: everything out for 300 ms.
fn all_out(rows: &mut Vec<Row>, load: &str, encoder: Encoder) {
    let (mut lost, mut queue) = (0, 0.0f64);
    for kind in [OutageKind::Lose, OutageKind::Hold] {
        let mut paths = equal();
        for path in &mut paths {
            path.outages = vec![Outage { from_ms: 10_000, to_ms: 10_300, kind }];
        }
        let run = follow::run(milliseconds(1000), &paths, 20, 4, encoder, |simulation| {
            if simulation.now >= follow::at(11.3) {
                let bytes = simulation.paths.iter().map(|path| path.up().queued_bytes().as_u64()).max().unwrap_or(0);
                queue = queue.max(bytes as f64 * 8.0 / 5e6 * 1e3);
            }
        });
        lost += run.made_and_lost(5.0, 20.0).1;
    }
    let mut row = |what: &str, target, unit, measured| rows.push(Row::new(5, what, target, unit, measured));
    row(
        &format!("packets lost, all links out for 300 ms at {load}, D = 1000 ms"),
        Target::AtMost(0.0),
        "",
        lost as f64,
    );
    row(&format!("longest queue there at {load}, from 1 s after"), Target::AtMost(60.0), " ms", queue);
}

/// 6: a link that was out for 5 s.
fn healed(rows: &mut Vec<Row>, load: &str, encoder: Encoder) {
    let mut worst = f64::MAX;
    for out in 0..4 {
        let mut paths = equal();
        paths[out].outages = vec![Outage { from_ms: 10_000, to_ms: 15_000, kind: OutageKind::Lose }];
        let mut sent = Vec::new();
        follow::run(milliseconds(1000), &paths, 20, 4, encoder, |simulation| {
            sent.push(simulation.paths[out].up().stats().passed_bytes.as_u64());
        });
        let second = |from: f64| (sent[(from * 30.0) as usize + 30] - sent[(from * 30.0) as usize]) as f64;
        let before = (5..10).map(|s| second(f64::from(s))).sum::<f64>() / 5.0;
        worst = worst.min(100.0 * second(16.5) / before);
    }
    let figure =
        format!("carried 1.5 to 2.5 s after a link healed at {load}, of what it carried before; worst of 4 links");
    rows.push(Row::new(6, figure, Target::AtLeast(80.0), " %", worst));
}
