//! Golden files: every message of the protocol as it was first shipped. They are only ever added to, so that an old
//! device works with a new relay; a changed file is a broken device in the field.

#![allow(clippy::unwrap_used)]

use protocol::command::{Command, CommandReport, Notice, Outcome, Rejection, SettingsChange};
use protocol::envelope::Body;
use protocol::state::{
    DeviceEvent, DeviceState, InputKind, InputState, OutputState, OutputStatus, Presence, Radio, Settings, Severity,
    Signal, StreamingState, UplinkKind, UplinkState, Usability,
};
use protocol::stream::{EncodingSpec, ReceiverAddress, StreamSpec};
use protocol::telemetry::{LinkState, LinkTelemetry, RadioReading, StreamTelemetry, Telemetry};
use protocol::{Envelope, EnvelopeError, Secret};
use units::{Bitrate, LinkId, LossRatio, StreamId};
use uuid::Uuid;

/// The emitted message equals the golden file as JSON, and the golden file parses to the message.
fn check<T: Body + PartialEq + std::fmt::Debug + Clone>(file: &str, body: T) {
    let message = Envelope::new(Uuid::from_u128(7), 1_800_000_000_000, body);
    let path = format!("{}/tests/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}; expected content:\n{}", pretty(&message.emit())));
    assert_eq!(pretty(&message.emit()), golden.trim_end(), "{file}: the emitted message changed");
    assert_eq!(Envelope::<T>::parse(golden.as_bytes()).unwrap(), message, "{file}: the golden file reads differently");
}

fn pretty(json: &[u8]) -> String {
    serde_json::to_string_pretty(&serde_json::from_slice::<serde_json::Value>(json).unwrap()).unwrap()
}

fn stream() -> StreamId {
    "s-01".parse().unwrap()
}

fn spec() -> StreamSpec {
    StreamSpec {
        stream: stream(),
        receiver: ReceiverAddress { host: "relay.example".to_owned(), port: 5000 },
        key: Secret::new("example key"),
        latency_ms: 1000,
        encoding: EncodingSpec::default(),
        input: Some("file".to_owned()),
        outputs: vec!["YouTube main".to_owned()],
    }
}

#[test]
fn commands_keep_their_shape() {
    check("command-start-stream", Command::StartStream { valid_for_ms: 10_000, spec: Box::new(spec()) });
    check("command-stop-stream", Command::StopStream { valid_for_ms: 10_000, stream: stream() });
    let settings =
        SettingsChange { name: Some("Van 7".to_owned()), latency_ms: Some(2000), ..SettingsChange::default() };
    check("command-apply-settings", Command::ApplySettings { valid_for_ms: 10_000, settings });
}

#[test]
fn reports_keep_their_shape() {
    let report = |outcome| CommandReport::Result { command: Uuid::from_u128(7), outcome };
    check("result-accepted", report(Outcome::Accepted));
    check("result-done", report(Outcome::Done));
    check("result-expired", report(Outcome::Expired));
    let detail = "another stream is running; stop it first".to_owned();
    check("result-rejected", report(Outcome::Rejected { reason: Rejection::Busy, detail }));
}

#[test]
fn notices_keep_their_shape() {
    let output = OutputStatus {
        id: "d-1".to_owned(),
        name: "YouTube main".to_owned(),
        state: OutputState::Retrying { reason: "connection refused: is the server up?".to_owned(), next_try_ms: 2000 },
        bytes: 1_000_000,
        rate: Bitrate::from_kbps(5000),
    };
    check("notice-stream-status", Notice::StreamStatus { stream: stream(), on_air: true, outputs: vec![output] });
    check("notice-request-refused", Notice::RequestRefused { detail: "no destination is set".to_owned() });
}

#[test]
fn states_keep_their_shape() {
    let state = DeviceState::State {
        agent_version: "0.1.0".to_owned(),
        board: "rock-5b-plus".to_owned(),
        settings: Settings::default(),
        streaming: StreamingState::Recovering {
            stream: stream(),
            reason: "the encoder stopped".to_owned(),
            attempt: 2,
        },
        inputs: vec![InputState {
            id: "v4l2-video0".to_owned(),
            name: "HDMI".to_owned(),
            kind: InputKind::V4l2,
            signal: Signal::Present { mode: Some("1920x1080p50".to_owned()) },
        }],
        uplinks: vec![UplinkState {
            link: LinkId(0),
            name: "Modem 1".to_owned(),
            interface: "wwan0".to_owned(),
            kind: UplinkKind::Modem,
            usable: Usability::No { reason: "registered, no data: check plan and APN".to_owned() },
            radio: Some(Radio {
                technology: "4G".to_owned(),
                operator: "Northcell".to_owned(),
                signal_dbm: -90.5,
                age_ms: 400,
            }),
        }],
    };
    check("state", state);
    check("presence-online", Presence::Online);
    check("presence-offline", Presence::Offline);
    check("event-go-live-requested", DeviceEvent::GoLiveRequested);
    check("event-stop-requested", DeviceEvent::StopRequested { stream: stream() });
    check("event-remark", DeviceEvent::Remark { severity: Severity::Warning, text: "modem 2 was reset".to_owned() });
}

