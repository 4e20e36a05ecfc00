//! What the threads of both ends have in common: start, wake, stop, join.

use crate::error::OpenError;
use crate::waker::{self, Rhythm, Sleeper, Waker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A running flow thread; dropping it stops and joins it.
#[derive(Debug)]
pub(crate) struct FlowThread {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// How the users of a flow reach its thread.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) waker: Waker,
    stop: AtomicBool,
}

impl Signal {
    /// True once the thread must end without further ado.
    pub(crate) fn must_stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

impl FlowThread {
    /// A signal and the sleeper for the thread that will obey it.
    ///
    /// # Errors
    /// No file descriptor left.
    pub(crate) fn signal(rhythm: Rhythm) -> Result<(Arc<Signal>, Sleeper), OpenError> {
        let (waker, sleeper) =
            waker::pair(rhythm).map_err(|source| OpenError::System { what: "a pipe to wake its thread", source })?;
        Ok((Arc::new(Signal { waker, stop: AtomicBool::new(false) }), sleeper))
    }

    /// Starts `run` on a thread called `name` (at most 15 bytes are shown by the system).
    ///
    /// # Errors
    /// No thread left.
    pub(crate) fn start(
        name: &str,
        signal: Arc<Signal>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<Self, OpenError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|source| OpenError::System { what: "a thread", source })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    pub(crate) fn wake(&self) {
        self.signal.waker.wake();
    }

    /// Waits until the thread has ended by itself.
    pub(crate) fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            // A broken invariant of the engine: the process must not go on with half a flow.
            if !std::thread::panicking() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for FlowThread {
    fn drop(&mut self) {
        self.signal.stop.store(true, Ordering::SeqCst);
        self.signal.waker.wake();
        self.wait();
    }
}
