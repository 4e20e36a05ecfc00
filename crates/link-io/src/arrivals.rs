//! What came on the sockets of a thread since it last looked, in the order in which it came.
//!
//! The time of a machine never goes back: a datagram that is handed over behind a younger one is taken to have come with that.
//! Read one socket after the other, all but the first would lose up to a turn of what the kernel's stamps tell, and with it what
//! is measured of their links. So what waits on all of them is read first, and handed over by its stamps. Where more waits than
//! there is room for, that happens in rounds, in each of which every socket has an equal share, and the order holds within one.

use crate::clock::Clock;
use crate::receiver::SOCKETS_MAX;
use crate::udp::{Arrival, RECEIVE_CALLS_MAX, ReceiveSlots, Received};
use bond::config::LINKS_MAX;
use std::time::SystemTime;
use units::Timestamp;

/// Trains of a round.
const TRAINS_MAX: usize = 128;
/// Every socket has a share: Simple Profile has two to a link or address.
const _: () = assert!(TRAINS_MAX >= 2 * SOCKETS_MAX && TRAINS_MAX >= 2 * LINKS_MAX);

/// The arrivals of one turn, round by round; `S` names a socket.
#[derive(Debug)]
pub(crate) struct Arrivals<S> {
    slots: ReceiveSlots,
    /// Sockets that may have more.
    open: Vec<S>,
    /// What the round brought: when it came, its slot, its socket. Oldest first; what one socket brought in its order.
    trains: Vec<(Timestamp, usize, S)>,
    rounds: usize,
}

impl<S: Copy> Arrivals<S> {
    pub(crate) fn new() -> Self {
        Self { slots: ReceiveSlots::new(TRAINS_MAX), open: Vec::new(), trains: Vec::new(), rounds: 0 }
    }

    /// Begins a turn in which these sockets have something.
    pub(crate) fn begin(&mut self, sockets: impl Iterator<Item = S>) {
        self.open.clear();
        self.open.extend(sockets);
        self.rounds = 0;
    }

    /// Whether a socket may have more than was read.
    pub(crate) fn is_left(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reads the next round by `receive`, which is given the socket, where to put what it has, and the most it may bring. False
    /// when there is nothing left to read, or enough for one turn.
    pub(crate) fn gather(
        &mut self,
        clock: &Clock,
        mut receive: impl FnMut(S, &mut ReceiveSlots, usize) -> Received,
    ) -> bool {
        if !self.is_left() || self.rounds >= RECEIVE_CALLS_MAX {
            return false;
        }
        self.rounds += 1;
        self.slots.clear();
        self.trains.clear();
        let (slots, trains) = (&mut self.slots, &mut self.trains);
        let mut sockets = self.open.len();
        self.open.retain(|&socket| {
            let share = slots.room() / sockets;
            sockets -= 1;
            read(clock, socket, share, slots, trains, &mut receive) == Received::MaybeMore
        });
        trains.sort_unstable_by_key(|(at, slot, _)| (*at, *slot));
        true
    }

    /// Hands over what the round brought: the socket, when the datagram came, and it.
    pub(crate) fn each(&mut self, mut each: impl FnMut(S, Timestamp, Arrival<'_>)) {
        for &(at, slot, socket) in &self.trains {
            for arrival in self.slots.train(slot) {
                each(socket, at, arrival);
            }
        }
    }
}

/// Reads one socket, until it is empty or its share is spent.
fn read<S: Copy>(
    clock: &Clock,
    socket: S,
    share: usize,
    slots: &mut ReceiveSlots,
    trains: &mut Vec<(Timestamp, usize, S)>,
    receive: &mut impl FnMut(S, &mut ReceiveSlots, usize) -> Received,
) -> Received {
    let end = slots.filled() + share;
    // Stamps are of the wall clock, which may be set; the order of one socket is sure.
    let mut last = Timestamp::ZERO;
    while slots.filled() < end {
        let (now, wall) = (clock.now(), SystemTime::now());
        let first = slots.filled();
        let received = receive(socket, slots, end - first);
        for slot in first..slots.filled() {
            last = Clock::arrival(now, wall, slots.stamp(slot)).max(last);
            trains.push((last, slot, socket));
        }
        if received == Received::All {
            return Received::All;
        }
    }
    Received::MaybeMore
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::tests::wait_for_stamps;
    use crate::udp::{Binding, UdpPort};
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    fn ports(count: usize) -> Vec<UdpPort> {
        let binding = Binding { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), device: None };
        (0..count).map(|_| UdpPort::open(&binding).expect("a loopback socket")).collect()
    }

    fn send(from: &UdpSocket, to: &UdpPort, text: &str) {
        from.send_to(text.as_bytes(), to.local_addr().expect("bound")).expect("sent");
    }

    /// What a round brings, with its times; `None` when there is none.
    fn round(arrivals: &mut Arrivals<usize>, clock: &Clock, ports: &mut [UdpPort]) -> Option<Vec<(String, Timestamp)>> {
        let gathered = arrivals.gather(clock, |port, slots, most| ports[port].receive(slots, most).expect("working"));
        let mut all = Vec::new();
        arrivals.each(|port, at, arrival| {
            all.push((format!("{port}{}", String::from_utf8_lossy(arrival.datagram)), at));
        });
        gathered.then_some(all)
    }

    #[test]
    fn what_came_on_several_sockets_is_handed_over_in_the_order_it_came() {
        let (clock, mut ports, from) = (Clock::start(), ports(3), UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        wait_for_stamps();
        let before = clock.now();
        for (port, text) in [(2, "a"), (0, "b"), (1, "c"), (2, "d"), (1, "e"), (0, "f"), (0, "g")] {
            send(&from, &ports[port], text);
        }
        let mut arrivals = Arrivals::new();
        arrivals.begin(0..3);
        let all = round(&mut arrivals, &clock, &mut ports).expect("a round");
        let texts: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["2a", "0b", "1c", "2d", "1e", "0f", "0g"]);
        assert!(all.is_sorted_by_key(|(_, at)| *at) && all[0].1 < all[6].1, "{all:?}");
        assert!(all.iter().all(|(_, at)| (before..clock.now()).contains(at)), "{all:?} after {before:?}");
        assert!(!arrivals.is_left());
        assert_eq!(round(&mut arrivals, &clock, &mut ports), None);
    }

    /// More than a turn takes comes on the first socket, a little on the second.
    #[test]
    fn a_flood_on_one_socket_leaves_the_others_their_share_and_is_taken_in_turns() {
        const FLOOD: usize = 700;
        let (clock, mut ports, from) = (Clock::start(), ports(2), UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        for number in 0..FLOOD {
            send(&from, &ports[0], &format!(" {number}"));
        }
        send(&from, &ports[1], "!");
        let mut arrivals = Arrivals::new();
        let (mut flood, mut turns) = (Vec::new(), 0);
        while flood.len() < FLOOD && turns < 100 {
            turns += 1;
            arrivals.begin(0..2);
            for number in 0.. {
                let Some(all) = round(&mut arrivals, &clock, &mut ports) else { break };
                assert!(number < RECEIVE_CALLS_MAX && all.len() <= TRAINS_MAX);
                let others = all.iter().filter(|(text, _)| text == "1!").count();
                assert_eq!(others, usize::from(turns == 1 && number == 0));
                flood.extend(all.into_iter().map(|(text, _)| text).filter(|text| text != "1!"));
            }
        }
        assert!(flood.iter().enumerate().all(|(number, text)| *text == format!("0 {number}")), "out of order");
        assert_eq!(flood.len(), FLOOD);
    }
}
