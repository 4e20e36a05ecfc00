//! What the users of a flow ask of its thread, between two of its turns.

use super::{LinkRule, LinkSpec};
use crate::queue::lock;
use bond::config::LinkOptions;
use bond::sender::RadioHint;
use std::sync::Mutex;
use std::time::Duration;
use units::{Bitrate, LinkId};

/// A change on its way to the thread.
#[derive(Debug)]
pub(super) enum Command {
    AddLink(LinkSpec),
    RemoveLink(LinkId),
    SetLinkOptions(LinkId, LinkOptions),
    SetLatency(Duration),
    SetEncoderRange { min: Bitrate, max: Bitrate },
    RadioHint { link: LinkId, hint: RadioHint },
    FollowInterfaces(Box<LinkRule>),
    Close,
}

impl Command {
    /// True when nothing is to be seen of `older` once this is done, and this may be done at its place.
    fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (Self::AddLink(new), Self::AddLink(old)) => new.id == old.id,
            (Self::RemoveLink(new), Self::RemoveLink(old))
            | (Self::SetLinkOptions(new, _), Self::SetLinkOptions(old, _))
            | (Self::RadioHint { link: new, .. }, Self::RadioHint { link: old, .. }) => new == old,
            _ => std::mem::discriminant(self) == std::mem::discriminant(older),
        }
    }

    /// True when nothing is to be seen of `older` once this is done, in its own place: it was asked of a link that is replaced or
    /// taken out. That a link goes first stays: others may need its room.
    fn voids(&self, older: &Self) -> bool {
        match (self, older) {
            (Self::RemoveLink(gone), Self::AddLink(old)) => *gone == old.id,
            (
                Self::RemoveLink(gone) | Self::AddLink(LinkSpec { id: gone, .. }),
                Self::SetLinkOptions(old, _) | Self::RadioHint { link: old, .. },
            ) => gone == old,
            _ => false,
        }
    }

    /// True when this needs what `other` makes room for: it may not be done before it.
    fn follows(&self, other: &Self) -> bool {
        matches!((self, other), (Self::AddLink(_), Self::RemoveLink(_)))
    }
}

/// Commands on their way to the thread. None is lost however many come: of those that are one another's, the last counts. At most
/// four of each link wait, and four others.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// In the order in which they are carried out.
    waiting: Mutex<Vec<Command>>,
}

impl Commands {
    pub(super) fn push(&self, command: Command) {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|older| !command.voids(older));
        match waiting.iter().position(|older| command.replaces(older)) {
            Some(place) if waiting[place..].iter().any(|other| command.follows(other)) => {
                waiting.remove(place);
                waiting.push(command);
            }
            Some(place) => waiting[place] = command,
            None => waiting.push(command),
        }
    }

    /// Everything that was asked for since the last call.
    pub(super) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *lock(&self.waiting))
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.waiting).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::worker::tests::{ask, carry_out, worker};
    use bond::config::LINKS_MAX;

    /// Goal: whatever is asked between two turns, the flow is then what it would be had each wish been carried out at once.
    /// Method: flows full of links, thirty wishes drawn for links that have room, given to one flow one by one, to another together.
    #[test]
    fn wishes_that_come_together_do_what_they_would_do_one_by_one() {
        let remote = "127.0.0.1:9".parse().expect("an address");
        let mut seed = 1_u32;
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        for round in 0..20 {
            let (mut one_by_one, mut together) = (worker(&[]), worker(&[]));
            let mut present: Vec<LinkId> = (0..LINKS_MAX as u16).map(LinkId).collect();
            for id in &present {
                for worker in [&mut one_by_one, &mut together] {
                    ask(worker, Command::AddLink(LinkSpec::new(*id, remote)));
                }
            }
            assert_eq!(carry_out(&mut one_by_one), carry_out(&mut together));
            for step in 0..30 {
                let id = LinkId(draw(LINKS_MAX + 2) as u16);
                let options = LinkOptions { price: step, ..LinkOptions::default() };
                let kind = draw(8);
                let wish = || match kind {
                    0..=2 if present.contains(&id) || present.len() < LINKS_MAX => {
                        let name = format!("{id} of step {step}");
                        Command::AddLink(LinkSpec { name, ..LinkSpec::new(id, remote) })
                    }
                    0..=4 => Command::RemoveLink(id),
                    5 | 6 => Command::SetLinkOptions(id, options.clone()),
                    _ => Command::SetLatency(Duration::from_millis(100 + u64::from(step))),
                };
                ask(&one_by_one, wish());
                carry_out(&mut one_by_one);
                ask(&together, wish());
                let added = matches!(wish(), Command::AddLink(_));
                present.retain(|known| *known != id || kind > 4);
                if added {
                    present.push(id);
                }
            }
            assert_eq!(carry_out(&mut one_by_one), carry_out(&mut together), "round {round}");
        }
    }

    /// Goal: a link that is asked for twice, the second time when there is room for it, is there.
    #[test]
    fn a_link_that_room_was_made_for_is_there() {
        let remote = "127.0.0.1:9".parse().expect("an address");
        let full: Vec<LinkId> = (0..LINKS_MAX as u16).map(LinkId).collect();
        let mut worker = worker(&[]);
        let add = |id| Command::AddLink(LinkSpec::new(id, remote));
        for id in full {
            ask(&worker, add(id));
        }
        carry_out(&mut worker);
        for wish in [add(LinkId(99)), Command::RemoveLink(LinkId(3)), add(LinkId(99))] {
            ask(&worker, wish);
        }
        let (_, links) = carry_out(&mut worker);
        assert!(links.iter().any(|link| link.starts_with("99 ")), "{links:?}");
    }

    /// Goal: however much is asked, little waits.
    #[test]
    fn what_waits_is_bounded_by_the_links() {
        let commands = Commands::default();
        let remote = "127.0.0.1:9".parse().expect("an address");
        for i in 0..10_000_u32 {
            let link = LinkId((i % 16) as u16);
            commands.push(Command::RemoveLink(link));
            commands.push(Command::AddLink(LinkSpec::new(link, remote)));
            commands.push(Command::SetLinkOptions(link, LinkOptions::default()));
            commands.push(Command::RadioHint { link, hint: RadioHint::default() });
            commands.push(Command::SetLatency(Duration::from_millis(i.into())));
            commands.push(Command::SetEncoderRange { min: Bitrate::ZERO, max: Bitrate::from_kbps(i.into()) });
        }
        let waiting = commands.take();
        assert_eq!(waiting.len(), 4 * 16 + 2);
        let last = Duration::from_millis(9999);
        assert!(waiting.iter().any(|command| matches!(command, Command::SetLatency(latency) if *latency == last)));
        assert!(commands.is_empty());
    }
}
