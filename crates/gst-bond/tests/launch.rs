//! The plugin file in `gst-launch-1.0`, as an engineer uses it.
#![allow(clippy::unwrap_used)] // a test fails by panicking, in its helpers too

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(40);

/// A directory with the plugin alone: GStreamer would search a whole build directory.
fn plugin_directory() -> tempfile::TempDir {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().unwrap().join("libgst_bond.so");
    assert!(built.exists(), "cargo builds the plugin with its tests: {} is not there", built.display());
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(built, directory.path().join("libgst_bond.so")).unwrap();
    directory
}

fn launch(plugins: &Path, description: &str) -> Child {
    Command::new("gst-launch-1.0")
        .arg("-e")
        .args(description.split_whitespace())
        .env("GST_PLUGIN_PATH", plugins)
        .env("GST_REGISTRY", plugins.join("registry.bin"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("gst-launch-1.0 is installed by `make test`")
}

fn finish(mut child: Child, what: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{what} ended with {status}");
            return;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// A real transport stream of three seconds with picture and sound.
fn make_stream(directory: &Path) -> PathBuf {
    let path = directory.join("sent.ts");
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=3"])
        .args(["-f", "lavfi", "-i", "sine=duration=3", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .arg(&path)
        .status()
        .expect("ffmpeg is installed by `make test`");
    assert!(status.success());
    path
}

#[test]
fn a_file_arrives_bit_for_bit_over_three_encrypted_links() {
    let directory = tempfile::tempdir().unwrap();
    let plugins = plugin_directory();
    let sent = make_stream(directory.path());
    let received = directory.path().join("received.ts");
    let key = directory.path().join("key");
    std::fs::write(&key, "secret words\n").unwrap();
    let port = free_ports::free_pair();
    let key = key.display();

    let receiver = launch(
        plugins.path(),
        &format!(
            "rsristbondsrc listen=127.0.0.1:{port} latency=500 psk-file={key} ! filesink buffer-mode=unbuffered location={}",
            received.display()
        ),
    );
    // The file appears when the pipeline runs: the receiver listens then.
    let until = Instant::now() + PATIENCE;
    while !received.exists() {
        assert!(Instant::now() < until, "the receiver does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let links: Vec<String> = (1..=3).map(|n| format!("127.0.0.1:{port};name=Modem{n}")).collect();
    let sender = launch(
        plugins.path(),
        &format!(
            "filesrc location={} ! tsparse set-timestamps=true ! rsristbondsink latency=500 psk-file={key} links={}",
            sent.display(),
            links.join(",")
        ),
    );
    finish(sender, "the sender");
    let until = Instant::now() + PATIENCE;
    while size(&received) < size(&sent) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupted = Command::new("kill").args(["-INT", &receiver.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    finish(receiver, "the receiver");
    let (sent, received) = (std::fs::read(&sent).unwrap(), std::fs::read(&received).unwrap());
    assert!(sent.len() > 100_000, "{} bytes are no test", sent.len());
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "content differs");
}
