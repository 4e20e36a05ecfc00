//! The live status: one line a second, with a heading now and then.

use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// The heading comes again after so many lines, so that one is in sight.
pub(super) const HEADING_EVERY: usize = 20;
/// Longest name of a link in the heading.
const NAME_CHARACTERS_MAX: usize = 8;

/// What the columns of [`line`] are.
pub(super) fn heading(state: &Value) -> String {
    let mut heading = " time  state        Mbit/s".to_owned();
    for link in links(state) {
        let name = link["name"].as_str().unwrap_or("?");
        let name: String = name.split(" (").next().unwrap_or(name).chars().take(NAME_CHARACTERS_MAX).collect();
        let _ = write!(heading, " {name:>NAME_CHARACTERS_MAX$}");
    }
    heading + "  delivered  lost  repaired  latency  outputs  frames decoded"
}

/// What is measured now; `-` stands for what is not. An output that does not carry the stream is named.
pub(super) fn line(since: Duration, state: &Value, reader_frames: [u64; 2]) -> String {
    let receiver = &state["receiver"];
    let seconds = since.as_secs();
    let mut line = format!("{:02}:{:02}  {:<12}", seconds / 60, seconds % 60, label(state));
    let _ = write!(line, " {:>6}", megabits(&receiver["rate"]));
    for link in links(state) {
        let _ = write!(line, " {:>NAME_CHARACTERS_MAX$}", megabits(&link["rate"]));
    }
    let count = |key: &str| receiver[key].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
    let (delivered, lost, repaired) = (count("delivered"), count("lost"), count("recovered"));
    let latency = receiver["transit_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
    let _ = write!(line, "  {delivered:>9}  {lost:>4}  {repaired:>8}  {latency:>7}");
    let outputs: Vec<&Value> = state["outputs"].as_array().into_iter().flatten().collect();
    let idle: Vec<_> = outputs.iter().filter(|output| output_state(output) != "active").collect();
    let _ = write!(line, "   {} of {}", outputs.len() - idle.len(), outputs.len());
    let _ = write!(line, "  {} RTMP, {} SRT", reader_frames[0], reader_frames[1]);
    for output in idle {
        let name = output["name"].as_str().or(output["id"].as_str()).unwrap_or("?");
        let _ = write!(line, "; {name}: {}", output_state(output));
    }
    line
}

fn links(state: &Value) -> impl Iterator<Item = &Value> {
    state["receiver"]["links"].as_array().into_iter().flatten()
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
            "receiver": { "rate": 3_040_000, "delivered": 4321, "lost": 0, "recovered": 7, "transit_ms": 1034.4,
                "links": [{ "name": "Modem 1 (Northcell)", "rate": 1_620_000 }] },
            "outputs": [
                { "id": "hls", "name": "HLS", "state": { "state": "active" } },
                { "id": "x", "name": "SRT reader", "state": { "state": "connecting" } },
            ],
        });
        let (heading, line) = (heading(&state), line(Duration::from_secs(72), &state, [100, 90]));
        assert_eq!(
            format!("{heading}\n{line}"),
            "\x20time  state        Mbit/s  Modem 1  delivered  lost  repaired  latency  outputs  frames decoded
01:12  ON AIR         3.04     1.62       4321     0         7  1034 ms   1 of 2  100 RTMP, 90 SRT; SRT reader: connecting"
        );
    }

    #[test]
    fn nothing_that_was_not_measured_has_a_figure() {
        let state = json!({ "state": "interrupted", "on_air": false });
        let line = line(Duration::ZERO, &state, [0, 0]);
        let words: Vec<_> = line.split_whitespace().take(6).collect();
        assert_eq!(words, ["00:00", "INTERRUPTED", "-", "-", "-", "-"]);
    }
}
