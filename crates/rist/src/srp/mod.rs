//! EAP SHA256-SRP6a login of Main Profile (TR-06-2 section 7.4, annex D), both ends, without I/O.
//!
//! The tunnel's caller is the [`Client`], its listener the [`Server`]. `handle` takes the peer's EAPOL frames, `poll`
//! gives this end's, until each side has a [`Session`]. Only the 2048-bit group of RFC 5054 is spoken and accepted.
//!
//! Two hash variants exist in the field, see [`HashVariant`]; both ends fall back between them.

mod client;
mod config;
mod hash;
mod limit;
mod math;
mod message;
mod server;
mod session;

pub use client::Client;
pub use config::{Entropy, Login, Password, SrpConfig, USERS_MAX};
pub use hash::HashVariant;
pub use limit::{EXCHANGES_PER_SECOND_MAX, ExchangeLimit};
pub use server::Server;
pub use session::{LoginError, LoginState, Session};

use crate::psk::KeySize;
use crate::random::Random;
use crate::tunnel::{Role, TunnelError};
use units::Timestamp;

/// Either end, as the tunnel's role demands.
#[derive(Debug)]
pub(crate) enum Machine {
    Client(Box<Client>),
    Server(Box<Server>),
}

impl Machine {
    /// `use_key`: encrypt with the session key, because there is no passphrase.
    pub(crate) fn new(role: Role, config: SrpConfig, use_key: bool) -> Self {
        let random = Random::from_entropy(*config.entropy.0);
        let mut logins = config.logins;
        match role {
            Role::Server => {
                logins.truncate(USERS_MAX);
                Self::Server(Box::new(Server::new(logins, use_key, random, config.exchanges)))
            }
            Role::Client => {
                let nobody = Login { username: String::new(), password: Password::new("") };
                let login = logins.into_iter().next().unwrap_or(nobody);
                Self::Client(Box::new(Client::new(login, use_key, random)))
            }
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        match self {
            Self::Client(client) => client.session(),
            Self::Server(server) => server.session(),
        }
    }

    pub(crate) fn state(&self) -> LoginState {
        match self {
            Self::Client(client) => client.state(),
            Self::Server(server) => server.state(),
        }
    }

    pub(crate) fn handle(
        &mut self,
        now: Timestamp,
        frame: &[u8],
        passphrase: Option<(&[u8], KeySize)>,
    ) -> Result<bool, TunnelError> {
        match self {
            Self::Client(client) => client.handle(now, frame, passphrase),
            Self::Server(server) => server.handle(now, frame, passphrase),
        }
    }

    pub(crate) fn poll(&mut self, now: Timestamp, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Client(client) => client.poll(now, out),
            Self::Server(server) => server.poll(now, out),
        }
    }

    pub(crate) fn timeout(&self) -> Timestamp {
        match self {
            Self::Client(client) => client.timeout(),
            Self::Server(server) => server.timeout(),
        }
    }

    /// The peer sends other things than login frames although it has no session.
    pub(crate) fn prompt(&mut self, now: Timestamp) {
        if let Self::Server(server) = self {
            server.prompt(now);
        }
    }
}

#[cfg(test)]
mod tests;
