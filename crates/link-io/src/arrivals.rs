//! What came on the sockets of a thread since it last looked, in the order in which it came.
//!
//! The time of a machine never goes back: a datagram that is handed over behind a younger one is taken to have come with that.
//! Read one socket after the other, all but the first would lose up to a turn of what the kernel's stamps tell, and with it what
//! is measured of their links. So what waits on all of them is read first, and handed over by its stamps.
//!
//! Where more waits than there is room for, as after a time in which the process did not run, that happens in rounds: each brings
//! more of every socket of which nothing is held, and hands over what is older than anything that may still wait in one. So the
//! order holds throughout a turn, but for what comes while it lasts and for what a flood leaves to the next.

use crate::arrival_clock::ArrivalClock;
use crate::receive_slots::{Arrival, ReceiveSlots};
use crate::receiver::SOCKETS_MAX;
use crate::udp::Received;
use bond::config::LINKS_MAX;
use std::time::SystemTime;
use units::Timestamp;

/// Trains that are held at a time.
const TRAINS_MAX: usize = 128;
/// Every socket has a share: Simple Profile has two to a link or address.
const _: () = assert!(TRAINS_MAX >= 2 * SOCKETS_MAX && TRAINS_MAX >= 2 * LINKS_MAX);
/// Trains of a turn for each socket that has something, all rounds together: more than its buffer holds of whole payloads. A flood
/// keeps the thread from its timers for no longer.
const TURN_TRAINS_MAX: usize = 4096;

/// The arrivals of one turn, round by round; `S` names a socket.
#[derive(Debug)]
pub(crate) struct Arrivals<S> {
    clock: ArrivalClock,
    slots: ReceiveSlots,
    /// Sockets that may have more.
    open: Vec<Open<S>>,
    /// What was read and is not handed over yet; oldest first, what one socket brought in its order.
    trains: Vec<Train<S>>,
    /// So many of them are no younger than anything that may still wait in a socket.
    due: usize,
    /// Trains read in this turn, and the most that are; for each socket [`TURN_TRAINS_MAX`].
    read: usize,
    read_max: usize,
    read_max_each: usize,
}

#[derive(Debug)]
struct Open<S> {
    socket: S,
    /// When the youngest train came that was read.
    last: Timestamp,
    /// It is not handed over yet.
    is_held: bool,
}

#[derive(Debug)]
struct Train<S> {
    at: Timestamp,
    slot: usize,
    socket: S,
}

impl<S: Copy> Arrivals<S> {
    pub(crate) fn new() -> Self {
        Self {
            clock: ArrivalClock::default(),
            slots: ReceiveSlots::new(TRAINS_MAX),
            open: Vec::new(),
            trains: Vec::new(),
            due: 0,
            read: 0,
            read_max: 0,
            read_max_each: TURN_TRAINS_MAX,
        }
    }

    /// Begins a turn in which these sockets have something; both clocks show the moment.
    pub(crate) fn begin(&mut self, (now, wall): (Timestamp, SystemTime), sockets: impl Iterator<Item = S>) {
        self.clock.look(now, wall);
        self.slots.clear();
        self.trains.clear();
        (self.due, self.read) = (0, 0);
        self.open.clear();
        self.open.extend(sockets.map(|socket| Open { socket, last: Timestamp::ZERO, is_held: false }));
        self.read_max = self.read_max_each * self.open.len();
    }

