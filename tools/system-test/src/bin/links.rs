//! `strata-links`: emulated cellular links by themselves, for a bench with one's own sender and receiver.
//!
//! ```text
//! strata-links --port 5000 --modem 5000,30,0.001 --modem 3000,45,0.01
//! ```
//! A sender reaches the receiver on 127.0.0.1:5000 by 127.0.11.1:5000 over the first link and by 127.0.12.1:5000 over the
//! second.

use anyhow::{Context as _, Result};
use clap::Parser;
use daemon::shutdown::Shutdown;
use link_sim::Capacity;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use system_test::emulator::{EmulatedLink, Emulator, cellular};
use system_test::lab::LabLink;

/// Most modems: their gateways are 127.0.11.1 to 127.0.18.1.
const MODEMS_MAX: usize = 8;

/// Emulates cellular links between a sender and a receiver on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// UDP port of the receiver; repeat for more.
    #[arg(long, required = true)]
    port: Vec<u16>,
    /// Address of the receiver.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    receiver: IpAddr,
    /// One link: mean kbit/s, one-way delay in ms, share of lost packets; repeat for more.
    #[arg(long, value_parser = parse_modem, default_values = ["5500,28,0.001", "3500,42,0.004", "2500,65,0.002"])]
    modem: Vec<Modem>,
    /// The rate stays at its mean, instead of moving as a cell's does.
    #[arg(long)]
    steady: bool,
    /// Seed of everything by chance.
    #[arg(long, default_value_t = 11)]
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Modem {
    mean_kbps: u64,
    delay_ms: f64,
    loss: f64,
}

fn parse_modem(text: &str) -> Result<Modem> {
    let form = || format!("{text:?} is not KBPS,DELAY_MS,LOSS");
    let mut fields = text.split(',');
    let mut field = || fields.next().with_context(form);
    let (mean_kbps, delay_ms, loss) = (field()?, field()?, field()?);
    Ok(Modem {
        mean_kbps: mean_kbps.parse().with_context(form)?,
        delay_ms: delay_ms.parse().with_context(form)?,
        loss: loss.parse().with_context(form)?,
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    daemon::log::init_at("warn");
    let mut shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let links = links(&arguments)?;
    for link in &links {
        println!("{}: {} ports {:?}", link.name, link.gateway, arguments.port);
    }
    let count = links.len();
    let emulator = Emulator::start(links, arguments.receiver, &arguments.port)?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => print_figures(&emulator, count).await?,
            () = shutdown.wait() => return Ok(()),
        }
    }
}

fn links(arguments: &Arguments) -> Result<Vec<EmulatedLink>> {
    let modems = arguments.modem.iter().take(MODEMS_MAX).enumerate();
    let link = |(i, modem): (usize, &Modem)| -> Result<EmulatedLink> {
        let capacity = if arguments.steady {
            Capacity::Constant { kbps: modem.mean_kbps }
        } else {
            cellular(modem.mean_kbps, arguments.seed + i as u64)?
        };
        let lab = LabLink::modem(1 + i as u8, "", "4G", capacity, modem.delay_ms, modem.loss);
        let seed = arguments.seed + 100 + i as u64;
        Ok(EmulatedLink { name: lab.name, gateway: lab.gateway, up: lab.up, down: lab.down, seed })
    };
    modems.map(link).collect()
}

async fn print_figures(emulator: &Emulator, links: usize) -> Result<()> {
    let mut line = String::new();
    for link in 0..links {
        let up = emulator.figures(link).await?.up;
        let lost = up.dropped_loss + up.dropped_queue;
        let _ = write!(line, "  {} passed, {lost} lost ({} by the queue)", up.passed, up.dropped_queue);
    }
    println!("{line}");
    Ok(())
}
