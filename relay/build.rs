//! Copies the browser assets that npm brought (`package-lock.json`) to where `src/dashboard/assets.rs` includes them.

use std::env;
use std::fs;
use std::path::Path;

const ASSETS: [(&str, &str); 3] = [
    ("hls.js/dist/hls.light.min.js", "hls.js"),
    ("uplot/dist/uPlot.iife.min.js", "uplot.js"),
    ("uplot/dist/uPlot.min.css", "uplot.css"),
];

fn main() {
    let target = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=package-lock.json");
    for (source, name) in ASSETS {
        let source = Path::new("node_modules").join(source);
        println!("cargo:rerun-if-changed={}", source.display());
        if let Err(error) = fs::copy(&source, Path::new(&target).join(name)) {
            println!("cargo:error=relay/{} is missing ({error}): run `make`, or `npm ci` in relay/", source.display());
            std::process::exit(1);
        }
    }
}
