//! RTCP of the receiving end: answers, requests for missing packets, reports of what arrived.

use bytes::Bytes;
use rist::psk::Ownership;
use rist::wire::lqm::Lqm;
use rist::wire::rtcp::{
    App, BitmaskEntry, Echo, EchoKind, NACK_ENTRIES_MAX, NackBitmask, NackRange, RangeEntry, ReceiverReport,
    RtcpPacket, Sdes, packets,
};
use std::cmp::Reverse;
use std::time::Duration;
use units::Timestamp;

use super::flow::{AskPolicy, FlowId};
use super::newcomers::Standing;
use super::peer::Peer;
use super::{Channel, Receiver, ReceiverOutput};
use crate::agreed_latency::told_ms;
use crate::config::{Extension, Profile};
use crate::extension::{
    ANNOUNCE, Announce, CLOCK, NAME, Playout, RECOVERED, REPORT, REPORT_LINKS_MAX, REPORT_WORDS_MAX, ReportWriter,
    emit_recovered, parse_clock,
};

/// RTCP interval (TR-06-1: at most 100 ms).
const INTERVAL: Duration = Duration::from_millis(100);
/// The same on a link that rests.
const INTERVAL_RESTS: Duration = Duration::from_millis(1500);
/// The next attempt where nothing may be sent, because too little was received.
const INTERVAL_WITHOUT_CREDIT: Duration = Duration::from_millis(20);
/// Bytes of an echo request with its framing, which prove more than a keep-alive does.
const ECHO_BYTES: usize = 80;
/// Time between reports while packets arrive: a part of the latency, because nothing is sent again before a report tells of
/// its loss, and within these limits.
const REPORT_SHARE: u32 = 15;
const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(10);
const REPORT_INTERVAL_MAX: Duration = Duration::from_millis(20);
/// A report is made sooner once so many numbers have passed on a link: a third of what one report can tell of, so that two may
/// be lost. At the cadence that is a link of 134 Mbit/s.
pub(super) const REPORT_NUMBERS: u64 = (REPORT_WORDS_MAX as u64) * 32 / 3;
/// What came on a link that has been silent for so long is told no more: nobody could use it within the longest latency.
const TOLD_FOR: Duration = Duration::from_secs(10);
/// Links over which each report goes.
const REPORT_PATHS: usize = 2;
/// Packets asked for at one look; the others are asked for at the next.
const WANTED_MAX: usize = 400;
/// A compound of so many bytes takes no more requests: one message behind it fits any path, and what is too large for its path
/// is lost, each time it is repeated.
const REQUESTS_BYTES: usize = 900;
/// A gap on a single path is closed by reordering within this time at least.
const PATIENCE_MIN: Duration = Duration::from_millis(15);
const PATIENCE_MAX: Duration = Duration::from_millis(200);
/// Requests for the same packet are at least this far apart.
const REPEAT_MIN: Duration = Duration::from_millis(30);
const REPEAT_MAX: Duration = Duration::from_millis(500);
/// An echo answered later than this tells nothing.
const ECHO_AGE_MAX: u64 = 10_000_000;
/// Keep-alives when we call.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Time between reports while packets arrive.
pub(super) fn report_interval(latency: Duration) -> Duration {
    (latency / REPORT_SHARE).clamp(REPORT_INTERVAL_MIN, REPORT_INTERVAL_MAX)
}

impl Receiver {
    /// Sends what is due; returns when the next is.
    pub(super) fn run_control(&mut self, now: Timestamp) -> Timestamp {
        let mut next = Timestamp::MAX;
        for index in 0..self.peers.len() {
            while let Some((datagram, _)) = self.peers[index].framing.control(now) {
                self.transmit(index, Channel::Media, datagram);
            }
            if self.peers[index].next_keep_alive <= now {
                self.peers[index].next_keep_alive = now + KEEP_ALIVE_INTERVAL;
                self.answer_keep_alive(now, index);
            }
            let peer = &self.peers[index];
            if !(peer.called || peer.is_live(now)) {
                continue;
            }
            if peer.next_rtcp <= now && peer.control.is_some() {
                let echo = Echo { ssrc: peer.echo_ssrc, timestamp: now.as_micros(), ..Echo::default() };
                let port = peer.flow.map(|flow| flow.port);
                self.begin_compound();
                echo.emit(EchoKind::Request, &mut self.scratch);
                let sent = self.send_compound(now, index, port);
                if sent {
                    self.peers[index].way_back.ask(now.as_micros());
                }
                let after = match sent {
                    false => INTERVAL_WITHOUT_CREDIT,
                    true if self.peers[index].rests(now) => INTERVAL_RESTS,
                    true => INTERVAL,
                };
                self.peers[index].next_rtcp = now + after;
            }
            let peer = &self.peers[index];
            if peer.control.is_some() {
                next = next.min(peer.next_rtcp).min(peer.next_keep_alive);
            }
        }
        next
    }

