//! Devices as the pages show them: abnormal first, each value with its age.

use super::device_detail::signal;
use super::format::{self, Measured};
use super::words::{Badge, link_state, sentence};
use crate::fleet::DeviceSnapshot;
use crate::sessions::live::{FRESH, StreamSnapshot, StreamWord};
use protocol::command::Outcome;
use protocol::state::{DeviceState, Severity, Signal, StreamingState, UplinkState, Usability};
use std::time::Duration;

/// Board temperature at which the device reduces.
const HOT_C: f32 = 80.0;
/// Remarks are shown in the list this long.
const REMARK_TIME: Duration = Duration::from_mins(10);

/// How urgently a person should look; the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Someone must act.
    Failed,
    /// Off air that should be on.
    Interrupted,
    /// Working, with something wrong.
    Warning,
    /// On its way.
    Changing,
    /// On air.
    OnAir,
    /// Connected, no stream.
    Ready,
    /// Not connected.
    Offline,
}

/// A sentence that explains a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// "bad", "warn" or "".
    pub class: &'static str,
    /// What.
    pub text: String,
    /// What to do.
    pub next_step: Option<String>,
}

impl Reason {
    fn new(class: &'static str, text: impl Into<String>, next_step: Option<String>) -> Self {
        Self { class, text: text.into(), next_step }
    }
}

/// One row of the devices page.
#[derive(Debug, Clone)]
pub struct DeviceRow {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Hardware.
    pub board: String,
    /// State.
    pub badge: Badge,
    /// Order.
    pub urgency: Urgency,
    /// CSS classes of the row.
    pub class: String,
    /// "input: HDMI 1080p50".
    pub input: Option<String>,
    /// "offline since", RFC 3339.
    pub last_heard: Option<String>,
    /// Why it is as it is.
    pub reasons: Vec<Reason>,
    /// Its stream.
    pub stream: Option<RowStream>,
    /// Its uplinks.
    pub links: Vec<RowLink>,
    /// Whether a stream can be started.
    pub can_start: bool,
    /// Whether one can be stopped.
    pub can_stop: bool,
}

/// A device's stream, in its row.
#[derive(Debug, Clone)]
pub struct RowStream {
    /// Id.
    pub id: String,
    /// How long in this state, milliseconds, for a clock.
    pub for_ms: u64,
    /// Media that came through.
    pub rate: Option<Measured>,
    /// Payloads lost for good.
    pub lost: Option<Measured>,
    /// Delay.
    pub latency: Option<Measured>,
    /// Destinations that deliver, of all.
    pub outputs: Option<Measured>,
}

/// An uplink in a row.
#[derive(Debug, Clone)]
pub struct RowLink {
    /// Name.
    pub name: String,
    /// "up", "probe", "suspect", "down".
    pub state: &'static str,
    /// What it carries, or why not.
    pub text: String,
    /// Age of that, milliseconds.
    pub age_ms: u64,
}

