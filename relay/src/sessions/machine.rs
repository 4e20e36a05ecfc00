//! The life of one stream: pure. Events in, actions out; `now` is an argument.
//!
//! ```text
//! Starting --media--> OnAir <--media/no media--> Interrupted
//!    |                  |                            |
//!    +------stop--------+------------stop------------+--> Stopping --> Ended
//!    +--refused, unanswered, receiver hopeless-----------> Failed
//! ```
//! A dead receiver is started again on the same port with the same key, with growing pauses; the stream goes on.

use protocol::command::Outcome;
use protocol::state::Severity;
use std::time::Duration;
use units::Timestamp;

/// Receivers started in a row without media, before the stream is given up.
pub const RECEIVER_TRIES_MAX: u32 = 8;
/// Longest pause before the next receiver.
pub const RECEIVER_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a stopping device may take before its receiver is stopped all the same.
pub const DEVICE_STOP_WAIT: Duration = Duration::from_secs(4);
/// How long a receiver may take to drain before it is killed.
pub const RECEIVER_STOP_WAIT: Duration = Duration::from_secs(10);
/// How long a device may say "idle" during its stream before it is asked again. A stop pressed on the device arrives
/// well within this.
pub const IDLE_GRACE: Duration = Duration::from_secs(5);
/// After this long without media the operator is told where to look.
pub const START_PATIENCE: Duration = Duration::from_secs(15);

/// Where a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Receiver and device are being started; no media yet.
    Starting {
        /// Since when.
        since: Timestamp,
        /// Whether the device was asked.
        asked: bool,
        /// Whether the operator was told to look at the links.
        warned: bool,
    },
    /// Media arrives.
    OnAir {
        /// Since when.
        since: Timestamp,
    },
    /// Media arrived before, and does not now.
    Interrupted {
        /// Since when.
        since: Timestamp,
        /// Why, as far as known.
        cause: String,
    },
    /// Being ended.
    Stopping {
        /// Since when.
        since: Timestamp,
        /// On whose word.
        cause: String,
        /// When the receiver was told, if it was.
        told: Option<Timestamp>,
    },
    /// Ended as asked.
    Ended {
        /// On whose word.
        cause: String,
    },
    /// Given up.
    Failed {
        /// Why.
        reason: String,
        /// What to do.
        next_step: String,
    },
}

/// What happens to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The receiver listens and has no media.
    ReceiverReady,
    /// Media arrives.
    ReceiverReceiving,
    /// Media stopped arriving.
    ReceiverInterrupted,
    /// The receiver ended in order.
    ReceiverEnded,
    /// The receiver died, could not be started, or gave up.
    ReceiverLost {
        /// Why.
        cause: String,
    },
    /// The device's word on the start command; `None` when it did not answer in time.
    StartAnswered(Option<Outcome>),
    /// The device's final word on the stop command, or its silence.
    StopAnswered,
    /// The device reports this stream as being sent.
    DeviceSending,
    /// The device reports that it has no stream.
    DeviceIdle,
    /// The device reports that it gave this stream up.
    DeviceFailed {
        /// Why.
        reason: String,
        /// What to do.
        next_step: String,
    },
    /// Someone wants it ended.
    StopAsked {
        /// Who.
        by: String,
    },
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a receiver, or adopt the one that runs.
    StartReceiver {
        /// After this pause.
        after: Duration,
    },
    /// Send the device the start command.
    AskDevice,
    /// Send the device the stop command.
    StopDevice,
    /// Tell the receiver to drain and end.
    StopReceiver,
    /// Kill the receiver.
    KillReceiver,
    /// Add to the timeline.
    Note(Severity, String),
}

/// One stream's life.
#[derive(Debug)]
pub struct Machine {
    state: State,
    /// Receivers lost in a row.
    tries: u32,
    receiver_up: bool,
    idle_since: Option<Timestamp>,
    closing_since: Option<Timestamp>,
    /// The relay was away, and the receiver has not been heard yet.
    resumed: bool,
}

