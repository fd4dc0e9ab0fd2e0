//! Members of groups over plain HTTP: deliveries under leases, settlements with their effects, and
//! whatever pullers do wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::Running;
use support::http::{Answer, Client};
use tidemill_core::GroupName;
use tokio::io::AsyncWriteExt;

const JSON: &str = "application/json";
const BATCH: &str = "application/cloudevents-batch+json";

fn event(id: &str, key: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": "made",
           "partitionkey": key, "data": {"id": id}})
}

async fn publish(client: &Client, topic: &str, events: &[(&str, &str)]) {
    let events: Vec<Value> = events.iter().map(|(id, key)| event(id, key)).collect();
    let path = format!("/v1/topics/{topic}/events");
    let answer = client.post(&path, BATCH, json!(events).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn pull(client: &Client, group: &str, query: &str) -> Vec<Value> {
    let answer = ask(client, group, query).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["deliveries"].as_array().unwrap().clone()
}

async fn ask(client: &Client, group: &str, query: &str) -> Answer {
    let path = format!("/v1/groups/{group}/pull?{query}");
    client.send("POST", &path, &[], "").await
}

async fn settle(client: &Client, group: &str, body: Value) -> Answer {
    let path = format!("/v1/groups/{group}/settle");
    client.post(&path, JSON, body.to_string()).await
}

fn ids(deliveries: &[Value]) -> Vec<&str> {
    let ids = deliveries.iter().map(|one| &one["event"]["id"]);
    ids.map(|id| id.as_str().unwrap()).collect()
}

async fn lag(client: &Client, group: &str) -> Value {
    client.get(&format!("/v1/groups/{group}")).await.json()["lag"].clone()
}

fn members(server: &Running, group: &str) -> usize {
    let group = server
        .broker
        .group(&GroupName::new(group.to_owned()).unwrap());
    group.map_or(0, |group| group.members.len())
}

#[tokio::test]
async fn an_event_is_pulled_and_settled_with_what_follows_from_it() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a"), ("2", "b")]).await;
    let got = pull(&client, "billing", "topic=orders&lease_ms=60000").await;
    assert_eq!(ids(&got), ["1", "2"]);
    assert_eq!(got[0]["topic"], "orders");
    assert_eq!(
        (&got[0]["offset"], &got[0]["attempt"]),
        (&json!(0), &json!(1))
    );
    assert!(got[0]["lease_ms"].as_u64().unwrap() > 50_000);
    assert!(got[0]["lease_until"].as_str().unwrap().ends_with('Z'));

    let effects = json!([
        {"token": got[0]["token"], "events": [
            {"topic": "invoices", "event": event("i1", "a")},
            {"topic": "invoices", "event": event("i2", "a")}]},
        {"token": got[1]["token"], "outcome": "ack"}]);
    let settled = settle(&client, "billing", effects.clone()).await;
    assert_eq!(settled.status, 200, "{}", settled.text);
    let results = settled.json();
    let results = results["results"].as_array().unwrap();
    assert_eq!(results[0]["status"], "settled");
    assert_eq!(
        results[0]["positions"][1],
        json!({"topic": "invoices", "partition": 0, "offset": 1})
    );
    assert_eq!(lag(&client, "billing").await, 0);

    // A client that did not hear of it does it again: it is told, and nothing is doubled.
    let again = settle(&client, "billing", effects).await;
    assert_eq!(again.problem(409), "already-settled");
    assert_eq!(again.json()["results"][1]["status"], "already-settled");
    let invoices = client.get("/v1/topics/invoices/events").await.json();
    assert_eq!(invoices["events"].as_array().unwrap().len(), 2);
    assert!(pull(&client, "billing", "topic=orders").await.is_empty());
    let metrics = client.get("/metrics").await.text;
    assert!(metrics.contains("tidemill_pull_leases 0"), "{metrics}");
}

#[tokio::test]
async fn pullers_share_a_group_and_a_key_waits_for_its_settlement() {
    let server = Running::start().await;
    let (one, other) = (server.client(), server.client());
    publish(&one, "orders", &[("1", "a"), ("2", "a"), ("3", "b")]).await;
    let first = pull(&one, "billing", "topic=orders&max=1").await;
    let second = pull(&other, "billing", "topic=orders").await;
    assert_eq!((ids(&first), ids(&second)), (vec!["1"], vec!["3"]));
    assert!(pull(&other, "billing", "topic=orders").await.is_empty());
    // However many pull, they are one member of the group.
    assert_eq!(members(&server, "billing"), 1);

    // One that waits gets the next of the key as soon as the one before it is settled.
    let waiting =
        tokio::spawn(async move { pull(&other, "billing", "topic=orders&wait_ms=20000").await });
    let body = json!([{"token": first[0]["token"]}, {"token": second[0]["token"]}]);
    assert_eq!(settle(&one, "billing", body).await.status, 200);
    assert_eq!(ids(&waiting.await.unwrap()), ["2"]);
}

#[tokio::test]
async fn a_lease_that_is_over_gives_its_delivery_to_others() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    let lost = pull(&client, "billing", "topic=orders&lease_ms=1").await;
    let again = pull(&client, "billing", "topic=orders&wait_ms=20000").await;
    assert_eq!(again[0]["attempt"], 2);
    let body = json!([{"token": lost[0]["token"],
        "events": [{"topic": "invoices", "event": event("i1", "a")}]}]);
    let stale = settle(&client, "billing", body).await;
    assert_eq!(stale.problem(409), "stale-lease");
    assert_eq!(client.get("/v1/topics/invoices").await.status, 404);

    // Some are right and one is not: each is answered for itself.
    publish(&client, "orders", &[("2", "b")]).await;
    let more = pull(&client, "billing", "topic=orders&wait_ms=20000").await;
    let body = json!([{"token": again[0]["token"]}, {"token": lost[0]["token"]},
        {"token": more[0]["token"]}]);
    let mut twice = body.clone();
    twice.as_array_mut().unwrap().push(body[2].clone());
    let refused = settle(&client, "billing", twice).await;
    assert_eq!(refused.problem(422), "invalid-settlement");
    let mixed = settle(&client, "billing", body).await;
    assert_eq!(mixed.problem(409), "stale-lease");
    let results = mixed.json()["results"].clone();
    let words: Vec<&Value> = (0..3).map(|n| &results[n]["status"]).collect();
    assert_eq!(words, ["settled", "stale-lease", "settled"]);
    assert_eq!(results[1]["problem"]["status"], 409);
    assert_eq!(lag(&client, "billing").await, 0);
}

