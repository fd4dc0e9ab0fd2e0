//! The flow graph: who sends what to whom, as handlers say and as it was seen, and the counters of
//! the last minutes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::Running;
use tidemill_broker::CreateQueue;
use tidemill_core::{
    Catalogue, Commit, Effects, Event, EventId, EventType, GroupMember, GroupName, Order, Outcome,
    Source, Start, Subscription, TopicName,
};

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).unwrap()
}

async fn join(running: &Running, group: &str, topics: &[&str]) -> Box<dyn GroupMember> {
    let asked = Subscription {
        topics: topics.iter().map(|name| topic(name)).collect(),
        group: GroupName::new(group).unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    running.broker.bus().subscribe(asked).await.unwrap()
}

fn event(source: &str, ty: &str) -> Event {
    let id = EventId::new("e").unwrap();
    let source = Source::new(source.to_owned()).unwrap();
    let ty = EventType::new(ty.to_owned()).unwrap();
    Event::builder(id, source, ty).build().unwrap()
}

async fn graph(running: &Running) -> Value {
    let graph = running.client().get("/v1/graph").await.json();
    assert_eq!(graph["truncated"], false);
    graph
}

/// The edge between two nodes.
fn edge(graph: &Value, from: &str, to: &str) -> Option<Value> {
    let edges = graph["edges"].as_array().unwrap();
    let mut found = edges
        .iter()
        .filter(|edge| edge["from"] == from && edge["to"] == to);
    let edge = found.next().cloned();
    assert!(found.next().is_none(), "one edge between two");
    edge
}

/// A shop's two groups: one declares what it publishes, and does so once.
async fn shop(running: &Running) -> Box<dyn GroupMember> {
    let client = running.client();
    let orders = r#"{"topic":"orders","type":"order_created"}"#;
    client.event(orders).await;
    client.event(orders).await;
    let mut billing = join(running, "billing", &["orders"]).await;
    let text = json!({"name": "billing", "handlers": [
        {"id": "charge", "source": "/tidemill/charge", "topic": "orders", "type": "order_created",
         "outputs": [{"kind": "event", "type": "order_paid", "topic": "orders"},
                     {"kind": "event", "type": "invoiced", "topic": "invoices"},
                     {"kind": "reply"}]},
    ]});
    let catalogue = Catalogue::from_json(&text.to_string()).unwrap();
    billing.describe(Arc::new(catalogue)).unwrap();
    let mut held = billing.pull(2).await.unwrap();
    if held.len() < 2 {
        held.extend(billing.pull(1).await.unwrap());
    }
    let mut held = held.into_iter().map(|(_, settlement)| settlement);
    let commit = Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events: vec![(topic("orders"), event("/tidemill/charge", "order_paid"))],
            reply: None,
        },
    };
    held.next().unwrap().settle(commit).await.unwrap();
    let dead = Commit {
        outcome: Outcome::DeadLetter {
            failure: Box::default(),
        },
        effects: Effects::default(),
    };
    held.next().unwrap().settle(dead).await.unwrap();
    billing
}

