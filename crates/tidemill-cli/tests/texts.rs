//! The text messages of `tidemill demo`: taken in on their own port, and delivered live by the
//! doors of the broker, here Socket.IO over long polling and server-sent events.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Running, tidemill};

/// Longest wait for an answer; far above what it takes.
const WAIT: Duration = Duration::from_secs(20);

/// One request on a connection of its own; the body of the answer.
fn call(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}

/// The address that a line of the demo names, such as `{"http":"http://127.0.0.1:1"}`.
fn address(running: &mut Running, name: &str) -> String {
    let rest = running.line(&format!("{{\"{name}\":\"http://"));
    rest.trim_end_matches("\"}").to_owned()
}

/// A Socket.IO client that has entered the room `messages`: where it polls.
fn listener(http: &str) -> String {
    let base = "/socket.io/?EIO=4&transport=polling";
    let opened = call(http, "GET", base, "");
    let opened: Value = serde_json::from_str(opened.trim_start_matches('0')).unwrap();
    let path = format!("{base}&sid={}", opened["sid"].as_str().unwrap());
    call(http, "POST", &path, "40");
    until(http, &path, "40{");
    call(
        http,
        "POST",
        &path,
        r#"420["subscribe",{"room":"messages"}]"#,
    );
    until(http, &path, "43");
    path
}

/// Polls until a packet holds this.
fn until(http: &str, path: &str, what: &str) -> String {
    let begun = Instant::now();
    loop {
        let packets = call(http, "GET", path, "");
        assert!(begun.elapsed() < WAIT, "{what} does not come: {packets}");
        let mut each = packets.split('\u{1e}');
        if each.any(|packet| packet == "2") {
            // A ping.
            call(http, "POST", path, "3");
        }
        if let Some(packet) = packets.split('\u{1e}').find(|packet| packet.contains(what)) {
            return packet.to_owned();
        }
    }
}

/// Reads a stream of server-sent events until a line holds this.
fn read_until(stream: &mut impl BufRead, what: &str) -> String {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        let read = stream.read_line(&mut line).unwrap();
        assert!(read > 0, "the stream ended before {what}");
    }
    line
}

#[test]
fn a_text_message_is_answered_and_arrives_live() {
    let mut command = tidemill();
    command.args(["demo", "--bus", "memory:", "--rate", "0", "--json"]);
    for flag in ["--http", "--shop", "--messages"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let mut running = Running::start(command);
    let http = address(&mut running, "http");
    let messages = address(&mut running, "messages");
    let path = listener(&http);
    let new = r#"{"from": "ada", "to": "bob", "text": "are you there?"}"#;
    let answer: Value = serde_json::from_str(&call(&messages, "POST", "/messages", new)).unwrap();
    assert_eq!(answer["status"], "sent", "{answer}");
    let packet = until(&http, &path, "message_sent");
    assert!(packet.contains("are you there?"), "{packet}");
    let history = call(&messages, "GET", "/messages?user=bob", "");
    let history: Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history["messages"][0]["id"], answer["id"]);

    // The same by server-sent events: first what was, then what comes.
    let mut stream = TcpStream::connect(&http).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let follow =
        "GET /v1/topics/messages/stream?from=beginning HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(follow.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    read_until(&mut stream, "are you there?");
    let new = r#"{"from": "bob", "to": "ada", "text": "yes, live"}"#;
    call(&messages, "POST", "/messages", new);
    read_until(&mut stream, "yes, live");
    drop(stream);
    running.stop("TERM").done();
}
