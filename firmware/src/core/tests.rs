//! Goal: what the relay, the crew and the streamer can rely on. Method: the core in virtual time, its outputs as evidence.

use super::*;
use crate::commands::Purpose;
use crate::streaming::machine::LaunchMode;
use crate::streaming::port::PortNews;
use appliance::{InputSignal, InputSource, UplinkKind};
use protocol::Secret;
use protocol::command::{Command, Outcome, Rejection, SettingsChange};
use protocol::envelope::Body;
use protocol::state::StreamingState;
use protocol::stream::{EncodingSpec, ReceiverAddress, StreamSpec};
use protocol::worker::streamer::{FromStreamer, Source, StreamerState, ToStreamer};
use units::Bitrate;

const RELAY_MS: u64 = 1_790_000_000_000;
const VALID_FOR_MS: u32 = 5000;

fn spec(stream: &str) -> StreamSpec {
    StreamSpec {
        stream: stream.parse().unwrap(),
        receiver: ReceiverAddress { host: "198.51.100.1".to_owned(), port: 5000 },
        key: Secret::new("key"),
        latency_ms: 1000,
        encoding: EncodingSpec::default(),
        input: None,
        outputs: vec!["YouTube main".to_owned()],
    }
}

fn start(stream: &str) -> Command {
    Command::StartStream { valid_for_ms: VALID_FOR_MS, spec: Box::new(spec(stream)) }
}

fn stop(stream: &str) -> Command {
    Command::StopStream { valid_for_ms: VALID_FOR_MS, stream: stream.parse().unwrap() }
}

fn uplink(number: u16) -> Uplink {
    Uplink {
        interface: format!("wwan{number}"),
        name: format!("Modem {number}"),
        kind: UplinkKind::Modem,
        link: Some(LinkId(number)),
        addresses: vec![format!("192.0.2.{number}").parse().unwrap()],
        bind_to_interface: true,
        gateway: None,
        problem: None,
        radio: None,
    }
}

fn hardware(uplinks: &[u16]) -> HardwareSnapshot {
    let source = InputSource::Test { width: 1280, height: 720, frames_per_second: 25 };
    let signal = InputSignal::Present { mode: None };
    HardwareSnapshot {
        uplinks: uplinks.iter().copied().map(uplink).collect(),
        inputs: vec![CaptureInput { id: "test".to_owned(), name: "Test".to_owned(), source, signal }],
        temperature_c: Some(41.5),
    }
}

struct Rig {
    core: Core,
    now: Timestamp,
    generation: u64,
    commands: u128,
}

/// What came out, sorted by where it goes.
#[derive(Debug, Default)]
struct Out {
    reports: Vec<(u128, Outcome)>,
    events: Vec<DeviceEvent>,
    lines: Vec<ToStreamer>,
    launches: Vec<LaunchMode>,
    kills: usize,
    states: Vec<DeviceState>,
    telemetry: Vec<Telemetry>,
    records: Vec<Option<StreamRecord>>,
    settings: Vec<Settings>,
    asked: usize,
    resolves: Vec<String>,
    network_changes: usize,
}

impl Rig {
    fn new(beginning: Beginning) -> Self {
        let now = Timestamp::from_millis(1000);
        let mut rig = Self { core: Core::new(now, beginning), now, generation: 0, commands: 0 };
        rig.core.handle_hardware(now, hardware(&[1, 2]));
        rig.drain();
        rig
    }

    fn connected() -> Self {
        let mut rig = Self::new(Beginning { enrolled: true, ..Beginning::default() });
        rig.core.handle_relay(rig.now, RelayEvent::Connected);
        rig.drain();
        rig
    }

