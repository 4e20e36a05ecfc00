//! Many cases of one test at the same time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Runs every case, `parallel` at a time, and fails with the list of those that failed.
pub fn run_all<C: Sync>(
    cases: &[C],
    parallel: usize,
    name: impl Fn(&C) -> String + Sync,
    run: impl Fn(&C) -> Result<(), String> + Sync,
) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let started = Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(|| run(case)))
                        .unwrap_or_else(|_| Err("panicked, see above".to_owned()));
                    println!(
                        "{:<60} {:>6.1?} {}",
                        name(case),
                        started.elapsed(),
                        if result.is_ok() { "ok" } else { "FAILED" }
                    );
                    if let Err(why) = result {
                        failures.lock().expect("no panic inside the lock").push(format!("{}: {why}", name(case)));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic inside the lock");
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
