//! The page's parts: values made ready for the templates, and their HTML.

use crate::core::{ClaimView, FRESH_TIME_MAX, LinkView, OnAirView, RelayView, RequestView, View};
use askama::Template;
use protocol::state::{InputState, OutputState, Signal, StreamingState, Usability};
use protocol::telemetry::LinkState;
use std::collections::BTreeMap;

/// The HTML of each section by the id of its element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sections(BTreeMap<&'static str, String>);

impl Sections {
    pub(super) fn new(view: &View) -> Self {
        let html = |outcome: Result<String, askama::Error>| outcome.unwrap_or_else(|error| error.to_string());
        Self(BTreeMap::from([
            ("status", html(StatusTemplate::new(view).render())),
            ("controls", html(ControlsTemplate::new(view).render())),
            ("links", html(LinksTemplate::new(view).render())),
            ("inputs", html(InputsTemplate::new(view).render())),
            ("about", html(AboutTemplate::new(view).render())),
        ]))
    }

    /// The sections whose HTML differs.
    pub(super) fn changed_since<'a>(&'a self, last: &Self) -> BTreeMap<&'a str, &'a str> {
        let changed = self.0.iter().filter(|(name, html)| last.0.get(*name) != Some(html));
        changed.map(|(name, html)| (*name, html.as_str())).collect()
    }

    fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct PageTemplate {
    name: String,
    status: String,
    controls: String,
    links: String,
    inputs: String,
    about: String,
    latency_ms: u32,
    bitrate_max_kbps: u64,
}

impl PageTemplate {
    pub(super) fn new(view: &View) -> Self {
        let mut sections = Sections::new(view);
        Self {
            name: view.settings.name.clone(),
            status: sections.take("status"),
            controls: sections.take("controls"),
            links: sections.take("links"),
            inputs: sections.take("inputs"),
            about: sections.take("about"),
            latency_ms: view.settings.latency_ms,
            bitrate_max_kbps: view.settings.encoding.bitrate_max.as_kbps(),
        }
    }
}

/// A refused request, for browsers without JavaScript.
#[derive(Template)]
#[template(path = "refusal.html")]
pub(super) struct RefusalTemplate<'a> {
    pub(super) detail: &'a str,
}

/// The banner.
#[derive(Template)]
#[template(path = "status.html")]
struct StatusTemplate {
    /// Class of the banner: what colour it has.
    tone: &'static str,
    headline: String,
    /// Whole sentences below.
    lines: Vec<String>,
    outputs: Vec<OutputRow>,
}

struct OutputRow {
    name: String,
    tone: &'static str,
    state: String,
}

impl StatusTemplate {
    fn new(view: &View) -> Self {
        let banner = Banner::of(view);
        let outputs = match &view.on_air {
            Some(word) => word.outputs.iter().map(|output| output_row(output, word.fresh)).collect(),
            None => Vec::new(),
        };
        let mut lines = banner.lines;
        if outputs.is_empty() && !view.outputs_ordered.is_empty() {
            lines.push(format!("Ordered outputs: {}", view.outputs_ordered.join(", ")));
        }
        Self { tone: banner.tone, headline: banner.headline, lines, outputs }
    }
}

fn output_row(output: &protocol::state::OutputStatus, fresh: bool) -> OutputRow {
    let (tone, state) = match &output.state {
        OutputState::Waiting => ("idle", "waiting for media".to_owned()),
        OutputState::Connecting => ("warn", "connecting".to_owned()),
        OutputState::Active => ("good", format!("delivering {}", output.rate)),
        OutputState::Retrying { reason, .. } => ("warn", format!("trying again: {reason}")),
        OutputState::Failed { reason } => ("bad", format!("failed: {reason}")),
    };
    if !fresh {
        return OutputRow { name: output.name.clone(), tone: "unknown", state: format!("last word: {state}") };
    }
    OutputRow { name: output.name.clone(), tone, state }
}

struct Banner {
    tone: &'static str,
    headline: String,
    lines: Vec<String>,
}

impl Banner {
    fn new(tone: &'static str, headline: &str, lines: Vec<String>) -> Self {
        Self { tone, headline: headline.to_owned(), lines }
    }

    fn of(view: &View) -> Self {
        match &view.streaming {
            StreamingState::Idle => Self::new("idle", "OFF AIR", vec![ready_line(view)]),
            StreamingState::Starting { .. } => {
                Self::new("warn", "STARTING", vec!["Opening picture and links.".to_owned()])
            }
            StreamingState::Sending { for_ms, .. } => Self::sending(view, *for_ms),
            StreamingState::Recovering { reason, attempt, .. } => {
                let tries = if *attempt > 1 { format!("Try {attempt}. ") } else { String::new() };
                let line = format!("{tries}The stream comes back by itself: {reason}.");
                Self::new("warn", "RECONNECTING", vec![line])
            }
            StreamingState::Stopping { .. } => Self::new("warn", "STOPPING", Vec::new()),
            StreamingState::Failed { reason, next_step, .. } => {
                Self::new("bad", "FAILED", vec![format!("{}.", capitalized(reason)), format!("Next: {next_step}.")])
            }
        }
    }

