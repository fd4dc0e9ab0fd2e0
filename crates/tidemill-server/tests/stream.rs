//! Server-sent events: everything comes once and in order, also to who comes back; what cannot be
//! streamed is said; a reader that stops disturbs nobody.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use serde_json::json;
use support::Running;
use support::sse::EventSource;
use tidemill_broker::{AlterTopic, Broker, CreateTopic};
use tidemill_core::budget::Class;
use tidemill_core::{Event, EventId, EventType, Key, Offset, Partition, Source, TopicName};

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn event(n: usize, ty: &str, data: &str) -> Event {
    let builder = Event::builder(
        EventId::new(n.to_string()).unwrap(),
        Source::new("/stream").unwrap(),
        EventType::new(ty.to_owned()).unwrap(),
    );
    let keyed = builder.key(&Key::new(format!("k{}", n % 7)).unwrap());
    keyed
        .data("application/json", data.to_owned())
        .build()
        .unwrap()
}

async fn publish(broker: &Broker, range: std::ops::Range<usize>) {
    // With ends of lines, as any JSON text may have them.
    let events = range.map(|n| event(n, "placed", &format!("{{\r\n\"n\":\n{n}}}")));
    broker
        .bus()
        .publish(topic(), events.collect())
        .await
        .unwrap();
}

async fn create(broker: &Broker, partitions: u32) {
    let how = CreateTopic {
        partitions,
        ..CreateTopic::default()
    };
    broker.create_topic(topic(), how).await.unwrap();
}

#[tokio::test]
async fn who_comes_back_goes_on_in_every_partition() {
    let running = Running::start().await;
    create(&running.broker, 3).await;
    publish(&running.broker, 0..50).await;
    let path = "/v1/topics/orders/stream?from=beginning";
    let mut seen = Vec::new();
    let mut last_id = String::new();
    // Each connection takes a few; those after the first fifty are live.
    while seen.len() < 100 {
        let mut source = EventSource::open(running.address, path, &last_id).await;
        if seen.len() == 45 {
            publish(&running.broker, 50..100).await;
        }
        for _ in 0..9.min(100 - seen.len()) {
            let dispatched = source.next().await.unwrap();
            assert_eq!(dispatched.event, "message");
            let n = dispatched.data["data"]["n"].as_u64().unwrap();
            assert_eq!(dispatched.data["id"], n.to_string());
            seen.push(n);
        }
        assert_eq!(source.retry_ms, Some(1000));
        last_id = source.last_id;
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 100, "{seen:?}");
    for key in 0..7 {
        assert!(
            seen.iter().filter(|n| *n % 7 == key).is_sorted(),
            "{seen:?}"
        );
    }
    let mut live = EventSource::open(running.address, path, &last_id).await;
    publish(&running.broker, 100..101).await;
    assert_eq!(live.next().await.unwrap().data["id"], "100");
}

#[tokio::test]
async fn a_stream_begins_where_it_is_asked_to() {
    let running = Running::start().await;
    create(&running.broker, 1).await;
    publish(&running.broker, 0..5).await;
    for (query, first) in [
        ("?from=3", "3"),
        ("?from=0:4", "4"),
        ("?since=2020-01-01T00:00:00Z", "0"),
        ("?since=2200-01-01T00:00:00Z", "8"),
        ("?from=end", "9"),
        ("", "10"),
        ("?partition=0", "11"),
    ] {
        let path = format!("/v1/topics/orders/stream{query}");
        let mut source = EventSource::open(running.address, &path, "").await;
        let next = running.broker.topic(&topic()).unwrap().partitions[0].end.0 as usize;
        publish(&running.broker, next..next + 1).await;
        assert_eq!(source.next().await.unwrap().data["id"], first, "{query}");
    }
}

#[tokio::test]
async fn only_the_types_that_are_asked_for_come_and_the_place_goes_on() {
    let running = Running::start().await;
    let bus = running.broker.bus();
    for n in 0..30 {
        let ty = if n % 10 == 9 {
            "order_paid"
        } else {
            "order_placed"
        };
        bus.publish(topic(), vec![event(n, ty, "{}")])
            .await
            .unwrap();
    }
    let path = "/v1/topics/orders/stream?from=beginning&type=*_paid";
    let mut source = EventSource::open(running.address, path, "").await;
    for id in ["9", "19", "29"] {
        assert_eq!(source.next().await.unwrap().data["id"], id);
    }
    bus.publish(topic(), vec![event(30, "order_placed", "{}")])
        .await
        .unwrap();
    assert!(source.block().await.unwrap().is_none());
    assert_eq!(source.last_id, "0:31");
}

