//! What `bond-send` and `bond-receive` share: link lists, secrets from files, reports and orderly ends.

mod links;
mod report;
mod secrets;
mod stop;

pub use links::{LinkListError, link_list};
pub use report::{Report, StatsFormat};
pub use secrets::{SecretError, read_logins, read_psk};
pub use stop::Stop;