#[tokio::test]
async fn a_lease_lasts_longer_and_an_attempt_ends_as_it_is_told() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a"), ("2", "b"), ("3", "c")]).await;
    let got = pull(&client, "billing", "topic=orders").await;
    let body = json!([
        {"token": got[0]["token"], "outcome": "extend", "lease_ms": 3_600_000},
        {"token": got[1]["token"], "outcome": "retry"},
        {"token": got[2]["token"], "outcome": "dead_letter",
            "reason": "rejected", "error": "no card"}]);
    let settled = settle(&client, "billing", body).await;
    assert_eq!(settled.status, 200, "{}", settled.text);
    let results = settled.json()["results"].clone();
    let words: Vec<&Value> = (0..3).map(|n| &results[n]["status"]).collect();
    assert_eq!(words, ["extended", "retried", "dead_lettered"]);
    let until: jiff::Timestamp = results[0]["lease_until"].as_str().unwrap().parse().unwrap();
    assert!(until.duration_since(jiff::Timestamp::now()).as_secs() > 3_000);

    let again = pull(&client, "billing", "topic=orders&wait_ms=20000").await;
    assert_eq!((ids(&again), &again[0]["attempt"]), (vec!["2"], &json!(2)));
    let dead = client
        .get("/v1/topics/billing.deadletter/events")
        .await
        .json();
    let dead = &dead["events"][0]["event"];
    assert_eq!(
        (&dead["id"], &dead["deadlettererror"]),
        (&json!("3"), &json!("no card"))
    );
    assert_eq!(dead["deadletterattempts"], 1);
    // Extended, it is still this one's to settle.
    let body = json!([{"token": got[0]["token"]}, {"token": again[0]["token"]}]);
    assert_eq!(settle(&client, "billing", body).await.status, 200);
    assert_eq!(lag(&client, "billing").await, 0);
}

