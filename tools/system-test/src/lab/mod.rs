//! A lab: relay, agent, emulated links and readers on this machine, all files below one directory.
//!
//! ```text
//! agent -> streamer -> 127.0.11.1 --link--> 127.0.0.1 receiver -> HLS, recording, RTMP reader, SRT reader
//!                      127.0.12.1 --link-->     |
//!                      127.0.13.1 --link-->   relay <- dashboard's HTTP
//! ```

mod files;
pub mod ports;
pub mod program;
pub mod usage;

use crate::dashboard::Dashboard;
use crate::dashboard::http::Http;
use crate::emulator::{EmulatedLink, Emulator, LinkFigures};
use anyhow::{Context as _, Result, bail};
use link_sim::{Capacity, LinkConfig};
use ports::Ports;
use program::{Found, Program, below, built, gone, signal};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// The user that a new relay has.
pub const USER: &str = "admin";
/// How long a program may take until it serves.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// How long an orderly end may take.
pub const END_TIME_MAX: Duration = Duration::from_secs(10);
/// How often an awaited change is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the device captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource {
    /// Moving pattern with running clock and tone.
    Test,
    /// A media file, looped.
    File(PathBuf),
    /// A camera on the device's network, by its address.
    Lan(String),
}

/// One modem of the device and the network behind it.
#[derive(Debug, Clone)]
pub struct LabLink {
    /// What people call it.
    pub name: String,
    /// Where the emulated link listens.
    pub gateway: IpAddr,
    /// Its operator.
    pub operator: String,
    /// "4G", "5G".
    pub technology: String,
    /// Middle of its signal strength, dBm.
    pub signal_dbm: f64,
    /// From the device to the relay.
    pub up: LinkConfig,
    /// From the relay to the device.
    pub down: LinkConfig,
}

impl LabLink {
    /// Modem `number` (from 1) with this uplink capacity and one-way delay; the downlink is roomy.
    pub fn modem(number: u8, operator: &str, technology: &str, capacity: Capacity, delay_ms: f64, loss: f64) -> Self {
        let jitter = LinkConfig { delay_ms, jitter_ms: delay_ms / 8.0, jitter_tau_ms: 200.0, ..LinkConfig::default() };
        Self {
            name: format!("Modem {number}"),
            gateway: IpAddr::from([127, 0, 10 + number, 1]),
            operator: operator.to_owned(),
            technology: technology.to_owned(),
            signal_dbm: -80.0 - 5.0 * f64::from(number),
            up: LinkConfig { capacity, loss, queue_bytes: 192_000, ..jitter.clone() },
            down: LinkConfig { capacity: Capacity::Constant { kbps: 20_000 }, loss: loss / 4.0, ..jitter },
        }
    }
}

/// What a lab is made of.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Where everything is written; must exist.
    pub directory: PathBuf,
    /// Where everything listens.
    pub ports: Ports,
    /// What the device captures.
    pub media: MediaSource,
    /// The device's modems.
    pub links: Vec<LabLink>,
    /// Latency budget, milliseconds.
    pub latency_ms: u32,
    /// Highest video bitrate, kbit/s.
    pub bitrate_max_kbps: u32,
}

/// A running lab. Dropping it kills whatever is left of it.
#[derive(Debug)]
pub struct Lab {
    options: LabOptions,
    /// The relay, while it runs.
    pub relay: Option<Program>,
    /// The agent, while it runs.
    pub agent: Option<Program>,
    /// The links.
    pub emulator: Emulator,
    /// The operator.
    pub dashboard: Dashboard,
}

