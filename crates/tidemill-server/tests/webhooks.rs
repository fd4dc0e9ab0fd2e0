//! Webhooks against endpoints that take, refuse, hang, redirect, answer too much and break off.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::Running;
use support::http::{Answer, Client};
use support::receiver::{Receiver, Reply};
use tidemill_broker::Broker;
use tidemill_server::{Config, Server};
use tokio::sync::Notify;

const JSON: &str = "application/json";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// No test looks longer for something.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a quick webhook is made of.
fn made(name: &str, url: &str) -> Value {
    json!({"name": name, "url": url, "topics": ["orders"], "retry_first_ms": 10,
           "retry_max_ms": 20, "secret": SECRET})
}

async fn create(client: &Client, of: Value) -> Value {
    let answer = client.post("/v1/webhooks", JSON, of.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

async fn publish(client: &Client, data: impl std::fmt::Display, key: &str) {
    let event = json!({"specversion": "1.0", "id": format!("{key}-{data}"), "source": "/t",
                       "type": "made", "partitionkey": key, "data": data.to_string()});
    let path = "/v1/topics/orders/events";
    let content_type = "application/cloudevents+json";
    let answer = client.post(path, content_type, event.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// A second webhook, which works: what it has got, the first one would have, too.
async fn witness(client: &Client) -> Receiver {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    create(client, made("witness", &receiver.url())).await;
    receiver
}

async fn post(client: &Client, path: &str) -> Answer {
    client.send("POST", path, &[], "").await
}

/// Looks at a path until it is as it should be.
async fn until(client: &Client, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let seen = client.get(path).await.json();
            if is(&seen) {
                return seen;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    match found {
        Ok(found) => found,
        Err(_) => panic!("{}", client.get(path).await.text),
    }
}

#[tokio::test]
async fn an_event_is_sent_whole_and_signed_and_settled() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|_, _| Reply::status(204)).await;
    let mut of = made("shop", &receiver.url());
    of["headers"] = json!({"Authorization": "Bearer 7"});
    let webhook = create(&client, of).await;
    assert_eq!(
        (&webhook["secret"], &webhook["group"]),
        (&json!(SECRET), &json!("webhook.shop"))
    );
    publish(&client, 1, "a").await;
    let got = receiver.next().await;
    assert_eq!(got.line, "POST /hook?from=tidemill HTTP/1.1");
    assert_eq!(got.header("content-type"), "application/cloudevents+json");
    assert_eq!(got.header("authorization"), "Bearer 7");
    let event = got.json();
    assert_eq!(
        (&event["id"], &event["source"]),
        (&json!("a-1"), &json!("/t"))
    );
    assert_eq!(event["specversion"], "1.0");
    assert!(got.header("webhook-id").starts_with("msg_"));
    assert!(got.header("webhook-timestamp").parse::<u64>().unwrap() > 1_700_000_000);
    assert!(got.header("webhook-signature").starts_with("v1,"));
    let path = "/v1/webhooks/shop";
    let shown = until(&client, path, |one| {
        one["lag"] == 0 && one["delivered"] == 1
    })
    .await;
    assert_eq!(shown["headers"], json!(["authorization"]));
    assert!(shown["last_success"].is_string() && shown["last_error"].is_null());
    let listed = client.get("/v1/webhooks").await.text;
    assert!(
        !listed.contains("whsec_") && !listed.contains("Bearer"),
        "{listed}"
    );
    let metrics = client.get("/metrics").await.text;
    for line in [
        "tidemill_webhook_deliveries_total{webhook=\"shop\"} 1",
        "tidemill_webhook_attempt_duration_seconds_count{webhook=\"shop\"} 1",
        "tidemill_webhook_paused{webhook=\"shop\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    let graph = client.get("/v1/graph").await.json();
    let edges = graph["edges"].as_array().unwrap();
    let has = |edge: &Value| {
        edge["from"] == "topic:orders"
            && edge["to"] == "group:webhook.shop"
            && edge["declared"] == true
    };
    assert!(edges.iter().any(has), "{graph}");
}

#[tokio::test]
async fn whatever_an_endpoint_does_instead_of_taking_it_the_event_is_sent_again_with_its_id() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|number, _| match number {
        0 => Reply::status(500),
        1 => Reply::Close,
        2 => Reply::Reset,
        3 => Reply::Hang,
        4 => Reply::with(302, "location: http://127.0.0.1:1/elsewhere"),
        5 => Reply::Text("HTTP/1.1 200 OK\r\nconte".to_owned()),
        6 => Reply::Text("no HTTP at all\r\n\r\n".to_owned()),
        7 => Reply::with(503, "retry-after: 0"),
        _ => Reply::status(200),
    })
    .await;
    let mut of = made("shop", &receiver.url());
    of["timeout_ms"] = json!(300);
    create(&client, of).await;
    publish(&client, 1, "a").await;
    let first = receiver.next().await;
    for _ in 0..8 {
        let again = receiver.next().await;
        assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
        assert_eq!(again.body, first.body);
    }
    let shown = until(&client, "/v1/webhooks/shop", |one| one["lag"] == 0).await;
    assert_eq!(
        (&shown["delivered"], &shown["failed"]),
        (&json!(1), &json!(8))
    );
    // What is settled is not sent again: the next of the same key is the next event.
    publish(&client, 2, "a").await;
    assert_eq!(receiver.next().await.data(), "\"2\"");
}

#[tokio::test]
async fn what_is_refused_for_good_is_a_dead_letter_with_the_reason_and_can_be_sent_again() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|number, _| match number {
        0..2 => Reply::with(301, "location: /new"),
        _ => Reply::status(200),
    })
    .await;
    let mut of = made("shop", &receiver.url());
    of["attempts"] = json!(2);
    create(&client, of).await;
    publish(&client, 1, "a").await;
    let path = "/v1/deadletters/webhook.shop";
    let letters = |seen: &Value| seen["letters"].as_array().is_some_and(|all| all.len() == 1);
    let dead = until(&client, path, letters).await;
    let letter = &dead["letters"][0];
    assert_eq!(
        (&letter["attempts"], &letter["reason"]),
        (&json!(2), &json!("error"))
    );
    let why = letter["error"].as_str().unwrap();
    assert!(
        why.contains("301") && why.contains("/new") && why.contains("not followed"),
        "{why}"
    );
    let shown = client.get("/v1/webhooks/shop").await.json();
    assert_eq!(
        (&shown["dead_lettered"], &shown["lag"]),
        (&json!(1), &json!(0))
    );
    receiver.next().await;
    let first = receiver.next().await;
    let redrive = format!("{path}/redrive");
    assert_eq!(client.post(&redrive, JSON, "").await.status, 200);
    let again = receiver.next().await;
    assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_pauses_its_webhook_which_goes_on_when_it_is_resumed() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|number, _| match number {
        0 => Reply::status(410),
        _ => Reply::status(200),
    })
    .await;
    create(&client, made("shop", &receiver.url())).await;
    let mut witness = witness(&client).await;
    publish(&client, 1, "a").await;
    receiver.next().await;
    let path = "/v1/webhooks/shop";
    let shown = until(&client, path, |one| !one["paused"].is_null()).await;
    assert!(shown["paused"]["reason"].as_str().unwrap().contains("410"));
    assert_eq!(shown["lag"], 1);
    let metrics = client.get("/metrics").await.text;
    assert!(metrics.contains("tidemill_webhook_paused{webhook=\"shop\"} 1"));
    publish(&client, 2, "a").await;
    assert_eq!(witness.next().await.data(), "\"1\"");
    assert_eq!(witness.next().await.data(), "\"2\"");
    assert!(receiver.is_quiet());
    let resumed = post(&client, "/v1/webhooks/shop/resume").await.json();
    assert!(resumed["paused"].is_null());
    assert_eq!(receiver.next().await.data(), "\"1\"");
    assert_eq!(receiver.next().await.data(), "\"2\"");
    let paused = post(&client, "/v1/webhooks/shop/pause").await.json();
    assert_eq!(paused["paused"]["reason"], "somebody paused it");
    publish(&client, 3, "a").await;
    assert_eq!(witness.next().await.data(), "\"3\"");
    assert!(receiver.is_quiet());
    assert_ne!(client.get(path).await.json()["lag"], 0);
}

