//! Scripted uplinks.

use super::Outage;
use crate::{HardwareError, Radio, UPLINKS_MAX, Uplink, UplinkKind, Uplinks};
use serde::Deserialize;
use std::f64::consts::TAU;
use std::net::IpAddr;
use units::{LinkId, Timestamp};

/// One scripted uplink.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeUplink {
    /// The bond's number for it.
    pub link: u16,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: UplinkKind,
    /// Name of the interface that is pretended.
    pub interface: String,
    /// Local address media is sent from.
    pub bind: IpAddr,
    /// Where an emulated link listens; it takes the place of the receiver's address, port kept.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Operator or network name; no radio readings when absent.
    #[serde(default)]
    pub operator: Option<String>,
    /// "4G", "5G", "Wi-Fi".
    #[serde(default)]
    pub technology: String,
    /// Middle of the signal strength, dBm.
    #[serde(default = "default_signal_dbm")]
    pub signal_dbm: f32,
    /// Largest distance from the middle, dB.
    #[serde(default)]
    pub signal_swing_db: f32,
    /// When the interface is gone.
    #[serde(default)]
    pub outages: Vec<Outage>,
    /// When the interface is there and has no data connection.
    #[serde(default)]
    pub dead: Vec<Outage>,
}

fn default_signal_dbm() -> f32 {
    -90.0
}

/// The two waves a signal is made of: period in seconds, share of the swing.
const WAVES: [(f64, f64); 2] = [(47.0, 0.65), (11.0, 0.35)];

/// All scripted uplinks.
#[derive(Debug)]
pub struct FakeUplinks {
    uplinks: Vec<FakeUplink>,
    seed: u64,
}

impl FakeUplinks {
    /// Plays `uplinks`; `seed` moves their signals.
    pub fn new(uplinks: &[FakeUplink], seed: u64) -> Self {
        Self { uplinks: uplinks.iter().take(UPLINKS_MAX).cloned().collect(), seed }
    }
}

impl Uplinks for FakeUplinks {
    fn scan(&mut self, now: Timestamp) -> Result<Vec<Uplink>, HardwareError> {
        let present = self.uplinks.iter().filter(|uplink| !Outage::any(&uplink.outages, now));
        Ok(present.map(|uplink| uplink.at(now, self.seed)).collect())
    }
}

impl FakeUplink {
    fn at(&self, now: Timestamp, seed: u64) -> Uplink {
        let dead = Outage::any(&self.dead, now);
        Uplink {
            interface: self.interface.clone(),
            name: self
                .operator
                .as_ref()
                .map_or_else(|| self.name.clone(), |operator| format!("{} ({operator})", self.name)),
            kind: self.kind,
            link: Some(LinkId(self.link)),
            addresses: vec![self.bind],
            bind_to_interface: false,
            gateway: self.gateway,
            problem: dead.then(|| "registered, no data: check plan and APN".to_owned()),
            radio: self.operator.as_ref().map(|operator| Radio {
                technology: self.technology.clone(),
                operator: operator.clone(),
                signal_dbm: self.signal_dbm + self.signal_swing_db * self.wave(now, seed),
                read_at: now,
            }),
        }
    }

    /// -1 to 1, smooth in time, different for each link.
    fn wave(&self, now: Timestamp, seed: u64) -> f32 {
        let phase = scatter(seed ^ u64::from(self.link));
        let sum: f64 = WAVES
            .iter()
            .enumerate()
            .map(|(index, (period, share))| {
                share * (TAU * (now.as_secs_f64() / period + phase * (index + 1) as f64)).sin()
            })
            .sum();
        sum as f32
    }
}

/// A number from 0 to 1 that looks random in its argument (the finalizer of SplitMix64).
fn scatter(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"
        link = 2
        name = "Modem 3"
        kind = "modem"
        interface = "fake2"
        bind = "127.0.0.1"
        gateway = "127.0.13.1"
        operator = "Southnet"
        technology = "5G"
        signal_dbm = -85.0
        signal_swing_db = 8.0
        outages = [{ from_s = 20.0, to_s = 30.0 }]
        dead = [{ from_s = 40.0 }]
    "#;

    fn scan(now_s: u64) -> Vec<Uplink> {
        let uplink: FakeUplink = toml::from_str(SCRIPT).unwrap();
        FakeUplinks::new(&[uplink], 7).scan(Timestamp::from_millis(now_s * 1000)).unwrap()
    }

    #[test]
    fn an_uplink_vanishes_and_returns_as_scripted() {
        assert_eq!(scan(19).len(), 1);
        assert_eq!(scan(20), []);
        assert_eq!(scan(29), []);
        let back = scan(30);
        assert_eq!(back[0].link, Some(LinkId(2)));
        assert_eq!(back[0].gateway, Some("127.0.13.1".parse().unwrap()));
        assert_eq!(back[0].problem, None);
        assert!(scan(40)[0].problem.as_ref().unwrap().contains("APN"));
    }

    #[test]
    fn the_signal_moves_within_its_swing_and_the_same_in_each_run() {
        let readings: Vec<f32> = (0..19).map(|second| scan(second)[0].radio.as_ref().unwrap().signal_dbm).collect();
        let again: Vec<f32> = (0..19).map(|second| scan(second)[0].radio.as_ref().unwrap().signal_dbm).collect();
        assert_eq!(readings, again);
        assert!(readings.iter().all(|dbm| (-93.0..=-77.0).contains(dbm)), "{readings:?}");
        let lowest = readings.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = readings.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(highest - lowest > 3.0, "moves by at least 3 dB within 19 s: {readings:?}");
    }

    #[test]
    fn links_move_apart() {
        let first: FakeUplink = toml::from_str(SCRIPT).unwrap();
        let second = FakeUplink { link: 1, ..first.clone() };
        let now = Timestamp::from_millis(5000);
        assert!((first.wave(now, 7) - second.wave(now, 7)).abs() > 0.05);
    }
}
