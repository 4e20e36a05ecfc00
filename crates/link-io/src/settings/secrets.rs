//! Secrets come from files only: arguments and environment are visible to others on the machine.

use bond::config::{Login, Secret};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The longest secret file, in bytes: some hundred logins.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why a secret was not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {path}")]
    Storage {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no file of secrets.
    #[error("the secret file {path} is longer than {FILE_BYTES_MAX} bytes")]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("the secret file {path} is empty")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A line is not `user:password`.
    #[error("line {line} of {path} is not user:password")]
    Login {
        /// Which.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
}

/// The passphrase in the first line of a file.
///
/// # Errors
/// The file cannot be read or its first line is empty.
pub fn read_psk(path: &Path) -> Result<Secret, SecretError> {
    let text = read(path)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => Err(SecretError::Empty { path: path.to_owned() }),
    }
}

/// The `user:password` lines of a file; empty lines are left out.
///
/// # Errors
/// The file cannot be read, has no line, or a line without a colon.
pub fn read_logins(path: &Path) -> Result<Vec<Login>, SecretError> {
    let text = read(path)?;
    let mut logins = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let (user, password) =
            line.split_once(':').ok_or_else(|| SecretError::Login { path: path.to_owned(), line: i + 1 })?;
        logins.push(Login { user: user.to_owned(), password: Secret::new(password) });
    }
    if logins.is_empty() { Err(SecretError::Empty { path: path.to_owned() }) } else { Ok(logins) }
}

fn read(path: &Path) -> Result<String, SecretError> {
    let storage = |source| SecretError::Storage { path: path.to_owned(), source };
    let mut text = String::new();
    // A device gives bytes without end and has no length to look at first.
    File::open(path).map_err(storage)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(storage)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(SecretError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn a_passphrase_is_the_first_line_without_its_end() {
        assert_eq!(read_psk(file("words and words\n").path()).expect("read"), Secret::new("words and words"));
        assert!(matches!(read_psk(file("\n").path()), Err(SecretError::Empty { .. })));
        assert!(matches!(read_psk(Path::new("/nowhere/psk")), Err(SecretError::Storage { .. })));
        assert!(matches!(read_psk(Path::new("/dev/zero")), Err(SecretError::TooLong { .. })));
    }

    #[test]
    fn logins_are_split_at_the_first_colon() {
        let logins = read_logins(file("ann:p:w\n\nbob:x\n").path()).expect("read");
        assert_eq!(logins[0], Login { user: "ann".to_owned(), password: Secret::new("p:w") });
        assert_eq!(logins[1].user, "bob");
        assert!(matches!(read_logins(file("ann:x\nbob").path()), Err(SecretError::Login { line: 2, .. })));
    }
}
