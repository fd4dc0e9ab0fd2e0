//! The native protocol as a client in another language sees it: the conversations of its document,
//! and what becomes of frames that are wrong, early, late, double or too many.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::HashMap;

use futures_util::SinkExt;
use serde_json::{Value, json};
use support::Running;
use support::ws::{Closed, Ws};
use tidemill_broker::CreateQueue;
use tidemill_core::TopicName;
use tidemill_core::budget::Class;
use tokio_tungstenite::tungstenite::Message;

const DOCUMENT: &str = include_str!("../../../docs/WEBSOCKET.md");

/// Whether `got` is what `wanted` says; `"..."` is anything, and `"$name"` is what it was before,
/// or is now.
fn matches(wanted: &Value, got: &Value, names: &mut HashMap<String, Value>) -> bool {
    match (wanted, got) {
        (Value::String(any), _) if any == "..." => true,
        (Value::String(name), _) if name.starts_with('$') => {
            names.entry(name.clone()).or_insert_with(|| got.clone()) == got
        }
        (Value::Object(wanted), Value::Object(got)) => {
            wanted.len() == got.len()
                && wanted.iter().all(|(name, value)| {
                    got.get(name).is_some_and(|got| matches(value, got, names))
                })
        }
        (Value::Array(wanted), Value::Array(got)) => {
            let mut pairs = wanted.iter().zip(got);
            wanted.len() == got.len() && pairs.all(|(wanted, got)| matches(wanted, got, names))
        }
        _ => wanted == got,
    }
}

