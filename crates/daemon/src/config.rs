//! Configuration files: TOML, every key checked, errors that name file, key and place.

use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The largest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than [`CONFIG_BYTES_MAX`].
    #[error("the configuration file {} is larger than {CONFIG_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A key is unknown, or a value of the wrong type.
    #[error("the configuration file {} is wrong:\n{message}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Key, line and column, with the line quoted.
        message: String,
    },
}

/// Reads a TOML file into `T`; `T` should refuse unknown fields (`#[serde(deny_unknown_fields)]`).
///
/// # Errors
/// [`ConfigError`]: the operator's fault, with the place in the file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(fail)?.len() > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    parse(path, &text)
}

/// Like [`load`], from text; `path` is for the error only.
///
/// # Errors
/// [`ConfigError::Content`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Content {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[allow(dead_code)]
        port: u16,
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse::<Example>(Path::new("relay.toml"), "port = 1\nprot = 2\n").unwrap_err().to_string();
        assert!(error.contains("relay.toml") && error.contains("prot") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Example>(Path::new("no-such-file.toml")).unwrap_err().to_string();
        assert!(error.contains("no-such-file.toml"), "{error}");
    }
}
