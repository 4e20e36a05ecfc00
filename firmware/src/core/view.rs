//! Everything the device's page shows, as values.

use super::{Core, RelayLink, Request};
use protocol::state::{InputState, OutputStatus, Settings, StreamingState, UplinkState};
use protocol::telemetry::{LinkTelemetry, StreamTelemetry};
use serde::Serialize;
use std::time::Duration;
use units::{StreamId, Timestamp};

/// A value older than this is not the present any more.
pub const FRESH_TIME_MAX: Duration = Duration::from_secs(3);

/// The device at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Id given by the relay; filled in by the one who knows the identity.
    pub device: Option<String>,
    /// What the hardware calls itself.
    pub board: String,
    /// Version of the agent.
    pub agent_version: &'static str,
    /// Time since the agent began, milliseconds.
    pub uptime_ms: u64,
    /// How the device stands with its relay.
    pub relay: RelayView,
    /// What the stream is doing, as the device knows it.
    pub streaming: StreamingState,
    /// What the relay says of the stream.
    pub on_air: Option<OnAirView>,
    /// What became of the last GO LIVE.
    pub request: RequestView,
    /// What the running stream's outputs are called, from its order.
    pub outputs_ordered: Vec<String>,
    /// The streamer's figures with their age.
    pub stream: Option<StreamTelemetry>,
    /// Uplinks with their figures.
    pub links: Vec<LinkView>,
    /// Inputs.
    pub inputs: Vec<InputState>,
    /// Id of the input that the next stream takes.
    pub input: Option<String>,
    /// Settings in force.
    pub settings: Settings,
    /// Temperature, degrees Celsius.
    pub temperature_c: Option<f32>,
    /// The claim in progress or its failure; filled in by the one who makes it.
    pub claim: ClaimView,
}

/// How the last claim stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "claim", rename_all = "kebab-case")]
pub enum ClaimView {
    /// None is made.
    #[default]
    None,
    /// The relay is being asked.
    Asking,
    /// It failed.
    Failed {
        /// Why, with what to do.
        detail: String,
    },
}

/// How the device stands with its relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RelayView {
    /// No identity yet.
    NotEnrolled,
    /// First try.
    Connecting,
    /// In session.
    Connected {
        /// How long, milliseconds.
        for_ms: u64,
    },
    /// No session; tried again by itself.
    Disconnected {
        /// Why.
        reason: String,
        /// How long, milliseconds.
        for_ms: u64,
    },
}

/// What the relay says of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnAirView {
    /// Which stream.
    pub stream: StreamId,
    /// Media arrives at the relay.
    pub on_air: bool,
    /// Age of the word, milliseconds.
    pub age_ms: u64,
    /// Whether it is young enough to be believed.
    pub fresh: bool,
    /// The outputs.
    pub outputs: Vec<OutputStatus>,
}

/// What became of the last GO LIVE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum RequestView {
    /// Nothing is asked.
    None,
    /// The relay was asked.
    Asked {
        /// How long ago, milliseconds.
        for_ms: u64,
    },
    /// It was refused.
    Refused {
        /// Why, with what to do.
        detail: String,
    },
}

/// One uplink with what the bond measures on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkView {
    /// The uplink.
    pub uplink: UplinkState,
    /// Figures of the bond, while a stream runs.
    pub figures: Option<LinkTelemetry>,
}

impl Core {
    /// The device now.
    pub fn view(&self, now: Timestamp) -> View {
        let age_ms = |at: Timestamp| (now - at).as_millis() as u64;
        let stream = self.stream_telemetry(now);
        View {
            device: None,
            board: self.board.clone(),
            agent_version: crate::VERSION,
            uptime_ms: now.as_millis(),
            relay: match &self.relay {
                RelayLink::NotEnrolled => RelayView::NotEnrolled,
                RelayLink::Connecting => RelayView::Connecting,
                RelayLink::Connected { since } => RelayView::Connected { for_ms: age_ms(*since) },
                RelayLink::Disconnected { since, reason } => {
                    RelayView::Disconnected { reason: reason.clone(), for_ms: age_ms(*since) }
                }
            },
            streaming: self.machine.report(now),
            on_air: self.on_air(now),
            request: match &self.request {
                Request::None => RequestView::None,
                Request::Asked { at } => RequestView::Asked { for_ms: age_ms(*at) },
                Request::Refused { detail } => RequestView::Refused { detail: detail.clone() },
            },
            outputs_ordered: self.machine.spec().map(|spec| spec.outputs.clone()).unwrap_or_default(),
            links: self.link_views(now, stream.as_ref()),
            stream,
            inputs: self.inputs(),
            input: self.settings.input.clone().or_else(|| self.first_input().map(|input| input.id.clone())),
            settings: self.settings.clone(),
            temperature_c: self.hardware.temperature_c,
            claim: ClaimView::None,
        }
    }

    /// The relay's word, if it is about the stream that is wanted here.
    fn on_air(&self, now: Timestamp) -> Option<OnAirView> {
        let word = self.word.as_ref().filter(|word| self.machine.wanted() == Some(&word.stream))?;
        let age = now - word.at;
        Some(OnAirView {
            stream: word.stream.clone(),
            on_air: word.on_air,
            age_ms: age.as_millis() as u64,
            fresh: age <= FRESH_TIME_MAX,
            outputs: word.outputs.clone(),
        })
    }

    fn link_views(&self, now: Timestamp, stream: Option<&StreamTelemetry>) -> Vec<LinkView> {
        let figures = |uplink: &UplinkState| stream?.links.iter().find(|link| link.link == uplink.link).cloned();
        crate::uplinks::report(now, &self.hardware.uplinks, &self.numbers)
            .into_iter()
            .map(|uplink| LinkView { figures: figures(&uplink), uplink })
            .collect()
    }
}
