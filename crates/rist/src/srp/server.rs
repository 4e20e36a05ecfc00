//! The listener's end of the login.

use super::config::Login;
use super::hash::{HASH_BYTES, HashVariant, hash};
use super::limit::{ASK_AGAIN, ExchangeLimit, Ticket};
use super::math::{Group, Identity, KeyPair, Proof, SessionKey, Transcript, proves, server_key, verifier};
use super::message::{Challenge, Message, ProofMessage};
use super::session::{
    EXCHANGE_BURST, EXCHANGE_INTERVAL, LoginError, LoginState, RETRY_INTERVAL, Session, TRIES_MAX, VERSION, frame,
};
use crate::psk::{KeySize, RateLimiter};
use crate::random::Random;
use crate::tunnel::TunnelError;
use crate::wire::eapol::{Eap, EapCode, EapolFrame};
use num_bigint::BigUint;
use std::time::Duration;
use units::Timestamp;
use zeroize::Zeroizing;

/// Wrong proofs after which a peer is ignored for [`LOCKOUT`].
const FAILURES_MAX: u32 = 3;
/// How long a peer is ignored. Not for ever: an attacker who forges the peer's address must not shut it out.
const LOCKOUT: Duration = Duration::from_mins(1);
/// Identity requests that a peer can cause: this many at once, and one each [`ASK_INTERVAL`].
const ASK_BURST: u32 = 4;
/// See [`ASK_BURST`].
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// The server of EAP-SRP: drives `handle` and `poll`, ends with a [`Session`].
///
/// A proof that fails under EAPOL version 3 is checked with the zero-state hash too, and then the challenge is repeated
/// with a zero-state verifier, before it counts as a failure. Unknown users are answered like known ones. A new login
/// runs beside the session and replaces it when it succeeds.
pub struct Server {
    logins: Vec<Login>,
    use_key: bool,
    random: Random,
    /// Makes salts, and the verifiers of users that do not exist.
    secret: Zeroizing<[u8; 32]>,
    state: State,
    version: u8,
    identifier: u8,
    session: Option<Session>,
    request: Option<Request>,
    outbox: Option<Vec<u8>>,
    /// Wrong proofs since the last success or lock-out.
    failures: u32,
    /// The last attempt failed.
    refused: bool,
    locked_until: Timestamp,
    asks: RateLimiter,
    exchanges: RateLimiter,
    /// Of all tunnels of this end.
    limit: ExchangeLimit,
    waiting: Option<Waiting>,
}

/// A client's public value that waits for its turn.
struct Waiting {
    a_public: Vec<u8>,
    ticket: Ticket,
    due: Timestamp,
}

/// The request that waits for its response.
struct Request {
    bytes: Vec<u8>,
    due: Timestamp,
    tries: u32,
}

enum State {
    Idle,
    /// The user name is asked for.
    Identity,
    /// The salt is sent.
    Challenge {
        user: User,
        variant: HashVariant,
        second_try: bool,
    },
    /// The public value is sent.
    Key {
        exchange: Box<Exchange>,
        second_try: bool,
    },
    /// The proof is sent and the session begun; the client's acknowledgement is awaited.
    Proof,
}

struct User {
    username: Vec<u8>,
    /// Index into the logins; `None` for an unknown user.
    login: Option<usize>,
    salt: [u8; HASH_BYTES],
}

struct Exchange {
    user: User,
    variant: HashVariant,
    a_public: Vec<u8>,
    pair: KeyPair,
    key: SessionKey,
}

impl Server {
    /// A server for `logins`. With `use_key`, it encrypts with the session key (version 3 clients).
    pub(crate) fn new(logins: Vec<Login>, use_key: bool, mut random: Random, limit: ExchangeLimit) -> Self {
        let secret = Zeroizing::new(random.block());
        let [identifier] = random.bytes();
        Self {
            logins,
            use_key,
            random,
            secret,
            state: State::Idle,
            version: VERSION,
            identifier,
            session: None,
            request: None,
            outbox: None,
            failures: 0,
            refused: false,
            locked_until: Timestamp::ZERO,
            asks: RateLimiter::new(ASK_INTERVAL, ASK_BURST),
            exchanges: RateLimiter::new(EXCHANGE_INTERVAL, EXCHANGE_BURST),
            limit,
            waiting: None,
        }
    }

    /// The session, once the client has proved itself.
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How far the login is.
    pub const fn state(&self) -> LoginState {
        match (&self.session, self.refused) {
            (Some(_), _) => LoginState::Done,
            (None, false) => LoginState::Pending,
            (None, true) => LoginState::Refused,
        }
    }

    /// A peer without session sends other things than login frames: it is asked for its name.
    pub fn prompt(&mut self, now: Timestamp) {
        if matches!(self.state, State::Idle) && self.session.is_none() && now >= self.locked_until {
            let _ = self.ask(now);
        }
    }

