//! One line of live status.

use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// `00:12  ON AIR  3.04 Mbit/s | Modem 1 1.62  Modem 2 0.90  Modem 3 0.61 | delivered 4321  lost 0 ...`
pub(super) fn line(since: Duration, state: &Value, reader_frames: [u64; 2]) -> String {
    let receiver = &state["receiver"];
    let seconds = since.as_secs();
    let mut line = format!("{:02}:{:02}  {:<11}", seconds / 60, seconds % 60, label(state));
    let _ = write!(line, " {} Mbit/s |", megabits(&receiver["rate"]));
    for link in receiver["links"].as_array().into_iter().flatten() {
        let name = link["name"].as_str().unwrap_or("?");
        let name: String = name.split(" (").next().unwrap_or(name).chars().take(16).collect();
        let _ = write!(line, " {name} {}", megabits(&link["rate"]));
    }
    let count = |key: &str| receiver[key].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
    let _ = write!(
        line,
        " | delivered {}  lost {}  recovered {}  latency {} ms |",
        count("delivered"),
        count("lost"),
        count("recovered"),
        count("latency_ms")
    );
    for output in state["outputs"].as_array().into_iter().flatten() {
        let name = output["name"].as_str().or(output["id"].as_str()).unwrap_or("?");
        let _ = write!(line, " {name}: {}", output_state(output));
    }
    let _ = write!(line, " | decoded {} + {} frames", reader_frames[0], reader_frames[1]);
    line
}

fn label(state: &Value) -> String {
    match state["on_air"].as_bool() {
        Some(true) => "ON AIR".to_owned(),
        _ => state["state"].as_str().unwrap_or("?").to_uppercase(),
    }
}

fn megabits(rate: &Value) -> String {
    rate.as_u64().map_or_else(|| "-".to_owned(), |bps| format!("{:.2}", bps as f64 / 1e6))
}

/// The state's word; in protocol's JSON it is an object with a `state` of its own.
pub(super) fn output_state(output: &Value) -> &str {
    output["state"]["state"].as_str().or(output["state"].as_str()).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_line_tells_what_is_measured_and_marks_what_is_not() {
        let state = json!({
            "state": "on-air", "on_air": true,
            "receiver": { "rate": 3_040_000, "delivered": 4321, "lost": 0, "recovered": 7, "latency_ms": 1000,
                "links": [{ "name": "Modem 1 (Northcell)", "rate": 1_620_000 }] },
            "outputs": [{ "id": "hls", "name": "HLS", "state": { "state": "active" } }],
        });
        assert_eq!(
            line(Duration::from_secs(72), &state, [100, 90]),
            "01:12  ON AIR      3.04 Mbit/s | Modem 1 1.62 | delivered 4321  lost 0  recovered 7  latency 1000 ms | HLS: active \
             | decoded 100 + 90 frames"
        );
        let state = json!({ "state": "interrupted", "on_air": false });
        assert!(
            line(Duration::ZERO, &state, [0, 0]).starts_with("00:00  INTERRUPTED - Mbit/s | | delivered -  lost -")
        );
    }
}
