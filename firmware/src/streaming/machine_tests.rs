//! Goal: every promise of the machine, in virtual time. Method: a rig that answers for the world, step by step.

use super::*;
use protocol::Secret;
use protocol::stream::{EncodingSpec, ReceiverAddress};

fn spec(stream: &str) -> Box<StreamSpec> {
    Box::new(StreamSpec {
        stream: stream.parse().unwrap(),
        receiver: ReceiverAddress { host: "relay.example".to_owned(), port: 5000 },
        key: Secret::new("key"),
        latency_ms: 1000,
        encoding: EncodingSpec::default(),
        input: None,
        outputs: Vec::new(),
    })
}

fn id(stream: &str) -> StreamId {
    stream.parse().unwrap()
}

fn running() -> StreamerState {
    StreamerState::Running { for_ms: 0, encoder: "x264enc".to_owned() }
}

fn failed(retry: bool) -> StreamerState {
    StreamerState::Failed {
        reason: "no frame from the camera".to_owned(),
        next_step: "check the cable".to_owned(),
        retry,
    }
}

#[derive(Default)]
struct Rig {
    machine: Machine,
    now: Timestamp,
}

impl Rig {
    fn event(&mut self, event: Event) -> Vec<Action> {
        self.machine.handle(self.now, event);
        std::iter::from_fn(|| self.machine.poll_action()).collect()
    }

    fn worker(&mut self, event: WorkerEvent) -> Vec<Action> {
        let generation = self.machine.generation;
        self.event(Event::Worker { generation, event })
    }

    fn attached(&mut self) -> Vec<Action> {
        self.worker(WorkerEvent::Attached { stream: None, state: StreamerState::Waiting })
    }

    fn gone(&mut self) -> Vec<Action> {
        self.worker(WorkerEvent::Gone { reason: "the streamer ended (signal: 9)".to_owned() })
    }

    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        self.now += duration;
        self.event(Event::Tick)
    }

    /// Goes to the machine's next timeout and gives the time that took.
    fn wait_for_timeout(&mut self) -> (Duration, Vec<Action>) {
        let before = self.now;
        self.now = self.machine.poll_timeout().expect("a timeout");
        (self.now - before, self.event(Event::Tick))
    }

    fn bring_to_sending(&mut self, stream: &str) {
        self.event(Event::Start(spec(stream)));
        self.event(Event::Resolved);
        self.attached();
        self.worker(WorkerEvent::State(running()));
        assert!(self.machine.is_sending(&id(stream)));
    }

    fn report(&self) -> StreamingState {
        self.machine.report(self.now)
    }
}

#[test]
fn a_stream_goes_from_the_order_to_sending_and_back_to_idle() {
    let mut rig = Rig::default();
    let actions = rig.event(Event::Start(spec("s")));
    assert_eq!(actions, [Action::Remember(spec("s")), Action::Resolve { host: "relay.example".to_owned() }]);
    assert_eq!(rig.report(), StreamingState::Starting { stream: id("s") });
    assert_eq!(rig.event(Event::Resolved), [Action::Launch { generation: 1, mode: LaunchMode::Spawn }]);
    assert_eq!(rig.attached(), [Action::SendStart(spec("s"))]);
    assert_eq!(rig.worker(WorkerEvent::State(StreamerState::Opening)), []);
    let actions = rig.worker(WorkerEvent::State(running()));
    assert_eq!(actions, [Action::Reached(Milestone::Sending { stream: id("s") })]);
    rig.now += Duration::from_secs(7);
    assert_eq!(rig.report(), StreamingState::Sending { stream: id("s"), for_ms: 7000 });
    assert_eq!(rig.event(Event::Stop), [Action::Forget, Action::SendStop]);
    assert_eq!(rig.report(), StreamingState::Stopping { stream: id("s") });
    assert_eq!(rig.worker(WorkerEvent::State(StreamerState::Ended)), []);
    assert_eq!(rig.gone(), [Action::Reached(Milestone::Ended { stream: id("s") })]);
    assert_eq!(rig.report(), StreamingState::Idle);
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn a_killed_streamer_is_back_after_half_a_second_and_sends_again() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    assert_eq!(rig.gone(), []);
    let StreamingState::Recovering { reason, attempt: 1, .. } = rig.report() else { panic!("{:?}", rig.report()) };
    assert!(reason.contains("signal: 9"), "{reason}");
    let (waited, actions) = rig.wait_for_timeout();
    assert_eq!(waited, RETRY_WAIT_MIN);
    assert_eq!(actions, [Action::Resolve { host: "relay.example".to_owned() }]);
    assert_eq!(rig.event(Event::Resolved), [Action::Launch { generation: 2, mode: LaunchMode::Spawn }]);
    assert_eq!(rig.attached(), [Action::SendStart(spec("s"))]);
    rig.worker(WorkerEvent::State(running()));
    assert!(rig.machine.is_sending(&id("s")));
}

