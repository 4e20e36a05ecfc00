//! link-io
