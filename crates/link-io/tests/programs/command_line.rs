//! What is understood, what is refused, and what is told of it.

use super::{RECEIVE, SEND, arguments};
use free_ports::free_pair;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn mistakes_are_named_and_end_the_program_with_a_failure() {
    let refused = |program: &str, text: &str| {
        let output = Command::new(program).args(arguments(text)).output().expect("started");
        assert!(!output.status.success(), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let send = |text: &str| refused(SEND, text);
    assert!(send("--in udp://127.0.0.1:6000 --links 127.0.0.1").contains("the port is missing"));
    assert!(send("--in udp://127.0.0.1:0 --links 127.0.0.1:1 --latency 5").contains("the latency must be between"));
    assert!(send("--in - --links 127.0.0.1:1 --psk-file /nowhere").contains("cannot read the secret file /nowhere"));
    assert!(send("--in /nowhere.ts --links 127.0.0.1:1").contains("cannot open /nowhere.ts"));
    assert!(send("--links 127.0.0.1:1").contains("--input"));
    assert!(
        send("--in - --links ,").contains("--links: link 1 of the list: the destination is wrong: `` is not HOST:PORT")
    );
    assert!(send("--in - --links=").contains("give at least one link"));
    assert!(
        send("--in - --links 127.0.0.1:1;colour=red").contains("`colour=red` is not key=value with a key of id, name")
    );
    assert!(send("--in rtp://h:1 --links 127.0.0.1:1").contains("`rtp://` is not supported"));
    assert!(send("--in - --links 127.0.0.1:1 --bind-list /nowhere").contains("--bind-list: cannot read"));
    assert!(send("--in - --links 127.0.0.1:1 --stats xml").contains("`xml` is none of none, text, json"));
    assert!(send("--in - --links 127.0.0.1:1 --srp-file /nowhere").contains("--srp-file: cannot read the secret file"));
    assert!(send("--in /dev/zero --links 127.0.0.1:1").contains("no MPEG-TS packet at byte 0"));
    assert!(send("--in - --links auto").contains("--to: --links auto needs the destination"));
    assert!(send("--in - --links auto --to 127.0.0.1:1;dev=lo").contains("`dev=lo` is of one link"));
    assert!(send("--in - --links auto --to 127.0.0.1:1 --bind-list x").contains("--bind-list: not with --links auto"));
    assert!(send("--in - --links 127.0.0.1:1 --to 127.0.0.1:1").contains("belong to --links auto"));
    assert!(send("--in - --links 127.0.0.1:1 --aes 128").contains("--psk-file"), "no stream in the clear by mistake");
    assert!(send("--in - --links 127.0.0.1:1 --flow-id 4661").contains("the flow id must be even, not 4661"));
    assert!(send("--in - --links 127.0.0.1:1 --key-rotation 9").contains("--psk-file"));
    let receive = |text: &str| refused(RECEIVE, text);
    assert!(receive("--connect 127.0.0.1:2 --out - --profile simple").contains("in Simple Profile the sender calls"));
    assert!(receive("--out -").contains("--listen"));
    assert!(receive("--listen 127.0.0.1:1 --out a --out 2000=b").contains("each needs the virtual port of its flow"));
    assert!(receive("--listen 127.0.0.1:1 --out 2000=a --out 2000=b").contains("virtual port 2000 is named twice"));
    assert!(receive("--listen 127.0.0.1:1 --out 2000=- --out 2002=-").contains("only one flow can go to -"));
    assert!(receive("--listen 127.0.0.1:1 --out 2000=a --out 2002=a").contains("only one flow can go to a"));
    assert!(receive("--listen 127.0.0.1:0 --out 2001=/tmp/never").contains("the virtual port must be even"));
    assert!(receive("--listen 127.0.0.1:1 --out rtmp://h").contains("`rtmp://` is not supported"));
    assert!(
        receive("--listen nonsense --out -").contains("--listen: `nonsense` is not HOST:PORT: the port is missing")
    );
    assert!(receive("--listen 127.0.0.1:0 --out /no/such/folder/x").contains("cannot open /no/such/folder/x"));
    assert!(receive("--listen 192.0.2.1:5000 --out -").contains("cannot listen on 192.0.2.1:5000"));
    assert!(receive("--listen 127.0.0.1:5001 --profile simple --out -").contains("even port"));
}

#[test]
fn what_is_no_transport_stream_on_standard_input_is_refused() {
    let mut sender = Command::new(SEND)
        .args(arguments("--input - --links 127.0.0.1:9"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // The program ends while it is still being written to.
    let _ = sender.stdin.take().expect("piped").write_all(&vec![b'x'; 200_000]);
    let output = sender.wait_with_output().expect("it ends by itself");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("standard input is no MPEG transport stream"), "{text}");
}

/// The help names every option of the issue, says how links are written, and gives an example that is understood.
#[test]
fn the_help_is_complete_and_its_example_is_understood() {
    let help = |program: &str| {
        let output = Command::new(program).arg("--help").output().expect("started");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    let (send, receive) = (help(SEND), help(RECEIVE));
    for option in
        ["--input", "--links", "--latency", "--psk-file", "--stats", "--profile", "rate-max", "budget-mb", "--to"]
    {
        assert!(send.contains(option), "{option} is missing in:\n{send}");
    }
    for option in ["--listen", "--connect", "--output", "--latency", "--psk-file", "--stats", "--srp-file"] {
        assert!(receive.contains(option), "{option} is missing in:\n{receive}");
    }
    let key = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key.path(), "words\n").expect("written");
    let example = |help: &str| {
        let lines = help.lines().skip_while(|line| !line.starts_with("Example:")).skip(1);
        let lines = lines.take_while(|line| !line.is_empty()).map(|line| line.trim_end_matches('\\'));
        let text = lines.collect::<String>().replace('\'', "").replace("relay.example", "127.0.0.1");
        let text = text.replace(":5000", &format!(":{}", free_pair())).replace(":6000", &format!(":{}", free_pair()));
        arguments(&text.replace(" key ", &format!(" {} ", key.path().display())))
    };
    // Started as they stand, both run until they are told to end.
    for (program, example) in [(RECEIVE, example(&receive)), (SEND, example(&send))] {
        let mut child = Command::new(program).args(&example[1..]).stdout(Stdio::null()).spawn().expect("started");
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().expect("a child").is_none(), "{example:?} ended");
        child.kill().expect("running");
        child.wait().expect("ended");
    }
}