#[tokio::test]
async fn an_endpoint_that_hangs_or_answers_without_end_disturbs_nobody() {
    let server = Running::start().await;
    let client = server.client();
    let mut hangs = Receiver::start(|_, _| Reply::Hang).await;
    let mut floods = Receiver::start(|_, _| Reply::Huge(10 * 1024 * 1024)).await;
    let mut takes = Receiver::start(|_, _| Reply::status(200)).await;
    for (name, receiver) in [("hangs", &hangs), ("floods", &floods), ("takes", &takes)] {
        let mut of = made(name, &receiver.url());
        of["concurrency"] = json!(2);
        create(&client, of).await;
    }
    for number in 0..30 {
        publish(&client, number, &format!("key{number}")).await;
    }
    for _ in 0..30 {
        takes.next().await;
        floods.next().await;
    }
    for name in ["takes", "floods"] {
        let path = format!("/v1/webhooks/{name}");
        let shown = until(&client, &path, |one| one["lag"] == 0).await;
        assert_eq!(shown["delivered"], 30, "{name}");
    }
    hangs.next().await;
    hangs.next().await;
    let shown = client.get("/v1/webhooks/hangs").await.json();
    assert_eq!(
        (&shown["lag"], &shown["in_flight"]),
        (&json!(30), &json!(2))
    );
    publish(&client, 30, "another key").await;
    takes.next().await;
    floods.next().await;
    assert!(hangs.is_quiet());
}

