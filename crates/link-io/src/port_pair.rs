//! The socket of a Main Profile link, or the two of Simple Profile.

use crate::udp::{Binding, UdpPort};
use bond::Channel;
use bond::config::Profile;
use std::io;
use std::net::SocketAddr;

/// One socket, or the pair for RTP and RTCP.
#[derive(Debug)]
pub(crate) struct PortPair {
    media: UdpPort,
    /// Simple Profile only.
    control: Option<UdpPort>,
}

impl PortPair {
    /// Any free ports: the sending end.
    pub(crate) fn open_free(
        profile: Profile,
        mut open: impl FnMut(Channel) -> io::Result<UdpPort>,
    ) -> io::Result<Self> {
        let media = open(Channel::Media)?;
        let control = match profile {
            Profile::Simple => Some(open(Channel::Control)?),
            Profile::Main => None,
        };
        Ok(Self { media, control })
    }

    /// The port of `address`, and the next one in Simple Profile: the receiving end.
    ///
    /// # Errors
    /// A port is taken, or the kernel chose an odd one where an even one is needed.
    pub(crate) fn open_neighbours(profile: Profile, address: SocketAddr) -> io::Result<Self> {
        let media = UdpPort::open(&Binding { address, device: None })?;
        let local = media.local_addr()?;
        if profile == Profile::Main {
            return Ok(Self { media, control: None });
        }
        if local.port() % 2 == 1 {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let next = SocketAddr::new(local.ip(), local.port() + 1);
        let control = UdpPort::open(&Binding { address: next, device: None })?;
        Ok(Self { media, control: Some(control) })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.media.local_addr()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Channel, &UdpPort)> {
        let control = self.control.as_ref().map(|port| (Channel::Control, port));
        std::iter::once((Channel::Media, &self.media)).chain(control)
    }

    pub(crate) fn get_mut(&mut self, channel: Channel) -> Option<&mut UdpPort> {
        match channel {
            Channel::Media => Some(&mut self.media),
            Channel::Control => self.control.as_mut(),
        }
    }

    /// Datagrams that its sockets dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.iter().map(|(_, port)| port.counters().dropped).sum()
    }

    /// Datagrams that will be lost when it is closed now.
    pub(crate) fn waiting(&self) -> u64 {
        self.iter().map(|(_, port)| port.waiting() as u64).sum()
    }
}
