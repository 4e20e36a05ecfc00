//! What a tunnel takes: decrypt, weigh, and only then learn.

use super::content::{Content, Evidence};
use super::{FLOWS_MAX, FlowPorts, Inner, REVISION_HIGHEST, Received, Role, Side, Tunnel, TunnelError};
use crate::psk::{Inbound, IvLayout, KeySize, Nonce, Outbound, Ownership, Psk, Slot};
use crate::srp::Machine;
use crate::wire::gre::{GreHeader, Protocol};
use crate::wire::keepalive::Capabilities;
use units::Timestamp;

impl Tunnel {
    /// Takes a datagram apart, decrypting it in place.
    ///
    /// # Errors
    /// [`TunnelError`] when the datagram must be dropped; see there what each means.
    pub fn parse<'a>(&mut self, now: Timestamp, datagram: &'a mut [u8]) -> Result<Received<'a>, TunnelError> {
        let (header, body) = GreHeader::parse(datagram)?;
        let start = datagram.len() - body.len();
        let body = &mut datagram[start..];
        if header.protocol == Protocol::Eapol {
            return self.parse_eapol(now, body);
        }
        if !self.is_ready() {
            if let Some(login) = &mut self.login {
                login.prompt(now);
            }
            return Err(TunnelError::NotAuthenticated);
        }
        match (&self.inbound, header.nonce) {
            (None, None) => self.parse_clear(header, body),
            (None, Some(_)) => Err(TunnelError::NoPassphrase),
            (Some(_), None) => Err(TunnelError::Clear),
            (Some(_), Some(nonce)) => self.parse_encrypted(now, header, nonce, body),
        }
    }

    fn parse_eapol(&mut self, now: Timestamp, frame: &[u8]) -> Result<Received<'static>, TunnelError> {
        let flow_port = self.ports.flow;
        if let Some(login) = &mut self.login {
            let passphrase = self.passphrase.as_ref().map(|(psk, size)| (psk.as_bytes(), *size));
            if login.handle(now, frame, passphrase)? {
                self.begin_session();
            }
        }
        Ok(Received { sequence: None, flow_port, inner: Inner::Eapol })
    }

    /// Takes the session key as passphrase in the directions for which it was agreed; a configured passphrase stays.
    fn begin_session(&mut self) {
        if self.passphrase.is_some() {
            return;
        }
        let Some(session) = self.login.as_ref().and_then(Machine::session) else { return };
        let psk = Psk::new(session.key());
        let inbound = session.peer_use_key().then(|| Inbound::new(psk.clone(), self.book.clone()));
        // The peer changes its key when it knows of the session, which anyone can have asked for and may never come about.
        match std::mem::replace(&mut self.inbound, inbound) {
            Some(used) if used.is_proven() => self.previous = Some(used),
            _ => {}
        }
        let own = session.own_use_key();
        self.outbound = own.then(|| Outbound::new(psk, KeySize::Aes256, None, &mut self.random));
    }

    /// The layer above has found, in the datagram last parsed, the answer to an echo that it sent by this tunnel: whoever
    /// sent it hears this tunnel. Its nonce belongs to this link from now on; see [`NonceBook`](crate::psk::NonceBook).
    pub fn vouch(&mut self, now: Timestamp) {
        for inbound in [&mut self.inbound, &mut self.previous].into_iter().flatten() {
            inbound.vouch(now);
        }
    }

    /// Whose the datagram last parsed is. If it is not the peer's, what it carries is genuine, but of the link it tells nothing.
    pub fn ownership(&self, now: Timestamp) -> Ownership {
        self.inbound.as_ref().map_or(Ownership::Peer, |inbound| inbound.ownership(now))
    }

    fn parse_clear<'a>(&mut self, header: GreHeader, body: &'a [u8]) -> Result<Received<'a>, TunnelError> {
        let content = Content::parse(header.protocol, header.revision, body)?;
        if let Err(refusal) = self.admit(&content) {
            return if content.is_full() {
                Ok(self.received(header.sequence, Inner::OutOfBand(body)))
            } else {
                Err(refusal)
            };
        }
        self.learn(header, &content);
        Ok(self.deliver(header.sequence, content))
    }

    fn parse_encrypted<'a>(
        &mut self,
        now: Timestamp,
        header: GreHeader,
        nonce: Nonce,
        body: &'a mut [u8],
    ) -> Result<Received<'a>, TunnelError> {
        let sequence = header.sequence.ok_or(TunnelError::NoSequence)?;
        let (size, layout) = self.cipher_of(&header)?;
        if self.outbound.as_ref().is_some_and(|outbound| outbound.owns(nonce)) {
            return Err(TunnelError::Reflected);
        }
        let inbound = match (&mut self.previous, &mut self.inbound) {
            (Some(previous), _) if previous.holds(nonce) => previous,
            (_, Some(inbound)) => inbound,
            (_, None) => return Err(TunnelError::NoPassphrase),
        };
        let slot = inbound.open(now, nonce, size, sequence, layout, body)?;
        // What fails to parse after decryption is a wrong key or a forgery, not a malformed message of the peer.
        let content = Content::parse(header.protocol, header.revision, body).map_err(|_| TunnelError::Implausible)?;
        let evidence = content.evidence(header.protocol);
        let foreign = content.is_full() && self.admit(&content).is_err();
        let content = if foreign { Content::OutOfBand(body) } else { content };
        self.settle(now, slot, sequence, size, header, (content, evidence))
    }

    /// Weighs a decrypted content and lets it change the tunnel only when it proves the key.
    fn settle<'a>(
        &mut self,
        now: Timestamp,
        slot: Slot,
        sequence: u32,
        size: KeySize,
        header: GreHeader,
        (content, evidence): (Content<'a>, Evidence),
    ) -> Result<Received<'a>, TunnelError> {
        match evidence {
            Evidence::Garbage => return Err(TunnelError::Implausible),
            Evidence::None => return Ok(self.received(None, Inner::Nothing)),
            Evidence::Genuine => self.admit(&content).map_err(|_| TunnelError::Implausible)?,
        }
        let held = |previous: &Inbound| header.nonce.is_some_and(|nonce| previous.holds(nonce));
        let of_previous = self.previous.as_ref().is_some_and(held);
        if let Some(inbound) = if of_previous { &mut self.previous } else { &mut self.inbound } {
            inbound.accept(now, slot, sequence)?;
            if let Content::FutureNonce(nonce) = content {
                // Over the limit, the key is derived when the nonce is used.
                let _ = inbound.expect(now, nonce, size);
            }
        }
        if !of_previous {
            self.previous = None;
        }
        self.learn(header, &content);
        Ok(self.deliver(Some(sequence), content))
    }

    fn cipher_of(&self, header: &GreHeader) -> Result<(KeySize, IvLayout), TunnelError> {
        match header.revision {
            0 if !self.accept_revision_0 => Err(TunnelError::InsecureRevision),
            0 => {
                let size = self.outbound.as_ref().map_or(KeySize::Aes128, Outbound::size);
                Ok((size, IvLayout::SequenceLast))
            }
            _ if header.aes_256 => Ok((KeySize::Aes256, IvLayout::SequenceFirst)),
            _ => Ok((KeySize::Aes128, IvLayout::SequenceFirst)),
        }
    }

    /// Checks the virtual ports: media only where a flow is expected, RTCP to the sender only at its own port. A receiver of
    /// librist's that calls takes the flow's RTCP port for that.
    fn admit(&self, content: &Content<'_>) -> Result<(), TunnelError> {
        let (port, admitted) = match *content {
            Content::Media { ports, .. } => {
                let port = ports.destination;
                let known = port == self.ports.flow || self.flows.iter().any(|known| known.flow == port);
                (port, self.side == Side::Receiver && known)
            }
            Content::Rtcp { ports, .. } if self.side == Side::Sender && self.inbound.is_some() => {
                let port = ports.destination;
                let of_caller = self.role == Role::Server && port == self.ports.flow.wrapping_add(1);
                (port, port == self.ports.rtcp_source || of_caller)
            }
            Content::Rtcp { ports, .. } if self.inbound.is_some() => (ports.destination, ports.destination % 2 == 1),
            _ => return Ok(()),
        };
        if admitted { Ok(()) } else { Err(TunnelError::UnexpectedMedia { port }) }
    }

    /// Takes over what a trusted datagram shows about the peer.
    fn learn(&mut self, header: GreHeader, content: &Content<'_>) {
        // Announcements of nonces come in any revision.
        if header.protocol == Protocol::Vsf && !matches!(content, Content::FutureNonce(_)) {
            self.revision = REVISION_HIGHEST;
        }
        match *content {
            Content::Media { wrap, .. } | Content::Rtcp { wrap, .. } => self.peer_wraps.learn(header.protocol, wrap),
            Content::KeepAlive(told) => {
                self.peer_wraps.refuses_reduced = !told.capabilities.contains(Capabilities::REDUCED_OVERHEAD);
            }
            _ => {}
        }
        let Content::Rtcp { ports, .. } = *content else { return };
        if self.side == Side::Sender || ports.destination % 2 == 0 {
            return;
        }
        let flow = ports.destination - 1;
        if let Some(known) = self.flows.iter_mut().find(|known| known.flow == flow) {
            known.rtcp_peer = ports.source;
        } else if self.flows.len() < FLOWS_MAX {
            self.flows.push(FlowPorts { flow, rtcp_peer: ports.source });
        }
    }

    fn deliver<'a>(&self, sequence: Option<u32>, content: Content<'a>) -> Received<'a> {
        match content {
            Content::Media { ports, rtp, .. } => {
                Received { sequence, flow_port: ports.destination & !1, inner: Inner::Media(rtp) }
            }
            Content::Rtcp { ports, compound, .. } => {
                let rtcp_port = match self.side {
                    Side::Sender => ports.source,
                    Side::Receiver => ports.destination,
                };
                Received { sequence, flow_port: rtcp_port & !1, inner: Inner::Rtcp(compound) }
            }
            Content::KeepAlive(keepalive) => self.received(sequence, Inner::KeepAlive(keepalive)),
            Content::BufferNegotiation(negotiation) => self.received(sequence, Inner::BufferNegotiation(negotiation)),
            Content::OutOfBand(ip) => self.received(sequence, Inner::OutOfBand(ip)),
            Content::FutureNonce(_) | Content::Other => self.received(sequence, Inner::Nothing),
        }
    }

    const fn received<'a>(&self, sequence: Option<u32>, inner: Inner<'a>) -> Received<'a> {
        Received { sequence, flow_port: self.ports.flow, inner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{PskConfig, TunnelConfig};
    use crate::wire::rtp::RtpHeader;

    /// Revision 0 has no bit for the key's length: it is that of what this end sends. The number stands last in the counter.
    #[test]
    fn encryption_of_revision_0_is_read_where_it_is_allowed() {
        let mut rtp = Vec::new();
        RtpHeader { payload_type: 33, sequence: 7, ..RtpHeader::default() }.emit(&[0x47; 188], &mut rtp);
        for (key_size, accept_revision_0, layout, expected) in [
            (KeySize::Aes128, true, IvLayout::SequenceLast, None),
            (KeySize::Aes256, true, IvLayout::SequenceLast, None),
            (KeySize::Aes256, true, IvLayout::SequenceFirst, Some(TunnelError::Implausible)),
            (KeySize::Aes256, false, IvLayout::SequenceLast, Some(TunnelError::InsecureRevision)),
        ] {
            let psk = PskConfig { key_size, accept_revision_0, ..PskConfig::new("x") };
            let config = TunnelConfig { psk: Some(psk), ..TunnelConfig::new(Role::Server, Side::Receiver) };
            let mut body = [&[0x80, 0x01, 0x07, 0xb0][..], &rtp].concat();
            Psk::new("x").derive([0, 0, 0, 9], key_size).apply(0x0102_0304, layout, &mut body);
            let mut datagram = [&[0x30, 0, 0x88, 0xb6, 0, 0, 0, 9, 1, 2, 3, 4][..], &body].concat();
            let mut tunnel = Tunnel::new(config, 1);
            match tunnel.parse(Timestamp::from_millis(1), &mut datagram) {
                Ok(received) => {
                    assert_eq!((received.sequence, received.inner), (Some(0x0102_0304), Inner::Media(&rtp)));
                    assert_eq!(expected, None);
                }
                Err(error) => assert_eq!(Some(error), expected, "{key_size:?} {layout:?}"),
            }
        }
    }
}
