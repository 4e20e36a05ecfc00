//! system-test