    /// Takes RTCP of a peer.
    pub(super) fn take_compound(&mut self, now: Timestamp, index: usize, port: u16, compound: &[u8]) {
        for packet in packets(compound).filter_map(Result::ok) {
            match packet {
                RtcpPacket::EchoRequest(echo) => {
                    self.begin_compound();
                    echo.response(0).emit(EchoKind::Response, &mut self.scratch);
                    self.send_compound(now, index, Some(port));
                }
                RtcpPacket::EchoResponse(echo) => {
                    let peer = &mut self.peers[index];
                    let age = now.as_micros().wrapping_sub(echo.timestamp);
                    let delay = u64::from(echo.processing_delay_us);
                    if echo.ssrc == peer.echo_ssrc && age <= ECHO_AGE_MAX && delay <= age {
                        peer.answered_at = Some(now);
                        peer.way_back.answer(echo.timestamp);
                        peer.framing.vouch(now);
                        peer.rtt.push(now, age - delay);
                    }
                }
                RtcpPacket::Sdes(sdes) if !self.peers[index].named => {
                    self.peers[index].name = String::from_utf8_lossy(sdes.cname).into_owned();
                }
                RtcpPacket::App(App { name: NAME, subtype: ANNOUNCE, ssrc, body })
                    if self.config.extension == Extension::Offer =>
                {
                    if let Some(announce) = Announce::parse(body) {
                        self.peers[index].extension = true;
                        let flow = FlowId { port, ssrc: ssrc & !1 };
                        self.adopt_link(now, index, flow, announce.link, announce.name);
                        let peer = &mut self.peers[index];
                        if peer.owner == Ownership::Peer && (peer.link, peer.flow) == (Some(announce.link), Some(flow))
                        {
                            peer.let_rest(now, announce.rests);
                        }
                        self.compare_latency(now, flow, announce.latency_ms);
                    }
                }
                RtcpPacket::App(App { name: NAME, subtype: CLOCK, ssrc, body })
                    if self.config.extension == Extension::Offer =>
                {
                    if let Some(rtp_time) = parse_clock(body) {
                        self.on_clock(now, index, FlowId { port, ssrc: ssrc & !1 }, rtp_time);
                    }
                }
                _ => {}
            }
        }
    }

    /// The sender of a flow tells its latency.
    fn compare_latency(&mut self, now: Timestamp, id: FlowId, theirs_ms: u16) {
        let ours = self.config.latency;
        let flow = self.flows.iter_mut().find(|flow| flow.id == id);
        if let Some(cause) = flow.and_then(|flow| flow.agreed.hear(now, ours, theirs_ms)) {
            self.note(now, cause);
        }
    }

    /// Takes the media clock of a flow, of which nothing may have arrived yet. Who has not shown that he hears us does not
    /// move a playout that runs.
    fn on_clock(&mut self, now: Timestamp, index: usize, flow: FlowId, rtp_time: u32) {
        if self.peers[index].flow != Some(flow) {
            return;
        }
        match self.flows.iter_mut().find(|known| known.id == flow) {
            Some(known) if self.peers[index].standing > Standing::HalfOpen => known.playout.hear(now, rtp_time),
            Some(_) => {}
            None => self.peers[index].clock = Some((now, flow, rtp_time)),
        }
    }

    /// Tells the peer that its link is closed; false when it was told often enough, or may not be sent so much.
    pub(super) fn say_goodbye(&mut self, now: Timestamp, index: usize) -> bool {
        let peer = &mut self.peers[index];
        if !peer.farewell.says() {
            return false;
        }
        let Some(datagram) = peer.framing.goodbye(now) else { return false };
        self.transmit(index, Channel::Media, datagram)
    }

    /// Answers with our own capabilities.
    pub(super) fn answer_keep_alive(&mut self, now: Timestamp, index: usize) {
        if let Some((datagram, _)) = self.peers[index].framing.keep_alive(now)
            && self.may_send(index, datagram.len() + ECHO_BYTES)
        {
            self.transmit(index, Channel::Media, datagram);
        }
    }

