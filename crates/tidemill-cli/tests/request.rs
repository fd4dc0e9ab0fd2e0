//! `tidemill request` beside a demo, whose text messages answer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::{Running, run, tidemill};

const HELLO: &str = r#"{"type":"send_message","from":"ann","to":"bob","text":"hello"}"#;

#[test]
fn a_handlers_reply_is_printed_and_none_is_told() {
    let mut command = tidemill();
    let nowhere = "127.0.0.1:0";
    command.args(["demo", "--bus", "memory:", "--rate", "1", "--http", nowhere]);
    command.args(["--shop", nowhere, "--messages", nowhere]);
    let mut running = Running::start(command);
    let url = running
        .line("http:")
        .trim_start_matches("http: ")
        .to_owned();
    running.line("    1s  published");
    let ask = |words: &[&str]| run(&[&["request"], words, &["--server", &url]].concat());
    let send = ["message_requests", HELLO, "--type", "send_message"];
    let longer = ["--timeout", "40s"];

    let reply: Value =
        serde_json::from_str(&ask(&[send, [longer[0], longer[1], "--key", "bob"]].concat()).done())
            .unwrap();
    assert_eq!(
        (&reply["to"], &reply["text"]),
        (&"bob".into(), &"hello".into())
    );
    let whole = ask(&[&send[..], &longer, &["--json"]].concat()).done();
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(
        (&whole["type"], &whole["data"]["from"]),
        (&"message_processed.reply".into(), &"ann".into())
    );

    let broken = ask(&["nobody", "{\"n\": 7", "--timeout", "50ms"]).misused();
    assert!(broken.contains("--text"), "{broken}");
    let as_text = ask(&["nobody", "{\"n\": 7", "--text", "--timeout", "50ms"]).failed();
    assert!(as_text.contains("no reply within 50ms"), "{as_text}");
    let nobody = ask(&["nobody", "{}", "--timeout", "50ms"]).failed();
    assert!(
        nobody.contains("no reply within 50ms") && nobody.contains("may still be handled"),
        "{nobody}"
    );
    let long = ask(&["nobody", "{}", "--timeout", "2m"]).misused();
    assert!(long.contains("it is at most 50s"), "{long}");
    running.stop("TERM").done();
}
