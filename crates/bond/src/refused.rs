//! Why datagrams were refused: each reason is counted, because each has another remedy.

use rist::tunnel::TunnelError;
use serde::Serialize;

/// Why a datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Malformed,
    Clear,
    Encrypted,
    WrongKey,
    Replayed,
    LogIn,
    Stranger,
    Unwanted,
    OutOfWindow,
}

impl From<TunnelError> for Reason {
    fn from(error: TunnelError) -> Self {
        match error {
            TunnelError::Clear => Self::Clear,
            TunnelError::NoPassphrase => Self::Encrypted,
            TunnelError::Implausible
            | TunnelError::DerivationLimit
            | TunnelError::ZeroNonce
            | TunnelError::InsecureRevision => Self::WrongKey,
            TunnelError::Replayed { .. }
            | TunnelError::FarAhead { .. }
            | TunnelError::Reflected
            | TunnelError::OtherLink
            | TunnelError::NonceLimit => Self::Replayed,
            TunnelError::NotAuthenticated | TunnelError::Login(_) => Self::LogIn,
            TunnelError::UnexpectedMedia { .. } => Self::Unwanted,
            _ => Self::Malformed,
        }
    }
}

/// Datagrams refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RefusedDatagrams {
    /// No valid message.
    pub malformed: u64,
    /// In the clear, though this end has a passphrase.
    pub clear: u64,
    /// Encrypted, though this end has no passphrase.
    pub encrypted: u64,
    /// They decrypt to nothing valid: another passphrase, or forged.
    pub wrong_key: u64,
    /// They came before, are too old to tell, or are this end's own or another link's: repeated by the network or by somebody.
    pub replayed: u64,
    /// Part of a log-in that was refused or is out of place.
    pub log_in: u64,
    /// From unknown addresses, while too many of those send.
    pub strangers: u64,
    /// Of a flow that there is no room for, or to a port that nobody wants.
    pub unwanted: u64,
    /// Media whose number or time has nothing to do with its flow's.
    pub out_of_window: u64,
}

impl RefusedDatagrams {
    pub(crate) fn count(&mut self, reason: Reason) {
        let counter = match reason {
            Reason::Malformed => &mut self.malformed,
            Reason::Clear => &mut self.clear,
            Reason::Encrypted => &mut self.encrypted,
            Reason::WrongKey => &mut self.wrong_key,
            Reason::Replayed => &mut self.replayed,
            Reason::LogIn => &mut self.log_in,
            Reason::Stranger => &mut self.strangers,
            Reason::Unwanted => &mut self.unwanted,
            Reason::OutOfWindow => &mut self.out_of_window,
        };
        *counter += 1;
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        self.malformed
            + self.clear
            + self.encrypted
            + self.wrong_key
            + self.replayed
            + self.log_in
            + self.strangers
            + self.unwanted
            + self.out_of_window
    }
}
