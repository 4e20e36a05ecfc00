//! Puts sound and picture in the order of their times, which RTMP servers expect and MPEG-TS does not promise.

use std::collections::VecDeque;

/// A message is held at most until another one is so much later.
const HELD_MS_MAX: i64 = 1000;
/// Messages held at most: a second of 60 pictures and sound, many times over.
const HELD_MESSAGES_MAX: usize = 1024;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Pictures.
    Video = 0,
    /// Sound.
    Audio = 1,
}

/// A message for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub lane: Lane,
    /// Milliseconds from the session's first picture.
    pub at_ms: i64,
    /// FLV tag body.
    pub body: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Interleaver {
    held: VecDeque<Message>,
    /// The latest time of each lane; `None` until something of it came.
    latest: [Option<i64>; 2],
}

impl Interleaver {
    /// Takes a message; within a lane they come in order.
    pub fn push(&mut self, message: Message) {
        self.latest[message.lane as usize] = Some(message.at_ms);
        let behind = self.held.iter().rev().take_while(|held| held.at_ms > message.at_ms).count();
        self.held.insert(self.held.len() - behind, message);
    }

    /// The next message that nothing earlier can follow any more.
    pub fn pop(&mut self) -> Option<Message> {
        let first = self.held.front()?.at_ms;
        let last = self.held.back().map_or(first, |message| message.at_ms);
        let settled = match self.latest {
            [Some(video), Some(audio)] => first <= video.min(audio),
            // With one lane only, the other has its time to appear.
            _ => false,
        };
        (settled || last - first > HELD_MS_MAX || self.held.len() > HELD_MESSAGES_MAX)
            .then(|| self.held.pop_front())
            .flatten()
    }

    /// What is left, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Message> {
        self.held.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lane: Lane, at_ms: i64) -> Message {
        Message { lane, at_ms, body: vec![] }
    }

    fn order(messages: &[(Lane, i64)]) -> Vec<i64> {
        let mut interleaver = Interleaver::default();
        let mut out = Vec::new();
        for &(lane, at_ms) in messages {
            interleaver.push(message(lane, at_ms));
            while let Some(message) = interleaver.pop() {
                out.push(message.at_ms);
            }
        }
        out
    }

    #[test]
    fn late_sound_is_put_between_the_pictures() {
        use Lane::{Audio, Video};
        let came =
            [(Video, 0), (Video, 40), (Video, 80), (Audio, 5), (Audio, 26), (Audio, 47), (Audio, 90), (Video, 120)];
        assert_eq!(order(&came), [0, 5, 26, 40, 47, 80, 90]);
    }

    #[test]
    fn a_lane_that_never_comes_or_stops_holds_the_other_for_a_second_only() {
        let pictures: Vec<(Lane, i64)> = (0..50).map(|frame| (Lane::Video, frame * 40)).collect();
        assert_eq!(order(&pictures).len(), 50 - 26);
        let mut stopped = vec![(Lane::Audio, 0)];
        stopped.extend(&pictures);
        assert_eq!(order(&stopped).last(), Some(&(49 * 40 - 1040)));
    }
}