#[tokio::test]
async fn events_of_a_key_come_in_their_order_also_where_some_fail() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|number, _| match number % 3 {
        0 => Reply::status(500),
        _ => Reply::status(200),
    })
    .await;
    create(&client, made("shop", &receiver.url())).await;
    for number in 0..10 {
        publish(&client, number, "one key").await;
    }
    let mut taken = Vec::new();
    let mut number = 0;
    while taken.len() < 10 {
        let got = receiver.next().await;
        if number % 3 != 0 {
            taken.push(got.data());
        }
        number += 1;
    }
    let want: Vec<String> = (0..10).map(|number| format!("\"{number}\"")).collect();
    assert_eq!(taken, want);
}

#[tokio::test]
async fn only_the_types_that_were_asked_for_are_sent() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let mut of = made("shop", &receiver.url());
    of["types"] = json!(["order.*"]);
    create(&client, of).await;
    for ty in ["user.made", "order.paid", "order.paid.late"] {
        let event = json!({"topic": "orders", "type": ty});
        assert_eq!(client.event(event.to_string()).await.status, 200);
    }
    assert_eq!(receiver.next().await.json()["type"], "order.paid");
    until(&client, "/v1/webhooks/shop", |one| one["lag"] == 0).await;
    let event = json!({"topic": "orders", "type": "order.sent"});
    assert_eq!(client.event(event.to_string()).await.status, 200);
    assert_eq!(receiver.next().await.json()["type"], "order.sent");
}

