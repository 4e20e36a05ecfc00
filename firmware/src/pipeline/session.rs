//! One stream from start to stop, on a thread of its own.
//!
//! Everything that happens (commands, what the two pipelines say, the tick) comes through one bounded channel and is handled
//! one at a time. The phases:
//!
//! | phase | leaves when |
//! |---|---|
//! | Opening | first picture: Running; fault or nothing in time: ends as failed |
//! | Running | source fails or falls silent: Reopening; stop: Stopping; bond or encoder fails: ends as failed |
//! | Reopening | first picture: Running; stop: Stopping. Tries for as long as the stream lasts |
//! | Stopping | everything handed over, or the time for it is up: ends |

use super::encoder::{self, PictureWish};
use super::fault::{StreamFault, clip};
use super::picture::{Picture, SourcePicture};
use super::rate::RateFollower;
use super::send::{SendEvent, Sending};
use super::slate::Slate;
use super::source::{self, OpenSource, SourceEvent};
use super::telemetry::{self, Surroundings};
use gst_bond::BondSink;
use gstreamer::prelude::*;
use link_io::sender::LinkSpec;
use protocol::stream::{EncodingSpec, LATENCY_MS_MAX, LATENCY_MS_MIN};
use protocol::telemetry::StreamTelemetry;
use protocol::worker::streamer::{Source, StartStreamer, StreamerLink, StreamerState};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use units::{Bitrate, LinkId, Timestamp};

/// Things waiting to be handled; a full inbox loses what pipelines say (logged) and refuses commands.
const INBOX_MAX: usize = 512;
/// How often the bond's advice is read.
const TICK: Duration = Duration::from_millis(50);
/// How often figures are reported.
const STATS_PERIOD: Duration = Duration::from_secs(1);
/// How long a source may take to its first picture.
const OPEN_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a source may give no picture before it is opened again.
const SILENT_TIME_MAX: Duration = Duration::from_secs(3);
/// First pause before a lost source is opened again; doubles up to [`REOPEN_PAUSE_MAX`].
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(250);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(4);
/// How long the pipeline may take to hand over its last bytes.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);
/// How often dropped pictures are told.
const DROPS_TOLD_PERIOD: Duration = Duration::from_secs(10);

/// What a session can be told while it runs.
#[derive(Debug, Clone)]
pub enum SessionCommand {
    /// Add or replace a link.
    AddLink(StreamerLink),
    /// Take a link out.
    RemoveLink(LinkId),
    /// Change the latency budget, in milliseconds.
    SetLatency(u32),
    /// Change the encoder's range.
    SetBitrateRange {
        /// Lowest.
        min: Bitrate,
        /// Highest.
        max: Bitrate,
    },
    /// End.
    Stop,
}

/// What a session tells.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionReport {
    /// The state changed. `Ended` and `Failed` are the last report.
    State(StreamerState),
    /// Figures.
    Stats(Box<StreamTelemetry>),
    /// Something happened.
    Event(String),
    /// A command could not be carried out.
    Refused(String),
}

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandRefused {
    /// The session is behind by a full inbox.
    #[error("the streamer is busy: try again")]
    Busy,
    /// The session has ended.
    #[error("the stream is over")]
    Over,
}

/// A running session.
#[derive(Debug)]
pub struct Session {
    inbox: SyncSender<Input>,
    thread: JoinHandle<()>,
}

enum Input {
    Command(SessionCommand),
    /// With the generation of the source that says it: a closed one is not listened to.
    Source(u64, SourceEvent),
    Send(SendEvent),
}

