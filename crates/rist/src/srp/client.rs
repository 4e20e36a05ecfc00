//! The caller's end of the login.

use super::config::Login;
use super::hash::HashVariant;
use super::math::{Group, Identity, KeyPair, Proof, SessionKey, Transcript, client_key, proves};
use super::message::{Challenge, Message, ProofMessage};
use super::session::{
    EXCHANGE_BURST, EXCHANGE_INTERVAL, LoginError, LoginState, RETRY_INTERVAL, Session, TRIES_MAX, VERSION, frame,
};
use crate::psk::{KeySize, RateLimiter};
use crate::random::Random;
use crate::tunnel::TunnelError;
use crate::wire::eapol::{Eap, EapCode, EapolFrame};
use std::time::Duration;
use units::Timestamp;

/// Time between attempts when the first tries found no server, or it refused both hash variants.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);
/// How long the server may take for its next message before the client starts again.
const SILENCE_MAX: Duration = Duration::from_millis(2500);

/// The client of EAP-SRP: drives `handle` and `poll`, ends with a [`Session`].
///
/// It answers whichever hash variant the server's EAPOL version stands for; when the server refuses, the next attempt
/// takes the other one. A server may ask again at any time; the session lasts until the new login has succeeded.
pub struct Client {
    login: Login,
    use_key: bool,
    random: Random,
    state: State,
    /// What the server's version stands for is inverted after each refusal.
    inverted: bool,
    refused: bool,
    session: Option<Session>,
    outbox: Option<Vec<u8>>,
    last: Option<Answered>,
    exchanges: RateLimiter,
}

/// A request and the reply to it, so that a repeated request gets the same reply.
struct Answered {
    request: Vec<u8>,
    reply: Vec<u8>,
}

enum State {
    /// Saying Start until the server asks.
    Starting { due: Timestamp, tries: u32 },
    /// The identity is given.
    AwaitChallenge { since: Timestamp },
    /// The public value is sent.
    AwaitKey { since: Timestamp, variant: HashVariant, salt: Vec<u8>, pair: KeyPair },
    /// The proof is sent.
    AwaitProof { since: Timestamp, expected: Proof, key: SessionKey, own_use_key: bool },
    /// The server has proved itself.
    Done,
}

impl Client {
    /// A client that wants to log in. With `use_key`, it encrypts with the session key (version 3 servers).
    pub(crate) fn new(login: Login, use_key: bool, random: Random) -> Self {
        Self {
            login,
            use_key,
            random,
            state: State::Starting { due: Timestamp::ZERO, tries: 0 },
            inverted: false,
            refused: false,
            session: None,
            outbox: None,
            last: None,
            exchanges: RateLimiter::new(EXCHANGE_INTERVAL, EXCHANGE_BURST),
        }
    }

    /// The session, once the server has proved itself.
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How far the login is.
    pub const fn state(&self) -> LoginState {
        match (&self.session, self.refused) {
            (Some(_), _) => LoginState::Done,
            (None, true) => LoginState::Refused,
            (None, false) => LoginState::Pending,
        }
    }

    /// Takes a frame of the server; true when a new session has begun.
    ///
    /// # Errors
    /// [`TunnelError`] when the frame is malformed, out of place, or proves nothing; the session stays as it was.
    pub fn handle(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
        passphrase: Option<(&[u8], KeySize)>,
    ) -> Result<bool, TunnelError> {
        let (version, EapolFrame::Eap(eap)) = EapolFrame::parse(bytes)? else {
            return Err(LoginError::OutOfPlace.into());
        };
        match eap.code {
            EapCode::Request => self.handle_request(now, version.min(VERSION), &eap, bytes, passphrase),
            EapCode::Failure => self.handle_failure(now).map(|()| false),
            EapCode::Response | EapCode::Success => Err(LoginError::OutOfPlace.into()),
        }
    }

    /// Appends the next frame to `out`; false when there is none for now.
    pub fn poll(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        if let Some(reply) = self.outbox.take() {
            out.extend_from_slice(&reply);
            return true;
        }
        match &mut self.state {
            State::AwaitChallenge { since } | State::AwaitKey { since, .. } | State::AwaitProof { since, .. }
                if now.since(*since) >= SILENCE_MAX =>
            {
                self.state = self.idle(now);
            }
            _ => {}
        }
        let State::Starting { due, tries } = &mut self.state else { return false };
        if now < *due {
            return false;
        }
        *due = now + if *tries < TRIES_MAX { RETRY_INTERVAL } else { SLOW_INTERVAL };
        *tries = tries.saturating_add(1);
        EapolFrame::Start.emit(VERSION, out);
        true
    }

    /// When [`Self::poll`] has something to do next, if nothing comes in before.
    pub const fn timeout(&self) -> Timestamp {
        match &self.state {
            _ if self.outbox.is_some() => Timestamp::ZERO,
            State::Starting { due, .. } => *due,
            State::AwaitChallenge { since } | State::AwaitKey { since, .. } | State::AwaitProof { since, .. } => {
                Timestamp::from_micros(since.as_micros().saturating_add(SILENCE_MAX.as_micros() as u64))
            }
            State::Done => Timestamp::MAX,
        }
    }

