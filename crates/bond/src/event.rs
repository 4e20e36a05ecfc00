//! What happened and why: the engine's log of causes for the operator.

use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use units::{Bitrate, ByteCount, LinkId, LossRatio, Timestamp};

use crate::stats::LinkState;

/// Events kept until they are polled; older ones are dropped first, and [`Cause::EventsDropped`] tells how many.
pub const EVENTS_MAX: usize = 256;

/// One cause at one time. `Display` gives the sentence for the operator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When, in the machine's clock.
    pub at: Timestamp,
    /// What.
    pub cause: Cause,
}

/// The events that wait to be polled.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    /// At most [`EVENTS_MAX`].
    events: VecDeque<Event>,
    /// Dropped since that was last told.
    dropped: u64,
}

impl EventLog {
    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(event);
    }

    /// The oldest; before it, how many older ones were dropped.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let at = self.events.front()?.at;
        match std::mem::take(&mut self.dropped) {
            0 => self.events.pop_front(),
            count => Some(Event { at, cause: Cause::EventsDropped { count } }),
        }
    }
}

/// Why a link changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateReason {
    /// Handshake or probing was answered.
    Answered,
    /// Packets in flight and no report for too long.
    NoReports,
    /// Nothing at all was heard for too long.
    Silent,
    /// The operating system refused to send, for another reason than the next two.
    SendError,
    /// There is no route to the far end, or the local address is gone.
    Unreachable,
    /// The link was added.
    Added,
    /// The local address changed, or there is a way to the far end again.
    AddressChanged,
    /// The interface lost its carrier or its address, or is gone.
    CarrierLost,
    /// The far end closed the link.
    FarEndClosed,
    /// The far end asked for it to be opened anew.
    Reopened,
}

impl StateReason {
    /// True when it is known here why nothing gets through, and silence is only what follows.
    pub(crate) const fn is_cause(self) -> bool {
        matches!(self, Self::SendError | Self::Unreachable | Self::CarrierLost)
    }
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "the far end answers",
            Self::NoReports => "packets in flight are not confirmed",
            Self::Silent => "nothing is heard from the far end",
            Self::SendError => "the system refuses to send",
            Self::Unreachable => "there is no way from here to the far end",
            Self::Added => "added",
            Self::AddressChanged => "its way or its local address changed",
            Self::CarrierLost => "its interface has no carrier or no address",
            Self::FarEndClosed => "the far end closed it",
            Self::Reopened => "the far end wants it opened anew",
        })
    }
}

/// What of the settings of a far end that calls does not fit this end's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mismatch {
    /// It sends in the clear, and this end has a pass phrase.
    Clear,
    /// It encrypts, and this end has no pass phrase.
    Encrypted,
    /// It has another pass phrase.
    WrongKey,
    /// It does not log in as this end asks, or asks for a log-in that this end does not have.
    LogIn,
    /// It sends nothing that this end's profile knows.
    Malformed,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "it sends in the clear, this end has a pass phrase; set the same at both ends",
            Self::Encrypted => "it encrypts, this end has no pass phrase; set the same at both ends",
            Self::WrongKey => "it has another pass phrase; set the same at both ends",
            Self::LogIn => "its log-in (SRP) does not fit; set the same user and password at both ends, or none",
            Self::Malformed => "it sends no RIST of this profile; set the same profile at both ends",
        })
    }
}

/// Why the network's congestion marks are not used on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EcnFault {
    /// The path clears the ECN field.
    Cleared,
    /// The path drops packets with it.
    BlackHole,
    /// The path marks packets whatever is sent: all of them, or so many that its marks tell nothing.
    AllMarked,
}

impl fmt::Display for EcnFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cleared => "its path clears them",
            Self::BlackHole => "its path drops packets that may be marked",
            Self::AllMarked => "its path marks whatever is sent",
        })
    }
}

