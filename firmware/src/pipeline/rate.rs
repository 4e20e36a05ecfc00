//! The encoder's bitrate from the bond's advice. Pure.
//!
//! The bond says what *media payload* it can carry in time: MPEG-TS bits. What the encoder may produce is that, less the
//! sound and the multiplexer's own bits, within the range of the order. The bond has already decided how fast its advice
//! rises and how deep it falls; here only changes too small to matter are kept from the encoder, because each one makes
//! its rate control start anew.

use protocol::stream::EncodingSpec;
use std::time::Duration;
use units::{Bitrate, Timestamp};

/// TS, PES and PCR bits per video bit at 25 to 60 frames a second; measured 1.035 at 3 Mbit/s, 1.06 at 500 kbit/s.
const VIDEO_OVERHEAD: f64 = 0.06;
/// TS and PES bits per audio bit: one AAC frame of 21 ms fills its last TS packet with stuffing; measured 1.15 to 1.45.
const AUDIO_OVERHEAD: f64 = 0.35;
/// PAT and PMT ten times a second.
const TABLES: Bitrate = Bitrate::from_kbps(31);
/// Share by which a target must change to be applied. Larger wastes capacity, smaller disturbs the encoder.
const CHANGE_MIN: f64 = 0.03;
/// Shortest time between two raises. A fall is applied at once.
const RAISE_INTERVAL: Duration = Duration::from_millis(250);

/// Follows the bond's advice.
#[derive(Debug, Clone)]
pub struct RateFollower {
    min: Bitrate,
    max: Bitrate,
    audio: Bitrate,
    target: Bitrate,
    raised_at: Timestamp,
}

impl RateFollower {
    /// Starts at the bottom of the range: nothing is known about the links yet.
    pub fn new(encoding: &EncodingSpec) -> Self {
        Self {
            min: encoding.bitrate_min,
            max: encoding.bitrate_max,
            audio: encoding.audio_bitrate,
            target: encoding.bitrate_min,
            raised_at: Timestamp::ZERO,
        }
    }

    /// What the encoder was last asked for.
    pub fn target(&self) -> Bitrate {
        self.target
    }

    /// The range in media payload bits, for the bond: it advises within it.
    pub fn payload_range(&self) -> (Bitrate, Bitrate) {
        (self.payload_for(self.min), self.payload_for(self.max))
    }

    /// Sets another range; the next advice moves the target into it.
    pub fn set_range(&mut self, min: Bitrate, max: Bitrate) {
        (self.min, self.max) = (min, max);
    }

    /// The new target when `advice` changes it enough.
    pub fn follow(&mut self, now: Timestamp, advice: Bitrate) -> Option<Bitrate> {
        let wanted = self.video_of(advice).clamp(self.min, self.max);
        let (from, to) = (self.target.as_bps() as f64, wanted.as_bps() as f64);
        let at_the_edge = wanted != self.target && (wanted == self.min || wanted == self.max);
        let outside = self.target < self.min || self.target > self.max;
        if !outside && !at_the_edge && (to - from).abs() < from * CHANGE_MIN {
            return None;
        }
        if wanted > self.target {
            if !outside && now.since(self.raised_at) < RAISE_INTERVAL {
                return None;
            }
            self.raised_at = now;
        }
        if wanted == self.target {
            return None;
        }
        self.target = wanted;
        Some(wanted)
    }

    fn video_of(&self, payload: Bitrate) -> Bitrate {
        // Whole kbit/s; the two bits make up for rounding, so that the top of the range comes back as itself.
        let video = payload.saturating_sub(self.fixed()).scaled(1.0 / (1.0 + VIDEO_OVERHEAD));
        Bitrate::from_kbps((video + Bitrate::from_bps(2)).as_kbps())
    }

    fn payload_for(&self, video: Bitrate) -> Bitrate {
        video.scaled(1.0 + VIDEO_OVERHEAD) + self.fixed()
    }

    fn fixed(&self) -> Bitrate {
        self.audio.scaled(1.0 + AUDIO_OVERHEAD) + TABLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower() -> RateFollower {
        RateFollower::new(&EncodingSpec::default()) // 300 to 5000 kbit/s, audio 128
    }

    #[test]
    fn the_target_leaves_room_for_sound_and_multiplexer() {
        let mut rate = follower();
        let target = rate.follow(Timestamp::from_millis(1000), Bitrate::from_kbps(3000)).unwrap();
        // (3000 - 128 * 1.35 - 31) / 1.06
        assert_eq!(target.as_kbps(), 2637);
        assert!(rate.payload_for(target) <= Bitrate::from_kbps(3000));
    }

    #[test]
    fn the_target_stays_in_the_range() {
        let mut rate = follower();
        assert_eq!(
            rate.follow(Timestamp::from_millis(500), Bitrate::from_kbps(90_000)),
            Some(Bitrate::from_kbps(5000))
        );
        assert_eq!(rate.follow(Timestamp::from_millis(501), Bitrate::ZERO), Some(Bitrate::from_kbps(300)));
        assert_eq!(rate.follow(Timestamp::from_millis(502), Bitrate::ZERO), None);
        let (low, high) = rate.payload_range();
        assert_eq!(rate.video_of(high), Bitrate::from_kbps(5000));
        assert!(low > Bitrate::from_kbps(300) && high > Bitrate::from_kbps(5000));
    }

    #[test]
    fn a_fall_is_applied_at_once_and_raises_are_spaced() {
        let mut rate = follower();
        let at = Timestamp::from_millis;
        assert!(rate.follow(at(1000), Bitrate::from_kbps(2000)).is_some());
        assert_eq!(rate.follow(at(1100), Bitrate::from_kbps(3000)), None, "raised 100 ms ago");
        let low = rate.follow(at(1120), Bitrate::from_kbps(1000)).unwrap();
        assert!(low < Bitrate::from_kbps(1000));
        assert!(rate.follow(at(1250), Bitrate::from_kbps(3000)).is_some());
    }

    #[test]
    fn small_changes_leave_the_encoder_alone() {
        let mut rate = follower();
        rate.follow(Timestamp::from_millis(1000), Bitrate::from_kbps(3000));
        assert_eq!(rate.follow(Timestamp::from_millis(5000), Bitrate::from_kbps(3050)), None);
        assert_eq!(rate.follow(Timestamp::from_millis(6000), Bitrate::from_kbps(2950)), None);
        assert!(rate.follow(Timestamp::from_millis(7000), Bitrate::from_kbps(2850)).is_some());
    }

    #[test]
    fn a_new_range_takes_effect_with_the_next_advice() {
        let mut rate = follower();
        rate.follow(Timestamp::from_millis(1000), Bitrate::from_kbps(4000));
        rate.set_range(Bitrate::from_kbps(200), Bitrate::from_kbps(1500));
        assert_eq!(rate.follow(Timestamp::from_millis(1010), Bitrate::from_kbps(4000)), Some(Bitrate::from_kbps(1500)));
        rate.set_range(Bitrate::from_kbps(2000), Bitrate::from_kbps(6000));
        assert_eq!(rate.follow(Timestamp::from_millis(1020), Bitrate::ZERO), Some(Bitrate::from_kbps(2000)));
    }
}
