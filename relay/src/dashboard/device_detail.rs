//! A device's own page: what it reports, measures and was ordered, each with its age.

use super::format::{self, Measured};
use super::words::{link_state, severity};
use crate::fleet::DeviceSnapshot;
use crate::fleet::commands::Pending;
use protocol::command::Outcome;
use protocol::state::{DeviceState, InputKind, Signal, UplinkKind, UplinkState, Usability};
use protocol::telemetry::{LinkTelemetry, RadioReading};
use std::time::Duration;

/// An uplink on the device's page.
#[derive(Debug, Clone)]
pub struct UplinkRow {
    /// Name.
    pub name: String,
    /// "modem, Northcell 4G".
    pub kind: String,
    /// "up", "probe", "suspect", "down".
    pub state: &'static str,
    /// Why it cannot be used.
    pub reason: Option<String>,
    /// Signal strength.
    pub signal: Option<Measured>,
    /// What it sends.
    pub rate: Option<Measured>,
    /// Round-trip time.
    pub rtt: Option<Measured>,
    /// Loss before repair.
    pub loss: Option<Measured>,
    /// Estimated capacity.
    pub capacity: Option<Measured>,
}

impl UplinkRow {
    fn new(
        uplink: &UplinkState,
        signal: Option<(String, Duration)>,
        measured: Option<(&LinkTelemetry, Duration)>,
    ) -> Self {
        let kind = match uplink.kind {
            UplinkKind::Modem => "Modem",
            UplinkKind::Wifi => "Wi-Fi",
            UplinkKind::Ethernet => "Ethernet",
        };
        let kind = match &uplink.radio {
            Some(radio) => format!("{kind}, {} {}", radio.operator, radio.technology),
            None => kind.to_owned(),
        };
        let (usable, reason) = match &uplink.usable {
            Usability::Yes => ("up", None),
            Usability::No { reason } => ("down", Some(reason.clone())),
        };
        let with = |text: String| measured.map(|(_, age)| Measured::new(text, age));
        Self {
            name: uplink.name.clone(),
            kind,
            state: measured.map_or(usable, |(link, _)| link_state(link.state)),
            reason,
            signal: signal.map(|(text, age)| Measured::new(text, age)),
            rate: measured.and_then(|(link, _)| with(format::bitrate(link.send_rate))),
            rtt: measured.and_then(|(link, _)| with(format::millis(f64::from(link.rtt_ms?)))),
            loss: measured.and_then(|(link, _)| with(format::percent(link.loss.as_f64()))),
            capacity: measured.and_then(|(link, _)| with(format::bitrate(link.capacity))),
        }
    }
}

/// An input on the device's page.
#[derive(Debug, Clone)]
pub struct InputRow {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// What kind of source.
    pub kind: &'static str,
    /// Whether it is the one in use.
    pub chosen: bool,
    /// "1080p50", "no picture: ...".
    pub signal: String,
    /// "ok", "bad" or "dim".
    pub class: &'static str,
}

/// A command on the device's page.
#[derive(Debug, Clone)]
pub struct CommandRow {
    /// "change settings".
    pub what: &'static str,
    /// Who.
    pub by: String,
    /// RFC 3339.
    pub at: String,
    /// "asked for", "accepted", "done", "refused: ...".
    pub outcome: String,
    /// "dim", "ok", "bad".
    pub class: &'static str,
}

impl CommandRow {
    fn new(command: &Pending) -> Self {
        let (class, outcome) = match (&command.outcome, command.overdue) {
            (Some(Outcome::Done), _) => ("ok", "done".to_owned()),
            (Some(Outcome::Rejected { detail, .. }), _) => ("bad", format!("refused: {detail}")),
            (Some(Outcome::Expired), _) => ("bad", "reached the device too late".to_owned()),
            (_, true) => ("bad", "no answer in time".to_owned()),
            (Some(Outcome::Accepted), _) => ("dim", "accepted, under way".to_owned()),
            (None, _) => ("dim", "asked for, no answer yet".to_owned()),
        };
        let at = format::rfc3339(command.at_ms);
        Self { what: command.what, by: command.by.clone(), at, outcome, class }
    }
}