#[test]
fn a_stream_that_was_sent_is_brought_back_for_ever_with_growing_waits() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    rig.gone();
    let mut waits = Vec::new();
    for _ in 0..20 {
        let (waited, _) = rig.wait_for_timeout();
        waits.push(waited.as_millis());
        rig.event(Event::Resolved);
        rig.gone();
    }
    assert_eq!(waits[..6], [500, 1000, 2000, 4000, 4000, 4000]);
    assert!(matches!(rig.report(), StreamingState::Recovering { attempt: 21, .. }), "{:?}", rig.report());
}

#[test]
fn a_calm_stretch_counts_the_tries_anew_and_a_short_one_does_not() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    for (calm, attempt) in [(Duration::ZERO, 1), (Duration::from_secs(5), 2), (CALM_AFTER, 1)] {
        rig.now += calm;
        rig.gone();
        let StreamingState::Recovering { attempt: got, .. } = rig.report() else { panic!() };
        assert_eq!(got, attempt, "after {calm:?}");
        rig.wait_for_timeout();
        rig.event(Event::Resolved);
        rig.attached();
        rig.worker(WorkerEvent::State(running()));
    }
}

#[test]
fn a_stream_that_never_ran_is_given_up_after_the_bound() {
    let mut rig = Rig::default();
    rig.event(Event::Start(spec("s")));
    let mut last = Vec::new();
    for attempt in 1..=START_ATTEMPTS_MAX {
        rig.event(Event::Resolved);
        last = rig.gone();
        if attempt < START_ATTEMPTS_MAX {
            rig.wait_for_timeout();
        }
    }
    assert!(matches!(&last[..], [Action::Forget, Action::Reached(Milestone::Failed { .. })]), "{last:?}");
    assert!(matches!(rig.report(), StreamingState::Failed { .. }));
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn a_fault_that_trying_again_cannot_mend_fails_at_once_and_stays_until_the_next_start() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    let actions = rig.worker(WorkerEvent::State(failed(false)));
    assert!(matches!(&actions[..], [Action::Kill, Action::Forget, Action::Reached(Milestone::Failed { .. })]));
    rig.gone();
    rig.wait(Duration::from_hours(1));
    let StreamingState::Failed { reason, next_step, .. } = rig.report() else { panic!() };
    assert_eq!((reason.as_str(), next_step.as_str()), ("no frame from the camera", "check the cable"));
    assert_eq!(rig.machine.can_start(&id("t")), Ok(()));
    rig.event(Event::Start(spec("t")));
    assert_eq!(rig.report(), StreamingState::Starting { stream: id("t") });
}

#[test]
fn a_fault_that_may_pass_is_tried_again() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    assert_eq!(rig.worker(WorkerEvent::State(failed(true))), [Action::Kill]);
    assert!(matches!(rig.report(), StreamingState::Recovering { .. }));
    assert_eq!(rig.gone(), [], "the end of the killed process changes nothing");
    assert!(matches!(rig.report(), StreamingState::Recovering { attempt: 1, .. }));
}

#[test]
fn each_step_has_a_time_limit() {
    let mut rig = Rig::default();
    rig.event(Event::Start(spec("s")));
    assert_eq!(rig.wait_for_timeout(), (RESOLVE_TIME_MAX, vec![]));
    rig.wait_for_timeout();
    rig.event(Event::Resolved);
    assert_eq!(rig.wait_for_timeout(), (LAUNCH_TIME_MAX, vec![Action::Kill]));
    rig.wait_for_timeout();
    rig.event(Event::Resolved);
    rig.attached();
    assert_eq!(rig.wait_for_timeout(), (OPEN_TIME_MAX, vec![Action::Kill]));
    assert!(matches!(rig.report(), StreamingState::Recovering { attempt: 3, .. }));
}

#[test]
fn a_silent_streamer_hangs_and_a_talking_one_does_not() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    for _ in 0..30 {
        assert_eq!(rig.wait(Duration::from_secs(1)), []);
        rig.worker(WorkerEvent::Heard);
    }
    let (silent, actions) = rig.wait_for_timeout();
    assert_eq!((silent, actions), (SILENCE_TIME_MAX, vec![Action::Kill]));
    assert!(matches!(rig.report(), StreamingState::Recovering { .. }));
}

#[test]
fn a_streamer_that_will_not_end_is_killed_and_then_given_up() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    rig.event(Event::Stop);
    assert_eq!(rig.wait_for_timeout(), (STOP_TIME_MAX, vec![Action::Kill]));
    assert!(matches!(rig.report(), StreamingState::Stopping { .. }));
    let (_, actions) = rig.wait_for_timeout();
    assert_eq!(actions, [Action::Reached(Milestone::Ended { stream: id("s") })]);
    assert_eq!(rig.report(), StreamingState::Idle);
}

