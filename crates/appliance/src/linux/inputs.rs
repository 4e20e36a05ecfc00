//! V4L2 capture devices by sysfs and `VIDIOC_QUERYCAP`, and the test pattern.

use super::attribute;
use crate::{CaptureInput, CaptureInputs, HardwareError, INPUTS_MAX, InputSignal, InputSource};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use units::Timestamp;

/// `class/video4linux`.
#[derive(Debug)]
pub struct LinuxInputs {
    folder: PathBuf,
    devices: PathBuf,
}

impl LinuxInputs {
    /// Reads below `sysfs`, opens devices below `devices`.
    pub fn new(sysfs: &Path, devices: &Path) -> Self {
        Self { folder: sysfs.join("class/video4linux"), devices: devices.to_owned() }
    }

    fn input(&self, node: &str) -> Option<CaptureInput> {
        let device = self.devices.join(node);
        if !captures(&device) {
            return None;
        }
        let folder = self.folder.join(node);
        let name = attribute(&folder.join("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| node.to_owned());
        Some(CaptureInput {
            id: format!("v4l2-{node}"),
            name,
            source: InputSource::V4l2 {
                device: device.to_string_lossy().into_owned(),
                audio_device: sound_card(&folder).map(|card| format!("hw:{card}")),
            },
            signal: InputSignal::Unknown,
        })
    }
}

impl CaptureInputs for LinuxInputs {
    fn scan(&mut self, _now: Timestamp) -> Result<Vec<CaptureInput>, HardwareError> {
        let mut nodes = folder_names(&self.folder)?;
        nodes.sort_by_key(|node| node.trim_start_matches("video").parse::<u32>().unwrap_or(u32::MAX));
        let mut inputs: Vec<_> = nodes.iter().filter_map(|node| self.input(node)).take(INPUTS_MAX - 1).collect();
        inputs.push(test_pattern());
        Ok(inputs)
    }
}

/// The pattern every device has.
fn test_pattern() -> CaptureInput {
    CaptureInput {
        id: "test".to_owned(),
        name: "Test pattern".to_owned(),
        source: InputSource::Test { width: 1280, height: 720, frames_per_second: 25 },
        signal: InputSignal::Present { mode: Some("1280x720p25".to_owned()) },
    }
}

/// Names in a folder of sysfs, none when the kernel has no such class.
fn folder_names(folder: &Path) -> Result<Vec<String>, HardwareError> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(HardwareError::HardwareSysfs { path: folder.to_owned(), source }),
    }
}

/// The number of the ALSA card on the same USB device (a UVC capture has its sound on a sibling interface).
fn sound_card(folder: &Path) -> Option<u32> {
    let parent = folder.join("device").canonicalize().ok()?.parent()?.to_owned();
    folder_names(&parent)
        .ok()?
        .iter()
        .flat_map(|interface| folder_names(&parent.join(interface).join("sound")).unwrap_or_default())
        .find_map(|name| name.strip_prefix("card")?.parse().ok())
}

/// `struct v4l2_capability` of `linux/videodev2.h`.
#[repr(C)]
#[derive(Default)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

const CAN_CAPTURE: u32 = 0x1 | 0x1000; // V4L2_CAP_VIDEO_CAPTURE, .._MPLANE
const IS_CODEC: u32 = 0x4000 | 0x8000; // V4L2_CAP_VIDEO_M2M_MPLANE, V4L2_CAP_VIDEO_M2M

nix::ioctl_read!(query_capability, b'V', 0, Capability);

/// Whether the node gives pictures: no codec, no metadata node, not gone.
fn captures(device: &Path) -> bool {
    let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(device)
    else {
        return false;
    };
    let mut capability = Capability::default();
    // SAFETY: the descriptor is open, and the struct is the one VIDIOC_QUERYCAP fills.
    let outcome = unsafe { query_capability(file.as_raw_fd(), &raw mut capability) };
    outcome.is_ok() && capability.device_caps & CAN_CAPTURE != 0 && capability.device_caps & IS_CODEC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_capture_hardware_still_has_the_test_pattern() {
        let root = tempfile::tempdir().unwrap();
        let mut inputs = LinuxInputs::new(root.path(), root.path());
        assert_eq!(inputs.scan(Timestamp::ZERO).unwrap(), [test_pattern()]);
    }

    #[test]
    fn a_node_that_is_no_capture_device_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("class/video4linux/video0")).unwrap();
        std::fs::write(root.path().join("video0"), "a plain file").unwrap();
        let mut inputs = LinuxInputs::new(root.path(), root.path());
        assert_eq!(inputs.scan(Timestamp::ZERO).unwrap(), [test_pattern()]);
    }

    #[test]
    fn the_capability_struct_has_the_size_of_the_kernels() {
        assert_eq!(size_of::<Capability>(), 104);
    }

    #[test]
    fn the_sound_of_a_usb_capture_is_found_on_its_sibling_interface() {
        let root = tempfile::tempdir().unwrap();
        let usb = root.path().join("devices/usb1/1-1");
        std::fs::create_dir_all(usb.join("1-1:1.0/video4linux/video2")).unwrap();
        std::fs::create_dir_all(usb.join("1-1:1.2/sound/card3")).unwrap();
        let folder = root.path().join("class/video4linux/video2");
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(usb.join("1-1:1.0"), folder.join("device")).unwrap();
        assert_eq!(sound_card(&folder), Some(3));
    }
}
