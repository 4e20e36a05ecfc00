//! Spans of time as numbers.

use std::time::Duration;

/// `span` in milliseconds, with their fractions, for statistics and whoever computes with it.
pub fn as_millis_f64(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// `span` in milliseconds, to about seven digits: short in reports that are sent every second.
pub fn as_millis_f32(span: Duration) -> f32 {
    span.as_secs_f32() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_its_fractions_of_a_millisecond() {
        let span = Duration::from_micros(1500);
        assert!((as_millis_f64(span) - 1.5).abs() < 1e-12 && (as_millis_f32(span) - 1.5).abs() < 1e-6);
    }
}
