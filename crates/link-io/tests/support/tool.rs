//! Programs of others, as real processes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::NamedTempFile;

/// A running program; ended when dropped.
pub struct Tool {
    name: String,
    child: Child,
    log: NamedTempFile,
}

/// The path of an installed program.
///
/// # Panics
/// It is missing: a test that needs it fails, it is never skipped.
pub fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `make test`, which installs what the tests need"))
}

impl Tool {
    /// Starts `name` with `arguments`; what it prints is kept for the report of a failure.
    pub fn start(name: &str, arguments: &[String]) -> Self {
        Self::start_path(&find(name), arguments)
    }

    /// Starts the program at `path`.
    pub fn start_path(path: &Path, arguments: &[String]) -> Self {
        let log = NamedTempFile::new().expect("a log file");
        let handle = || Stdio::from(log.reopen().expect("the log file"));
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(handle()).stderr(handle());
        let child = command.spawn().unwrap_or_else(|error| panic!("{} did not start: {error}", path.display()));
        Self { name: path.display().to_string(), child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// UDP ports that it has in common with another socket. The kernel gives a socket that may reuse addresses (those of
    /// GStreamer's `udpsrc` may) any port of another such socket, and from then on one of the two hears nothing.
    pub fn shared_ports(&self) -> Vec<u16> {
        let handles = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().flatten();
        let names = handles.filter_map(|handle| Some(std::fs::read_link(handle.path()).ok()?.display().to_string()));
        let own: Vec<String> = names.collect();
        let table = std::fs::read_to_string("/proc/net/udp").expect("the kernel's list of sockets");
        let sockets: Vec<(u16, String)> = table.lines().skip(1).filter_map(udp_socket).collect();
        let shared = |port: u16| sockets.iter().filter(|socket| socket.0 == port).count() > 1;
        let of_own = sockets.iter().filter(|(_, inode)| own.contains(&format!("socket:[{inode}]")));
        of_own.map(|socket| socket.0).filter(|port| shared(*port)).collect()
    }

    /// The end of what it printed.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        let read = File::open(self.log.path()).and_then(|mut file| file.read_to_string(&mut text));
        let from = text.len().saturating_sub(2000);
        let tail = text.get(from..).unwrap_or(&text);
        format!("--- {} ({read:?}) ---\n{tail}", self.name)
    }
}

/// Local port and inode of a line of `/proc/net/udp`.
fn udp_socket(line: &str) -> Option<(u16, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(1)?.split_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, (*fields.get(9)?).to_owned()))
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
