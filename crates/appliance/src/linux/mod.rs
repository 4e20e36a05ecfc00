//! The real machine: sysfs, `getifaddrs`, V4L2.

mod inputs;
mod thermal;
mod uplinks;

pub use inputs::LinuxInputs;
pub use thermal::LinuxThermal;
pub use uplinks::LinuxUplinks;

use crate::Appliance;
use serde::Deserialize;
use std::path::Path;

/// Options of the real hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinuxConfig {
    /// Interfaces that never carry media: the device's own access point, a service port.
    pub exclude_interfaces: Vec<String>,
}

/// The hardware of this machine.
pub fn open(config: &LinuxConfig) -> Appliance {
    Appliance {
        board: board_name(Path::new("/")),
        uplinks: Box::new(LinuxUplinks::new(Path::new("/sys"), &config.exclude_interfaces)),
        inputs: Box::new(LinuxInputs::new(Path::new("/sys"), Path::new("/dev"))),
        thermal: Box::new(LinuxThermal::new(Path::new("/sys"))),
    }
}

/// Longest board name reported, in characters.
const BOARD_CHARS_MAX: usize = 64;

/// What the hardware calls itself: the device tree's model, else the firmware's product name.
fn board_name(root: &Path) -> String {
    ["sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(root.join(path)).ok())
        .map(|text| {
            text.trim_matches(|c: char| c.is_control() || c == ' ').chars().take(BOARD_CHARS_MAX).collect::<String>()
        })
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "Linux".to_owned())
}

/// The first line of a small sysfs file, trimmed; `None` when it is absent or unreadable.
fn attribute(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()?.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_is_named_by_its_device_tree_without_the_closing_zero() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(board_name(root.path()), "Linux");
        let tree = root.path().join("sys/firmware/devicetree/base");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("model"), "Radxa ROCK 5B+\0").unwrap();
        assert_eq!(board_name(root.path()), "Radxa ROCK 5B+");
    }
}