#[tokio::test]
async fn the_conversations_of_the_document_are_as_it_says() {
    let running = Running::start().await;
    let mut names = HashMap::new();
    let mut ws = Ws::open(running.address).await;
    let mut played = 0;
    let blocks = DOCUMENT.split("```frames\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let mut hellos = 0;
    for line in lines {
        played += 1;
        let (side, frame) = line.split_at(2);
        let mut frame = frame.to_owned();
        if side == "> " {
            if frame.contains("\"hello\"") {
                hellos += 1;
                if hellos > 1 {
                    // The connection breaks without a word.
                    ws = Ws::open(running.address).await;
                }
            }
            for (name, value) in &names {
                let value: &Value = value;
                frame = frame.replace(&format!("\"{name}\""), &value.to_string());
            }
            ws.say(&frame).await;
            continue;
        }
        let wanted: Value = serde_json::from_str(&frame).unwrap();
        let got = ws.hear().await.unwrap();
        assert!(
            matches(&wanted, &got, &mut names),
            "wanted {wanted}\ngot    {got}"
        );
        if hellos == 1 && got["type"] == "welcome" {
            names.insert("$session".into(), got["session"].clone());
        }
    }
    assert!(played > 20, "{played} lines");
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_is_told_so() {
    let running = Running::start().await;
    for headers in [&[][..], &[("Sec-WebSocket-Protocol", "tidemill.v9")][..]] {
        let Err(error) = Ws::with(running.address, headers).await else {
            panic!("a connection without the protocol");
        };
        assert!(error.to_string().contains("426"), "{error}");
    }
    let answer = running.client().get("/v1/ws").await;
    assert_eq!(answer.status, 426);
    assert!(answer.text.contains("upgrade-required"));
    let mut ws = Ws::open(running.address).await;
    let refused = ws.ask(r#"{"type":"topics","id":1}"#).await;
    assert_eq!(refused["code"], "unexpected");
    assert_eq!(ws.hear().await.unwrap()["type"], "bye");
    assert_eq!(ws.hear().await, Err(Closed(Some(1008))));
}

#[tokio::test]
async fn a_wrong_frame_is_refused_and_the_connection_goes_on() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    for (frame, code, id) in [
        ("nonsense", "malformed", json!(null)),
        (r#"{"type":"of_tomorrow","id":1}"#, "malformed", json!(1)),
        (
            r#"{"type":"publish","id":2,"topic":"a b","events":[]}"#,
            "malformed",
            json!(2),
        ),
        (r#"{"type":"hello"}"#, "unexpected", json!(null)),
        (
            r#"{"type":"credit","subscription":7,"total":5}"#,
            "unexpected",
            json!(null),
        ),
        (
            r#"{"type":"settle","id":3,"subscription":7,"delivery":1}"#,
            "stale",
            json!(3),
        ),
        (
            r#"{"type":"publish","id":4,"topic":"t","numbers":{"producer":"x","epoch":0,
                "partitions":1},"events":[]}"#,
            "numbers",
            json!(4),
        ),
        (
            r#"{"type":"publish","id":5,"topic":"t","numbers":{"producer":"9223372036854775807",
                "epoch":0,"partitions":1,"sequences":{"0":-1}},"events":[]}"#,
            "numbers",
            json!(5),
        ),
        (
            r#"{"type":"fetch","id":6,"topic":"none"}"#,
            "unknown_topic",
            json!(6),
        ),
        (
            r#"{"type":"subscribe","id":7,"subscription":1,"topics":[],"group":"g"}"#,
            "other",
            json!(7),
        ),
    ] {
        let refused = ws.ask(frame).await;
        assert_eq!(
            (&refused["type"], &refused["id"]),
            (&json!("error"), &id),
            "{frame}: {refused}"
        );
        assert_eq!(refused["code"], code, "{frame}: {refused}");
        assert!(!refused["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(ws.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test]
async fn a_queue_is_told_from_a_topic_and_gets_none_beside_it() {
    let running = Running::start().await;
    for (name, transient) in [("jobs", false), ("fleeting", true)] {
        let name = TopicName::new(name).unwrap();
        let how = CreateQueue {
            transient,
            ..CreateQueue::default()
        };
        running.broker.create_queue(name, how).await.unwrap();
    }
    let (mut ws, _) = Ws::hello(running.address).await;
    let producer = ws.ask(r#"{"type":"producer","id":1}"#).await;
    let numbers = json!({
        "producer": producer["producer"], "epoch": 0, "partitions": 1, "sequences": {}
    });
    let event = json!({"specversion": "1.0", "id": "1", "source": "/t", "type": "t"});
    for queue in ["jobs", "fleeting"] {
        for frame in [
            json!({"type": "topic", "topic": queue}),
            json!({"type": "publish", "topic": queue, "events": [event]}),
            json!({"type": "publish", "topic": queue, "events": [event], "numbers": numbers}),
            json!({"type": "subscribe", "subscription": 1, "topics": [queue], "group": "g"}),
        ] {
            let mut frame = frame;
            frame["id"] = json!(2);
            let refused = ws.ask(&frame.to_string()).await;
            assert_eq!(refused["code"], "is_queue", "{frame}: {refused}");
        }
    }
    assert!(running.broker.topics().is_empty());
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_with_its_code() {
    let running = Running::start().await;
    let huge = "x".repeat(tidemill_server::limits::WS_FRAME_MAX_BYTES + 1);
    for (message, code) in [
        (Message::binary(b"{}".to_vec()), 1003),
        (Message::text(huge), 1009),
    ] {
        let (mut ws, _) = Ws::hello(running.address).await;
        // The server may have closed before all of it was written.
        let _ = ws.socket.send(message).await;
        let mut last = ws.hear().await;
        if last.is_ok() {
            last = ws.hear().await;
        }
        assert!(matches!(last, Err(Closed(Some(got))) if got == code) || last == Err(Closed(None)));
    }
}

fn publish(id: usize, count: usize) -> String {
    let event =
        |n| json!({"specversion": "1.0", "id": format!("{id}-{n}"), "source": "/t", "type": "t"});
    let events: Vec<Value> = (0..count).map(event).collect();
    json!({"type": "publish", "id": id, "topic": "t", "events": events}).to_string()
}

#[tokio::test]
async fn lying_credit_and_double_settlements_get_nothing_more() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    ws.ask(&publish(1, 5_000)).await;
    let most = tidemill_server::limits::WS_CREDIT_MAX;
    ws.say(&format!(
        r#"{{"type":"subscribe","id":2,"subscription":1,"topics":["t"],"group":"g","order":"none",
            "credit":{}}}"#,
        u64::MAX
    ))
    .await;
    let mut came = 0;
    while came < most {
        let frame = ws.hear().await.unwrap();
        came += frame["deliveries"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(came, most, "no more than may be held");
    let settle =
        |id: usize| format!(r#"{{"type":"settle","id":{id},"subscription":1,"delivery":1}}"#);
    assert_eq!(ws.ask(&settle(3)).await["id"], 3);
    // There is room for one more now, which may come before the answer.
    let mut frames = vec![ws.ask(&settle(3)).await, ws.ask(&settle(4)).await];
    if frames.iter().any(|frame| frame["type"] == "deliver") {
        frames.push(ws.hear().await.unwrap());
    }
    let of = |id: u64| frames.iter().find(|frame| frame["id"] == id).unwrap();
    assert_eq!(of(3)["type"], "answer", "the same call once more");
    assert_eq!(of(4)["code"], "stale", "another call for the same delivery");
}

#[tokio::test]
async fn a_session_has_a_bounded_number_of_subscriptions() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    let most = tidemill_server::limits::WS_SUBSCRIPTIONS_MAX;
    let subscribe = |n: usize| {
        format!(
            r#"{{"type":"subscribe","id":{n},"subscription":{n},"topics":["t"],"group":"g{n}"}}"#
        )
    };
    for n in 1..=most {
        assert_eq!(ws.ask(&subscribe(n)).await["type"], "answer");
    }
    let refused = ws.ask(&subscribe(most + 1)).await;
    assert_eq!(
        (&refused["code"], &refused["retriable"]),
        (&json!("limit"), &json!(true))
    );
    let twice = ws
        .ask(&subscribe(1).replace("\"id\":1", "\"id\":9999"))
        .await;
    assert_eq!(twice["code"], "unexpected");
    let left = ws
        .ask(r#"{"type":"unsubscribe","id":10000,"subscription":1}"#)
        .await;
    assert_eq!(left["id"], 10_000);
    assert_eq!(ws.ask(&subscribe(most + 2)).await["type"], "answer");
}

#[tokio::test]
async fn subscriptions_that_are_joining_count_and_can_be_ended() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    let most = tidemill_server::limits::WS_SUBSCRIPTIONS_MAX;
    let subscribe = |n: usize, group: &str| {
        format!(
            r#"{{"type":"subscribe","id":{n},"subscription":{n},"topics":["t"],
                "group":"{group}","order":"none","credit":10}}"#
        )
    };
    // All at once: none has its answer when the next one comes.
    for n in 1..=20 {
        ws.socket
            .feed(Message::text(subscribe(n, "g")))
            .await
            .unwrap();
        let end = json!({"type": "unsubscribe", "id": 1000 + n, "subscription": n}).to_string();
        ws.socket.feed(Message::text(end)).await.unwrap();
    }
    ws.socket.flush().await.unwrap();
    for _ in 0..2 * 20 {
        let frame = ws.hear().await.unwrap();
        let ended = frame["id"].as_u64() > Some(1000);
        assert!(
            frame["type"] == "answer" || !ended && frame["code"] == "unexpected",
            "{frame}"
        );
    }
    let (mut other, _) = Ws::hello(running.address).await;
    assert_eq!(other.ask(&subscribe(1, "g")).await["type"], "answer");
    ws.ask(&publish(2000, 10)).await;
    let mut came = 0;
    while came < 10 {
        let frame = other.hear().await.unwrap();
        came += frame["deliveries"].as_array().map_or(0, Vec::len);
    }

    for n in 101..=100 + most + 40 {
        let text = subscribe(n, &format!("g{n}")).replace("[\"t\"]", "[\"u\"]");
        ws.socket.feed(Message::text(text)).await.unwrap();
    }
    ws.socket.flush().await.unwrap();
    let mut refused = 0;
    for _ in 0..most + 40 {
        refused += usize::from(ws.hear().await.unwrap()["code"] == "limit");
    }
    assert_eq!(refused, 40);
}

#[tokio::test]
async fn requests_that_wait_for_their_replies_hold_no_memory() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    let event = json!({"specversion": "1.0", "id": "1", "source": "/t", "type": "t",
        "datacontenttype": "text/plain", "data": "x".repeat(10_000)});
    let request = json!({"type": "request", "id": 1, "topic": "t", "event": event,
        "timeout_ms": u64::MAX});
    ws.say(&request.to_string()).await;
    let memory = running.broker.memory();
    let fetch = r#"{"type":"fetch","id":2,"topic":"t","wait_ms":30000}"#;
    let mut fetched = json!(null);
    while fetched["type"] != "fetched" {
        fetched = ws.ask(fetch).await;
    }
    while memory.used(Class::Requests) > 0 {
        tokio::task::yield_now().await;
    }
    ws.say(r#"{"type":"subscribe","id":3,"subscription":1,"topics":["t"],"group":"g","credit":1}"#)
        .await;
    while ws.hear().await.unwrap()["type"] != "deliver" {}
    let reply = json!({"specversion": "1.0", "id": "2", "source": "/t", "type": "t"});
    let settle = json!({"type": "settle", "id": 4, "subscription": 1, "delivery": 1,
        "reply": reply});
    ws.say(&settle.to_string()).await;
    let mut replied = ws.hear().await.unwrap();
    while replied["type"] != "reply" {
        assert_eq!(replied["type"], "answer", "{replied}");
        replied = ws.hear().await.unwrap();
    }
    assert_eq!(replied["event"]["correlationid"], "1", "{replied}");
}

#[tokio::test]
async fn what_a_client_held_comes_to_another_when_it_leaves() {
    let running = Running::start().await;
    let subscribe = r#"{"type":"subscribe","id":1,"subscription":1,"topics":["t"],"group":"g",
        "credit":1}"#;
    for word in ["bye", "close", "broken"] {
        let (mut first, _) = Ws::hello(running.address).await;
        if word == "broken" {
            first = Ws::open(running.address).await;
            first.ask(r#"{"type":"hello","keep_ms":0}"#).await;
        }
        first.ask(&publish(2, 1)).await;
        first.say(subscribe).await;
        let mut frames = vec![first.hear().await.unwrap(), first.hear().await.unwrap()];
        frames.sort_by_key(|frame| frame["type"].to_string());
        assert_eq!(
            frames[1]["deliveries"][0]["attempt"], 1,
            "{word}: {frames:?}"
        );
        let (mut second, _) = Ws::hello(running.address).await;
        assert_eq!(second.ask(subscribe).await["type"], "answer");
        match word {
            "bye" => first.say(r#"{"type":"bye"}"#).await,
            "close" => first.socket.close(None).await.unwrap(),
            _ => drop(first),
        }
        let again = second.hear().await.unwrap();
        assert_eq!(again["deliveries"][0]["attempt"], 2, "{word}: {again}");
        let settled = second
            .ask(r#"{"type":"settle","id":2,"subscription":1,"delivery":1}"#)
            .await;
        assert_eq!(settled["type"], "answer", "{word}");
        second.say(r#"{"type":"bye"}"#).await;
    }
}

#[tokio::test]
async fn a_session_that_is_not_resumed_in_time_is_over_and_what_became_of_its_event_is_told() {
    let running = Running::start().await;
    let subscribe = r#"{"type":"subscribe","id":1,"subscription":1,"topics":["t"],"group":"g",
        "credit":1}"#;
    let mut first = Ws::open(running.address).await;
    let welcome = first.ask(r#"{"type":"hello","keep_ms":1}"#).await;
    assert_eq!(welcome["keep_ms"], 1);
    first.ask(&publish(2, 1)).await;
    first.say(subscribe).await;
    while first.hear().await.unwrap()["type"] != "deliver" {}
    let (mut second, _) = Ws::hello(running.address).await;
    second.ask(subscribe).await;
    drop(first);
    assert_eq!(second.hear().await.unwrap()["deliveries"][0]["attempt"], 2);
    let mut back = Ws::open(running.address).await;
    let hello = json!({"type": "hello", "session": welcome["session"], "received": [[1, 1]]});
    let again = back.ask(&hello.to_string()).await;
    assert_eq!(again["resumed"], false);
    assert_ne!(again["session"], welcome["session"]);
    let settle = r#"{"type":"settle","id":3,"subscription":1,"delivery":1}"#;
    assert_eq!(back.ask(settle).await["code"], "stale");
    let look = r#"{"type":"is_settled","id":4,"group":"g","topic":"t","partition":0,"offset":0}"#;
    assert_eq!(back.ask(look).await["settled"], false);
    assert_eq!(second.ask(settle).await["type"], "answer");
    assert_eq!(back.ask(look).await["settled"], true);
    let unknown = look.replace("\"g\"", "\"nobody\"");
    assert!(back.ask(&unknown).await["settled"].is_null());
}

#[tokio::test]
async fn clients_are_counted_while_they_are_connected() {
    let running = Running::start().await;
    let count = async || {
        let text = running.client().get("/metrics").await.text;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("tidemill_websocket_clients "));
        line.unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(count().await, 0);
    let (one, _) = Ws::hello(running.address).await;
    let (_two, _) = Ws::hello(running.address).await;
    assert_eq!(count().await, 2);
    drop(one);
    while count().await != 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_closing_server_says_when_to_come_back() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    let stopping = tokio::spawn(running.stop());
    let bye = ws.hear().await.unwrap();
    assert_eq!(bye["type"], "bye");
    assert!(bye["retry_ms"].as_u64().unwrap() > 0);
    assert_eq!(ws.hear().await, Err(Closed(Some(1001))));
    stopping.await.unwrap();
}

#[tokio::test]
async fn clients_that_stop_reading_take_a_bounded_memory_and_disturb_nobody() {
    let running = Running::start().await;
    let (mut ws, _) = Ws::hello(running.address).await;
    let big = "x".repeat(100_000);
    for n in 0..40 {
        let event = json!({"specversion": "1.0", "id": n.to_string(), "source": "/t", "type": "t",
            "datacontenttype": "text/plain", "data": big});
        let frame = json!({"type": "publish", "id": n, "topic": "t", "events": [event]});
        assert_eq!(ws.ask(&frame.to_string()).await["id"], n);
    }
    let mut stopped = Vec::new();
    for n in 0..20 {
        let (mut one, _) = Ws::hello(running.address).await;
        one.say(&format!(
            r#"{{"type":"subscribe","id":1,"subscription":1,"topics":["t"],"group":"g{n}",
                "order":"none","credit":1000}}"#
        ))
        .await;
        one.socket.flush().await.unwrap();
        stopped.push(one);
    }
    let memory = running.broker.memory();
    let most = stopped.len() * 2 * tidemill_server::limits::WS_OUTBOX_BYTES;
    // Another one gets everything meanwhile.
    ws.say(
        r#"{"type":"subscribe","id":100,"subscription":1,"topics":["t"],"group":"reader",
            "order":"none","credit":1000}"#,
    )
    .await;
    let mut came = 0;
    while came < 40 {
        let frame = ws.hear().await.unwrap();
        came += frame["deliveries"].as_array().map_or(0, Vec::len);
        assert!(memory.used(Class::Outboxes) <= most);
    }
    drop(stopped);
}
