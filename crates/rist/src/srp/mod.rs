//! EAP-SRP login.
mod config;

pub use config::{Entropy, Login, Password, SrpConfig, USERS_MAX};
