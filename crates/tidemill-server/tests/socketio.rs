//! Socket.IO seen from the wire: bytes, bounds, slow readers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::Running;
use support::socketio::SocketIo;
use tidemill_server::limits;
use tokio_tungstenite::tungstenite::Error;

#[tokio::test]
async fn events_of_any_door_arrive_byte_for_byte() {
    let server = Running::start().await;
    let client = server.client();
    client.event("{\"before\":true}").await;
    let mut reader = SocketIo::connect(server.address).await;
    for text in [
        "{ \"n\": 12345678901234567890123,\n\t\"x\": 1.10, \"e\": \"\\u00e9\" }",
        "[1, 2]",
        "\"2\"",
        "null",
    ] {
        client.event(text).await;
        assert_eq!(reader.event().await, text);
    }
    let structured = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a": 1}}"#;
    let path = "/v1/topics/events/events";
    client
        .post(path, "application/cloudevents+json", structured)
        .await;
    assert_eq!(reader.event().await, "{\"a\": 1}");
    let bytes = structured.replace("\"data\":{\"a\": 1}", "\"data_base64\":\"/wA=\"");
    let bytes = bytes.replace("\"id\"", "\"datacontenttype\":\"image/png\",\"id\"");
    client
        .post(path, "application/cloudevents+json", bytes)
        .await;
    let whole = reader.event().await;
    assert!(whole.contains("\"data_base64\":\"/wA=\""), "{whole}");
}

