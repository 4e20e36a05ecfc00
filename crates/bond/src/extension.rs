//! The engine's own RTCP messages: APP packets named `BOND`, silently ignored by plain RIST peers.
//!
//! Both ends announce [`FEATURE`] in their keep-alives and send these only to a peer that has announced it (or has sent
//! one). Only reports prove to a sender that its peer speaks them: see `sender::far_end`. All integers are big-endian.
//!
//! **Announce**, subtype [`ANNOUNCE`], sender to receiver, tells which link a 4-tuple is:
//! version 1 (= 1), flags 1 ([`RESTS`]: nothing but keep-alive should go over the link, either way; others 0), link id 2,
//! latency ms 2, name length 1, name, zero padding to 32 bits.
//!
//! **Report**, subtype [`REPORT`], receiver to sender, tells what arrived on every link:
//! version 1 (= 1), number of links 1, latency ms 2, receiver clock us 8, playout RTP time 4, playout clock us 8
//! (0 0 before the first packet), then per link: id 2, number of bitmap words 2, highest per-link sequence 4,
//! us since its arrival 4, bytes received (wrapping) 4, bitmap words 4 each: bit i of word w set when
//! `highest - 1 - 32 w - i` has arrived. Then, if any datagram came with ECN, its counts: kind 1 (= [`MARKS`]), number of
//! links 1, zero 2, and for each link, in the order above, datagrams with ECT(1) 4 and with CE 4 (both wrapping). Peers that
//! do not know what follows the links ignore it; no datagram leaves with ECN before the receiver has announced
//! [`ECN_FEATURE`].
//!
//! **Probe**, subtype [`PROBE`], sender to receiver: zeros up to the size of datagram that is tried.
//!
//! **Clock**, subtype [`CLOCK`], sender to receiver: version 1 (= 1), zero 3, RTP time 4 of media that is handed to the
//! sender just now. Media itself may wait at the sender for links; this shows what the fastest path takes.
//!
//! **Recovered**, subtype [`RECOVERED`], receiver to sender beside a report, tells which packets came out of repair packets
//! lately: version 1 (= 1), count 1, sequence numbers 2 each, zero padding to 32 bits.

use units::{Ecn, LinkId};

/// Name of the feature in the keep-alive's vendor JSON.
pub const FEATURE: &str = "bond-report-1";
/// Name of the feature that reports count ECN marks.
pub const ECN_FEATURE: &str = "bond-ecn-1";
/// Name of the APP packets.
pub const NAME: [u8; 4] = *b"BOND";
/// Subtype of an announcement.
pub const ANNOUNCE: u8 = 8;
/// Subtype of a report.
pub const REPORT: u8 = 9;
/// Subtype of a path-MTU probe: zeros only, read by nobody; its per-link number tells that it arrived.
pub const PROBE: u8 = 10;
/// Subtype of the list of recovered packets.
pub const RECOVERED: u8 = 11;
/// Subtype of the sender's media clock.
pub const CLOCK: u8 = 12;
/// Packets named in one list.
pub const RECOVERED_MAX: usize = 128;
/// Links told of in one report.
pub const REPORT_LINKS_MAX: usize = 16;
/// Bitmap words per link in one report.
pub const REPORT_WORDS_MAX: usize = 24;
/// Bytes of a link's name that travel.
pub const NAME_BYTES_MAX: usize = 64;

/// Kind of the block of ECN counts behind the links of a report.
const MARKS: u8 = 1;
const MARKS_HEAD: usize = 4;
const LINK_MARKS: usize = 8;
const VERSION: u8 = 1;
/// Flag of an announcement: the link costs, and is not used.
const RESTS: u8 = 1;
const REPORT_HEAD: usize = 24;
const LINK_HEAD: usize = 16;

/// Which link a 4-tuple belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announce<'a> {
    pub link: LinkId,
    pub latency_ms: u16,
    /// It is not used now, and each byte of it costs.
    pub rests: bool,
    pub name: &'a str,
}

