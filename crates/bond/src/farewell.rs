//! The end of a link, told: the bits D (disconnect) and T (reconnect) of keep-alives (TR-06-2).
//!
//! Neither ever needs to be obeyed for a flow to go on: who still sends is taken back at once. They count only when they
//! come on, in a keep-alive whose number (its MAC field) is that of the keep-alives before: a stranger who forges the
//! peer's address does not know it, what is repeated brings nothing on, and a peer that always sets them asks for nothing.
//! Under encryption only what proves the key gets here. librist neither sends nor heeds them.

use rist::wire::keepalive::{Capabilities, KeepAlive};
use std::time::Duration;
use units::Timestamp;

/// Keep-alives with D that one end sends when a link closes, its answers included.
pub(crate) const GOODBYES_MAX: u8 = 3;
/// A link that was just opened does not listen: the answers to the end of the one before it, at the same addresses, may still
/// be on their way.
const DEAF: Duration = Duration::from_secs(2);

/// What a keep-alive says of the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Random, drawn with the tunnel.
    pub mac: [u8; 6],
    /// D: the link is closed.
    pub disconnect: bool,
    /// T: it shall be opened anew.
    pub reconnect: bool,
}

impl Signals {
    pub(crate) const fn of(keep_alive: &KeepAlive<'_>) -> Self {
        let capabilities = keep_alive.capabilities;
        Self {
            mac: keep_alive.mac,
            disconnect: capabilities.contains(Capabilities::DISCONNECT),
            reconnect: capabilities.contains(Capabilities::RECONNECT),
        }
    }

    const fn is_plain(self) -> bool {
        !self.disconnect && !self.reconnect
    }
}

/// What the far end wants of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It closes the link.
    Close,
    /// It has said so before; the answer may have been lost.
    CloseAgain,
    /// It wants the link to be opened anew.
    Reopen,
}

/// The keep-alives of one link's far end.
#[derive(Debug, Default)]
pub(crate) struct Farewell {
    last: Option<Signals>,
    /// Keep-alives with D that we sent.
    said: u8,
    /// Nothing counts before.
    from: Timestamp,
}

impl Farewell {
    /// Of a link that is opened now.
    pub(crate) fn opened(now: Timestamp) -> Self {
        Self { from: now + DEAF, ..Self::default() }
    }

    /// Takes a keep-alive.
    pub(crate) fn hear(&mut self, now: Timestamp, signals: Signals) -> Option<Wish> {
        if now < self.from {
            return None;
        }
        let Some(last) = &mut self.last else {
            self.last = signals.is_plain().then_some(signals);
            return None;
        };
        if last.mac != signals.mac {
            return None;
        }
        let before = std::mem::replace(last, signals);
        if signals.is_plain() {
            self.said = 0;
        }
        match (signals.disconnect, signals.reconnect) {
            (_, true) if !before.reconnect => Some(Wish::Reopen),
            (true, false) if !before.disconnect => Some(Wish::Close),
            (true, false) => Some(Wish::CloseAgain),
            _ => None,
        }
    }

    /// True when one more keep-alive with D may be sent, which it is then.
    pub(crate) fn says(&mut self) -> bool {
        let may = self.said < GOODBYES_MAX;
        self.said += u8::from(may);
        may
    }

    /// The far end may be another one from now on.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::ZERO;

    fn signals(mac: u8, disconnect: bool, reconnect: bool) -> Signals {
        Signals { mac: [mac; 6], disconnect, reconnect }
    }

    #[test]
    fn a_bit_counts_when_it_comes_on_with_the_number_of_before() {
        let mut farewell = Farewell::default();
        assert_eq!(farewell.hear(NOW, signals(1, true, false)), None, "nothing is known of it");
        assert_eq!(farewell.hear(NOW, signals(1, false, false)), None);
        assert_eq!(farewell.hear(NOW, signals(2, true, false)), None, "a stranger");
        assert_eq!(farewell.hear(NOW, signals(2, false, false)), None, "who does not become the peer either");
        assert_eq!(farewell.hear(NOW, signals(2, true, false)), None);
        assert_eq!(farewell.hear(NOW, signals(1, true, false)), Some(Wish::Close));
        assert_eq!(farewell.hear(NOW, signals(1, true, false)), Some(Wish::CloseAgain));
        assert_eq!(farewell.hear(NOW, signals(1, false, false)), None);
        assert_eq!(farewell.hear(NOW, signals(1, true, true)), Some(Wish::Reopen));
        assert_eq!(farewell.hear(NOW, signals(1, true, true)), None);
        assert_eq!(farewell.hear(NOW, signals(1, false, true)), None, "still on");
        farewell.forget();
        assert_eq!(farewell.hear(NOW, signals(3, false, false)), None);
        assert_eq!(farewell.hear(NOW, signals(3, false, true)), Some(Wish::Reopen));
    }

    #[test]
    fn a_peer_that_always_sets_the_bits_asks_for_nothing() {
        let mut farewell = Farewell::default();
        assert!((0..9).all(|_| farewell.hear(NOW, signals(1, true, true)).is_none()));
    }

    #[test]
    fn what_was_on_its_way_when_the_link_was_opened_does_not_count() {
        let mut farewell = Farewell::opened(NOW);
        let early = NOW + Duration::from_millis(1_999);
        assert_eq!(farewell.hear(early, signals(1, false, false)), None);
        assert_eq!(farewell.hear(early, signals(1, true, false)), None);
        assert_eq!(farewell.hear(NOW + DEAF, signals(1, false, false)), None);
        assert_eq!(farewell.hear(NOW + DEAF, signals(1, true, false)), Some(Wish::Close));
    }

    #[test]
    fn three_times_is_enough() {
        let mut farewell = Farewell::default();
        farewell.hear(NOW, signals(1, false, false));
        assert_eq!((0..9).filter(|_| farewell.says()).count(), 3);
        farewell.hear(NOW, signals(1, true, false));
        assert!(!farewell.says());
        // It is there again.
        farewell.hear(NOW, signals(1, false, false));
        assert!(farewell.says());
    }
}
