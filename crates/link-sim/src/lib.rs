//! link-sim