impl<'a> Announce<'a> {
    /// `None` for anything malformed or of another version.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let (head, rest) = body.split_at_checked(7)?;
        if head[0] != VERSION {
            return None;
        }
        let name = rest.get(..usize::from(head[6]).min(NAME_BYTES_MAX))?;
        Some(Self {
            link: LinkId(u16::from_be_bytes([head[2], head[3]])),
            latency_ms: u16::from_be_bytes([head[4], head[5]]),
            rests: head[1] & RESTS != 0,
            name: std::str::from_utf8(name).ok()?,
        })
    }

    pub(crate) fn emit(&self, body: &mut Vec<u8>) {
        let mut end = self.name.len().min(NAME_BYTES_MAX);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        body.extend_from_slice(&[VERSION, if self.rests { RESTS } else { 0 }]);
        body.extend_from_slice(&self.link.0.to_be_bytes());
        body.extend_from_slice(&self.latency_ms.to_be_bytes());
        body.push(end as u8);
        body.extend_from_slice(&self.name.as_bytes()[..end]);
        body.resize(body.len().next_multiple_of(4), 0);
    }
}

/// The RTP time of a media clock; `None` for anything malformed or of another version.
pub(crate) fn parse_clock(body: &[u8]) -> Option<u32> {
    match body {
        [VERSION, _, _, _, rest @ ..] => rest.first_chunk().copied().map(u32::from_be_bytes),
        _ => None,
    }
}

/// Writes a media clock.
pub(crate) fn emit_clock(rtp_time: u32, body: &mut Vec<u8>) {
    body.extend_from_slice(&[VERSION, 0, 0, 0]);
    body.extend_from_slice(&rtp_time.to_be_bytes());
}

/// The sequence numbers of a list of recovered packets; empty for anything malformed or of another version.
pub(crate) fn parse_recovered(body: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let (count, numbers) = match body {
        [VERSION, count, numbers @ ..] => (usize::from(*count).min(RECOVERED_MAX), numbers),
        _ => (0, body),
    };
    numbers.chunks_exact(2).take(count).map(|number| u16::from_be_bytes([number[0], number[1]]))
}

/// Writes a list of recovered packets, at most [`RECOVERED_MAX`].
pub(crate) fn emit_recovered(numbers: impl ExactSizeIterator<Item = u16>, body: &mut Vec<u8>) {
    body.extend_from_slice(&[VERSION, numbers.len().min(RECOVERED_MAX) as u8]);
    for number in numbers.take(RECOVERED_MAX) {
        body.extend_from_slice(&number.to_be_bytes());
    }
    body.resize(body.len().next_multiple_of(4), 0);
}

/// When the receiver plays what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Playout {
    /// A packet with this RTP time
    pub rtp_time: u32,
    /// is delivered at this time of the receiver's clock, in microseconds.
    pub clock_micros: u64,
}

/// Datagrams that came with ECN, wrapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// As ECT(1), the way they had left.
    pub ect: u32,
    /// As CE: a node had a queue.
    pub ce: u32,
}

impl Marks {
    /// Counts a datagram.
    pub(crate) fn count(&mut self, ecn: Ecn) {
        match ecn {
            Ecn::Ect1 => self.ect = self.ect.wrapping_add(1),
            Ecn::Ce => self.ce = self.ce.wrapping_add(1),
            Ecn::NotEct | Ecn::Ect0 => {}
        }
    }

    /// Adds what another address of the link counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.ect = self.ect.wrapping_add(other.ect);
        self.ce = self.ce.wrapping_add(other.ce);
    }
}

/// What arrived on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkReport<'a> {
    pub link: LinkId,
    pub highest: u32,
    pub held_micros: u32,
    pub bytes: u32,
    /// Nothing when the report tells nothing of it.
    pub marks: Marks,
    words: &'a [u8],
}

impl<'a> LinkReport<'a> {
    /// True when the number `back` (from 1) below the highest has arrived, as far as the report tells.
    pub(crate) fn has(&self, back: u32) -> bool {
        let bit = back.saturating_sub(1);
        self.words().nth((bit / 32) as usize).is_some_and(|word| back > 0 && word >> (bit % 32) & 1 == 1)
    }

    /// The bitmap, word by word.
    pub(crate) fn words(&self) -> impl Iterator<Item = u32> + 'a {
        self.words.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
    }
}

