//! GStreamer elements of the bond: `rsristbondsink` sends MPEG-TS over many links, `rsristbondsrc` receives it.
//!
//! The elements are thin: they turn properties into the options of [`link_io`], buffers into payloads of whole TS packets
//! and back, snapshots into statistics messages. They hold no threshold and no rate; what is sent when and where is decided
//! in the `bond` crate.
//!
//! ```text
//! gst-launch-1.0 filesrc location=a.ts ! tsparse set-timestamps=true \
//!   ! rsristbondsink links="192.0.2.1:5000;name=Modem 1;dev=wwan0,192.0.2.1:5000;name=Modem 2;dev=wwan1" psk-file=key
//! gst-launch-1.0 rsristbondsrc listen=0.0.0.0:5000 psk-file=key ! filesink location=b.ts
//! ```
//!
//! As a plugin both are there at once: `cargo build -p gst-bond`, then put `target/debug/libgst_bond.so` alone into a
//! directory (GStreamer searches what it is given to the bottom) and name it in `GST_PLUGIN_PATH`. A program that links this
//! crate calls [`register`] instead.
//!
//! # Messages
//! Once a second an element message [`STATS_MESSAGE`] with the structure of the property `stats`; for each event of the
//! bond an element message [`EVENT_MESSAGE`] with the field `text`.

mod monitor;
mod settings;
mod sink;
mod source;
mod stats;
mod value;

use gstreamer::glib;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use settings::{Aes, Profile};
pub use sink::BondSink;
pub use source::BondSrc;

/// Locks that do not poison: the state behind them is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Name of the element message with statistics.
pub const STATS_MESSAGE: &str = "rsristbond-stats";
/// Name of the element message with an event.
pub const EVENT_MESSAGE: &str = "rsristbond-event";

gstreamer::plugin_define!(
    rsristbond,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "Apache 2.0",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "strata",
    "2026-11-21"
);

fn plugin_init(plugin: &gstreamer::Plugin) -> Result<(), glib::BoolError> {
    sink::register(Some(plugin))?;
    source::register(Some(plugin))
}

/// The plugin's description under the name that GStreamer makes from this crate's file, `libgst_bond.so`.
///
/// # Safety
/// Always sound to call; `unsafe` only because the function it forwards to is declared so.
#[doc(hidden)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gst_plugin__bond_get_desc() -> *const gstreamer::ffi::GstPluginDesc {
    // SAFETY: it returns the address of a static.
    unsafe { plugin_desc::gst_plugin_rsristbond_get_desc() }
}

/// Makes the elements known to this process, after [`gstreamer::init`]. Calling it again does no harm.
///
/// # Errors
/// GStreamer refuses the registration.
pub fn register() -> Result<(), glib::BoolError> {
    sink::register(None)?;
    source::register(None)
}
