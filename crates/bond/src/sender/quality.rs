//! Source adaptation (TR-06-4-1): what a plain RIST receiver tells of the flow, and what the rate advice makes of it.
//!
//! A message tells what requests cannot: what was lost for good, and what arrived. It is of the flow as a whole (Simple and
//! Main Profile have none of a link), so it moves the rate advice and never the shares of links. Where echoes measure the
//! links, losses hold the advice down to a share of what they tell. Where nothing does (fixed weights, GStreamer), what
//! arrives is what the links are believed to carry.
//!
//! Bounds: one message moves the advice by [`HOLD`] or [`GROWTH`] at most, all together never below [`SHARE_MIN`] of what
//! is measured, and nothing is believed to have arrived that was not sent. A receiver that speaks the engine's extension
//! is not listened to: its reports tell more.

use std::time::Duration;
use units::{Bitrate, Timestamp};

use rist::wire::lqm::Lqm;

use super::Sender;
use crate::event::Cause;
use crate::stats::FarEndSnapshot;

/// Losses for good, as a share of a period's packets, that hold the advice down.
const LOSS_MIN: f64 = 0.001;
/// The advice is held down by this factor,
const HOLD: f64 = 0.85;
/// at most once in the latency budget and this: until then the messages tell of what was sent before.
const HOLD_PAUSE: Duration = Duration::from_millis(500);
/// Never below this share of what is measured.
const SHARE_MIN: f64 = 0.5;
/// It climbs back by this share per second.
const CLIMB_PER_SECOND: f64 = 0.03;
/// Where nothing else measures the links they are believed to carry this much more than has arrived without loss,
const GROWTH: f64 = 1.15;
/// and no less than this, in bit/s.
const CARRIED_MIN: f64 = 100_000.0;
/// More than what was sent in the last second by this factor can not have arrived.
const SENT_FACTOR: f64 = 2.0;
/// Payload in an original packet with its RTP header.
const PAYLOAD_SHARE: f64 = 0.99;
/// The longest period that is believed.
const PERIOD_MAX_MS: u32 = 60_000;
/// After so much silence another receiver may speak, or the same one count anew.
const SILENCE: Duration = Duration::from_secs(3);

/// Who speaks, and what it said last.
#[derive(Debug, Clone, Copy)]
struct Speaker {
    ssrc: u32,
    sequence: u32,
    at: Timestamp,
}

/// What is known from link quality messages.
#[derive(Debug, Clone)]
pub(super) struct Quality {
    speaker: Option<Speaker>,
    told: FarEndSnapshot,
    /// The share of the measured capacity that is advised.
    share: f64,
    climbed_at: Timestamp,
    held_at: Option<Timestamp>,
    /// What the links are believed to carry where nothing else tells, payload bits per second.
    carried: Option<f64>,
    /// What the last look assumed in its place.
    assumed: f64,
}

/// What a message may speak of at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Packets accepted since the start.
    pub packets: u64,
    /// Media over the last second, payload bits per second.
    pub media: f64,
    /// The latency budget.
    pub latency: Duration,
}

impl Quality {
    pub(super) const fn new(now: Timestamp) -> Self {
        let told = FarEndSnapshot {
            messages: 0,
            messages_refused: 0,
            received_packets: 0,
            recovered_packets: 0,
            lost_packets: 0,
            late_packets: 0,
            media_rate: Bitrate::ZERO,
            retransmission_rate: Bitrate::ZERO,
        };
        Self { speaker: None, told, share: 1.0, climbed_at: now, held_at: None, carried: None, assumed: CARRIED_MIN }
    }

    /// Takes a message; true when it holds the advice down.
    pub(super) fn take(&mut self, now: Timestamp, ssrc: u32, message: &Lqm, sent: &Sent) -> bool {
        if let Some(speaker) = self.speaker.filter(|speaker| now - speaker.at < SILENCE) {
            if speaker.ssrc == ssrc && message.sequence == speaker.sequence {
                // The same message comes over every link.
                return false;
            }
            if speaker.ssrc != ssrc || (message.sequence.wrapping_sub(speaker.sequence) as i32) < 0 {
                self.told.messages_refused += 1;
                return false;
            }
        }
        if !is_believable(message, sent) {
            self.told.messages_refused += 1;
            return false;
        }
        self.speaker = Some(Speaker { ssrc, sequence: message.sequence, at: now });
        self.told.messages += 1;
        self.told.received_packets += u64::from(message.source_received);
        self.told.recovered_packets += u64::from(message.recovered);
        self.told.lost_packets += u64::from(message.unrecovered);
        self.told.late_packets += u64::from(message.late);
        self.told.media_rate = Bitrate::from_kbps(message.source_kbps.into());
        self.told.retransmission_rate = Bitrate::from_kbps(message.retransmission_kbps.into());
        self.judge(now, message, sent)
    }