/// What arrived at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report<'a> {
    pub latency_ms: u16,
    pub clock_micros: u64,
    pub playout: Option<Playout>,
    links: u8,
    body: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

impl<'a> Report<'a> {
    /// `None` for anything malformed or of another version.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let (head, rest) = body.split_at_checked(REPORT_HEAD)?;
        if head[0] != VERSION {
            return None;
        }
        let playout = Playout { rtp_time: u32_at(head, 12), clock_micros: u64_at(head, 16) };
        Some(Self {
            latency_ms: u16::from_be_bytes([head[2], head[3]]),
            clock_micros: u64_at(head, 4),
            playout: (playout.clock_micros != 0).then_some(playout),
            links: head[1],
            body: rest,
        })
    }

    /// The links told of, at most [`REPORT_LINKS_MAX`]; stops at the first that is cut short.
    pub(crate) fn links(&self) -> impl Iterator<Item = LinkReport<'a>> + 'a {
        let mut rest = self.body;
        let marks = self.marks();
        (0..usize::from(self.links).min(REPORT_LINKS_MAX)).map_while(move |index| {
            let (head, words, tail) = split_link(rest)?;
            rest = tail;
            let marks = marks.get(index * LINK_MARKS..(index + 1) * LINK_MARKS);
            Some(LinkReport {
                marks: marks.map_or(Marks::default(), |marks| Marks { ect: u32_at(marks, 0), ce: u32_at(marks, 4) }),
                link: LinkId(u16::from_be_bytes([head[0], head[1]])),
                highest: u32_at(head, 4),
                held_micros: u32_at(head, 8),
                bytes: u32_at(head, 12),
                words,
            })
        })
    }

    /// The ECN counts of the links, [`LINK_MARKS`] bytes each; empty when there are none or they are cut short.
    fn marks(&self) -> &'a [u8] {
        let mut rest = self.body;
        for _ in 0..usize::from(self.links).min(REPORT_LINKS_MAX) {
            let Some((_, _, tail)) = split_link(rest) else { return &[] };
            rest = tail;
        }
        match rest.split_at_checked(MARKS_HEAD) {
            Some(([MARKS, links, ..], counts)) if *links == self.links => {
                counts.get(..usize::from(*links) * LINK_MARKS).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// A link's head, its bitmap words, and what follows.
fn split_link(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, tail) = bytes.split_at_checked(LINK_HEAD)?;
    let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let (words, tail) = tail.split_at_checked(words * 4)?;
    Some((head, words, tail))
}

/// Writes a report.
#[derive(Debug)]
pub(crate) struct ReportWriter<'a> {
    body: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> ReportWriter<'a> {
    pub(crate) fn new(body: &'a mut Vec<u8>, latency_ms: u16, clock_micros: u64, playout: Option<Playout>) -> Self {
        let start = body.len();
        let playout = playout.unwrap_or(Playout { rtp_time: 0, clock_micros: 0 });
        body.extend_from_slice(&[VERSION, 0]);
        body.extend_from_slice(&latency_ms.to_be_bytes());
        body.extend_from_slice(&clock_micros.to_be_bytes());
        body.extend_from_slice(&playout.rtp_time.to_be_bytes());
        body.extend_from_slice(&playout.clock_micros.to_be_bytes());
        Self { body, start }
    }

    /// Adds a link; false when the report is full.
    pub(crate) fn link(
        &mut self,
        link: LinkId,
        highest: u32,
        held_micros: u32,
        bytes: u32,
        words: impl Iterator<Item = u32>,
    ) -> bool {
        if usize::from(self.body[self.start + 1]) >= REPORT_LINKS_MAX {
            return false;
        }
        self.body[self.start + 1] += 1;
        let head = self.body.len();
        self.body.extend_from_slice(&link.0.to_be_bytes());
        self.body.extend_from_slice(&[0, 0]);
        self.body.extend_from_slice(&highest.to_be_bytes());
        self.body.extend_from_slice(&held_micros.to_be_bytes());
        self.body.extend_from_slice(&bytes.to_be_bytes());
        let mut count = 0u16;
        for word in words.take(REPORT_WORDS_MAX) {
            self.body.extend_from_slice(&word.to_be_bytes());
            count += 1;
        }
        self.body[head + 2..head + 4].copy_from_slice(&count.to_be_bytes());
        true
    }

    /// Ends the report with the ECN counts of its links, in the order they were added, if there is anything to tell.
    pub(crate) fn finish(self, marks: &[Marks]) {
        let links = self.body[self.start + 1];
        if marks.len() != usize::from(links) || marks.iter().all(|marks| *marks == Marks::default()) {
            return;
        }
        self.body.extend_from_slice(&[MARKS, links, 0, 0]);
        for Marks { ect, ce } in marks {
            self.body.extend_from_slice(&ect.to_be_bytes());
            self.body.extend_from_slice(&ce.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_announcement_survives_the_wire() {
        for name in ["", "a", "modem-1", "ü".repeat(40).as_str()] {
            let mut body = Vec::new();
            Announce { link: LinkId(513), latency_ms: 1000, rests: false, name }.emit(&mut body);
            assert_eq!(body.len() % 4, 0);
            let parsed = Announce::parse(&body).unwrap();
            assert_eq!((parsed.link, parsed.latency_ms), (LinkId(513), 1000));
            assert!(name.starts_with(parsed.name) && parsed.name.len() + 2 > name.len().min(NAME_BYTES_MAX));
        }
    }

    #[test]
    fn a_report_survives_the_wire() {
        let playout = Some(Playout { rtp_time: 0xfedc_ba98, clock_micros: 0x0123_4567_89ab });
        let mut body = Vec::new();
        let mut writer = ReportWriter::new(&mut body, 800, u64::MAX - 1, playout);
        assert!(writer.link(LinkId(3), 77, 1_500, u32::MAX, [5u32, 0x8000_0000].into_iter()));
        assert!(writer.link(LinkId(9), 1, 0, 4, std::iter::empty()));
        let report = Report::parse(&body).unwrap();
        assert_eq!((report.latency_ms, report.clock_micros, report.playout), (800, u64::MAX - 1, playout));
        let links: Vec<_> = report.links().collect();
        assert_eq!(links.len(), 2);
        assert_eq!((links[0].link, links[0].highest, links[0].held_micros), (LinkId(3), 77, 1_500));
        assert_eq!((links[0].bytes, links[0].words().collect::<Vec<_>>()), (u32::MAX, vec![5, 0x8000_0000]));
        let there: Vec<u32> = (0..100).filter(|back| links[0].has(*back)).collect();
        assert_eq!(there, [1, 3, 64]);
        assert_eq!(links[1].words().count(), 0);
    }

    #[test]
    fn a_report_takes_no_more_links_than_it_may() {
        let mut body = Vec::new();
        let mut writer = ReportWriter::new(&mut body, 1, 1, None);
        let taken = (0..40).filter(|i| writer.link(LinkId(*i), 0, 0, 0, std::iter::repeat(1))).count();
        assert_eq!(taken, REPORT_LINKS_MAX);
        assert_eq!(Report::parse(&body).unwrap().links().count(), REPORT_LINKS_MAX);
        assert_eq!(Report::parse(&body).unwrap().playout, None);
    }

    #[test]
    fn only_counts_that_tell_something_travel() {
        let write = |marks: &[Marks]| {
            let mut body = Vec::new();
            let mut writer = ReportWriter::new(&mut body, 1, 1, None);
            writer.link(LinkId(1), 5, 0, 0, [7u32].into_iter());
            writer.link(LinkId(2), 5, 0, 0, std::iter::empty());
            writer.finish(marks);
            body
        };
        let plain = write(&[]);
        assert_eq!(write(&[Marks::default(); 2]), plain, "nothing is said of nothing");
        let told = [Marks { ect: 3, ce: 0 }, Marks { ect: 0, ce: u32::MAX }];
        let body = write(&told);
        assert!(body.len() == plain.len() + 20 && body.starts_with(&plain), "an older peer reads what it did before");
        assert!(Report::parse(&body).unwrap().links().map(|link| link.marks).eq(told));
        // Cut short anywhere, the counts are gone and the links are not.
        for length in plain.len()..body.len() {
            let report = Report::parse(&body[..length]).unwrap();
            assert!(report.links().map(|link| link.marks).eq([Marks::default(); 2]), "{length}");
        }
    }

    #[test]
    fn a_list_of_recovered_packets_survives_the_wire() {
        for count in [0u16, 1, 2, 128, 300] {
            let mut body = Vec::new();
            emit_recovered((0..count).map(|i| i * 200), &mut body);
            assert_eq!(body.len() % 4, 0);
            assert!(parse_recovered(&body).eq((0..count.min(128)).map(|i| i * 200)));
        }
        assert_eq!(parse_recovered(&[2, 1, 0, 7]).count(), 0);
        assert_eq!(parse_recovered(&[1, 200, 0, 7]).collect::<Vec<_>>(), [7]);
    }

    proptest! {
        #[test]
        fn counts_survive_the_wire(
            links in proptest::collection::vec((any::<u32>(), 0..30usize, any::<u32>(), any::<u32>()), 0..20)
        ) {
            let mut body = Vec::new();
            let mut writer = ReportWriter::new(&mut body, 1, 1, None);
            let mut told = Vec::new();
            for (index, (highest, words, ect, ce)) in links.iter().enumerate() {
                if writer.link(LinkId(index as u16), *highest, 0, 0, std::iter::repeat_n(*ce, *words)) {
                    told.push(Marks { ect: *ect, ce: *ce });
                }
            }
            writer.finish(&told);
            prop_assert_eq!(body.len() % 4, 0);
            let report = Report::parse(&body).unwrap();
            prop_assert!(report.links().map(|link| link.marks).eq(told));
            let read = report.links().map(|link| (link.highest, link.words().count()));
            let written = links.iter().map(|link| (link.0, link.1.min(REPORT_WORDS_MAX)));
            prop_assert!(read.eq(written.take(REPORT_LINKS_MAX)));
        }

        #[test]
        fn announcements_survive_the_wire(link: u16, latency_ms: u16, rests: bool, name in "\\PC{0,40}") {
            let mut body = Vec::new();
            Announce { link: LinkId(link), latency_ms, rests, name: &name }.emit(&mut body);
            prop_assert!(body.len().is_multiple_of(4));
            let parsed = Announce::parse(&body).unwrap();
            prop_assert_eq!((parsed.link, parsed.latency_ms, parsed.rests), (LinkId(link), latency_ms, rests));
            // Cut at a character, not shorter than need be.
            prop_assert!(name.starts_with(parsed.name) && parsed.name.len() <= NAME_BYTES_MAX);
            prop_assert!(parsed.name == name || parsed.name.len() + 4 > NAME_BYTES_MAX);
            body[0] = body[0].wrapping_add(1);
            prop_assert_eq!(Announce::parse(&body), None, "another version");
        }

        #[test]
        fn clocks_survive_the_wire(rtp_time: u32, tail in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut body = Vec::new();
            emit_clock(rtp_time, &mut body);
            prop_assert!(body.len().is_multiple_of(4));
            prop_assert_eq!(parse_clock(&body[..body.len() - 1]), None, "cut");
            body.extend(tail);
            prop_assert_eq!(parse_clock(&body), Some(rtp_time));
            body[0] = body[0].wrapping_add(1);
            prop_assert_eq!(parse_clock(&body), None, "another version");
        }

        #[test]
        fn lists_of_recovered_packets_survive_the_wire(numbers in proptest::collection::vec(any::<u16>(), 0..300)) {
            let mut body = Vec::new();
            emit_recovered(numbers.iter().copied(), &mut body);
            prop_assert!(body.len().is_multiple_of(4));
            prop_assert!(parse_recovered(&body).eq(numbers.iter().copied().take(RECOVERED_MAX)));
            body[0] = body[0].wrapping_add(1);
            prop_assert_eq!(parse_recovered(&body).count(), 0, "another version");
        }

        #[test]
        fn no_bytes_can_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Announce::parse(&bytes);
            prop_assert!(parse_recovered(&bytes).count() <= RECOVERED_MAX);
            if let Some(report) = Report::parse(&bytes) {
                prop_assert!(report.links().map(|link| link.words().count()).sum::<usize>() <= 50);
            }
        }
    }
}
