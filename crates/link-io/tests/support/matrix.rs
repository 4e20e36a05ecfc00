//! The tables of what is tested against the programs of others.

use std::fmt::Debug;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    OurSender,
    OurReceiver,
    /// The others at both ends: tells a broken proxy from a broken product.
    NeitherEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    One,
    /// Three links, each payload on one of them.
    Shared,
    /// Three links, each payload on all of them.
    Duplicated,
    /// Three links as a sender of ours uses them by itself: without fixed shares, by what echoes tell of each.
    Steered,
}

impl Links {
    pub fn count(self) -> usize {
        if self == Self::One { 1 } else { 3 }
    }

    /// The fixed share of each of our links.
    pub fn weight(self) -> Option<u32> {
        match self {
            Self::One | Self::Steered => None,
            Self::Shared => Some(5),
            Self::Duplicated => Some(0),
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Shared => "three shared",
            Self::Duplicated => "three duplicated",
            Self::Steered => "three, no shares set",
        }
    }
}

/// What the paths do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    pub loss: f64,
    /// The sender's public address changes in the middle of the stream, on every link at once.
    pub rebinding: bool,
}

impl Network {
    pub fn name(self) -> String {
        format!("{} %{}", self.loss * 100.0, if self.rebinding { " rebinding" } else { "" })
    }
}

/// A row of a table: one cell for each kind of network. "X": both directions; "R": only towards our receiver, because the
/// other receiver cannot; "S": only from our sender, because the other sender has no such thing; "-": not at all.
#[derive(Debug, Clone, Copy)]
pub struct Row<S> {
    pub security: S,
    pub links: Links,
    marks: [&'static str; NETWORKS.len()],
}

const NETWORKS: [Network; 4] = [
    Network { loss: 0.0, rebinding: false },
    Network { loss: 0.02, rebinding: false },
    Network { loss: 0.0, rebinding: true },
    Network { loss: 0.02, rebinding: true },
];

impl<S> Row<S> {
    pub const fn new(
        security: S,
        links: Links,
        clean: &'static str,
        lossy: &'static str,
        rebinding: &'static str,
        both: &'static str,
    ) -> Self {
        Self { security, links, marks: [clean, lossy, rebinding, both] }
    }

    /// The networks that are tested.
    pub fn cells(&self, direction: Direction) -> impl Iterator<Item = Network> + use<'_, S> {
        let tested = move |mark: &str| match mark {
            "X" => true,
            "R" => direction == Direction::OurReceiver,
            "S" => direction == Direction::OurSender,
            _ => false,
        };
        NETWORKS.into_iter().zip(self.marks).filter(move |(_, mark)| tested(mark)).map(|(network, _)| network)
    }

    fn documented(&self, peer: &str, security: &str) -> String {
        let told = |mark: &&str| match *mark {
            "X" => "both ways",
            "R" => "to ours",
            "S" => "from ours",
            _ => "-",
        };
        let cells: Vec<&str> = self.marks.iter().map(told).collect();
        format!("| {peer} | {security} | {} | {} |", self.links.text(), cells.join(" | "))
    }
}

/// Fails unless each row stands in the documentation, as `security` tells it, and no other of `peer`.
pub fn assert_documented<'a, S: 'a>(
    peer: &str,
    rows: impl IntoIterator<Item = &'a Row<S>>,
    security: impl Fn(&S) -> String,
) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/transport.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let expected: Vec<String> = rows.into_iter().map(|row| row.documented(peer, &security(&row.security))).collect();
    let documented: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("| {peer} |"))).collect();
    assert_eq!(documented, expected, "docs/transport.md should read\n{}", expected.join("\n"));
}
