//! Real sockets, a real clock and a thread for each bonded flow.
//!
//! [`sender::FlowSender`] and [`receiver::FlowReceiver`] each own one sans-IO machine of the `bond` crate on a thread of
//! its own: they move datagrams between it and UDP sockets, tell it the time and keep its timers. They decide nothing:
//! which link, when and how often is the machine's business.
//!
//! * One socket a link, bound to an address and/or a network interface; two for Simple Profile (RTP and RTCP).
//! * What goes wrong on a socket stays with its link: the machine is told, the socket is opened again with a growing
//!   pause, the flow goes on.
//! * Every queue is bounded by a named constant and counts what it drops; what users ask of a flow is never dropped, and a later
//!   wish takes the place of an earlier one.
//!
//! The programs `bond-send` and `bond-receive` are thin shells around the two; [`media`] holds what they read and write,
//! [`settings`] the text forms of links and secrets.

mod arrival_clock;
mod arrivals;
mod clock;
mod error;
mod flow_thread;
pub mod media;
mod port_pair;
pub mod program;
mod queue;
mod receive_slots;
pub mod receiver;
mod reopen;
pub mod sender;
pub mod settings;
mod sockets;
mod udp;
mod waker;

pub use error::{Closed, OpenError, PushError};