#[tokio::test]
async fn a_rotated_secret_and_the_one_before_both_sign() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|_, _| Reply::status(200)).await;
    create(&client, made("shop", &receiver.url())).await;
    let rotated = post(&client, "/v1/webhooks/shop/rotate").await.json();
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_ne!(rotated["secret"], SECRET);
    assert!(rotated["old_secret_until"].is_string());
    let tested = post(&client, "/v1/webhooks/shop/test").await.json();
    assert_eq!(
        (&tested["delivered"], &tested["status"]),
        (&json!(true), &json!(200))
    );
    let got = receiver.next().await;
    assert_eq!(got.header("webhook-id"), tested["id"]);
    assert_eq!(got.json()["type"], "tidemill.webhook.test");
    let signed: Vec<&str> = got.header("webhook-signature").split(' ').collect();
    assert!(signed.len() == 2 && signed[0] != signed[1]);
    let body = json!({"overlap_ms": 0, "secret": SECRET}).to_string();
    let rotated = client
        .post("/v1/webhooks/shop/rotate", JSON, body)
        .await
        .json();
    assert_eq!(rotated["secret"], SECRET);
    assert_eq!(
        (&rotated["signing"], &rotated["oldest_ended"]),
        (&json!(2), &json!(false))
    );
    post(&client, "/v1/webhooks/shop/test").await;
    let now = receiver.next().await;
    // The first one's day is not over; the second's was over at once.
    assert_eq!(now.header("webhook-signature").split(' ').count(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_webhook_is_said() {
    let server = Running::start().await;
    let client = server.client();
    let with = |name: &str, value: Value| {
        let mut of = made("shop", "http://127.0.0.1:1/");
        of[name] = value;
        of
    };
    for of in [
        with("url", json!("ftp://shop.example/")),
        with("url", json!("http://me:me@shop.example/")),
        with("url", json!("http://a..b/")),
        with("topics", json!([])),
        with("secret", json!("whsec_short")),
        with("headers", json!({"webhook-id": "1"})),
        with("concurrency", json!(1000)),
        with("colour", json!("red")),
        with("start", json!("yesterday")),
        with("start", json!(5)),
        with("topics", json!(["orders", "webhook.shop.deadletter"])),
        with("retry_first_ms", json!(21)),
        json!(["shop", "http://127.0.0.1:1/", ["orders"]]),
        json!([]),
        with("name", json!("a/b")),
    ] {
        let answer = client.post("/v1/webhooks", JSON, of.to_string()).await;
        assert_eq!(answer.problem(422), "invalid-webhook", "{of}");
    }
    let answer = client.post("/v1/webhooks", JSON, "{").await;
    assert_eq!(answer.problem(400), "invalid-json");
    let of = with("start", json!(5)).to_string();
    let answer = client.post("/v1/webhooks", JSON, of).await;
    assert!(answer.text.contains("start"), "{}", answer.text);
    for (method, path) in [
        ("GET", "/v1/webhooks/none"),
        ("DELETE", "/v1/webhooks/none"),
        ("POST", "/v1/webhooks/none/pause"),
        ("POST", "/v1/webhooks/none/test"),
    ] {
        let answer = client.send(method, path, &[], "").await;
        assert_eq!(answer.problem(404), "unknown-webhook", "{path}");
    }
    create(&client, made("shop", "http://127.0.0.1:1/")).await;
    let again = made("shop", "http://127.0.0.1:1/").to_string();
    let again = client.post("/v1/webhooks", JSON, again).await;
    assert_eq!(again.problem(409), "conflict");
    let tested = post(&client, "/v1/webhooks/shop/test").await.json();
    assert_eq!(
        (&tested["delivered"], &tested["status"]),
        (&json!(false), &Value::Null)
    );
    assert!(
        tested["error"]
            .as_str()
            .unwrap()
            .contains("cannot be reached"),
        "{tested}"
    );
}

#[tokio::test]
async fn a_webhook_is_changed_and_deleted_with_its_group() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|_, _| Reply::status(200)).await;
    create(&client, made("shop", "http://127.0.0.1:1/")).await;
    publish(&client, 1, "a").await;
    let path = "/v1/webhooks/shop";
    until(&client, path, |one| one["failed"] != 0).await;
    let json_type = [("content-type", JSON)];
    let none = client.send("PATCH", path, &json_type, "{}").await;
    assert_eq!(none.problem(422), "invalid-webhook");
    let nowhere = client
        .send("PATCH", path, &json_type, r#"{"url":null}"#)
        .await;
    assert_eq!(nowhere.problem(422), "invalid-webhook");
    let own = json!({"types": ["x"], "headers": {"a": "b"}, "timeout_ms": 7000, "attempts": 2,
        "retry_first_ms": 11, "retry_max_ms": 12, "concurrency": 3});
    let mut null = own.clone();
    null.as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(|value| *value = Value::Null);
    let own = client
        .send("PATCH", path, &json_type, own.to_string())
        .await
        .json();
    assert_eq!(
        (&own["headers"], &own["timeout_ms"]),
        (&json!(["a"]), &json!(7000))
    );
    let null = client
        .send("PATCH", path, &json_type, null.to_string())
        .await
        .json();
    for (name, usual) in [
        ("types", json!([])),
        ("headers", json!([])),
        ("timeout_ms", json!(15_000)),
        ("attempts", json!(15)),
        ("retry_first_ms", json!(1_000)),
        ("retry_max_ms", json!(3_600_000)),
        ("concurrency", json!(4)),
    ] {
        assert_eq!(null[name], usual, "{name}");
    }
    let change = json!({"url": receiver.url(), "retry_first_ms": 10}).to_string();
    let changed = client.send("PATCH", path, &json_type, change).await;
    assert_eq!(changed.json()["url"], receiver.url());
    assert_eq!(receiver.next().await.data(), "\"1\"");
    assert_eq!(client.send("DELETE", path, &[], "").await.status, 204);
    assert_eq!(client.get("/v1/groups/webhook.shop").await.status, 404);
    assert!(
        !client
            .get("/metrics")
            .await
            .text
            .contains("webhook=\"shop\"")
    );
    publish(&client, 2, "a").await;
    let mut of = made("shop", &receiver.url());
    of["start"] = json!("beginning");
    create(&client, of).await;
    assert_eq!(receiver.next().await.data(), "\"1\"");
    assert_eq!(receiver.next().await.data(), "\"2\"");
}

async fn over(folder: &Path) -> Running {
    let broker = Broker::open(folder).await.unwrap();
    let mut config = Config::at("127.0.0.1:0".parse().unwrap());
    config.private = Some(folder.join(tidemill_broker::PRIVATE_DIR));
    Running::over(broker, config).await
}

#[tokio::test]
async fn a_server_that_ends_while_it_tries_again_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut refuses = Receiver::start(|_, _| Reply::status(500)).await;
    let server = over(folder.path()).await;
    let client = server.client();
    create(&client, made("shop", &refuses.url())).await;
    for number in 0..5 {
        publish(&client, number, "a").await;
        publish(&client, number, "b").await;
    }
    refuses.next().await;
    refuses.next().await;
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
    drop(broker);
    let file = folder.path().join("private/webhooks.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&refuses.url(), &receiver.url())).unwrap();
    let server = over(folder.path()).await;
    let client = server.client();
    let mut taken = Vec::new();
    for _ in 0..10 {
        let got = receiver.next().await;
        let key = got.json()["partitionkey"].as_str().unwrap().to_owned();
        taken.push((key, got.data()));
    }
    for key in ["a", "b"] {
        let own = taken.iter().filter(|(of, _)| of == key);
        let own: Vec<&str> = own.map(|(_, data)| data.as_str()).collect();
        assert_eq!(own, ["\"0\"", "\"1\"", "\"2\"", "\"3\"", "\"4\""]);
    }
    let shown = until(&client, "/v1/webhooks/shop", |one| one["lag"] == 0).await;
    assert_eq!(shown["delivered"], 10);
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
}

/// Nothing can be written where a folder is in the file's place.
fn block(file: &Path) {
    if file.exists() {
        std::fs::rename(file, file.with_extension("aside")).unwrap();
    }
    std::fs::create_dir_all(file).unwrap();
}

fn unblock(file: &Path) {
    std::fs::remove_dir(file).unwrap();
    if file.with_extension("aside").exists() {
        std::fs::rename(file.with_extension("aside"), file).unwrap();
    }
}

#[tokio::test]
async fn where_nothing_can_be_kept_no_group_stays_and_a_deletion_can_be_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("private/webhooks.json");
    let server = over(folder.path()).await;
    let client = server.client();
    let (path, group) = ("/v1/webhooks/shop", "/v1/groups/webhook.shop");
    block(&file);
    let of = made("shop", "http://127.0.0.1:1/").to_string();
    let refused = client.post("/v1/webhooks", JSON, of.clone()).await;
    assert_eq!(refused.problem(500), "internal");
    assert_eq!(client.get(group).await.status, 404);
    unblock(&file);
    assert_eq!(client.post("/v1/webhooks", JSON, of).await.status, 201);

    block(&file);
    assert_eq!(client.send("DELETE", path, &[], "").await.status, 500);
    assert!(client.get(path).await.json()["paused"].is_null());
    assert_eq!(client.get(group).await.status, 200);
    unblock(&file);
    post(&client, "/v1/webhooks/shop/pause").await;
    block(&file);
    // Its group is gone and it is not.
    assert_eq!(client.send("DELETE", path, &[], "").await.status, 500);
    assert_eq!(client.get(group).await.status, 404);
    assert!(client.get(path).await.json()["paused"].is_object());
    unblock(&file);
    assert_eq!(client.send("DELETE", path, &[], "").await.status, 204);
    assert_eq!(client.get(path).await.status, 404);
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
}

