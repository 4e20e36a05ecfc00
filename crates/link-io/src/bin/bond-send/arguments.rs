//! The command line of `bond-send`, in two steps: what was typed, and what it means.

use anyhow::{Context, ensure};
use bond::config::{Encapsulation, SenderConfig, VIRTUAL_PORT_DEFAULT};
use clap::Parser;
use link_io::media::Endpoint;
use link_io::program::{FlowArguments, StatsFormat};
use link_io::sender::{LinkRule, LinkSpec, SenderOptions};
use link_io::settings::{bind_links, link_list, link_rule, read_logins};
use std::path::{Path, PathBuf};

/// Sends an MPEG transport stream over one or more network links as one RIST flow.
///
/// Between this program and bond-receive the engine's own reports steer each link; any other RIST receiver gets plain RIST.
#[derive(Debug, Parser)]
#[command(name = "bond-send", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// udp://@:PORT or udp://IP:PORT to listen on, a transport stream file (paced by its PCR), or - for standard input (not paced). A
    /// file and standard input wait while the links carry less.
    #[arg(long, alias = "in", value_name = "INPUT")]
    input: Endpoint,
    /// Where to send, one destination a link; see below for the options of a link. auto: every interface that leads to --to.
    #[arg(long, value_name = "LINKS")]
    links: String,
    /// With --links auto: the one destination, HOST:PORT and options that every link gets.
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
    /// With --links auto: only these interfaces, NAME[,NAME...], * at the end for any rest; bridges only when named here.
    #[arg(long, value_name = "NAMES")]
    interfaces: Option<String>,
    /// File with a local address a line: one link for each, to the one destination of --links or to one each.
    #[arg(long, value_name = "FILE")]
    bind_list: Option<PathBuf>,
    #[command(flatten)]
    flow: FlowArguments,
    /// File with user:password for the login at the receiver (SRP).
    #[arg(long, value_name = "FILE")]
    srp_file: Option<PathBuf>,
    /// RTP SSRC of the flow, even [default: drawn].
    #[arg(long, value_name = "NUMBER")]
    flow_id: Option<u32>,
    /// Virtual destination port of the main profile, even: tells flows to one receiver apart.
    #[arg(long, value_name = "PORT", default_value_t = VIRTUAL_PORT_DEFAULT)]
    virtual_port: u16,
    /// Leave null packets out on the way.
    #[arg(long)]
    null_deletion: bool,
    /// Wrap media and RTCP as whole IP datagrams (main profile), for a receiver that reads nothing else; librist does not.
    #[arg(long)]
    full_datagram: bool,
}

/// The links that find themselves.
const AUTO: &str = "auto";

const AFTER_HELP: &str = "\
A link is HOST:PORT followed by options, links are separated by commas (quote them for the shell):
  HOST:PORT;name=TEXT;bind=IP;dev=INTERFACE;priority=N;price=N;rate-max=KBIT/S;budget-mb=N;last-resort=yes;warm=no;
  mtu=BYTES;weight=N;id=N
  name       in events and statistics (default: its dev, else its id)
  bind, dev  local address and interface to send from; without them the routes decide
  priority   0 first; higher numbers only carry what the lower ones cannot
  price      of links that are fast enough and free, the cheapest is used (any unit, the same for all)
  budget-mb  then nothing but keep-alive, or with last-resort=yes: only while no other link is up
  warm       no: an idle link gets no copies (0.3 % of the media) to stay awake
  mtu        largest IP packet to try; what the path takes is measured
  weight     fixed share towards a receiver without the extension (default: the engine decides)
  id         number in statistics (default: its place, from 0)
@HOST:PORT or @:PORT listens there, and the receiver calls (bond-receive --connect, ristreceiver -i rist://HOST:PORT): one
receiver a link, which may move; several links have a port each. Main profile only. Whoever answers is sent the stream: use
--psk-file where strangers reach the port.
With --links auto each interface that has an address and a route to the destination becomes a link, and comes and goes
while the program runs:
  bond-send --input - --links auto --to relay.example:5000 --interfaces 'wwan*,eth0'

Example:
  bond-send --input udp://@:6000 --latency 1500 --psk-file key --stats text \\
            --links 'relay.example:5000;dev=wwan0;name=A,relay.example:5000;dev=wwan1;name=B'

docs/transport.md tells how to read the statistics.";

/// What the arguments mean.
pub(crate) struct Settings {
    pub(crate) input: Endpoint,
    pub(crate) options: SenderOptions,
    /// Interfaces that become links.
    pub(crate) rule: Option<LinkRule>,
    pub(crate) stats: StatsFormat,
}

impl Arguments {
    /// Reads the files that are named and checks what belongs together.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let (links, rule) = if self.links == AUTO {
            ensure!(self.bind_list.is_none(), "--bind-list: not with --links auto, which follows the interfaces");
            let to = self.to.as_deref().context("--to: --links auto needs the destination, HOST:PORT")?;
            let rule = link_rule(to, self.interfaces.as_deref().unwrap_or_default()).context("--to")?;
            (Vec::new(), Some(rule))
        } else {
            ensure!(self.to.is_none() && self.interfaces.is_none(), "--to and --interfaces belong to --links auto");
            (links(&self.links, self.bind_list.as_deref())?, None)
        };
        let psk = self.flow.psk().context("--psk-file")?;
        let (latency, extension) = (self.flow.latency(), self.flow.extension());
        let srp = match &self.srp_file {
            Some(path) => read_logins(path).context("--srp-file")?.into_iter().next(),
            None => None,
        };
        let bond = SenderConfig {
            profile: self.flow.profile,
            psk,
            srp,
            cname: self.flow.cname,
            latency,
            flow_id: self.flow_id,
            virtual_port: self.virtual_port,
            null_deletion: self.null_deletion,
            encapsulation: if self.full_datagram {
                Encapsulation::FullDatagram
            } else {
                Encapsulation::ReducedOverhead
            },
            extension,
            ..SenderConfig::default()
        };
        Ok(Settings { input: self.input, options: SenderOptions { bond, links }, rule, stats: self.flow.stats })
    }
}

fn links(list: &str, binds: Option<&Path>) -> anyhow::Result<Vec<LinkSpec>> {
    let links = link_list(list).context("--links")?;
    ensure!(!links.is_empty(), "--links: give at least one link, HOST:PORT");
    let Some(path) = binds else { return Ok(links) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("--bind-list: cannot read the local addresses in {}", path.display()))?;
    bind_links(links, &text).context("--bind-list")
}
