//! The bus behind an address, and typed messages on it.
#![cfg(feature = "broker")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::core::{Commit, Fetch, Subscription};
use tidemill::{
    AskError, Bus, BusExt as _, Event, EventId, Message, Offset, Order, Outgoing, Partition,
    Publish, Source, Start, TopicName,
};

#[derive(Clone, Debug, PartialEq, Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_paid", topic = "orders", key = "order_id")]
struct OrderPaid {
    order_id: u64,
}

async fn events(bus: &Bus) -> Vec<Event> {
    let fetch = Fetch {
        topic: TopicName::new("orders").unwrap(),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let fetched = bus.fetch(fetch).await.unwrap();
    let events = fetched.events.into_iter();
    events.map(|(_, event)| (*event).clone()).collect()
}

#[tokio::test]
async fn messages_are_sent_with_ids_times_keys_and_sources() {
    let bus = tidemill::open("memory:").await.unwrap();
    let first = bus.send(&OrderPaid { order_id: 1 }).await.unwrap();
    assert_eq!(first.topic, "orders");
    let publish = Publish::new(bus.clone(), Source::new("/till").unwrap());
    let all = [OrderPaid { order_id: 2 }, OrderPaid { order_id: 3 }];
    assert_eq!(publish.send_all(&all).await.unwrap().len(), 2);
    let given = Outgoing::new(OrderPaid { order_id: 4 }).id(EventId::new("mine").unwrap());
    publish.send_with(given).await.unwrap();

    let events = events(&bus).await;
    assert_eq!(events.len(), 4);
    let keys: Vec<_> = events.iter().filter_map(Event::key).collect();
    assert_eq!(keys, ["1", "2", "3", "4"]);
    assert_eq!(events[0].source(), "/tidemill");
    assert_eq!(events[1].source(), "/till");
    assert_eq!(events[3].id(), "mine");
    assert!(events.iter().all(|event| event.time().is_some()));
    // The ids that are made ascend.
    assert!(events[0].id() < events[1].id() && events[1].id() < events[2].id());
}

#[tokio::test]
async fn a_question_gets_its_answer_or_says_why_not() {
    let bus = tidemill::open("memory:").await.unwrap();
    let mut member = bus
        .subscribe(Subscription {
            topics: vec![TopicName::new("orders").unwrap()],
            group: "answers".try_into().unwrap(),
            order: Order::PerKey,
            start: Start::Beginning,
        })
        .await
        .unwrap();
    let answering = tokio::spawn(async move {
        for data in ["{\"order_id\":5}", "\"something else\""] {
            let (delivery, settlement) = member.pull(1).await.unwrap().remove(0);
            let answer = delivery
                .event
                .to_builder()
                .data("application/json", data)
                .build()
                .unwrap();
            let mut commit = Commit::ack();
            commit.effects.reply = Some(Box::new(answer));
            settlement.settle(commit).await.unwrap();
        }
    });
    let second = Duration::from_secs(5);
    let paid = OrderPaid { order_id: 5 };
    let answer: OrderPaid = bus.ask(&paid, second).await.unwrap();
    assert_eq!(answer, paid);
    let error = bus.ask::<_, OrderPaid>(&paid, second).await.unwrap_err();
    assert!(matches!(error, AskError::Answer(_)), "{error}");
    answering.await.unwrap();
    let error = bus
        .ask::<_, OrderPaid>(&paid, Duration::from_millis(1))
        .await;
    assert!(matches!(error, Err(AskError::Request(_))));
}

#[tokio::test]
async fn a_folder_is_opened_once_at_a_time_and_keeps_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let broker = tidemill::broker::Broker::open(path).await.unwrap();
    broker.bus().send(&OrderPaid { order_id: 1 }).await.unwrap();
    let error = tidemill::open(path).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot open"), "{error}");
    broker.close().await;
    drop(broker);
    let bus = tidemill::open(format!("file:{path}")).await.unwrap();
    assert_eq!(events(&bus).await.len(), 1);
}