#[tokio::test]
async fn a_group_that_is_there_is_not_taken_over_and_nothing_old_is_sent() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|_, _| Reply::status(200)).await;
    publish(&client, 0, "a").await;
    let subscription = tidemill_core::Subscription {
        topics: vec![tidemill_core::TopicName::new("orders").unwrap()],
        group: tidemill_core::GroupName::new("webhook.shop").unwrap(),
        order: tidemill_core::Order::PerKey,
        start: tidemill_core::Start::Beginning,
    };
    drop(server.broker.bus().subscribe(subscription).await.unwrap());
    let of = made("shop", &receiver.url());
    let refused = client.post("/v1/webhooks", JSON, of.to_string()).await;
    assert_eq!(refused.problem(409), "conflict");
    assert!(
        refused.text.contains("tidemill group delete webhook.shop")
            && refused.text.contains("DELETE /v1/groups/webhook.shop"),
        "{}",
        refused.text
    );
    let group = "/v1/groups/webhook.shop";
    assert_eq!(client.send("DELETE", group, &[], "").await.status, 204);
    create(&client, of).await;
    publish(&client, 1, "a").await;
    assert_eq!(receiver.next().await.data(), "\"1\"");
}

#[tokio::test]
async fn webhooks_do_not_send_each_other_their_dead_letters() {
    let server = Running::start().await;
    let client = server.client();
    let with = |name: &str, of: &str| {
        let mut hook = made(name, "http://127.0.0.1:1/");
        hook["topics"] = json!(["orders", format!("webhook.{of}.deadletter")]);
        hook
    };
    create(&client, with("a", "b")).await;
    let refused = client.post("/v1/webhooks", JSON, with("b", "a").to_string());
    let refused = refused.await;
    assert_eq!(refused.problem(422), "invalid-webhook");
    assert!(
        refused.text.contains("come back to it as those of a,"),
        "{}",
        refused.text
    );
    // One that sends what another one gives up is what dead letters are for.
    create(&client, with("c", "a")).await;
}

