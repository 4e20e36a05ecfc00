//! Orderly end on SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Says when the program should end; clone it into every task.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Starts listening for SIGTERM and SIGINT. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (trigger, shutdown) = Self::manual();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
            trigger.fire();
        });
        Ok(shutdown)
    }

    /// A shutdown that is fired by hand.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Completes when the program should end; at once if that was said already.
    pub async fn wait(&mut self) {
        // An error means the trigger is gone, which ends the program too.
        let _ = self.0.wait_for(|fired| *fired).await;
    }

    /// Whether the program should end.
    pub fn is_fired(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Fires a [`Shutdown`]; dropping it fires too.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Tells every holder of the [`Shutdown`] to end.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fired_or_dropped_trigger_ends_every_waiter() {
        let (trigger, mut first) = Shutdown::manual();
        let mut second = first.clone();
        assert!(!first.is_fired());
        trigger.fire();
        first.wait().await;
        drop(trigger);
        second.wait().await;
        let (trigger, dropped) = Shutdown::manual();
        drop(trigger);
        assert!(dropped.is_fired());
    }
}
