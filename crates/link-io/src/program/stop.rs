//! Ending a program by SIGINT or SIGTERM.

use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What comes so soon after the first signal is the same wish: `timeout` signals the program and then its group.
const SAME_WISH: Duration = Duration::from_millis(200);

/// True once the program was asked to end.
#[derive(Debug, Clone)]
pub struct Stop {
    in_order: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Catches both signals from now on. Call it before any thread is started: threads inherit what is blocked.
    ///
    /// A signal ends the process at once, until [`Stop::in_order`] is called.
    ///
    /// # Errors
    /// The system refuses to block signals or to start a thread.
    pub fn catch() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let stop = Self { in_order: Arc::default(), asked: Arc::default() };
        let Self { in_order, asked } = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut asked_at: Option<Instant> = None;
            while let Ok(signal) = signals.wait() {
                let again = asked_at.is_some_and(|at| at.elapsed() >= SAME_WISH);
                if again || !in_order.load(Ordering::SeqCst) {
                    std::process::exit(128 + signal as i32);
                }
                asked_at.get_or_insert_with(Instant::now);
                asked.store(true, Ordering::SeqCst);
            }
        })?;
        Ok(stop)
    }

    /// From now on the first signal asks and only the second ends the process: the caller looks at [`Stop::asked`], and waits for
    /// nothing for long.
    pub fn in_order(&self) {
        self.in_order.store(true, Ordering::SeqCst);
    }

    /// Whether to end now.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}
