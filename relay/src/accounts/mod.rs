//! Users, passwords and browser log-ins.
//!
//! Passwords are Argon2id (RFC 9106) hashes, computed off the async threads and at most [`HASHES_AT_ONCE`] at a time (each
//! takes 19 MiB). A wrong password is answered no sooner than [`REFUSAL_TIME`], for unknown users too, and [`throttle`]
//! makes the next tries wait. A log-in is a random 256-bit token of which only the hash is kept; the CSRF token is derived
//! from it, so that it needs no record.

pub mod throttle;

use crate::clock::unix_ms;
use crate::secrets::{self, SecretsError, sha256_hex};
use crate::store::{Batch, LoginRecord, Store, StoreError, UserRecord};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use protocol::Secret;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use throttle::{Throttle, ThrottleKey};
use tokio::sync::Semaphore;

/// A refused log-in takes at least this long.
pub const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Password hashes computed at once; further log-ins wait.
pub const HASHES_AT_ONCE: usize = 2;
/// Log-ins that wait for a hash; one more is told to come back.
pub const HASHES_WAITING_MAX: usize = 32;
/// How long a log-in lasts.
pub const LOGIN_TTL: Duration = Duration::from_hours(12);
/// Most log-ins of one user; the oldest goes.
pub const LOGINS_PER_USER_MAX: usize = 32;
/// Most log-ins that are kept in memory only.
const LOGINS_IN_MEMORY_MAX: usize = 32;
/// Longest password, bytes.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// The user that is made when there is none.
pub const FIRST_USER: &str = "admin";

/// Why a log-in was refused, or an account operation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Name or password is wrong; deliberately not told apart.
    #[error("name or password is wrong")]
    PeerWrong,
    /// Too many wrong tries.
    #[error("too many wrong tries; wait {} s", wait.as_secs() + 1)]
    PeerTooMany {
        /// How long.
        wait: Duration,
    },
    /// Hashing failed.
    #[error("the password hash cannot be computed")]
    Hash,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// No randomness.
    #[error("no random bytes")]
    Random(#[from] SecretsError),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Who is logged in, by a valid cookie.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Goes into forms, and comes back with each write.
    pub csrf: Secret,
    /// SHA-256 of the cookie's token.
    pub token_hash: String,
}

impl Login {
    fn of(token: &str, user: String) -> Self {
        Self { user, csrf: csrf_of(token), token_hash: sha256_hex(token.as_bytes()) }
    }

    /// Whether `given` is this log-in's CSRF token.
    pub fn csrf_matches(&self, given: &str) -> bool {
        self.csrf.reveal().as_bytes().ct_eq(given.as_bytes()).into()
    }
}

fn csrf_of(token: &str) -> Secret {
    Secret::new(sha256_hex(format!("strata csrf {token}").as_bytes()))
}

/// Users and log-ins.
#[derive(Debug)]
pub struct Accounts {
    store: Store,
    hashes: Arc<Semaphore>,
    waiting: Semaphore,
    throttle: Mutex<Throttle>,
    /// Log-ins made while the disk was full: gone with this process. At most [`LOGINS_IN_MEMORY_MAX`], oldest first.
    in_memory: Mutex<Vec<LoginRecord>>,
    /// A hash that no password has: unknown users cost as much as known ones.
    decoy_hash: String,
}

impl Accounts {
    /// Accounts in this store. With no user in it, [`FIRST_USER`] is made with a random password, written to
    /// `initial-password.txt` in `data_dir` (mode 0600).
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn open(store: Store, data_dir: &Path) -> Result<Self, AccountError> {
        let hashes = Arc::new(Semaphore::new(HASHES_AT_ONCE));
        let decoy_hash = hash(&hashes, secrets::token()?).await?;
        let waiting = Semaphore::new(HASHES_WAITING_MAX);
        let (throttle, in_memory) = (Mutex::default(), Mutex::default());
        let accounts = Self { store, hashes, waiting, throttle, in_memory, decoy_hash };
        if accounts.store.scan::<UserRecord>()?.is_empty() {
            accounts.make_first_user(data_dir).await?;
        }
        Ok(accounts)
    }

