//! The field device: agent (control plane) and streamer (data plane).

pub mod pipeline;
