//! What a process costs, from `/proc`.

use std::time::Duration;

/// CPU time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// User and system time since its start.
    pub cpu: Duration,
    /// The most memory it ever had resident, KiB.
    pub peak_rss_kib: u64,
}

/// Reads it; `None` when the process is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage { cpu: parse_cpu(&stat)?, peak_rss_kib: parse_peak_rss(&status)? })
}

/// Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms (USER_HZ is 100 on every Linux).
fn parse_cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks = rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(ticks * 10))
}

fn parse_peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_a_name_with_brackets() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 5 6 7";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_peak_rss("Name:\tx\nVmHWM:\t   1234 kB\n"), Some(1234));
        assert!(usage(std::process::id()).is_some_and(|own| own.peak_rss_kib > 500));
        assert_eq!(usage(u32::MAX), None);
    }
}