/// What the device's page shows below its row.
#[derive(Debug, Clone)]
pub struct DeviceDetail {
    /// Uplinks.
    pub uplinks: Vec<UplinkRow>,
    /// Inputs.
    pub inputs: Vec<InputRow>,
    /// Commands, newest first.
    pub commands: Vec<CommandRow>,
    /// Remarks, newest first: RFC 3339, class, text.
    pub remarks: Vec<(String, &'static str, String)>,
    /// Settings in force, label and value.
    pub settings: Vec<(&'static str, String)>,
    /// When they were reported, RFC 3339.
    pub reported: Option<String>,
    /// Software and address.
    pub facts: Vec<(&'static str, String)>,
}

impl DeviceDetail {
    /// The detail of a device.
    pub fn new(device: &DeviceSnapshot) -> Self {
        let (mut uplinks, mut inputs, mut settings, mut facts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut reported = None;
        if let Some((state, age)) = &device.report {
            let DeviceState::State { agent_version, settings: s, uplinks: u, inputs: i, .. } = state;
            let measured = |uplink: &UplinkState| {
                let (telemetry, age) = device.telemetry.as_ref()?;
                Some((telemetry.links.iter().find(|link| link.link == uplink.link)?, *age))
            };
            let row = |uplink| UplinkRow::new(uplink, signal(uplink, *age, &device.radios), measured(uplink));
            uplinks = u.iter().map(row).collect();
            inputs = i.iter().map(|input| input_row(input, s.input.as_deref())).collect();
            let input = s.input.as_ref().and_then(|id| i.iter().find(|it| it.id == *id));
            settings = vec![
                ("Name", s.name.clone()),
                ("Input", input.map_or_else(|| "the first with a picture".to_owned(), |it| it.name.clone())),
                ("Latency budget", format::millis(f64::from(s.latency_ms))),
                ("Highest bitrate", format::bitrate(s.encoding.bitrate_max)),
            ];
            facts.push(("Agent", agent_version.clone()));
            let at = crate::clock::unix_ms().saturating_sub(age.as_millis() as u64);
            reported = Some(format::rfc3339(at));
        }
        if let Some((celsius, _)) = device.temperature_c {
            facts.push(("Board temperature", format!("{celsius:.0} °C")));
        }
        facts.push(("Board", device.record.board.clone()));
        facts.push(("Id", device.record.id.to_string()));
        if let Some(peer) = device.peer {
            facts.push(("Connected from", peer.ip().to_string()));
        }
        if let Some(online) = device.online_for {
            facts.push(("Connected for", format::duration(online)));
        }
        let remarks = device.remarks.iter().rev();
        Self {
            uplinks,
            inputs,
            commands: device.commands.iter().rev().take(6).map(CommandRow::new).collect(),
            remarks: remarks.map(|it| (format::rfc3339(it.at_ms), severity(it.severity), it.text.clone())).collect(),
            settings,
            reported,
            facts,
        }
    }
}

fn input_row(input: &protocol::state::InputState, chosen: Option<&str>) -> InputRow {
    let (class, signal) = match &input.signal {
        Signal::Present { mode } => ("ok", mode.clone().unwrap_or_else(|| "picture present".to_owned())),
        Signal::Absent { reason } => ("bad", format!("no picture: {reason}")),
        Signal::Unknown => ("dim", "known once opened".to_owned()),
    };
    let kind = match input.kind {
        InputKind::Test => "test pattern",
        InputKind::File => "media file",
        InputKind::V4l2 => "capture",
        InputKind::Lan => "local network",
    };
    let chosen = chosen == Some(input.id.as_str());
    InputRow { id: input.id.clone(), name: input.name.clone(), kind, chosen, signal, class }
}

/// "−85 dBm" and its age: from the measurements of each second, else from the reported state, which is older than its reading.
pub(super) fn signal(
    uplink: &UplinkState,
    reported: Duration,
    readings: &[(RadioReading, Duration)],
) -> Option<(String, Duration)> {
    let measured = readings.iter().find(|(reading, _)| reading.link == uplink.link);
    let (radio, since) = match measured {
        Some((reading, since)) => (&reading.radio, *since),
        None => (uplink.radio.as_ref()?, reported),
    };
    let text = format!("{:.0} dBm", radio.signal_dbm).replace('-', "−");
    Some((text, since + Duration::from_millis(radio.age_ms)))
}
