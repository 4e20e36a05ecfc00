//! What `bond-send` and `bond-receive` share: options, reports and orderly ends.

mod arguments;
mod lines;
mod report;
mod run;
mod stop;

pub use arguments::FlowArguments;
pub use lines::Lines;
pub use report::{Report, StatsFormat};
pub use run::run;
pub use stop::Stop;