impl Session {
    /// Starts a session; `report` is called on its thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn(start: StartStreamer, report: impl Fn(SessionReport) + Send + 'static) -> io::Result<Self> {
        let (inbox, received) = sync_channel(INBOX_MAX);
        let own = inbox.clone();
        let thread = std::thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || Runner::new(start, own, Box::new(report)).run(&received))?;
        Ok(Self { inbox, thread })
    }

    /// Passes a command on, without waiting.
    ///
    /// # Errors
    /// The session is over, or stuck with [`INBOX_MAX`] things to do.
    pub fn command(&self, command: SessionCommand) -> Result<(), CommandRefused> {
        self.inbox.try_send(Input::Command(command)).map_err(|error| match error {
            TrySendError::Full(_) => CommandRefused::Busy,
            TrySendError::Disconnected(_) => CommandRefused::Over,
        })
    }

    /// Waits for the end.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the session panicked");
        }
    }
}

enum Phase {
    Opening { until: Instant },
    Running { last_picture: Instant, pictures: u64 },
    Reopening { lost_at: Instant, pause: Duration, next: NextTry },
    Stopping { until: Instant },
}

enum NextTry {
    /// The source is closed; open it then.
    At(Instant),
    /// The source is open; a picture must come by then.
    Until(Instant),
}

/// How a session goes on after an input.
enum Flow {
    On,
    Ended,
    Failed(StreamFault),
}

struct Runner {
    start: StartStreamer,
    inbox: SyncSender<Input>,
    report: Box<dyn Fn(SessionReport) + Send>,
    origin: Instant,
    phase: Phase,
    generation: u64,
    source: Option<OpenSource>,
    sink: BondSink,
    /// Before `sending`: it ends first.
    slate: Option<Slate>,
    sending: Option<Sending>,
    rate: RateFollower,
    running_since: Option<Instant>,
    stats_at: Instant,
    drops_told: (Instant, u64),
}

impl Runner {
    fn new(start: StartStreamer, inbox: SyncSender<Input>, report: Box<dyn Fn(SessionReport) + Send>) -> Self {
        let now = Instant::now();
        Self {
            rate: RateFollower::new(&start.spec.encoding),
            sink: bond_sink(&start),
            start,
            inbox,
            report,
            origin: now,
            phase: Phase::Opening { until: now + OPEN_TIME_MAX },
            generation: 0,
            source: None,
            slate: None,
            sending: None,
            running_since: None,
            stats_at: now,
            drops_told: (now, 0),
        }
    }

    fn run(mut self, received: &Receiver<Input>) {
        self.state(StreamerState::Opening);
        let mut flow = self.begin();
        while matches!(flow, Flow::On) {
            flow = match received.recv_timeout(TICK) {
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => Flow::On,
                // Never: the runner holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => Flow::Ended,
            };
            if matches!(flow, Flow::On) {
                flow = self.tick();
            }
        }
        self.source = None;
        self.slate = None;
        self.sending = None; // closes the bond: it repairs for at most the latency budget
        match flow {
            Flow::Failed(fault) => {
                tracing::error!(%fault, "the stream failed");
                self.state(fault.state());
            }
            Flow::On | Flow::Ended => self.state(StreamerState::Ended),
        }
    }

    fn begin(&mut self) -> Flow {
        match self.start.spec.check().map_err(StreamFault::from).and_then(|()| self.open_source()) {
            Ok(()) => Flow::On,
            Err(fault) => Flow::Failed(fault),
        }
    }

    fn handle(&mut self, input: Input) -> Flow {
        match input {
            Input::Command(command) => self.obey(command),
            Input::Source(generation, event) if generation == self.generation => self.source_says(event),
            Input::Source(..) => Flow::On,
            Input::Send(event) => self.sending_says(event),
        }
    }

