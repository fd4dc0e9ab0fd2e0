//! Reading over HTTP: by offset, from one partition or all, waiting for events; health, metrics,
//! and what is answered when something is wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use support::Running;
use support::http::Client;

const BATCH: &str = "application/cloudevents-batch+json";

async fn fill(client: &Client, topic: &str, count: usize) {
    let events: Vec<Value> = (0..count)
        .map(|n| {
            json!({"specversion": "1.0", "id": n.to_string(), "source": "/t", "type": "n",
                   "partitionkey": format!("key-{n}"), "data": n})
        })
        .collect();
    let path = format!("/v1/topics/{topic}/events");
    let answer = client.post(&path, BATCH, json!(events).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// A topic of three partitions.
async fn widen(client: &Client, topic: &str) {
    let topic = json!({"name": topic, "partitions": 3}).to_string();
    let answer = client.post("/v1/topics", "application/json", topic).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

fn data(answer: &Value) -> Vec<u64> {
    let events = answer["events"].as_array().unwrap().iter();
    events
        .map(|event| event["event"]["data"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_follow_each_other_by_next() {
    let server = Running::start().await;
    let client = server.client();
    fill(&client, "numbers", 250).await;
    let mut found = Vec::new();
    let mut offset = 0;
    for page in [100, 100, 50, 0] {
        let path = format!("/v1/topics/numbers/events?partition=0&offset={offset}");
        let answer = client.get(&path).await.json();
        assert_eq!(data(&answer).len(), page);
        found.extend(data(&answer));
        offset = answer["next"]["0"].as_u64().unwrap();
    }
    assert_eq!(found, (0..250).collect::<Vec<_>>());
    let one = client
        .get("/v1/topics/numbers/events?offset=7&max=1")
        .await
        .json();
    assert_eq!(
        (data(&one), &one["events"][0]["offset"]),
        (vec![7], &json!(7))
    );
    let end = client
        .get("/v1/topics/numbers/events?offset=end")
        .await
        .json();
    assert_eq!((data(&end), &end["next"]), (vec![], &json!({"0": 250})));
}

#[tokio::test]
async fn without_a_partition_all_are_read_and_next_leads_through_them() {
    let server = Running::start().await;
    let client = server.client();
    widen(&client, "wide").await;
    fill(&client, "wide", 100).await;
    let mut found = Vec::new();
    let mut offset = "beginning".to_owned();
    for _ in 0..8 {
        let path = format!("/v1/topics/wide/events?max=15&offset={offset}");
        let answer = client.get(&path).await.json();
        found.extend(data(&answer));
        let next = answer["next"].as_object().unwrap();
        assert_eq!(next.len(), 3);
        let pairs: Vec<_> = next.iter().map(|(p, o)| format!("{p}:{o}")).collect();
        offset = pairs.join(",");
    }
    found.sort_unstable();
    assert_eq!(found, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_busy_partition_does_not_keep_the_others_out() {
    let server = Running::start().await;
    let client = server.client();
    widen(&client, "wide").await;
    fill(&client, "wide", 300).await;
    let answer = client.get("/v1/topics/wide/events?max=9").await.json();
    let of = |partition: u64| {
        let events = answer["events"].as_array().unwrap().iter();
        events
            .filter(|event| event["partition"] == partition)
            .count()
    };
    assert_eq!([of(0), of(1), of(2)], [3, 3, 3]);
    // What one has not, the others may give.
    let offset = "0:0,1:0,2:0";
    let end = client.get("/v1/topics/wide/events?offset=end").await.json()["next"].clone();
    let offset = offset.replace("1:0", &format!("1:{}", end["1"]));
    let answer = client
        .get(&format!("/v1/topics/wide/events?max=9&offset={offset}"))
        .await;
    assert_eq!(answer.json()["events"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_event_or_with_its_time() {
    let server = Running::start().await;
    let client = server.client();
    widen(&client, "wide").await;
    fill(&client, "wide", 9).await;
    let waiting = client.clone();
    let path = "/v1/topics/wide/events?offset=end&wait_ms=30000";
    let began = Instant::now();
    let poll = tokio::spawn(async move { waiting.get(path).await.json() });
    while !poll.is_finished() {
        fill(&client, "wide", 1).await;
    }
    let answer = poll.await.unwrap();
    assert!(!data(&answer).is_empty(), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(20));

    let empty = client
        .get("/v1/topics/wide/events?offset=end&wait_ms=20")
        .await
        .json();
    assert!(data(&empty).is_empty());
}

#[tokio::test]
async fn long_polls_end_when_the_server_stops() {
    let server = Running::start().await;
    let client = server.client();
    fill(&client, "numbers", 1).await;
    let waiting = client.clone();
    let path = "/v1/topics/numbers/events?offset=end&wait_ms=30000";
    let poll = tokio::spawn(async move { waiting.get(path).await });
    // The gauge counts a connection once it is accepted: this one and the poll's.
    while !client
        .get("/metrics")
        .await
        .text
        .contains("tidemill_http_connections 2")
    {}
    let began = Instant::now();
    server.stop().await;
    assert_eq!(poll.await.unwrap().json()["events"], json!([]));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn wrong_reads_are_refused_with_the_reason() {
    let server = Running::start().await;
    let client = server.client();
    fill(&client, "numbers", 3).await;
    for (path, status, kind) in [
        ("nothing/events", 404, "unknown-topic"),
        ("a%20b/events", 422, "invalid-name"),
        ("numbers/events?partition=1", 404, "unknown-partition"),
        ("numbers/events?offset=4", 416, "offset-out-of-range"),
        ("numbers/events?offset=0:4", 416, "offset-out-of-range"),
        ("numbers/events?since=yesterday", 400, "invalid-query"),
        (
            "numbers/events?offset=1&since=2026-01-31T12:00:00Z",
            400,
            "invalid-query",
        ),
        ("numbers/events?offset=-1", 400, "invalid-query"),
        ("numbers/events?offset=1:0", 400, "invalid-query"),
        ("numbers/events?offset=0:1,x", 400, "invalid-query"),
        ("numbers/events?max=0", 400, "invalid-query"),
        ("numbers/events?max=10001", 400, "invalid-query"),
        ("numbers/events?wait_ms=30001", 400, "invalid-query"),
        ("numbers/events?partition=99999999999", 400, "invalid-query"),
        ("numbers/events?ofset=1", 400, "invalid-query"),
        ("numbers/events?max=1&max=2", 400, "invalid-query"),
        ("numbers?x=1", 400, "invalid-query"),
        ("nothing", 404, "unknown-topic"),
    ] {
        let answer = client.get(&format!("/v1/topics/{path}")).await;
        assert_eq!(answer.problem(status), kind, "{path}");
    }
    assert_eq!(client.get("/nowhere").await.problem(404), "not-found");
    let put = client
        .send("PUT", "/v1/topics/numbers/events", &[], "")
        .await;
    assert_eq!(put.problem(405), "method-not-allowed");
    assert_eq!(put.header("allow"), "DELETE, GET, POST");
}

#[tokio::test]
async fn health_metrics_and_the_page_answer() {
    let server = Running::start().await;
    let client = server.client();
    fill(&client, "numbers", 3).await;
    assert_eq!(client.get("/health/live").await.json()["status"], "live");
    assert_eq!(client.get("/health/ready").await.json()["status"], "ready");
    let page = client.get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text.contains("/event"));
    client.get("/nowhere").await;
    let metrics = client.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    for line in [
        "tidemill_partition_end_offset{topic=\"numbers\",partition=\"0\"} 3",
        "tidemill_http_published_events_total 3",
        "tidemill_http_requests_total{method=\"GET\",path=\"/health/live\",status=\"200\"} 1",
        "tidemill_http_requests_total{method=\"GET\",path=\"other\",status=\"404\"} 1",
        "tidemill_socketio_clients 0",
        "tidemill_broker_published_events_total 3",
        "tidemill_broker_ready 1",
    ] {
        assert!(
            metrics.text.lines().any(|have| have == line),
            "{line}\n{}",
            metrics.text
        );
    }
    assert_eq!(metrics.text.matches("# EOF").count(), 1);
}

#[tokio::test]
async fn reading_begins_with_a_time() {
    let server = Running::start().await;
    let client = server.client();
    let (first, second) = (client.event("1").await, client.event("2").await);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    // Times are kept in milliseconds.
    let begin = Timestamp::now();
    let later = begin + Duration::from_millis(2);
    while Timestamp::now() < later {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.event("3").await.status, 200);
    let since = |time: Timestamp| {
        let (client, path) = (&client, format!("/v1/topics/events/events?since={time}"));
        async move {
            let page = client.get(&path).await.json();
            let events = page["events"].as_array().unwrap().clone();
            let data = events.iter().map(|found| found["event"]["data"].clone());
            (data.collect::<Vec<_>>(), page["next"]["0"].clone())
        }
    };
    assert_eq!(since(later).await, (vec![json!(3)], json!(3)));
    let all = vec![json!(1), json!(2), json!(3)];
    assert_eq!(since(Timestamp::UNIX_EPOCH).await, (all, json!(3)));
    let tomorrow = later + Duration::from_secs(86_400);
    assert_eq!(since(tomorrow).await, (vec![], json!(3)));
}