    /// Whether a socket may have more than was read.
    pub(crate) fn is_left(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reads the next round by `receive`, which is given the socket, where to put what it has, and the most it may bring; `now`
    /// tells the present. False when there is nothing left to hand over, or enough for one turn.
    pub(crate) fn gather(
        &mut self,
        now: impl Fn() -> Timestamp,
        receive: impl FnMut(S, &mut ReceiveSlots, usize) -> Received,
    ) -> bool {
        self.forget_due();
        if self.read < self.read_max {
            self.read_round(now, receive);
        }
        self.trains.sort_unstable_by_key(|train| (train.at, train.slot));
        let until = self.open.iter().map(|open| open.last).min().filter(|_| self.read < self.read_max);
        let until = until.unwrap_or(Timestamp::MAX);
        self.due = self.trains.partition_point(|train| train.at <= until);
        self.open.iter_mut().for_each(|open| open.is_held = open.last > until);
        self.due > 0
    }

    /// Hands over what is due: the socket, when the datagram came, and it.
    pub(crate) fn each(&mut self, mut each: impl FnMut(S, Timestamp, Arrival<'_>)) {
        for train in &self.trains[..self.due] {
            for arrival in self.slots.train(train.slot) {
                each(train.socket, train.at, arrival);
            }
        }
    }

    /// Makes room: what was handed over is forgotten, the rest keeps its order.
    fn forget_due(&mut self) {
        self.trains.drain(..self.due);
        self.due = 0;
        self.trains.sort_unstable_by_key(|train| train.slot);
        for (slot, train) in self.trains.iter_mut().enumerate() {
            self.slots.swap(slot, train.slot);
            train.slot = slot;
        }
        self.slots.truncate(self.trains.len());
    }

    /// Reads the sockets of which nothing is held. Each of them finds room: it has given some free, or had its share from the
    /// beginning.
    fn read_round(
        &mut self,
        now: impl Fn() -> Timestamp,
        mut receive: impl FnMut(S, &mut ReceiveSlots, usize) -> Received,
    ) {
        let Self { clock, slots, open, trains, read, .. } = self;
        let held = trains.len();
        let share = TRAINS_MAX / open.len().max(1);
        let mut waiting = open.iter().filter(|open| !open.is_held).count();
        open.retain_mut(|open| {
            if open.is_held {
                return true;
            }
            let end = slots.filled() + share.min(slots.room() / waiting);
            waiting -= 1;
            while slots.filled() < end {
                let first = slots.filled();
                let received = receive(open.socket, slots, end - first);
                let read_at = now();
                for slot in first..slots.filled() {
                    // Where a stamp is not believed, the order of one socket is sure all the same.
                    open.last = clock.arrival(slots.stamp(slot), read_at).max(open.last);
                    trains.push(Train { at: open.last, slot, socket: open.socket });
                }
                if received == Received::All {
                    return false;
                }
            }
            true
        });
        *read += trains.len() - held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::udp::tests::wait_for_stamps;
    use crate::udp::{Binding, UdpPort};
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    use std::time::Duration;

    /// The two clocks are not read at quite the same time.
    const LOOK_ERROR_MAX: Duration = Duration::from_millis(1);

    fn ports(count: usize) -> Vec<UdpPort> {
        let binding = Binding { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), device: None };
        (0..count).map(|_| UdpPort::open(&binding).expect("a loopback socket")).collect()
    }

    fn send(from: &UdpSocket, to: &UdpPort, text: &str) {
        from.send_to(text.as_bytes(), to.local_addr().expect("bound")).expect("sent");
    }

    /// What a turn brings in each of its rounds, with its times. It is `later` than it was when things were sent.
    fn turn(
        arrivals: &mut Arrivals<usize>,
        clock: &Clock,
        ports: &mut [UdpPort],
        later: Duration,
    ) -> Vec<Vec<(String, Timestamp)>> {
        let (now, wall) = clock.with_wall();
        arrivals.begin((now + later, wall + later), 0..ports.len());
        let mut rounds = Vec::new();
        while arrivals
            .gather(|| clock.now() + later, |port, slots, most| ports[port].receive(slots, most).expect("working"))
        {
            let mut round = Vec::new();
            arrivals.each(|port, at, arrival| {
                round.push((format!("{port}{}", String::from_utf8_lossy(arrival.datagram)), at));
            });
            rounds.push(round);
        }
        rounds
    }

    /// Sockets, and where to send from, when stamps are to be had.
    fn begun(count: usize) -> (Clock, Vec<UdpPort>, UdpSocket, Arrivals<usize>) {
        let (clock, mut ports, from) =
            (Clock::start(), ports(count), UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        wait_for_stamps();
        let mut arrivals = Arrivals::new();
        assert_eq!(turn(&mut arrivals, &clock, &mut ports, Duration::ZERO), [[]; 0]);
        (clock, ports, from, arrivals)
    }

    /// At once, and when the process had not run for a while.
    #[test]
    fn what_came_on_several_sockets_is_handed_over_in_the_order_it_came() {
        for later in [0, 1, 1000].map(Duration::from_millis) {
            let (clock, mut ports, from, mut arrivals) = begun(3);
            let before = clock.now();
            for (port, text) in [(2, "a"), (0, "b"), (1, "c"), (2, "d"), (1, "e"), (0, "f"), (0, "g")] {
                send(&from, &ports[port], text);
            }
            let after = clock.now();
            let rounds = turn(&mut arrivals, &clock, &mut ports, later);
            let [all] = rounds.as_slice() else { panic!("{rounds:?}") };
            let texts: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(texts, ["2a", "0b", "1c", "2d", "1e", "0f", "0g"], "{later:?}");
            assert!(all.is_sorted_by_key(|(_, at)| *at) && all[0].1 < all[6].1, "{all:?}");
            let range = before.back(LOOK_ERROR_MAX)..=after + LOOK_ERROR_MAX;
            assert!(all.iter().all(|(_, at)| range.contains(at)), "{all:?} not in {range:?}");
            assert!(!arrivals.is_left());
        }
    }

    /// More than there is room for at a time, on sockets that get little, much, and all of the last.
    #[test]
    fn what_takes_many_rounds_is_handed_over_in_the_order_it_came() {
        const COUNT: usize = 900;
        let (clock, mut ports, from, mut arrivals) = begun(4);
        let port_of = |number: usize| match number {
            700.. => 3,
            number if number.is_multiple_of(7) => 2,
            number if (number / 50).is_multiple_of(3) => 1,
            _ => 0,
        };
        let mut expected = Vec::new();
        for number in 0..COUNT {
            let port = port_of(number);
            send(&from, &ports[port], &format!(" {number}"));
            expected.push(format!("{port} {number}"));
        }
        let rounds = turn(&mut arrivals, &clock, &mut ports, Duration::from_millis(500));
        assert!(
            rounds.len() > COUNT / TRAINS_MAX && rounds.iter().all(|round| round.len() <= TRAINS_MAX),
            "{}",
            rounds.len()
        );
        let all = rounds.concat();
        assert!(all.is_sorted_by_key(|(_, at)| *at));
        // Nobody can tell which was first of two that came in one microsecond.
        let mut all: Vec<(Timestamp, usize, String)> =
            all.into_iter().map(|(text, at)| (at, text[2..].parse().expect("a number"), text)).collect();
        let sooner = all.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert!(sooner < COUNT / 10, "{sooner} in one microsecond");
        all.sort_by_key(|(at, number, _)| (*at, *number));
        assert_eq!(all.into_iter().map(|(_, _, text)| text).collect::<Vec<_>>(), expected);
    }

    /// More than a turn takes comes on the first socket, and in the midst of it a little on the second.
    #[test]
    fn a_flood_on_one_socket_is_taken_in_turns() {
        /// A turn of these two sockets: what any kernel's buffer holds more of.
        const TURN: usize = 200;
        const FLOOD: usize = TURN + TRAINS_MAX + 20;
        let (clock, mut ports, from, mut arrivals) = begun(2);
        arrivals.read_max_each = TURN / 2;
        for number in 0..FLOOD {
            send(&from, &ports[0], &format!(" {number}"));
            if number == 50 {
                send(&from, &ports[1], "!");
            }
        }
        let first = turn(&mut arrivals, &clock, &mut ports, Duration::ZERO).concat();
        assert!((TURN..TURN + TRAINS_MAX).contains(&first.len()), "{}", first.len());
        assert!(arrivals.is_left());
        let rest = turn(&mut arrivals, &clock, &mut ports, Duration::ZERO).concat();
        assert!(!arrivals.is_left());
        let mut all: Vec<String> = first.into_iter().chain(rest).map(|(text, _)| text).collect();
        let other = all.iter().position(|text| text == "1!").expect("it came");
        assert!((50..=52).contains(&other), "{other}");
        all.remove(other);
        assert!(all.iter().enumerate().all(|(number, text)| *text == format!("0 {number}")), "out of order");
        assert_eq!(all.len(), FLOOD);
    }
}
