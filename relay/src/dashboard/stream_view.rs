//! A stream as its page shows it: the receiver's figures and the sender's side by side, each with its age.

use super::format::{self, Measured};
use super::words::{Badge, link_state, sentence, severity};
use crate::fleet::DeviceSnapshot;
use crate::sessions::live::{StreamSnapshot, StreamWord};
use protocol::state::OutputState;
use protocol::telemetry::{LinkTelemetry, StreamTelemetry};
use protocol::worker::receiver::{ReceiverLink, ReceiverStats};
use serde::Serialize;
use std::time::Duration;

/// A link that was silent this long carries nothing.
const SILENT_MS: u64 = 1500;

/// The head of the page.
#[derive(Debug, Clone)]
pub struct StreamHead {
    /// Stream id.
    pub id: String,
    /// Device id.
    pub device: String,
    /// Its name.
    pub device_name: String,
    /// State.
    pub badge: Badge,
    /// How long in this state, milliseconds; none when over.
    pub for_ms: Option<u64>,
    /// "for 3 min", when over.
    pub lasted: Option<String>,
    /// Who started it.
    pub started_by: String,
    /// When, RFC 3339.
    pub created: String,
    /// Why it is as it is.
    pub reason: Option<(&'static str, String, Option<String>)>,
    /// Whether it can be stopped.
    pub can_stop: bool,
    /// Whether it is over.
    pub over: bool,
}

impl StreamHead {
    /// The head of a stream.
    pub fn new(stream: &StreamSnapshot) -> Self {
        let record = &stream.record;
        let over = matches!(stream.word, StreamWord::Ended | StreamWord::Failed);
        let class = match stream.word {
            StreamWord::Failed => "bad",
            StreamWord::Interrupted => "warn",
            _ => "",
        };
        let lasted = record
            .ended_ms
            .zip(record.on_air_ms)
            .map(|(end, start)| format::duration(Duration::from_millis(end.saturating_sub(start))));
        Self {
            id: record.id.to_string(),
            device: record.device.to_string(),
            device_name: record.device_name.clone(),
            badge: Badge::of_stream(stream),
            for_ms: (!over).then(|| crate::clock::unix_ms().saturating_sub(stream.since_ms)),
            lasted,
            started_by: record.started_by.clone(),
            created: format::rfc3339(record.created_ms),
            reason: stream.reason.as_ref().map(|it| (class, sentence(it), stream.next_step.clone())),
            can_stop: !over && stream.word != StreamWord::Stopping,
            over,
        }
    }
}

/// A figure of the page.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is.
    pub label: &'static str,
    /// Its value.
    pub value: Measured,
    /// "bad", "warn" or "".
    pub class: &'static str,
    /// What it means, for who hovers.
    pub hint: &'static str,
    /// Words rather than a number.
    pub words: bool,
}

/// The figures of a stream: the receiver's, then the sender's.
pub fn figures(stream: &StreamSnapshot, sender: Option<(&StreamTelemetry, Duration)>) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some((stats, age)) = &stream.stats {
        receiver_figures(stats, *age, &mut figures);
    }
    if let Some((telemetry, age)) = sender {
        let mut add = |label, text: String, hint| {
            let words = label == "Encoder";
            figures.push(Figure { label, value: Measured::new(text, age), class: "", hint, words });
        };
        add("Encoder target", format::bitrate(telemetry.encoder_target), "what the device asks of its encoder now");
        add("Encoder", telemetry.encoder.clone(), "the encoder element on the device");
    }
    figures
}

