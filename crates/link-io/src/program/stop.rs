//! Ending a program by SIGINT or SIGTERM.

use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// True once the program was asked to end.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Catches both signals from now on. Call it before any thread is started: threads inherit what is blocked.
    ///
    /// The first signal asks, the second ends the process at once.
    ///
    /// # Errors
    /// The system refuses to block signals or to start a thread.
    pub fn catch() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let asked = Arc::new(AtomicBool::new(false));
        let stop = Self { asked: Arc::clone(&asked) };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                if asked.swap(true, Ordering::SeqCst) {
                    std::process::exit(128 + signal as i32);
                }
            }
        })?;
        Ok(stop)
    }

    /// Whether to end now.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}
