//! The short name of `bond-receive`.

use std::process::ExitCode;

#[path = "bond-receive/main.rs"]
mod receive;

fn main() -> ExitCode {
    receive::main()
}