    fn drain(&mut self) -> Out {
        let mut out = Out::default();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Report(CommandReport::Result { command, outcome }) => {
                    out.reports.push((command.as_u128(), outcome));
                }
                Output::Event(event) => out.events.push(event),
                Output::AskGoLive => out.asked += 1,
                Output::State(state) => out.states.push(*state),
                Output::Telemetry(telemetry) => out.telemetry.push(*telemetry),
                Output::KeepCommand { .. } => {}
                Output::SaveSettings(settings) => out.settings.push(*settings),
                Output::SaveRecord(record) => out.records.push(Some(*record)),
                Output::RemoveRecord => out.records.push(None),
                Output::Resolve { host } => out.resolves.push(host),
                Output::Port(PortCommand::Launch { generation, mode }) => {
                    self.generation = generation;
                    out.launches.push(mode);
                }
                Output::Port(PortCommand::Send(line)) => out.lines.push(*line),
                Output::Port(PortCommand::Kill) => out.kills += 1,
                Output::NetworkChanged => out.network_changes += 1,
            }
        }
        out
    }

    fn payload(&mut self, leaf: Leaf, payload: Vec<u8>) -> Out {
        self.core.handle_relay(self.now, RelayEvent::Message { leaf, payload });
        self.drain()
    }

    fn message<B: Body>(&mut self, leaf: Leaf, id: u128, sent_at: Timestamp, body: B) -> Out {
        let envelope = Envelope::new(Uuid::from_u128(id), RELAY_MS + sent_at.as_millis(), body);
        self.payload(leaf, envelope.emit())
    }

    /// A command with a fresh id, sent now.
    fn command(&mut self, command: Command) -> Out {
        self.commands += 1;
        let id = self.commands;
        self.message(Leaf::Command, id, self.now, command)
    }

    fn line(&mut self, line: FromStreamer) -> Out {
        let news = PortNews::Line(Box::new(line));
        self.core.handle_port(self.now, PortEvent { generation: self.generation, news });
        self.drain()
    }

    fn hello(&mut self, stream: Option<&str>, state: StreamerState) -> Out {
        let stream = stream.map(|stream| stream.parse().unwrap());
        self.line(FromStreamer::Hello { pid: 7, version: "1".to_owned(), stream, state })
    }

    fn gone(&mut self) -> Out {
        let news = PortNews::Gone { reason: "the streamer ended".to_owned() };
        self.core.handle_port(self.now, PortEvent { generation: self.generation, news });
        self.drain()
    }

    /// Time passes in steps of the core's own timeouts.
    fn wait(&mut self, duration: Duration) -> Out {
        let until = self.now + duration;
        let mut all = Out::default();
        while self.core.poll_timeout() <= until {
            self.now = self.core.poll_timeout();
            self.core.handle_timeout(self.now);
            let out = self.drain();
            all.states.extend(out.states);
            all.telemetry.extend(out.telemetry);
            all.launches.extend(out.launches);
            all.events.extend(out.events);
        }
        self.now = until;
        all
    }

    fn running(&mut self) -> Out {
        self.line(FromStreamer::State(StreamerState::Running { for_ms: 0, encoder: "x264enc".to_owned() }))
    }

    fn sending(stream: &str) -> Self {
        let mut rig = Self::connected();
        rig.command(start(stream));
        rig.hello(None, StreamerState::Waiting);
        let out = rig.running();
        assert_eq!(out.reports, [(1, Outcome::Done)]);
        rig
    }
}

#[test]
fn a_start_command_is_accepted_starts_the_streamer_and_is_done_when_media_flows() {
    let mut rig = Rig::connected();
    let out = rig.command(start("s"));
    assert_eq!(out.reports, [(1, Outcome::Accepted)]);
    assert_eq!(out.launches, [LaunchMode::Spawn]);
    let out = rig.hello(None, StreamerState::Waiting);
    let [ToStreamer::Start(order)] = &out.lines[..] else { panic!("{:?}", out.lines) };
    assert_eq!(order.spec, spec("s"));
    assert_eq!(order.source, Source::Test { width: 1280, height: 720, frames_per_second: 25 });
    let remotes: Vec<String> =
        order.links.iter().map(|link| format!("{}->{}", link.bind.unwrap(), link.remote)).collect();
    assert_eq!(remotes, ["192.0.2.1->198.51.100.1:5000", "192.0.2.2->198.51.100.1:5000"]);
    assert_eq!(out.records.last().unwrap().as_ref().unwrap().links, order.links);
    assert_eq!(rig.running().reports, [(1, Outcome::Done)]);
}

#[test]
fn a_command_seen_again_is_answered_again_and_done_once() {
    let mut rig = Rig::sending("s");
    let again = rig.message(Leaf::Command, 1, rig.now, start("s"));
    assert_eq!(again.reports, [(1, Outcome::Done)]);
    assert!(again.launches.is_empty() && again.lines.is_empty());
}

#[test]
fn a_stop_command_is_done_when_the_streamer_is_gone_and_for_a_foreign_stream_at_once() {
    let mut rig = Rig::sending("s");
    assert_eq!(rig.command(stop("other")).reports, [(2, Outcome::Done)]);
    let out = rig.command(stop("s"));
    assert_eq!(out.reports, [(3, Outcome::Accepted)]);
    assert_eq!(out.lines, [ToStreamer::Stop]);
    assert_eq!(out.records, [None]);
    assert_eq!(rig.gone().reports, [(3, Outcome::Done)]);
    assert_eq!(rig.command(stop("s")).reports, [(4, Outcome::Done)]);
}