    fn judge(&mut self, now: Timestamp, message: &Lqm, sent: &Sent) -> bool {
        // A late packet was given up before.
        let gone = message.unrecovered.max(message.late);
        let packets = u64::from(message.source_received) + u64::from(message.originals_lost);
        let arrived = f64::from(message.source_kbps) * 1e3 * PAYLOAD_SHARE;
        if f64::from(gone) <= LOSS_MIN * packets as f64 {
            let arrived = arrived.min(sent.media * SENT_FACTOR);
            self.carried = Some(self.carried.unwrap_or(self.assumed).max(arrived * GROWTH));
            return false;
        }
        if self.held_at.is_some_and(|held_at| now - held_at < sent.latency + HOLD_PAUSE) {
            return false;
        }
        self.held_at = Some(now);
        self.climb(now);
        self.share = (self.share * HOLD).max(SHARE_MIN);
        // What arrived is what fits, but one message is not believed alone.
        let carried = self.carried.unwrap_or(self.assumed);
        self.carried = Some((arrived * HOLD).clamp(carried * SHARE_MIN, carried * HOLD).max(CARRIED_MIN));
        true
    }

    /// What is advised to count on, in payload bits per second, where the links are believed to carry `capacity`; `measured`
    /// when something else than these messages tells that.
    pub(super) fn limit(&mut self, now: Timestamp, capacity: f64, measured: bool) -> f64 {
        self.climb(now);
        if measured {
            return capacity * self.share;
        }
        self.assumed = capacity.max(CARRIED_MIN);
        self.carried.unwrap_or(capacity)
    }

    fn climb(&mut self, now: Timestamp) {
        self.share = (self.share + CLIMB_PER_SECOND * (now - self.climbed_at).as_secs_f64()).min(1.0);
        self.climbed_at = now;
    }

    pub(super) fn snapshot(&self) -> Option<FarEndSnapshot> {
        (self.told != FarEndSnapshot::default()).then_some(self.told)
    }
}

/// False for what no receiver of this flow can have counted.
fn is_believable(message: &Lqm, sent: &Sent) -> bool {
    let counts = [message.source_received, message.originals_lost, message.unrecovered, message.recovered];
    (1..=PERIOD_MAX_MS).contains(&message.period_ms) && counts.iter().all(|count| u64::from(*count) <= sent.packets)
}

