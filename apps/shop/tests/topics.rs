//! The shop over `order-topic` and `logistics-topic`: messages without attributes, as clients of
//! Kafka send them, become orders and go on; what makes no sense becomes a dead letter.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::Client;
use support::open::Open;
use tidemill::core::{EventType, Key};
use tidemill::{Bus, Event, EventId, Source, TopicName};
use tidemill_shop::tail::read_all;

const PATIENCE: Duration = Duration::from_secs(20);

/// As the broker shows a record of a Kafka client.
fn plain(topic: &str, id: &str, data: &str) -> Event {
    let kind = match serde_json::from_str::<Value>(data) {
        Ok(_) => "application/json",
        Err(_) => "text/plain; charset=utf-8",
    };
    Event::builder(
        EventId::new(id.to_owned()).unwrap(),
        Source::new(topic.to_owned()).unwrap(),
        EventType::new(topic.to_owned()).unwrap(),
    )
    .data(kind, data.to_owned())
    .build()
    .unwrap()
}

async fn say(bus: &Bus, topic: &str, id: &str, data: &Value) {
    let event = plain(topic, id, &data.to_string());
    let topic = TopicName::new(topic.to_owned()).unwrap();
    bus.publish(topic, vec![event]).await.unwrap();
}

/// The data of the events of a type.
async fn told(bus: &Bus, topic: &str, kind: &str) -> Vec<Value> {
    let topic = TopicName::new(topic.to_owned()).unwrap();
    let mut all = Vec::new();
    let keep = |event: &Event| {
        if event.ty().as_str() == kind {
            all.push(serde_json::from_slice(event.data().unwrap()).unwrap());
        }
    };
    read_all(bus, &topic, keep).await.unwrap();
    all
}

/// Waits until an order is shown in this status.
async fn until(open: &Open, order: i64, status: &'static str) -> Value {
    let wait = move |client: &mut Client| {
        let begun = Instant::now();
        loop {
            let (_, shown) = client.get(&format!("/orders/{order}")).unwrap();
            if shown["status"] == status {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "not {status}: {shown}");
        }
    };
    open.run(wait).await
}

async fn until_told(bus: &Bus, topic: &str, kind: &str, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let all = told(bus, topic, kind).await;
        if all.len() >= count {
            assert_eq!(all.len(), count, "{all:?}");
            return all;
        }
        assert!(begun.elapsed() < PATIENCE, "{topic} {kind}: {all:?}");
        tokio::task::yield_now().await;
    }
}