#[test]
fn refusals_name_their_reason() {
    let mut rig = Rig::sending("s");
    let mut refusal = |command: Command| match rig.command(command).reports.pop() {
        Some((_, Outcome::Rejected { reason, detail })) => (reason, detail),
        other => panic!("{other:?}"),
    };
    let (reason, detail) = refusal(start("t"));
    assert_eq!(reason, Rejection::Busy);
    assert!(detail.contains("stream s"), "{detail}");
    let odd = StreamSpec { receiver: ReceiverAddress { host: "h".to_owned(), port: 5001 }, ..spec("t") };
    assert_eq!(refusal(Command::StartStream { valid_for_ms: 5000, spec: Box::new(odd) }).0, Rejection::Invalid);
    let settings = SettingsChange { latency_ms: Some(1), ..Default::default() };
    assert_eq!(refusal(Command::ApplySettings { valid_for_ms: 5000, settings }).0, Rejection::Invalid);

    let mut rig = Rig::connected();
    let camera = StreamSpec { input: Some("hdmi".to_owned()), ..spec("t") };
    let out = rig.command(Command::StartStream { valid_for_ms: 5000, spec: Box::new(camera) });
    assert!(
        matches!(&out.reports[0].1, Outcome::Rejected { reason: Rejection::NoInput, detail } if detail.contains("hdmi"))
    );
    rig.core.handle_hardware(rig.now, hardware(&[]));
    let out = rig.command(start("t"));
    assert!(matches!(&out.reports[0].1, Outcome::Rejected { reason: Rejection::NoLink, .. }), "{:?}", out.reports);
    assert!(out.launches.is_empty());
}