#[test]
fn telemetry_keeps_its_shape() {
    let link = LinkTelemetry {
        link: LinkId(0),
        name: "Modem 1".to_owned(),
        state: LinkState::Up,
        rtt_ms: Some(52.5),
        queue_delay_ms: None,
        send_rate: Bitrate::from_kbps(2100),
        capacity: Bitrate::from_kbps(4000),
        loss: LossRatio::new(0.25),
        packets_sent: 100,
        retransmits: 3,
    };
    let stream = StreamTelemetry {
        stream: stream(),
        age_ms: 100,
        rate_advice: Bitrate::from_kbps(5200),
        encoder_target: Bitrate::from_kbps(4800),
        media_rate: Bitrate::from_kbps(5000),
        latency_ms: 1000,
        packets_in: 1000,
        retransmits: 3,
        dropped: 0,
        encoder: "mpph264enc".to_owned(),
        links: vec![link],
    };
    let telemetry = |radios| Telemetry::Telemetry {
        uptime_ms: 61_000,
        stream: Some(stream.clone()),
        temperature_c: Some(54.5),
        radios,
    };
    check("telemetry", telemetry(Vec::new()));
    let radio = Radio { technology: "4G".to_owned(), operator: "Northcell".to_owned(), signal_dbm: -90.5, age_ms: 400 };
    check("telemetry-radios", telemetry(vec![RadioReading { link: LinkId(0), radio }]));
}

#[test]
fn what_cannot_be_read_is_named() {
    let kind = |json: &str| Envelope::<Command>::parse(json.as_bytes()).unwrap_err();
    let id = Uuid::from_u128(7);
    let with = |version: u16, body: &str| {
        format!("{{\"version\":{version},\"id\":\"{id}\",\"sent_at_ms\":1,\"body\":{body}}}")
    };

    assert!(matches!(kind("\u{0}"), EnvelopeError::Malformed { .. }));
    assert!(matches!(kind("{}"), EnvelopeError::Malformed { .. }));
    assert!(matches!(kind(&with(9, "{}")), EnvelopeError::Version { got: 9, .. }));
    assert!(matches!(kind(&with(1, "[]")), EnvelopeError::Kind { .. }));
    let error = kind(&with(1, r#"{"kind":"self-destruct"}"#));
    assert!(error.to_string().contains("self-destruct") && error.message_id() == Some(id));
    let error = kind(&with(1, r#"{"kind":"stop-stream","valid_for_ms":1,"stream":"../../etc"}"#));
    assert!(matches!(&error, EnvelopeError::Body { kind, .. } if kind == "stop-stream"));
    let long = " ".repeat(protocol::limits::PAYLOAD_BYTES_MAX + 1);
    assert!(matches!(kind(&long), EnvelopeError::TooLong { .. }));
}

#[test]
fn a_reader_ignores_fields_it_does_not_know() {
    let json = format!(
        r#"{{"version":1,"id":"{}","sent_at_ms":1,"from":"the future","body":{{"kind":"online","mood":"good"}}}}"#,
        Uuid::from_u128(7)
    );
    assert_eq!(Envelope::<Presence>::parse(json.as_bytes()).unwrap().body, Presence::Online);
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let message = Envelope::new(Uuid::nil(), 0, Command::StartStream { valid_for_ms: 1, spec: Box::new(spec()) });
    assert!(!format!("{message:?}").contains("example key"));
}

proptest::proptest! {
    #[test]
    fn no_payload_panics_the_parsers(payload in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = Envelope::<Command>::parse(&payload);
        let _ = Envelope::<DeviceState>::parse(&payload);
        if let Ok(text) = std::str::from_utf8(&payload) {
            let _ = protocol::Topic::parse(text);
            let _ = text.parse::<protocol::enrolment::ClaimLink>();
        }
    }
}