    fn obey(&mut self, command: SessionCommand) -> Flow {
        match command {
            SessionCommand::AddLink(link) => self.sink.add_link(link_spec(&link)),
            SessionCommand::RemoveLink(link) => {
                if !self.sink.remove_link(link) {
                    self.refuse(&format!("there is no link {link} to take out"));
                }
            }
            SessionCommand::SetLatency(millis) if (LATENCY_MS_MIN..=LATENCY_MS_MAX).contains(&millis) => {
                self.sink.set_latency(Duration::from_millis(millis.into()));
            }
            SessionCommand::SetLatency(millis) => {
                self.refuse(&format!("latency_ms is {millis}, it must be from {LATENCY_MS_MIN} to {LATENCY_MS_MAX}"));
            }
            SessionCommand::SetBitrateRange { min, max } => {
                let wanted = EncodingSpec { bitrate_min: min, bitrate_max: max, ..self.start.spec.encoding.clone() };
                match wanted.check() {
                    Ok(()) => self.set_range(min, max),
                    Err(error) => self.refuse(&error.to_string()),
                }
            }
            SessionCommand::Stop => return self.stop(),
        }
        Flow::On
    }

    fn set_range(&mut self, min: Bitrate, max: Bitrate) {
        self.rate.set_range(min, max);
        let (low, high) = self.rate.payload_range();
        self.sink.set_encoder_range(low, high);
    }

