//! The catalogue of handlers: what members say they handle is listed while they are there, over
//! the embedded broker and over the network, and wrong or too large catalogues are refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::Running;
use support::ws::Ws;
use tidemill_adapters::remote::Remote;
use tidemill_core::{
    Bus, Catalogue, GroupMember, GroupName, Order, Start, Subscription, TopicName,
};

fn catalogue(version: &str) -> Arc<Catalogue> {
    let text = json!({"name": "shop", "handlers": [
        {"id": "charge", "name": "shop::charge", "version": version, "source": "/tidemill/charge",
         "topic": "orders", "type": "order_created",
         "input": {"type": "order_created", "schema": {"type": "object"}},
         "outputs": [{"kind": "event", "type": "order_paid", "topic": "orders", "schema": true}],
         "retry": {"retries": 3, "first_ms": 100, "max_ms": 1000}},
        {"id": "audit", "topic": "orders", "type": "**", "pattern": true},
    ]});
    Arc::new(Catalogue::from_json(&text.to_string()).unwrap())
}

async fn join(bus: &Bus, group: &str) -> Box<dyn GroupMember> {
    let asked = Subscription {
        topics: vec![TopicName::new("orders").unwrap()],
        group: GroupName::new(group).unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    bus.subscribe(asked).await.unwrap()
}

async fn handlers(running: &Running, query: &str) -> Vec<Value> {
    let path = format!("/v1/handlers{query}");
    let listed = running.client().get(&path).await.json();
    listed["handlers"].as_array().unwrap().clone()
}

/// Asks until as many handlers are listed.
async fn until(running: &Running, count: usize) -> Vec<Value> {
    let look = async {
        loop {
            let found = handlers(running, "").await;
            if found.len() == count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let looked = tokio::time::timeout(std::time::Duration::from_secs(20), look).await;
    looked.expect("it is listed in time")
}

#[tokio::test]
async fn what_members_handle_is_listed_while_they_are_there() {
    let running = Running::start().await;
    assert_eq!(handlers(&running, "").await, [] as [Value; 0]);
    let bus = running.broker.bus();
    let (mut one, mut two) = (join(&bus, "billing").await, join(&bus, "billing").await);
    let mut other = join(&bus, "audits").await;
    one.describe(catalogue("1")).unwrap();
    two.describe(catalogue("1")).unwrap();
    other.describe(catalogue("1")).unwrap();

    let all = handlers(&running, "").await;
    let names = all.iter().map(|h| (h["group"].as_str(), h["id"].as_str()));
    let names: Vec<_> = names.map(|(g, h)| (g.unwrap(), h.unwrap())).collect();
    let (audits, billing) = ("audits", "billing");
    let expected = [
        (audits, "audit"),
        (audits, "charge"),
        (billing, "audit"),
        (billing, "charge"),
    ];
    assert_eq!(names, expected);
    let charge = &all[3];
    assert_eq!(charge["input"]["schema"], json!({"type": "object"}));
    assert_eq!(charge["outputs"][0]["topic"], "orders");
    assert_eq!(charge["retry"]["first_ms"], 100);
    let served = charge["served_by"].as_array().unwrap();
    assert_eq!(served.len(), 2);
    assert_eq!(served[0]["name"], "shop");
    assert_ne!(served[0]["member"], served[1]["member"]);
    assert!(
        served[0]["since"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );

    let few = handlers(&running, "?group=billing&id=charge&schemas=false").await;
    assert_eq!(few.len(), 1);
    assert_eq!(few[0]["input"], json!({"type": "order_created"}));

    // A newer version takes the place of the older one, and stands beside that of others.
    two.describe(catalogue("2")).unwrap();
    let both = handlers(&running, "?group=billing&id=charge").await;
    let versions: Vec<_> = both
        .iter()
        .map(|h| h["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["1", "2"]);
    drop(one);
    drop(other);
    let left = handlers(&running, "").await;
    assert_eq!(left.len(), 2);
    assert!(
        left.iter()
            .all(|h| h["served_by"].as_array().unwrap().len() == 1)
    );

    let wrong = running.client().get("/v1/handlers?shemas=false").await;
    assert_eq!(wrong.problem(400), "invalid-query");
    let wrong = running.client().get("/v1/handlers?group=").await;
    assert_eq!(wrong.problem(422), "invalid-name");
}

#[tokio::test]
async fn what_a_remote_program_handles_is_listed_and_goes_with_it() {
    let running = Running::start().await;
    let address = format!("tidemill://{}", running.address);
    let bus = Remote::connect(&address).await.unwrap().bus();
    let mut member = join(&bus, "billing").await;
    member.describe(catalogue("1")).unwrap();
    let listed = until(&running, 2).await;
    assert_eq!(listed[1]["served_by"][0]["name"], "shop");
    drop(member);
    until(&running, 0).await;
}

#[tokio::test]
async fn a_wrong_catalogue_is_refused_and_harms_nothing() {
    let running = Running::start().await;
    let (mut ws, welcome) = Ws::hello(running.address).await;
    assert_eq!(welcome["describes"], true);
    let describe = |id: u64, catalogue: &Value| {
        json!({"type": "describe", "id": id, "subscription": 1, "catalogue": catalogue}).to_string()
    };
    let good: Value = serde_json::from_str(&catalogue("1").to_json()).unwrap();
    let early = ws.ask(&describe(1, &good)).await;
    assert_eq!(early["code"], "unexpected", "it has not joined");
    let join = r#"{"type":"subscribe","id":2,"subscription":1,"topics":["orders"],"group":"g"}"#;
    assert_eq!(ws.ask(join).await["type"], "answer");
    let handler = |id: &str| json!({"id": id, "topic": "t", "type": "e"});
    let many: Vec<Value> = (0..257).map(|n| handler(&n.to_string())).collect();
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    let mut deeply = handler("a");
    deeply["input"] = json!({ "schema": deep });
    let mut wide = handler("a");
    wide["input"] = json!({ "schema": "x".repeat(300_000) });
    for (n, handlers) in [
        json!(many),
        json!([deeply]),
        json!([wide]),
        json!([{}]),
        json!(7),
    ]
    .into_iter()
    .enumerate()
    {
        let id = 10 + n as u64;
        let refused = ws
            .ask(&describe(id, &json!({"name": "n", "handlers": handlers})))
            .await;
        assert_eq!(
            (&refused["code"], &refused["id"]),
            (&json!("malformed"), &json!(id))
        );
    }
    assert_eq!(handlers(&running, "").await, [] as [Value; 0]);
    // Said twice it is the same, also with the number of the call before.
    for _ in 0..2 {
        assert_eq!(
            ws.ask(&describe(20, &good)).await,
            json!({"type": "answer", "id": 20})
        );
    }
    assert_eq!(handlers(&running, "").await.len(), 2);
    let leave = ws
        .ask(r#"{"type":"unsubscribe","id":21,"subscription":1}"#)
        .await;
    assert_eq!(leave["type"], "answer");
    until(&running, 0).await;
}

#[tokio::test]
async fn all_catalogues_together_are_bounded() {
    let running = Running::start().await;
    let bus = running.broker.bus();
    let large = |n: usize| {
        let handler = json!({"id": "h", "topic": "t", "type": "e",
            "input": {"schema": "x".repeat(250_000)}});
        let text = json!({"name": n.to_string(), "handlers": [handler]}).to_string();
        Arc::new(Catalogue::from_json(&text).unwrap())
    };
    let mut members = Vec::new();
    for n in 0..40 {
        let mut member = join(&bus, "g").await;
        let kept = member.describe(large(n));
        assert_eq!(kept.is_ok(), n < 33, "{n}: {kept:?}");
        members.push(member);
    }
    // Equal ones take nothing more, and what goes makes room.
    assert!(members[39].describe(large(0)).is_ok());
    members.remove(1);
    assert!(members[38].describe(large(99)).is_ok());
}