    /// The red light is the relay's word alone, and only while it is young.
    fn sending(view: &View, for_ms: u64) -> Self {
        let sent = format!("Sending for {}.", duration(for_ms));
        match &view.on_air {
            Some(OnAirView { on_air: true, fresh: true, age_ms, .. }) => {
                Self::new("live", "ON AIR", vec![sent, format!("Confirmed by the relay {} ago.", seconds(*age_ms))])
            }
            Some(OnAirView { on_air: false, fresh: true, .. }) => {
                Self::new("warn", "SENDING", vec![sent, "The relay receives no media yet.".to_owned()])
            }
            Some(OnAirView { on_air, age_ms, .. }) => {
                let word = if *on_air { "on air" } else { "no media" };
                let line = format!("No word from the relay for {}; last word: {word}.", duration(*age_ms));
                Self::new("stale", "SENDING, UNCONFIRMED", vec![sent, line])
            }
            None => Self::new("warn", "SENDING", vec![sent, "Waiting for the relay's confirmation.".to_owned()]),
        }
    }
}

fn ready_line(view: &View) -> String {
    let usable = view.links.iter().filter(|link| link.uplink.usable == Usability::Yes).count();
    match (&view.relay, usable) {
        (RelayView::NotEnrolled, _) => "This device is not claimed by a relay yet.".to_owned(),
        (RelayView::Disconnected { reason, for_ms }, _) => {
            format!("No relay for {}: {reason}.", duration(*for_ms))
        }
        (RelayView::Connecting, _) => "Connecting to the relay.".to_owned(),
        (RelayView::Connected { .. }, 0) => "No usable link: see below.".to_owned(),
        (RelayView::Connected { .. }, 1) => "Ready, on a single link.".to_owned(),
        (RelayView::Connected { .. }, usable) => format!("Ready, {usable} links."),
    }
}

/// GO LIVE, stop, claim.
#[derive(Template)]
#[template(path = "controls.html")]
struct ControlsTemplate {
    button: Button,
    /// What became of the last request, a sentence; empty for nothing.
    waiting: String,
    refusal: String,
    claim: Option<ClaimForm>,
}

enum Button {
    GoLive { disabled: bool },
    Stop,
    None,
}

struct ClaimForm {
    asking: bool,
    failure: String,
}

impl ControlsTemplate {
    fn new(view: &View) -> Self {
        let (waiting, refusal) = match &view.request {
            RequestView::None => (String::new(), String::new()),
            RequestView::Asked { for_ms } => {
                (format!("Asked the relay to start ({} ago).", seconds(*for_ms)), String::new())
            }
            RequestView::Refused { detail } => (String::new(), capitalized(detail)),
        };
        Self { button: button(view), waiting, refusal, claim: claim_form(view) }
    }
}

fn button(view: &View) -> Button {
    match (&view.streaming, &view.relay) {
        (StreamingState::Idle | StreamingState::Failed { .. }, RelayView::NotEnrolled)
        | (StreamingState::Stopping { .. }, _) => Button::None,
        (StreamingState::Idle | StreamingState::Failed { .. }, relay) => {
            let asked = matches!(view.request, RequestView::Asked { .. });
            Button::GoLive { disabled: asked || !matches!(relay, RelayView::Connected { .. }) }
        }
        _ => Button::Stop,
    }
}

/// Shown while the device has no relay, and when the relay refuses it.
fn claim_form(view: &View) -> Option<ClaimForm> {
    let wanted = match &view.relay {
        RelayView::NotEnrolled => true,
        RelayView::Disconnected { reason, .. } => reason.contains("claim"),
        RelayView::Connecting | RelayView::Connected { .. } => false,
    };
    let (asking, failure) = match &view.claim {
        ClaimView::None => (false, String::new()),
        ClaimView::Asking => (true, String::new()),
        ClaimView::Failed { detail } => (false, capitalized(detail)),
    };
    (wanted || asking || !failure.is_empty()).then_some(ClaimForm { asking, failure })
}

/// The links.
#[derive(Template)]
#[template(path = "links.html")]
struct LinksTemplate {
    rows: Vec<LinkRow>,
    /// Sum over the links, while a stream runs.
    total: Option<String>,
    /// The figures are not the present any more.
    stale: bool,
    age: String,
}