    fn stop(&mut self) -> Flow {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return Flow::On;
        }
        self.close_source();
        self.slate = None;
        let Some(sending) = &self.sending else { return Flow::Ended };
        sending.finish();
        self.phase = Phase::Stopping { until: Instant::now() + DRAIN_TIME_MAX };
        Flow::On
    }

    fn source_says(&mut self, event: SourceEvent) -> Flow {
        match event {
            SourceEvent::Picture(picture) => match self.first_picture(picture) {
                Ok(()) => Flow::On,
                Err(fault) => Flow::Failed(fault),
            },
            SourceEvent::SoundLost { detail } => {
                self.event(&format!("no sound from {}, silence is sent: {detail}", self.what()));
                Flow::On
            }
            SourceEvent::NoPicture => self.source_lost(StreamFault::NoPicture { what: self.what() }),
            SourceEvent::End => self.source_ended(),
            SourceEvent::Failed { detail } => self.source_lost(StreamFault::SourceFailed { what: self.what(), detail }),
        }
    }

    /// A file begins again; anything else has no end.
    fn source_ended(&mut self) -> Flow {
        let file = matches!(self.start.source, Source::File { .. });
        if file && self.source.as_ref().is_some_and(OpenSource::rewind) {
            return Flow::On;
        }
        let detail = if file { "it cannot be played from its beginning again" } else { "it ended" };
        self.source_lost(StreamFault::SourceFailed { what: self.what(), detail: detail.to_owned() })
    }

    fn first_picture(&mut self, picture: SourcePicture) -> Result<(), StreamFault> {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return Ok(());
        }
        if self.sending.is_none() {
            let sending = self.start_sending(picture)?;
            let slate = Slate::start(sending.target().clone(), sending.encoder().picture());
            self.slate = Some(slate.map_err(|error| no_thread(&error))?);
            self.sending = Some(sending);
        }
        if let (Some(sending), Some(source)) = (&self.sending, &mut self.source) {
            source.start(sending.target()).map_err(|error| no_thread(&error))?;
        }
        if let Phase::Reopening { lost_at, .. } = &self.phase {
            let seconds = lost_at.elapsed().as_secs_f32();
            self.event(&format!("{} is back after {seconds:.1} s", self.what()));
        }
        self.phase = Phase::Running { last_picture: Instant::now(), pictures: 0 };
        Ok(())
    }

    fn start_sending(&mut self, picture: SourcePicture) -> Result<Sending, StreamFault> {
        let encoding = &self.start.spec.encoding;
        let choice = encoder::choose(encoding, wish(&self.start.source, picture))?;
        for reason in choice.passed_over {
            self.event(&reason);
        }
        let (low, high) = self.rate.payload_range();
        self.sink.set_encoder_range(low, high);
        let inbox = self.inbox.clone();
        let notify: super::send::Notify = Arc::new(move |event| tell(&inbox, Input::Send(event)));
        Sending::start(choice.encoder, encoding, source::pace(&self.start.source), self.sink.upcast_ref(), &notify)
    }

    fn sending_says(&mut self, event: SendEvent) -> Flow {
        match event {
            SendEvent::Flowing => {
                self.running_since = Some(Instant::now());
                self.stats_at = Instant::now() + STATS_PERIOD;
                self.report_running();
            }
            SendEvent::Latency => self.sending.iter().for_each(Sending::recalculate_latency),
            SendEvent::Bond { text } => self.event(&text),
            SendEvent::End if matches!(self.phase, Phase::Stopping { .. }) => return Flow::Ended,
            SendEvent::End => {
                return Flow::Failed(StreamFault::Pipeline {
                    element: "the sending pipeline".to_owned(),
                    detail: "it ended by itself".to_owned(),
                });
            }
            SendEvent::Failed { element, detail } => return Flow::Failed(StreamFault::Pipeline { element, detail }),
        }
        Flow::On
    }

    fn tick(&mut self) -> Flow {
        let now = Instant::now();
        let flow = self.watch_phase(now);
        self.follow_advice(now);
        if self.running_since.is_some() && now >= self.stats_at {
            self.stats_at += STATS_PERIOD;
            self.report_stats();
            self.tell_drops(now);
        }
        flow
    }

    fn watch_phase(&mut self, now: Instant) -> Flow {
        let given = self.source.as_ref().map_or(0, OpenSource::pictures);
        match &mut self.phase {
            Phase::Opening { until } if now >= *until => Flow::Failed(self.silent()),
            Phase::Running { last_picture, pictures } => {
                if given != *pictures {
                    (*pictures, *last_picture) = (given, now);
                } else if now.duration_since(*last_picture) >= SILENT_TIME_MAX {
                    return self.source_lost(StreamFault::SourceFailed {
                        what: self.what(),
                        detail: format!("no picture for {} s", SILENT_TIME_MAX.as_secs()),
                    });
                }
                Flow::On
            }
            Phase::Reopening { next: NextTry::At(at), .. } if now >= *at => self.reopen(now),
            Phase::Reopening { next: NextTry::Until(until), .. } if now >= *until => self.source_lost(self.silent()),
            Phase::Stopping { until } if now >= *until => {
                tracing::warn!("the sending pipeline did not drain in time");
                Flow::Ended
            }
            _ => Flow::On,
        }
    }

    fn reopen(&mut self, now: Instant) -> Flow {
        if let Phase::Reopening { next, .. } = &mut self.phase {
            *next = NextTry::Until(now + OPEN_TIME_MAX);
        }
        match self.open_source() {
            Ok(()) => Flow::On,
            Err(fault) => self.source_lost(fault),
        }
    }

    /// Before the first picture this ends the stream; afterwards the source is opened again.
    fn source_lost(&mut self, fault: StreamFault) -> Flow {
        let now = Instant::now();
        match &mut self.phase {
            Phase::Opening { .. } => return Flow::Failed(fault),
            Phase::Stopping { .. } => return Flow::On,
            Phase::Running { .. } => {
                self.event(&format!("{fault}; opening it again, slate and silence are sent meanwhile"));
                let next = NextTry::At(now + REOPEN_PAUSE_MIN);
                self.phase = Phase::Reopening { lost_at: now, pause: REOPEN_PAUSE_MIN, next };
            }
            Phase::Reopening { pause, next, .. } => {
                tracing::warn!(%fault, "the source is still lost");
                *pause = (*pause * 2).min(REOPEN_PAUSE_MAX);
                *next = NextTry::At(now + *pause);
            }
        }
        self.close_source();
        Flow::On
    }

    fn open_source(&mut self) -> Result<(), StreamFault> {
        self.generation += 1;
        let (inbox, generation) = (self.inbox.clone(), self.generation);
        let notify: source::Notify = Arc::new(move |event| tell(&inbox, Input::Source(generation, event)));
        self.source = Some(OpenSource::open(&self.start.source, &notify)?);
        Ok(())
    }

    fn close_source(&mut self) {
        self.generation += 1;
        self.source = None;
    }

    fn follow_advice(&mut self, now: Instant) {
        let (Some(sending), Some(advice)) = (&self.sending, self.sink.rate_advice()) else { return };
        let elapsed = Timestamp::ZERO + now.duration_since(self.origin);
        if let Some(target) = self.rate.follow(elapsed, advice) {
            sending.encoder().set_bitrate(target);
            tracing::debug!(%target, %advice, "encoder bitrate");
        }
    }

    fn report_stats(&self) {
        let (Some(sending), Some(snapshot)) = (&self.sending, self.sink.snapshot()) else { return };
        let around = Surroundings {
            stream: &self.start.spec.stream,
            age: self.sink.snapshot_age().unwrap_or_default(),
            rate_advice: self.sink.rate_advice().unwrap_or(Bitrate::ZERO),
            encoder_target: self.rate.target(),
            dropped_before: self.sink.payloads_dropped(),
            encoder: sending.encoder().name(),
        };
        (self.report)(SessionReport::Stats(Box::new(telemetry::of(&snapshot, &around))));
        self.report_running();
    }

    fn report_running(&self) {
        let (Some(since), Some(sending)) = (self.running_since, &self.sending) else { return };
        self.state(StreamerState::Running {
            for_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            encoder: sending.encoder().name().to_owned(),
        });
    }

    fn tell_drops(&mut self, now: Instant) {
        let dropped = self.source.as_ref().map_or(0, OpenSource::dropped);
        let (told_at, told) = self.drops_told;
        if dropped < told {
            self.drops_told.1 = dropped; // another source
        } else if dropped > told && now.duration_since(told_at) >= DROPS_TOLD_PERIOD {
            self.event(&format!("{} pictures or sounds dropped: the encoder does not follow", dropped - told));
            self.drops_told = (now, dropped);
        }
    }

    fn silent(&self) -> StreamFault {
        StreamFault::SourceSilent { what: self.what(), seconds: OPEN_TIME_MAX.as_secs() }
    }

    fn what(&self) -> String {
        source::describe(&self.start.source)
    }

    fn state(&self, state: StreamerState) {
        (self.report)(SessionReport::State(state));
    }

    fn event(&self, text: &str) {
        tracing::info!(event = %text, "stream");
        (self.report)(SessionReport::Event(clip(text)));
    }

    fn refuse(&self, reason: &str) {
        (self.report)(SessionReport::Refused(clip(reason)));
    }
}