#[test]
fn what_cannot_be_read_is_answered_by_its_id_and_garbage_is_survived() {
    let mut rig = Rig::connected();
    let id = Uuid::from_u128(77);
    let cases = [
        (
            format!(r#"{{"version":9,"id":"{id}","sent_at_ms":1,"body":{{"kind":"start-stream"}}}}"#),
            Rejection::UnknownVersion,
        ),
        (format!(r#"{{"version":1,"id":"{id}","sent_at_ms":1,"body":{{"kind":"dance"}}}}"#), Rejection::UnknownKind),
        (
            format!(r#"{{"version":1,"id":"{id}","sent_at_ms":1,"body":{{"kind":"stop-stream"}}}}"#),
            Rejection::Malformed,
        ),
    ];
    for (payload, expected) in cases {
        let mut rig = Rig::connected();
        let out = rig.payload(Leaf::Command, payload.clone().into_bytes());
        assert!(
            matches!(&out.reports[..], [(77, Outcome::Rejected { reason, .. })] if *reason == expected),
            "{payload}"
        );
        let again = rig.payload(Leaf::Command, payload.into_bytes());
        assert_eq!(again.reports, out.reports, "repeated, not judged anew");
    }
    for payload in [&b""[..], b"{", b"\xff\xff", &vec![b'x'; 70_000]] {
        assert!(rig.payload(Leaf::Command, payload.to_vec()).reports.is_empty());
        assert!(rig.payload(Leaf::Notice, payload.to_vec()).reports.is_empty());
    }
    assert_eq!(rig.command(start("s")).reports, [(1, Outcome::Accepted)]);
}

#[test]
fn a_command_that_comes_after_its_time_is_expired() {
    let mut rig = Rig::connected();
    let notice = Notice::RequestRefused { detail: String::new() };
    rig.message(Leaf::Notice, 50, rig.now, notice); // shows the smallest delay
    let sent = rig.now;
    rig.now += Duration::from_millis(u64::from(VALID_FOR_MS) + 1);
    let out = rig.message(Leaf::Command, 51, sent, start("s"));
    assert_eq!(out.reports, [(51, Outcome::Expired)]);
    assert!(out.launches.is_empty());
    let out = rig.message(Leaf::Command, 52, rig.now.back(Duration::from_millis(4999)), start("s"));
    assert_eq!(out.reports, [(52, Outcome::Accepted)]);
}

/// An uplink that comes, goes, or works again is a reason to try the relay at once; a signal that moves is none.
#[test]
fn another_network_is_told_and_a_moving_signal_is_not() {
    let mut rig = Rig::new(Beginning { enrolled: true, ..Beginning::default() });
    let mut changes = |hardware: HardwareSnapshot| {
        rig.core.handle_hardware(rig.now, hardware);
        rig.drain().network_changes
    };
    let mut moved = hardware(&[1, 2]);
    moved.uplinks[0].radio = Some(appliance::Radio {
        technology: "LTE".to_owned(),
        operator: "Northcell".to_owned(),
        signal_dbm: -90.0,
        read_at: Timestamp::ZERO,
    });
    assert_eq!(changes(moved), 0);
    assert_eq!(changes(hardware(&[1, 2, 3])), 1);
    assert_eq!(changes(hardware(&[1, 2, 3])), 0);
    let mut dead = hardware(&[1, 2, 3]);
    dead.uplinks[0].problem = Some("no carrier".to_owned());
    assert_eq!(changes(dead), 1);
    assert_eq!(changes(hardware(&[1, 2, 3])), 1);
    let mut moved_house = hardware(&[1, 2, 3]);
    moved_house.uplinks[0].addresses = vec!["203.0.113.9".parse().unwrap()];
    assert_eq!(changes(moved_house), 1);
}

#[test]
fn links_follow_the_uplinks() {
    let mut rig = Rig::sending("s");
    rig.core.handle_hardware(rig.now, hardware(&[2, 3]));
    let out = rig.drain();
    let told: Vec<String> = out
        .lines
        .iter()
        .map(|line| match line {
            ToStreamer::AddLink(link) => format!("+{}", link.link),
            ToStreamer::RemoveLink { link } => format!("-{link}"),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["+3", "-1"]);
    rig.core.handle_hardware(rig.now, hardware(&[2, 3]));
    assert!(rig.drain().lines.is_empty());
    let mut dead = hardware(&[2, 3]);
    dead.uplinks[0].problem = Some("registered, no data".to_owned());
    rig.core.handle_hardware(rig.now, dead);
    assert_eq!(rig.drain().lines, [ToStreamer::RemoveLink { link: LinkId(2) }]);
}

#[test]
fn a_stream_without_network_waits_for_one() {
    let mut rig = Rig::sending("s");
    rig.core.handle_hardware(rig.now, hardware(&[]));
    rig.drain();
    rig.gone();
    rig.wait(Duration::from_secs(1));
    let out = rig.hello(None, StreamerState::Waiting);
    assert!(out.lines.is_empty());
    let StreamingState::Recovering { reason, .. } = rig.core.view(rig.now).streaming else { panic!() };
    assert!(reason.contains("no network"), "{reason}");
    rig.core.handle_hardware(rig.now, hardware(&[1]));
    rig.wait(Duration::from_secs(4));
    let out = rig.hello(None, StreamerState::Waiting);
    assert!(matches!(&out.lines[..], [ToStreamer::Start(_)]), "{:?}", out.lines);
}

#[test]
fn a_name_is_resolved_anew_at_each_try_and_the_last_address_serves_when_that_fails() {
    let mut rig = Rig::connected();
    let named = StreamSpec { receiver: ReceiverAddress { host: "relay.example".to_owned(), port: 5000 }, ..spec("s") };
    let out = rig.command(Command::StartStream { valid_for_ms: 5000, spec: Box::new(named) });
    assert_eq!((out.resolves, out.launches.len()), (vec!["relay.example".to_owned()], 0));
    rig.core.handle_resolved(rig.now, "relay.example", Ok(vec!["198.51.100.9".parse().unwrap()]));
    assert_eq!(rig.drain().launches, [LaunchMode::Spawn]);
    rig.hello(None, StreamerState::Waiting);
    rig.running();
    rig.gone();
    rig.wait(Duration::from_millis(600));
    rig.core.handle_resolved(rig.now, "relay.example", Err("no name server".to_owned()));
    assert_eq!(rig.drain().launches, [LaunchMode::Spawn]);
    let out = rig.hello(None, StreamerState::Waiting);
    let [ToStreamer::Start(order)] = &out.lines[..] else { panic!("{:?}", out.lines) };
    assert_eq!(order.links[0].remote, "198.51.100.9:5000".parse().unwrap());
}

#[test]
fn settings_change_a_live_stream_and_its_record() {
    let mut rig = Rig::sending("s");
    let encoding = EncodingSpec { bitrate_max: Bitrate::from_kbps(2000), ..EncodingSpec::default() };
    let settings = SettingsChange { latency_ms: Some(3000), encoding: Some(encoding), ..Default::default() };
    let out = rig.command(Command::ApplySettings { valid_for_ms: 5000, settings });
    assert_eq!(out.reports, [(2, Outcome::Done)]);
    let range = ToStreamer::SetBitrateRange { min: Bitrate::from_kbps(300), max: Bitrate::from_kbps(2000) };
    assert_eq!(out.lines, [ToStreamer::SetLatency { latency_ms: 3000 }, range]);
    assert_eq!(out.settings[0].latency_ms, 3000);
    assert_eq!(out.records[0].as_ref().unwrap().spec.latency_ms, 3000);
    let published = rig.wait(Duration::from_millis(200)).states;
    let Some(DeviceState::State { settings, .. }) = published.last() else { panic!("not published") };
    assert_eq!(settings.latency_ms, 3000);
}

#[test]
fn a_restarted_agent_attaches_and_finishes_the_command_it_had_accepted() {
    let pending = Entry {
        command: Uuid::from_u128(5),
        purpose: Purpose::Start { stream: "s".parse().unwrap() },
        outcome: Outcome::Accepted,
    };
    let lost = Entry {
        command: Uuid::from_u128(6),
        purpose: Purpose::Start { stream: "t".parse().unwrap() },
        outcome: Outcome::Accepted,
    };
    let known = StreamerLink {
        link: LinkId(1),
        name: "Modem 1".to_owned(),
        bind: Some("192.0.2.1".parse().unwrap()),
        device: Some("wwan1".to_owned()),
        remote: "198.51.100.1:5000".parse().unwrap(),
    };
    let record = StreamRecord { spec: spec("s"), links: vec![known] };
    let now = Timestamp::ZERO;
    let beginning = Beginning {
        enrolled: true,
        commands: vec![pending, lost],
        record: KeptRecord::Stream(Box::new(record)),
        ..Beginning::default()
    };
    let mut rig = Rig { core: Core::new(now, beginning), now, generation: 0, commands: 10 };
    let out = rig.drain();
    assert!(
        matches!(&out.reports[..], [(6, Outcome::Rejected { reason: Rejection::MediaFailed, .. })]),
        "{:?}",
        out.reports
    );
    assert_eq!(out.launches, [LaunchMode::Attach]);
    rig.core.handle_hardware(now, hardware(&[1, 2]));
    let out = rig.hello(Some("s"), StreamerState::Running { for_ms: 9000, encoder: "x264enc".to_owned() });
    assert_eq!(out.reports, [(5, Outcome::Done)]);
    let [ToStreamer::AddLink(added)] = &out.lines[..] else { panic!("only what is new: {:?}", out.lines) };
    assert_eq!(added.link, LinkId(2));
}

#[test]
fn go_live_asks_a_connected_relay_and_says_why_not_otherwise() {
    let mut rig = Rig::new(Beginning { enrolled: true, ..Beginning::default() });
    assert!(matches!(rig.core.go_live(rig.now), Err(PageRefusal::NoRelay { .. })));
    rig.core.handle_relay(rig.now, RelayEvent::Disconnected { reason: "cannot reach the relay".to_owned() });
    let refusal = rig.core.go_live(rig.now).unwrap_err().to_string();
    assert!(refusal.contains("cannot reach the relay"), "{refusal}");
    assert_eq!(rig.drain().asked, 0);
    rig.core.handle_relay(rig.now, RelayEvent::Connected);
    rig.core.go_live(rig.now).unwrap();
    assert_eq!(rig.drain().asked, 1);
    assert!(matches!(rig.core.view(rig.now).request, RequestView::Asked { .. }));
    rig.wait(Duration::from_secs(25));
    assert!(matches!(rig.core.view(rig.now).request, RequestView::Refused { .. }), "silence is not success");
    let refused = Notice::RequestRefused { detail: "no destination: add one".to_owned() };
    rig.message(Leaf::Notice, 60, rig.now, refused);
    let RequestView::Refused { detail } = rig.core.view(rig.now).request else { panic!() };
    assert_eq!(detail, "no destination: add one");
    rig.command(start("s"));
    assert_eq!(rig.core.view(rig.now).request, RequestView::None);
    assert_eq!(rig.core.go_live(rig.now), Err(PageRefusal::Busy));
}

#[test]
fn the_crews_stop_works_without_a_relay_and_is_told_later() {
    let mut rig = Rig::sending("s");
    rig.core.handle_relay(rig.now, RelayEvent::Disconnected { reason: "gone".to_owned() });
    rig.drain();
    rig.core.stop(rig.now).unwrap();
    let out = rig.drain();
    assert_eq!(out.lines, [ToStreamer::Stop]);
    assert_eq!(out.events, [DeviceEvent::StopRequested { stream: "s".parse().unwrap() }]);
    rig.gone();
    assert_eq!(rig.core.stop(rig.now), Err(PageRefusal::NotRunning));
}

#[test]
fn on_air_is_the_relays_word_about_this_stream_and_ages() {
    let mut rig = Rig::sending("s");
    assert_eq!(rig.core.view(rig.now).on_air, None, "sending alone is not on air");
    let word =
        |stream: &str| Notice::StreamStatus { stream: stream.parse().unwrap(), on_air: true, outputs: Vec::new() };
    rig.message(Leaf::Notice, 70, rig.now, word("other"));
    assert_eq!(rig.core.view(rig.now).on_air, None);
    rig.message(Leaf::Notice, 71, rig.now, word("s"));
    let fresh = |rig: &Rig| rig.core.view(rig.now).on_air.map(|word| (word.on_air, word.fresh));
    assert_eq!(fresh(&rig), Some((true, true)));
    rig.now += FRESH_TIME_MAX;
    assert_eq!(fresh(&rig), Some((true, true)));
    rig.now += Duration::from_millis(1);
    assert_eq!(fresh(&rig), Some((true, false)));
    rig.command(stop("s"));
    rig.gone();
    assert_eq!(rig.core.view(rig.now).on_air, None);
}

#[test]
fn telemetry_comes_once_a_second_with_its_age_and_only_in_session() {
    let mut rig = Rig::sending("s");
    rig.wait(Duration::from_millis(1));
    let stats = crate::core::tests::stats("s");
    rig.line(FromStreamer::Stats(Box::new(stats)));
    let out = rig.wait(Duration::from_secs(5));
    assert_eq!(out.telemetry.len(), 5);
    let ages: Vec<u64> = out
        .telemetry
        .iter()
        .map(|Telemetry::Telemetry { stream, temperature_c, .. }| {
            assert_eq!(*temperature_c, Some(41.5));
            stream.as_ref().unwrap().age_ms
        })
        .collect();
    assert!(ages.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{ages:?}");
    rig.core.handle_relay(rig.now, RelayEvent::Disconnected { reason: "gone".to_owned() });
    rig.drain();
    assert!(rig.wait(Duration::from_secs(5)).telemetry.is_empty());
}

fn stats(stream: &str) -> StreamTelemetry {
    StreamTelemetry {
        stream: stream.parse().unwrap(),
        age_ms: 5,
        rate_advice: Bitrate::from_kbps(4000),
        encoder_target: Bitrate::from_kbps(4000),
        media_rate: Bitrate::from_kbps(3900),
        latency_ms: 1000,
        packets_in: 1,
        retransmits: 0,
        dropped: 0,
        encoder: "x264enc".to_owned(),
        links: Vec::new(),
    }
}

#[test]
fn the_state_is_published_on_change_and_not_because_time_passes() {
    let mut rig = Rig::sending("s");
    assert_eq!(rig.wait(Duration::from_secs(1)).states.len(), 1, "what came too soon after the last change");
    assert!(rig.wait(Duration::from_secs(10)).states.is_empty());
    rig.core.handle_hardware(rig.now, hardware(&[2]));
    assert_eq!(rig.drain().states.len(), 1);
    let mut radio = hardware(&[2]);
    for (second, dbm) in [(1_u64, -80.0_f32), (2, -80.4), (9, -83.0)] {
        radio.uplinks[0].radio = Some(appliance::Radio {
            technology: "4G".to_owned(),
            operator: "O".to_owned(),
            signal_dbm: dbm,
            read_at: rig.now,
        });
        rig.now += Duration::from_secs(second);
        rig.core.handle_hardware(rig.now, radio.clone());
        let published = rig.drain().states.len();
        assert_eq!(published, usize::from(second != 2), "after {second} s at {dbm} dBm");
    }
}

#[test]
fn remarks_of_a_mad_streamer_are_bounded() {
    let mut rig = Rig::sending("s");
    let mut remarks = 0;
    for number in 0..200 {
        remarks += rig.line(FromStreamer::Event { text: format!("event {number}") }).events.len();
    }
    assert_eq!(remarks, REMARKS_MAX as usize);
    rig.now += REMARKS_WINDOW;
    assert_eq!(rig.line(FromStreamer::Event { text: "later".to_owned() }).events.len(), 1);
}
