//! Lines for whoever reads them: reports and the log.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait for their reader at most: some minutes of reports.
const WAITING_MAX: usize = 256;
/// The end of a program waits so long for them to be read.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often room is looked for meanwhile.
const ROOM_RETRY: Duration = Duration::from_millis(5);
/// How often a reader is tried for which writing does not wait.
const BUSY_RETRY: Duration = Duration::from_millis(20);

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Told when all before it is written.
    Mark(Sender<()>),
}

/// Writes lines on a thread of its own, so that media never waits for who reads them: a terminal that is held (Ctrl-S), a pipe
/// whose reader sleeps or has gone. Lines that find no room are left out, and told of. Each is one call of `write`, which
/// always succeeds.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: SyncSender<Item>,
    left_out: Arc<AtomicU64>,
}

impl Lines {
    /// Begins to write to `out`.
    pub fn new(mut out: impl Write + Send + 'static) -> Self {
        let (queue, items) = sync_channel(WAITING_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        std::thread::spawn(move || {
            for item in items {
                let missing = counted.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    tracing::warn!(missing, "reports or log lines were not read in time and are left out");
                }
                let line = match item {
                    Item::Line(line) => line,
                    Item::Mark(passed) => {
                        // Whoever waits for it may have gone.
                        let _ = passed.send(());
                        continue;
                    }
                };
                if let Err(error) = write_through(&mut out, &line) {
                    tracing::warn!(%error, "nobody reads the reports any more: going on without them");
                    return;
                }
            }
        });
        Self { queue, left_out }
    }

    /// Writes a line.
    pub fn line(&self, line: &impl Display) {
        self.write_out(format!("{line}\n").into_bytes());
    }

    fn write_out(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Item::Line(line)) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was written is read, but not for long.
    pub fn finish(&self) {
        let deadline = Instant::now() + PATIENCE;
        let (mark, passed) = channel();
        let mut item = Item::Mark(mark);
        while let Err(TrySendError::Full(refused)) = self.queue.try_send(item) {
            if Instant::now() >= deadline {
                return;
            }
            item = refused;
            std::thread::sleep(ROOM_RETRY);
        }
        // Late, or the thread has gone: either way the program ends.
        let _ = passed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Writes all of a line, also where writing does not wait for the reader: whoever shares the terminal or the pipe may have set it
/// so.
fn write_through(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    loop {
        let written = if line.is_empty() { out.flush().map(|()| 0) } else { out.write(line) };
        match written {
            Ok(_) if line.is_empty() => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BUSY_RETRY),
            Err(error) => return Err(error),
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_out(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::Receiver;

    /// Writes nothing until it may; what it has written can be looked at.
    struct Slow {
        may: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_writes_never_waits_and_gets_what_there_is_room_for() {
        let (go, may) = channel();
        let (written, seen) = channel();
        let mut lines = Lines::new(Slow { may, written });
        let all = WAITING_MAX as u32 + 100;
        for number in 0..all {
            lines.write_all(&number.to_be_bytes()).expect("never an error");
        }
        let left_out = lines.left_out.load(Ordering::Relaxed) as u32;
        assert!((99..=100).contains(&left_out), "one may be on its way: {left_out}");
        (0..all).for_each(|_| go.send(()).expect("a thread"));
        lines.finish();
        let seen: Vec<_> = seen.try_iter().collect();
        assert!(seen.is_sorted() && seen.len() as u32 == all - left_out, "{} of {all}", seen.len());
    }

    #[test]
    fn who_writes_goes_on_when_nobody_reads() {
        let (go, may) = channel();
        drop(go);
        let mut lines = Lines::new(Slow { may, written: channel().0 });
        (0..1000).for_each(|_| writeln!(lines, "line").expect("never an error"));
        lines.finish();
    }

    /// Takes three bytes at a time, and none every other time.
    #[derive(Clone, Default)]
    struct Busy {
        calls: usize,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Busy {
        fn refuses(&mut self) -> io::Result<()> {
            self.calls += 1;
            match self.calls % 4 {
                1 => Err(io::ErrorKind::WouldBlock.into()),
                3 => Err(io::ErrorKind::Interrupted.into()),
                _ => Ok(()),
            }
        }
    }

    impl Write for Busy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.refuses()?;
            let taken = &bytes[..bytes.len().min(3)];
            self.written.lock().expect("no panic inside the lock").extend(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.refuses()
        }
    }

    #[test]
    fn a_line_is_whole_where_writing_does_not_wait() {
        let busy = Busy::default();
        let lines = Lines::new(busy.clone());
        lines.line(&"one");
        lines.line(&"and two");
        lines.finish();
        assert_eq!(*busy.written.lock().expect("no panic inside the lock"), b"one\nand two\n");
    }
}