fn create(order: i64, more: Value) -> Value {
    let mut data = json!({"order_id": order, "user_id": 7, "products": [{"id": 1, "quantity": 2}]});
    data.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"type": "order-create", "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_created_changed_confirmed_and_carried_over_topics() {
    let open = Open::with_topics().await;
    let bus = open.bus.clone();
    say(&bus, "order-topic", "a", &create(42, json!({}))).await;
    // The same once more, as a producer that was not answered sends it.
    say(&bus, "order-topic", "b", &create(42, json!({}))).await;
    let change = json!({"order_id": 42, "products": [{"product_id": 2, "quantity": 3}]});
    let change = json!({"type": "order-update", "data": {"data": change}});
    until(&open, 42, "pending_payment").await;
    say(&bus, "order-topic", "c", &change).await;
    until_told(&bus, "logistics-topic", "order_told", 2).await;
    // A carrier that is ahead of the order's payment.
    let carry = json!({"type": "logistics-update", "data": {"order_id": 42, "status": "shipped"}});
    say(&bus, "logistics-topic", "d", &carry).await;
    let confirm = json!({"order_id": 42, "status": "confirmed"}).to_string();
    let confirm =
        json!({"key": "42", "value": format!(r#"{{"type": "order-update", "data": {confirm}}}"#)});
    say(&bus, "order-topic", "e", &confirm).await;
    let shown = until(&open, 42, "shipped").await;
    assert_eq!(shown["products"][0]["product_id"], 2, "{shown}");
    // What is so already is not told again.
    say(&bus, "order-topic", "h", &confirm).await;
    let reports = until_told(&bus, "order-topic", "logistics_reported", 2).await;
    let id = reports[0]["data"]["logistics_id"].clone();
    let carry = json!({"logistics_id": id, "status": "delivered"});
    let carry = json!({"type": "logistics-update", "data": {"data": carry}});
    // Said where the orders are, and twice.
    say(&bus, "order-topic", "f", &carry).await;
    say(&bus, "logistics-topic", "g", &carry).await;
    until(&open, 42, "delivered").await;

    let created = told(&bus, "orders", "order_created").await;
    assert_eq!(created.len(), 1, "{created:?}");
    let told = until_told(&bus, "logistics-topic", "order_told", 3).await;
    let kinds: Vec<_> = told.iter().map(|told| &told["type"]).collect();
    assert_eq!(kinds, ["order-create", "order-update", "order-update"]);
    assert!(told.iter().all(|told| told["order_id"] == 42), "{told:?}");
    let reports = until_told(&bus, "order-topic", "logistics_reported", 3).await;
    for (report, status) in reports.iter().zip(["created", "shipped", "delivered"]) {
        assert_eq!(report["type"], "logistics-update");
        assert_eq!(report["data"]["order_id"], 42);
        assert_eq!(report["data"]["status"], status);
    }
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ahead_of_what_it_is_about_does_not_hold_that_up() {
    let open = Open::with_topics().await;
    let bus = open.bus.clone();
    let carry = json!({"order_id": 8, "status": "delivered"});
    let change = json!({"order_id": 8, "products": [2]});
    let confirm = json!({"order_id": 8, "status": "confirmed"});
    for (id, topic, message) in [
        (
            "a",
            "logistics-topic",
            json!({"type": "logistics-update", "data": carry}),
        ),
        ("b", "order-topic", create(8, json!({}))),
        (
            "c",
            "order-topic",
            json!({"type": "order-update", "data": change}),
        ),
        (
            "d",
            "order-topic",
            json!({"type": "order-update", "data": confirm}),
        ),
    ] {
        // All of one key, which is that of the shop's own words too.
        let event = plain(topic, id, &message.to_string());
        let keyed = event.to_builder().key(&Key::new("8").unwrap());
        let topic = TopicName::new(topic).unwrap();
        bus.publish(topic, vec![keyed.build().unwrap()])
            .await
            .unwrap();
    }
    let shown = until(&open, 8, "delivered").await;
    assert_eq!(shown["products"][0]["product_id"], 2, "{shown}");
    until_told(&bus, "logistics-topic", "order_told", 3).await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_order_gives_its_stock_back_and_a_prepaid_one_goes_on() {
    let open = Open::with_topics().await;
    let bus = open.bus.clone();
    say(&bus, "order-topic", "a", &create(5, json!({}))).await;
    until(&open, 5, "pending_payment").await;
    let delete = json!({"type": "order-delete", "data": {"order_id": "5"}});
    say(&bus, "order-topic", "b", &delete).await;
    say(&bus, "order-topic", "c", &delete).await;
    until(&open, 5, "cancelled").await;
    let prepaid = create(6, json!({"checkout": "prepaid"}));
    say(&bus, "order-topic", "d", &prepaid).await;
    until(&open, 6, "confirmed").await;
    // What has no meaning is counted, and changes nothing.
    for id in ["e", "f"] {
        let strange = json!({"type": "order-archive", "data": {}});
        say(&bus, "order-topic", id, &strange).await;
    }
    let begun = Instant::now();
    while open.shop.counted().ignored < 2 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    let told = until_told(&bus, "logistics-topic", "order_told", 3).await;
    assert_eq!(told[1], json!({"order_id": 5, "type": "order-delete"}));
    let stock = |client: &mut Client| {
        let begun = Instant::now();
        loop {
            let (_, shown) = client.get("/stock/1").unwrap();
            if shown["held"] == 2 {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "{shown}");
        }
    };
    assert_eq!(open.run(stock).await["available"], 8);
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_a_dead_letter_with_its_reason_and_holds_nothing_up() {
    let open = Open::with_topics().await;
    let bus = open.bus.clone();
    let topic = TopicName::new("order-topic").unwrap();
    let update = json!({"type": "order-update", "data": {"order_id": 7, "products": [1]}});
    for (id, data) in [
        ("broken", "{\"type\": \"order-create\"".to_owned()),
        (
            "fields",
            r#"{"type": "order-create", "data": {"user_id": []}}"#.to_owned(),
        ),
        (
            "order",
            create(7, json!({"checkout": "immediate"})).to_string(),
        ),
    ] {
        let event = plain("order-topic", id, &data);
        bus.publish(topic.clone(), vec![event]).await.unwrap();
    }
    until(&open, 7, "delivered").await;
    say(&bus, "order-topic", "late", &update).await;
    let dead = TopicName::new("orders_topic.deadletter").unwrap();
    let mut reasons = Vec::new();
    let begun = Instant::now();
    while reasons.len() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{reasons:?}");
        reasons.clear();
        let keep = |event: &Event| reasons.push(format!("{event:?}"));
        // It is not there before the first.
        let _ = read_all(&bus, &dead, keep).await;
        tokio::task::yield_now().await;
    }
    for part in [
        "EOF while parsing",
        "is no whole number",
        "it is paid or closed",
    ] {
        assert!(
            reasons.iter().any(|one| one.contains(part)),
            "{part} {reasons:?}"
        );
    }
    open.close().await;
}
