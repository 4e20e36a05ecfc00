//! The outputs of a stream: each with its own bounded queue, task or thread, state, and retries, so that one that is
//! stuck never touches the others.

pub mod backoff;
pub mod files;
pub mod hls;
pub mod queue;
pub mod recording;
pub mod rtmp;
pub mod srt;
pub mod status;
pub mod wall_clock;

use crate::media::unit::Unit;
use protocol::state::OutputStatus;
use protocol::worker::receiver::{OutputSpec, OutputTarget};
use queue::{Feed, Feeder, Item, Raw};
use status::StatusCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A running output.
#[derive(Debug)]
pub struct Output {
    spec: OutputSpec,
    feeder: Option<Feeder>,
    wants: Wants,
    status: StatusCell,
    done: oneshot::Receiver<()>,
}

/// What an output is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Units,
    Packets,
}

impl Output {
    /// Starts an output; call it inside a tokio runtime. `directory` is the stream's.
    pub fn start(spec: OutputSpec, directory: &Path) -> Self {
        let (feeder, feed) = queue::queue();
        let status = StatusCell::new(&spec.id, &spec.name);
        let (finished, done) = oneshot::channel();
        let own_status = status.clone();
        let mut wants = Wants::Units;
        match &spec.target {
            OutputTarget::Hls => {
                let directory = directory.join("hls");
                spawn_thread("hls", &status, finished, feed, move |feed| hls::run(directory, feed, &own_status));
            }
            OutputTarget::Recording => {
                wants = Wants::Packets;
                let directory = directory.join("recording");
                spawn_thread("recording", &status, finished, feed, move |feed| {
                    recording::run(directory, feed, &own_status);
                });
            }
            OutputTarget::Rtmp { url, key } => {
                let (url, key) = (url.clone(), key.clone());
                tokio::spawn(async move {
                    rtmp::run(&url, &key, feed, &own_status).await;
                    let _ = finished.send(());
                });
            }
            OutputTarget::Srt { url, passphrase } => {
                let (url, passphrase) = (url.clone(), passphrase.clone());
                spawn_thread("srt", &status, finished, feed, move |feed| {
                    srt::run(&url, &passphrase, feed, &own_status);
                });
            }
        }
        Self { spec, feeder: Some(feeder), wants, status, done }
    }

    /// What it was started with.
    pub fn spec(&self) -> &OutputSpec {
        &self.spec
    }

    /// Feeds a unit, if the output takes units.
    pub fn push_unit(&mut self, unit: &Arc<Unit>) {
        if self.wants == Wants::Units {
            self.push(Item::Unit { unit: Arc::clone(unit), after_gap: false });
        }
    }

    /// Feeds packets, if the output takes packets.
    pub fn push_raw(&mut self, raw: &Raw) {
        if self.wants == Wants::Packets {
            self.push(Item::Raw(raw.clone()));
        }
    }

    /// Tells that time passes.
    pub fn tick(&mut self) {
        self.push(Item::Tick);
    }

    fn push(&mut self, item: Item) {
        if let Some(feeder) = &mut self.feeder {
            feeder.push(item);
        }
    }

    /// How it stands; call it about once a second.
    pub fn report(&self, now: Instant) -> OutputStatus {
        self.status.report(now)
    }

    /// Sentences about changes since the last call.
    pub fn take_changes(&self) -> Vec<String> {
        self.status.take_changes()
    }

    /// Ends it: what is queued is still delivered, for at most `limit`. False when it did not end in time; it is then
    /// left to itself.
    pub async fn finish(mut self, limit: Duration) -> bool {
        self.feeder = None;
        tokio::time::timeout(limit, &mut self.done).await.is_ok()
    }
}

/// Runs an output that blocks in a thread of its own.
fn spawn_thread(
    name: &str,
    status: &StatusCell,
    finished: oneshot::Sender<()>,
    feed: Feed,
    run: impl FnOnce(Feed) + Send + 'static,
) {
    let body = move || {
        run(feed);
        let _ = finished.send(());
    };
    if let Err(error) = std::thread::Builder::new().name(format!("output-{name}")).spawn(body) {
        status.failed(&format!("the system has no thread left ({error}): the machine is overloaded"));
    }
}