    /// Asks for what is missing: first over the nearest of the peers heard most recently, each time after over the next
    /// one. The nearest may be an address that a NAT has given up, and some senders repeat only on the link that a packet
    /// was first sent on.
    pub(super) fn ask_for_missing(&mut self, now: Timestamp) {
        for index in 0..self.flows.len() {
            let id = self.flows[index].id;
            let mut live: Vec<usize> =
                (0..self.peers.len()).filter(|i| self.peers[*i].serves(id) && self.peers[*i].is_live(now)).collect();
            self.spare(now, &mut live);
            live.sort_by_key(|i| self.peers[*i].nearness(now));
            let Some(&best) = live.first() else { continue };
            let slowest = live.iter().map(|i| self.peers[*i].round_trip()).max().unwrap_or_default();
            let extension = live.iter().any(|i| self.peers[*i].extension);
            let latency = self.flows[index].latency(self.config.latency);
            let policy = self.ask_policy(self.peers[best].round_trip(), slowest, extension.then_some(latency));
            self.wanted.clear();
            self.flows[index].ask(now, latency, &policy, WANTED_MAX, &mut self.wanted);
            let wanted = std::mem::take(&mut self.wanted);
            for (turn, &path) in live.iter().enumerate() {
                let of_turn = wanted.iter().filter(|(_, asked)| usize::from(*asked) % live.len() == turn);
                let numbers = of_turn.map(|(sequence, _)| *sequence);
                let (ours, port) = (self.ssrc, id.port);
                match self.config.profile {
                    Profile::Main => self.request(now, path, port, RangeEntry::cover(numbers), |entries, out| {
                        NackRange::emit(id.ssrc, entries, out);
                    }),
                    // GStreamer takes ranges on the first of several links only, bitmasks on all.
                    Profile::Simple => self.request(now, path, port, BitmaskEntry::cover(numbers), |entries, out| {
                        NackBitmask::emit(ours, id.ssrc, entries, out);
                    }),
                }
            }
            self.wanted = wanted;
        }
    }