#[tokio::test]
async fn webhooks_that_are_kept_with_such_a_circle_do_not_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = over(folder.path()).await;
    let client = server.client();
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    for (name, of) in [("a", "x"), ("b", "a"), ("c", "y")] {
        let mut hook = made(name, &receiver.url());
        hook["topics"] = json!(["orders", format!("webhook.{of}.deadletter")]);
        create(&client, hook).await;
    }
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
    drop(broker);
    // The letters of a and b go round, and so do those of c.
    let file = folder.path().join("private/webhooks.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("webhook.x.deadletter", "webhook.b.deadletter");
    let text = text.replace("webhook.y.deadletter", "webhook.c.deadletter");
    std::fs::write(&file, text).unwrap();

    let server = over(folder.path()).await;
    let client = server.client();
    let all = client.get("/v1/webhooks").await.json();
    assert_eq!(all["webhooks"].as_array().unwrap().len(), 3, "{all}");
    publish(&client, 1, "a").await;
    for name in ["a", "b", "c"] {
        let path = format!("/v1/webhooks/{name}");
        until(&client, &path, |one| one["delivered"] == json!(1)).await;
    }
    let refused = client.post("/v1/webhooks", JSON, {
        let mut hook = made("d", &receiver.url());
        hook["topics"] = json!(["webhook.d.deadletter"]);
        hook.to_string()
    });
    assert_eq!(refused.await.problem(422), "invalid-webhook");
    let removed = client.send("DELETE", "/v1/webhooks/c", &[], "").await;
    assert_eq!(removed.status, 204, "{}", removed.text);
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
}

