//! What the sink is told by properties.

use crate::settings::{FlowSettings, chain};
use bond::config::SenderConfig;
use gstreamer as gst;
use link_io::sender::{FlowSender, LinkSpec, SenderOptions};
use units::{Bitrate, LinkId};

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) flow: FlowSettings,
    pub(crate) links: Vec<LinkSpec>,
    /// The property `links` as it was set; links added or removed one by one are not in it.
    pub(crate) links_text: String,
    /// A `links` text that does not parse is reported when the element starts.
    pub(crate) links_error: Option<String>,
    pub(crate) null_deletion: bool,
    pub(crate) flow_id: u32,
    pub(crate) encoder_min: Bitrate,
    pub(crate) encoder_max: Bitrate,
    pub(crate) backpressure: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flow: FlowSettings::default(),
            links: Vec::new(),
            links_text: String::new(),
            links_error: None,
            null_deletion: false,
            flow_id: 0,
            encoder_min: Bitrate::ZERO,
            encoder_max: Bitrate::ZERO,
            backpressure: true,
        }
    }
}

impl Settings {
    pub(crate) fn add_link(&mut self, link: LinkSpec) {
        self.remove_link(link.id);
        self.links.push(link);
    }

    /// True when there was one of that id.
    pub(crate) fn remove_link(&mut self, link: LinkId) -> bool {
        let before = self.links.len();
        self.links.retain(|known| known.id != link);
        self.links.len() < before
    }

    /// The lowest and highest rate to advise; none where the properties leave it open.
    pub(crate) fn encoder_range(&self) -> Option<(Bitrate, Bitrate)> {
        let (min, max) = (self.encoder_min, self.encoder_max);
        (max > Bitrate::ZERO && min <= max).then_some((min, max))
    }

    /// Opens the flow these settings describe.
    pub(crate) fn open(self) -> Result<FlowSender, gst::ErrorMessage> {
        if let Some(error) = self.links_error {
            return Err(gst::error_msg!(gst::ResourceError::Settings, ("{error}")));
        }
        let psk =
            self.flow.psk().map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{}", chain(&error))))?;
        let range = self.encoder_range();
        let config = SenderConfig {
            profile: self.flow.profile.into(),
            psk,
            extension: self.flow.extension(),
            cname: self.flow.cname,
            latency: self.flow.latency,
            flow_id: (self.flow_id != 0).then_some(self.flow_id),
            first_sequence: None,
            null_deletion: self.null_deletion,
            ..SenderConfig::default()
        };
        let flow = FlowSender::open(SenderOptions { bond: config, links: self.links })
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenWrite, ("{}", chain(&error))))?;
        if let Some((min, max)) = range {
            flow.set_encoder_range(min, max);
        }
        Ok(flow)
    }
}