#[tokio::test]
async fn what_was_seen_and_what_handlers_say_are_one_graph() {
    let running = Running::start().await;
    let empty = graph(&running).await;
    assert_eq!(empty, json!({"nodes": [], "edges": [], "truncated": false}));
    let billing = shop(&running).await;
    let seen = graph(&running).await;
    let nodes = seen["nodes"].as_array().unwrap();
    let ids: Vec<_> = nodes
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    assert!(
        !ids.contains(&"source:/tidemill/charge"),
        "it is a handler's: {ids:?}"
    );
    for id in [
        "source:/event",
        "topic:orders",
        "topic:invoices",
        "group:billing",
    ] {
        assert!(ids.contains(&id), "{id}: {ids:?}");
    }
    let group = nodes
        .iter()
        .find(|node| node["id"] == "group:billing")
        .unwrap();
    assert_eq!(
        (&group["members"], &group["handlers"]),
        (&json!(1), &json!(["charge"]))
    );

    let published = edge(&seen, "source:/event", "topic:orders").unwrap();
    assert_eq!(published["kind"], "publishes");
    assert_eq!(
        (&published["events"], &published["seen"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(published["types"], json!(["order_created"]));
    assert_eq!(published["declared"], false);
    let delivered = edge(&seen, "topic:orders", "group:billing").unwrap();
    assert_eq!(
        (&delivered["kind"], &delivered["declared"]),
        (&json!("delivers"), &json!(true))
    );
    let paid = edge(&seen, "group:billing", "topic:orders").unwrap();
    assert_eq!(
        (&paid["seen"], &paid["declared"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&paid["events"], &paid["types"]),
        (&json!(1), &json!(["order_paid"]))
    );
    let declared = edge(&seen, "group:billing", "topic:invoices").unwrap();
    assert_eq!(
        (&declared["seen"], &declared["declared"]),
        (&json!(false), &json!(true))
    );
    let dead = edge(&seen, "group:billing", "topic:billing.deadletter").unwrap();
    assert_eq!(dead["seen"], true);
    assert!(edge(&seen, "source:/event", "topic:billing.deadletter").is_none());
    // What a program says goes with it, what was seen stays; a deleted topic goes nowhere.
    drop(billing);
    let gone = graph(&running).await;
    assert!(edge(&gone, "group:billing", "topic:invoices").is_none());
    assert!(edge(&gone, "source:/tidemill/charge", "topic:orders").is_some());
    running.broker.delete_topic(&topic("orders")).await.unwrap();
    let deleted = graph(&running).await.to_string();
    assert!(!deleted.contains("topic:orders"), "{deleted}");
}

#[tokio::test]
async fn a_queue_is_in_the_graph_with_who_puts_messages_in() {
    let running = Running::start().await;
    let jobs = topic("jobs");
    let created = running.broker.create_queue(jobs, CreateQueue::default());
    created.await.unwrap();
    let put = running.client();
    put.post("/v1/queues/jobs/enqueue", "application/json", "{}")
        .await;

    let seen = graph(&running).await;
    let enqueued = edge(&seen, "source:/v1/queues/jobs", "queue:jobs");
    assert!(enqueued.is_some(), "{seen}");
}

#[tokio::test]
async fn the_graph_is_a_text_for_mermaid_in_which_names_mean_nothing() {
    let running = Running::start().await;
    let bus = running.broker.bus();
    let wild = r#"x"]-->y["z<b>"#;
    bus.publish(topic("orders"), vec![event("/s", wild)])
        .await
        .unwrap();
    let _billing = shop(&running).await;
    let client = running.client();
    let text = client.get("/v1/graph?format=mermaid").await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    let text = text.text;
    assert!(text.starts_with("flowchart LR\n"), "{text}");
    assert!(text.contains("[\"orders\"]:::topic"), "{text}");
    assert!(text.contains("{{\"billing\"}}:::group"), "{text}");
    assert!(text.contains("-.->|\"invoiced\"|"), "{text}");
    assert!(
        text.contains("x#34;#93;--#62;y#91;#34;z#60;b#62;"),
        "{text}"
    );
    assert!(!text.contains("<b>"), "{text}");
    assert_eq!(
        client.get("/v1/graph?format=dot").await.problem(400),
        "invalid-query"
    );
}

#[tokio::test]
async fn the_counters_of_the_last_minutes_are_there_from_the_start() {
    let running = Running::start().await;
    let client = running.client();
    client.event("1").await;
    let look = async {
        loop {
            let shown = client.get("/v1/throughput").await.json();
            if !shown["samples"].as_array().unwrap().is_empty() {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    };
    let shown = tokio::time::timeout(std::time::Duration::from_secs(20), look);
    let shown = shown.await.expect("it is looked at from the start on");
    assert_eq!(
        (&shown["every_ms"], &shown["kept"]),
        (&json!(5000), &json!(121))
    );
    let sample = &shown["samples"][0];
    assert!(
        sample["published"].is_u64() && sample["at_ms"].is_i64(),
        "{sample}"
    );
}