    async fn make_first_user(&self, data_dir: &Path) -> Result<(), AccountError> {
        let password = secrets::token()?;
        let path = data_dir.join("initial-password.txt");
        secrets::write_private(&path, format!("{}\n", password.reveal()).as_bytes())
            .map_err(|source| AccountError::File { path: path.clone(), source })?;
        self.set_password(FIRST_USER, password).await?;
        tracing::info!(user = FIRST_USER, password_file = %path.display(), "first user made");
        Ok(())
    }

    /// Makes a user, or gives one a new password.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn set_password(&self, name: &str, password: Secret) -> Result<(), AccountError> {
        let password_hash = hash(&self.hashes, password).await?;
        let user = UserRecord { name: name.to_owned(), password_hash, created_ms: unix_ms() };
        Ok(self.store.commit(Batch::new().put(&user)).await?)
    }

    /// Logs in; gives the cookie's token.
    ///
    /// # Errors
    /// [`AccountError::PeerWrong`] after [`REFUSAL_TIME`] at the earliest, [`AccountError::PeerTooMany`] at once.
    pub async fn log_in(&self, name: &str, password: Secret, from: IpAddr) -> Result<(Secret, Login), AccountError> {
        let began = Instant::now();
        let name: String = name.trim().chars().take(64).collect();
        let keys = [ThrottleKey::Account(name.clone()), ThrottleKey::address(from)];
        {
            let throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
            for key in &keys {
                throttle.check(began, key).map_err(|wait| AccountError::PeerTooMany { wait })?;
            }
        }
        let _place = self.waiting.try_acquire().map_err(|_| AccountError::PeerTooMany { wait: REFUSAL_TIME })?;
        let user = self.store.get::<UserRecord>(&name)?;
        let known = user.is_some();
        let expected = user.map_or_else(|| self.decoy_hash.clone(), |user| user.password_hash);
        if !verify(&self.hashes, password, expected).await? || !known {
            {
                let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
                for key in &keys {
                    throttle.failed(began, key);
                }
            }
            tracing::warn!(%from, user = name, "wrong name or password");
            tokio::time::sleep(REFUSAL_TIME.saturating_sub(began.elapsed())).await;
            return Err(AccountError::PeerWrong);
        }
        {
            let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
            for key in &keys {
                throttle.succeeded(key);
            }
        }
        self.open_login(name).await
    }

    async fn open_login(&self, user: String) -> Result<(Secret, Login), AccountError> {
        let token = secrets::token()?;
        let login = Login::of(token.reveal(), user.clone());
        let now = unix_ms();
        let record = LoginRecord {
            token_hash: login.token_hash.clone(),
            user: user.clone(),
            created_ms: now,
            expires_ms: now + LOGIN_TTL.as_millis() as u64,
        };
        let (mut own, over): (Vec<_>, Vec<_>) = self
            .store
            .scan::<LoginRecord>()?
            .into_iter()
            .filter(|login| login.user == user || login.expires_ms <= now)
            .partition(|login| login.expires_ms > now);
        own.sort_by_key(|login| login.created_ms);
        let surplus = (own.len() + 1).saturating_sub(LOGINS_PER_USER_MAX);
        let gone = over.iter().chain(own.iter().take(surplus));
        let batch = gone.fold(Batch::new().put(&record), |batch, login| batch.delete::<LoginRecord>(&login.token_hash));
        match self.store.commit(batch).await {
            // Who comes to mend a full disk must get in.
            Err(StoreError::DiskFull { .. }) => {
                tracing::warn!(user, "log-in kept in memory, the disk is full");
                let mut in_memory = self.in_memory();
                if in_memory.len() >= LOGINS_IN_MEMORY_MAX {
                    in_memory.remove(0);
                }
                in_memory.push(record);
            }
            outcome => outcome?,
        }
        Ok((token, login))
    }

    fn in_memory(&self) -> MutexGuard<'_, Vec<LoginRecord>> {
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log-in of a cookie's token, while it lasts.
    ///
    /// # Errors
    /// [`AccountError::Store`].
    pub fn login_of(&self, token: &str) -> Result<Option<Login>, AccountError> {
        let hash = sha256_hex(token.as_bytes());
        let in_memory = || self.in_memory().iter().find(|login| login.token_hash == hash).cloned();
        let record = self.store.get::<LoginRecord>(&hash)?.or_else(in_memory);
        let valid = record.filter(|login| login.expires_ms > unix_ms());
        Ok(valid.map(|record| Login::of(token, record.user)))
    }

    /// Ends a log-in.
    ///
    /// # Errors
    /// [`AccountError::Store`].
    pub async fn log_out(&self, login: &Login) -> Result<(), AccountError> {
        let kept = self.in_memory().len();
        self.in_memory().retain(|it| it.token_hash != login.token_hash);
        if self.in_memory().len() < kept {
            return Ok(());
        }
        Ok(self.store.commit(Batch::new().delete::<LoginRecord>(&login.token_hash)).await?)
    }
}