    /// Sends `entries`, which `emit` writes as one message each [`NACK_ENTRIES_MAX`], in as many compounds as they need.
    fn request<T>(
        &mut self,
        now: Timestamp,
        path: usize,
        port: u16,
        entries: impl Iterator<Item = T>,
        emit: impl Fn(&mut dyn Iterator<Item = T>, &mut Vec<u8>),
    ) {
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            self.begin_compound();
            while entries.peek().is_some() && self.scratch.len() < REQUESTS_BYTES {
                emit(&mut entries.by_ref().take(NACK_ENTRIES_MAX), &mut self.scratch);
            }
            self.send_compound(now, path, Some(port));
        }
    }

    /// Leaves out what rests, for it costs, unless it may be the only way back.
    fn spare(&self, now: Timestamp, paths: &mut Vec<usize>) {
        if paths.iter().any(|i| !self.peers[*i].rests(now) && self.peers[*i].hears(now)) {
            paths.retain(|i| !self.peers[*i].rests(now));
        }
    }

    /// `extension` is the latency where the sender learns of losses from reports.
    fn ask_policy(&self, fastest: Duration, slowest: Duration, extension: Option<Duration>) -> AskPolicy {
        let repeat = (fastest * 11 / 10).clamp(REPEAT_MIN, REPEAT_MAX);
        let hopeless = fastest / 2;
        let patience = self.config.reorder.unwrap_or((slowest / 2).clamp(PATIENCE_MIN, PATIENCE_MAX));
        // A request is the net below the reports.
        let within = extension.map(|latency| (fastest * 2 + Duration::from_millis(50)).max(latency / 4));
        AskPolicy { patience, repeat, hopeless, within }
    }

    /// Tells every sender that speaks the extension what arrived on its links, over the two where that gets
    /// there first, what is lost on the way back considered.
    pub(super) fn send_reports(&mut self, now: Timestamp) {
        let mut told: Vec<FlowId> = Vec::new();
        for index in 0..self.peers.len() {
            let peer = &self.peers[index];
            let Some(flow) = peer.flow.filter(|flow| peer.extension && peer.link.is_some() && !told.contains(flow))
            else {
                continue;
            };
            told.push(flow);
            let body = self.write_report(now, flow);
            let mut recovered = Vec::new();
            if let Some(known) = self.flows.iter_mut().find(|known| known.id == flow) {
                let numbers = known.repair.told(now);
                if numbers.len() > 0 {
                    emit_recovered(numbers, &mut recovered);
                }
            }
            let mut paths: Vec<usize> = (0..self.peers.len())
                .filter(|i| self.peers[*i].flow == Some(flow) && self.peers[*i].control.is_some())
                .filter(|i| self.peers[*i].extension && self.peers[*i].closed.is_none())
                .collect();
            self.spare(now, &mut paths);
            paths.sort_by_key(|i| self.peers[*i].report_nearness(now));
            for path in paths.into_iter().take(REPORT_PATHS) {
                self.begin_compound();
                App { subtype: REPORT, ssrc: self.ssrc, name: NAME, body: &body }.emit(&mut self.scratch);
                if !recovered.is_empty() {
                    App { subtype: RECOVERED, ssrc: self.ssrc, name: NAME, body: &recovered }.emit(&mut self.scratch);
                }
                self.send_compound(now, path, Some(flow.port));
            }
        }
    }

    fn write_report(&mut self, now: Timestamp, flow: FlowId) -> Vec<u8> {
        let latency = self.config.latency;
        let playout = self.flows.iter().find(|known| known.id == flow).and_then(|known| {
            let (rtp_time, media) = known.playout.reference()?;
            Some(Playout { rtp_time, clock_micros: known.playout.due(media, known.latency(latency)).as_micros() })
        });
        let latency_ms = told_ms(latency);
        let mut body = Vec::with_capacity(512);
        let mut writer = ReportWriter::new(&mut body, latency_ms, now.as_micros(), playout);
        let mut marks = Vec::new();
        let told = |peer: &Peer| {
            let is_of_flow = peer.flow == Some(flow) && peer.extension && peer.closed.is_none();
            is_of_flow && now - peer.heard_at < TOLD_FOR
        };
        let mut told: Vec<&mut Peer> = self.peers.iter_mut().filter(|peer| told(peer)).collect();
        if told.len() > REPORT_LINKS_MAX {
            // Those that are silent take no room from the others.
            told.sort_by_key(|peer| Reverse(peer.heard_at));
        }
        for peer in told {
            let (Some(link), Some((highest, at))) = (peer.link, peer.arrivals.highest()) else { continue };
            let held = u32::try_from((now - at).as_micros()).unwrap_or(u32::MAX);
            let words = peer.arrivals.mark(now);
            if !writer.link(link, highest, held, peer.arrivals.bytes as u32, peer.arrivals.words(words)) {
                break;
            }
            marks.push(peer.arrivals.ecn);
        }
        writer.finish(&marks);
        body
    }

    /// Every compound of ours begins with an empty RR and SDES.
    pub(super) fn begin_compound(&mut self) {
        self.begin_compound_with(None);
    }

    /// The same, with a link quality message in the RR.
    pub(super) fn begin_compound_with(&mut self, quality: Option<&Lqm>) {
        self.scratch.clear();
        ReceiverReport::emit(self.ssrc, &[], quality, &mut self.scratch);
        let cname = if self.config.cname.is_empty() { "strata" } else { &self.config.cname };
        Sdes { ssrc: self.ssrc, cname: cname.as_bytes() }.emit(&mut self.scratch);
    }

    /// To the flow's virtual port, or to the default one. False when the peer may not be sent so much.
    pub(super) fn send_compound(&mut self, now: Timestamp, index: usize, port: Option<u16>) -> bool {
        let Some((channel, datagram, _)) = self.peers[index].framing.rtcp_of(now, port, &self.scratch) else {
            return true;
        };
        self.transmit(index, channel, datagram)
    }

    /// Whether the peer may be sent so many bytes: no more than it sent, unless it has shown that it is where it says. Media
    /// does not show that, only an answered echo.
    fn may_send(&self, index: usize, bytes: usize) -> bool {
        let peer = &self.peers[index];
        peer.answered_at.is_some() || peer.called || bytes <= peer.credit
    }

    fn transmit(&mut self, index: usize, channel: Channel, datagram: Vec<u8>) -> bool {
        if !self.may_send(index, datagram.len()) {
            return false;
        }
        let peer = &mut self.peers[index];
        let Some(to) = peer.control else { return true };
        peer.credit = peer.credit.saturating_sub(datagram.len());
        let local = peer.local;
        self.output(ReceiverOutput::Transmit { local, to, channel, bytes: Bytes::from(datagram) });
        true
    }
}
