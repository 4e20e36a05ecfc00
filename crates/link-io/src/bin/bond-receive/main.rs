//! `bond-receive`: a bonded RIST flow in, an MPEG transport stream out.

mod arguments;
mod drain;

use anyhow::Context;
use arguments::Arguments;
use clap::Parser;
use drain::Drain;
use link_io::media::Endpoint;
use link_io::program::{self, Report, Stop};
use std::io::{self, Write};
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("bond-receive", || run(arguments))
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    let stop = Stop::catch().context("cannot catch signals")?;
    let (mut drain, receiver) = Drain::open(&settings.outputs, settings.options)?;
    let piped = settings.outputs.iter().any(|output| output.endpoint == Endpoint::Standard);
    let statistics: Box<dyn Write> = if piped { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    let mut report = Report::new(settings.stats, statistics);
    while !stop.asked() {
        drain.take_from(&receiver)?;
        report.events(&receiver.events())?;
        if report.is_due() {
            let snapshot = receiver.snapshot();
            let text = format!(
                "rate {}, {} delivered, {} lost, {} late, {} recovered, {} repaired, {} links",
                snapshot.rate,
                snapshot.delivered_packets,
                snapshot.lost_packets,
                snapshot.late_packets,
                snapshot.recovered_packets,
                snapshot.fec_recovered,
                snapshot.links.len(),
            );
            report.stats(&*snapshot, &receiver.io_counters(), text)?;
        }
    }
    drain.finish()
}
