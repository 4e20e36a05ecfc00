//! What `bond-send` and `bond-receive` share: options, reports and orderly ends.

mod arguments;
mod report;
mod run;
mod stop;

pub use arguments::FlowArguments;
pub use report::{Report, StatsFormat};
pub use run::run;
pub use stop::Stop;
