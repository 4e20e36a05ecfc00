//! Synthetic cellular capacity: seeded, endless (looped), with the slow swings and the short dips of a moving modem.

use link_sim::{Capacity, ConfigError, Rng, Trace};

/// Length of the loop.
const LOOP_MS: u32 = 120_000;
/// Bits of one delivery opportunity.
const OPPORTUNITY_BITS: f64 = 1500.0 * 8.0;
/// Time constant of the slow swing: a cell's load changes within seconds.
const SWING_MS: f64 = 4000.0;
/// Strength of the slow swing in the logarithm of the rate; 0.3 keeps most of the time within a factor of 2.
const SWING: f64 = 0.3;
/// Mean distance of dips (a handover, a lorry in between).
const DIP_EVERY_MS: f64 = 20_000.0;
/// Length of a dip.
const DIP_MS: u32 = 700;
/// What remains of the rate in a dip.
const DIP_SHARE: f64 = 0.25;

/// Capacity that moves around `mean_kbps`, the same for the same seed.
///
/// # Errors
/// The mean is so low that the loop would hold no packet.
pub fn cellular(mean_kbps: u64, seed: u64) -> Result<Capacity, ConfigError> {
    let mut chance = Rng::new(seed, 0);
    let (mut swing, mut dip_left, mut credit) = (0.0_f64, 0_u32, 0.0_f64);
    let step = (2.0 / SWING_MS).sqrt() * SWING;
    let mut opportunities = Vec::new();
    for ms in 1..=LOOP_MS {
        swing += -swing / SWING_MS + step * chance.normal();
        if dip_left == 0 && chance.chance(1.0 / DIP_EVERY_MS) {
            dip_left = DIP_MS;
        }
        let share = if dip_left > 0 { DIP_SHARE } else { 1.0 };
        dip_left = dip_left.saturating_sub(1);
        credit += mean_kbps as f64 * swing.exp() * share;
        while credit >= OPPORTUNITY_BITS {
            credit -= OPPORTUNITY_BITS;
            opportunities.push(ms);
        }
    }
    Ok(Capacity::Trace { trace: Trace::new(opportunities)?, offset_ms: 0, scale: 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opportunities(mean_kbps: u64, seed: u64) -> Vec<u32> {
        match cellular(mean_kbps, seed).unwrap() {
            Capacity::Trace { trace, .. } => trace.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_trace_keeps_its_mean_moves_and_repeats_with_its_seed() {
        for seed in 1..=3 {
            let trace = opportunities(3000, seed);
            let mean_kbps = trace.len() as f64 * OPPORTUNITY_BITS / f64::from(LOOP_MS);
            assert!((2200.0..4200.0).contains(&mean_kbps), "seed {seed}: {mean_kbps}");
            let mut seconds = vec![0_u32; LOOP_MS as usize / 1000];
            for ms in &trace {
                seconds[(*ms as usize - 1) / 1000] += 1;
            }
            let (low, high) = (seconds.iter().min().unwrap(), seconds.iter().max().unwrap());
            assert!(high > &(low * 2), "seed {seed}: it must move, {low}..{high} packets a second");
            assert_eq!(trace, opportunities(3000, seed));
        }
        assert_ne!(opportunities(3000, 1), opportunities(3000, 2));
        assert!(cellular(0, 1).is_err());
    }
}