#[tokio::test]
async fn an_effect_that_is_refused_leaves_the_delivery_to_its_holder() {
    let server = Running::start().await;
    let client = server.client();
    client.post("/v1/queues", JSON, r#"{"name":"jobs"}"#).await;
    publish(&client, "orders", &[("1", "a")]).await;
    let got = pull(&client, "billing", "topic=orders").await;
    let token = &got[0]["token"];
    let body = json!([{"token": token, "events": [{"topic": "jobs", "event": event("j", "a")}]}]);
    let refused = settle(&client, "billing", body).await;
    assert_eq!(refused.problem(409), "wrong-kind");
    assert!(
        refused.text.contains("a staged event was refused"),
        "{}",
        refused.text
    );
    // Nor is it anybody else's.
    assert_eq!(
        settle(&client, "other", json!([{"token": token}]))
            .await
            .problem(409),
        "stale-lease"
    );
    assert_eq!(
        settle(&client, "billing", json!([{"token": token}]))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_by_name() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    for (query, named) in [
        ("", "topic"),
        ("topic=,", "topic"),
        ("topic=orders&max=0", "max"),
        ("topic=orders&max=1001", "max"),
        ("topic=orders&wait_ms=30001", "wait_ms"),
        ("topic=orders&lease_ms=0", "lease_ms"),
        ("topic=orders&lease_ms=43200001", "lease_ms"),
        ("topic=orders&order=any", "order"),
        ("topic=orders&from=now", "from"),
        ("topic=orders&group=x", "group"),
    ] {
        let answer = ask(&client, "billing", query).await;
        assert_eq!(answer.problem(400), "invalid-query", "{query}");
        assert!(answer.text.contains(named), "{query}: {}", answer.text);
    }
    assert_eq!(
        ask(&client, "billing", "topic=a%20b").await.problem(422),
        "invalid-name"
    );
    client.post("/v1/queues", JSON, r#"{"name":"jobs"}"#).await;
    assert_eq!(
        ask(&client, "billing", "topic=jobs").await.problem(409),
        "wrong-kind"
    );
    let get = client.get("/v1/groups/billing/pull?topic=orders").await;
    assert_eq!(get.problem(405), "method-not-allowed");

    let text = settle(&client, "billing", json!("x")).await;
    assert_eq!(text.problem(422), "invalid-settlement");
    let many: Vec<Value> = (0..1001)
        .map(|_| json!({"token": "0123456789abcdef-1"}))
        .collect();
    assert_eq!(
        settle(&client, "billing", json!(many)).await.problem(422),
        "limit"
    );
    let unknown = json!([{"token": "0123456789abcdef-1"}]);
    assert_eq!(
        settle(&client, "billing", unknown).await.problem(409),
        "stale-lease"
    );
    let path = "/v1/groups/billing/settle";
    let typed = client.post(path, "text/plain", "[]").await;
    assert_eq!(typed.problem(415), "unsupported-media-type");
    let large = client.post(path, JSON, vec![b' '; 18 * 1024 * 1024]).await;
    assert_eq!(large.problem(413), "too-large");

    // The order is the group's while somebody holds something in another one.
    let got = pull(&client, "billing", "topic=orders").await;
    let other = ask(&client, "billing", "topic=orders&order=none").await;
    assert_eq!(other.problem(409), "group-conflict");
    let orders = "the order per_key, this one asks for none";
    assert!(other.text.contains(orders), "{}", other.text);
    assert_eq!(
        settle(&client, "billing", json!([{"token": got[0]["token"]}]))
            .await
            .status,
        200
    );
    assert!(
        pull(&client, "billing", "topic=orders&order=none")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_reply_to_what_is_no_request_is_refused_and_nothing_is_settled() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    let got = pull(&client, "billing", "topic=orders").await;
    let token = &got[0]["token"];
    let reply = json!([{"token": token, "reply": event("r1", "a")}]);
    let refused = settle(&client, "billing", reply).await;
    assert_eq!(refused.problem(422), "invalid-settlement");
    assert!(refused.text.contains("no request"), "{}", refused.text);
    assert_eq!(lag(&client, "billing").await, 1);
    let plain = settle(&client, "billing", json!([{"token": token}])).await;
    assert_eq!(plain.status, 200, "{}", plain.text);
}

#[tokio::test]
async fn a_pull_makes_no_topic() {
    let server = Running::start().await;
    let client = server.client();
    let none = ask(&client, "billing", "topic=orders").await;
    assert_eq!(none.problem(404), "unknown-topic");
    assert!(none.text.contains("POST /v1/topics"), "{}", none.text);
    publish(&client, "orders", &[("1", "a")]).await;
    let several = ask(&client, "billing", "topic=orders,returns").await;
    assert_eq!(several.problem(404), "unknown-topic");
    assert!(several.text.contains("returns"), "{}", several.text);
    assert_eq!(pull(&client, "billing", "topic=orders").await.len(), 1);
    // One that is deleted while it is pulled from does not come back, either.
    let deleted = client.send("DELETE", "/v1/topics/orders", &[], "").await;
    assert_eq!(deleted.status, 204);
    let gone = ask(&client, "billing", "topic=orders").await;
    assert_eq!(gone.problem(404), "unknown-topic");
    let topics = client.get("/v1/topics").await.json();
    assert_eq!(topics, json!({"topics": []}));
}

#[tokio::test]
async fn a_puller_that_goes_while_it_waits_takes_nothing_along() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    let first = pull(&client, "billing", "topic=orders").await;
    settle(&client, "billing", json!([{"token": first[0]["token"]}])).await;
    let mut gone = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let head = "POST /v1/groups/billing/pull?topic=orders&wait_ms=30000 HTTP/1.1\r\n\
                host: localhost\r\ncontent-length: 0\r\n\r\n";
    gone.write_all(head.as_bytes()).await.unwrap();
    drop(gone);
    // Behind it in its turn: it is let in as soon as the other is gone.
    let other = client.clone();
    let next =
        tokio::spawn(async move { pull(&other, "billing", "topic=orders&wait_ms=20000").await });
    publish(&client, "orders", &[("2", "a")]).await;
    let next = next.await.unwrap();
    assert_eq!((ids(&next), &next[0]["attempt"]), (vec!["2"], &json!(1)));
}

#[tokio::test]
async fn a_group_is_free_once_everything_is_settled_and_is_made_anew() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    let got = pull(&client, "billing", "topic=orders").await;
    let delete = || client.send("DELETE", "/v1/groups/billing", &[], "");
    assert_eq!(delete().await.problem(409), "group-in-use");
    settle(&client, "billing", json!([{"token": got[0]["token"]}])).await;
    assert_eq!(delete().await.status, 204);
    let anew = pull(&client, "billing", "topic=orders").await;
    assert_eq!(ids(&anew), ["1"]);
    // By force, what is held is nobody's any longer.
    let forced = client
        .send("DELETE", "/v1/groups/billing?force=true", &[], "")
        .await;
    assert_eq!(forced.status, 204);
    let body = json!([{"token": anew[0]["token"]}]);
    assert_eq!(
        settle(&client, "billing", body).await.problem(409),
        "stale-lease"
    );
    assert_eq!(ids(&pull(&client, "billing", "topic=orders").await), ["1"]);
    // A topic that was deleted and made again is read from its beginning.
    client.send("DELETE", "/v1/topics/orders", &[], "").await;
    publish(&client, "orders", &[("2", "a")]).await;
    assert_eq!(
        ids(&pull(&client, "billing", "topic=orders&wait_ms=20000").await),
        ["2"]
    );
}

#[tokio::test]
async fn large_events_end_an_answer_and_slow_readers_keep_nobody() {
    let server = Running::start().await;
    let client = server.client();
    let large = "x".repeat(1024 * 1024);
    for n in 0..10 {
        let event = json!({"topic": "orders", "n": n, "x": large});
        assert_eq!(client.event(event.to_string()).await.status, 200);
    }
    // One that never reads its answer of 4 MiB.
    let mut slow = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let head = "POST /v1/groups/slow/pull?topic=orders&max=1000&lease_ms=60000 HTTP/1.1\r\n\
                host: localhost\r\ncontent-length: 0\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut all = 0;
    while all < 10 {
        let got = pull(&client, "quick", "topic=orders&max=1000&wait_ms=20000").await;
        assert!((1..=5).contains(&got.len()), "{} at once", got.len());
        all += got.len();
    }
    drop(slow);
}

#[tokio::test]
async fn a_server_that_stops_answers_who_waits_and_gives_everything_back() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    let held = pull(&client, "billing", "topic=orders&lease_ms=3600000").await;
    assert_eq!(held.len(), 1);
    let (broker, other) = (server.broker.clone(), client.clone());
    let waits =
        tokio::spawn(async move { ask(&other, "billing", "topic=orders&wait_ms=30000").await });
    // It waits once its turn has come: a second one is behind it.
    assert!(pull(&client, "billing", "topic=orders").await.is_empty());
    server.stop().await;
    // As a long poll that a closing server ends.
    let waited = waits.await.unwrap();
    assert_eq!(waited.status, 200, "{}", waited.text);
    assert_eq!(waited.json(), json!({"deliveries": []}));
    let group = broker.group(&GroupName::new("billing").unwrap()).unwrap();
    assert!(group.members.is_empty());
    assert!(group.partitions.iter().all(|at| at.in_flight == 0));
}

/// A request to join a group, as an old client of Kafka frames it.
#[cfg(feature = "kafka")]
fn join_group(group: &str) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text.as_bytes());
    }
    // JoinGroup, version 0, and the number by which its answer is known.
    let mut frame = vec![0, 11, 0, 0, 0, 0, 0, 7];
    text(&mut frame, "test");
    text(&mut frame, group);
    frame.extend(10_000_i32.to_be_bytes());
    text(&mut frame, "");
    text(&mut frame, "consumer");
    frame.extend(1_i32.to_be_bytes());
    text(&mut frame, "range");
    frame.extend(0_i32.to_be_bytes());
    let size = u32::try_from(frame.len()).unwrap().to_be_bytes();
    [size.as_slice(), &frame].concat()
}