#[tokio::test]
async fn what_cannot_be_streamed_is_a_problem() {
    let running = Running::start().await;
    create(&running.broker, 2).await;
    publish(&running.broker, 0..20).await;
    let trimmed = running
        .broker
        .trim_topic(&topic(), Partition(0), Offset(2))
        .await;
    assert!(trimmed.unwrap() >= Offset(2));
    let client = running.client();
    for (path, last_id, status, kind) in [
        ("/v1/topics/none/stream", "", 404, "unknown-topic"),
        (
            "/v1/topics/orders/stream?partition=7",
            "",
            404,
            "unknown-partition",
        ),
        (
            "/v1/topics/orders/stream?from=soon",
            "",
            400,
            "invalid-query",
        ),
        (
            "/v1/topics/orders/stream?from=end&since=2020-01-01T00:00:00Z",
            "",
            400,
            "invalid-query",
        ),
        (
            "/v1/topics/orders/stream?offset=1",
            "",
            400,
            "invalid-query",
        ),
        ("/v1/topics/orders/stream?type=", "", 400, "invalid-query"),
        (
            "/v1/topics/orders/stream?from=9:1",
            "",
            400,
            "invalid-query",
        ),
        ("/v1/topics/orders/stream", "17", 400, "invalid-query"),
        ("/v1/topics/orders/stream", "0:x", 400, "invalid-query"),
        (
            "/v1/topics/orders/stream",
            "0:0,1:0",
            416,
            "offset-out-of-range",
        ),
        (
            "/v1/topics/orders/stream",
            "0:2,1:9999",
            416,
            "offset-out-of-range",
        ),
    ] {
        let answer = client
            .send("GET", path, &[("last-event-id", last_id)], "")
            .await;
        assert_eq!(answer.problem(status), kind, "{path} {last_id}");
    }
}

#[tokio::test]
async fn a_stream_whose_topic_goes_says_so_and_ends() {
    let running = Running::start().await;
    create(&running.broker, 2).await;
    let path = "/v1/topics/orders/stream";
    let mut source = EventSource::open(running.address, path, "").await;
    publish(&running.broker, 0..1).await;
    assert_eq!(source.next().await.unwrap().event, "message");
    running.broker.delete_topic(&topic()).await.unwrap();
    let last = source.next().await.unwrap();
    assert_eq!(
        (last.event.as_str(), &last.data["status"]),
        ("error", &json!(404))
    );
    assert!(source.next().await.is_none());
}

#[tokio::test]
async fn a_closing_server_ends_its_streams_and_says_when_to_come_back() {
    let running = Running::start().await;
    create(&running.broker, 2).await;
    let path = "/v1/topics/orders/stream";
    let mut source = EventSource::open(running.address, path, "").await;
    source.retry_ms = None;
    let stopping = tokio::spawn(running.stop());
    assert!(source.next().await.is_none());
    assert!(source.retry_ms.is_some());
    stopping.await.unwrap();
}

#[tokio::test]
async fn readers_that_stop_hold_a_piece_each_and_disturb_nobody() {
    const COUNT: usize = 100;
    let running = Running::start().await;
    let data = format!("\"{}\"", "x".repeat(60_000));
    for n in 0..COUNT {
        let event = event(n, "placed", &data);
        running
            .broker
            .bus()
            .publish(topic(), vec![event])
            .await
            .unwrap();
    }
    let path = "/v1/topics/orders/stream?from=beginning";
    let mut stopped = Vec::new();
    for _ in 0..30 {
        stopped.push(EventSource::open(running.address, path, "").await);
    }
    let mut source = EventSource::open(running.address, path, "").await;
    for n in 0..COUNT {
        assert_eq!(source.next().await.unwrap().data["id"], n.to_string());
        let piece = 8 * tidemill_server::limits::STREAM_PIECE_BYTES;
        assert!(running.broker.memory().used(Class::Answers) <= 31 * piece);
    }
    drop(stopped);
}

#[tokio::test]
async fn a_stream_goes_on_with_the_partitions_that_are_added() {
    let running = Running::start().await;
    create(&running.broker, 1).await;
    let path = "/v1/topics/orders/stream?from=beginning";
    let mut source = EventSource::open(running.address, path, "").await;
    let mut seen = BTreeSet::new();
    let mut from = 0;
    for partitions in [1, 4, 9] {
        let change = AlterTopic {
            partitions: Some(partitions),
            ..AlterTopic::default()
        };
        running.broker.alter_topic(&topic(), change).await.unwrap();
        publish(&running.broker, from..from + 60).await;
        from += 60;
        while seen.len() < from {
            let event = source.next().await.unwrap().data;
            assert!(seen.insert(event["id"].as_str().unwrap().to_owned()));
        }
        let info = running.broker.topic(&topic()).unwrap();
        let used = info.partitions.iter().filter(|one| one.end > Offset(0));
        assert!(used.count() > usize::from(partitions > 1));
    }
}