impl Lab {
    /// Starts the relay, waits until it serves, logs in, and lays the links. No device yet.
    ///
    /// # Errors
    /// A program is not built, does not start, or refuses.
    pub async fn open(options: LabOptions) -> Result<Self> {
        let directory = &options.directory;
        for name in ["relay", "agent"] {
            private_directory(&directory.join(name))?;
        }
        write_private(&directory.join("relay.toml"), &files::relay(directory, &options))?;
        let agent = files::agent(directory, &options.ports, &options.media, &options.links);
        write_private(&directory.join("agent.toml"), &agent)?;
        let links = options.links.iter().enumerate().map(|(i, link)| EmulatedLink {
            name: link.name.clone(),
            gateway: link.gateway,
            up: link.up.clone(),
            down: link.down.clone(),
            seed: 1 + i as u64,
        });
        let emulator = Emulator::start(links.collect(), Ipv4Addr::LOCALHOST.into(), &options.ports.receivers())?;
        let dashboard = Dashboard::new(SocketAddr::from((Ipv4Addr::LOCALHOST, options.ports.dashboard)));
        let mut lab = Self { options, relay: None, agent: None, emulator, dashboard };
        lab.start_relay().await?;
        lab.log_in().await?;
        Ok(lab)
    }

    /// What the lab is made of.
    pub const fn options(&self) -> &LabOptions {
        &self.options
    }

    /// Starts the relay and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn start_relay(&mut self) -> Result<()> {
        let directory = &self.options.directory;
        let config = directory.join("relay.toml");
        let arguments = ["--config", utf8(&config)?];
        let (log, registry) = (directory.join("relay.log"), self.registry());
        let environment = [("GST_REGISTRY", registry.as_path())];
        let relay = Program::start_with(&built("strata-relay")?, &arguments, &log, &environment)?;
        let relay = self.relay.insert(relay);
        let deadline = Instant::now() + START_TIME_MAX;
        while !self.dashboard.is_healthy().await {
            relay.expect_running()?;
            if Instant::now() > deadline {
                bail!("the relay does not serve within {START_TIME_MAX:?}; its log ends:\n{}", relay.log_end());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        relay.expect_running() // another program may be answering on that port
    }

    /// GStreamer, in streamer and receiver, would keep its list of plug-ins in the user's home. Beside the lab the list also
    /// serves the next lab, which then need not look at every plug-in again.
    fn registry(&self) -> PathBuf {
        let directory = &self.options.directory;
        directory.parent().unwrap_or(directory).join("gstreamer-registry.bin")
    }

    /// The password that the relay made for its first user.
    ///
    /// # Errors
    /// There is none.
    pub fn password(&self) -> Result<String> {
        let path = self.options.directory.join("relay/initial-password.txt");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map(str::to_owned)
            .context("the password file is empty")
    }

    /// Logs in as the relay's first user.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn log_in(&mut self) -> Result<()> {
        let password = self.password()?;
        self.dashboard.log_in(USER, &password).await
    }

    /// Starts the agent; with a claim link it enrols by itself. Waits until its local page serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn start_agent(&mut self, claim_link: Option<&str>) -> Result<()> {
        let directory = &self.options.directory;
        let (config, claim) = (directory.join("agent.toml"), directory.join("claim-link"));
        let mut arguments = vec!["--config", utf8(&config)?];
        if let Some(link) = claim_link {
            write_private(&claim, link)?;
            arguments.extend(["--claim-file", utf8(&claim)?]);
        }
        let log = directory.join("agent.log");
        let registry = self.registry();
        let environment = [("GST_REGISTRY", registry.as_path())];
        let agent = Program::start_with(&built("strata-agent")?, &arguments, &log, &environment)?;
        self.agent = Some(agent);
        let deadline = Instant::now() + START_TIME_MAX;
        while let Err(error) = self.device_state().await {
            let agent = self.agent.as_mut().context("the agent is not running")?;
            agent.expect_running()?;
            if Instant::now() > deadline {
                return Err(error.context(format!("the agent does not serve; its log ends:\n{}", agent.log_end())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The device's own page as JSON.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn device_state(&self) -> Result<Value> {
        let answer = self.device_page().get("/api/v1/state").await?;
        if !answer.status.is_success() {
            bail!("the device page answers {}", answer.status);
        }
        answer.json()
    }

    /// The device's own page.
    pub fn device_page(&self) -> Http {
        Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.options.ports.local_page)))
    }

