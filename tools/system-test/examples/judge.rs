//! Judges media files against the looped source they were made from: `judge SOURCE FILE...`.

use anyhow::{Context as _, Result};
use std::path::Path;
use system_test::media::{Source, judge};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().context("usage: judge SOURCE FILE...")?;
    let source = Source::open(Path::new(&source))?;
    for file in arguments {
        match judge(Path::new(&file), &source) {
            Ok(verdict) => match verdict.expect_unbroken(0.0) {
                Ok(()) => println!("{file}: good: {verdict}"),
                Err(error) => println!("{file}: BAD: {error}"),
            },
            Err(error) => println!("{file}: {error:#}"),
        }
    }
    Ok(())
}
