//! Links whose receiver calls: the sender listens (TR-06-2 section 7 leaves it open which end does).
//!
//! Such a link has one receiver at a time and sends nothing before it is called. A caller is believed once it has answered
//! an echo request, whose SSRC only its address was told, and with a pass phrase or login only who has these can read. So a
//! forged or repeated datagram moves no link, and media never goes to an address that did not ask for it:
//! * how many unknown sources are looked at is bounded ([`Door`](crate::door::Door)); those whose datagrams are not genuine
//!   are forgotten at once;
//! * [`CALLERS_MAX`] callers of a link are remembered for [`CALLER_KEPT`], the one silent for longest makes room;
//! * none is sent more bytes than it sent;
//! * a receiver that is heard keeps its link; one that is silent for [`GIVES_WAY`] gives way to another caller (itself, at
//!   another address perhaps), and is forgotten after [`FORGOTTEN`].

use bytes::Bytes;
use rist::wire::rtcp::{RtcpPacket, packets};
use std::net::SocketAddr;
use std::time::Duration;
use units::{LinkId, Timestamp};

use super::control::Control;
use super::{Sender, SenderOutput, Slot};
use crate::event::{Cause, Event, StateReason};
use crate::farewell::Farewell;
use crate::framing::{Framing, Inbound, Refusal};
use crate::payload::Channel;
use crate::refused::Reason;

/// Callers remembered on one link.
pub const CALLERS_MAX: usize = 16;
/// A caller that has been silent for so long is forgotten.
const CALLER_KEPT: Duration = Duration::from_secs(3);
/// A receiver, who speaks ten times a second, gives way after this silence, sooner to one who has the pass phrase or logged in.
const GIVES_WAY: Duration = Duration::from_millis(500);
const GIVES_WAY_TO_TRUSTED: Duration = Duration::from_millis(250);
/// The tunnel's time-out (TR-06-2).
const FORGOTTEN: Duration = Duration::from_mins(1);
/// After a longer silence another receiver may have come, who speaks the extension or does not.
const SAME_RECEIVER: Duration = Duration::from_secs(5);
/// Numbers between those of a link and of what a caller is sent: a jump that is no gap to a receiver.
const NUMBERS_APART: u32 = 1 << 17;
/// Time between echo requests to one caller.
const GREETING_INTERVAL: Duration = Duration::from_millis(50);

/// What a listening link knows of who calls.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// Where the receiver is.
    receiver: Option<SocketAddr>,
    /// When it was last heard.
    heard_at: Timestamp,
    callers: Vec<Caller>,
}

/// Somebody who called and has shown nothing yet.
#[derive(Debug)]
struct Caller {
    address: SocketAddr,
    framing: Framing,
    echo_ssrc: u32,
    heard_at: Timestamp,
    next_greeting: Timestamp,
    /// Made for it, while it may be sent so much only after it sent more.
    held: Option<Vec<u8>>,
    /// True once something genuine came from it.
    shown: bool,
    /// Bytes received and not yet answered.
    credit: usize,
}

impl Listening {
    /// True until a receiver has called.
    pub(super) fn waits(&self) -> bool {
        self.receiver.is_none()
    }

    fn silence(&self, now: Timestamp) -> Duration {
        now - self.heard_at
    }

    /// Keeps a new caller; another one makes room.
    fn keep(&mut self, now: Timestamp, caller: Caller) -> usize {
        self.callers.retain(|other| now - other.heard_at < CALLER_KEPT);
        if self.callers.len() >= CALLERS_MAX {
            let oldest = self.callers.iter().enumerate().min_by_key(|(_, other)| other.heard_at);
            if let Some((oldest, _)) = oldest {
                self.callers.remove(oldest);
            }
        }
        self.callers.push(caller);
        self.callers.len() - 1
    }
}

impl Caller {
    /// The datagram that may be sent to it now.
    fn poll(&mut self, now: Timestamp, greeting: &[u8]) -> Option<Vec<u8>> {
        if self.held.is_none() {
            self.held = self.framing.control(now).map(|(datagram, _)| datagram);
        }
        if self.held.is_none() && self.next_greeting <= now {
            self.held = self.framing.rtcp(now, greeting).map(|(_, datagram, _)| datagram);
            if self.held.is_some() {
                self.next_greeting = now + GREETING_INTERVAL;
            }
        }
        let datagram = self.held.take_if(|held| held.len() <= self.credit)?;
        self.credit -= datagram.len();
        Some(datagram)
    }
}

