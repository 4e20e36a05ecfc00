//! `bond-receive`: a bonded RIST flow in, an MPEG transport stream out.

mod arguments;
mod drain;
mod stream;

use arguments::Arguments;
use clap::Parser;
use drain::Drain;
use link_io::media::Endpoint;
use link_io::program::{self, Lines, Report, Stop};
use link_io::receiver::FlowReceiver;
use std::io;
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("bond-receive", |stop| run(arguments, stop))
}

fn run(arguments: Arguments, stop: &Stop) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    let (mut drain, receiver) = Drain::open(&settings.outputs, settings.options)?;
    stop.in_order();
    let piped = settings.outputs.iter().any(|output| output.endpoint == Endpoint::Standard);
    let lines = if piped { Lines::new(io::stderr()) } else { Lines::new(io::stdout()) };
    let mut report = Report::new(settings.stats, lines.clone());
    let ended = take_all(&mut drain, &receiver, stop, &mut report).and_then(|()| drain.finish(&receiver));
    report.events(&receiver.events());
    lines.finish();
    ended
}

/// Writes what arrives until the program is asked to end.
fn take_all(drain: &mut Drain, receiver: &FlowReceiver, stop: &Stop, report: &mut Report) -> anyhow::Result<()> {
    while !stop.asked() {
        drain.take_from(receiver)?;
        report.events(&receiver.events());
        if report.is_due() {
            let snapshot = receiver.snapshot();
            let text = format!(
                "rate {}, {} delivered, {} lost, {} late, {} recovered, {} repaired, {} links, {} datagrams refused",
                snapshot.rate,
                snapshot.delivered_packets,
                snapshot.lost_packets,
                snapshot.late_packets,
                snapshot.recovered_packets,
                snapshot.fec_recovered,
                snapshot.links.len(),
                snapshot.refused_datagrams,
            );
            report.stats(&*snapshot, &receiver.io_counters(), text);
        }
    }
    Ok(())
}
