//! Ports of one lab: the product's defaults when they are free, else others.

use anyhow::{Result, bail};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;

/// How many receivers (even ports) a lab's relay may run.
pub const RECEIVERS: u16 = 5;
/// Where other ports are looked for: below the range the kernel gives to outgoing connections.
const SEARCH: Range<u16> = 20_000..32_000;

/// Everything a lab listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// The relay's dashboard.
    pub dashboard: u16,
    /// The relay's MQTT broker.
    pub broker: u16,
    /// The relay's enrolment.
    pub enrolment: u16,
    /// The device's local page.
    pub local_page: u16,
    /// First of the receivers' UDP ports; even.
    pub receivers_first: u16,
    /// The RTMP reader.
    pub rtmp: u16,
    /// The SRT reader (UDP).
    pub srt: u16,
    /// The camera on the device's network (UDP).
    pub camera: u16,
}

impl Ports {
    /// The product's own defaults, each replaced when it is taken.
    ///
    /// # Errors
    /// Nothing is free.
    pub fn usual(gateways: &[IpAddr]) -> Result<Self> {
        let mut finder = Finder::new();
        Ok(Self {
            dashboard: finder.tcp(Some(8080))?,
            broker: finder.tcp(Some(8883))?,
            enrolment: finder.tcp(Some(8443))?,
            local_page: finder.tcp(Some(8081))?,
            receivers_first: finder.receivers(Some(5000), gateways)?,
            rtmp: finder.tcp(Some(1935))?,
            srt: finder.udp(Some(9710))?,
            camera: finder.udp(Some(9720))?,
        })
    }

    /// Ports that nobody uses.
    ///
    /// # Errors
    /// Nothing is free.
    pub fn any(gateways: &[IpAddr]) -> Result<Self> {
        let mut finder = Finder::new();
        Ok(Self {
            dashboard: finder.tcp(None)?,
            broker: finder.tcp(None)?,
            enrolment: finder.tcp(None)?,
            local_page: finder.tcp(None)?,
            receivers_first: finder.receivers(None, gateways)?,
            rtmp: finder.tcp(None)?,
            srt: finder.udp(None)?,
            camera: finder.udp(None)?,
        })
    }

    /// The receivers' ports.
    pub fn receivers(&self) -> Vec<u16> {
        (0..RECEIVERS).map(|i| self.receivers_first + 2 * i).collect()
    }

    /// The last of the receivers' ports.
    pub const fn receivers_last(&self) -> u16 {
        self.receivers_first + 2 * (RECEIVERS - 1)
    }
}

/// Looks upwards from a place that differs between processes, so that two labs rarely meet.
#[derive(Debug)]
struct Finder {
    next: u16,
}

impl Finder {
    fn new() -> Self {
        let places = u32::from((SEARCH.end - SEARCH.start) / 40);
        let place = std::process::id() % places;
        Self { next: SEARCH.start + 40 * place as u16 }
    }

    fn tcp(&mut self, wish: Option<u16>) -> Result<u16> {
        self.find(wish, 1, |port| {
            [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST].iter().all(|a| tcp_free((*a).into(), port))
        })
    }

    fn udp(&mut self, wish: Option<u16>) -> Result<u16> {
        self.find(wish, 1, |port| udp_free(Ipv4Addr::LOCALHOST.into(), port))
    }

    fn receivers(&mut self, wish: Option<u16>, gateways: &[IpAddr]) -> Result<u16> {
        self.next += self.next % 2;
        let free = |first: u16| {
            let ports = (0..RECEIVERS).map(|i| first + 2 * i);
            ports.into_iter().all(|port| {
                udp_free(Ipv4Addr::LOCALHOST.into(), port) && gateways.iter().all(|gateway| udp_free(*gateway, port))
            })
        };
        self.find(wish, 2 * RECEIVERS, free)
    }

    fn find(&mut self, wish: Option<u16>, step: u16, free: impl Fn(u16) -> bool) -> Result<u16> {
        if let Some(port) = wish.filter(|port| free(*port)) {
            return Ok(port);
        }
        while self.next < SEARCH.end {
            let port = self.next;
            self.next += step;
            if free(port) {
                return Ok(port);
            }
        }
        bail!("no free port from {} to {}", SEARCH.start, SEARCH.end)
    }
}

fn tcp_free(address: IpAddr, port: u16) -> bool {
    TcpListener::bind(SocketAddr::new(address, port)).is_ok()
}

fn udp_free(address: IpAddr, port: u16) -> bool {
    UdpSocket::bind(SocketAddr::new(address, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_and_all_are_distinct() {
        let gateway = IpAddr::from([127, 0, 99, 1]);
        let mut finder = Finder::new();
        let wish = finder.udp(None).unwrap();
        let _taken = UdpSocket::bind(("127.0.0.1", wish)).unwrap();
        assert_ne!(finder.udp(Some(wish)).unwrap(), wish);

        let ports = Ports::any(&[gateway]).unwrap();
        let mut all = vec![ports.dashboard, ports.broker, ports.enrolment, ports.local_page, ports.rtmp, ports.srt];
        all.extend(ports.receivers());
        assert!(ports.receivers().iter().all(|port| port % 2 == 0));
        assert_eq!(ports.receivers().last(), Some(&ports.receivers_last()));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "{ports:?}");
    }
}
