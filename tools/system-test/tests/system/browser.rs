//! The operator's way, in a real browser: `browser/go-live.mjs` drives headless Chromium through the dashboard.

use crate::rig::Rig;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use system_test::lab::USER;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The whole way; each step has its own time too.
const WAY_TIME_MAX: Duration = Duration::from_secs(150);
/// Largest picture for the README.
const SCREENSHOT_BYTES_MAX: u64 = 300_000;
/// What the driver takes pictures of.
const SCREENSHOTS: [&str; 3] = ["dashboard-devices.png", "dashboard-stream.png", "device-page.png"];

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_goes_live_in_the_browser() {
    let mut rig = Rig::set_up("browser").await;
    let screenshots = std::env::var_os("STRATA_SCREENSHOTS").map(PathBuf::from);
    if let Some(directory) = &screenshots {
        std::fs::create_dir_all(directory).unwrap();
    }
    let task = json!({
        "dashboard": rig.lab.dashboard.origin(),
        "devicePage": rig.lab.device_page().origin(),
        "user": USER,
        "password": rig.lab.password().unwrap(),
        "device": rig.device,
        "screenshots": screenshots,
    });
    let seen = drive(&task).await;
    println!("{seen}");
    assert_eq!(seen["devicesListed"], true, "{seen}");
    assert_eq!(seen["complaints"], json!([]), "{seen}");
    let played = &seen["played"];
    assert_eq!((played["width"].as_u64(), played["height"].as_u64()), (Some(1280), Some(720)), "{seen}");
    assert!(played["frames"].as_u64().unwrap() >= 75, "{seen}");

    // The page's word against the relay's.
    let stream = seen["stream"].as_str().unwrap().to_owned();
    let state = rig.lab.dashboard.stream(&stream).await.unwrap();
    assert_eq!(state["state"], "ended", "{state}");
    for name in SCREENSHOTS {
        if let Some(directory) = &screenshots {
            shrink(&directory.join(name)).await;
        }
    }
    rig.take_down().await;
}

/// Reduces a picture to 256 colours: a photograph as PNG is large.
async fn shrink(file: &Path) {
    let small = file.with_extension("small.png");
    let palette = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=dither=bayer:bayer_scale=4";
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y", "-i"]).arg(file).args(["-vf", palette]).arg(&small);
    assert!(command.status().await.unwrap().success());
    std::fs::rename(&small, file).unwrap();
    let bytes = file.metadata().unwrap().len();
    assert!(bytes <= SCREENSHOT_BYTES_MAX, "{} has {bytes} bytes", file.display());
}

async fn drive(task: &Value) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    assert!(directory.join("node_modules").is_dir(), "the browser driver is not installed: run `make system`");
    let mut driver = Command::new("node");
    driver.arg("go-live.mjs").current_dir(&directory).kill_on_drop(true);
    driver.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut driver = driver.spawn().expect("node is needed: run `make setup-test`");
    // The password goes by a pipe: arguments are visible to everyone.
    driver.stdin.take().unwrap().write_all(task.to_string().as_bytes()).await.unwrap();
    let output =
        tokio::time::timeout(WAY_TIME_MAX, driver.wait_with_output()).await.expect("the browser hangs").unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    serde_json::from_slice(&output.stdout).unwrap()
}