impl Sender {
    /// A receiver tells how the flow arrives.
    pub(super) fn on_quality(&mut self, now: Timestamp, ssrc: u32, message: &Lqm) {
        if self.extension == Some(true) {
            return;
        }
        let sent = Sent {
            packets: self.totals.packets_in,
            media: self.media_meter.rate(now).as_bps() as f64,
            latency: self.config.latency,
        };
        if self.quality.take(now, ssrc, message, &sent) {
            let (lost, late) = (message.unrecovered.into(), message.late.into());
            self.note(now, Cause::FarEndLoss { lost, late, period_ms: message.period_ms });
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // untouched is exactly the same
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SENT: Sent = Sent { packets: 1_000_000, media: 5e6, latency: Duration::from_secs(1) };
    const CLEAN: Lqm = Lqm {
        sequence: 0,
        period_ms: 1000,
        nack_window_ms: 1000,
        source_received: 475,
        originals_lost: 5,
        retransmissions_received: 6,
        recovered: 5,
        unrecovered: 0,
        late: 0,
        source_kbps: 5_000,
        retransmission_kbps: 60,
    };

    fn secs(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// The `n`th message of receiver 7, at `seconds`.
    fn take(quality: &mut Quality, seconds: u64, message: Lqm) -> bool {
        quality.take(secs(seconds), 7, &Lqm { sequence: seconds as u32, ..message }, &SENT)
    }

    #[test]
    fn losses_hold_the_advice_down_by_steps_and_it_climbs_back() {
        let mut quality = Quality::new(secs(0));
        let poor = Lqm { unrecovered: 10, originals_lost: 15, ..CLEAN };
        assert!(!take(&mut quality, 1, CLEAN));
        assert_eq!(quality.limit(secs(1), 4e6, true), 4e6);
        assert!(take(&mut quality, 2, poor));
        assert!((quality.limit(secs(2), 4e6, true) - 3.4e6).abs() < 1.0);
        // What is lost a second later was sent before the advice fell.
        assert!(!take(&mut quality, 3, poor));
        assert!(take(&mut quality, 4, poor));
        assert!((2.9e6..3.1e6).contains(&quality.limit(secs(4), 4e6, true)));
        for at in 5..60 {
            take(&mut quality, at, poor);
        }
        assert!((2.0e6..2.4e6).contains(&quality.limit(secs(60), 4e6, true)));
        assert_eq!(quality.limit(secs(90), 4e6, true), 4e6);
    }

    #[test]
    fn without_other_measures_the_advice_follows_what_arrives() {
        let mut quality = Quality::new(secs(0));
        assert_eq!(quality.limit(secs(0), 1.3e6, false), 1.3e6);
        take(&mut quality, 1, CLEAN);
        assert!((quality.limit(secs(1), 1.3e6, false) - 5e6 * PAYLOAD_SHARE * GROWTH).abs() < 1.0);
        // An encoder that makes less does not prove that less is carried.
        take(&mut quality, 2, Lqm { source_kbps: 500, ..CLEAN });
        assert!(quality.limit(secs(2), 1.3e6, false) > 5.5e6);
        take(&mut quality, 3, Lqm { source_kbps: 4_000, unrecovered: 100, originals_lost: 100, ..CLEAN });
        assert!((3.3e6..3.4e6).contains(&quality.limit(secs(3), 1.3e6, false)));
    }

    #[test]
    fn one_message_counts_once_and_only_from_who_spoke_first() {
        let mut quality = Quality::new(secs(0));
        let poor = Lqm { unrecovered: 100, sequence: 5, ..CLEAN };
        assert!(quality.take(secs(1), 7, &poor, &SENT));
        let (share, told) = (quality.share, quality.told);
        // Over another link; older ones; somebody else.
        assert!(!quality.take(secs(1), 7, &poor, &SENT));
        assert_eq!((quality.share, quality.told), (share, told));
        assert!(!quality.take(secs(3), 7, &Lqm { sequence: 4, ..poor }, &SENT));
        assert!(!quality.take(secs(3), 8, &Lqm { sequence: 6, ..poor }, &SENT));
        assert_eq!((quality.share, quality.told.messages, quality.told.messages_refused), (share, 1, 2));
        // A receiver that was started again is heard after a silence.
        assert!(quality.take(secs(4), 8, &Lqm { sequence: 0, ..poor }, &SENT));
        assert_eq!(quality.told.lost_packets, 200);
    }

    #[test]
    fn what_was_never_sent_can_not_have_arrived() {
        let mut quality = Quality::new(secs(0));
        quality.limit(secs(0), 1.3e6, false);
        let sent = Sent { packets: 1000, media: 1e6, ..SENT };
        for message in [
            Lqm { source_received: 1001, ..CLEAN },
            Lqm { unrecovered: 1001, ..CLEAN },
            Lqm { period_ms: 0, ..CLEAN },
            Lqm { period_ms: PERIOD_MAX_MS + 1, ..CLEAN },
        ] {
            assert!(!quality.take(secs(1), 7, &message, &sent));
        }
        assert_eq!((quality.told.messages, quality.told.messages_refused), (0, 4));
        quality.take(secs(1), 7, &Lqm { source_kbps: u32::MAX, ..CLEAN }, &sent);
        assert!((quality.limit(secs(1), 1.3e6, false) - 2.3e6).abs() < 1.0);
    }

    proptest! {
        #[test]
        fn no_messages_move_the_advice_out_of_its_bounds(
            messages in proptest::collection::vec((any::<[u8; 44]>(), any::<u32>(), 0..5000u64), 0..40)
        ) {
            let mut quality = Quality::new(secs(0));
            let mut now = secs(0);
            for (sequence, (bytes, ssrc, after)) in (1..).zip(messages) {
                now += Duration::from_millis(after);
                // Numbers in order, from one receiver or from any.
                let ssrc = if ssrc % 2 == 0 { 7 } else { ssrc };
                let message = Lqm { sequence, ..Lqm::parse(&bytes).unwrap() };
                let sent = Sent { packets: u64::from(u32::MAX), ..SENT };
                quality.take(now, ssrc, &message, &sent);
                let held = quality.limit(now, 4e6, true);
                prop_assert!((2e6..=4e6).contains(&held), "{held}");
                let carried = quality.limit(now, 4e6, false);
                prop_assert!((CARRIED_MIN..=1.15 * 10e6).contains(&carried), "{carried}");
            }
        }
    }
}
