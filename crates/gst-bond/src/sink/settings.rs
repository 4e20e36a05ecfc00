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

    /// The lowest and highest rate to advise; a highest of 0 is none. Where they contradict each other the lowest counts.
    pub(crate) fn encoder_range(&self) -> (Bitrate, Bitrate) {
        let (min, max) = (self.encoder_min, self.encoder_max);
        (min, if max == Bitrate::ZERO { Bitrate::from_bps(u64::MAX) } else { max.max(min) })
    }

    /// Opens the flow these settings describe.
    pub(crate) fn open(self) -> Result<FlowSender, gst::ErrorMessage> {
        if let Some(error) = self.links_error {
            return Err(gst::error_msg!(gst::ResourceError::Settings, ("{error}")));
        }
        let psk =
            self.flow.psk().map_err(|error| gst::error_msg!(gst::ResourceError::Settings, ("{}", chain(&error))))?;
        let (min, max) = self.encoder_range();
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
        flow.set_encoder_range(min, max);
        Ok(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_highest_rate_of_zero_is_none() {
        let range = |min, max| {
            let (encoder_min, encoder_max) = (Bitrate::from_bps(min), Bitrate::from_bps(max));
            let (min, max) = Settings { encoder_min, encoder_max, ..Settings::default() }.encoder_range();
            (min.as_bps(), max.as_bps())
        };
        assert_eq!(range(0, 0), (0, u64::MAX));
        assert_eq!(range(500, 0), (500, u64::MAX));
        assert_eq!(range(0, 4000), (0, 4000));
        assert_eq!(range(500, 4000), (500, 4000));
        assert_eq!(range(5000, 4000), (5000, 5000));
    }
}