impl Machine {
    /// A new stream, with its first action.
    pub fn start(now: Timestamp) -> (Self, Vec<Action>) {
        let state = State::Starting { since: now, asked: false, warned: false };
        (Self::in_state(state), vec![Action::StartReceiver { after: Duration::ZERO }])
    }

    /// A stream that ran when the relay ended.
    pub fn resume(now: Timestamp, was_on_air: bool, stop_asked: Option<String>) -> (Self, Vec<Action>) {
        let cause = "the relay was restarted".to_owned();
        let state = match stop_asked {
            Some(by) => State::Stopping { since: now, cause: by, told: None },
            None if was_on_air => State::Interrupted { since: now, cause },
            None => State::Starting { since: now, asked: false, warned: false },
        };
        let note =
            Action::Note(Severity::Info, "the relay was restarted; looking for the stream's receiver".to_owned());
        let mut actions = vec![note, Action::StartReceiver { after: Duration::ZERO }];
        if matches!(state, State::Stopping { .. }) {
            actions.push(Action::StopDevice);
        }
        (Self { resumed: true, ..Self::in_state(state) }, actions)
    }

    fn in_state(state: State) -> Self {
        Self { state, tries: 0, receiver_up: false, idle_since: None, closing_since: None, resumed: false }
    }

    /// Where it is.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whether it ended or failed and nothing of it runs any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended { .. } | State::Failed { .. }) && !self.receiver_up
    }

    /// Takes in an event.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.track_receiver(&event);
        let mut actions = Vec::new();
        let state = std::mem::replace(&mut self.state, State::Ended { cause: String::new() });
        let had_failed = matches!(state, State::Failed { .. });
        let heard = matches!(
            event,
            Event::ReceiverReady | Event::ReceiverReceiving | Event::ReceiverInterrupted | Event::ReceiverLost { .. }
        );
        self.state = self.step(now, state, event, &mut actions);
        self.resumed &= !heard;
        if let State::Failed { reason, next_step } = &self.state {
            if !had_failed {
                actions.push(Action::Note(Severity::Error, format!("failed: {reason}; {next_step}")));
            }
            self.close(now, &mut actions);
        }
        actions
    }

    fn track_receiver(&mut self, event: &Event) {
        match event {
            Event::ReceiverReady | Event::ReceiverReceiving | Event::ReceiverInterrupted => self.receiver_up = true,
            Event::ReceiverEnded | Event::ReceiverLost { .. } => self.receiver_up = false,
            _ => {}
        }
        if matches!(event, Event::ReceiverReceiving) {
            self.tries = 0;
        }
    }

    /// The table of moves.
    fn step(&mut self, now: Timestamp, state: State, event: Event, actions: &mut Vec<Action>) -> State {
        use Event as E;
        use State as S;
        match (state, event) {
            // Ends are final.
            (over @ (S::Ended { .. } | S::Failed { .. }), _) => over,

            // Stopping: device first, so that nothing sends to a closed port; then the receiver drains.
            (S::Stopping { since, cause, told: None }, E::StopAnswered) => {
                actions.push(Action::StopReceiver);
                S::Stopping { since, cause, told: Some(now) }
            }
            (S::Stopping { since, cause, told: None }, E::Tick) if now.since(since) >= DEVICE_STOP_WAIT => {
                actions.push(Action::StopReceiver);
                S::Stopping { since, cause, told: Some(now) }
            }
            (S::Stopping { cause, told: Some(told), .. }, E::Tick) if now.since(told) >= RECEIVER_STOP_WAIT => {
                actions.push(Action::Note(Severity::Warning, "the receiver did not end and was killed".to_owned()));
                actions.push(Action::KillReceiver);
                self.receiver_up = false;
                S::Ended { cause }
            }
            // It came up after it was told: it did not hear that.
            (
                S::Stopping { since, cause, told: Some(told) },
                E::ReceiverReady | E::ReceiverReceiving | E::ReceiverInterrupted,
            ) => {
                actions.push(Action::StopReceiver);
                S::Stopping { since, cause, told: Some(told) }
            }
            (S::Stopping { cause, .. }, E::ReceiverEnded | E::ReceiverLost { .. }) => S::Ended { cause },
            (stopping @ S::Stopping { .. }, _) => stopping,

            // Stop, from anywhere.
            (S::Starting { asked, .. }, E::StopAsked { by }) => {
                Self::stop(now, by, if asked { StopOrder::DeviceFirst } else { StopOrder::ReceiverOnly }, actions)
            }
            (S::OnAir { .. } | S::Interrupted { .. }, E::StopAsked { by }) => {
                Self::stop(now, by, StopOrder::DeviceFirst, actions)
            }

            // Media.
            (S::Starting { .. }, E::ReceiverReceiving) => {
                actions.push(Action::Note(Severity::Info, "on air: media arrives at the relay".to_owned()));
                S::OnAir { since: now }
            }
            (S::Interrupted { .. }, E::ReceiverReceiving) if self.resumed => {
                let text = "still on air: media kept arriving while the relay was away".to_owned();
                actions.push(Action::Note(Severity::Info, text));
                S::OnAir { since: now }
            }
            (S::Interrupted { since, .. }, E::ReceiverReceiving) => {
                let seconds = now.since(since).as_secs_f64();
                actions.push(Action::Note(Severity::Info, format!("on air again after {seconds:.1} s")));
                S::OnAir { since: now }
            }
            (S::OnAir { .. } | S::Starting { .. }, E::ReceiverInterrupted) => {
                Self::interrupt(now, "no media arrives from the device".to_owned(), actions)
            }

            // The receiver listens: now the device may be asked.
            (S::Starting { since, asked: false, warned }, E::ReceiverReady) => {
                actions.push(Action::AskDevice);
                S::Starting { since, asked: true, warned }
            }

            // The receiver is gone: the same again, unless it is hopeless.
            (state, E::ReceiverLost { cause }) => self.lost(now, state, &cause, actions),
            (state, E::ReceiverEnded) => self.lost(now, state, "it ended unasked", actions),

            // The device's word on the start.
            (S::Starting { .. }, E::StartAnswered(Some(Outcome::Rejected { detail, .. }))) => S::Failed {
                reason: format!("the device refused: {detail}"),
                next_step: "put right what the device names, then start again".to_owned(),
            },
            (S::Starting { .. }, E::StartAnswered(Some(Outcome::Expired))) => S::Failed {
                reason: "the start order reached the device too late".to_owned(),
                next_step: "check the device's control link, then start again".to_owned(),
            },
            (S::Starting { .. }, E::StartAnswered(None)) => {
                actions.push(Action::StopDevice);
                S::Failed {
                    reason: "the device did not answer the start order in time".to_owned(),
                    next_step: "check that the device is online, then start again".to_owned(),
                }
            }
            (state, E::StartAnswered(Some(Outcome::Rejected { detail, .. }))) => {
                actions.push(Action::Note(Severity::Warning, format!("the device refused to go on: {detail}")));
                state
            }
            (state, E::StartAnswered(Some(Outcome::Accepted))) => {
                actions.push(Action::Note(Severity::Info, "the device accepted and starts its encoder".to_owned()));
                state
            }
            (state, E::StartAnswered(Some(Outcome::Done))) => {
                actions.push(Action::Note(Severity::Info, "the device is sending".to_owned()));
                state
            }

            // The device's state.
            (S::Starting { .. }, E::DeviceFailed { reason, next_step }) => S::Failed { reason, next_step },
            (S::OnAir { .. } | S::Interrupted { .. }, E::DeviceFailed { reason, next_step }) => {
                let text = format!("the device gave up: {reason}; {next_step}");
                actions.push(Action::Note(Severity::Error, text));
                S::Interrupted { since: now, cause: format!("{reason}; {next_step}") }
            }
            (state, E::DeviceSending) => {
                self.idle_since = None;
                state
            }
            (state @ (S::OnAir { .. } | S::Interrupted { .. }), E::DeviceIdle) => {
                self.idle_since.get_or_insert(now);
                state
            }
            (state @ (S::OnAir { .. } | S::Interrupted { .. }), E::Tick)
                if self.idle_since.is_some_and(|since| now.since(since) >= IDLE_GRACE) =>
            {
                let text = "the device has lost the stream (restarted?); it was asked to go on".to_owned();
                actions.push(Action::Note(Severity::Warning, text));
                actions.push(Action::AskDevice);
                self.idle_since = None;
                state
            }
            (S::Starting { since, asked, warned: false }, E::Tick) if now.since(since) >= START_PATIENCE => {
                let text =
                    "still no media: check the device's links and that the relay's UDP ports are open".to_owned();
                actions.push(Action::Note(Severity::Warning, text));
                S::Starting { since, asked, warned: true }
            }

            // Nothing new.
            (
                state,
                E::ReceiverReady
                | E::ReceiverReceiving
                | E::ReceiverInterrupted
                | E::StartAnswered(_)
                | E::StopAnswered
                | E::DeviceIdle
                | E::Tick,
            ) => state,
        }
    }

    fn interrupt(now: Timestamp, cause: String, actions: &mut Vec<Action>) -> State {
        actions.push(Action::Note(Severity::Warning, format!("interrupted: {cause}")));
        State::Interrupted { since: now, cause }
    }

    fn stop(now: Timestamp, by: String, order: StopOrder, actions: &mut Vec<Action>) -> State {
        actions.push(Action::Note(Severity::Info, format!("stop asked for by {by}")));
        // Also to a device that may not have been asked yet: ending what does not run is done, not an error.
        actions.push(Action::StopDevice);
        let told = match order {
            StopOrder::DeviceFirst => None,
            StopOrder::ReceiverOnly => {
                actions.push(Action::StopReceiver);
                Some(now)
            }
        };
        State::Stopping { since: now, cause: by, told }
    }

    fn lost(&mut self, now: Timestamp, state: State, cause: &str, actions: &mut Vec<Action>) -> State {
        self.tries += 1;
        if self.tries >= RECEIVER_TRIES_MAX {
            actions.push(Action::StopDevice);
            return State::Failed {
                reason: format!("the receiver process failed {} times in a row: {cause}", self.tries),
                next_step: "see the stream's receiver.log on the relay, then start again".to_owned(),
            };
        }
        let after = match self.tries {
            1 => Duration::ZERO,
            tries => Duration::from_millis(250 << (tries - 2)).min(RECEIVER_PAUSE_MAX),
        };
        actions.push(Action::Note(
            Severity::Warning,
            format!("the receiver process is gone ({cause}); starting it again"),
        ));
        actions.push(Action::StartReceiver { after });
        match state {
            State::OnAir { .. } => {
                State::Interrupted { since: now, cause: "the receiver process is started again".to_owned() }
            }
            state => state,
        }
    }

    /// After a failure the receiver is told to end, and killed when it does not.
    fn close(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        match self.closing_since {
            _ if !self.receiver_up => {}
            None => {
                self.closing_since = Some(now);
                actions.push(Action::StopReceiver);
            }
            Some(since) if now.since(since) >= RECEIVER_STOP_WAIT => {
                actions.push(Action::KillReceiver);
                self.receiver_up = false;
            }
            Some(_) => {}
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum StopOrder {
    DeviceFirst,
    ReceiverOnly,
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::command::Rejection;

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_micros((seconds * 1e6) as u64)
    }

    /// Runs `script` of (seconds, event) and gives the machine and all actions but notes.
    fn run(machine: (Machine, Vec<Action>), script: &[(f64, Event)]) -> (Machine, Vec<Action>) {
        let (mut machine, mut actions) = machine;
        for (seconds, event) in script {
            actions.extend(machine.handle(at(*seconds), event.clone()));
        }
        actions.retain(|action| !matches!(action, Action::Note(..)));
        (machine, actions)
    }

    fn started() -> (Machine, Vec<Action>) {
        Machine::start(at(0.0))
    }

    fn lost() -> Event {
        Event::ReceiverLost { cause: "killed".to_owned() }
    }

    fn stop_asked() -> Event {
        Event::StopAsked { by: "admin".to_owned() }
    }

    const NOW: Action = Action::StartReceiver { after: Duration::ZERO };

    #[test]
    fn a_stream_goes_on_air_and_ends_device_first() {
        let script = [
            (0.1, Event::ReceiverReady),
            (0.2, Event::StartAnswered(Some(Outcome::Accepted))),
            (0.8, Event::StartAnswered(Some(Outcome::Done))),
            (1.0, Event::ReceiverReceiving),
        ];
        let (machine, actions) = run(started(), &script);
        assert_eq!(actions, [NOW, Action::AskDevice]);
        assert_eq!(machine.state(), &State::OnAir { since: at(1.0) });
        let (machine, actions) =
            run((machine, vec![]), &[(9.0, stop_asked()), (9.2, Event::StopAnswered), (9.5, Event::ReceiverEnded)]);
        assert_eq!(actions, [Action::StopDevice, Action::StopReceiver]);
        assert_eq!(machine.state(), &State::Ended { cause: "admin".to_owned() });
        assert!(machine.is_over());
    }

    #[test]
    fn the_device_is_asked_only_once_the_receiver_listens_and_only_once() {
        let (_, actions) =
            run(started(), &[(0.1, Event::Tick), (1.0, Event::ReceiverReady), (1.1, Event::ReceiverReady)]);
        assert_eq!(actions, [NOW, Action::AskDevice]);
    }

    #[test]
    fn a_dead_receiver_is_started_again_and_the_stream_goes_on() {
        let script = [(0.1, Event::ReceiverReady), (1.0, Event::ReceiverReceiving), (5.0, lost())];
        let (machine, actions) = run(started(), &script);
        assert_eq!(actions, [NOW, Action::AskDevice, NOW], "the device is not asked again, its bond goes on");
        assert!(matches!(machine.state(), State::Interrupted { .. }));
        let (machine, _) = run((machine, vec![]), &[(5.2, Event::ReceiverReady), (5.9, Event::ReceiverReceiving)]);
        assert_eq!(machine.state(), &State::OnAir { since: at(5.9) });
    }

    #[test]
    fn a_receiver_that_never_lives_fails_the_stream_after_growing_pauses() {
        let script: Vec<_> = (0..RECEIVER_TRIES_MAX).map(|i| (f64::from(i), lost())).collect();
        let (machine, actions) = run(started(), &script);
        let pauses: Vec<_> = actions
            .iter()
            .filter_map(|it| if let Action::StartReceiver { after } = it { Some(after.as_millis()) } else { None })
            .collect();
        assert_eq!(pauses, [0, 0, 250, 500, 1000, 2000, 4000, 5000]);
        assert!(matches!(machine.state(), State::Failed { .. }) && machine.is_over());
    }

    #[test]
    fn a_refusal_fails_the_stream_with_the_devices_reason_and_ends_the_receiver() {
        let refusal = Outcome::Rejected { reason: Rejection::NoInput, detail: "HDMI: no signal".to_owned() };
        let script = [(0.1, Event::ReceiverReady), (0.3, Event::StartAnswered(Some(refusal)))];
        let (machine, actions) = run(started(), &script);
        assert_eq!(actions, [NOW, Action::AskDevice, Action::StopReceiver]);
        assert!(matches!(machine.state(), State::Failed { reason, .. } if reason.contains("HDMI: no signal")));
        assert!(!machine.is_over(), "the receiver still runs");
        let (machine, actions) = run((machine, vec![]), &[(11.0, Event::Tick)]);
        assert_eq!(actions, [Action::KillReceiver], "a receiver that does not end is killed");
        assert!(machine.is_over());
    }

    #[test]
    fn silence_of_the_device_fails_the_start_and_takes_the_order_back() {
        let (machine, actions) = run(started(), &[(0.1, Event::ReceiverReady), (18.0, Event::StartAnswered(None))]);
        assert_eq!(actions, [NOW, Action::AskDevice, Action::StopDevice, Action::StopReceiver]);
        assert!(matches!(machine.state(), State::Failed { .. }));
    }

    #[test]
    fn a_stop_works_without_the_device_and_without_the_receivers_help() {
        let script = [
            (0.1, Event::ReceiverReady),
            (1.0, Event::ReceiverReceiving),
            (2.0, stop_asked()),
            (5.9, Event::Tick),
            (6.0, Event::Tick),
            (15.9, Event::Tick),
            (16.0, Event::Tick),
        ];
        let (machine, actions) = run(started(), &script);
        assert_eq!(actions, [NOW, Action::AskDevice, Action::StopDevice, Action::StopReceiver, Action::KillReceiver]);
        assert!(machine.is_over());
    }

    #[test]
    fn a_device_that_lost_the_stream_is_asked_again_but_not_one_that_stopped_it() {
        let live = [(0.1, Event::ReceiverReady), (1.0, Event::ReceiverReceiving)];
        let (machine, _) = run(started(), &live);
        let (_, actions) = run((machine, vec![]), &[(2.0, Event::DeviceIdle), (6.9, Event::Tick), (7.0, Event::Tick)]);
        assert_eq!(actions, [Action::AskDevice]);
        let (machine, _) = run(started(), &live);
        let script = [(2.0, Event::DeviceIdle), (2.1, stop_asked()), (8.0, Event::Tick)];
        let (_, actions) = run((machine, vec![]), &script);
        assert_eq!(actions, [Action::StopDevice, Action::StopReceiver]);
    }

    #[test]
    fn a_restarted_relay_goes_on_where_the_stream_is() {
        let (mut machine, _) = Machine::resume(at(0.0), true, None);
        let notes = machine.handle(at(0.1), Event::ReceiverReceiving);
        assert!(matches!(&notes[..], [Action::Note(_, text)] if text.starts_with("still on air")), "{notes:?}");
        let (mut machine, _) = Machine::resume(at(0.0), true, None);
        machine.handle(at(0.1), Event::ReceiverReady);
        let notes = machine.handle(at(2.0), Event::ReceiverReceiving);
        assert!(matches!(&notes[..], [Action::Note(_, text)] if text == "on air again after 2.0 s"), "{notes:?}");
        let (machine, actions) = run(Machine::resume(at(0.0), true, None), &[(0.1, Event::ReceiverReceiving)]);
        assert_eq!((machine.state(), actions), (&State::OnAir { since: at(0.1) }, vec![NOW]));
        let (_, actions) = run(Machine::resume(at(0.0), false, None), &[(0.1, Event::ReceiverReady)]);
        assert_eq!(actions, [NOW, Action::AskDevice]);
        let stopping = Machine::resume(at(0.0), true, Some("admin".to_owned()));
        let (machine, actions) = run(stopping, &[(4.0, Event::Tick), (4.5, Event::ReceiverEnded)]);
        assert_eq!(actions, [NOW, Action::StopDevice, Action::StopReceiver]);
        assert!(machine.is_over());
    }

    #[test]
    fn a_receiver_that_comes_up_after_the_stop_is_told_too() {
        let script = [(0.1, stop_asked()), (0.5, Event::ReceiverReady), (0.8, Event::ReceiverEnded)];
        let (machine, actions) = run(started(), &script);
        assert_eq!(actions, [NOW, Action::StopDevice, Action::StopReceiver, Action::StopReceiver]);
        assert!(machine.is_over());
    }

    #[test]
    fn ends_are_final() {
        let (machine, _) = run(started(), &[(0.1, stop_asked()), (0.2, lost()), (1.0, Event::ReceiverReceiving)]);
        assert_eq!(machine.state(), &State::Ended { cause: "admin".to_owned() });
    }
}
