//! Who publishes much to a topic waits behind itself, also where others publish to the same one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::pin::Pin;

use support::gate::Gate;
use support::topic;
use tidemill_broker::Broker;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    BoxFuture, Event, EventId, EventType, Position, PublishError, Publisher, Source,
};

type Publishing = BoxFuture<'static, Result<Vec<Position>, PublishError>>;

const FLOOD: u64 = 40;

fn event(bytes: usize) -> Event {
    let (id, ty) = (EventId::new("1").unwrap(), EventType::new("made").unwrap());
    let builder = Event::builder(id, Source::new("/test").unwrap(), ty);
    builder.untyped_data(vec![b'x'; bytes]).build().unwrap()
}

/// Hands a publish in, without waiting for its end.
async fn begin(broker: &Broker, bytes: usize) -> Publishing {
    let mut publishing = broker.publish(topic("t"), vec![event(bytes)]);
    let mut pinned = Pin::new(&mut publishing);
    tokio::select! {
        biased;
        ended = &mut pinned => panic!("the disk waits: {ended:?}"),
        () = std::future::ready(()) => {}
    }
    publishing
}

async fn offset(publishing: Publishing) -> u64 {
    publishing.await.unwrap()[0].offset.0
}

/// The offsets of a flood and of a small publish that was begun after it, while the disk waits.
async fn offsets(flood: fn(&Broker) -> Broker, small: fn(&Broker) -> Broker) -> (Vec<u64>, u64) {
    let (gate, disk) = Gate::new(256 << 20);
    let broker = Broker::builder().disk(disk).open().await.unwrap();
    broker.publish(topic("t"), vec![event(1)]).await.unwrap();
    gate.close();
    let mut much = Vec::new();
    for _ in 0..FLOOD {
        much.push(begin(&flood(&broker), 512 << 10).await);
    }
    let little = begin(&small(&broker), 100).await;
    gate.open();
    let little = offset(little).await;
    let mut all = Vec::new();
    for publishing in much {
        all.push(offset(publishing).await);
    }
    (all, little)
}

#[tokio::test]
async fn a_client_passes_what_another_one_has_waiting_in_the_same_topic() {
    let (much, little) = offsets(|broker| broker.as_client(1), |broker| broker.as_client(2)).await;
    assert!(much.is_sorted(), "{much:?}");
    assert!(little < FLOOD / 2, "{little} among {much:?}");
}

#[tokio::test]
async fn publishes_of_one_client_keep_the_order_in_which_they_were_begun() {
    let same: fn(&Broker) -> Broker = |broker| broker.as_client(7);
    for client in [same, Clone::clone] {
        let (much, little) = offsets(client, client).await;
        assert!(much.is_sorted(), "{much:?}");
        assert_eq!(little, FLOOD + 1);
    }
}

#[tokio::test]
async fn a_client_that_fills_what_may_wait_leaves_room_to_others_in_the_same_topic() {
    let (gate, disk) = Gate::new(256 << 20);
    let builder = Broker::builder().disk(disk).memory(8 << 20);
    let broker = builder.open().await.unwrap();
    broker.publish(topic("t"), vec![event(1)]).await.unwrap();
    gate.close();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut publishing = broker
            .as_client(1)
            .publish(topic("t"), vec![event(50 << 10)]);
        tokio::select! {
            biased;
            ended = &mut publishing => break ended,
            () = std::future::ready(()) => waiting.push(publishing),
        }
    };
    let overloaded = PublishError::Unavailable(Unavailable::Overloaded);
    assert_eq!(refused, Err(overloaded));
    waiting.push(begin(&broker.as_client(2), 50 << 10).await);
    waiting.push(begin(&broker, 50 << 10).await);
    gate.open();
    for publishing in waiting {
        publishing.await.unwrap();
    }
}
