//! How many exchanges an end takes part in, over all its tunnels.
//!
//! Each costs modular exponentiations, milliseconds of a processor, and anyone who hears what he is sent can begin one: from
//! many addresses, many. So they stand in one line: it moves at [`EXCHANGES_PER_SECOND_MAX`], who came first is served first,
//! and who does not come back loses his place.

use crate::psk::RateLimiter;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use units::Timestamp;

/// Exchanges per second, over all tunnels.
pub const EXCHANGES_PER_SECOND_MAX: u32 = 40;
/// Exchanges at once, after a rest.
const EXCHANGES_BURST: u32 = 16;
/// Tunnels that wait in line; others are turned away, and may come again.
const WAITING_MAX: usize = 256;
/// How often who waits asks again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(10);
/// Who has not asked for so long is gone.
const GONE: Duration = Duration::from_millis(100);

/// Shared by the tunnels of one end: clones are the same line.
#[derive(Debug, Clone)]
pub struct ExchangeLimit(Arc<Mutex<Line>>);

/// A tunnel's place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Line {
    limiter: RateLimiter,
    tickets: u64,
    /// Who waits, and when each last asked; who came first stands first.
    waiting: VecDeque<(Ticket, Timestamp)>,
}

impl Default for ExchangeLimit {
    fn default() -> Self {
        let limiter = RateLimiter::new(Duration::from_secs(1) / EXCHANGES_PER_SECOND_MAX, EXCHANGES_BURST);
        Self(Arc::new(Mutex::new(Line { limiter, tickets: 0, waiting: VecDeque::new() })))
    }
}

impl ExchangeLimit {
    /// Asks for an exchange, the first time without a ticket: `Ok` when it is one's turn, else the ticket to ask again with
    /// every [`ASK_AGAIN`]; `None` when the line is full.
    pub(super) fn ask(&self, now: Timestamp, ticket: Option<Ticket>) -> Result<(), Option<Ticket>> {
        // No holder can leave it half written: nothing under the lock panics.
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.waiting.retain(|(waits, asked_at)| Some(*waits) == ticket || now.since(*asked_at) < GONE);
        let place = line.waiting.iter().position(|(waits, _)| Some(*waits) == ticket);
        if place.unwrap_or(line.waiting.len()) == 0 && line.limiter.allow(now) {
            line.waiting.retain(|(waits, _)| Some(*waits) != ticket);
            return Ok(());
        }
        if let Some(waits) = place.and_then(|place| line.waiting.get_mut(place)) {
            waits.1 = now;
            return Err(ticket);
        }
        if line.waiting.len() >= WAITING_MAX {
            return Err(None);
        }
        line.tickets += 1;
        let ticket = Ticket(line.tickets);
        line.waiting.push_back((ticket, now));
        Err(Some(ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the line moves at its rate, in order, past those that have gone, and has an end.
    #[test]
    fn who_came_first_is_served_first_and_who_left_holds_nobody_up() {
        let limit = ExchangeLimit::default();
        let mut now = Timestamp::from_millis(1000);
        assert_eq!((0..100).filter(|_| limit.ask(now, None).is_ok()).count(), EXCHANGES_BURST as usize);
        // Those before are gone; what was earned meanwhile is spent first.
        now += GONE;
        let waiting: Vec<Ticket> = (0..400).filter_map(|_| limit.ask(now, None).err().flatten()).collect();
        assert_eq!(waiting.len(), WAITING_MAX);
        let mut served = Vec::new();
        let mut asking: Vec<Ticket> = waiting.iter().copied().filter(|ticket| ticket.0 % 2 == 0).collect();
        for _ in 0..100 {
            now += ASK_AGAIN;
            asking.retain(|ticket| {
                let turn = limit.ask(now, Some(*ticket)).is_ok();
                if turn {
                    served.push(*ticket);
                }
                !turn
            });
        }
        assert!(served.is_sorted_by_key(|ticket| ticket.0));
        // One second, less until the others are gone, and what was saved up meanwhile.
        assert!((36..=45).contains(&served.len()), "{}", served.len());
    }
}
