//! Goal: the crew can trust what the page says. Method: views of each situation, and the words that must and must not
//! appear.

use super::*;
use protocol::state::{OutputStatus, Settings};
use protocol::telemetry::{LinkTelemetry, StreamTelemetry};
use units::{Bitrate, LinkId, LossRatio, StreamId};

fn stream() -> StreamId {
    "s".parse().unwrap()
}

fn view() -> View {
    View {
        device: Some("van-7".to_owned()),
        board: "bench".to_owned(),
        agent_version: "1",
        uptime_ms: 0,
        relay: RelayView::Connected { for_ms: 5000 },
        streaming: StreamingState::Idle,
        on_air: None,
        request: RequestView::None,
        outputs_ordered: Vec::new(),
        stream: None,
        links: Vec::new(),
        inputs: Vec::new(),
        input: None,
        settings: Settings::default(),
        temperature_c: None,
        claim: ClaimView::None,
    }
}

fn word(on_air: bool, age_ms: u64) -> OnAirView {
    let output = OutputStatus {
        id: "1".to_owned(),
        name: "YouTube".to_owned(),
        state: OutputState::Active,
        bytes: 1,
        rate: Bitrate::from_kbps(4000),
    };
    OnAirView { stream: stream(), on_air, age_ms, fresh: age_ms <= 3000, outputs: vec![output] }
}

fn sending(on_air: Option<OnAirView>) -> View {
    View { streaming: StreamingState::Sending { stream: stream(), for_ms: 65_000 }, on_air, ..view() }
}

fn section(view: &View, name: &str) -> String {
    Sections::new(view).take(name)
}

#[test]
fn the_red_light_is_the_relays_fresh_word_and_nothing_else() {
    let red = |view: &View| section(view, "status").contains("banner live");
    assert!(red(&sending(Some(word(true, 400)))));
    let others = [
        view(),
        sending(None),
        sending(Some(word(false, 400))),
        sending(Some(word(true, 3001))),
        View { streaming: StreamingState::Starting { stream: stream() }, on_air: Some(word(true, 0)), ..view() },
        View { streaming: StreamingState::Stopping { stream: stream() }, on_air: Some(word(true, 0)), ..view() },
    ];
    for view in others {
        let html = section(&view, "status");
        assert!(!red(&view) && !html.contains("<strong>ON AIR"), "{html}");
    }
}

#[test]
fn an_old_word_shows_its_age_and_what_it_was() {
    let html = section(&sending(Some(word(true, 75_000))), "status");
    assert!(
        html.contains("UNCONFIRMED") && html.contains("1 min 15 s") && html.contains("last word: on air"),
        "{html}"
    );
    assert!(html.contains("last word: delivering 4.00 Mbit/s"), "outputs too: {html}");
}

#[test]
fn a_failure_says_why_and_what_to_do_next() {
    let (reason, next_step) = ("no frame from the camera".to_owned(), "check the HDMI cable".to_owned());
    let failed = View { streaming: StreamingState::Failed { stream: stream(), reason, next_step }, ..view() };
    let html = section(&failed, "status");
    assert!(
        html.contains("FAILED")
            && html.contains("No frame from the camera.")
            && html.contains("Next: check the HDMI cable."),
        "{html}"
    );
    assert!(section(&failed, "controls").contains("GO LIVE"), "and it can be tried again");
    let refused = View { request: RequestView::Refused { detail: "no destination: add one".to_owned() }, ..view() };
    assert!(section(&refused, "controls").contains("No destination: add one"));
}

