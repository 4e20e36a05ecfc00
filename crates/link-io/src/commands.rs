//! What the users of a flow ask of its thread, between two of its turns.

use crate::queue::lock;
use std::sync::Mutex;

/// A wish that others may make needless.
pub(crate) trait Command {
    /// True when nothing is to be seen of `older` once this is done, and this may be done at its place.
    fn replaces(&self, older: &Self) -> bool;

    /// True when nothing is to be seen of `older` once this is done, in its own place.
    fn voids(&self, older: &Self) -> bool;

    /// True when this needs what `other` makes room for: it may not be done before it.
    fn follows(&self, _other: &Self) -> bool {
        false
    }
}

/// Commands on their way to the thread. None is lost however many come: of those that are one another's, the last counts.
#[derive(Debug)]
pub(crate) struct Commands<C> {
    /// In the order in which they are carried out.
    waiting: Mutex<Vec<C>>,
}

impl<C: Command> Commands<C> {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    pub(crate) fn push(&self, command: C) {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|older| !command.voids(older));
        match waiting.iter().position(|older| command.replaces(older)) {
            Some(place) if waiting[place..].iter().any(|other| command.follows(other)) => {
                waiting.remove(place);
                waiting.push(command);
            }
            Some(place) => waiting[place] = command,
            None => waiting.push(command),
        }
    }

    /// Everything that was asked for since the last call.
    pub(crate) fn take(&self) -> Vec<C> {
        std::mem::take(&mut *lock(&self.waiting))
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.waiting).is_empty()
    }
}
