//! Publishing over HTTP: the plain door and the three content modes of CloudEvents, and what is
//! answered when something is wrong with them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::Running;
use tidemill_broker::Broker;
use tidemill_server::Config;
use tidemill_server::limits::ENVELOPE_MAX_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
/// Has 23 digits, so it survives only where nobody makes a number of it.
const LONG: &str = r#"{ "amount": 12345678901234567890123,  "x": 1.10 }"#;

#[tokio::test]
async fn the_plain_door_answers_with_the_position_and_keeps_every_byte() {
    let server = Running::start().await;
    let client = server.client();
    for offset in 0..2 {
        let answer = client.event(LONG).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/json");
        let json = answer.json();
        assert_eq!(json["status"], "success");
        assert_eq!(json["topic"], "events");
        assert_eq!(
            (&json["partition"], &json["offset"]),
            (&json!(0), &json!(offset))
        );
        assert!(!json["id"].as_str().unwrap().is_empty());
    }
    let kept = client.get("/v1/topics/events/events").await;
    assert_eq!(kept.text.matches(LONG).count(), 2, "{}", kept.text);
    assert_eq!(kept.json()["events"][0]["event"]["type"], "event");
}

#[tokio::test]
async fn any_json_value_is_taken_and_names_its_topic_and_type() {
    let server = Running::start().await;
    let client = server.client();
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (body, topic) in [
        ("null", "events"),
        ("\"text\"", "events"),
        ("[1,2]", "events"),
        (r#"{"topic":"orders","room":"other"}"#, "orders"),
        (r#"{"room":"room-7","type":"paid"}"#, "room-7"),
        (&deep, "events"),
    ] {
        let answer = client.event(body.to_owned()).await;
        assert_eq!(answer.json()["topic"], topic, "{body}");
    }
    let event = &client.get("/v1/topics/room-7/events").await.json()["events"][0]["event"];
    assert_eq!(event["type"], "paid");
    assert_eq!(event["source"], "/event");
    assert_eq!(event["specversion"], "1.0");
}

#[tokio::test]
async fn the_plain_door_takes_what_curl_says() {
    let server = Running::start().await;
    let client = server.client();
    let form = "application/x-www-form-urlencoded";
    assert_eq!(client.post("/event", form, "1").await.status, 200);
    assert_eq!(client.send("POST", "/event", &[], "1").await.status, 200);
}

#[tokio::test]
async fn web_pages_of_other_machines_are_kept_out_unless_allowed() {
    for insecure in [false, true] {
        let server = Running::with(|config| config.insecure = insecure).await;
        let client = server.client();
        for path in ["/event", "/socket.io/?EIO=4&transport=polling"] {
            let method = if path == "/event" { "POST" } else { "GET" };
            let page = |origin| [("content-type", "application/json"), ("origin", origin)];
            let foreign = client
                .send(method, path, &page("http://example.com"), "1")
                .await;
            match insecure {
                true => assert_eq!(foreign.status, 200, "{}", foreign.text),
                false => assert_eq!(foreign.problem(403), "foreign-origin"),
            }
            let own = client
                .send(method, path, &page("http://localhost:3000"), "")
                .await;
            assert_ne!(own.status, 403);
        }
    }
}

/// Sends this text on a connection of its own, and answers what comes until it is closed.
async fn exchange(server: &Running, text: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn names_that_only_lead_here_are_not_answered_to_unless_allowed() {
    for insecure in [false, true] {
        let server = Running::with(|config| config.insecure = insecure).await;
        for path in [
            "/v1/topics",
            "/metrics",
            "/",
            "/nowhere",
            "/socket.io/?EIO=4&transport=polling",
        ] {
            for (host, here) in [
                ("Host: rebound.example.com:7575\r\n", false),
                ("Host: 10.0.0.7\r\n", false),
                ("", false),
                ("Host: LOCALHOST:1\r\n", true),
                ("Host: 127.0.0.9\r\n", true),
                ("Host: [::1]:80\r\n", true),
            ] {
                let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
                let answer = exchange(&server, &request).await;
                let refused = answer.starts_with("HTTP/1.1 421 ");
                assert_eq!(refused, !here && !insecure, "{path} {host}: {answer}");
                assert_eq!(
                    refused,
                    answer.contains("urn:tidemill:problem:foreign-host")
                );
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_called_wrong_json() {
    let server = Running::start().await;
    let head = "POST /event HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = exchange(&server, &format!("{head}2\r\n{{}}\r\nno length\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("problem:body-broken-off"), "{answer}");
}

#[tokio::test]
async fn a_body_is_no_larger_than_what_the_broker_takes_at_once() {
    let broker = Broker::builder().memory(4 << 20).open().await.unwrap();
    let most = broker.publish_max_bytes() + ENVELOPE_MAX_BYTES;
    assert!(most < 300_000, "{most}");
    let server = Running::over(broker, Config::at("127.0.0.1:0".parse().unwrap())).await;
    let client = server.client();
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let large = client.event(text(most + 1)).await;
    assert_eq!(large.problem(413), "too-large");
    assert!(
        large.text.contains(&format!("at most {most} bytes")),
        "{}",
        large.text
    );
    assert_eq!(client.event(text(100_000)).await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_at_the_plain_door_is_said() {
    let server = Running::with(|config| config.body_max_bytes = 1000).await;
    let client = server.client();
    for (body, status, kind) in [
        (&b""[..], 400, "invalid-json"),
        (b"{\"a\":", 400, "invalid-json"),
        (b"{} {}", 400, "invalid-json"),
        (b"\"\xff\xfe\"", 400, "invalid-json"),
        (b"{\"topic\":\"a/b\"}", 422, "invalid-name"),
        (b"{\"room\":17}", 422, "invalid-name"),
        (&[b' '; 1001], 413, "too-large"),
    ] {
        let answer = client.event(body.to_vec()).await;
        assert_eq!(
            answer.problem(status),
            kind,
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let wrong = client.post("/event", "text/plain", "1").await;
    assert_eq!(wrong.problem(415), "unsupported-media-type");
    assert_eq!(wrong.header("accept"), "application/json");
    let query = client.post("/event?x=1", "application/json", "1").await;
    assert_eq!(query.problem(400), "invalid-query");
    assert_eq!(
        client.get("/event").await.problem(405),
        "method-not-allowed"
    );
}

fn event(id: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/t", "type": "paid", "data": data})
}

#[tokio::test]
async fn a_structured_event_comes_back_as_it_was() {
    let server = Running::start().await;
    let client = server.client();
    let text = r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"paid","subject":"7",
        "time":"2026-01-31T12:00:00Z","partitionkey":"7","flag":true,"count":-5,
        "datacontenttype":"application/json","data":{"n":12345678901234567890123}}"#;
    let answer = client
        .post("/v1/topics/orders/events", STRUCTURED, text)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["id"], "A-1");
    assert_eq!(answer.json()["offset"], 0);
    let kept = client.get("/v1/topics/orders/events").await;
    assert!(
        kept.text.contains(r#"{"n":12345678901234567890123}"#),
        "{}",
        kept.text
    );
    let mut kept = kept.json()["events"][0]["event"].clone();
    let mut sent: Value = serde_json::from_str(text).unwrap();
    for event in [&mut kept, &mut sent] {
        event.as_object_mut().unwrap().remove("data");
    }
    assert_eq!(kept, sent);
}

#[tokio::test]
async fn a_batch_is_taken_in_its_order_or_not_at_all() {
    let server = Running::start().await;
    let client = server.client();
    let path = "/v1/topics/orders/events";
    let good: Vec<Value> = (0..3).map(|n| event(&n.to_string(), &json!(n))).collect();
    let answer = client.post(path, BATCH, json!(good).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let accepted = answer.json();
    for n in 0..3 {
        assert_eq!(accepted["events"][n]["id"], n.to_string());
        assert_eq!(accepted["events"][n]["offset"], n);
    }
    let mut bad = good.clone();
    bad[1]["id"] = json!("");
    let refused = client.post(path, BATCH, json!(bad).to_string()).await;
    assert_eq!(refused.problem(422), "invalid-event");
    let kept = client.get(path).await.json();
    assert_eq!(kept["events"].as_array().unwrap().len(), 3);
    let empty = client.post(path, BATCH, "[]").await;
    assert_eq!(empty.json()["events"], json!([]));
}

#[tokio::test]
async fn a_binary_event_has_its_attributes_in_headers() {
    let server = Running::start().await;
    let client = server.client();
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/t"),
        ("ce-type", "greeting"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("content-type", "text/plain"),
    ];
    let path = "/v1/topics/letters/events";
    let answer = client.send("POST", path, &headers, "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut bytes = headers;
    bytes[5].1 = "application/octet-stream";
    assert_eq!(
        client
            .send("POST", path, &bytes, &b"\xff\x00"[..])
            .await
            .status,
        200
    );
    let kept = client.get(path).await.json();
    let [first, second] = [&kept["events"][0]["event"], &kept["events"][1]["event"]];
    assert_eq!(first["subject"], "Euro €");
    assert_eq!(first["data"], "hello");
    assert_eq!(first["datacontenttype"], "text/plain");
    assert_eq!(second["data_base64"], "/wA=");
}

#[tokio::test]
async fn wrong_cloudevents_are_refused_with_the_reason() {
    let server = Running::start().await;
    let client = server.client();
    let path = "/v1/topics/orders/events";
    let good = event("1", &json!(1)).to_string();
    let without_type = json!({"specversion": "1.0", "id": "1", "source": "/t"}).to_string();
    for (content_type, body, status, kind) in [
        (STRUCTURED, "{", 400, "invalid-json"),
        (STRUCTURED, "[]", 422, "invalid-event"),
        (STRUCTURED, &without_type, 422, "invalid-event"),
        (
            STRUCTURED,
            &good.replace("1.0", "0.3"),
            422,
            "invalid-event",
        ),
        (BATCH, &good, 422, "invalid-event"),
        ("application/json", &good, 415, "unsupported-media-type"),
        ("text/plain", &good, 415, "unsupported-media-type"),
        (
            "application/cloudevents+avro",
            &good,
            415,
            "unsupported-media-type",
        ),
    ] {
        let answer = client.post(path, content_type, body.to_owned()).await;
        assert_eq!(answer.problem(status), kind, "{content_type} {body}");
    }
    let no_type = without_type.as_str();
    let detail = client
        .post(path, STRUCTURED, no_type.to_owned())
        .await
        .json();
    assert!(
        detail["detail"].as_str().unwrap().contains("\"type\""),
        "{detail}"
    );
    let name = client
        .post("/v1/topics/a%20b/events", STRUCTURED, good)
        .await;
    assert_eq!(name.problem(422), "invalid-name");
}
