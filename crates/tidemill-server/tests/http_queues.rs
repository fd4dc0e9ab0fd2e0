//! Queues over HTTP: what goes in comes out, leases are named, and what is wrong is told as at the
//! other doors.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::Running;
use support::http::{Answer, Client};

const JSON: &str = "application/json";
const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

async fn create(client: &Client, body: &str) -> Value {
    let created = client.post("/v1/queues", JSON, body.to_owned()).await;
    assert_eq!(created.status, 201, "{}", created.text);
    created.json()
}

async fn enqueue(client: &Client, queue: &str, body: &str) -> Answer {
    let path = format!("/v1/queues/{queue}/enqueue");
    client.post(&path, JSON, body.to_owned()).await
}

async fn dequeue(client: &Client, queue: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/queues/{queue}/dequeue{query}");
    let answer = client.send("POST", &path, &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["messages"].as_array().unwrap().clone()
}

async fn settle(client: &Client, queue: &str, how: &str, leases: &[&str]) -> Answer {
    let path = format!("/v1/queues/{queue}/{how}");
    let body = json!({ "leases": leases }).to_string();
    client.post(&path, JSON, body).await
}

fn lease(message: &Value) -> &str {
    message["lease"].as_str().unwrap()
}

#[tokio::test]
async fn a_message_goes_in_and_out_and_is_done_with() {
    let server = Running::start().await;
    let client = server.client();
    for (name, transient) in [("jobs", false), ("fleeting", true)] {
        let body = json!({"name": name, "transient": transient, "lease_ms": 60_000});
        let made = create(&client, &body.to_string()).await;
        assert_eq!(made["transient"], transient);
        assert_eq!(
            (&made["length"], &made["lease_ms"]),
            (&json!(0), &json!(60_000))
        );
        put_in(&client, name).await;
        take_out(&client, name).await;
    }
    let listed = client.get("/v1/queues").await.json();
    let names: Vec<_> = listed["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| &q["name"])
        .collect();
    assert_eq!(names, ["fleeting", "jobs"]);
    assert_eq!(client.get("/v1/topics").await.json(), json!({"topics": []}));
    let metrics = client.get("/metrics").await.text;
    for told in [
        "tidemill_queue_messages{queue=\"jobs\"} 0",
        "tidemill_queue_in_flight_messages{queue=\"fleeting\"} 0",
        "tidemill_queue_oldest_message_age_seconds{queue=\"jobs\"} 0",
        "tidemill_broker_dequeued_total 12",
    ] {
        assert!(metrics.contains(told), "{told} is not in {metrics}");
    }
    for name in ["jobs", "fleeting"] {
        let deleted = client
            .send("DELETE", &format!("/v1/queues/{name}"), &[], "")
            .await;
        assert_eq!(deleted.status, 204);
        let gone = client.get(&format!("/v1/queues/{name}")).await;
        assert_eq!(gone.problem(404), "unknown-queue");
    }
}

/// Four messages: of any JSON, as one CloudEvent, and two in a batch.
async fn put_in(client: &Client, name: &str) {
    let first = enqueue(
        client,
        name,
        r#"{"type":"resize","n":12345678901234567890123}"#,
    )
    .await;
    assert_eq!(first.json()["offset"], 0, "{}", first.text);
    assert_eq!(first.json()["queue"], name);
    let path = format!("/v1/queues/{name}");
    let event = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t","data":1}"#;
    let one = client.post(&format!("{path}/enqueue"), EVENT, event).await;
    assert_eq!(
        (&one.json()["id"], &one.json()["offset"]),
        (&json!("a"), &json!(1))
    );
    let both = format!("[{event},{event}]");
    let both = client.post(&format!("{path}/enqueue"), BATCH, both).await;
    assert_eq!(both.json()["messages"][1]["offset"], 3, "{}", both.text);
}

/// Looks, takes three, acknowledges one, gives two back, and removes what is left.
async fn take_out(client: &Client, name: &str) {
    let path = format!("/v1/queues/{name}");
    let peeked = client.get(&format!("{path}/peek?max=2")).await.json();
    assert_eq!(peeked["messages"][0]["event"]["type"], "resize");
    assert_eq!(peeked["messages"].as_array().unwrap().len(), 2);
    let text = client.get(&format!("{path}/peek")).await.text;
    assert!(
        text.contains("12345678901234567890123"),
        "byte for byte: {text}"
    );
    let taken = dequeue(client, name, "?max=3").await;
    assert_eq!(
        (&taken[0]["deliveries"], &taken[0]["lease_ms"]),
        (&json!(1), &json!(60_000))
    );
    assert_eq!(taken[0]["event"]["source"], format!("/v1/queues/{name}"));
    let length = client.get(&format!("{path}/length")).await.json();
    assert_eq!(length, json!({"queue": name, "length": 4, "in_flight": 3}));

    let acked = settle(client, name, "ack", &[lease(&taken[0])]).await;
    assert_eq!(acked.json(), json!({"status": "success", "count": 1}));
    let back = settle(
        client,
        name,
        "requeue",
        &[lease(&taken[1]), lease(&taken[2])],
    )
    .await;
    assert_eq!(back.status, 200, "{}", back.text);
    let again = dequeue(client, name, "?lease_ms=0&max=9").await;
    let offsets: Vec<_> = again
        .iter()
        .map(|one| one["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [1, 2, 3]);
    assert_eq!(
        (&again[0]["lease"], &again[0]["deliveries"]),
        (&Value::Null, &json!(2))
    );
    let shown = client.get(&path).await.json();
    assert_eq!(
        (&shown["length"], &shown["in_flight"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(shown["dead_letters"], format!("{name}.deadletter"));
}

#[tokio::test]
async fn a_lease_that_is_over_is_named_and_nothing_is_done() {
    let server = Running::start().await;
    let client = server.client();
    create(&client, r#"{"name":"jobs"}"#).await;
    for n in 0..2 {
        enqueue(&client, "jobs", &n.to_string()).await;
    }
    let taken = dequeue(&client, "jobs", "?max=2").await;
    let (one, two) = (lease(&taken[0]), lease(&taken[1]));
    settle(&client, "jobs", "ack", &[one]).await;
    for how in ["ack", "requeue"] {
        let late = settle(&client, "jobs", how, &[one, two]).await;
        assert_eq!(late.problem(409), "stale-lease");
        assert!(
            late.text.contains(one) && !late.text.contains(two),
            "{}",
            late.text
        );
    }
    let ok = settle(&client, "jobs", "ack", &[two]).await;
    assert_eq!(ok.status, 200, "{}", ok.text);
}

#[tokio::test]
async fn a_waiting_dequeue_gets_what_comes_and_a_client_that_goes_takes_nothing() {
    let server = Running::start().await;
    create(&server.client(), r#"{"name":"jobs"}"#).await;
    let wait = |client: Client| async move { dequeue(&client, "jobs", "?wait_ms=30000").await };
    for n in 0..20 {
        let gone = tokio::spawn(wait(server.client()));
        let client = server.client();
        // The connection ends with the task, and its request with that.
        while client
            .get("/metrics")
            .await
            .text
            .contains("http_connections 1\n")
        {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.is_err());
        let stays = tokio::spawn(wait(server.client()));
        enqueue(&client, "jobs", &n.to_string()).await;
        let taken = stays.await.unwrap();
        // A server that learns of it late has leased the message to nobody.
        assert_eq!(taken.len(), 1, "message {n}");
        assert_eq!(taken[0]["event"]["data"], n);
        settle(&client, "jobs", "ack", &[lease(&taken[0])]).await;
    }
    let length = server.client().get("/v1/queues/jobs/length").await.json();
    assert_eq!(length["length"], 0);
}

#[tokio::test]
async fn what_is_wrong_is_told_as_at_the_other_doors() {
    let server = Running::start().await;
    let client = server.client();
    create(&client, r#"{"name":"jobs"}"#).await;
    client.event(r#"{"topic":"orders"}"#).await;
    for (content_type, body, status, kind) in [
        (JSON, "", 400, "invalid-json"),
        (JSON, "{}", 422, "invalid-queue"),
        (JSON, r#"{"name":"a","leese_ms":2}"#, 422, "invalid-queue"),
        (JSON, r#"{"name":"a","lease_ms":-1}"#, 422, "invalid-queue"),
        (JSON, r#"{"name":"a","lease_ms":0}"#, 422, "limit"),
        (JSON, r#"{"name":"a","max_deliveries":0}"#, 422, "limit"),
        (JSON, r#"{"name":"a b"}"#, 422, "invalid-name"),
        (JSON, r#"{"name":"jobs"}"#, 409, "conflict"),
        (JSON, r#"{"name":"orders"}"#, 409, "conflict"),
        (
            "text/plain",
            r#"{"name":"a"}"#,
            415,
            "unsupported-media-type",
        ),
    ] {
        let refused = client.post("/v1/queues", content_type, body).await;
        assert_eq!(refused.problem(status), kind, "{body}: {}", refused.text);
    }
}

#[tokio::test]
async fn queues_and_topics_are_told_apart_at_every_door() {
    let server = Running::start().await;
    let client = server.client();
    create(&client, r#"{"name":"jobs"}"#).await;
    client.event(r#"{"topic":"orders"}"#).await;
    for (method, path, status, kind) in [
        ("GET", "/v1/queues?x=1", 400, "invalid-query"),
        ("GET", "/v1/queues/none", 404, "unknown-queue"),
        ("POST", "/v1/queues/none/dequeue", 404, "unknown-queue"),
        (
            "POST",
            "/v1/queues/jobs/dequeue?max=0",
            400,
            "invalid-query",
        ),
        (
            "POST",
            "/v1/queues/jobs/dequeue?lease_ms=43200001",
            400,
            "invalid-query",
        ),
        (
            "POST",
            "/v1/queues/jobs/dequeue?wait_ms=30001",
            400,
            "invalid-query",
        ),
        ("GET", "/v1/queues/jobs/peek?max=101", 400, "invalid-query"),
        ("GET", "/v1/queues/jobs/dequeue", 405, "method-not-allowed"),
        ("GET", "/v1/queues/orders", 409, "wrong-kind"),
        ("POST", "/v1/queues/orders/dequeue", 409, "wrong-kind"),
        ("DELETE", "/v1/queues/orders", 409, "wrong-kind"),
        ("GET", "/v1/topics/jobs", 409, "wrong-kind"),
        ("DELETE", "/v1/topics/jobs", 409, "wrong-kind"),
        ("GET", "/v1/topics/jobs/events", 409, "wrong-kind"),
        ("GET", "/v1/topics/jobs/stream", 409, "wrong-kind"),
        (
            "GET",
            "/v1/topics/jobs/events?offset=0&partition=0",
            409,
            "wrong-kind",
        ),
        (
            "DELETE",
            "/v1/topics/jobs/events?partition=0&before=0",
            409,
            "wrong-kind",
        ),
        ("DELETE", "/v1/groups/jobs", 409, "wrong-kind"),
    ] {
        let refused = client.send(method, path, &[], "").await;
        assert_eq!(
            refused.problem(status),
            kind,
            "{method} {path}: {}",
            refused.text
        );
    }
    let published = client.event(r#"{"topic":"jobs"}"#).await;
    assert_eq!(published.problem(409), "wrong-kind");
    assert!(
        published.text.contains("/v1/queues/jobs/enqueue"),
        "{}",
        published.text
    );
}

#[tokio::test]
async fn wrong_leases_and_messages_are_refused() {
    let server = Running::start().await;
    let client = server.client();
    create(&client, r#"{"name":"jobs"}"#).await;
    for (body, status, kind) in [
        ("{", 400, "invalid-json"),
        ("{}", 422, "invalid-queue"),
        (r#"{"leases":[]}"#, 422, "limit"),
        (r#"{"leases":["nonsense"]}"#, 422, "invalid-queue"),
        (r#"{"leases":[7]}"#, 422, "invalid-queue"),
    ] {
        for how in ["ack", "requeue"] {
            let path = format!("/v1/queues/jobs/{how}");
            let refused = client.post(&path, JSON, body).await;
            assert_eq!(refused.problem(status), kind, "{body}: {}", refused.text);
        }
    }
    let wrong = client
        .post("/v1/queues/jobs/enqueue", "text/plain", "x")
        .await;
    assert_eq!(wrong.problem(415), "unsupported-media-type");
    let wrong = client.post("/v1/queues/jobs/enqueue", EVENT, "{}").await;
    assert_eq!(wrong.problem(422), "invalid-event");
    let wrong = enqueue(&client, "jobs", "{").await;
    assert_eq!(wrong.problem(400), "invalid-json");
}

#[tokio::test]
async fn large_messages_come_in_answers_of_a_bounded_size() {
    let server = Running::start().await;
    let client = server.client();
    create(&client, r#"{"name":"jobs"}"#).await;
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for _ in 0..7 {
        assert_eq!(enqueue(&client, "jobs", &large).await.status, 200);
    }
    let mut offsets = Vec::new();
    while offsets.len() < 7 {
        let taken = dequeue(&client, "jobs", "?max=100").await;
        // Where they come from the disk, what is read so far is given out.
        assert!((1..=4).contains(&taken.len()), "{}", taken.len());
        offsets.extend(taken.iter().map(|one| one["offset"].as_u64().unwrap()));
    }
    assert_eq!(offsets, (0..7).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_expire_by_the_queues_time_and_by_their_own() {
    let server = Running::start().await;
    let client = server.client();
    let body = r#"{"name":"offers","ttl_ms":3600000,"max_deliveries":2}"#;
    let made = client.post("/v1/queues", JSON, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["ttl_ms"], 3_600_000);
    let short = "/v1/queues/offers/enqueue?ttl_ms=1";
    assert_eq!(client.post(short, JSON, "1").await.status, 200);
    assert_eq!(enqueue(&client, "offers", "2").await.status, 200);
    let letters = "/v1/deadletters/offers";
    let dead = loop {
        let seen = client.get(letters).await.json();
        if seen["letters"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
        {
            break seen;
        }
    };
    assert_eq!(dead["letters"][0]["reason"], "expired");
    let taken = dequeue(&client, "offers", "?max=9").await;
    assert_eq!((taken.len(), &taken[0]["offset"]), (1, &Value::from(1)));
    assert!(taken[0]["event"]["expirytime"].is_string(), "{}", taken[0]);
    // It is counted once it is put away.
    let shown = loop {
        let shown = client.get("/v1/queues/offers").await.json();
        if shown["expired"] == 1 {
            break shown;
        }
    };
    assert_eq!(shown["length"], 1);
    let metrics = client.get("/metrics").await.text;
    assert!(
        metrics.contains("tidemill_broker_expired_total 1"),
        "{metrics}"
    );
    let wrong = client
        .post("/v1/queues/offers/enqueue?ttl_ms=0", JSON, "1")
        .await;
    assert_eq!(wrong.problem(400), "invalid-query");
    let body = r#"{"name":"never","ttl_ms":0}"#;
    let wrong = client.post("/v1/queues", JSON, body).await;
    assert_eq!(wrong.problem(422), "limit");
}