#[test]
fn go_live_can_be_pressed_only_when_it_can_work() {
    let enabled = |view: &View| section(view, "controls").contains(r#"<button class="go">GO LIVE"#);
    assert!(enabled(&view()));
    assert!(!enabled(&View { relay: RelayView::Connecting, ..view() }));
    let lost = RelayView::Disconnected { reason: "cannot reach the relay".to_owned(), for_ms: 9000 };
    let lost = View { relay: lost, ..view() };
    assert!(!enabled(&lost));
    assert!(section(&lost, "status").contains("No relay for 9 s: cannot reach the relay"));
    assert!(!enabled(&View { request: RequestView::Asked { for_ms: 10 }, ..view() }));
    assert!(section(&sending(None), "controls").contains("STOP"));
    let unclaimed = section(&View { relay: RelayView::NotEnrolled, ..view() }, "controls");
    assert!(unclaimed.contains("CLAIM") && !unclaimed.contains("GO LIVE"), "{unclaimed}");
}

fn link(problem: Option<&str>, state: LinkState) -> LinkView {
    let figures = LinkTelemetry {
        link: LinkId(0),
        name: "Modem 1".to_owned(),
        state,
        rtt_ms: Some(48.6),
        queue_delay_ms: None,
        send_rate: Bitrate::from_kbps(2400),
        capacity: Bitrate::from_kbps(3000),
        loss: LossRatio::new(0.0125),
        packets_sent: 1,
        retransmits: 0,
    };
    let uplink = protocol::state::UplinkState {
        link: LinkId(0),
        name: "Modem 1".to_owned(),
        interface: "wwan0".to_owned(),
        kind: protocol::state::UplinkKind::Modem,
        usable: problem.map_or(Usability::Yes, |reason| Usability::No { reason: reason.to_owned() }),
        radio: Some(protocol::state::Radio {
            technology: "4G".to_owned(),
            operator: "O".to_owned(),
            signal_dbm: -88.2,
            age_ms: 0,
        }),
    };
    LinkView { uplink, figures: Some(figures) }
}

#[test]
fn a_link_shows_what_it_delivers_and_not_bars_alone() {
    let html = section(&View { links: vec![link(None, LinkState::Up)], ..sending(None) }, "links");
    for words in ["2.40 Mbit/s", "RTT 49 ms", "1.25 %", "4G -88 dBm", "3 of 5", "carries media"] {
        assert!(html.contains(words), "{words} is missing: {html}");
    }
    let dead = View { links: vec![link(Some("registered, no data: check plan and APN"), LinkState::Down)], ..view() };
    let html = section(&dead, "links");
    assert!(html.contains("not used") && html.contains("Registered, no data: check plan and APN"), "{html}");
    assert!(section(&view(), "links").contains("No network at all"));
}

#[test]
fn old_figures_are_marked_with_their_age() {
    let stream = |age_ms| StreamTelemetry {
        stream: stream(),
        age_ms,
        rate_advice: Bitrate::ZERO,
        encoder_target: Bitrate::from_kbps(4000),
        media_rate: Bitrate::ZERO,
        latency_ms: 1000,
        packets_in: 0,
        retransmits: 0,
        dropped: 0,
        encoder: "x264enc".to_owned(),
        links: Vec::new(),
    };
    let with = |age_ms| View { links: vec![link(None, LinkState::Up)], stream: Some(stream(age_ms)), ..sending(None) };
    assert!(!section(&with(3000), "links").contains("stale"));
    let html = section(&with(4200), "links");
    assert!(html.contains("stale") && html.contains("4.2 s old"), "{html}");
}

#[test]
fn what_others_wrote_is_text_and_not_markup() {
    let mut evil = link(Some("<script>x</script>"), LinkState::Up);
    evil.uplink.name = "<img src=x>".to_owned();
    let settings = Settings { name: "\"><script>".to_owned(), ..Settings::default() };
    let html = PageTemplate::new(&View { links: vec![evil], settings, ..view() }).render().unwrap();
    assert!(!html.contains("<img") && !html.contains("<script>"), "{html}");
    assert!(html.contains("&#60;script&#62;"), "{html}");
}

#[test]
fn only_changed_sections_are_sent() {
    let first = Sections::new(&view());
    assert_eq!(first.changed_since(&Sections::default()).len(), 5);
    let later = Sections::new(&View { temperature_c: Some(50.0), ..view() });
    assert_eq!(later.changed_since(&first).keys().copied().collect::<Vec<_>>(), ["about"]);
}
