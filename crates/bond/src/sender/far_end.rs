//! Who is at the far end: a receiver of our own, which speaks the extension, or a plain RIST peer.
//!
//! A keep-alive only *offers* the extension; without encryption anybody can send one. Before the flow has begun an offer is
//! taken at once, because media waits for it. Later it makes the links announce themselves, which a receiver of our own
//! answers with reports. Reports that tell of what was sent confirm the extension. Where a peer answers and no report has
//! confirmed anything for [`SILENCE`], it is a plain one: it took the place of ours, or the offer was forged. The flow then
//! goes on in the plain way, until somebody reports. In an outage there are neither reports nor answers, and nothing changes.

use std::time::Duration;
use units::{Timestamp, as_millis_f64};

use super::{Sender, Slot};
use crate::agreed_latency::AgreedLatency;
use crate::event::Cause;
use crate::extension::Report;

/// So long without a report that confirms anything,
const SILENCE: Duration = Duration::from_secs(2);
/// and so many answers meanwhile,
const ANSWERS: u32 = 10;
/// each so long after the one before, show a plain peer. The answers that end an outage come before the first report.
const ANSWERS_APART: Duration = Duration::from_millis(100);
/// An offer made while the flow goes on in the plain way holds for so long; keep-alives come every second on every link.
const OFFER_HOLDS: Duration = Duration::from_secs(3);
/// A receiver of our own reports at least every 100 ms; after so much silence another one may.
const GIVES_WAY: Duration = Duration::from_millis(250);
/// A report of somebody who has not reported yet must tell of one of so many datagrams sent last on a link.
const NUMBERS_BACK: u32 = 1 << 14;

/// What a keep-alive offers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// The extension itself.
    pub extension: bool,
    /// That it takes repair packets.
    pub fec: bool,
    /// That its reports count ECN marks.
    pub ecn: bool,
}

/// What is known of the far end.
#[derive(Debug, Default)]
pub(super) struct FarEnd {
    /// SSRC of the receiver that reports.
    reporter: Option<u32>,
    /// When a report last confirmed anything, or the extension came into use.
    confirmed_at: Timestamp,
    /// Answers since then, and when the last of them came.
    answers: u32,
    answered_at: Timestamp,
    agreed: AgreedLatency,
    /// The last offer of the extension.
    offer: Option<(Timestamp, Offer)>,
}

impl FarEnd {
    /// True while the peer offers the extension.
    pub(super) fn offers(&self, now: Timestamp) -> bool {
        self.offer.is_some_and(|(at, _)| now - at < OFFER_HOLDS)
    }

    fn confirm(&mut self, now: Timestamp) {
        (self.confirmed_at, self.answers) = (now, 0);
    }
}

impl Sender {
    /// Takes what a keep-alive offers.
    pub(super) fn hear_offer(&mut self, now: Timestamp, offer: Offer) {
        if !offer.extension {
            self.far_end.offer = None;
            self.hear_features(now, offer);
            self.hear_answer(now);
            return;
        }
        let known = self.far_end.offers(now);
        self.far_end.offer = Some((now, offer));
        match self.extension {
            None => self.use_extension(now),
            Some(false) if known => {}
            Some(false) => self.slots.iter_mut().flatten().for_each(|slot| slot.control.announce_soon(now)),
            Some(true) => self.hear_features(now, offer),
        }
    }

    fn hear_features(&mut self, now: Timestamp, offer: Offer) {
        self.protection.hear(now, offer.fec && offer.extension);
        self.far_ecn = offer.ecn && offer.extension && self.config.ecn;
    }

    /// Takes a report, which proves the extension if it tells of what was sent.
    pub(super) fn hear_report(&mut self, now: Timestamp, ssrc: u32, report: &Report<'_>) {
        let another = self.far_end.reporter.is_some_and(|reporter| reporter != ssrc);
        if self.extension != Some(true) || self.far_end.reporter != Some(ssrc) {
            let silent = now - self.far_end.confirmed_at >= GIVES_WAY;
            if (another && self.extension == Some(true) && !silent) || !self.tells_of_ours(report) {
                return;
            }
            if another {
                self.forget_measures();
                self.note(now, Cause::ReceiverChanged);
            }
            self.far_end.reporter = Some(ssrc);
            self.use_extension(now);
        }
        let latency = self.config.latency;
        if let Some(cause) = self.far_end.agreed.hear(now, latency, report.latency_ms) {
            self.note(now, cause);
        }
        if self.on_report(now, report) {
            self.far_end.confirm(now);
        }
    }

    fn tells_of_ours(&self, report: &Report<'_>) -> bool {
        report.links().any(|told| {
            let slot = self.slot_index(told.link).and_then(|index| self.slots[index].as_ref());
            slot.is_some_and(|slot| slot.framing.has_sent(told.highest, NUMBERS_BACK))
        })
    }

    /// The peer has answered, and a receiver of our own would have reported too.
    pub(super) fn hear_answer(&mut self, now: Timestamp) {
        if self.extension != Some(true) || now - self.far_end.answered_at < ANSWERS_APART {
            return;
        }
        self.far_end.answered_at = now;
        self.far_end.answers += 1;
        let silence = now - self.far_end.confirmed_at;
        if self.far_end.answers >= ANSWERS && silence >= SILENCE {
            self.fall_back(now, silence);
        }
    }

    /// The far end speaks the extension: number and watch everything from now on.
    fn use_extension(&mut self, now: Timestamp) {
        if self.extension == Some(true) {
            return;
        }
        if self.extension == Some(false) {
            self.forget_sent(now, |slot| slot.link.echoed.is_some());
            self.forget_measures();
        }
        self.extension = Some(true);
        for slot in self.slots.iter_mut().flatten() {
            slot.link.reported = true;
            slot.control.announce_soon(now);
        }
        self.far_end.confirm(now);
        if let Some((_, offer)) = self.far_end.offer.filter(|_| self.far_end.offers(now)) {
            self.hear_features(now, offer);
        }
        self.note(now, Cause::PeerIdentified { extension: true });
    }

    /// The far end does not speak the extension, or not any more: its echoes tell what they can.
    fn fall_back(&mut self, now: Timestamp, silence: Duration) {
        self.forget_peer(now);
        self.extension = Some(false);
        self.answered_at = Some(now);
        self.begin_echoes();
        self.begin_catching_up(now);
        self.note(now, Cause::ExtensionLost { silence_ms: as_millis_f64(silence) });
    }

    /// Whether the far end speaks the extension is open again.
    pub(super) fn forget_peer(&mut self, now: Timestamp) {
        (self.extension, self.answered_at, self.far_ecn) = (None, None, false);
        self.far_end = FarEnd::default();
        self.protection.hear(now, false);
        self.forget_sent(now, |_| true);
        self.forget_measures();
        for slot in self.slots.iter_mut().flatten() {
            slot.link.reported = false;
        }
    }

    /// Nobody will tell what became of what is on its way on these links.
    fn forget_sent(&mut self, now: Timestamp, which: impl Fn(&Slot) -> bool) {
        for index in 0..self.slots.len() {
            if let Some(slot) = self.slots[index].as_mut().filter(|slot| which(slot)) {
                slot.link.forget_sent(&mut self.outcomes);
                self.settle_outcomes(now, index);
            }
        }
    }

    /// Another far end has another clock, and counts anew.
    fn forget_measures(&mut self) {
        self.playout = None;
        for index in 0..self.slots.len() {
            self.shared.forget(index);
            if let Some(slot) = &mut self.slots[index] {
                slot.link.forget_far_end();
            }
        }
    }
}
