//! Backups over HTTP: while the broker works, in the one folder that the server was given.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::Running;
use support::http::Client;
use tidemill_broker::{Broker, backup};
use tidemill_server::Config;

const JSON: &str = "application/json";

async fn ended(client: &Client, name: &str) -> Value {
    loop {
        let shown = client.get(&format!("/v1/backups/{name}")).await.json();
        if shown["state"] != "running" {
            return shown;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_running_server_takes_backups_that_can_be_restored() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let broker = Broker::open(at("data")).await.unwrap();
    let config = Config {
        backups: Some(at("backups")),
        ..Config::at("127.0.0.1:0".parse().unwrap())
    };
    let server = Running::over(broker, config).await;
    let client = server.client();
    let none = client.get("/v1/backups").await.json();
    assert_eq!(none, json!({"backups": []}));
    for number in 0..20 {
        let event = client.event(json!({"topic": "orders", "n": number}).to_string());
        assert_eq!(event.await.status, 200);
    }

    let begun = client
        .post("/v1/backups", JSON, r#"{"name":"monday"}"#)
        .await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    assert_eq!(begun.header("location"), "/v1/backups/monday");
    assert_eq!(begun.json(), json!({"name": "monday", "state": "running"}));
    let done = ended(&client, "monday").await;
    assert_eq!(done["state"], "done", "{done}");
    assert!(done["files"].as_u64().unwrap() >= 3, "{done}");
    assert_eq!(done["report"]["clean"], true, "{done}");
    // Later events are not in it.
    client.event(r#"{"topic":"orders","n":20}"#).await;

    let again = client
        .post("/v1/backups", JSON, r#"{"name":"monday"}"#)
        .await;
    assert_eq!(again.problem(409), "conflict");
    client
        .post("/v1/backups", JSON, r#"{"name":"tuesday"}"#)
        .await;
    assert_eq!(ended(&client, "tuesday").await["state"], "done");
    let listed = client.get("/v1/backups").await.json();
    let names = listed["backups"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|one| (&one["name"], &one["state"])).collect();
    assert_eq!(
        names,
        [
            (&json!("monday"), &json!("done")),
            (&json!("tuesday"), &json!("done"))
        ]
    );

    for (name, events) in [("monday", 20), ("tuesday", 21)] {
        let back = at(&format!("back-{name}"));
        backup::restore(&at("backups").join(name), &back, |_| {}).unwrap();
        let restored = Broker::open(&back).await.unwrap();
        let topic = restored.topic(&"orders".parse().unwrap()).unwrap();
        assert_eq!(topic.partitions[0].end.0, events, "{name}");
        restored.close().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_nothing_is_made() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backups");
    std::fs::create_dir_all(folder.join("photos")).unwrap();
    std::fs::write(folder.join("photos/one"), "1").unwrap();
    std::fs::write(folder.join("file"), "1").unwrap();
    let server = Running::with(|config| config.backups = Some(folder.clone())).await;
    let client = server.client();
    for (body, status, kind) in [
        ("{", 400, "invalid-json"),
        (r#"{"name":"a","to":"/tmp"}"#, 400, "invalid-json"),
        (r#"{"name":""}"#, 422, "invalid-name"),
        (r#"{"name":".."}"#, 422, "invalid-name"),
        (r#"{"name":"../data"}"#, 422, "invalid-name"),
        (r#"{"name":"/tmp/a"}"#, 422, "invalid-name"),
        (r#"{"name":"photos"}"#, 409, "conflict"),
        (r#"{"name":"file"}"#, 409, "conflict"),
    ] {
        let refused = client.post("/v1/backups", JSON, body).await;
        assert_eq!(refused.problem(status), kind, "{body}");
    }
    for missing in ["none", "photos", "..%2F..", "%2E%2E"] {
        let shown = client.get(&format!("/v1/backups/{missing}")).await;
        assert_eq!(shown.problem(404), "unknown-backup", "{missing}");
    }
    let listed = client.get("/v1/backups").await.json();
    assert_eq!(listed, json!({"backups": []}));
    server.stop().await;
}

#[tokio::test]
async fn without_a_folder_the_server_says_how_it_gets_one() {
    let server = Running::start().await;
    let client = server.client();
    for refused in [
        client.get("/v1/backups").await,
        client.get("/v1/backups/a").await,
        client.post("/v1/backups", JSON, r#"{"name":"a"}"#).await,
    ] {
        assert_eq!(refused.problem(501), "not-supported");
        assert!(refused.text.contains("--backups DIR"), "{}", refused.text);
    }
    server.stop().await;
}