#[tokio::test]
async fn nobody_else_reads_as_a_webhooks_group_and_its_place_is_set_while_it_is_paused() {
    let server = Running::start().await;
    let client = server.client();
    let mut receiver = Receiver::start(|_, _| Reply::status(200)).await;
    create(&client, made("shop", &receiver.url())).await;
    publish(&client, 1, "a").await;
    receiver.next().await;
    let group = "/v1/groups/webhook.shop";
    let pull = post(&client, &format!("{group}/pull?topic=orders")).await;
    let token = json!([{"token": "1-1-1"}]).to_string();
    let settle = client.post(&format!("{group}/settle"), JSON, token).await;
    for refused in [pull, settle] {
        assert_eq!(refused.problem(409), "group-conflict");
        // A pause would not help.
        for what in [
            "take another group",
            "tidemill deadletter list webhook.shop",
        ] {
            assert!(refused.text.contains(what), "{}", refused.text);
        }
        assert!(!refused.text.contains("webhook pause"), "{}", refused.text);
    }
    let (mut ws, _) = support::ws::Ws::hello(server.address).await;
    let subscribe = r#"{"type":"subscribe","id":1,"subscription":1,"topics":["orders"],
                        "group":"webhook.shop"}"#;
    let refused = ws.ask(subscribe).await;
    assert_eq!(refused["code"], "group_conflict", "{refused}");

    let seek = format!("{group}/seek");
    let back = json!({"topic": "orders", "to": "beginning"}).to_string();
    let refused = client.post(&seek, JSON, back.clone()).await;
    assert_eq!(refused.problem(409), "group-in-use");
    assert!(
        refused.text.contains("tidemill webhook pause shop"),
        "{}",
        refused.text
    );
    assert_eq!(post(&client, "/v1/webhooks/shop/pause").await.status, 200);
    let sought = client.post(&seek, JSON, back).await;
    assert_eq!(sought.status, 200, "{}", sought.text);
    assert_eq!(post(&client, "/v1/webhooks/shop/resume").await.status, 200);
    assert_eq!(receiver.next().await.data(), "\"1\"");
}

#[tokio::test]
async fn a_rest_that_was_asked_for_is_kept_though_what_was_on_its_way_is_taken() {
    let server = Running::start().await;
    let client = server.client();
    let taken = Arc::new(Notify::new());
    let held = Arc::clone(&taken);
    let mut receiver = Receiver::start(move |_, got| match got.data().as_str() {
        "\"1\"" => Reply::Held(Arc::clone(&held)),
        "\"2\"" => Reply::with(503, "retry-after: 3600"),
        _ => Reply::status(200),
    })
    .await;
    create(&client, made("shop", &receiver.url())).await;
    let mut witness = witness(&client).await;
    let path = "/v1/webhooks/shop";
    publish(&client, 1, "a").await;
    assert_eq!(receiver.next().await.data(), "\"1\"");
    publish(&client, 2, "b").await;
    assert_eq!(receiver.next().await.data(), "\"2\"");
    until(&client, path, |one| one["failed"] == 1).await;
    taken.notify_one();
    until(&client, path, |one| one["delivered"] == 1).await;
    publish(&client, 3, "c").await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(witness.next().await.data());
    }
    assert!(seen.contains(&"\"3\"".to_owned()));
    assert!(receiver.is_quiet());
    assert_eq!(client.get(path).await.json()["lag"], 2);
}

