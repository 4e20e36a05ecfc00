//! What a passing test leaves open, because this machine does not allow it or it went well at the second try only: said where
//! it is seen.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// Tells on the terminal that `what` was not tested, and why. The test harness keeps what a passing test prints by macro.
pub fn tell(what: &str, reason: &str) {
    say("NOT TESTED", what, reason);
}

/// Tells there that `what` failed and is tried again.
pub fn tell_again(what: &str, reason: &str) {
    say("TRIED AGAIN", what, reason);
}

fn say(kind: &str, what: &str, reason: &str) {
    // A closed terminal is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{kind}: {what}: {reason}");
}

/// The same where only root may; root fails.
pub fn tell_unless_root(what: &str, reason: &str) {
    let uid = std::fs::metadata("/proc/self").expect("the kernel's list of processes").uid();
    assert_ne!(uid, 0, "{what} cannot be tested, though by root: {reason}");
    tell(what, reason);
}
