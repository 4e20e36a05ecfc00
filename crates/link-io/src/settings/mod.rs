//! Settings as text and files, the same for programs and elements: lists of links and of addresses, secrets.

mod links;
mod secrets;

pub use links::{LINK_OPTIONS, LinkListError, bind_links, link_list, link_rule, more_links};
pub use secrets::{SecretError, read_logins, read_psk};