impl DeviceRow {
    /// The row of a device, its stream, and the last stream that is over.
    pub fn new(device: &DeviceSnapshot, stream: Option<&StreamSnapshot>, last: Option<&StreamSnapshot>) -> Self {
        let failed = last.filter(|it| stream.is_none() && it.word == StreamWord::Failed);
        let mut reasons = Vec::new();
        let online = device.online_for.is_some();
        let mut urgency = match (stream.map(|it| it.word), online) {
            (Some(StreamWord::Failed), _) => Urgency::Failed,
            (Some(StreamWord::OnAir), _) if stream.is_some_and(|it| it.on_air) => Urgency::OnAir,
            (Some(StreamWord::OnAir | StreamWord::Interrupted), _) => Urgency::Interrupted,
            (Some(_), _) => Urgency::Changing,
            (None, true) => Urgency::Ready,
            (None, false) => Urgency::Offline,
        };
        if let Some(stream) = stream.or(failed) {
            let class = match stream.word {
                StreamWord::Failed => "bad",
                StreamWord::Interrupted => "warn",
                _ => "",
            };
            if let Some(reason) = &stream.reason {
                reasons.push(Reason::new(class, sentence(reason), stream.next_step.clone()));
            }
        }
        if failed.is_some() {
            urgency = Urgency::Failed;
        }
        let problems = problems(device, stream.is_some());
        if !problems.is_empty() && (Urgency::Changing..=Urgency::Ready).contains(&urgency) {
            urgency = Urgency::Warning;
        }
        reasons.extend(problems);
        let badge = match (stream, failed) {
            (Some(stream), _) => Badge::of_stream(stream),
            (None, Some(stream)) if online => Badge::of_stream(stream),
            (None, _) if online => Badge { class: "ready", text: "READY" },
            (None, _) => Badge { class: "offline", text: "OFFLINE" },
        };
        let class = match urgency {
            Urgency::Failed => "attention failed",
            Urgency::Interrupted => "attention interrupted",
            Urgency::Warning => "attention warning",
            Urgency::Offline => "offline",
            _ => "",
        };
        Self {
            id: device.record.id.to_string(),
            name: device.name.clone(),
            board: device.record.board.clone(),
            badge,
            urgency,
            class: class.to_owned(),
            input: chosen_input(device),
            last_heard: device.last_heard_ms.filter(|_| !online).map(format::rfc3339),
            reasons,
            stream: stream.map(RowStream::new),
            links: row_links(device),
            can_start: online && stream.is_none(),
            can_stop: stream.is_some_and(|it| it.word != StreamWord::Stopping),
        }
    }
}

impl RowStream {
    fn new(stream: &StreamSnapshot) -> Self {
        let stats = stream.stats.as_ref();
        let measured = |text: String| stats.map(|(_, age)| Measured::new(text, *age));
        let destinations = stream.record.destinations.len();
        let active = stream
            .outputs()
            .iter()
            .filter(|it| stream.record.destinations.iter().any(|known| known.id == it.id))
            .filter(|it| matches!(it.state, protocol::state::OutputState::Active))
            .count();
        Self {
            id: stream.record.id.to_string(),
            for_ms: crate::clock::unix_ms().saturating_sub(stream.since_ms),
            rate: stats.and_then(|(it, _)| measured(format::bitrate(it.rate))),
            lost: stats.and_then(|(it, _)| measured(format::count(it.lost))),
            latency: stats.and_then(|(it, _)| {
                measured(format::millis(it.transit_ms.map_or_else(|| f64::from(it.latency_ms), f64::from)))
            }),
            outputs: if destinations == 0 { None } else { measured(format!("{active} of {destinations}")) },
        }
    }
}

