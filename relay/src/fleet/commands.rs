//! The commands of one device: pending until its final word or their deadline. Pure; time is an argument.

use protocol::command::{Command, Outcome};
use protocol::envelope::Envelope;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Commands remembered of one device, answered ones included; the oldest go first.
pub const PENDING_MAX: usize = 16;
/// After a command's validity the device still has this long to say so.
pub const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// One command.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its id.
    pub id: Uuid,
    /// "start stream", "stop stream", "change settings".
    pub what: &'static str,
    /// Who ordered it.
    pub by: String,
    /// When it was ordered, Unix milliseconds.
    pub at_ms: u64,
    /// The device's word so far.
    pub outcome: Option<Outcome>,
    /// Whether its deadline passed without a final word.
    pub overdue: bool,
    deadline: Instant,
    envelope: Envelope<Command>,
}

impl Pending {
    /// A command as it was sent.
    pub fn new(now: Instant, at_ms: u64, by: &str, envelope: &Envelope<Command>) -> Self {
        let valid = Duration::from_millis(u64::from(envelope.body.valid_for_ms()));
        Self {
            id: envelope.id,
            what: match envelope.body {
                Command::StartStream { .. } => "start stream",
                Command::StopStream { .. } => "stop stream",
                Command::ApplySettings { .. } => "change settings",
            },
            by: by.to_owned(),
            at_ms,
            outcome: None,
            overdue: false,
            deadline: now + valid + ANSWER_GRACE,
            envelope: envelope.clone(),
        }
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        self.overdue || self.outcome.as_ref().is_some_and(Outcome::is_final)
    }
}

/// The commands, oldest first.
#[derive(Debug, Default)]
pub struct Ledger {
    commands: VecDeque<Pending>,
}

impl Ledger {
    /// Adds a command, or renews the one with the same id.
    pub fn add(&mut self, command: Pending) {
        self.commands.retain(|known| known.id != command.id);
        if self.commands.len() >= PENDING_MAX {
            self.commands.pop_front();
        }
        self.commands.push_back(command);
    }

    /// Notes the device's word; whether the command is known. A word after the final one changes nothing.
    pub fn answer(&mut self, id: Uuid, outcome: Outcome) -> bool {
        let Some(command) = self.commands.iter_mut().find(|command| command.id == id) else { return false };
        if !command.outcome.as_ref().is_some_and(Outcome::is_final) {
            command.outcome = Some(outcome);
            command.overdue = false;
        }
        true
    }

    /// Marks commands whose deadline passed; gives each once.
    pub fn expire(&mut self, now: Instant) -> Vec<Uuid> {
        let late = self.commands.iter_mut().filter(|command| !command.is_over() && now >= command.deadline);
        late.map(|command| {
            command.overdue = true;
            command.id
        })
        .collect()
    }

    /// Commands that a device that was away may have missed.
    pub fn unanswered(&self, now: Instant) -> Vec<Envelope<Command>> {
        let open = self.commands.iter().filter(|it| it.outcome.is_none() && !it.overdue && now < it.deadline);
        open.map(|command| command.envelope.clone()).collect()
    }

    /// All of them.
    pub fn list(&self) -> Vec<Pending> {
        self.commands.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(now: Instant) -> Pending {
        let command = Command::StopStream { valid_for_ms: 1000, stream: "s-1".parse().unwrap() };
        Pending::new(now, 0, "admin", &Envelope::new(Uuid::now_v7(), 0, command))
    }

    #[test]
    fn a_command_is_pending_until_the_final_word() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let command = stop(now);
        let id = command.id;
        ledger.add(command);
        assert_eq!(ledger.unanswered(now).len(), 1);
        assert!(ledger.answer(id, Outcome::Accepted));
        assert!(ledger.unanswered(now).is_empty() && !ledger.list()[0].is_over());
        assert!(ledger.answer(id, Outcome::Done));
        assert!(ledger.answer(id, Outcome::Expired), "known, but the final word stands");
        assert_eq!(ledger.list()[0].outcome, Some(Outcome::Done));
        assert!(ledger.expire(now + Duration::from_mins(1)).is_empty());
        assert!(!ledger.answer(Uuid::now_v7(), Outcome::Done));
    }

    #[test]
    fn silence_is_told_once_after_the_deadline() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let command = stop(now);
        let id = command.id;
        ledger.add(command);
        let deadline = now + Duration::from_secs(1) + ANSWER_GRACE;
        assert!(ledger.expire(now + Duration::from_secs(3)).is_empty());
        assert_eq!(ledger.expire(deadline), [id]);
        assert!(ledger.expire(deadline).is_empty());
        assert!(ledger.list()[0].is_over());
    }

    #[test]
    fn the_ledger_is_bounded() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        for _ in 0..PENDING_MAX * 2 {
            ledger.add(stop(now));
        }
        assert_eq!(ledger.list().len(), PENDING_MAX);
    }
}
