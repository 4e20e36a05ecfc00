//! Thermal zones of sysfs.

use super::attribute;
use crate::Thermal;
use std::path::{Path, PathBuf};
use units::Timestamp;

/// Most zones looked at.
const ZONES_MAX: usize = 32;
/// Readings outside are a broken sensor, degrees Celsius.
const PLAUSIBLE_C: std::ops::Range<f32> = -60.0..200.0;

/// `class/thermal/thermal_zone*/temp`.
#[derive(Debug)]
pub struct LinuxThermal {
    folder: PathBuf,
}

impl LinuxThermal {
    /// Reads below `sysfs`.
    pub fn new(sysfs: &Path) -> Self {
        Self { folder: sysfs.join("class/thermal") }
    }
}

impl Thermal for LinuxThermal {
    fn temperature_c(&mut self, _now: Timestamp) -> Option<f32> {
        (0..ZONES_MAX)
            .filter_map(|zone| attribute(&self.folder.join(format!("thermal_zone{zone}/temp"))))
            .filter_map(|text| text.parse::<f32>().ok())
            .map(|millidegrees| millidegrees / 1000.0)
            .filter(|degrees| PLAUSIBLE_C.contains(degrees))
            .reduce(f32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_plausible_zone_counts() {
        let sysfs = tempfile::tempdir().unwrap();
        let mut thermal = LinuxThermal::new(sysfs.path());
        assert_eq!(thermal.temperature_c(Timestamp::ZERO), None);
        for (zone, temp) in [(0, "41250\n"), (1, "67500\n"), (2, "nonsense"), (3, "-274000"), (4, "9000000")] {
            let folder = sysfs.path().join(format!("class/thermal/thermal_zone{zone}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("temp"), temp).unwrap();
        }
        assert_eq!(thermal.temperature_c(Timestamp::ZERO), Some(67.5));
    }
}