/// What is wrong with a device, besides its stream.
fn problems(device: &DeviceSnapshot, live: bool) -> Vec<Reason> {
    let mut found = Vec::new();
    if live && device.online_for.is_none() {
        let text = "The device's control link is down; media is judged by the receiver alone";
        found.push(Reason::new("warn", text, None));
    }
    if device.online_for.is_none() {
        return found;
    }
    if let Some((celsius, _)) = device.temperature_c.filter(|(celsius, _)| *celsius >= HOT_C) {
        found.push(Reason::new("warn", format!("The board is {celsius:.0} °C hot"), Some("give it air".to_owned())));
    }
    if let Some((DeviceState::State { streaming, uplinks, inputs, settings, .. }, _)) = &device.report {
        match streaming {
            StreamingState::Failed { reason, next_step, .. } if !live => {
                found.push(Reason::new("bad", sentence(reason), Some(next_step.clone())));
            }
            StreamingState::Recovering { reason, attempt, .. } => {
                let text = format!("The device restarts its encoder, try {attempt}: {reason}");
                found.push(Reason::new("warn", text, None));
            }
            _ => {}
        }
        let input = settings.input.as_ref().and_then(|id| inputs.iter().find(|input| input.id == *id));
        if let Some(Signal::Absent { reason }) = input.map(|input| &input.signal) {
            found.push(Reason::new("warn", format!("Input without picture: {reason}"), None));
        }
        for uplink in uplinks {
            if let Usability::No { reason } = &uplink.usable {
                found.push(Reason::new("warn", format!("{}: {reason}", uplink.name), None));
            }
        }
    }
    if let Some(last) = device.commands.last() {
        if let Some(Outcome::Rejected { detail, .. }) = last.outcome.as_ref().filter(|_| last.what == "change settings")
        {
            found.push(Reason::new("warn", format!("The device refused to {}: {detail}", last.what), None));
        } else if last.overdue && !live {
            let next = Some("check its control link, then try again".to_owned());
            found.push(Reason::new("warn", format!("The device did not answer the order to {}", last.what), next));
        }
    }
    let since = crate::clock::unix_ms().saturating_sub(REMARK_TIME.as_millis() as u64);
    for remark in device.remarks.iter().rev().filter(|it| it.at_ms >= since && it.severity > Severity::Info).take(2) {
        let class = if remark.severity == Severity::Error { "bad" } else { "warn" };
        found.push(Reason::new(class, remark.text.clone(), None));
    }
    found
}

fn chosen_input(device: &DeviceSnapshot) -> Option<String> {
    let (DeviceState::State { settings, inputs, .. }, _) = device.report.as_ref()?;
    let input = match &settings.input {
        Some(id) => inputs.iter().find(|input| input.id == *id)?,
        // The device takes the first with a picture.
        None => inputs.iter().find(|it| matches!(it.signal, Signal::Present { .. })).or(inputs.first())?,
    };
    Some(match &input.signal {
        Signal::Present { mode: Some(mode) } => format!("{}, {mode}", input.name),
        _ => input.name.clone(),
    })
}

fn row_links(device: &DeviceSnapshot) -> Vec<RowLink> {
    let telemetry = device.telemetry.as_ref();
    let Some((DeviceState::State { uplinks, .. }, reported)) = device.report.as_ref() else { return Vec::new() };
    if device.online_for.is_none() && telemetry.is_none_or(|(_, age)| *age > FRESH * 10) {
        return Vec::new();
    }
    let row = |uplink: &UplinkState| {
        let measured = telemetry.and_then(|(it, age)| Some((it.links.iter().find(|l| l.link == uplink.link)?, *age)));
        let (state, text, age) = match (measured, &uplink.usable) {
            (Some((link, age)), _) => (link_state(link.state), format::bitrate(link.send_rate), age),
            (None, Usability::Yes) => {
                let (text, age) = signal(uplink, *reported, &device.radios).unwrap_or_default();
                ("up", text, age)
            }
            // A state stands until the device reports another: it does not grow old while the device is connected.
            (None, Usability::No { .. }) => ("down", "not usable".to_owned(), Duration::ZERO),
        };
        RowLink { name: uplink.name.clone(), state, text, age_ms: age.as_millis() as u64 }
    };
    uplinks.iter().map(row).collect()
}

/// How many devices are how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Failed, interrupted or with a warning.
    pub attention: usize,
    /// On air.
    pub on_air: usize,
    /// Online without stream.
    pub ready: usize,
    /// Offline.
    pub offline: usize,
}

impl Summary {
    /// Counts rows.
    pub fn of(rows: &[DeviceRow]) -> Self {
        let count = |test: fn(&DeviceRow) -> bool| rows.iter().filter(|row| test(row)).count();
        Self {
            attention: count(|row| row.urgency <= Urgency::Warning),
            on_air: count(|row| row.badge.class == "on-air"),
            ready: count(|row| row.badge.class == "ready"),
            offline: count(|row| row.badge.class == "offline"),
        }
    }
}