    /// Takes a frame of the client; true when a new session has begun.
    ///
    /// # Errors
    /// [`TunnelError`] when the frame is malformed, out of place, or proves nothing; the session stays as it was.
    pub fn handle(
        &mut self,
        now: Timestamp,
        bytes: &[u8],
        passphrase: Option<(&[u8], KeySize)>,
    ) -> Result<bool, TunnelError> {
        let (version, frame) = EapolFrame::parse(bytes)?;
        if now < self.locked_until {
            return Err(LoginError::TooMany.into());
        }
        match frame {
            EapolFrame::Start => self.ask(now).map(|()| false),
            // Anyone could forge it; the session ends with the tunnel.
            EapolFrame::Logoff => Err(LoginError::OutOfPlace.into()),
            EapolFrame::Eap(eap) => self.handle_eap(now, version, &eap, passphrase),
        }
    }

    /// Appends the next frame to `out`; false when there is none for now.
    pub fn poll(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        if let Some(bytes) = self.outbox.take() {
            out.extend_from_slice(&bytes);
            return true;
        }
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.due <= now) {
            // A value that would fix the key is dropped; the challenge is repeated to whoever gave it.
            let _ = self.take_turn(now, &waiting.a_public, Some(waiting.ticket));
        }
        if self.waiting.is_some() {
            // It is in hand: nothing is asked for again meanwhile.
            return false;
        }
        let Some(request) = &mut self.request else { return false };
        if now < request.due {
            return false;
        }
        if request.tries == TRIES_MAX {
            self.request = None;
            self.state = State::Idle;
            return false;
        }
        request.tries += 1;
        request.due = now + RETRY_INTERVAL;
        out.extend_from_slice(&request.bytes);
        true
    }

    /// When [`Self::poll`] has something to do next, if nothing comes in before.
    pub fn timeout(&self) -> Timestamp {
        if self.outbox.is_some() {
            return Timestamp::ZERO;
        }
        let waiting = self.waiting.as_ref().map(|waiting| waiting.due);
        waiting.unwrap_or_else(|| self.request.as_ref().map_or(Timestamp::MAX, |request| request.due))
    }

    fn ask(&mut self, now: Timestamp) -> Result<(), TunnelError> {
        if !self.asks.allow(now) {
            return Err(LoginError::TooMany.into());
        }
        self.version = VERSION;
        self.state = State::Identity;
        self.send_request(now, Message::Identity(&[]));
        Ok(())
    }

    fn send_request(&mut self, now: Timestamp, message: Message<'_>) {
        self.waiting = None;
        self.identifier = self.identifier.wrapping_add(1);
        let bytes = frame(self.version, EapCode::Request, self.identifier, &message.to_body());
        self.request = Some(Request { bytes, due: now, tries: 0 });
    }

    fn handle_eap(
        &mut self,
        now: Timestamp,
        version: u8,
        eap: &Eap<'_>,
        passphrase: Option<(&[u8], KeySize)>,
    ) -> Result<bool, TunnelError> {
        match (eap.code, Message::parse(eap.body)) {
            (EapCode::Request, Message::Passphrase(_)) => {
                let session = self.session.as_mut().ok_or(LoginError::OutOfPlace)?;
                let answer = session.passphrase_answer(eap.identifier, passphrase).ok_or(LoginError::OutOfPlace)?;
                self.outbox = Some(frame(self.version, EapCode::Response, eap.identifier, &answer));
                Ok(false)
            }
            _ if eap.identifier != self.identifier => Err(LoginError::OutOfPlace.into()),
            (EapCode::Success, _) | (EapCode::Response, Message::Third(_)) => self.acknowledged().map(|()| false),
            (EapCode::Response, Message::Identity(name)) => self.challenge(now, version, name).map(|()| false),
            (EapCode::Response, Message::First(a_public)) => self.exchange(now, a_public).map(|()| false),
            (EapCode::Response, Message::Second(rest)) => self.check_proof(now, rest),
            _ => Err(LoginError::OutOfPlace.into()),
        }
    }

    fn acknowledged(&mut self) -> Result<(), TunnelError> {
        if !matches!(self.state, State::Proof) {
            return Err(LoginError::OutOfPlace.into());
        }
        self.state = State::Idle;
        self.request = None;
        Ok(())
    }

    fn challenge(&mut self, now: Timestamp, version: u8, username: &[u8]) -> Result<(), TunnelError> {
        const USERNAME_BYTES_MAX: usize = 255;
        if !matches!(self.state, State::Identity) || username.len() > USERNAME_BYTES_MAX {
            return Err(LoginError::OutOfPlace.into());
        }
        self.version = version.min(VERSION);
        let user = User {
            username: username.to_vec(),
            login: self.logins.iter().position(|login| login.username.as_bytes() == username),
            salt: salt(&*self.secret, username),
        };
        self.send_challenge(now, user, HashVariant::of_version(self.version), false);
        Ok(())
    }

    fn send_challenge(&mut self, now: Timestamp, user: User, variant: HashVariant, second_try: bool) {
        self.send_request(now, Message::First(&Challenge::emit(&user.salt)));
        self.state = State::Challenge { user, variant, second_try };
    }

    fn exchange(&mut self, now: Timestamp, a_public: &[u8]) -> Result<(), TunnelError> {
        if !matches!(self.state, State::Challenge { .. }) {
            return Err(LoginError::OutOfPlace.into());
        }
        if self.waiting.is_some() {
            return Ok(());
        }
        if !self.exchanges.allow(now) {
            return Err(LoginError::TooMany.into());
        }
        self.take_turn(now, a_public, None)
    }

    /// Goes on with the exchange when it is this tunnel's turn, and waits for that otherwise.
    fn take_turn(&mut self, now: Timestamp, a_public: &[u8], ticket: Option<Ticket>) -> Result<(), TunnelError> {
        match self.limit.ask(now, ticket) {
            Ok(()) => {}
            Err(None) => return Err(LoginError::TooMany.into()),
            Err(Some(ticket)) => {
                self.waiting = Some(Waiting { a_public: a_public.to_vec(), ticket, due: now + ASK_AGAIN });
                return Ok(());
            }
        }
        let State::Challenge { user, variant, second_try } = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(LoginError::OutOfPlace.into());
        };
        self.request = None;
        let group = Group::default_2048();
        let v = verifier(group, &self.x(&user, variant));
        let pair = KeyPair::server(group, &self.random.block(), &v);
        let key = server_key(group, &pair, a_public, &v).map_err(|_| LoginError::BadPublicValue)?;
        self.send_request(now, Message::Second(&pair.public));
        let exchange = Box::new(Exchange { user, variant, a_public: a_public.to_vec(), pair, key });
        self.state = State::Key { exchange, second_try };
        Ok(())
    }

    /// The private exponent of a user; a secret one for users that do not exist.
    fn x(&self, user: &User, variant: HashVariant) -> BigUint {
        let unknown = hash(&[b"unknown", &*self.secret, &user.username]);
        let password = user.login.map_or(&unknown[..], |index| self.logins[index].password.as_bytes());
        Identity { username: &user.username, password, salt: &user.salt }.x(variant)
    }

    fn check_proof(&mut self, now: Timestamp, rest: &[u8]) -> Result<bool, TunnelError> {
        let message = ProofMessage::parse(rest)?;
        if !matches!(self.state, State::Key { .. }) {
            return Err(LoginError::OutOfPlace.into());
        }
        let State::Key { exchange, second_try } = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(LoginError::OutOfPlace.into());
        };
        self.request = None;
        if let Some(m2) = exchange.answer(&message.proof) {
            let own_use_key = self.use_key && self.version >= VERSION;
            let peer_use_key = message.use_key && self.version >= VERSION;
            self.session = Some(Session { key: exchange.key.clone(), own_use_key, peer_use_key, answered: None });
            (self.failures, self.refused) = (0, false);
            self.send_request(now, Message::Third(&ProofMessage { use_key: own_use_key, proof: m2 }.emit()));
            self.state = State::Proof;
            return Ok(true);
        }
        if exchange.variant == HashVariant::Standard && !second_try {
            self.send_challenge(now, exchange.user, HashVariant::ZeroState, true);
            return Ok(false);
        }
        self.failures += 1;
        self.refused = true;
        if self.failures >= FAILURES_MAX {
            self.failures = 0;
            self.locked_until = now + LOCKOUT;
        }
        self.outbox = Some(frame(self.version, EapCode::Failure, self.identifier, &[]));
        Err(LoginError::WrongProof.into())
    }
}

