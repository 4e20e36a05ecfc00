//! One tunnel of Main Profile: GRE over UDP between two address pairs (TR-06-2).
//!
//! A [`Tunnel`] frames, encrypts and numbers what one link carries; it knows nothing of flows, retransmission or time-outs.
//! One tunnel per UDP 4-tuple. It speaks revision 1 until the peer has shown revision 2, and accepts what librist 0.2.7
//! sends (revision bits 0 and no sequence number in the clear).
//!
//! With a passphrase set, datagrams that are clear, forged, replayed, reflected or of another stream are refused with a
//! [`TunnelError`] and change nothing. AES-CTR carries no authentication, so an attacker who can hold back a genuine
//! datagram can still flip bits in it; SSRC and sequence checks above this layer bound what that is good for.
//!
//! A recording of an earlier session under the same passphrase can be played into a *new* tunnel (its nonce is unknown
//! there): use a fresh passphrase for each stream.

mod config;
mod content;
mod error;

pub use config::{PskConfig, Role, Side, TunnelConfig, VirtualPorts};
pub use error::TunnelError;

use crate::psk::{Inbound, IvLayout, KeySize, Nonce, Outbound, Psk, Slot};
use crate::random::Random;
use crate::srp::{LoginState, Machine};
use crate::wire::buffer_negotiation::BufferNegotiation;
use crate::wire::gre::{GreHeader, Protocol};
use crate::wire::keepalive::{Announcement, Capabilities, Implementation, KeepAlive, Vendor};
use crate::wire::reduced::ReducedHeader;
use crate::wire::vsf::VsfSubtype;
use content::{Content, Evidence};
use units::Timestamp;

/// Flows that one tunnel carries at most, told apart by virtual port.
pub const FLOWS_MAX: usize = 8;
/// The most bytes that framing puts before an RTP packet: GRE with nonce and sequence, VSF, virtual ports.
pub const OVERHEAD_BYTES_MAX: usize = 20;
/// The revision this end speaks first.
const REVISION_FIRST: u8 = 1;
/// The highest revision this end speaks.
const REVISION_HIGHEST: u8 = 2;

/// What a datagram brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// GRE sequence number of the peer's tunnel, a per-link loss counter; `None` when the peer sends none, and for
    /// datagrams that prove nothing.
    pub sequence: Option<u32>,
    /// Even virtual port of the flow; the default flow's for contents without ports.
    pub flow_port: u16,
    /// The content.
    pub inner: Inner<'a>,
}

