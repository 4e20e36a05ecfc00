//! rist
