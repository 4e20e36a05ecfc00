//! Goal: a full disk neither keeps a device from starting nor makes it forget. Method: the real agent on a small file system that is
//! really full; needs root, and says so when it is not.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A mounted memory file system of 4 MiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]).arg(directory.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[1; 512]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

struct Agent {
    child: Child,
    page: u16,
}

impl Agent {
    fn start(directory: &Path, data: &Path, log: &str) -> Self {
        let page = free_ports::free_tcp_port();
        let config = directory.join("agent.toml");
        let text = format!(
            "data_dir = \"{}\"\n[local_page]\nlisten = \"127.0.0.1:{page}\"\n[hardware]\nkind = \"fake\"\n\
             [[fake.inputs]]\nid = \"test\"\nname = \"Test pattern\"\nkind = \"test\"\n",
            data.join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(directory.join(log)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_strata-agent"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, page }
    }

    fn state(&self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.page)) {
                let request = "GET /api/v1/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                return answer;
            }
            assert!(Instant::now() < until, "the page does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// In order: a database that was closed writes when it is opened again.
    fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn an_agent_starts_on_a_full_disk_and_keeps_what_it_had() {
    let Some(disk) = SmallDisk::mount() else {
        let uid = std::fs::metadata("/proc/self").unwrap().uid();
        assert_ne!(uid, 0, "a small file system cannot be mounted, though by root");
        // Not by a macro: the test harness keeps what a passing test prints.
        writeln!(std::io::stderr(), "NOT TESTED: a full disk, a small file system can be mounted by root only")
            .unwrap();
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path(), disk.path(), "first.log");
    assert!(agent.state().contains("\"idle\""));
    agent.stop();
    disk.fill();

    let agent = Agent::start(directory.path(), disk.path(), "full.log");
    let state = agent.state();
    assert!(state.starts_with("HTTP/1.1 200") && state.contains("\"idle\""), "{state}");
    agent.stop();
    let log = std::fs::read_to_string(directory.path().join("full.log")).unwrap();
    assert!(log.contains("No space left on device") && log.contains("memory serves"), "{log}");
    assert!(!disk.path().join("data/queue.damaged").exists(), "a full disk is no damage: {log}");

    std::fs::remove_file(disk.path().join("filler")).unwrap();
    let agent = Agent::start(directory.path(), disk.path(), "freed.log");
    assert!(agent.state().contains("\"idle\""));
    agent.stop();
    let log = std::fs::read_to_string(directory.path().join("freed.log")).unwrap();
    assert!(!log.contains("memory serves"), "{log}");
}
