//! The messages of the bond's own extension: whatever comes, what is taken says the same when it is written again.

#[allow(dead_code)] // the bond uses the rest
#[path = "../../../bond/src/extension.rs"]
mod messages;
#[allow(dead_code)]
#[path = "../../../bond/src/fec/wire.rs"]
mod repair;

use messages::{
    Announce, Marks, RECOVERED_MAX, REPORT_LINKS_MAX, REPORT_WORDS_MAX, Report, ReportWriter, emit_clock,
    emit_recovered, parse_clock, parse_recovered,
};
use repair::{COVERED_MAX, RepairHead, SPAN_MAX};

/// Takes the bytes for each of the messages.
pub fn run(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Some(announce) = Announce::parse(bytes) {
        announce.emit(&mut again);
        assert_eq!(Announce::parse(&again), Some(announce));
    }
    again.clear();
    if let Some(rtp_time) = parse_clock(bytes) {
        emit_clock(rtp_time, &mut again);
        assert_eq!(parse_clock(&again), Some(rtp_time));
    }
    again.clear();
    let numbers: Vec<u16> = parse_recovered(bytes).collect();
    assert!(numbers.len() <= RECOVERED_MAX && numbers.len() * 2 <= bytes.len());
    emit_recovered(numbers.iter().copied(), &mut again);
    assert!(parse_recovered(&again).eq(numbers));
    again.clear();
    if let Some((head, symbol)) = RepairHead::parse(bytes) {
        let covered: Vec<u64> = head.covered().collect();
        assert!((1..=COVERED_MAX).contains(&covered.len()) && covered.iter().all(|distance| *distance < SPAN_MAX));
        head.emit(&mut again);
        again.extend_from_slice(symbol);
        assert_eq!(RepairHead::parse(&again), Some((head, symbol)));
    }
    if let Some(told) = Report::parse(bytes) {
        report(&told);
    }
}

fn report(told: &Report<'_>) {
    let mut again = Vec::new();
    let mut writer = ReportWriter::new(&mut again, told.latency_ms, told.clock_micros, told.playout);
    let links: Vec<_> = told.links().collect();
    assert!(links.len() <= REPORT_LINKS_MAX);
    for link in &links {
        assert!(writer.link(link.link, link.highest, link.held_micros, link.bytes, link.words()));
        // Bit for bit as its words say.
        for (index, word) in link.words().take(4).enumerate() {
            let there = (0..32u32).filter(|bit| link.has(1 + index as u32 * 32 + bit)).count();
            assert_eq!(there, word.count_ones() as usize);
        }
    }
    let marks: Vec<Marks> = links.iter().map(|link| link.marks).collect();
    writer.finish(&marks);
    let Some(read) = Report::parse(&again) else { panic!("what was written is no report: {again:?}") };
    assert_eq!((read.latency_ms, read.clock_micros, read.playout), (told.latency_ms, told.clock_micros, told.playout));
    assert_eq!(read.links().count(), links.len());
    for (read, told) in read.links().zip(&links) {
        assert_eq!((read.link, read.highest, read.held_micros), (told.link, told.highest, told.held_micros));
        assert_eq!((read.bytes, read.marks), (told.bytes, told.marks));
        assert!(read.words().eq(told.words().take(REPORT_WORDS_MAX)));
    }
}
