//! The way of an event through the broker: published, delivered, settled, fetched.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use tidemill_broker::Broker;
use tidemill_core::{
    Commit, Event, EventId, EventType, Fetch, GroupName, Key, Offset, Order, Partition, Source,
    Start, Subscription, TopicName,
};

fn event(id: usize, key: Option<&str>) -> Event {
    let id = EventId::new(format!("e-{id}")).unwrap();
    let ty = EventType::new("made").unwrap();
    let builder = Event::builder(id, Source::new("/test").unwrap(), ty).untyped_data("{}");
    match key {
        Some(key) => builder.key(&Key::new(key).unwrap()).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_delivered_settled_and_fetched() {
    let broker = Broker::in_memory();
    let bus = broker.bus();
    let topic = TopicName::new("orders").unwrap();
    let group = GroupName::new("billing").unwrap();
    let subscription = Subscription {
        topics: vec![topic.clone()],
        group: group.clone(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let mut member = bus.subscribe(subscription).await.unwrap();
    let events: Vec<_> = (0..10).map(|n| event(n, Some(&format!("k-{n}")))).collect();
    let positions = bus.publish(topic.clone(), events.clone()).await.unwrap();
    assert_eq!(positions.last().unwrap().offset, Offset(9));
    let mut got = Vec::new();
    while got.len() < 10 {
        for (delivery, settlement) in member.pull(4).await.unwrap() {
            got.push(Event::clone(&delivery.event));
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
    assert_eq!(got, events);
    let info = broker.group(&group).unwrap();
    assert_eq!((info.lag(), info.partitions[0].position), (0, Offset(10)));
    let fetch = Fetch {
        topic,
        partition: Partition(0),
        offset: Offset(3),
        max_events: 5,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let fetched = bus.fetch(fetch).await.unwrap();
    assert_eq!(
        (fetched.events.len(), fetched.next, fetched.end),
        (5, Offset(8), Offset(10))
    );
    broker.close().await;
}