    /// Where an exchange that came to nothing leads.
    const fn idle(&self, due: Timestamp) -> State {
        if self.session.is_some() { State::Done } else { State::Starting { due, tries: 0 } }
    }

    fn handle_failure(&mut self, now: Timestamp) -> Result<(), TunnelError> {
        if !matches!(self.state, State::AwaitProof { .. }) {
            return Err(LoginError::OutOfPlace.into());
        }
        self.inverted = !self.inverted;
        self.refused = true;
        // The other variant is tried soon.
        self.state = self.idle(now + if self.inverted { RETRY_INTERVAL } else { SLOW_INTERVAL });
        Err(LoginError::Refused.into())
    }

    fn handle_request(
        &mut self,
        now: Timestamp,
        version: u8,
        eap: &Eap<'_>,
        bytes: &[u8],
        passphrase: Option<(&[u8], KeySize)>,
    ) -> Result<bool, TunnelError> {
        if let Some(last) = &self.last
            && last.request == bytes
        {
            self.outbox = Some(last.reply.clone());
            return Ok(false);
        }
        let (code, body, done) = match Message::parse(eap.body) {
            Message::Identity(_) => {
                self.state = State::AwaitChallenge { since: now };
                (EapCode::Response, Message::Identity(self.login.username.as_bytes()).to_body(), false)
            }
            Message::First(rest) => (EapCode::Response, self.answer_challenge(now, version, rest)?, false),
            Message::Second(rest) => (EapCode::Response, self.answer_key(now, version, rest)?, false),
            Message::Third(rest) => {
                self.check_proof(version, rest)?;
                if version >= VERSION {
                    (EapCode::Success, vec![0, 0], true)
                } else {
                    (EapCode::Response, Message::Third(&[]).to_body(), true)
                }
            }
            Message::Passphrase(_) => {
                let session = self.session.as_mut().ok_or(LoginError::OutOfPlace)?;
                let answer = session.passphrase_answer(eap.identifier, passphrase).ok_or(LoginError::OutOfPlace)?;
                (EapCode::Response, answer, false)
            }
            Message::Other => return Err(LoginError::OutOfPlace.into()),
        };
        let reply = frame(version, code, eap.identifier, &body);
        self.outbox = Some(reply.clone());
        self.last = Some(Answered { request: bytes.to_vec(), reply });
        Ok(done)
    }

    fn answer_challenge(&mut self, now: Timestamp, version: u8, rest: &[u8]) -> Result<Vec<u8>, TunnelError> {
        let challenge = Challenge::parse(rest)?;
        let expected =
            matches!(self.state, State::AwaitChallenge { .. } | State::AwaitKey { .. } | State::AwaitProof { .. });
        if !expected {
            return Err(LoginError::OutOfPlace.into());
        }
        let group = Group::default_2048();
        if challenge.group.is_some_and(|(generator, prime)| Group::new(prime, generator) != *group) {
            return Err(LoginError::UnknownGroup.into());
        }
        if !self.exchanges.allow(now) {
            return Err(LoginError::TooMany.into());
        }
        let variant = HashVariant::of_version(version);
        let variant = if self.inverted { variant.other() } else { variant };
        let pair = KeyPair::client(group, &self.random.block());
        let body = Message::First(&pair.public).to_body();
        self.state = State::AwaitKey { since: now, variant, salt: challenge.salt.to_vec(), pair };
        Ok(body)
    }

    fn answer_key(&mut self, now: Timestamp, version: u8, b_public: &[u8]) -> Result<Vec<u8>, TunnelError> {
        let State::AwaitKey { variant, salt, pair, .. } = &self.state else {
            return Err(LoginError::OutOfPlace.into());
        };
        let (variant, group, username) = (*variant, Group::default_2048(), self.login.username.as_bytes());
        let identity = Identity { username, password: self.login.password.as_bytes(), salt };
        let Ok(key) = client_key(group, pair, b_public, &identity.x(variant)) else {
            self.state = self.idle(now + RETRY_INTERVAL);
            return Err(LoginError::BadPublicValue.into());
        };
        let transcript = Transcript { group, username, salt, a_public: &pair.public, b_public, key: &key };
        let m1 = transcript.m1(variant);
        let expected = transcript.m2(variant, &m1);
        let own_use_key = self.use_key && version >= VERSION;
        let body = Message::Second(&ProofMessage { use_key: own_use_key, proof: m1 }.emit()).to_body();
        self.state = State::AwaitProof { since: now, expected, key, own_use_key };
        Ok(body)
    }

    fn check_proof(&mut self, version: u8, rest: &[u8]) -> Result<(), TunnelError> {
        let message = ProofMessage::parse(rest)?;
        let State::AwaitProof { expected, key, own_use_key, .. } = &self.state else {
            return Err(LoginError::OutOfPlace.into());
        };
        if !proves(expected, &message.proof) {
            return Err(LoginError::WrongProof.into());
        }
        let (key, own_use_key) = (key.clone(), *own_use_key);
        let peer_use_key = message.use_key && version >= VERSION;
        self.session = Some(Session { key, own_use_key, peer_use_key, answered: None });
        self.refused = false;
        self.state = State::Done;
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("login", &self.login).field("state", &self.state()).finish_non_exhaustive()
    }
}
