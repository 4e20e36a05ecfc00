//! How a receiver stands, and when that changes. Pure.

use protocol::worker::receiver::ReceiverState;
use std::net::SocketAddr;
use std::time::Duration;
use units::Timestamp;

/// Without a whole access unit for so long the stream is interrupted: longer than any encoder's pause between pictures and
/// the bursts of a repair, short enough that ON AIR is true.
pub const INTERRUPTED_AFTER: Duration = Duration::from_millis(1500);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Not started.
    #[default]
    Waiting,
    /// Listening.
    Ready {
        /// Where.
        listen: SocketAddr,
    },
    /// Media arrives.
    Receiving {
        /// When the first came.
        since: Timestamp,
    },
    /// Media arrived before.
    Interrupted {
        /// When the first came.
        began: Timestamp,
        /// When the last came.
        since: Timestamp,
    },
    /// Stopped as asked.
    Ended,
    /// Failed.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Standing {
    /// The standing at `now`, when the last whole access unit came at `last_unit`.
    pub fn next(&self, now: Timestamp, last_unit: Option<Timestamp>) -> Self {
        let Some(last) = last_unit else { return self.clone() };
        let silent = now.since(last) >= INTERRUPTED_AFTER;
        match *self {
            Self::Ready { .. } => Self::Receiving { since: last },
            Self::Receiving { since } if silent => Self::Interrupted { began: since, since: last },
            Self::Interrupted { began, .. } if !silent => Self::Receiving { since: began },
            _ => self.clone(),
        }
    }

    /// For the controller.
    pub fn report(&self, now: Timestamp) -> ReceiverState {
        let milliseconds = |since: Timestamp| now.since(since).as_millis() as u64;
        match self {
            Self::Waiting => ReceiverState::Waiting,
            Self::Ready { listen } => ReceiverState::Ready { listen: *listen },
            Self::Receiving { since } => ReceiverState::Receiving { for_ms: milliseconds(*since) },
            Self::Interrupted { since, .. } => ReceiverState::Interrupted { for_ms: milliseconds(*since) },
            Self::Ended => ReceiverState::Ended,
            Self::Failed { reason } => ReceiverState::Failed { reason: reason.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_makes_it_receive_silence_interrupts_and_media_heals() {
        let at = Timestamp::from_millis;
        let ready = Standing::Ready { listen: "127.0.0.1:5000".parse().unwrap() };
        assert_eq!(ready.next(at(5000), None), ready);
        let receiving = ready.next(at(1000), Some(at(1000)));
        assert_eq!(receiving.report(at(1500)), ReceiverState::Receiving { for_ms: 500 });
        assert_eq!(receiving.next(at(2499), Some(at(1000))), receiving);
        let interrupted = receiving.next(at(2500), Some(at(1000)));
        assert_eq!(interrupted.report(at(4000)), ReceiverState::Interrupted { for_ms: 3000 });
        let healed = interrupted.next(at(6000), Some(at(6000)));
        assert_eq!(healed.report(at(6000)), ReceiverState::Receiving { for_ms: 5000 });
        assert_eq!(Standing::Waiting.next(at(1), Some(at(1))), Standing::Waiting);
    }
}
