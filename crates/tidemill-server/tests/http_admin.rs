//! Topics and groups over HTTP, and what the doors say when the broker takes no writes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;

use serde_json::json;
use support::{Running, broker};
use tidemill_broker::Broker;
use tidemill_core::budget::Class;
use tidemill_core::{Commit, GroupName, Order, Start, Subscription, TopicName};
use tidemill_server::{Config, Server};
use tidemill_testkit::sim::SimDisk;

const JSON: &str = "application/json";

#[tokio::test]
async fn topics_are_created_listed_shown_and_deleted() {
    let server = Running::start().await;
    let client = server.client();
    assert_eq!(client.get("/v1/topics").await.json(), json!({"topics": []}));
    let body = r#"{"name":"orders","partitions":2}"#;
    let created = client.post("/v1/topics", JSON, body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.header("location"), "/v1/topics/orders");
    client.event(r#"{"topic":"orders"}"#).await;

    let shown = client.get("/v1/topics/orders").await.json();
    assert_eq!(shown["id"], created.json()["id"]);
    let ends = shown["partitions"].as_array().unwrap().iter();
    assert_eq!(ends.map(|p| p["end"].as_u64().unwrap()).sum::<u64>(), 1);
    let listed = client.get("/v1/topics").await.json();
    assert_eq!(listed, json!({"topics": [shown]}));

    let again = client.post("/v1/topics", JSON, body).await;
    assert_eq!(again.problem(409), "conflict");
    let deleted = client.send("DELETE", "/v1/topics/orders", &[], "").await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    assert_eq!(
        client.get("/v1/topics/orders").await.problem(404),
        "unknown-topic"
    );
    let gone = client.send("DELETE", "/v1/topics/orders", &[], "").await;
    assert_eq!(gone.problem(404), "unknown-topic");
}

#[tokio::test]
async fn wrong_topics_are_not_created() {
    let server = Running::start().await;
    let client = server.client();
    for (content_type, body, status, kind) in [
        (JSON, "", 400, "invalid-json"),
        (JSON, r#"{"name":"a""#, 400, "invalid-json"),
        (JSON, "{}", 422, "invalid-topic"),
        (JSON, r#"{"name":"a","partitons":2}"#, 422, "invalid-topic"),
        (
            JSON,
            r#"{"name":"a","partitions":-1}"#,
            422,
            "invalid-topic",
        ),
        (JSON, r#"{"name":"a b"}"#, 422, "invalid-name"),
        (JSON, r#"{"name":"a","partitions":0}"#, 422, "limit"),
        (JSON, r#"{"name":"a","retention_ms":0}"#, 422, "limit"),
        (JSON, r#"{"name":"a","retention_bytes":0}"#, 422, "limit"),
        (
            JSON,
            r#"{"name":"a","retention_ms":"1h"}"#,
            422,
            "invalid-topic",
        ),
        (
            JSON,
            r#"{"name":"a","compression":"gzip"}"#,
            422,
            "invalid-topic",
        ),
        (
            JSON,
            r#"{"name":"a","partitions":4000000000}"#,
            422,
            "limit",
        ),
        (
            "text/plain",
            r#"{"name":"a"}"#,
            415,
            "unsupported-media-type",
        ),
    ] {
        let answer = client.post("/v1/topics", content_type, body).await;
        assert_eq!(answer.problem(status), kind, "{body}");
    }
    assert_eq!(client.get("/v1/topics").await.json(), json!({"topics": []}));
    // What curl states by itself is taken at every door, and so is nothing at all.
    for (name, stated) in [
        (
            "a",
            &[("content-type", "application/x-www-form-urlencoded")][..],
        ),
        ("b", &[]),
    ] {
        let body = json!({"name": name}).to_string();
        for path in ["/v1/topics", "/v1/queues"] {
            let made = client.send("POST", path, stated, body.clone()).await;
            assert_eq!(made.status, 201, "{}", made.text);
            let gone = format!("{path}/{name}");
            assert_eq!(client.send("DELETE", &gone, &[], "").await.status, 204);
        }
    }
    let patch = client.send("PATCH", "/v1/topics", &[], "").await;
    assert_eq!(patch.problem(405), "method-not-allowed");
}

#[tokio::test]
async fn a_topic_is_changed_as_far_as_is_named() {
    let server = Running::start().await;
    let client = server.client();
    client.event(r#"{"topic":"t"}"#).await;
    let patch = |body: &'static str| {
        let client = &client;
        let headers = [("content-type", JSON)];
        async move { client.send("PATCH", "/v1/topics/t", &headers, body).await }
    };
    let body = r#"{"retention_ms":60000,"retention_bytes":1000000,"compression":"lz4"}"#;
    assert_eq!(patch(body).await.status, 200);
    let body = r#"{"retention_ms":null,"compact":true,"partitions":3}"#;
    let changed = patch(body).await.json();
    assert_eq!(changed, client.get("/v1/topics/t").await.json());
    let kept = ["retention_ms", "retention_bytes", "compact", "compression"];
    let kept = kept.map(|name| changed[name].clone());
    let wanted = [json!(null), json!(1_000_000), json!(true), json!("lz4")];
    assert_eq!(kept, wanted);
    assert_eq!(changed["partitions"].as_array().unwrap().len(), 3);
    for (body, status, kind) in [
        ("", 400, "invalid-json"),
        ("{}", 422, "invalid-topic"),
        (r#"{"name":"u"}"#, 422, "invalid-topic"),
        (r#"{"retention_ms":"1h"}"#, 422, "invalid-topic"),
        (r#"{"compression":"gzip"}"#, 422, "invalid-topic"),
        (r#"{"partitions":2}"#, 422, "limit"),
        (r#"{"partitions":null}"#, 422, "invalid-topic"),
        (r#"{"partitions":1025}"#, 422, "limit"),
        (r#"{"retention_bytes":0}"#, 422, "limit"),
        (r#"{"segment_bytes":1}"#, 422, "limit"),
        (r#"{"segment_ms":0}"#, 422, "limit"),
        (r#"{"batch_max_bytes":0}"#, 422, "limit"),
        (
            r#"{"compact_after_ms":2,"compact_within_ms":1}"#,
            422,
            "limit",
        ),
    ] {
        assert_eq!(patch(body).await.problem(status), kind, "{body}");
    }
    assert_eq!(client.get("/v1/topics/t").await.json(), changed);
    let headers = [("content-type", JSON)];
    let unknown = client.send("PATCH", "/v1/topics/u", &headers, r#"{"compact":true}"#);
    assert_eq!(unknown.await.problem(404), "unknown-topic");
    let typed = [("content-type", "text/plain")];
    let plain = client.send("PATCH", "/v1/topics/t", &typed, r#"{"compact":true}"#);
    let plain = plain.await;
    assert_eq!(plain.problem(415), "unsupported-media-type");
    let shown = "-H 'content-type: application/json'";
    assert!(plain.text.contains(shown), "{}", plain.text);
    client.post("/v1/queues", JSON, r#"{"name":"q"}"#).await;
    let queue = client.send("PATCH", "/v1/topics/q", &headers, r#"{"partitions":2}"#);
    let queue = queue.await;
    assert!(queue.status.is_client_error(), "{}", queue.text);
}

#[tokio::test]
async fn finer_settings_of_a_topic_are_changed_and_brought_back() {
    let server = Running::start().await;
    let client = server.client();
    client.event(r#"{"topic":"t"}"#).await;
    let changed = client.get("/v1/topics/t").await.json();
    let patch = |body: &'static str| {
        let client = &client;
        let headers = [("content-type", JSON)];
        async move { client.send("PATCH", "/v1/topics/t", &headers, body).await }
    };
    let body = r#"{"retention_ms":60000,"retention_bytes":999999999,"compact":true,
        "compression":"lz4","segment_ms":60000,"segment_bytes":65536,"compact_after_ms":1,
        "compact_within_ms":2,"tombstone_retention_ms":0,"batch_max_bytes":9,
        "time_before_max_ms":0,"time_after_max_ms":3,"append_time":true}"#;
    let finer = patch(body).await.json();
    for (name, wanted) in [
        ("segment_ms", 60_000),
        ("segment_bytes", 65_536),
        ("compact_after_ms", 1),
        ("compact_within_ms", 2),
        ("tombstone_retention_ms", 0),
        ("batch_max_bytes", 9),
        ("time_before_max_ms", 0),
        ("time_after_max_ms", 3),
    ] {
        assert_eq!(finer[name], wanted, "{name}");
    }
    // The same rule for all.
    let body = r#"{"retention_ms":null,"retention_bytes":null,"compact":null,"compression":null,
        "segment_ms":null,"segment_bytes":null,"compact_after_ms":null,"compact_within_ms":null,
        "tombstone_retention_ms":null,"batch_max_bytes":null,"time_before_max_ms":null,
        "time_after_max_ms":null,"append_time":null}"#;
    assert_eq!(patch(body).await.json(), changed);
    let partitions = patch(r#"{"partitions":null}"#).await;
    assert!(
        partitions.text.contains("leave it out"),
        "{}",
        partitions.text
    );
    // Where something is made it is as left out.
    let made = r#"{"name":"made","partitions":null,"compact":null,"compression":null,
        "append_time":null,"retention_ms":null}"#;
    let made = client.post("/v1/topics", JSON, made).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["compression"], "none");
    let made = r#"{"name":"q","transient":null,"lease_ms":null,"ttl_ms":null}"#;
    let made = client.post("/v1/queues", JSON, made).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

#[tokio::test]
async fn a_topic_is_created_with_what_it_keeps_and_trimmed() {
    let server = Running::start().await;
    let client = server.client();
    let body = r#"{"name":"t","retention_ms":60000,"retention_bytes":null,"compact":true,
        "compression":"lz4"}"#;
    let created = client.post("/v1/topics", JSON, body).await.json();
    for topic in [created, client.get("/v1/topics/t").await.json()] {
        assert_eq!(topic["retention_ms"], 60_000);
        assert_eq!(topic["retention_bytes"], json!(null));
        assert_eq!(
            (&topic["compact"], &topic["compression"]),
            (&json!(true), &json!("lz4"))
        );
    }
    for _ in 0..3 {
        client.event(r#"{"topic":"t"}"#).await;
    }
    let trim = |query: &'static str| {
        let (client, path) = (&client, format!("/v1/topics/{query}"));
        async move { client.send("DELETE", &path, &[], "").await }
    };
    let trimmed = trim("t/events?partition=0&before=2").await;
    assert_eq!(trimmed.json(), json!({"partition": 0, "earliest": 2}));
    let below = client.get("/v1/topics/t/events?offset=1").await;
    assert_eq!(below.problem(416), "offset-out-of-range");
    let kept = client.get("/v1/topics/t/events").await.json();
    assert_eq!(kept["events"][0]["offset"], 2);
    for (query, status, kind) in [
        ("t/events", 400, "invalid-query"),
        ("t/events?before=1", 400, "invalid-query"),
        ("t/events?partition=0", 400, "invalid-query"),
        ("t/events?partition=0&before=-1", 400, "invalid-query"),
        ("t/events?partition=0&before=4", 416, "offset-out-of-range"),
        ("t/events?partition=1&before=0", 404, "unknown-partition"),
        ("u/events?partition=0&before=0", 404, "unknown-topic"),
    ] {
        assert_eq!(trim(query).await.problem(status), kind, "{query}");
    }
    let metrics = client.get("/metrics").await.text;
    assert!(
        metrics.contains("tidemill_broker_missed_total 0"),
        "{metrics}"
    );
}

/// Of a group that has settled one of three events.
fn tells_as_kafka_exporter(metrics: &str) {
    for line in [
        "kafka_brokers 1",
        "kafka_topic_partitions{topic=\"orders\"} 1",
        "kafka_topic_partition_current_offset{partition=\"0\",topic=\"orders\"} 3",
        "kafka_topic_partition_oldest_offset{partition=\"0\",topic=\"orders\"} 0",
        "kafka_consumergroup_members{consumergroup=\"billing/eu\"} 1",
        "kafka_consumergroup_lag_sum{consumergroup=\"billing/eu\",topic=\"orders\"} 2",
        "tidemill_metrics_left_out{what=\"group_partitions\"} 0",
    ] {
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} in {metrics}"
        );
    }
    let of = "{consumergroup=\"billing/eu\",partition=\"0\",topic=\"orders\"}";
    for (name, value) in [("current_offset", 1), ("lag", 2)] {
        let line = format!("kafka_consumergroup_{name}{of} {value}");
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} in {metrics}"
        );
    }
}

#[tokio::test]
async fn groups_show_how_far_they_are_behind() {
    let server = Running::start().await;
    let client = server.client();
    assert_eq!(client.get("/v1/groups").await.json(), json!({"groups": []}));
    for _ in 0..3 {
        client.event(r#"{"topic":"orders"}"#).await;
    }
    let subscription = Subscription {
        topics: vec![TopicName::new("orders").unwrap()],
        group: GroupName::new("billing/eu").unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let mut member = server
        .broker
        .bus()
        .subscribe(subscription.clone())
        .await
        .unwrap();
    let (_, settlement) = member.pull(1).await.unwrap().pop().unwrap();
    settlement.settle(Commit::ack()).await.unwrap();

    let listed = client.get("/v1/groups").await.json();
    let group = client.get("/v1/groups/billing%2Feu").await.json();
    assert_eq!(listed, json!({"groups": [group]}));
    assert_eq!(group["name"], "billing/eu");
    assert_eq!(group["lag"], 2);
    assert_eq!(group["members"].as_array().unwrap().len(), 1);
    assert_eq!(group["partitions"][0]["position"], 1);
    let metrics = client.get("/metrics").await.text;
    let line = "tidemill_group_lag_events{group=\"billing/eu\",topic=\"orders\",partition=\"0\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    tells_as_kafka_exporter(&metrics);

    let path = "/v1/groups/billing%2Feu";
    let delete = async |query: &str| {
        let path = format!("{path}{query}");
        client.send("DELETE", &path, &[], "").await
    };
    for query in ["", "?force=false"] {
        let refused = delete(query).await;
        assert_eq!(refused.problem(409), "group-in-use");
        assert!(refused.text.contains("1 member;"), "{}", refused.text);
        assert!(refused.text.contains("?force=true"), "{}", refused.text);
    }
    assert_eq!(delete("?force=1").await.problem(400), "invalid-query");
    assert_eq!(delete("?force=true").await.status, 204);
    member.pull(1).await.unwrap_err();
    let member = server.broker.bus().subscribe(subscription).await.unwrap();
    drop(member);
    let deleted = delete("").await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(
        client.get("/v1/groups/billing%2Feu").await.problem(404),
        "unknown-group"
    );
    let name = client.get("/v1/groups/a%00b").await;
    assert_eq!(name.problem(422), "invalid-name");
    let bytes = client.get("/v1/groups/%ff").await;
    assert_eq!(bytes.problem(422), "invalid-name");
}

#[tokio::test]
async fn unknown_topics_are_refused_where_they_are_not_created_by_use() {
    let broker = Broker::builder()
        .auto_create_topics(false)
        .open()
        .await
        .unwrap();
    let server = Running::over(broker, Config::at("127.0.0.1:0".parse().unwrap())).await;
    let answer = server.client().event(r#"{"topic":"orders"}"#).await;
    assert_eq!(answer.problem(404), "unknown-topic");
    assert!(answer.text.contains("create it with POST /v1/topics"));
    let unknown = server.client().get("/v1/topics/orders").await;
    assert!(unknown.text.contains("GET /v1/topics lists"));
    let unknown = server.client().get("/v1/groups/billing").await;
    assert!(unknown.text.contains("GET /v1/groups lists"));
}

#[tokio::test]
async fn a_broker_that_is_full_says_so_and_serves_what_it_has() {
    let broker = Broker::builder()
        .in_memory(16 * 1024 * 1024)
        .open()
        .await
        .unwrap();
    let server = Running::over(broker, Config::at("127.0.0.1:0".parse().unwrap())).await;
    let client = server.client();
    let text = format!("\"{}\"", "x".repeat(1024 * 1024));
    let unready = loop {
        let refused = client.event(text.clone()).await;
        if refused.status == 200 {
            continue;
        }
        assert_eq!(refused.problem(503), "unavailable");
        assert!(!refused.header("retry-after").is_empty());
        // A snapshot that ends in between may have made room again.
        let ready = client.get("/health/ready").await;
        if ready.status != 200 {
            break ready;
        }
    };
    assert_eq!(unready.problem(503), "unavailable");
    let kept = client.get("/v1/topics/events/events?max=1").await.json();
    assert_eq!(kept["events"][0]["offset"], 0);
}

#[tokio::test]
async fn after_a_failed_sync_the_doors_are_read_only_and_say_why() {
    let disk = Arc::new(SimDisk::new(7));
    let opened = Broker::builder().disk(disk.clone()).open().await;
    let server = Running::over(opened.unwrap(), Config::at("127.0.0.1:0".parse().unwrap())).await;
    let client = server.client();
    assert_eq!(client.event("{\"n\":1}").await.status, 200);
    assert_eq!(client.get("/health/ready").await.status, 200);
    disk.fail_after(Some(0));
    // The first one may or may not be kept; from then on nothing is taken.
    let first = client.event("{\"n\":2}").await;
    assert!(first.status.is_server_error(), "{}", first.text);
    assert_eq!(client.event("{\"n\":3}").await.problem(503), "unavailable");
    let ready = client.get("/health/ready").await;
    assert_eq!(ready.problem(503), "unavailable");
    assert_eq!(client.get("/health/live").await.status, 200);
    let kept = client.get("/v1/topics/events/events").await.json();
    assert_eq!(kept["events"][0]["event"]["data"], json!({"n": 1}));
    assert!(
        client
            .get("/metrics")
            .await
            .text
            .contains("tidemill_broker_ready 0")
    );
}

#[tokio::test]
async fn how_the_scrubbing_goes_is_in_the_metrics_where_it_is_on() {
    let line = "tidemill_broker_scrub_oldest_pass_seconds 0";
    let server = Running::start().await;
    let metrics = server.client().get("/metrics").await.text;
    assert!(!metrics.contains(line), "{metrics}");
    let builder = Broker::builder().scrub_bytes_per_second(1_000_000);
    let broker = builder.open().await.unwrap();
    while broker.scrub().unwrap().passes == 0 {
        tokio::task::yield_now().await;
    }
    let server = Running::over(broker, Config::at("127.0.0.1:0".parse().unwrap())).await;
    let metrics = server.client().get("/metrics").await.text;
    for line in [line, "tidemill_broker_scrub_passes_total 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let ready = server.client().get("/health/ready").await.json();
    assert_eq!(ready["status"], "ready");
    assert_eq!(ready.get("damaged"), None, "no damage is known");
    let limit = tidemill_core::limits::MEMORY_DEFAULT_BYTES;
    assert_eq!(ready["memory"]["limit_bytes"], limit);
    for line in [
        "tidemill_memory_bytes{class=\"tails\"} ",
        "tidemill_memory_bytes{class=\"deliveries\"} ",
        "tidemill_memory_over_bytes 0",
        &format!("tidemill_memory_limit_bytes {limit}"),
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_server_over_a_plain_bus_says_what_it_cannot_do() {
    let broker = broker().await;
    let config = Config::at("127.0.0.1:0".parse().unwrap());
    let server = Server::bind_bus(broker.bus(), config).await.unwrap();
    let client = support::http::Client::new(server.http_addr());
    let running = tokio::spawn(server.run(std::future::pending()));
    assert_eq!(client.event("{}").await.status, 200);
    let topics = client.get("/v1/topics").await.json();
    assert_eq!(topics["topics"][0]["name"], "events");
    assert_eq!(topics["topics"][0]["partitions"][0]["end"], 1);
    assert_eq!(client.get("/v1/groups").await.problem(501), "not-supported");
    let create = client.post("/v1/topics", JSON, r#"{"name":"a"}"#).await;
    assert_eq!(create.problem(501), "not-supported");
    running.abort();
}

#[tokio::test]
async fn what_waits_for_clients_is_shown_as_it_is_when_it_is_asked_for() {
    let server = Running::start().await;
    let waiting = server.broker.memory().take(Class::Outboxes, 12_345);
    let client = server.client();
    let metrics = client.get("/metrics").await.text;
    assert!(
        metrics.contains("\ntidemill_socketio_waiting_bytes 12345\n"),
        "{metrics}"
    );
    drop(waiting);
    let metrics = client.get("/metrics").await.text;
    assert!(
        metrics.contains("\ntidemill_socketio_waiting_bytes 0\n"),
        "{metrics}"
    );
}