impl Sender {
    /// Takes a datagram from the socket of a listening link.
    pub(super) fn called(&mut self, now: Timestamp, id: LinkId, from: SocketAddr, bytes: &mut [u8]) {
        let Some(index) = self.slot_index(id) else { return };
        let Some(slot) = &mut self.slots[index] else { return };
        let Some(listening) = &mut slot.listening else { return };
        if listening.receiver == Some(from) {
            if self.receive(now, id, Channel::Media, bytes)
                && let Some(listening) = self.slots[index].as_mut().and_then(|slot| slot.listening.as_mut())
            {
                listening.heard_at = now;
            }
            return;
        }
        let known = listening.callers.iter().position(|caller| caller.address == from);
        let known = match known {
            Some(known) => known,
            None if self.door.as_mut().is_some_and(|door| door.admit(now, id.0, from)) => {
                let mut framing = Framing::listening_sender(&self.config, &self.common, &mut self.random);
                // A receiver that moved goes on counting, and must not take an echo request for a packet lost before.
                framing.number_behind(&slot.framing, NUMBERS_APART);
                let echo_ssrc = self.random.next_u32();
                let (heard_at, next_greeting) = (now, now);
                listening.keep(
                    now,
                    Caller {
                        address: from,
                        framing,
                        echo_ssrc,
                        heard_at,
                        next_greeting,
                        held: None,
                        shown: false,
                        credit: 0,
                    },
                )
            }
            None => return,
        };
        let caller = &mut listening.callers[known];
        let length = bytes.len();
        let (mut genuine, mut answered, mut refused) = (true, false, None);
        match caller.framing.parse(now, Channel::Media, self.config.extension, bytes) {
            Ok(parsed) => match parsed.inbound {
                Inbound::Rtcp(compound) => {
                    let ours =
                        |packet| matches!(packet, RtcpPacket::EchoResponse(echo) if echo.ssrc == caller.echo_ssrc);
                    answered = packets(compound).filter_map(Result::ok).any(ours);
                }
                // Part of a login, or nothing that would prove a key.
                Inbound::LogIn => (genuine, refused) = (false, Some(Reason::LogIn)),
                Inbound::Nothing => genuine = self.config.srp.is_some(),
                _ => {}
            },
            Err(Refusal::LoginFirst) => refused = Some(Reason::LogIn),
            Err(Refusal::Invalid(reason)) => (genuine, refused) = (false, Some(reason)),
        }
        if let Some(cause) = refused.and_then(|reason| self.mismatches.note(now, from, reason)) {
            self.events.push(Event { at: now, cause });
        }
        if !genuine {
            if !caller.shown {
                listening.callers.remove(known);
            }
            return;
        }
        (caller.heard_at, caller.shown) = (now, true);
        caller.credit += length;
        let trusted = self.config.psk.is_some() || self.config.srp.is_some();
        let patience = if trusted { GIVES_WAY_TO_TRUSTED } else { GIVES_WAY };
        let free = listening.waits() || listening.silence(now) >= patience;
        if answered && free {
            let caller = listening.callers.remove(known);
            self.adopt(now, index, caller);
            return;
        }
        self.greet(now, index, known);
    }

    /// Sends a caller what it needs to log in and to show that it is where it says.
    fn greet(&mut self, now: Timestamp, index: usize, known: usize) {
        let mut greeting = std::mem::take(&mut self.scratch);
        let Some(Slot { link, listening: Some(listening), .. }) = &mut self.slots[index] else { return };
        let Some(caller) = listening.callers.get_mut(known) else { return };
        greeting.clear();
        super::control::write_greeting(&mut greeting, now, self.flow, caller.echo_ssrc, &self.config.cname);
        let (id, to) = (link.id, caller.address);
        let mut datagrams = Vec::new();
        while let Some(datagram) = caller.poll(now, &greeting) {
            datagrams.push(datagram);
        }
        self.scratch = greeting;
        for datagram in datagrams {
            self.output(SenderOutput::Answer { link: id, to, bytes: Bytes::from(datagram) });
        }
    }

    /// From now on the link goes to this caller.
    fn adopt(&mut self, now: Timestamp, index: usize, caller: Caller) {
        let alone = !self.slots.iter().flatten().any(|slot| slot.link.is_up());
        let Some(slot) = &mut self.slots[index] else { return };
        let Some(listening) = &mut slot.listening else { return };
        let from = listening.receiver.replace(caller.address);
        let strange = from.is_none() || listening.silence(now) > SAME_RECEIVER;
        listening.heard_at = now;
        if strange || self.config.srp.is_some() {
            slot.framing = caller.framing;
        } else {
            // It knows what was repeated, and the receiver its key.
            slot.framing.number_behind(&caller.framing, 0);
        }
        let moved = if strange {
            slot.control = Control::new(now, caller.echo_ssrc, Framing::overhead_bytes_max(&self.config));
            slot.mtu.restart(now);
            self.shared.forget(index);
            slot.farewell = Farewell::opened(now);
            slot.link.restart(now, StateReason::AddressChanged, &mut self.outcomes)
        } else {
            // Most likely the same path through another port of a NAT: what is known of it holds, what is on its way is lost.
            slot.control.announce_soon(now);
            slot.link.sent.give_up(&mut self.outcomes);
            None
        };
        let heard = slot.link.on_heard(now);
        let (link, name) = (slot.link.id, slot.link.options.name.clone());
        if strange && alone {
            self.forget_peer(now);
        }
        self.answered_at.get_or_insert(now);
        self.output(SenderOutput::Receiver { link, address: caller.address });
        self.note(now, Cause::LinkCalled { link, name, from, to: caller.address });
        self.note_moved(now, index, moved);
        self.note_moved(now, index, heard);
        self.settle_outcomes(now, index);
        self.next_control = now;
    }

    /// Forgets the receiver of a link when it has been silent for very long.
    pub(super) fn forget_receiver(&mut self, now: Timestamp, index: usize) {
        let listening = self.slots[index].as_ref().and_then(|slot| slot.listening.as_ref());
        if listening.is_some_and(|listening| listening.silence(now) > FORGOTTEN) {
            self.drop_receiver(now, index);
        }
    }

    /// Forgets the receiver of a link, if it has one: the link waits for a call.
    pub(super) fn drop_receiver(&mut self, now: Timestamp, index: usize) {
        let Some(slot) = &mut self.slots[index] else { return };
        let Some(receiver) = slot.listening.as_mut().and_then(|listening| listening.receiver.take()) else { return };
        let (link, name) = (slot.link.id, slot.link.options.name.clone());
        let moved = slot.link.restart(now, StateReason::AddressChanged, &mut self.outcomes);
        self.note(now, Cause::LinkWaits { link, name, receiver });
        self.note_moved(now, index, moved);
        self.settle_outcomes(now, index);
    }
}
