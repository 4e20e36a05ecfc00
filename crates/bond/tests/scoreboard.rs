//! The scoreboard: scenarios and seeds against what could be delivered at all.
//!
//! The tables are committed in `tests/scoreboard/`; a change of the engine shows as their difference. The test then fails and
//! writes the new table beside the committed one, as `NAME.new`: read it, and move it to `NAME` to take it over.
//!
//! | column | says |
//! |---|---|
//! | delivered, lost | packets that were delivered in percent, at any age (the p99 says which), and the residual loss: the share that never was |
//! | bound | the most packets that a sender who knows the future could deliver, in percent ([`bound::packets`]) |
//! | of bound | utilisation: delivered of the bound, in percent; useful bytes, as all packets have the same |
//! | on time | frames that came whole and within the latency budget and a fifth of a second, in percent: of these columns the one that judges the age |
//! | in order | the same of a queue in front of all links that knows the future ([`bound::in_order`]). No bound: whoever gives up a large picture saves several small ones, and may have more where the links carry less than the load. The `ideal` of the bench with real sockets is the same measure |
//! | p50, p99, freeze | median and 99th percentile latency, longest time without a packet, in milliseconds |
//! | used | IP bytes sent of IP bytes that the links could carry, in percent: repairs and what was lost count |
//! | sent/media | IP bytes sent per IP byte of media |

mod simulation;

use simulation::scenario::{self, Scenario};
use simulation::score::{self, Classes};
use simulation::{bound, committed, load};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

const HEAD: &str = "scenario                   seed  Mbit/s | delivered  bound    lost  of bound | on time  in order |   p50   p99  freeze |   used  sent/media\n";

/// Links of every kind, mixed at random.
const MIXED: std::ops::RangeInclusive<u64> = 1..=8;
/// The same, for a survey.
const SURVEYED: std::ops::Range<u64> = 100..900;
/// Mixtures that a survey tells of singly: those that fall behind the bound furthest.
const WORST: usize = 20;

/// Appends a line; returns what was delivered, the bound, on time and in order, in percent.
fn row(table: &mut String, scenario: &Scenario, seed: u64, classes: Classes) -> [f64; 4] {
    let items = load::video(scenario.bps, scenario.seconds);
    let most = bound::packets(scenario, &items, score::GRACE);
    let (_, in_order) = bound::in_order(scenario, &items, score::GRACE);
    let (got, _) = score::run_shared(scenario.latency, &scenario.paths, &scenario.shared, &items, seed, classes);
    let got = got.unwrap_or_else(|fault| panic!("{}, seed {seed}: {fault}", scenario.name));
    let lost = 1.0 - got.delivered_percent / 100.0;
    let lost = if lost > 0.0 { format!("{lost:.1e}") } else { "0".to_owned() };
    writeln!(
        table,
        "{:26} {seed:4}  {:6.2} |    {:6.2} {most:6.2} {lost:>7}    {:6.2} |  {:6.2}    {in_order:6.2} |{:6.0}{:6.0}  {:6.0} | {:6.2}       {:.3}",
        scenario.name,
        scenario.bps / 1e6,
        got.delivered_percent,
        100.0 * got.delivered_percent / most,
        got.frames_on_time_percent,
        got.p50_ms,
        got.p99_ms,
        got.freeze_ms,
        got.used_percent,
        got.sent_per_media,
    )
    .expect("a string takes everything");
    [got.delivered_percent, most, got.frames_on_time_percent, in_order]
}

/// Goal: the constant links and their impairments, made-up cellular links; several seeds each.
#[test]
fn scoreboard_of_made_links() {
    let mut table = HEAD.to_owned();
    for scenario in scenario::constant() {
        let random = scenario.paths.iter().any(|path| path.up.loss > 0.0 || path.up.burst_loss.is_some());
        for seed in 1..=if random { 3 } else { 1 } {
            row(&mut table, &scenario, seed, Classes::Unknown);
        }
    }
    for seed in 1..=3 {
        for scenario in scenario::synthetic(seed, &[0.6, 0.8]) {
            row(&mut table, &scenario, seed, Classes::Unknown);
        }
    }
    for scenario in scenario::shared() {
        row(&mut table, &scenario, 1, Classes::Unknown);
    }
    for seed in MIXED {
        row(&mut table, &scenario::mixed(seed), seed, Classes::Unknown);
    }
    committed::settle("scoreboard/made.txt", &table);
}

/// Goal: three recorded LTE uplinks at three loads, from several places of the recordings.
#[test]
fn scoreboard_of_recorded_links() {
    if scenario::trace_folder().is_none() {
        // Not by a macro: the test harness keeps what a passing test prints.
        let reason = "NOT TESTED: recorded links, ../shared/traces beside the repository is not on this machine";
        writeln!(std::io::stderr(), "{reason}").expect("a terminal");
        return;
    }
    let mut table = HEAD.to_owned();
    for offset_s in [0, 20, 40, 60, 80] {
        for scenario in scenario::lte(&[0.5, 0.7, 0.85], offset_s).expect("recordings that parse") {
            row(&mut table, &scenario, offset_s, Classes::Unknown);
        }
    }
    for mut scenario in scenario::lte(&[0.7, 0.85], 0).expect("recordings that parse") {
        scenario.name.push_str(", keys told");
        row(&mut table, &scenario, 0, Classes::Told);
    }
    committed::settle("scoreboard/recorded.txt", &table);
}

/// No goal, a tool: 800 mixtures, the means by latency, and the lines of those furthest behind the bound. What the committed
/// tables do not have shows here: `cargo test --release -p bond --test scoreboard -- --ignored --nocapture survey`.
#[test]
#[ignore = "three minutes; prints a survey of 800 random mixtures"]
fn survey() {
    let (mut lines, mut sums) = (Vec::new(), BTreeMap::<Duration, (u32, [f64; 4])>::new());
    for seed in SURVEYED {
        let (scenario, mut line) = (scenario::mixed(seed), String::new());
        let figures = row(&mut line, &scenario, seed, Classes::Unknown);
        for key in [scenario.latency, Duration::MAX] {
            let (count, sum) = sums.entry(key).or_default();
            *count += 1;
            sum.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        }
        lines.push((figures[1] - figures[0], line));
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    print!("{HEAD}");
    lines.iter().take(WORST).for_each(|(_, line)| print!("{line}"));
    for (latency, (count, sum)) in sums {
        let latency = if latency == Duration::MAX { "all".to_owned() } else { format!("{latency:?}") };
        let [delivered, most, on_time, in_order] = sum.map(|sum| sum / f64::from(count));
        println!(
            "{latency}, {count}: delivered {delivered:.2} of {most:.2} %, on time {on_time:.2}, in order {in_order:.2}"
        );
    }
}

/// Goal: a table that is missing or differs fails until it is taken over by hand, however often it is run.
#[test]
fn a_table_is_taken_over_by_hand_only() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("committed");
    let _ = std::fs::remove_dir_all(&folder);
    let (path, new) = (folder.join("table.txt"), folder.join("table.txt.new"));
    for _ in 0..2 {
        assert_eq!(committed::compare(&path, "a\n"), Err("is not there".to_owned()));
    }
    std::fs::rename(&new, &path).unwrap();
    assert_eq!(committed::compare(&path, "a\n"), Ok(()));
    for _ in 0..2 {
        assert!(committed::compare(&path, "b\nc\n").unwrap_err().starts_with("changed in 1 lines"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n");
    }
    // As it was: what was written beside it is no more.
    assert_eq!((committed::compare(&path, "a\n"), new.exists()), (Ok(()), false));
}
