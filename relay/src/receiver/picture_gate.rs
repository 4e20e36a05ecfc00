//! Keeps pictures back that no decoder can use: after an interruption the leading video goes on with a random access point.
//!
//! Outputs are one continuous session each. A sender that begins anew, or that was cut off for longer than [`CUT_OFF_AFTER`],
//! goes on in the middle of a group of pictures more often than not; its pictures refer to ones that never came, and a platform
//! would show (and keep) garbage until the next key frame. A short loss is left to the decoder, which conceals it better than a
//! freeze would. Sound is never held. Pure.

use crate::media::pes::TICKS_PER_SECOND;
use crate::media::unit::Unit;

/// Missing pictures of this length, in ticks, are an interruption.
const CUT_OFF_AFTER: i64 = TICKS_PER_SECOND;

/// See the module.
#[derive(Debug, Default)]
pub struct PictureGate {
    /// Epoch and decoding time of the last picture.
    last: Option<(u32, i64)>,
    closed: bool,
}

impl PictureGate {
    /// Whether the outputs get this unit; call it in order, for every unit.
    pub fn passes(&mut self, unit: &Unit) -> bool {
        if unit.track != unit.program.lead() || !unit.track().kind.is_video() {
            return true;
        }
        if let Some((epoch, dts)) = self.last.replace((unit.epoch, unit.dts)) {
            self.closed |= unit.epoch != epoch || (unit.after_loss && unit.dts - dts > CUT_OFF_AFTER);
        }
        self.closed &= !unit.random_access;
        !self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::samples;

    /// Which of the pictures pass; `change` gets their numbers.
    fn passed(change: impl Fn(usize, &mut Unit)) -> Vec<usize> {
        let mut gate = PictureGate::default();
        let pictures = samples::programme(3).into_iter().filter(|unit| unit.track == 0);
        let changed = pictures.enumerate().map(|(number, mut unit)| {
            change(number, &mut unit);
            (number, unit)
        });
        changed.filter(|(_, unit)| gate.passes(unit)).map(|(number, _)| number).collect()
    }

    #[test]
    fn after_an_interruption_pictures_wait_for_a_key_frame() {
        let all: Vec<usize> = (0..75).collect();
        assert_eq!(passed(|_, _| {}), all);
        // Key frames are 0, 25 and 50; the 30th picture is the first of another epoch, or comes after two seconds of loss.
        let expected: Vec<usize> = (0..30).chain(50..75).collect();
        assert_eq!(passed(|number, unit| unit.epoch = u32::from(number >= 30)), expected);
        let outage = |number: usize, unit: &mut Unit| {
            unit.after_loss = number == 30;
            unit.dts += if number >= 30 { 2 * TICKS_PER_SECOND } else { 0 };
        };
        assert_eq!(passed(outage), expected);
    }

    #[test]
    fn a_short_loss_a_slow_picture_and_sound_pass() {
        assert_eq!(passed(|number, unit| unit.after_loss = number == 30).len(), 75);
        let slow = |number: usize, unit: &mut Unit| unit.dts += if number >= 30 { 2 * TICKS_PER_SECOND } else { 0 };
        assert_eq!(passed(slow).len(), 75, "a source of few pictures is not cut off");
        let mut gate = PictureGate::default();
        for (number, mut unit) in samples::programme(1).into_iter().enumerate() {
            unit.epoch = u32::try_from(number).unwrap();
            assert!(unit.track == 0 || gate.passes(&unit));
        }
    }
}
