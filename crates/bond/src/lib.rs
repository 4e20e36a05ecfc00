//! bond
