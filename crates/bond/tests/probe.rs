mod simulation;
use simulation::{load, scenario, score};
use std::time::Duration;
#[test]
fn bounds() {
    for offset in [0, 20, 40, 60, 80] {
        for s in scenario::lte(&[0.7, 0.85], offset).unwrap() {
            let items = load::video(s.bps, s.seconds);
            for g in [200, 50, 30, 0] {
                let b = scenario::bound(&s, &items, Duration::from_millis(g));
                println!("{} {offset} grace {g}: {:.2} {:.2}", s.name, b.0, b.1);
            }
        }
    }
    let s = scenario::constant().into_iter().find(|s| s.name.starts_with("08")).unwrap();
    let items = load::video(s.bps, s.seconds);
    for g in [200, 50, 30, 20, 0] {
        let b = scenario::bound(&s, &items, Duration::from_millis(g));
        println!("{} grace {g}: {:.2} {:.2}", s.name, b.0, b.1);
    }
}
fn lost(s: &scenario::Scenario, seed: u64) {
    let items = load::video(s.bps, s.seconds);
    let (got, sim) = score::run(s.latency, &s.paths, &items, seed, score::Classes::Unknown);
    println!("{} {got:?}", s.name);
    let mut arrival = vec![None; items.len()];
    for (at, d) in &sim.delivered {
        arrival[load::number(&d.bytes) as usize] = Some(*at);
    }
    let all: Vec<_> =
        items.iter().zip(&arrival).filter(|(i, _)| i.at >= units::Timestamp::ZERO + score::WARM_UP).collect();
    for f in all.chunk_by(|a, b| a.0.frame == b.0.frame) {
        let miss = f.iter().filter(|x| x.1.is_none()).count();
        if miss > 0 {
            println!(
                "frame {} at {:.3} s: {miss} of {} missing key {}",
                f[0].0.frame,
                f[0].0.at.as_micros() as f64 / 1e6,
                f.len(),
                f[0].0.key
            );
        }
    }
    for e in &sim.sender_events {
        println!("{:.3} {:?}", e.at.as_micros() as f64 / 1e6, e.cause);
    }
}
#[test]
fn all_out() {
    let s = scenario::constant().into_iter().find(|s| s.name.starts_with("08")).unwrap();
    lost(&s, 1);
}
#[test]
fn lte70() {
    lost(&scenario::lte(&[0.7], 0).unwrap()[0], 0);
}
fn trace(s: &scenario::Scenario, seed: u64, from: f64, to: f64, adaptive: bool) {
    use bond::config::*;
    let items = load::video(s.bps, s.seconds);
    let sender = SenderConfig { latency: s.latency, ..Default::default() };
    let receiver = ReceiverConfig { latency: s.latency, ..Default::default() };
    let mut sim = simulation::Simulation::new(sender, receiver, &s.paths, seed);
    let mut i = 0;
    let step = 100;
    let mut before: Vec<u64> = vec![0; s.paths.len()];
    let (mut cap_sum, mut out_sum) = (0.0, 0.0);
    let mut late0 = (0, 0, 0);
    for ms in (0..(s.seconds * 1e3) as u64).step_by(step as usize) {
        let (a, b) = (units::Timestamp::from_millis(ms), units::Timestamp::from_millis(ms + step));
        let _ = adaptive;
        while let Some(item) = items.get(i).filter(|i| i.at < b) {
            sim.run_until(item.at);
            sim.push(load::payload(item.number), bond::PacketClass::Video);
            i += 1;
        }
        sim.run_until(b);
        let snap = sim.sender.snapshot(b);
        let rs = sim.receiver.snapshot(sim.clock.local(b));
        let show = ms as f64 >= from * 1e3 && (ms as f64) < to * 1e3;
        let mut line = format!(
            "{:6.1} wait {:4.0} drop {:3} late {:3} lost {:3} |",
            ms as f64 / 1e3,
            snap.queued_ms,
            snap.dropped_packets - late0.0,
            rs.late_packets - late0.1,
            rs.lost_packets - late0.2
        );
        late0 = (snap.dropped_packets, rs.late_packets, rs.lost_packets);
        for (k, path) in sim.paths.iter().enumerate() {
            let cap = path.up().capacity_between(a, b).unwrap();
            let passed = path.up().stats().passed_bytes.as_u64() - path.up().queued_bytes().as_u64();
            let out = passed - before[k];
            before[k] = passed;
            let l = &snap.links[k];
            if show {
                cap_sum += cap;
                out_sum += out as f64;
            }
            let after = |ms| path.up().capacity_between(b, b + Duration::from_millis(ms)).unwrap();
            let q = path.up().queued_bytes().as_u64() as f64;
            let drain = (0..3000).step_by(10).find(|ms| after(*ms) >= q).unwrap_or(9999);
            line += &format!(
                " {:5.0}/{:5.0} est {:5.0} q {:4} seen {:4.0} inf {:4} {:?} |",
                out as f64 * 8.0 / step as f64,
                cap * 8.0 / step as f64,
                l.capacity.as_bps() as f64 / 1e3,
                drain,
                l.queue_delay_ms,
                l.in_flight_packets,
                l.state
            );
        }
        if show {
            println!("{line}");
        }
    }
    println!("used {:.1} %", 100.0 * out_sum / cap_sum);
}
#[test]
fn trace_lte() {
    trace(&scenario::lte(&[0.7], 0).unwrap()[0], 0, 9.0, 15.0, false);
}
#[test]
fn totals() {
    for offset in [0, 20, 40] {
        for s in scenario::lte(&[0.7, 0.85], offset).unwrap() {
            let items = load::video(s.bps, s.seconds);
            let (got, sim) = score::run(s.latency, &s.paths, &items, offset, score::Classes::Unknown);
            let n = sim.sender.snapshot(sim.now);
            let r = sim.receiver.snapshot(sim.clock.local(sim.now));
            println!(
                "{} {offset}: {:.2} {:.2} in {} sent {} retr {} copies {} dropped {} lost-on-links {} | recv {} late {} dup {} lost {}",
                s.name,
                got.delivered_percent,
                got.frames_on_time_percent,
                n.packets_in,
                n.links.iter().map(|l| l.packets_sent).sum::<u64>(),
                n.retransmits,
                n.copies,
                n.dropped_packets,
                n.links.iter().map(|l| l.packets_lost).sum::<u64>(),
                r.delivered_packets,
                r.late_packets,
                r.duplicates,
                r.lost_packets
            );
        }
    }
}