async fn hash(hashes: &Arc<Semaphore>, password: Secret) -> Result<String, AccountError> {
    compute(hashes, move || Argon2::default().hash_password(password.reveal().as_bytes()).map(|hash| hash.to_string()))
        .await?
        .map_err(|_| AccountError::Hash)
}

async fn verify(hashes: &Arc<Semaphore>, password: Secret, expected: String) -> Result<bool, AccountError> {
    if password.reveal().len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    compute(hashes, move || {
        PasswordHash::new(&expected)
            .is_ok_and(|hash| Argon2::default().verify_password(password.reveal().as_bytes(), &hash).is_ok())
    })
    .await
}

async fn compute<T: Send + 'static>(
    hashes: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AccountError> {
    let permit = Arc::clone(hashes).acquire_owned().await.map_err(|_| AccountError::Hash)?;
    let outcome = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    outcome.await.map_err(|_| AccountError::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn accounts(directory: &Path) -> (Accounts, Secret) {
        let accounts = Accounts::open(Store::open(&directory.join("store")).unwrap(), directory).await.unwrap();
        let password = std::fs::read_to_string(directory.join("initial-password.txt")).unwrap();
        (accounts, Secret::new(password.trim()))
    }

    #[tokio::test]
    async fn the_first_user_logs_in_and_out() {
        let directory = tempfile::tempdir().unwrap();
        let (accounts, password) = accounts(directory.path()).await;
        let (token, login) = accounts.log_in("admin", password.clone(), HERE).await.unwrap();
        let again = accounts.login_of(token.reveal()).unwrap().unwrap();
        assert_eq!((again.user.as_str(), &again.csrf), ("admin", &login.csrf));
        assert!(again.csrf_matches(login.csrf.reveal()) && !again.csrf_matches("x"));
        let record = &accounts.store.scan::<LoginRecord>().unwrap()[0];
        assert!(!format!("{record:?}").contains(token.reveal()), "only the hash is kept");
        accounts.log_out(&login).await.unwrap();
        assert!(accounts.login_of(token.reveal()).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_wrong_password_is_slow_for_known_and_unknown_users_alike() {
        let directory = tempfile::tempdir().unwrap();
        let (accounts, _) = accounts(directory.path()).await;
        for name in ["admin", "nobody"] {
            let began = Instant::now();
            let refused = accounts.log_in(name, Secret::new("wrong"), HERE).await;
            assert!(matches!(refused, Err(AccountError::PeerWrong)), "{refused:?}");
            assert!(began.elapsed() >= REFUSAL_TIME);
        }
    }

    #[tokio::test]
    async fn old_log_ins_of_a_user_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let (accounts, _) = accounts(directory.path()).await;
        for _ in 0..LOGINS_PER_USER_MAX + 3 {
            accounts.open_login("admin".to_owned()).await.unwrap();
        }
        assert_eq!(accounts.store.scan::<LoginRecord>().unwrap().len(), LOGINS_PER_USER_MAX);
    }
}