/// A user's salt, the same for each login. librist takes it for a number, whose leading zeros enter no hash: it has none.
fn salt(secret: &[u8], username: &[u8]) -> [u8; HASH_BYTES] {
    let mut salt = hash(&[b"salt", secret, username]);
    salt[0] = salt[0].max(1);
    salt
}

impl Exchange {
    /// M2 when `m1` proves the password under the variant of this exchange, or under the zero-state hash.
    fn answer(&self, m1: &Proof) -> Option<Proof> {
        let transcript = Transcript {
            group: Group::default_2048(),
            username: &self.user.username,
            salt: &self.user.salt,
            a_public: &self.a_public,
            b_public: &self.pair.public,
            key: &self.key,
        };
        let variants = [self.variant, HashVariant::ZeroState];
        let variant = variants.into_iter().find(|variant| proves(&transcript.m1(*variant), m1))?;
        self.user.login.map(|_| transcript.m2(variant, m1))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("users", &self.logins.len())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Server {
    /// Lifts a lock-out.
    pub(super) fn failures_forgotten(&mut self) {
        (self.failures, self.locked_until) = (0, Timestamp::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_are_a_users_own_and_have_no_leading_zero() {
        let salts: std::collections::BTreeSet<_> = (0..2000u32).map(|i| salt(b"secret", &i.to_be_bytes())).collect();
        assert_eq!(salts.len(), 2000);
        assert!(salts.iter().all(|salt| salt[0] != 0));
        assert_ne!(salt(b"secret", b"user"), salt(b"another", b"user"));
    }
}