fn receiver_figures(stats: &ReceiverStats, age: Duration, figures: &mut Vec<Figure>) {
    let mut add = |label, text: String, class, hint| {
        let words = matches!(label, "Picture" | "Sound");
        figures.push(Figure { label, value: Measured::new(text, age), class, hint, words });
    };
    add("Media out", format::bitrate(stats.rate), "", "delivered in order and on time by the receiver");
    let latency = stats.transit_ms.map_or_else(|| f64::from(stats.latency_ms), f64::from);
    add(
        "Latency",
        format::millis(latency),
        "",
        "from the sender's media clock to delivery; the budget where not measured",
    );
    let class = if stats.lost > 0 { "warn" } else { "" };
    add("Lost", format::count(stats.lost), class, "payloads that never came, or too late");
    add("Repaired", format::count(stats.recovered), "", "payloads lost on a link and repaired in time");
    add("Delivered", format::count(stats.delivered), "", "payloads since the stream began");
    if let Some(media) = &stats.media {
        let picture = [media.video.clone(), media.size.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        if !picture.is_empty() {
            add("Picture", picture, "", "video as found in the stream");
        }
        let sound = media.audio.clone();
        let class = if sound.is_none() && media.video.is_some() { "warn" } else { "" };
        add("Sound", sound.unwrap_or_else(|| "none found".to_owned()), class, "audio as found in the stream");
    }
}

/// One link: both ends.
#[derive(Debug, Clone)]
pub struct LinkRow {
    /// Name.
    pub name: String,
    /// Colour of its curve, 0 to 7.
    pub colour: usize,
    /// "up", "probe", "suspect", "down".
    pub state: &'static str,
    /// What arrives.
    pub rate: Option<Measured>,
    /// Its share of all that arrives, percent.
    pub share: Option<Measured>,
    /// Round-trip time.
    pub rtt: Option<Measured>,
    /// Loss before repair.
    pub loss: Option<Measured>,
    /// Estimated capacity, by the sender.
    pub capacity: Option<Measured>,
    /// Retransmits, by the sender.
    pub retransmits: Option<Measured>,
    /// "bad" for a loss worth a look.
    pub loss_class: &'static str,
}

/// The links of a stream, as the receiver orders them, then those that only the sender knows.
pub fn links(stream: &StreamSnapshot, sender: Option<(&StreamTelemetry, Duration)>) -> Vec<LinkRow> {
    let none = (Vec::new(), Duration::ZERO);
    let (received, age) = stream.stats.as_ref().map_or(none, |(stats, age)| (stats.links.clone(), *age));
    let (sent, sent_age) = sender.map_or((&[][..], Duration::ZERO), |(it, age)| (&it.links[..], age));
    let total: u64 = received.iter().map(|link| link.rate.as_bps()).sum();
    let mut rows: Vec<LinkRow> = received
        .iter()
        .map(|link| {
            let other = sent.iter().find(|it| it.name == link.name);
            row(&link.name, Some((link, age, total)), other.map(|it| (it, sent_age)))
        })
        .collect();
    let unheard = sent.iter().filter(|link| !received.iter().any(|it| it.name == link.name));
    rows.extend(unheard.map(|link| row(&link.name, None, Some((link, sent_age)))));
    for (i, row) in rows.iter_mut().enumerate() {
        row.colour = i % 8;
    }
    rows
}

fn row(
    name: &str,
    received: Option<(&ReceiverLink, Duration, u64)>,
    sent: Option<(&LinkTelemetry, Duration)>,
) -> LinkRow {
    let there = |text: String| received.map(|(_, age, _)| Measured::new(text, age));
    let here = |text: String| sent.map(|(_, age)| Measured::new(text, age));
    let silent = received.is_none_or(|(link, _, _)| link.silent_ms > SILENT_MS);
    let loss = received.map(|(link, _, _)| link.loss.as_f64());
    LinkRow {
        name: name.to_owned(),
        colour: 0,
        state: match sent {
            Some((link, _)) => link_state(link.state),
            None if silent => "down",
            None => "up",
        },
        rate: received.and_then(|(link, _, _)| there(format::bitrate(link.rate))),
        share: received.and_then(|(link, _, total)| {
            let share = (link.rate.as_bps() * 100).checked_div(total)?;
            there(format!("{share} %"))
        }),
        rtt: received
            .and_then(|(link, _, _)| there(format::millis(f64::from(link.rtt_ms?))))
            .or_else(|| here(format::millis(f64::from(sent?.0.rtt_ms?)))),
        loss: loss.and_then(|loss| there(format::percent(loss))),
        capacity: sent.and_then(|(link, _)| here(format::bitrate(link.capacity))),
        retransmits: sent.and_then(|(link, _)| here(format::count(link.retransmits))),
        loss_class: if loss.is_some_and(|loss| loss > 0.1) { "warn" } else { "" },
    }
}

/// One output.
#[derive(Debug, Clone)]
pub struct OutputRow {
    /// Name.
    pub name: String,
    /// "delivering", "held", "connecting", "retrying in 3 s", "failed", "waiting".
    pub state: String,
    /// CSS class of the state.
    pub class: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// What it carries.
    pub rate: Option<Measured>,
    /// Bytes delivered.
    pub bytes: Option<Measured>,
    /// Age of the state, milliseconds.
    pub age_ms: u64,
}

/// The outputs of a stream.
pub fn outputs(stream: &StreamSnapshot) -> Vec<OutputRow> {
    let Some((stats, age)) = &stream.stats else { return Vec::new() };
    let rows = stats.outputs.iter().map(|output| {
        let (class, state, reason) = match &output.state {
            OutputState::Waiting => ("dim", "waiting for media".to_owned(), None),
            OutputState::Connecting => ("dim", "connecting".to_owned(), None),
            // The session stands and nothing goes through it: that is not delivering.
            OutputState::Active if stream.word == StreamWord::Interrupted => {
                ("warn", "held".to_owned(), Some("kept open, it goes on when media comes".to_owned()))
            }
            OutputState::Active => ("ok", "delivering".to_owned(), None),
            OutputState::Retrying { reason, next_try_ms } => {
                let when = match next_try_ms.div_ceil(1000) {
                    0 => "trying again".to_owned(),
                    seconds => format!("retrying in {seconds} s"),
                };
                ("warn", when, Some(reason.clone()))
            }
            OutputState::Failed { reason } => ("bad", "failed".to_owned(), Some(reason.clone())),
        };
        let active = matches!(output.state, OutputState::Active);
        OutputRow {
            name: output.name.clone(),
            state,
            class,
            reason,
            rate: active.then(|| Measured::new(format::bitrate(output.rate), *age)),
            bytes: (output.bytes > 0).then(|| Measured::new(format::bytes(output.bytes), *age)),
            age_ms: age.as_millis() as u64,
        }
    });
    rows.collect()
}

/// The timeline, newest first: RFC 3339, class, text.
pub fn timeline(stream: &StreamSnapshot) -> Vec<(String, &'static str, String)> {
    let events = stream.record.timeline.iter().rev();
    events.map(|it| (format::rfc3339(it.at_ms), severity(it.severity), sentence(&it.text))).collect()
}

/// A point of the chart.
#[derive(Debug, Serialize)]
pub struct ChartPoint {
    at: f64,
    media: f64,
    links: Vec<ChartLink>,
}

impl ChartPoint {
    /// When, Unix seconds.
    pub const fn at(&self) -> f64 {
        self.at
    }
}

#[derive(Debug, Serialize)]
struct ChartLink {
    name: String,
    rate: f64,
}

/// The point of the chart for figures that are new.
pub fn chart_point(stream: &StreamSnapshot) -> Option<ChartPoint> {
    let (stats, age) = stream.stats.as_ref()?;
    let at = crate::clock::unix_ms().saturating_sub(age.as_millis() as u64);
    let links = stats.links.iter();
    Some(ChartPoint {
        at: at as f64 / 1000.0,
        media: stats.rate.as_mbps_f64(),
        links: links.map(|it| ChartLink { name: it.name.clone(), rate: it.rate.as_mbps_f64() }).collect(),
    })
}

/// The sender's figures of this stream.
pub fn sender_of<'a>(
    stream: &StreamSnapshot,
    device: Option<&'a DeviceSnapshot>,
) -> Option<(&'a StreamTelemetry, Duration)> {
    let (telemetry, age) = device?.telemetry.as_ref()?;
    (telemetry.stream == stream.record.id).then_some((telemetry, *age))
}
