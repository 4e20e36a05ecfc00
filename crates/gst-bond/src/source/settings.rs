//! What the source is told by properties.

use crate::settings::{FlowSettings, chain};
use bond::config::ReceiverConfig;
use gstreamer as gst;
use link_io::media::{EndpointError, resolve_all};
use link_io::receiver::{FlowReceiver, ReceiverOptions};
use std::time::Duration;

pub(super) const LISTEN_DEFAULT: &str = "0.0.0.0:5000";

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) flow: FlowSettings,
    pub(crate) listen: String,
    pub(crate) connect: String,
    pub(crate) reorder_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let flow = FlowSettings::default();
        Self { flow, listen: LISTEN_DEFAULT.to_owned(), connect: String::new(), reorder_ms: 0 }
    }
}

impl Settings {
    /// Opens the flow these settings describe.
    pub(crate) fn open(self) -> Result<FlowReceiver, gst::ErrorMessage> {
        let wrong = |error: &dyn std::error::Error| gst::error_msg!(gst::ResourceError::Settings, ("{}", chain(error)));
        let psk = self.flow.psk().map_err(|error| wrong(&error))?;
        let addresses = |text: &str| resolve_all(text).map_err(|error: EndpointError| wrong(&error));
        let (listen, connect) = (addresses(&self.listen)?, addresses(&self.connect)?);
        let bond = ReceiverConfig {
            profile: self.flow.profile.into(),
            psk,
            extension: self.flow.extension(),
            cname: self.flow.cname,
            latency: self.flow.latency,
            reorder: (self.reorder_ms > 0).then(|| Duration::from_millis(self.reorder_ms.into())),
            ..ReceiverConfig::default()
        };
        FlowReceiver::open(ReceiverOptions { bond, listen, connect })
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenRead, ("{}", chain(&error))))
    }
}
