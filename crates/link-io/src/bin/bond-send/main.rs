//! `bond-send`: an MPEG transport stream in, a bonded RIST flow out.

mod arguments;
mod feed;
mod pipe;

use arguments::Arguments;
use bond::stats::LinkState;
use clap::Parser;
use feed::Feed;
use link_io::program::{self, Lines, Report, Stop};
use link_io::sender::FlowSender;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("bond-send", |stop| run(arguments, stop))
}

fn run(arguments: Arguments, stop: &Stop) -> anyhow::Result<()> {
    let settings = arguments.settings()?;
    let (mut feed, sender) = Feed::open(&settings.input, settings.options)?;
    if let Some(rule) = settings.rule {
        sender.follow_interfaces(rule);
    }
    stop.in_order();
    let lines = Lines::new(io::stdout());
    let mut report = Report::new(settings.stats, lines.clone());
    let ended = pass_all(&mut feed, &sender, stop, &mut report);
    if ended.is_ok() {
        feed.let_go(&sender);
    }
    report.events(&sender.close());
    lines.finish();
    ended
}

/// Passes the input on until it ends, or the program is asked to.
fn pass_all(feed: &mut Feed, sender: &FlowSender, stop: &Stop, report: &mut Report) -> anyhow::Result<()> {
    while !stop.asked() && feed.pass_on(sender)? {
        report.events(&sender.events());
        if report.is_due() {
            let snapshot = sender.snapshot();
            let up = snapshot.links.iter().filter(|link| link.state == LinkState::Up).count();
            let text = format!(
                "media {}, sent {}, {up} of {} links up, advice {}, {} retransmits, {} copies, {} repair packets, {} given up",
                snapshot.media_rate,
                snapshot.send_rate,
                snapshot.links.len(),
                snapshot.rate_advice,
                snapshot.retransmits,
                snapshot.copies,
                snapshot.fec_packets,
                snapshot.dropped_packets,
            );
            report.stats(&*snapshot, &sender.io_counters(), text);
        }
    }
    Ok(())
}