struct LinkRow {
    name: String,
    tone: &'static str,
    state: String,
    problem: String,
    /// 0 to 5.
    bars: u8,
    has_radio: bool,
    radio: String,
    figures: Option<Figures>,
}

struct Figures {
    rate: String,
    rtt: String,
    loss: String,
}

impl LinksTemplate {
    fn new(view: &View) -> Self {
        let stream = view.stream.as_ref();
        let age_ms = stream.map_or(0, |stream| stream.age_ms);
        Self {
            rows: view.links.iter().map(link_row).collect(),
            total: stream.map(|stream| {
                let sum: units::Bitrate = stream.links.iter().map(|link| link.send_rate).sum();
                format!("{sum} sent, encoder asked for {}", stream.encoder_target)
            }),
            stale: u128::from(age_ms) > FRESH_TIME_MAX.as_millis(),
            age: seconds(age_ms),
        }
    }
}

fn link_row(link: &LinkView) -> LinkRow {
    let (tone, state, problem) = match (&link.uplink.usable, &link.figures) {
        (Usability::No { reason }, _) => ("bad", "not used", capitalized(reason)),
        (Usability::Yes, None) => ("good", "ready", String::new()),
        (Usability::Yes, Some(figures)) => match figures.state {
            LinkState::Up => ("good", "carries media", String::new()),
            LinkState::Probe => ("warn", "being tried", String::new()),
            LinkState::Suspect => ("warn", "answers late", String::new()),
            LinkState::Down => ("bad", "does not answer", "It comes back by itself when the network does.".to_owned()),
        },
    };
    let radio = link.uplink.radio.as_ref();
    LinkRow {
        name: link.uplink.name.clone(),
        tone,
        state: state.to_owned(),
        problem,
        bars: radio.map_or(0, |radio| bars(radio.signal_dbm)),
        has_radio: radio.is_some(),
        radio: radio.map(|radio| format!("{} {:.0} dBm", radio.technology, radio.signal_dbm)).unwrap_or_default(),
        figures: link.figures.as_ref().map(|figures| Figures {
            rate: figures.send_rate.to_string(),
            rtt: figures.rtt_ms.map_or_else(|| "not yet".to_owned(), |rtt| format!("{rtt:.0} ms")),
            loss: figures.loss.to_string(),
        }),
    }
}

/// Bars of a cellular signal by the usual steps of RSRP, dBm.
fn bars(signal_dbm: f32) -> u8 {
    const STEPS_DBM: [f32; 5] = [-115.0, -105.0, -95.0, -85.0, -75.0];
    STEPS_DBM.iter().filter(|step| signal_dbm >= **step).count() as u8
}

/// The inputs.
#[derive(Template)]
#[template(path = "inputs.html")]
struct InputsTemplate {
    rows: Vec<InputRow>,
    live: bool,
}

struct InputRow {
    id: String,
    name: String,
    tone: &'static str,
    state: String,
    chosen: bool,
}

impl InputsTemplate {
    fn new(view: &View) -> Self {
        let row = |input: &InputState| {
            let (tone, state) = match &input.signal {
                Signal::Present { mode } => ("good", mode.clone().unwrap_or_else(|| "ready".to_owned())),
                Signal::Absent { reason } => ("bad", capitalized(reason)),
                Signal::Unknown => ("idle", "known when opened".to_owned()),
            };
            let chosen = view.input.as_ref() == Some(&input.id);
            InputRow { id: input.id.clone(), name: input.name.clone(), tone, state, chosen }
        };
        let live = !matches!(view.streaming, StreamingState::Idle | StreamingState::Failed { .. });
        Self { rows: view.inputs.iter().map(row).collect(), live }
    }
}

/// The small print.
#[derive(Template)]
#[template(path = "about.html")]
struct AboutTemplate {
    relay: String,
    device: String,
    board: String,
    version: &'static str,
    temperature: String,
}

impl AboutTemplate {
    fn new(view: &View) -> Self {
        Self {
            relay: match &view.relay {
                RelayView::NotEnrolled => "not claimed".to_owned(),
                RelayView::Connecting => "connecting".to_owned(),
                RelayView::Connected { .. } => "connected".to_owned(),
                RelayView::Disconnected { reason, .. } => reason.clone(),
            },
            device: view.device.clone().unwrap_or_else(|| "none yet".to_owned()),
            board: view.board.clone(),
            version: view.agent_version,
            temperature: view.temperature_c.map(|degrees| format!("{degrees:.0} °C")).unwrap_or_default(),
        }
    }
}

/// "0.8 s", "12 s".
fn seconds(ms: u64) -> String {
    if ms < 10_000 { format!("{:.1} s", ms as f64 / 1000.0) } else { format!("{} s", ms / 1000) }
}

/// "12 s", "3 min 07 s", "2 h 05 min".
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
#[path = "sections_tests.rs"]
mod tests;