/// Content of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner<'a> {
    /// An RTP packet.
    Media(&'a [u8]),
    /// An RTCP compound.
    Rtcp(&'a [u8]),
    /// A keep-alive, perhaps with an announcement.
    KeepAlive(KeepAlive<'a>),
    /// librist's buffer negotiation.
    BufferNegotiation(BufferNegotiation),
    /// A login frame, already handled; ask [`Tunnel::poll_control`] for what to answer.
    Eapol,
    /// A whole IP datagram: librist's out-of-band channel, to be ignored.
    OutOfBand(&'a [u8]),
    /// Valid, but nothing for the layers above. Also a keep-alive under encryption that proves nothing.
    Nothing,
}

/// One tunnel. See the module.
#[derive(Debug)]
pub struct Tunnel {
    role: Role,
    side: Side,
    ports: VirtualPorts,
    accept_revision_0: bool,
    random: Random,
    revision: u8,
    sequence: u32,
    outbound: Option<Outbound>,
    inbound: Option<Inbound>,
    flows: Vec<FlowPorts>,
    future_nonce: Option<Nonce>,
    mac: [u8; 6],
    announcement: Vec<u8>,
    login: Option<Machine>,
    /// The passphrase as configured, for a peer that asks for it after the login.
    passphrase: Option<(Psk, KeySize)>,
}

/// Where RTCP of a flow goes: learned from the sender's RTCP.
#[derive(Debug, Clone, Copy)]
struct FlowPorts {
    flow: u16,
    rtcp_peer: u16,
}

impl Tunnel {
    /// A tunnel that has sent and seen nothing. `seed` must differ between tunnels that share a passphrase, also over
    /// restarts: their nonces are drawn from it, and the same nonce twice reveals plaintext.
    pub fn new(config: TunnelConfig, seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let mut mac: [u8; 6] = random.bytes();
        mac[0] = mac[0] & 0xfc | 0x02; // unicast, locally administered
        let announcement = announcement(&config);
        let accept_revision_0 = config.psk.as_ref().is_some_and(|psk| psk.accept_revision_0);
        let inbound = config.psk.as_ref().map(|psk| Inbound::new(psk.psk.clone()));
        let passphrase = config.psk.as_ref().map(|psk| (psk.psk.clone(), psk.key_size));
        let login = config.srp.map(|srp| {
            let use_key = srp.use_session_key && config.psk.is_none();
            Machine::new(config.role, srp, use_key)
        });
        let outbound =
            config.psk.map(|psk| Outbound::new(psk.psk, psk.key_size, psk.rotate_after_packets, &mut random));
        Self {
            role: config.role,
            side: config.side,
            ports: config.virtual_ports,
            accept_revision_0,
            random,
            revision: REVISION_FIRST,
            sequence: 0,
            outbound,
            inbound,
            flows: Vec::new(),
            future_nonce: None,
            mac,
            announcement,
            login,
            passphrase,
        }
    }

    /// True when media and RTCP may flow: at once, or after the login.
    pub fn is_ready(&self) -> bool {
        self.login.as_ref().is_none_or(|login| login.session().is_some())
    }

    /// How far the login is; `None` when none is configured.
    pub fn login_state(&self) -> Option<LoginState> {
        self.login.as_ref().map(Machine::state)
    }

    /// The revision this end speaks at present, 1 or 2.
    pub const fn revision(&self) -> u8 {
        self.revision
    }

    /// The GRE sequence number of the next datagram.
    pub const fn next_sequence(&self) -> u32 {
        self.sequence
    }

    /// Bytes that framing adds to an RTP packet at present, without UDP and IP.
    pub const fn overhead_bytes(&self) -> usize {
        let gre = if self.outbound.is_some() { 12 } else { 8 };
        let vsf = if self.revision >= 2 { 4 } else { 0 };
        gre + vsf + 4
    }

    /// Appends a datagram with an RTP packet of the default flow to `out`; returns its GRE sequence number. Appends
    /// nothing while the tunnel is not ready.
    pub fn emit_media(&mut self, now: Timestamp, rtp: &[u8], out: &mut Vec<u8>) -> u32 {
        self.emit_media_on(now, self.ports.flow, rtp, out)
    }

    /// The same for the flow with the even virtual port `flow`.
    pub fn emit_media_on(&mut self, _now: Timestamp, flow: u16, rtp: &[u8], out: &mut Vec<u8>) -> u32 {
        let ports = ReducedHeader { source: self.ports.media_source, destination: flow };
        if self.is_ready() { self.emit_reduced(ports, rtp, out) } else { self.sequence }
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
            self.emit_reduced(ports, compound, out)
        } else {
            self.sequence
        }
    }

    /// Appends a keep-alive with capabilities and announcement to `out`; returns its GRE sequence number.
    pub fn emit_keepalive(&mut self, _now: Timestamp, out: &mut Vec<u8>) -> u32 {
        let announcement = std::mem::take(&mut self.announcement);
        let (mac, capabilities) = (self.mac, CAPABILITIES);
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

    /// Appends librist's buffer negotiation to `out` when the peer speaks revision 2; otherwise nothing.
    pub fn emit_buffer_negotiation(
        &mut self,
        _now: Timestamp,
        negotiation: BufferNegotiation,
        out: &mut Vec<u8>,
    ) -> u32 {
        if self.revision < 2 {
            return self.sequence;
        }
        self.emit(Protocol::Vsf, out, |out| {
            VsfSubtype::BufferNegotiation.emit(out);
            negotiation.emit(out);
        })
    }

    /// Appends the next datagram that the tunnel itself has to send (login, future nonce) to `out`; false when there is
    /// none. Call it until then after each [`Tunnel::parse`] and some times a second. It also derives the next key ahead
    /// of its use, so that the emit calls stay cheap.
    pub fn poll_control(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        self.poll_login(now, out) || self.poll_future_nonce(out)
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

    fn poll_future_nonce(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(outbound) = &mut self.outbound
            && let Some(nonce) = outbound.prepare(&mut self.random)
        {
            self.future_nonce = Some(nonce);
        }
        let Some(nonce) = self.future_nonce.take() else { return false };
        if self.revision < 2 {
            return false;
        }
        self.emit(Protocol::Vsf, out, |out| {
            VsfSubtype::FutureNonce.emit(out);
            out.extend_from_slice(&nonce);
        });
        true
    }

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
        self.inbound = session.peer_use_key().then(|| Inbound::new(psk.clone()));
        let own = session.own_use_key();
        self.outbound = own.then(|| Outbound::new(psk, KeySize::Aes256, None, &mut self.random));
    }

    fn parse_clear<'a>(&mut self, header: GreHeader, body: &'a [u8]) -> Result<Received<'a>, TunnelError> {
        let content = Content::parse(header.protocol, header.revision, body)?;
        self.admit(&content)?;
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
        let Some(inbound) = &mut self.inbound else { return Err(TunnelError::NoPassphrase) };
        let slot = inbound.open(now, nonce, size, sequence, layout, body)?;
        // What fails to parse after decryption is a wrong key or a forgery, not a malformed message of the peer.
        let content = Content::parse(header.protocol, header.revision, body).map_err(|_| TunnelError::Implausible)?;
        self.settle(now, slot, sequence, size, header, content)
    }

    /// Weighs a decrypted content and lets it change the tunnel only when it proves the key.
    fn settle<'a>(
        &mut self,
        now: Timestamp,
        slot: Slot,
        sequence: u32,
        size: KeySize,
        header: GreHeader,
        content: Content<'a>,
    ) -> Result<Received<'a>, TunnelError> {
        match content.evidence(header.protocol) {
            Evidence::Garbage => return Err(TunnelError::Implausible),
            Evidence::None => return Ok(self.received(None, Inner::Nothing)),
            Evidence::Genuine => self.admit(&content).map_err(|_| TunnelError::Implausible)?,
        }
        if let Some(inbound) = &mut self.inbound {
            inbound.accept(slot, sequence)?;
            if let Content::FutureNonce(nonce) = content {
                // Over the limit, the key is derived when the nonce is used.
                let _ = inbound.expect(now, nonce, size);
            }
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

    /// Checks the virtual ports: media only where a flow is expected, RTCP to the sender only at its own port.
    fn admit(&self, content: &Content<'_>) -> Result<(), TunnelError> {
        let (port, admitted) = match *content {
            Content::Media { ports, .. } => {
                let port = ports.destination;
                let known = port == self.ports.flow || self.flows.iter().any(|known| known.flow == port);
                (port, self.side == Side::Receiver && known)
            }
            Content::Rtcp { ports, .. } if self.side == Side::Sender && self.inbound.is_some() => {
                (ports.destination, ports.destination == self.ports.rtcp_source)
            }
            Content::Rtcp { ports, .. } if self.inbound.is_some() => (ports.destination, ports.destination % 2 == 1),
            _ => return Ok(()),
        };
        if admitted { Ok(()) } else { Err(TunnelError::UnexpectedMedia { port }) }
    }

    /// Takes over what a trusted datagram shows about the peer.
    fn learn(&mut self, header: GreHeader, content: &Content<'_>) {
        if header.protocol == Protocol::Vsf {
            self.revision = REVISION_HIGHEST;
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
            Content::Media { ports, rtp } => {
                Received { sequence, flow_port: ports.destination & !1, inner: Inner::Media(rtp) }
            }
            Content::Rtcp { ports, compound } => {
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

    fn rtcp_peer(&self, flow: u16) -> u16 {
        self.flows.iter().find(|known| known.flow == flow).map_or(self.ports.rtcp_source, |known| known.rtcp_peer)
    }

    fn emit_reduced(&mut self, ports: ReducedHeader, datagram: &[u8], out: &mut Vec<u8>) -> u32 {
        out.reserve(OVERHEAD_BYTES_MAX + datagram.len());
        let vsf = self.revision >= 2;
        self.emit(if vsf { Protocol::Vsf } else { Protocol::ReducedOverhead }, out, |out| {
            if vsf {
                VsfSubtype::ReducedOverhead.emit(out);
            }
            ports.emit(out);
            out.extend_from_slice(datagram);
        })
    }

    /// Frames, numbers and encrypts what `write` appends.
    fn emit(&mut self, protocol: Protocol, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let mut header =
            GreHeader { revision: self.revision, aes_256: false, protocol, nonce: None, sequence: Some(sequence) };
        if let Some(outbound) = &mut self.outbound {
            let (nonce, retired) = outbound.advance(sequence, &mut self.random);
            header.nonce = Some(nonce);
            header.aes_256 = outbound.size() == KeySize::Aes256;
            if let (Some(retired), Some(inbound)) = (retired, &mut self.inbound) {
                inbound.retire(retired);
            }
        }
        header.emit(out);
        let start = out.len();
        write(out);
        if let Some(outbound) = &self.outbound {
            outbound.seal(sequence, &mut out[start..]);
        }
        sequence
    }
}

/// What this end can do.
const CAPABILITIES: Capabilities = Capabilities::BONDING
    .with(Capabilities::ADAPTIVE_ENCODING)
    .with(Capabilities::SMPTE_2022_7)
    .with(Capabilities::LOAD_SHARING)
    .with(Capabilities::NULL_DELETION)
    .with(Capabilities::REDUCED_OVERHEAD)
    .with(Capabilities::JSON);

fn announcement(config: &TunnelConfig) -> Vec<u8> {
    let mut json = Vec::new();
    Announcement {
        vendor: Vendor {
            implementation: Implementation {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                product: "strata".to_owned(),
                vendor_name: "Strata".to_owned(),
            },
            features: config.features.clone(),
            cname: Some(config.cname.clone()).filter(|cname| !cname.is_empty()),
        },
        ..Announcement::default()
    }
    .emit(&mut json);
    json
}
