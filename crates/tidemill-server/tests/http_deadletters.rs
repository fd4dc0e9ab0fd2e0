//! Dead letters, positions of groups, and requests over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::Running;
use support::http::{Answer, Client};

const JSON: &str = "application/json";
const EVENT: &str = "application/cloudevents+json";

async fn publish(client: &Client, id: &str) {
    let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": "made",
                       "partitionkey": id, "data": {"id": id}});
    let path = "/v1/topics/orders/events";
    assert_eq!(
        client.post(path, EVENT, event.to_string()).await.status,
        200
    );
}

async fn pull(client: &Client, query: &str) -> Vec<Value> {
    let path = format!("/v1/groups/billing/pull?topic=orders{query}");
    let answer = client.send("POST", &path, &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["deliveries"].as_array().unwrap().clone()
}

async fn settle(client: &Client, settlements: Value) {
    let path = "/v1/groups/billing/settle";
    let answer = client.post(path, JSON, settlements.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Publishes three events and gives them up.
async fn bury(client: &Client) {
    for id in ["1", "2", "3"] {
        publish(client, id).await;
    }
    let got = pull(client, "").await;
    let each = got.iter().map(|one| {
        json!({"token": one["token"], "outcome": "dead_letter",
               "reason": "rejected", "error": format!("no card for {}", one["event"]["id"])})
    });
    let each: Vec<Value> = each.collect();
    assert_eq!(each.len(), 3);
    settle(client, json!(each)).await;
}

async fn redrive(client: &Client, query: &str, body: &str) -> Answer {
    let path = format!("/v1/deadletters/billing/redrive{query}");
    client.post(&path, JSON, body.to_owned()).await
}

#[tokio::test]
async fn dead_letters_are_listed_shown_given_back_and_deleted() {
    let server = Running::start().await;
    let client = server.client();
    let none = client.get("/v1/deadletters").await;
    assert_eq!(none.json(), json!({"groups": []}));
    let unknown = client.get("/v1/deadletters/billing").await;
    assert_eq!(unknown.problem(404), "unknown-dead-letter");
    bury(&client).await;
    let groups = client.get("/v1/deadletters").await.json();
    let one = json!({"group": "billing", "topic": "billing.deadletter", "count": 3});
    assert_eq!(groups["groups"], json!([one]));
    let listed = client.get("/v1/deadletters/billing?max=2").await.json();
    assert_eq!(listed["next"], "0:2");
    let first = &listed["letters"][0];
    assert_eq!(
        (&first["letter"], &first["attempts"]),
        (&json!("0:0"), &json!(1))
    );
    assert_eq!(
        first["origin"],
        json!({"topic": "orders", "partition": 0, "offset": 0})
    );
    assert_eq!(
        (&first["reason"], &first["handler"]),
        (&json!("rejected"), &Value::Null)
    );
    assert!(first["error"].as_str().unwrap().starts_with("no card"));
    assert!(first["last"].as_str().unwrap().ends_with('Z'));
    assert_eq!(first["event"]["data"], json!({"id": "1"}));
    assert_eq!(first["event"]["deadletterreason"], Value::Null);
    let rest = client.get("/v1/deadletters/billing?from=0:2").await.json();
    assert_eq!(
        (rest["letters"].as_array().unwrap().len(), &rest["next"]),
        (1, &Value::Null)
    );
    let shown = client
        .get("/v1/deadletters/billing/letters/0:1")
        .await
        .json();
    assert_eq!(shown["event"]["id"], "2");

    let path = "/v1/deadletters/billing/letters/0:0";
    assert_eq!(client.send("DELETE", path, &[], "").await.status, 204);
    let again = client.send("DELETE", path, &[], "").await;
    assert_eq!(again.problem(404), "unknown-dead-letter");
    let twice = r#"{"letters":["0:2","0:2"]}"#;
    let given = redrive(&client, "", twice).await.json();
    assert_eq!(given["redriven"].as_array().unwrap().len(), 1);
    assert_eq!(given["redriven"][0]["topic"], "orders");
    assert_eq!(given["left"], 1);
    // No topic is made for it, and then it is a letter still.
    let mistyped = redrive(&client, "?topic=again", r#"{"letters":["0:1"]}"#).await;
    assert_eq!(mistyped.problem(404), "unknown-topic");
    let detail = mistyped.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("unknown topic again"), "{detail}");
    let create = client.post("/v1/topics", JSON, r#"{"name":"again"}"#.to_owned());
    assert_eq!(create.await.status, 201);
    // Some of a list are done, and what is not is named.
    let partly = redrive(&client, "?topic=again", r#"{"letters":["0:1","0:2"]}"#).await;
    assert_eq!(partly.problem(404), "unknown-dead-letter");
    assert_eq!(partly.json()["redriven"][0]["topic"], "again");
    let got = pull(&client, "&wait_ms=20000").await;
    assert_eq!(got[0]["event"]["id"], "3");
    settle(&client, json!([{"token": got[0]["token"]}])).await;
    bury(&client).await;
    let all = client
        .send("POST", "/v1/deadletters/billing/redrive?max=2", &[], "")
        .await;
    assert_eq!(all.json()["redriven"].as_array().unwrap().len(), 2);
    assert_eq!(all.json()["left"], 1);
}

#[tokio::test]
async fn who_finds_that_others_gave_all_back_is_told_that_nothing_is_left() {
    let server = Running::start().await;
    let client = server.client();
    for _ in 0..3 {
        bury(&client).await;
    }
    let each = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { redrive(&client, "", "").await })
    });
    let mut redriven = 0;
    for answer in futures_util::future::join_all(each).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        redriven += answer.json()["redriven"].as_array().unwrap().len();
    }
    assert_eq!(redriven, 9);
    let last = redrive(&client, "", "").await.json();
    assert_eq!((&last["redriven"], &last["left"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn what_is_asked_wrongly_of_dead_letters_is_refused() {
    let server = Running::start().await;
    let client = server.client();
    bury(&client).await;
    for (body, status, kind) in [
        ("{", 400, "invalid-json"),
        ("{}", 422, "invalid-letters"),
        (r#"{"letters":[]}"#, 422, "limit"),
        (r#"{"letters":["1"]}"#, 422, "invalid-letters"),
        (r#"{"letters":["0:99"]}"#, 404, "unknown-dead-letter"),
        (r#"{"letters":["9:0"]}"#, 404, "unknown-dead-letter"),
    ] {
        assert_eq!(
            redrive(&client, "", body).await.problem(status),
            kind,
            "{body}"
        );
    }
    assert_eq!(
        redrive(&client, "?topic=a%20b", "").await.problem(422),
        "invalid-name"
    );
    for path in [
        "/v1/deadletters/billing/letters/x",
        "/v1/deadletters/billing/letters/0:-1",
    ] {
        assert_eq!(client.get(path).await.problem(422), "invalid-name");
    }
    let list = client.get("/v1/deadletters/billing?from=x").await;
    assert_eq!(list.problem(400), "invalid-query");
    client.send("DELETE", "/v1/topics/orders", &[], "").await;
    client
        .post("/v1/queues", JSON, r#"{"name":"orders"}"#)
        .await;
    let queue = redrive(&client, "", r#"{"letters":["0:0"]}"#).await;
    assert_eq!(queue.problem(409), "wrong-kind");
    // It is still there.
    assert_eq!(
        client
            .get("/v1/deadletters/billing/letters/0:0")
            .await
            .status,
        200
    );
}

async fn seek(client: &Client, body: Value) -> Answer {
    client
        .post("/v1/groups/billing/seek", JSON, body.to_string())
        .await
}

async fn what_is_no_seek_is_refused(client: &Client) {
    for (body, status, kind) in [
        (json!({"topic": "orders"}), 422, "invalid-seek"),
        (json!({"topic": "orders", "to": "now"}), 422, "invalid-seek"),
        (json!({"topic": "orders", "to": -1}), 422, "invalid-seek"),
        (json!({"topic": "a b", "to": 1}), 422, "invalid-name"),
        (
            json!({"topic": "orders", "to": 1, "x": 1}),
            422,
            "invalid-seek",
        ),
    ] {
        assert_eq!(
            seek(client, body.clone()).await.problem(status),
            kind,
            "{body}"
        );
    }
    for (body, said) in [
        (json!({"topic": "orders", "to": {}}), "an offset or a time"),
        (json!(7), "no JSON object"),
    ] {
        let refused = seek(client, body).await;
        assert!(refused.text.contains(said), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_group_without_members_goes_on_where_it_is_told() {
    let server = Running::start().await;
    let client = server.client();
    let unknown = seek(&client, json!({"topic": "orders", "to": "end"})).await;
    assert_eq!(unknown.problem(404), "unknown-group");
    for id in ["1", "2", "3"] {
        publish(&client, id).await;
    }
    let got = pull(&client, "").await;
    let held = seek(&client, json!({"topic": "orders", "to": "end"})).await;
    assert_eq!(held.problem(409), "group-in-use");
    let all: Vec<Value> = got
        .iter()
        .map(|one| json!({"token": one["token"]}))
        .collect();
    settle(&client, json!(all)).await;
    let before = jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(1));
    for (to, position) in [
        (json!("beginning"), 0),
        (json!(2), 2),
        (json!("end"), 3),
        (json!(before.unwrap().to_string()), 0),
        (json!("2999-01-01T00:00:00Z"), 3),
        (json!(1), 1),
    ] {
        let sought = seek(&client, json!({"topic": "orders", "to": to})).await;
        let at = json!([{"partition": 0, "position": position}]);
        assert_eq!(sought.json()["partitions"], at, "{to}");
    }
    let beyond = seek(&client, json!({"topic": "orders", "to": 4})).await;
    assert_eq!(beyond.problem(416), "offset-out-of-range");
    for named in ["orders/0", "first offset is 0", "next one 3"] {
        assert!(beyond.text.contains(named), "{}", beyond.text);
    }
    let path = "/v1/groups/new/pull?topic=orders&from=4";
    let beyond = client.send("POST", path, &[], "").await;
    assert_eq!(beyond.problem(416), "offset-out-of-range");
    assert_eq!(client.get("/v1/groups/new").await.status, 404);
    let got = pull(&client, "").await;
    let ids: Vec<&Value> = got.iter().map(|one| &one["event"]["id"]).collect();
    assert_eq!(ids, ["2", "3"]);
    what_is_no_seek_is_refused(&client).await;
    let all: Vec<Value> = got
        .iter()
        .map(|one| json!({"token": one["token"]}))
        .collect();
    settle(&client, json!(all)).await;
    for (body, why) in [
        (json!({"topic": "none", "to": 0}), "unknown-topic"),
        (
            json!({"topic": "orders", "to": 0, "partition": 1}),
            "unknown-partition",
        ),
    ] {
        assert_eq!(seek(&client, body).await.problem(404), why);
    }
}

#[tokio::test]
async fn a_request_is_answered_by_whoever_settles_it() {
    let server = Running::start().await;
    let client = server.client();
    publish(&client, "0").await;
    let got = pull(&client, "").await;
    settle(&client, json!([{"token": got[0]["token"]}])).await;
    let ask = |path: &'static str, body: Value| {
        let client = client.clone();
        tokio::spawn(async move { client.post(path, JSON, body.to_string()).await })
    };
    let path = "/v1/topics/orders/request?timeout_ms=30000";
    let asked = ask(path, json!({"type": "quote", "n": 7}));
    let got = pull(&client, "&wait_ms=20000").await;
    assert_eq!(got[0]["event"]["type"], "quote");
    let reply =
        json!({"specversion": "1.0", "id": "r", "source": "/quotes", "type": "quoted", "data": 14});
    settle(&client, json!([{"token": got[0]["token"], "reply": reply}])).await;
    let reply = asked.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("content-type"), EVENT);
    assert_eq!(reply.json()["data"], 14);
    assert_eq!(reply.json()["correlationid"], got[0]["event"]["id"]);

    let asked = ask(path, json!({"type": "quote"}));
    let got = pull(&client, "&wait_ms=20000").await;
    let dead = json!([{"token": got[0]["token"], "outcome": "dead_letter", "error": "no prices"}]);
    settle(&client, dead).await;
    let refused = asked.await.unwrap();
    assert_eq!(refused.problem(502), "dead-lettered");
    assert!(refused.text.contains("no prices"), "{}", refused.text);

    let late = ask("/v1/topics/orders/request?timeout_ms=1", json!(7))
        .await
        .unwrap();
    assert_eq!(late.problem(504), "timeout");
    let batch = "application/cloudevents-batch+json";
    let many = client.post("/v1/topics/orders/request", batch, "[]").await;
    assert_eq!(many.problem(422), "invalid-event");
    let long = client
        .post("/v1/topics/orders/request?timeout_ms=50001", JSON, "7")
        .await;
    assert_eq!(long.problem(400), "invalid-query");
}
