//! Network interfaces by sysfs and `getifaddrs`.

use crate::{HardwareError, UPLINKS_MAX, Uplink, UplinkKind, Uplinks};
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use units::Timestamp;

/// `class/net` plus the kernel's address list.
#[derive(Debug)]
pub struct LinuxUplinks {
    folder: PathBuf,
    exclude: Vec<String>,
}

/// What `getifaddrs` says of one interface.
#[derive(Debug, Default, Clone)]
struct Addresses {
    flags: Option<InterfaceFlags>,
    addresses: Vec<IpAddr>,
}

impl LinuxUplinks {
    /// Reads below `sysfs`; interfaces named in `exclude` are left out.
    pub fn new(sysfs: &Path, exclude: &[String]) -> Self {
        Self { folder: sysfs.join("class/net"), exclude: exclude.to_vec() }
    }

    fn uplink(&self, interface: &str, known: &Addresses) -> Option<Uplink> {
        let folder = self.folder.join(interface);
        if self.exclude.iter().any(|name| name == interface) || is_no_uplink(&folder) {
            return None;
        }
        let flags = known.flags.unwrap_or(InterfaceFlags::empty());
        if flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            return None;
        }
        let mut addresses: Vec<IpAddr> = known.addresses.iter().copied().filter(is_routable).collect();
        addresses.sort_by_key(IpAddr::is_ipv6); // carriers' IPv4 is the more dependable path to a relay
        let kind = kind(&folder);
        Some(Uplink {
            interface: interface.to_owned(),
            name: display_name(kind, interface),
            kind,
            link: None,
            problem: problem(flags, &addresses, kind),
            addresses,
            bind_to_interface: true,
            gateway: None,
            radio: None,
        })
    }
}

impl Uplinks for LinuxUplinks {
    fn scan(&mut self, _now: Timestamp) -> Result<Vec<Uplink>, HardwareError> {
        let known = addresses().map_err(|source| HardwareError::HardwareAddresses { source })?;
        Ok(known.iter().filter_map(|(name, known)| self.uplink(name, known)).take(UPLINKS_MAX).collect())
    }
}

/// By interface name, in its order.
fn addresses() -> Result<BTreeMap<String, Addresses>, nix::Error> {
    let mut known: BTreeMap<String, Addresses> = BTreeMap::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let interface = known.entry(entry.interface_name).or_default();
        interface.flags = Some(entry.flags);
        let Some(address) = entry.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            interface.addresses.push(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            interface.addresses.push(IpAddr::V6(v6.ip()));
        }
    }
    Ok(known)
}

/// Bridges, tunnels and bonds carry what an uplink carries already.
fn is_no_uplink(folder: &Path) -> bool {
    ["bridge", "tun_flags", "bonding"].iter().any(|name| folder.join(name).exists())
}

fn is_routable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified(),
    }
}

/// Drivers of cellular modems; others that show up as plain USB Ethernet stay `Ethernet`.
const MODEM_DRIVERS: [&str; 5] = ["qmi_wwan", "cdc_mbim", "huawei_cdc_ncm", "sierra_net", "mhi_net"];

fn kind(folder: &Path) -> UplinkKind {
    let uevent = std::fs::read_to_string(folder.join("uevent")).unwrap_or_default();
    let driver = std::fs::read_link(folder.join("device/driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    if uevent.contains("DEVTYPE=wlan") || folder.join("wireless").exists() {
        UplinkKind::Wifi
    } else if uevent.contains("DEVTYPE=wwan") || MODEM_DRIVERS.contains(&driver) {
        UplinkKind::Modem
    } else {
        UplinkKind::Ethernet
    }
}

fn display_name(kind: UplinkKind, interface: &str) -> String {
    let what = match kind {
        UplinkKind::Modem => "Modem",
        UplinkKind::Wifi => "Wi-Fi",
        UplinkKind::Ethernet => "Ethernet",
    };
    format!("{what} ({interface})")
}

fn problem(flags: InterfaceFlags, addresses: &[IpAddr], kind: UplinkKind) -> Option<String> {
    if !flags.contains(InterfaceFlags::IFF_UP) {
        return Some("switched off: enable the interface".to_owned());
    }
    if !flags.contains(InterfaceFlags::IFF_RUNNING) {
        return Some(
            match kind {
                UplinkKind::Modem => "no data connection: check SIM, plan and APN",
                UplinkKind::Wifi => "not connected to a network: choose one in the Wi-Fi settings",
                UplinkKind::Ethernet => "no cable: plug it in, or check the switch",
            }
            .to_owned(),
        );
    }
    addresses.is_empty().then(|| "no address: check that the network gives one by DHCP".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> InterfaceFlags {
        InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING
    }

    #[test]
    fn only_a_running_interface_with_a_routable_address_is_usable() {
        let sysfs = tempfile::tempdir().unwrap();
        let uplinks = LinuxUplinks::new(sysfs.path(), &["ap0".to_owned()]);
        let with = |flags, addresses: &[&str]| Addresses {
            flags: Some(flags),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let good = uplinks.uplink("eth0", &with(running(), &["fe80::1", "2001:db8::7", "192.0.2.7"])).unwrap();
        assert_eq!(good.problem, None);
        let expected: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(good.addresses, expected);
        let bare = uplinks.uplink("eth0", &with(running(), &["fe80::1", "169.254.3.4"])).unwrap();
        assert!(bare.problem.unwrap().starts_with("no address"));
        let unplugged = uplinks.uplink("eth0", &with(InterfaceFlags::IFF_UP, &["192.0.2.7"])).unwrap();
        assert!(unplugged.problem.unwrap().starts_with("no cable"));
        assert!(uplinks.uplink("eth0", &with(InterfaceFlags::empty(), &[])).unwrap().problem.is_some());
        assert_eq!(uplinks.uplink("ap0", &with(running(), &["192.0.2.7"])), None);
        assert_eq!(uplinks.uplink("lo", &with(running() | InterfaceFlags::IFF_LOOPBACK, &["127.0.0.1"])), None);
    }

    #[test]
    fn bridges_are_left_out_and_modems_known_by_their_driver() {
        let sysfs = tempfile::tempdir().unwrap();
        let net = sysfs.path().join("class/net");
        std::fs::create_dir_all(net.join("br0/bridge")).unwrap();
        std::fs::create_dir_all(net.join("wwan0/device")).unwrap();
        std::os::unix::fs::symlink("/drivers/qmi_wwan", net.join("wwan0/device/driver")).unwrap();
        std::fs::create_dir_all(net.join("wlan0")).unwrap();
        std::fs::write(net.join("wlan0/uevent"), "DEVTYPE=wlan\nINTERFACE=wlan0\n").unwrap();
        let uplinks = LinuxUplinks::new(sysfs.path(), &[]);
        let up = Addresses { flags: Some(running()), addresses: vec!["192.0.2.7".parse().unwrap()] };
        assert_eq!(uplinks.uplink("br0", &up), None);
        assert_eq!(uplinks.uplink("wwan0", &up).unwrap().kind, UplinkKind::Modem);
        assert_eq!(uplinks.uplink("wlan0", &up).unwrap().kind, UplinkKind::Wifi);
        assert_eq!(uplinks.uplink("eth0", &up).unwrap().kind, UplinkKind::Ethernet);
    }

    #[test]
    fn this_machine_can_be_scanned_and_its_loopback_is_no_uplink() {
        let uplinks = LinuxUplinks::new(Path::new("/sys"), &[]).scan(Timestamp::ZERO).unwrap();
        assert!(uplinks.iter().all(|uplink| uplink.interface != "lo"), "{uplinks:?}");
    }
}