#[tokio::test]
async fn a_session_that_connects_twice_is_one_client() {
    let server = Running::start().await;
    let mut reader = SocketIo::open(server.address).await.unwrap();
    reader.send("40").await;
    reader.send("40").await;
    let connected = reader.text().await.unwrap();
    assert!(connected.starts_with("40{"), "{connected}");
    // One more, once it is connected; the room's confirmation says that it was read.
    reader.send("40").await;
    reader.send(r#"42["subscribe",{"room":"a"}]"#).await;
    assert_eq!(reader.event().await, r#"{"room":"a"}"#);
    let client = server.client();
    for text in ["1", "2", r#"{"topic":"a"}"#, "3"] {
        client.event(text).await;
        assert_eq!(reader.event().await, text);
    }
    let metrics = client.get("/metrics").await.text;
    assert!(
        metrics.contains("\ntidemill_socketio_clients 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_confirmation_comes_before_the_events_of_the_room() {
    let server = Running::start().await;
    let mut reader = SocketIo::connect(server.address).await;
    reader
        .send(r#"4217["subscribe",{ "n": 12345678901234567890123, "room": "a"}]"#)
        .await;
    let ack = reader.text().await.unwrap();
    assert_eq!(ack, r#"4317[{"status":"success","room":"a"}]"#);
    assert_eq!(
        reader.event().await,
        r#"{ "n": 12345678901234567890123, "room": "a"}"#
    );
    server
        .client()
        .event("{\"topic\":\"b\",\"type\":\"a\"}")
        .await;
    assert_eq!(reader.event().await, "{\"topic\":\"b\",\"type\":\"a\"}");
    // Without an acknowledgement asked for there is only the echo.
    reader.send(r#"42["unsubscribe","x",{"room":"a"}]"#).await;
    assert_eq!(reader.event().await, r#"{"room":"a"}"#);
    reader.send(r#"420["subscribe",{"rom":"a"}]"#).await;
    let refused = reader.text().await.unwrap();
    assert!(
        refused.starts_with(r#"430[{"status":"error","message":"#),
        "{refused}"
    );
}

#[tokio::test]
async fn an_event_in_the_default_topic_that_names_it_is_for_its_rooms() {
    let server = Running::start().await;
    let mut inside = SocketIo::connect(server.address).await;
    let mut outside = SocketIo::connect(server.address).await;
    inside.send(r#"42["subscribe",{"room":"events"}]"#).await;
    inside.event().await;
    server.client().event("{\"topic\":\"events\"}").await;
    server.client().event("{\"all\":1}").await;
    assert_eq!(inside.event().await, "{\"topic\":\"events\"}");
    assert_eq!(inside.event().await, "{\"all\":1}");
    assert_eq!(outside.event().await, "{\"all\":1}");
}

#[tokio::test]
async fn sessions_are_bounded_and_their_places_are_given_back() {
    let server = Running::with(|config| config.socketio_clients_max = 2).await;
    let handshake = "/socket.io/?EIO=4&transport=polling";
    let first = SocketIo::connect(server.address).await;
    assert_eq!(server.client().get(handshake).await.status, 200);
    match SocketIo::open(server.address).await {
        Err(Error::Http(refused)) => {
            assert_eq!(refused.status(), 503);
            assert!(refused.headers().contains_key("retry-after"));
        }
        _ => panic!("a third session was taken"),
    }
    drop(first);
    let again = async {
        while SocketIo::open(server.address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
}

#[tokio::test]
async fn messages_that_are_too_large_end_only_their_own_session() {
    let server = Running::start().await;
    let mut large = SocketIo::connect(server.address).await;
    let mut other = SocketIo::connect(server.address).await;
    let room = "x".repeat(100_000);
    large
        .send(&format!(r#"420["subscribe",{{"room":"{room}"}}]"#))
        .await;
    while let Some(text) = large.text().await {
        assert!(!text.contains("success"), "{text:.80}");
    }
    server.client().event("1").await;
    assert_eq!(other.event().await, "1");
}

const PUBLISHERS: usize = 6;
const EVENTS_EACH: usize = 200;
const TOPICS: [&str; 3] = ["shop.orders", "shop.stock", "shop.eu.orders"];
const TYPES: [&str; 3] = ["paid", "paid.v2", "moved"];

/// Room sets of the readers, and which of (topic, type) each of them is to get.
type Wanted = fn(&str, &str) -> bool;
const READERS: [(&[&str], Wanted); 6] = [
    (&[], |_, _| false),
    (&["shop.orders"], |topic, _| topic == "shop.orders"),
    (&["shop.*"], |topic, _| topic != "shop.eu.orders"),
    (&["**.orders", "shop.**"], |_, _| true),
    (&["paid*", "paid"], |_, ty| ty == "paid"),
    (&["paid**", "shop.stock"], |topic, ty| {
        topic == "shop.stock" || ty != "moved"
    }),
];

async fn publish_many(client: support::http::Client, publisher: usize) {
    for n in 0..EVENTS_EACH {
        let topic = TOPICS[(n + publisher) % 3];
        let ty = TYPES[(n / 3) % 3];
        let json = format!(r#"{{"topic":"{topic}","type":"{ty}","p":{publisher},"n":{n}}}"#);
        assert_eq!(client.event(json).await.status, 200);
    }
}

/// Reads until the second of two marks, before which everything else has come.
async fn collect(mut reader: SocketIo) -> Vec<serde_json::Value> {
    let mut events = Vec::new();
    loop {
        let event: serde_json::Value = serde_json::from_str(&reader.event().await).unwrap();
        match event["mark"].as_u64() {
            None => events.push(event),
            Some(1) => {}
            Some(_) => return events,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_each_reader_gets_what_is_its_exactly_once_and_in_order() {
    let server = Running::start().await;
    let mut readers = Vec::new();
    for (rooms, wanted) in READERS {
        let mut reader = SocketIo::connect(server.address).await;
        for room in rooms {
            reader
                .send(&format!(r#"42["subscribe",{{"room":"{room}"}}]"#))
                .await;
            reader.event().await;
        }
        readers.push((wanted, tokio::spawn(collect(reader))));
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| tokio::spawn(publish_many(server.client(), publisher)))
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let (read, mut marks) = (server.client(), SocketIo::connect(server.address).await);
    for mark in [1, 2] {
        read.event(format!("{{\"mark\":{mark}}}")).await;
        assert_eq!(marks.event().await, format!("{{\"mark\":{mark}}}"));
    }
    for (reader, (wanted, events)) in readers.into_iter().enumerate() {
        let events = events.await.unwrap();
        for publisher in 0..PUBLISHERS {
            for (t, topic) in TOPICS.iter().enumerate() {
                let got: Vec<usize> = events
                    .iter()
                    .filter(|event| event["p"] == publisher && event["topic"] == *topic)
                    .map(|event| event["n"].as_u64().unwrap() as usize)
                    .collect();
                let of_topic = (0..EVENTS_EACH).filter(|n| (n + publisher) % 3 == t);
                let expected: Vec<usize> = of_topic
                    .filter(|n| wanted(topic, TYPES[(n / 3) % 3]))
                    .collect();
                assert_eq!(
                    got, expected,
                    "reader {reader}, publisher {publisher}, {topic}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_reader_that_never_comes_back_loses_its_connection() {
    let server = Running::start().await;
    let client = server.client();
    let stuck = SocketIo::connect(server.address).await;
    let text = format!("\"{}\"", "x".repeat(64 * 1024));
    while !metric(&client, "tidemill_socketio_clients_slow_total 1").await {
        for _ in 0..50 {
            assert_eq!(client.event(text.clone()).await.status, 200);
        }
    }
    // On the simulated clock: longer than the server waits for a reader.
    tokio::time::pause();
    tokio::time::sleep(limits::WRITE_STALL_TIMEOUT * 2).await;
    tokio::time::resume();
    let client = server.client();
    assert!(metric(&client, "tidemill_http_connections_stalled_total 1").await);
    let only_mine = async { while !metric(&client, "tidemill_http_connections 1").await {} };
    tokio::time::timeout(Duration::from_secs(10), only_mine)
        .await
        .unwrap();
    drop(stuck);
}

async fn metric(client: &support::http::Client, line: &str) -> bool {
    let metrics = client.get("/metrics").await.text;
    metrics.lines().any(|have| have == line)
}