fn no_thread(error: &io::Error) -> StreamFault {
    StreamFault::Pipeline { element: "a thread of the feed".to_owned(), detail: error.to_string() }
}

/// Never blocks: it is called from streaming threads that the session may be waiting for.
fn tell(inbox: &SyncSender<Input>, input: Input) {
    if inbox.try_send(input).is_err() {
        tracing::error!("the session does not listen; something a pipeline said is lost");
    }
}

fn wish(source: &Source, picture: SourcePicture) -> PictureWish {
    match source {
        Source::Test { width, height, frames_per_second } => {
            PictureWish::Exact(Picture { width: *width, height: *height, frame_rate: (*frames_per_second, 1) })
        }
        Source::File { .. } | Source::V4l2 { .. } | Source::Lan { .. } => PictureWish::Fit(picture),
    }
}

fn bond_sink(start: &StartStreamer) -> BondSink {
    let sink = BondSink::new("bond");
    // The encoder sets the pace; waiting for the clock again would only add delay, and a full bond must not stop it.
    sink.set_property("sync", false);
    sink.set_property("async", false);
    sink.set_property("backpressure", false);
    sink.set_latency(Duration::from_millis(start.spec.latency_ms.into()));
    sink.set_passphrase(start.spec.key.reveal());
    for link in &start.links {
        sink.add_link(link_spec(link));
    }
    sink
}

fn link_spec(link: &StreamerLink) -> LinkSpec {
    LinkSpec {
        name: link.name.clone(),
        bind: link.bind,
        device: link.device.clone(),
        ..LinkSpec::new(link.link, link.remote)
    }
}
