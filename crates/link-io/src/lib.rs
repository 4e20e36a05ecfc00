//! Sockets, clock and threads of a bonded flow.

mod clock;
mod queue;
mod udp;
mod waker;