/// What an [`Event`] tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A sender's link moved to another state.
    LinkState {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Before.
        from: LinkState,
        /// After.
        to: LinkState,
        /// Why.
        reason: StateReason,
    },
    /// A link was taken out.
    LinkRemoved {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
    },
    /// The queue in front of a link's bottleneck grew or its capacity fell.
    LinkCapacity {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Queue delay before, in milliseconds.
        queue_before_ms: f64,
        /// Queue delay now, in milliseconds.
        queue_now_ms: f64,
        /// Capacity before.
        before: Bitrate,
        /// Capacity now.
        now: Bitrate,
    },
    /// A link loses more or fewer packets than before.
    LinkLoss {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Share of packets before.
        before: LossRatio,
        /// Share now.
        now: LossRatio,
    },
    /// The network's congestion marks (ECN) are used on a link from now on: its path carries them.
    EcnUsed {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
    },
    /// Congestion marks are not used on a link from now on.
    EcnRefused {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Why.
        fault: EcnFault,
    },
    /// More or fewer packets of a link come marked as having met a queue than before.
    LinkMarked {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Share of packets before.
        before: LossRatio,
        /// Share now.
        now: LossRatio,
    },
    /// Two links share a bottleneck: they count as one where independent links are wanted.
    BottleneckShared {
        /// One of them.
        link: LinkId,
        /// Its name.
        name: String,
        /// The other.
        with: LinkId,
        /// Its name.
        with_name: String,
        /// How well what is sent on one explains the queue of the other, 0 to 1.
        correlation: f64,
    },
    /// Two links that shared a bottleneck do not any more.
    BottleneckSeparate {
        /// One of them.
        link: LinkId,
        /// Its name.
        name: String,
        /// The other.
        with: LinkId,
        /// Its name.
        with_name: String,
        /// As above, now.
        correlation: f64,
    },
    /// A link has sent as many bytes as it may.
    BudgetSpent {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Its budget.
        budget: ByteCount,
    },
    /// Unconfirmed packets of a failing link were sent again over others.
    Reinjected {
        /// The failing link.
        link: LinkId,
        /// Its name.
        name: String,
        /// How many.
        packets: u64,
    },
    /// Repair packets are sent in advance: a link loses packets and there is no time to send them again.
    ProtectionBegan {
        /// The link that puts most of what is repaired at risk.
        link: LinkId,
        /// Its name.
        name: String,
        /// Share of packets it loses in the long run (half a minute).
        loss: LossRatio,
    },
    /// Nothing has been protected in advance for five seconds.
    ProtectionEnded,
    /// The bond could not carry packets in time and gave them up.
    Dropped {
        /// How many since the last such event.
        packets: u64,
    },
    /// The rate the encoder may produce changed notably.
    RateAdvice {
        /// Before.
        before: Bitrate,
        /// Now.
        now: Bitrate,
    },
    /// A plain RIST receiver tells that it lost packets for good, and the encoder is held down.
    FarEndLoss {
        /// Packets lost in the receiver's period.
        lost: u64,
        /// Packets of the period that came after their time.
        late: u64,
        /// The period, in milliseconds.
        period_ms: u32,
    },
    /// Another size of datagram than before fits the path of a link.
    LinkMtu {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// The largest datagram (UDP payload) before, in bytes.
        before: u16,
        /// The largest now.
        now: u16,
    },
    /// Payloads must become shorter to fit the links in use, or may be longer again.
    PayloadLimit {
        /// The longest payload before, in bytes.
        before: usize,
        /// The longest now.
        now: usize,
    },
    /// The far end was identified: with the engine's own extension or as a plain RIST peer.
    PeerIdentified {
        /// True when the extension is in use.
        extension: bool,
    },
    /// The far end answers, but nothing of the extension comes any more: it is treated as a plain RIST peer from now on.
    ExtensionLost {
        /// How long no report has confirmed anything, in milliseconds.
        silence_ms: f64,
    },
    /// Another receiver than before reports (it was started again, perhaps): its clock and counts are others.
    ReceiverChanged,
    /// The far end has another latency than this one: media is given up too early, or kept in vain.
    LatencyDiffers {
        /// Of this end.
        ours: std::time::Duration,
        /// Of the far end.
        theirs: std::time::Duration,
    },
    /// Latency times packet rate is more than packet numbers of 16 bits can hold
    /// ([`LATENCY_PACKETS_MAX`](crate::config::LATENCY_PACKETS_MAX)): the receiver plays with the latency that they do, which is
    /// lengthened by half a percent of the time once the rate allows it. Told by either end, once a minute.
    NumbersExhausted {
        /// The latency asked for.
        latency: Duration,
        /// What the receiver plays with; at the sender, the longest at this rate.
        holds: Duration,
    },
    /// The latency budget changed.
    Latency {
        /// Before.
        before: Duration,
        /// Now.
        now: Duration,
    },
    /// A receiver called a listening link, or moved to another address.
    LinkCalled {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Where its receiver was before.
        from: Option<SocketAddr>,
        /// Where it is.
        to: SocketAddr,
    },
    /// The receiver of a listening link has been silent for so long that it is forgotten, or has closed the link.
    LinkWaits {
        /// Which.
        link: LinkId,
        /// Its name.
        name: String,
        /// Where the receiver was.
        receiver: SocketAddr,
    },
    /// Events before this one were dropped, because nobody polled them.
    EventsDropped {
        /// How many.
        count: u64,
    },
    /// A receiver hears a new 4-tuple.
    PeerAppeared {
        /// Where from.
        peer: SocketAddr,
        /// Announced name; empty before it is, and of a plain RIST peer.
        name: String,
    },
    /// A receiver's peer fell silent.
    PeerLost {
        /// Where from.
        peer: SocketAddr,
        /// Announced name or cname.
        name: String,
    },
    /// A receiver's peer closed its link.
    PeerClosed {
        /// Where from.
        peer: SocketAddr,
        /// Announced name or cname.
        name: String,
    },
    /// A link came back from another address.
    PeerMoved {
        /// Before.
        from: SocketAddr,
        /// Now.
        to: SocketAddr,
        /// Announced name or cname.
        name: String,
    },
    /// A flow began at the receiver.
    FlowStarted {
        /// Its id.
        flow: u32,
    },
    /// A flow ended at the receiver: nothing was heard for long, or its sender closed it and all there was is delivered.
    FlowEnded {
        /// Its id.
        flow: u32,
    },
    /// A far end that calls keeps on sending what is refused: its settings do not fit. Told once a minute for each reason.
    PeerRefused {
        /// Where it sends from, last.
        peer: SocketAddr,
        /// What does not fit.
        reason: Mismatch,
        /// Datagrams refused since it began, or since that was told.
        datagrams: u64,
    },
    /// Nothing has answered on a link since it was opened.
    LinkUnanswered {
        /// The link.
        link: LinkId,
        /// Its name.
        name: String,
        /// For so many milliseconds.
        waited_ms: f64,
    },
    /// Packets were not there at their time: the sum of at least a second, of up to 16 s while losses go on.
    Lost {
        /// Flow id.
        flow: u32,
        /// How many.
        packets: u64,
        /// In how many gaps.
        gaps: u64,
        /// Packets that came after their time meanwhile: the links were too slow for the latency budget. The others were
        /// lost on the way or never sent.
        late: u64,
        /// The longest time without any packet before, on all links, in milliseconds; 0 when there was no such pause.
        silence_ms: f64,
        /// From the first of these losses until now, in milliseconds.
        over_ms: f64,
    },
}

