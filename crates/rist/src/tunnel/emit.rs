//! What a tunnel sends.

use super::{NextNonce, OVERHEAD_BYTES_MAX, REVISION_HIGHEST, Role, Side, Tunnel};
use crate::psk::KeySize;
use crate::srp::Machine;
use crate::wire::gre::{GreHeader, Protocol};
use crate::wire::keepalive::{Capabilities, KeepAlive};
use crate::wire::reduced::ReducedHeader;
use crate::wire::rtp::RtpHeader;
use crate::wire::vsf::VsfSubtype;
use crate::wire::{Output, datagram};
use units::Timestamp;

/// What this end can do.
const CAPABILITIES: Capabilities = Capabilities::BONDING
    .with(Capabilities::ADAPTIVE_ENCODING)
    .with(Capabilities::SMPTE_2022_7)
    .with(Capabilities::LOAD_SHARING)
    .with(Capabilities::NULL_DELETION)
    .with(Capabilities::REDUCED_OVERHEAD)
    .with(Capabilities::JSON);

impl Tunnel {
    /// Appends a datagram with an RTP packet of the default flow to `out`; returns its GRE sequence number. Appends
    /// nothing while the tunnel is not ready.
    pub fn emit_media(&mut self, now: Timestamp, rtp: &[u8], out: &mut Vec<u8>) -> u32 {
        self.emit_media_on(now, self.ports.flow, rtp, out)
    }

    /// The same for the flow with the even virtual port `flow`.
    pub fn emit_media_on(&mut self, _now: Timestamp, flow: u16, rtp: &[u8], out: &mut Vec<u8>) -> u32 {
        out.reserve(OVERHEAD_BYTES_MAX + rtp.len());
        self.emit_media_with(flow, out, |out| out.put(rtp))
    }

    /// Appends a datagram with an RTP packet of the default flow, header and payload, which is copied no more than this once.
    pub fn emit_rtp(&mut self, _now: Timestamp, header: &RtpHeader, payload: &[u8], out: &mut impl Output) -> u32 {
        self.emit_media_with(self.ports.flow, out, |out| header.emit(payload, out))
    }

    fn emit_media_with<O: Output>(&mut self, flow: u16, out: &mut O, write: impl FnOnce(&mut O)) -> u32 {
        let ports = ReducedHeader { source: self.ports.media_source, destination: flow };
        if self.is_ready() { self.emit_wrapped(ports, out, write) } else { self.sequence }
    }

    /// Appends a datagram with an RTCP compound of the default flow to `out`; returns its GRE sequence number. Before the
    /// login a client sends RTCP, because librist's listener asks for the login only after it; a server appends nothing.
    pub fn emit_rtcp(&mut self, now: Timestamp, compound: &[u8], out: &mut Vec<u8>) -> u32 {
        self.emit_rtcp_on(now, self.ports.flow, compound, out)
    }

    /// The same for the flow with the even virtual port `flow`.
    pub fn emit_rtcp_on(&mut self, _now: Timestamp, flow: u16, compound: &[u8], out: &mut Vec<u8>) -> u32 {
        let rtcp_port = flow.wrapping_add(1);
        let ports = match self.side {
            Side::Sender => ReducedHeader { source: self.ports.rtcp_source, destination: rtcp_port },
            Side::Receiver => ReducedHeader { source: rtcp_port, destination: self.rtcp_peer(flow) },
        };
        if self.is_ready() || self.role == Role::Client {
            out.reserve(OVERHEAD_BYTES_MAX + compound.len());
            self.emit_wrapped(ports, out, |out| out.put(compound))
        } else {
            self.sequence
        }
    }

    /// Appends a keep-alive with capabilities and announcement to `out`; returns its GRE sequence number.
    pub fn emit_keepalive(&mut self, _now: Timestamp, out: &mut Vec<u8>) -> u32 {
        self.emit_keepalive_with(CAPABILITIES, out)
    }

    /// The same with the bit D: this end closes the tunnel, or answers an end that does.
    pub fn emit_disconnect(&mut self, _now: Timestamp, out: &mut Vec<u8>) -> u32 {
        self.emit_keepalive_with(CAPABILITIES.with(Capabilities::DISCONNECT), out)
    }

