//! What a modem's radio readings foretell. Optional input, never required.

use std::time::Duration;
use units::Timestamp;

use crate::sender::RadioHint;

/// What a link between two cells is believed to carry, as a share of before.
const HANDOVER: f64 = 0.3;
/// What a link whose signal fades is believed to carry.
const FADING: f64 = 0.7;
/// A signal that fell by so many dB within `SLOPE_TIME` fades.
const RSRP_DROP_DB: f32 = 6.0;
/// The same for the channel quality indicator: each step is about 2 dB.
const CQI_DROP: u8 = 4;
const SLOPE_TIME: Duration = Duration::from_secs(2);
/// After a cut the measures of the link itself tell more.
const REST: Duration = Duration::from_secs(2);

/// The readings of one modem.
#[derive(Debug, Clone, Default)]
pub(crate) struct Radio {
    /// The best readings of the last [`SLOPE_TIME`] or so, and when they were taken.
    rsrp: Option<(Timestamp, f32)>,
    cqi: Option<(Timestamp, u8)>,
    rest_until: Option<Timestamp>,
    handover: bool,
}

impl Radio {
    /// Takes a reading; the share of its capacity that the link keeps, when that is to be cut.
    pub(crate) fn on_hint(&mut self, now: Timestamp, hint: RadioHint) -> Option<f64> {
        let began = hint.handover && !self.handover;
        self.handover = hint.handover;
        let faded =
            hint.rsrp_dbm.is_some_and(|rsrp| fell(&mut self.rsrp, now, rsrp, |best| best - rsrp >= RSRP_DROP_DB));
        let poorer =
            hint.cqi.is_some_and(|cqi| fell(&mut self.cqi, now, cqi, |best| best >= cqi.saturating_add(CQI_DROP)));
        if began {
            self.rest_until = Some(now + REST);
            return Some(HANDOVER);
        }
        if !(faded || poorer) || self.rest_until.is_some_and(|until| now < until) {
            return None;
        }
        self.rest_until = Some(now + REST);
        Some(FADING)
    }
}

/// Compares a reading with the best of the recent ones, and keeps the better.
fn fell<T: PartialOrd + Copy>(
    best: &mut Option<(Timestamp, T)>,
    now: Timestamp,
    reading: T,
    drop: impl Fn(T) -> bool,
) -> bool {
    match *best {
        Some((at, value)) if now - at <= SLOPE_TIME && value > reading => {
            let fell = drop(value);
            if fell {
                *best = Some((now, reading));
            }
            fell
        }
        _ => {
            *best = Some((now, reading));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsrp(dbm: f32) -> RadioHint {
        RadioHint { rsrp_dbm: Some(dbm), ..RadioHint::default() }
    }

    #[test]
    fn a_fading_signal_costs_three_tenths_once() {
        let mut radio = Radio::default();
        let at = |ms| Timestamp::from_millis(ms);
        assert_eq!(radio.on_hint(at(0), rsrp(-90.0)), None);
        assert_eq!(radio.on_hint(at(500), rsrp(-94.0)), None);
        assert_eq!(radio.on_hint(at(1000), rsrp(-96.5)), Some(0.7));
        assert_eq!(radio.on_hint(at(1500), rsrp(-104.0)), None, "the cut is left to work");
        assert_eq!(radio.on_hint(at(9000), rsrp(-112.0)), None, "a slow change is no slope");
        assert_eq!(radio.on_hint(at(9500), RadioHint { cqi: Some(12), ..RadioHint::default() }), None);
        assert_eq!(radio.on_hint(at(9900), RadioHint { cqi: Some(7), ..RadioHint::default() }), Some(0.7));
        assert_eq!(radio.on_hint(at(9950), RadioHint::default()), None);
    }

    #[test]
    fn a_handover_cuts_when_it_begins() {
        let mut radio = Radio::default();
        let between = RadioHint { handover: true, ..RadioHint::default() };
        assert_eq!(radio.on_hint(Timestamp::from_millis(5), between), Some(0.3));
        assert_eq!(radio.on_hint(Timestamp::from_millis(100), between), None);
    }
}
