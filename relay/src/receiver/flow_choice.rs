//! Which of several flows is the stream: a restarted sender makes a new flow while the old one may still be draining, and a
//! sender that hangs may come back.

use std::time::Duration;
use units::Timestamp;

/// A flow that was left is followed again only when the present one has been silent for so long.
const SILENCE: Duration = Duration::from_secs(2);
/// Flows remembered as left; the oldest is forgotten first.
const LEFT_MAX: usize = 16;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It belongs to the stream.
    Follow,
    /// It begins the stream anew: another sender, or the same after a restart.
    Switch,
    /// It is from a flow that was left.
    Ignore,
}

/// Follows the newest flow.
#[derive(Debug, Default)]
pub struct FlowChoice {
    present: Option<(u32, Timestamp)>,
    left: Vec<u32>,
}

impl FlowChoice {
    /// Decides about a packet of `flow`.
    pub fn choose(&mut self, now: Timestamp, flow: u32) -> Choice {
        let Some((present, last)) = &mut self.present else {
            self.present = Some((flow, now));
            return Choice::Follow;
        };
        if *present == flow {
            *last = now;
            return Choice::Follow;
        }
        if self.left.contains(&flow) && now.since(*last) < SILENCE {
            return Choice::Ignore;
        }
        self.left.retain(|left| *left != flow);
        if self.left.len() == LEFT_MAX {
            self.left.remove(0);
        }
        self.left.push(*present);
        self.present = Some((flow, now));
        Choice::Switch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_flow_is_followed_and_an_old_one_only_after_silence() {
        let mut choice = FlowChoice::default();
        let at = Timestamp::from_millis;
        assert_eq!(choice.choose(at(0), 10), Choice::Follow);
        assert_eq!(choice.choose(at(100), 20), Choice::Switch);
        assert_eq!(choice.choose(at(110), 10), Choice::Ignore);
        assert_eq!(choice.choose(at(120), 20), Choice::Follow);
        assert_eq!(choice.choose(at(2119), 10), Choice::Ignore);
        assert_eq!(choice.choose(at(2120), 10), Choice::Switch);
        assert_eq!(choice.choose(at(2130), 20), Choice::Ignore);
    }
}