impl Cause {
    /// True for what goes on until somebody changes a setting, of this end or of the other one.
    pub const fn is_setting(&self) -> bool {
        matches!(
            self,
            Self::PeerRefused { .. }
                | Self::LinkUnanswered { .. }
                | Self::LatencyDiffers { .. }
                | Self::NumbersExhausted { .. }
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkState { name, from, to, reason, .. } => write!(f, "link {name}: {from} -> {to}: {reason}"),
            Self::LinkRemoved { name, .. } => write!(f, "link {name}: removed"),
            Self::LinkCapacity { name, queue_before_ms, queue_now_ms, before, now, .. } => write!(
                f,
                "link {name}: queue delay {queue_before_ms:.0} -> {queue_now_ms:.0} ms, capacity {before} -> {now}"
            ),
            Self::LinkLoss { name, before, now, .. } => write!(f, "link {name}: loss {before} -> {now}"),
            Self::EcnUsed { name, .. } => write!(f, "link {name}: congestion marks (ECN) are used"),
            Self::EcnRefused { name, fault, .. } => write!(f, "link {name}: no congestion marks (ECN): {fault}"),
            Self::LinkMarked { name, before, now, .. } => {
                write!(f, "link {name}: marked as congested {before} -> {now}")
            }
            Self::BottleneckShared { name, with_name, correlation, .. } => {
                write!(
                    f,
                    "links {name} and {with_name} share a bottleneck: their queues move together, {correlation:.2}"
                )
            }
            Self::BottleneckSeparate { name, with_name, correlation, .. } => {
                write!(f, "links {name} and {with_name} share no bottleneck any more: {correlation:.2}")
            }
            Self::BudgetSpent { name, budget, .. } => {
                write!(f, "link {name}: its budget of {} bytes is spent", budget.as_u64())
            }
            Self::Reinjected { name, packets, .. } => {
                write!(f, "link {name}: {packets} unconfirmed packets sent again over other links")
            }
            Self::ProtectionBegan { name, loss, .. } => {
                write!(
                    f,
                    "link {name}: loses {loss} and there is no time to send again: repair packets are sent in advance"
                )
            }
            Self::ProtectionEnded => write!(f, "repair packets are not needed any more"),
            Self::Dropped { packets } => {
                write!(f, "{packets} packets given up: the links could not carry them in time")
            }
            Self::RateAdvice { before, now } => write!(f, "encoder advised {before} -> {now}"),
            Self::FarEndLoss { lost, late, period_ms } => write!(
                f,
                "the receiver lost {lost} packets for good in {period_ms} ms, {late} came late: the encoder is held down"
            ),
            Self::LinkMtu { name, before, now, .. } => {
                write!(f, "link {name}: takes datagrams of {before} -> {now} bytes")
            }
            Self::PayloadLimit { before, now } => {
                write!(f, "payloads of {before} -> {now} bytes ({} TS packets) fit the links", now / 188)
            }
            Self::PeerIdentified { extension: true } => write!(f, "far end speaks the bonding extension"),
            Self::PeerIdentified { extension: false } => write!(f, "far end is a plain RIST peer"),
            Self::ExtensionLost { silence_ms } => write!(
                f,
                "far end answers, but has reported nothing for {:.1} s: it is a plain RIST peer now",
                silence_ms / 1e3
            ),
            Self::ReceiverChanged => write!(f, "another receiver reports: its clock is another"),
            Self::LatencyDiffers { ours, theirs } => write!(
                f,
                "the far end has a latency of {} ms, this one of {} ms: set the same on both",
                theirs.as_millis(),
                ours.as_millis()
            ),
            Self::NumbersExhausted { latency, holds } => write!(
                f,
                "a latency of {} ms is more than packet numbers hold at this rate: media is kept for {} ms. Lower the latency \
                 to that at both ends, or the rate",
                latency.as_millis(),
                holds.as_millis()
            ),
            Self::Latency { before, now } => {
                write!(f, "latency {} -> {} ms", before.as_millis(), now.as_millis())
            }
            Self::LinkCalled { name, from: None, to, .. } => write!(f, "link {name}: its receiver calls from {to}"),
            Self::LinkCalled { name, from: Some(from), to, .. } => {
                write!(f, "link {name}: its receiver moved from {from} to {to}")
            }
            Self::LinkWaits { name, receiver, .. } => {
                write!(f, "link {name}: waits for a call, nothing more comes from {receiver}")
            }
            Self::EventsDropped { count } => write!(f, "{count} events before are not told: nobody asked for them"),
            Self::PeerRefused { peer, reason, datagrams } => {
                write!(f, "what comes from {peer} is refused ({datagrams} datagrams): {reason}")
            }
            Self::LinkUnanswered { name, waited_ms, .. } => write!(
                f,
                "link {name}: no answer for {:.0} s: is the receiver running there, with the same profile, pass phrase and log-in?",
                waited_ms / 1e3
            ),
            Self::PeerAppeared { peer, name } if name.is_empty() => write!(f, "a link was first heard, from {peer}"),
            Self::PeerAppeared { peer, name } => write!(f, "link {name}: first heard, from {peer}"),
            Self::PeerLost { peer, name } => write!(f, "link {name}: silent, last heard from {peer}"),
            Self::PeerClosed { peer, name } => write!(f, "link {name}: closed by its sender at {peer}"),
            Self::PeerMoved { from, to, name } => write!(f, "link {name}: moved from {from} to {to}"),
            Self::FlowStarted { flow } => write!(f, "flow {flow:08x} started"),
            Self::FlowEnded { flow } => write!(f, "flow {flow:08x} ended"),
            Self::Lost { packets, gaps, late, silence_ms, over_ms, .. } => {
                let many = |count: u64, noun| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
                let (packets, gaps) = (many(*packets, "packet"), many(*gaps, "gap"));
                write!(f, "{packets} missing at their time, in {gaps} within {:.0} s", over_ms / 1e3)?;
                if *silence_ms > 0.0 {
                    write!(f, "; nothing came for {silence_ms:.0} ms before")?;
                }
                if *late > 0 {
                    write!(f, "; {late} came too late")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_are_dropped_and_counted_once() {
        let mut log = EventLog::default();
        let event = |n: u64| Event { at: Timestamp::from_millis(n), cause: Cause::Dropped { packets: n } };
        let full = EVENTS_MAX as u64;
        (0..full + 3).for_each(|n| log.push(event(n)));
        let told = log.pop();
        assert_eq!(told, Some(Event { at: Timestamp::from_millis(3), cause: Cause::EventsDropped { count: 3 } }));
        assert_eq!(
            (3..full + 3).map(|_| log.pop()).collect::<Vec<_>>(),
            (3..full + 3).map(event).map(Some).collect::<Vec<_>>()
        );
        assert_eq!(log.pop(), None);
        log.push(event(9));
        assert_eq!((log.pop(), log.pop()), (Some(event(9)), None), "told once");
    }
}