/// The error code with which a client of Kafka is answered that joins a group.
#[cfg(feature = "kafka")]
async fn joins(kafka: std::net::SocketAddr, group: &str) -> i16 {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio::net::TcpStream::connect(kafka).await.unwrap();
    stream.write_all(&join_group(group)).await.unwrap();
    let size = stream.read_u32().await.unwrap();
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..4], [0, 0, 0, 7]);
    i16::from_be_bytes([answer[4], answer[5]])
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn a_puller_that_has_nothing_makes_way_for_a_client_of_kafka() {
    let mut config = tidemill_server::Config::at("127.0.0.1:0".parse().unwrap());
    config.kafka = Some(tidemill_server::KafkaConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..tidemill_server::KafkaConfig::default()
    });
    let broker = support::broker().await;
    let server = tidemill_server::Server::bind(broker.clone(), config);
    let server = server.await.unwrap();
    let kafka = server.kafka_addr().unwrap();
    let server = Running::of(broker, server);
    let client = server.client();
    publish(&client, "orders", &[("1", "a")]).await;
    let got = pull(&client, "billing", "topic=orders").await;
    // INCONSISTENT_GROUP_PROTOCOL: what it holds is its own.
    assert_eq!(joins(kafka, "billing").await, 23);
    let body = json!([{"token": got[0]["token"], "outcome": "ack"}]);
    assert_eq!(settle(&client, "billing", body).await.status, 200);
    assert_eq!(members(&server, "billing"), 1);
    assert_eq!(joins(kafka, "billing").await, 0);
}