#[test]
fn stop_ends_every_state() {
    type Case = (&'static str, fn(&mut Rig));
    let prepare: [Case; 6] = [
        ("resolving", |rig| drop(rig.event(Event::Start(spec("s"))))),
        ("launching", |rig| {
            rig.event(Event::Start(spec("s")));
            rig.event(Event::Resolved);
        }),
        ("opening", |rig| {
            rig.event(Event::Start(spec("s")));
            rig.event(Event::Resolved);
            rig.attached();
        }),
        ("waiting", |rig| {
            rig.bring_to_sending("s");
            rig.gone();
        }),
        ("sending", |rig| rig.bring_to_sending("s")),
        ("failed", |rig| {
            rig.bring_to_sending("s");
            rig.worker(WorkerEvent::State(failed(false)));
        }),
    ];
    for (name, prepare) in prepare {
        let mut rig = Rig::default();
        prepare(&mut rig);
        let mut actions = rig.event(Event::Stop);
        actions.extend(rig.gone());
        assert!(actions.contains(&Action::Reached(Milestone::Ended { stream: id("s") })), "{name}: {actions:?}");
        assert_eq!(rig.report(), StreamingState::Idle, "{name}");
    }
}

#[test]
fn one_stream_at_a_time_and_the_same_order_twice_is_one() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    assert_eq!(rig.machine.can_start(&id("t")), Err(Busy { stream: id("s"), what: "being sent" }));
    assert_eq!(rig.event(Event::Start(spec("t"))), []);
    let again = rig.event(Event::Start(spec("s")));
    assert_eq!(again, [Action::Reached(Milestone::Sending { stream: id("s") })]);
    rig.event(Event::Stop);
    assert_eq!(rig.machine.can_start(&id("s")), Err(Busy { stream: id("s"), what: "being ended" }));
}

#[test]
fn events_of_an_earlier_process_are_ignored() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    rig.gone();
    rig.wait_for_timeout();
    rig.event(Event::Resolved);
    rig.attached();
    let late = Event::Worker { generation: 1, event: WorkerEvent::Gone { reason: "late".to_owned() } };
    assert_eq!(rig.event(late), []);
    rig.worker(WorkerEvent::State(running()));
    assert!(rig.machine.is_sending(&id("s")));
}

#[test]
fn a_restarted_agent_finds_its_streamer_and_goes_on() {
    let mut rig = Rig { now: Timestamp::from_millis(60_000), ..Rig::default() };
    let actions = rig.event(Event::Boot(Kept::Stream(spec("s"))));
    assert_eq!(actions, [Action::Launch { generation: 1, mode: LaunchMode::Attach }]);
    let state = StreamerState::Running { for_ms: 45_000, encoder: "x264enc".to_owned() };
    let actions = rig.worker(WorkerEvent::Attached { stream: Some(id("s")), state });
    assert_eq!(actions, [Action::SyncLinks, Action::Reached(Milestone::Sending { stream: id("s") })]);
    assert_eq!(rig.report(), StreamingState::Sending { stream: id("s"), for_ms: 45_000 });
}

#[test]
fn a_restarted_agent_restarts_a_streamer_that_died_with_it() {
    let mut rig = Rig::default();
    rig.event(Event::Boot(Kept::Stream(spec("s"))));
    rig.gone();
    rig.wait_for_timeout();
    assert_eq!(rig.event(Event::Resolved), [Action::Launch { generation: 2, mode: LaunchMode::Spawn }]);
    assert_eq!(rig.attached(), [Action::SendStart(spec("s"))]);
}

#[test]
fn a_streamer_found_without_a_record_is_ended_unless_the_record_was_damaged() {
    let found = || WorkerEvent::Attached { stream: Some(id("s")), state: running() };
    let mut rig = Rig::default();
    rig.event(Event::Boot(Kept::Nothing));
    assert_eq!(rig.worker(found()), [Action::Kill]);
    assert_eq!(rig.report(), StreamingState::Idle);

    let mut rig = Rig::default();
    rig.event(Event::Boot(Kept::Unreadable));
    rig.worker(found());
    assert!(rig.machine.is_sending(&id("s")));
    let actions = rig.gone();
    assert!(matches!(&actions[..], [Action::Forget, Action::Reached(Milestone::Failed { .. })]), "{actions:?}");
}

#[test]
fn a_streamer_of_another_stream_is_killed_before_ours_starts() {
    let mut rig = Rig::default();
    rig.event(Event::Start(spec("s")));
    rig.event(Event::Resolved);
    let actions = rig.worker(WorkerEvent::Attached { stream: Some(id("old")), state: running() });
    assert_eq!(actions, [Action::Kill]);
    rig.wait_for_timeout();
    rig.event(Event::Resolved);
    assert_eq!(rig.attached(), [Action::SendStart(spec("s"))]);
}

#[test]
fn what_is_missing_at_the_start_is_waited_for() {
    let mut rig = Rig::default();
    rig.bring_to_sending("s");
    rig.gone();
    rig.wait_for_timeout();
    rig.event(Event::Resolved);
    rig.attached();
    let reason = "no network is usable".to_owned();
    assert_eq!(rig.event(Event::CannotStart { reason: reason.clone() }), [Action::Kill]);
    assert_eq!(rig.report(), StreamingState::Recovering { stream: id("s"), reason, attempt: 2 });
}