    fn emit_keepalive_with(&mut self, capabilities: Capabilities, out: &mut Vec<u8>) -> u32 {
        let announcement = std::mem::take(&mut self.announcement);
        let mac = self.mac;
        let vsf = self.revision >= 2;
        let sequence = self.emit(if vsf { Protocol::Vsf } else { Protocol::KeepAlive }, out, |out| {
            if vsf {
                VsfSubtype::KeepAlive.emit(out);
            }
            KeepAlive { mac, capabilities, tail: &announcement }.emit(out);
        });
        self.announcement = announcement;
        sequence
    }

    /// Appends the next datagram that the tunnel itself has to send (login, future nonce) to `out`; false when there is
    /// none. Call it until then after each [`Tunnel::parse`] and some times a second. It also derives the next key ahead
    /// of its use, so that the emit calls stay cheap.
    pub fn poll_control(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        self.poll_login(now, out) || self.poll_next_nonce(now, out)
    }

    /// When [`Tunnel::poll_control`] has something to do next if nothing is parsed or emitted before; `Timestamp::MAX` for
    /// never. Deriving the next key ahead is not in it: a call some times a second sees to that.
    pub fn timeout(&self) -> Timestamp {
        self.login.as_ref().map_or(Timestamp::MAX, Machine::timeout)
    }

    /// Login frames go in the clear and without sequence number: they must not look like losses to whoever counts.
    fn poll_login(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        let Some(login) = &mut self.login else { return false };
        let start = out.len();
        let header = GreHeader {
            revision: self.revision,
            aes_256: false,
            protocol: Protocol::Eapol,
            nonce: None,
            sequence: None,
        };
        header.emit(out);
        let written = login.poll(now, out);
        if !written {
            out.truncate(start);
        }
        written
    }

    fn poll_next_nonce(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        let Some(outbound) = &mut self.outbound else { return false };
        if let Some(nonce) = outbound.prepare(&mut self.random) {
            self.next_nonce = Some(NextNonce::new(now, nonce));
        }
        self.next_nonce = self.next_nonce.filter(|next| outbound.will_use(next.nonce));
        let Some(mut next) = self.next_nonce else { return false };
        let understood = self.announces_nonces || self.revision >= 2;
        if !understood || !next.is_due(now, self.sequence, self.announces_nonces) {
            return false;
        }
        self.emit(Protocol::Vsf, out, |out| {
            VsfSubtype::FutureNonce.emit(out);
            out.extend_from_slice(&next.nonce);
        });
        next.tell(now, self.sequence);
        self.next_nonce = Some(next);
        true
    }

    fn rtcp_peer(&self, flow: u16) -> u16 {
        self.flows.iter().find(|known| known.flow == flow).map_or(self.ports.rtcp_source, |known| known.rtcp_peer)
    }

    fn emit_wrapped<O: Output>(&mut self, ports: ReducedHeader, out: &mut O, write: impl FnOnce(&mut O)) -> u32 {
        match self.peer_wraps.choose(self.encapsulation, self.role) {
            Some((protocol, addresses)) => self.emit(protocol, out, |out| datagram::emit(addresses, ports, out, write)),
            None => self.emit_reduced(ports, out, write),
        }
    }

    fn emit_reduced<O: Output>(&mut self, ports: ReducedHeader, out: &mut O, write: impl FnOnce(&mut O)) -> u32 {
        let vsf = self.revision >= 2;
        self.emit(if vsf { Protocol::Vsf } else { Protocol::ReducedOverhead }, out, |out| {
            if vsf {
                VsfSubtype::ReducedOverhead.emit(out);
            }
            ports.emit(out);
            write(out);
        })
    }

    /// Frames, numbers and encrypts what `write` appends.
    fn emit<O: Output>(&mut self, protocol: Protocol, out: &mut O, write: impl FnOnce(&mut O)) -> u32 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        // What is of the later revision says so, whatever else is spoken.
        let revision = if protocol == Protocol::Vsf { REVISION_HIGHEST } else { self.revision };
        let mut header = GreHeader { revision, aes_256: false, protocol, nonce: None, sequence: Some(sequence) };
        if let Some(outbound) = &mut self.outbound {
            let (nonce, first) = outbound.advance(sequence, &mut self.random);
            header.nonce = Some(nonce);
            header.aes_256 = outbound.size() == KeySize::Aes256;
            if first {
                self.book.note_own(nonce);
            }
        }
        header.emit(out);
        let start = out.written().len();
        write(out);
        if let Some(outbound) = &self.outbound {
            outbound.seal(sequence, &mut out.written()[start..]);
        }
        sequence
    }
}