    /// Claims a device, starts the agent with the claim, waits until the relay sees it connected, gives its id.
    ///
    /// # Errors
    /// Any of it fails.
    pub async fn enrol(&mut self, name: &str) -> Result<String> {
        let known: Vec<String> = self.dashboard.devices().await?.iter().filter_map(device_id).collect();
        let link = self.dashboard.claim(name).await?;
        self.start_agent(Some(&link)).await?;
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            let devices = self.dashboard.devices().await?;
            let new = devices
                .iter()
                .find(|device| is_online(device) && device_id(device).is_some_and(|id| !known.contains(&id)));
            if let Some(id) = new.and_then(device_id) {
                return Ok(id);
            }
            let agent = self.agent.as_mut().context("the agent is not running")?;
            agent.expect_running()?;
            if Instant::now() > deadline {
                bail!(
                    "the device is not online within {START_TIME_MAX:?}: {devices:?}\nits log ends:\n{}",
                    agent.log_end()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes destinations for the two readers and gives their ids, RTMP first.
    ///
    /// # Errors
    /// The relay refuses.
    pub async fn add_readers_as_destinations(&mut self, key: &str) -> Result<[String; 2]> {
        let Ports { rtmp, srt, .. } = self.options.ports;
        let rtmp = json!({ "name": "RTMP reader", "kind": "rtmp", "url": format!("rtmp://127.0.0.1:{rtmp}/live"), "key": key });
        let srt = json!({ "name": "SRT reader", "kind": "srt", "url": format!("srt://127.0.0.1:{srt}") });
        Ok([self.dashboard.add_destination(&rtmp).await?, self.dashboard.add_destination(&srt).await?])
    }

    /// Waits until `wanted` is true of a stream and gives it.
    ///
    /// # Errors
    /// It does not come true within `limit`; the last state is told.
    pub async fn stream_until(
        &mut self,
        stream: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let state = self.dashboard.stream(stream).await;
            match state {
                Ok(state) if wanted(&state) => return Ok(state),
                Ok(state) if state["state"] == "failed" => bail!("waiting for {what}: the stream failed: {state}"),
                Ok(state) if Instant::now() > deadline => bail!("not {what} within {limit:?}: {state}"),
                Err(error) if Instant::now() > deadline => return Err(error.context(format!("not {what}"))),
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// A stream's directory.
    pub fn stream_directory(&self, stream: &str) -> PathBuf {
        self.options.directory.join("relay/streams").join(stream)
    }

    /// What each link carried.
    ///
    /// # Errors
    /// A link's task has ended.
    pub async fn link_figures(&self) -> Result<Vec<LinkFigures>> {
        let mut figures = Vec::with_capacity(self.options.links.len());
        for link in 0..self.options.links.len() {
            figures.push(self.emulator.figures(link).await?);
        }
        Ok(figures)
    }

    /// Programs of this lab that run now.
    pub fn processes(&self) -> Vec<Found> {
        below(&self.options.directory)
    }

    /// The process that serves a worker socket of this lab, by program name.
    pub fn worker(&self, program: &str) -> Option<u32> {
        self.processes().into_iter().find(|process| process.program == program).map(|process| process.pid)
    }

    /// Ends the agent, then the relay, in order; then nothing of the lab may be left.
    ///
    /// # Errors
    /// A program ended badly, or something outlived the lab (it is killed then).
    pub async fn close(mut self) -> Result<()> {
        let mut outcome = Ok(());
        for program in [self.agent.take(), self.relay.take()].into_iter().flatten() {
            let mut program = program;
            outcome = outcome.and(program.terminate(END_TIME_MAX).await);
        }
        let left = self.processes();
        for process in &left {
            if !gone(process.pid, END_TIME_MAX).await {
                outcome = outcome.and(Err(anyhow::anyhow!("left running: {} (pid {})", process.command, process.pid)));
            }
        }
        outcome
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop((self.agent.take(), self.relay.take()));
        for process in self.processes() {
            signal(process.pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// The device's id in an answer of the dashboard.
pub fn device_id(device: &Value) -> Option<String> {
    device["id"].as_str().map(str::to_owned)
}

/// Whether an answer of the dashboard calls the device connected.
pub fn is_online(device: &Value) -> bool {
    device["online"] == true
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

fn private_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))
        .with_context(|| format!("cannot protect {}", path.display()))
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