#[tokio::test]
async fn a_server_that_is_dropped_sends_nothing_any_longer() {
    let server = Running::start().await;
    let client = server.client();
    create(&client, made("shop", "http://127.0.0.1:1/")).await;
    let broker = server.broker.clone();
    drop((client, server));
    let group = tidemill_core::GroupName::new("webhook.shop").unwrap();
    let looking = async {
        while !broker.group(&group).unwrap().members.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_read_stops_the_start_and_says_which() {
    let good = json!({
        "name": "shop", "url": "http://127.0.0.1:1/", "topics": ["orders"], "types": [],
        "headers": {}, "timeout_ms": 1000, "attempts": 3, "retry_first_ms": 10,
        "retry_max_ms": 20, "concurrency": 1, "created": "2026-01-02T03:04:05Z",
        "secret": SECRET, "old_secrets": [], "paused": null,
    });
    let file = |second: &Value| json!({"version": 1, "webhooks": [good, second]});
    let with = |name: &str, value: Value| {
        let mut second = good.clone();
        second["name"] = json!("second");
        second[name] = value;
        file(&second)
    };
    for (text, named) in [
        (json!({"version": 7, "webhooks": []}), "version 7"),
        (file(&good), "number 2, \"shop\": another one"),
        (
            with("concurrency", json!(0)),
            "number 2, \"second\": \"concurrency\"",
        ),
        (
            with("attempts", json!(0)),
            "number 2, \"second\": \"attempts\"",
        ),
        (
            with("name", json!("a b")),
            "number 2, \"a b\": a webhook's name",
        ),
        (
            with("url", json!("ftp://x/")),
            "\"second\": events are sent to http://",
        ),
        (with("topics", json!([])), "\"second\": name 1 to"),
        (
            with("topics", json!(["a", "a"])),
            "\"second\": name each topic once",
        ),
        (
            with("headers", json!({"Host": "x"})),
            "\"second\": the header host",
        ),
        (with("types", json!(["a***"])), "a***"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("webhooks.json");
        std::fs::write(&file, text.to_string()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut config = Config::at("127.0.0.1:0".parse().unwrap());
        config.private = Some(folder.path().to_owned());
        let refused = Server::bind(support::broker().await, config).await;
        let why = refused.map(|_| ()).unwrap_err().to_string();
        assert!(
            why.contains("webhooks.json") && why.contains(named),
            "{why}"
        );
    }
}

#[tokio::test]
async fn topics_that_cannot_be_read_are_trouble_until_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let server = over(folder.path()).await;
    create(&server.client(), made("shop", "http://127.0.0.1:1/")).await;
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
    drop(broker);
    let file = folder.path().join("private/webhooks.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"orders\"", "\"later\"")).unwrap();
    let broker = Broker::builder().path(folder.path());
    let broker = broker.auto_create_topics(false).open().await.unwrap();
    let mut config = Config::at("127.0.0.1:0".parse().unwrap());
    config.private = Some(folder.path().join(tidemill_broker::PRIVATE_DIR));
    let server = Running::over(broker, config).await;
    let client = server.client();
    let path = "/v1/webhooks/shop";
    let shown = until(&client, path, |one| !one["trouble"].is_null()).await;
    let why = shown["trouble"]["error"].as_str().unwrap();
    assert!(why.contains("later"), "{why}");
    assert!(shown["last_error"].is_null());
    let topic = json!({"name": "later"}).to_string();
    let answer = client.post("/v1/topics", JSON, topic).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    until(&client, path, |one| one["trouble"].is_null()).await;
    let broker = server.broker.clone();
    server.stop().await;
    broker.close().await;
}
