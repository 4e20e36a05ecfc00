//! Programs whose standard input or output carries the media.

use super::media::{PAYLOAD_BYTES, payload};
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A program that reads media from its standard input and reports on its standard output; ended when dropped.
pub struct PipedSender {
    child: Child,
    input: Option<ChildStdin>,
    /// Every line it reported, oldest first.
    pub reports: Arc<Mutex<Vec<String>>>,
}

/// A program that writes media to its standard output; ended when dropped.
pub struct PipedReceiver {
    child: Child,
    payloads: Receiver<Bytes>,
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for PipedSender {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for PipedReceiver {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn spawn(path: &Path, arguments: &[String], stdin: Stdio) -> Child {
    let mut command = Command::new(path);
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().unwrap_or_else(|error| panic!("{} did not start: {error}", path.display()))
}

impl PipedSender {
    pub fn start(path: &Path, arguments: &[String]) -> Self {
        let mut child = spawn(path, arguments, Stdio::piped());
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&reports);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                lines.lock().expect("no panic inside the lock").push(line);
            }
        });
        Self { child, input, reports }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the payloads `numbers`, one every `interval`.
    pub fn send(&mut self, numbers: std::ops::Range<u32>, interval: Duration) {
        let mut due = Instant::now();
        for number in numbers {
            self.write(&payload(number, false));
            due += interval;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("not finished");
        input.write_all(bytes).expect("a reading sender");
    }

    /// Ends the input and waits for the program to end by itself.
    pub fn finish(&mut self) -> Option<i32> {
        drop(self.input.take());
        self.child.wait().expect("a child").code()
    }
}

impl PipedReceiver {
    pub fn start(path: &Path, arguments: &[String]) -> Self {
        let mut child = spawn(path, arguments, Stdio::null());
        let output = child.stdout.take().expect("piped");
        Self::reading(child, output)
    }

    /// Of a program whose media comes out of `output`.
    pub fn reading(child: Child, mut output: impl Read + Send + 'static) -> Self {
        let (sender, payloads) = channel();
        std::thread::spawn(move || {
            let mut bytes = vec![0; PAYLOAD_BYTES];
            while output.read_exact(&mut bytes).is_ok() {
                if sender.send(Bytes::copy_from_slice(&bytes)).is_err() {
                    return;
                }
            }
        });
        Self { child, payloads }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Payloads until number `last` came, or none came for `patience`.
    pub fn receive_to(&self, last: u32, patience: Duration) -> Vec<Bytes> {
        let wanted = payload(last, false);
        let mut all = Vec::new();
        while let Ok(bytes) = self.payloads.recv_timeout(patience) {
            let done = bytes == wanted;
            all.push(bytes);
            if done {
                break;
            }
        }
        all
    }
}

/// Fails unless `received` is payloads in order, each once, with every byte as sent, and without a gap from `first` on;
/// gives the number of the first.
pub fn assert_contiguous(received: &[Bytes], first_max: u32, last: u32) -> u32 {
    let first = (0..=first_max).find(|n| received.first() == Some(&payload(*n, false)));
    let first = first.unwrap_or_else(|| panic!("the first of {} is none of 0..={first_max}", received.len()));
    for (number, bytes) in (first..).zip(received) {
        assert!(*bytes == payload(number, false), "payload {number} is missing, repeated or broken");
    }
    assert_eq!(first + received.len() as u32, last + 1, "the stream ended early");
    first
}
