//! Values as people read them.

use std::time::Duration;
use units::Bitrate;

/// A value as text, with its age when the page was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The value.
    pub text: String,
    /// Its age, milliseconds.
    pub age_ms: u64,
}

impl Measured {
    /// `text`, measured `age` ago.
    pub fn new(text: impl Into<String>, age: Duration) -> Self {
        Self { text: text.into(), age_ms: age.as_millis() as u64 }
    }
}

/// "4.82 Mbit/s", "320 kbit/s".
pub fn bitrate(rate: Bitrate) -> String {
    if rate.as_kbps() >= 1000 {
        format!("{:.2} Mbit/s", rate.as_mbps_f64())
    } else {
        format!("{} kbit/s", rate.as_kbps())
    }
}

/// "0 %", "0.03 %", "12 %".
pub fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "<0.01 %".to_owned(),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent if percent < 10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// "38 ms", "1.20 s".
pub fn millis(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.2} s", ms / 1000.0) } else { format!("{ms:.0} ms") }
}

/// "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
pub fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86400, s / 3600 % 24),
    }
}

/// "12,345".
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1.2 GB".
pub fn bytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

/// Unix milliseconds as RFC 3339 in UTC, for `<time datetime>`; the browser shows local time.
pub fn rfc3339(unix_ms: u64) -> String {
    let (days, seconds) = ((unix_ms / 86_400_000) as i64, unix_ms / 1000 % 86_400);
    // Days to civil date: Howard Hinnant's algorithm, eras of 400 years from 0000-03-01.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        assert_eq!(bitrate(Bitrate::from_kbps(4820)), "4.82 Mbit/s");
        assert_eq!(bitrate(Bitrate::from_kbps(320)), "320 kbit/s");
        assert_eq!(
            [percent(0.0), percent(0.00003), percent(0.0034), percent(0.034), percent(0.34)],
            ["0 %", "<0.01 %", "0.34 %", "3.4 %", "34 %"]
        );
        assert_eq!([millis(38.4), millis(1204.0)], ["38 ms", "1.20 s"]);
        assert_eq!(duration(Duration::from_mins(125)), "2 h 5 min");
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([bytes(999), bytes(1_500_000), bytes(2_340_000_000)], ["999 B", "1.5 MB", "2.34 GB"]);
    }

    #[test]
    fn dates_are_right_over_leap_years_and_centuries() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_798_761_599_999), "2026-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00Z");
    }
}
