//! Connections of the Kafka protocol as people see them: `/v1/clients`, and `/metrics` by client
//! id.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::Running;
use support::kafka::{ask_versions, versions};
use tidemill_server::{Config, KafkaConfig, Server};
use tokio::net::TcpStream;

async fn server() -> (Running, String) {
    let broker = support::broker().await;
    let mut config = Config::at("127.0.0.1:0".parse().unwrap());
    config.kafka = Some(KafkaConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..KafkaConfig::default()
    });
    let server = Server::bind(broker.clone(), config).await.unwrap();
    let address = server.kafka_addr().unwrap().to_string();
    (Running::of(broker, server), address)
}

#[tokio::test]
async fn who_is_connected_is_listed_and_counted_until_it_goes() {
    let (server, kafka) = server().await;
    let listed = async |query: &str| -> Value {
        let answer = server.client().get(&format!("/v1/clients{query}")).await;
        assert_eq!(answer.status, 200);
        answer.json()
    };
    assert_eq!(listed("").await["clients"], serde_json::json!([]));
    let mut streams = Vec::new();
    let mut answered = 0;
    for client_id in ["billing", "billing", "carrier"] {
        let mut stream = TcpStream::connect(&kafka).await.unwrap();
        answered = ask_versions(&mut stream, client_id).await;
        streams.push(stream);
    }
    let asked = versions("billing").len();
    let all = listed("").await;
    let clients = all["clients"].as_array().unwrap();
    assert_eq!((clients.len(), &all["connected"]), (3, &3.into()));
    let ids = clients.iter().map(|client| client["client_id"].as_str());
    let ids: Vec<_> = ids.flatten().collect();
    assert_eq!(ids, ["billing", "billing", "carrier"]);
    let first = &clients[0];
    let address = streams[0].local_addr().unwrap().to_string();
    for (name, value) in [
        ("door", Value::from("kafka")),
        ("address", address.into()),
        ("software_name", "a-program".into()),
        ("software_version", "1.2".into()),
        ("user", Value::Null),
        ("requests", 1.into()),
        ("received_bytes", asked.into()),
        ("groups", serde_json::json!([])),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert_eq!(first["last_request"]["name"], "ApiVersions");
    let page = listed(&format!("?max=1&after={}", first["id"])).await;
    assert_eq!(page["clients"][0]["id"], clients[1]["id"]);
    assert_eq!(page["clients"].as_array().unwrap().len(), 1);
    let refused = server.client().get("/v1/clients?max=0").await;
    assert_eq!(refused.problem(400), "invalid-query");

    // A second answer: what was sent of the first is counted by then.
    ask_versions(&mut streams[2], "carrier").await;
    let all = listed("").await;
    assert!(all["clients"][2]["sent_bytes"].as_u64() >= Some(answered as u64));
    let line = async |line: &str| {
        let metrics = server.client().get("/metrics").await.text;
        metrics.lines().any(|one| one == line)
    };
    assert!(line("tidemill_client_connections{client_id=\"billing\"} 2").await);
    assert!(line("tidemill_client_requests_total{client_id=\"carrier\"} 2").await);
    drop(streams);
    while !line("tidemill_client_connections{client_id=\"billing\"} 0").await {
        tokio::task::yield_now().await;
    }
    while listed("").await["connected"] != 0 {
        tokio::task::yield_now().await;
    }
    assert!(line("tidemill_client_requests_total{client_id=\"carrier\"} 2").await);
    server.stop().await;
}
