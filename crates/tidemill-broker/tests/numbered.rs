//! Publishes that their sender numbers: kept once, however often they are sent, and whatever
//! became of the broker between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use tidemill_broker::{Broker, CreateTopic, Numbered, ProducerError, ProducerIdentity, Sequence};
use tidemill_core::{
    Commit, Event, EventId, EventType, GroupName, Key, Order, Partition, Position, PublishError,
    Source, Start, Subscriber, Subscription, TopicName,
};

const PARTITIONS: u32 = 3;

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

/// Every other one has a key.
fn events(count: usize) -> Vec<Event> {
    let named = |n: usize| {
        let builder = Event::builder(
            EventId::new(n.to_string()).unwrap(),
            Source::new("/numbered").unwrap(),
            EventType::new("placed").unwrap(),
        );
        match n % 2 {
            0 => builder.key(&Key::new(format!("k{n}")).unwrap()),
            _ => builder,
        }
    };
    (0..count).map(|n| named(n).build().unwrap()).collect()
}

/// What a sender keeps of itself.
struct Sender {
    producer: ProducerIdentity,
    round: u32,
    sequences: BTreeMap<Partition, Sequence>,
}

impl Sender {
    fn numbered(&self, partitions: u32) -> Numbered {
        Numbered {
            topic: topic(),
            producer: self.producer,
            partitions,
            round: self.round,
            sequences: self.sequences.clone(),
        }
    }

    fn took(&mut self, positions: &[Position]) {
        self.round += 1;
        for position in positions {
            let next = self.sequences.entry(position.partition).or_default();
            *next = next.plus(1);
        }
    }
}

async fn kept(broker: &Broker) -> u64 {
    let topic = broker.topic(&topic()).unwrap();
    topic
        .partitions
        .iter()
        .map(|p| p.end.0 - p.earliest.0)
        .sum()
}

#[tokio::test]
async fn a_numbered_publish_is_kept_once_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || {
        Broker::builder()
            .path(folder.path())
            .default_partitions(PARTITIONS)
    };
    let broker = builder().open().await.unwrap();
    assert_eq!(broker.ensure_topic(&topic()).await, Ok(PARTITIONS));
    let mut sender = Sender {
        producer: broker.init_producer().unwrap(),
        round: 0,
        sequences: BTreeMap::new(),
    };
    broker.close().await;
    drop(broker);
    for round in 1..6_u64 {
        let broker = builder().open().await.unwrap();
        let numbered = sender.numbered(PARTITIONS);
        let first = broker
            .publish_numbered(numbered.clone(), &events(10))
            .await
            .unwrap();
        let again = broker
            .publish_numbered(numbered.clone(), &events(10))
            .await
            .unwrap();
        assert_eq!(first, again);
        broker.close().await;
        let broker = builder().open().await.unwrap();
        let later = broker
            .publish_numbered(numbered, &events(10))
            .await
            .unwrap();
        assert_eq!(first, later);
        assert_eq!(kept(&broker).await, round * 10);
        sender.took(&first);
        broker.close().await;
    }
}

#[tokio::test]
async fn numbers_that_do_not_fit_keep_nothing() {
    let broker = Broker::in_memory();
    let how = CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic(), how).await.unwrap();
    let sender = Sender {
        producer: broker.init_producer().unwrap(),
        round: 0,
        sequences: BTreeMap::new(),
    };
    let changed = broker
        .publish_numbered(sender.numbered(2), &events(1))
        .await;
    assert_eq!(changed, Err(ProducerError::Changed(topic())));
    let first = broker
        .publish_numbered(sender.numbered(PARTITIONS), &events(6))
        .await;
    assert_eq!(first.unwrap().len(), 6);
    // The same numbers for something else: neither the batch that was there, nor the next one.
    let other = broker
        .publish_numbered(sender.numbered(PARTITIONS), &events(12))
        .await;
    assert!(
        matches!(other, Err(ProducerError::OutOfOrder { .. })),
        "{other:?}"
    );
    let unknown = ProducerIdentity {
        id: tidemill_broker::ProducerId(i64::MAX),
        ..sender.producer
    };
    let mut numbered = sender.numbered(PARTITIONS);
    numbered.producer = unknown;
    let refused = broker.publish_numbered(numbered, &events(1)).await;
    assert_eq!(refused, Err(ProducerError::UnknownProducer(unknown.id)));
    assert_eq!(kept(&broker).await, 6);
}

#[tokio::test]
async fn a_topic_is_made_by_its_first_use_if_at_all() {
    let broker = Broker::builder().auto_create_topics(false);
    let broker = broker.in_memory(64 << 20).open().await.unwrap();
    let refused = broker.ensure_topic(&topic()).await;
    assert_eq!(refused, Err(PublishError::UnknownTopic(topic())));
    assert!(broker.topic(&topic()).is_none());
}

#[tokio::test]
async fn whether_an_event_is_settled_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path()).await.unwrap();
    let group = GroupName::new("g").unwrap();
    let positions = broker.bus().publish(topic(), events(2)).await.unwrap();
    assert_eq!(broker.is_settled(&group, &positions[0]), None);
    let subscription = Subscription {
        topics: vec![topic()],
        group: group.clone(),
        order: Order::None,
        start: Start::Beginning,
    };
    let mut member = broker.subscribe(subscription).await.unwrap();
    let (delivery, settlement) = member.pull(1).await.unwrap().remove(0);
    settlement.settle(Commit::ack()).await.unwrap();
    let settled = |broker: &Broker| -> Vec<Option<bool>> {
        let positions = positions.iter();
        positions
            .map(|position| broker.is_settled(&group, position))
            .collect()
    };
    let expected: Vec<_> = positions
        .iter()
        .map(|position| Some(*position == delivery.position))
        .collect();
    assert_eq!(settled(&broker), expected);
    drop(member);
    broker.close().await;
    drop(broker);
    let broker = Broker::open(folder.path()).await.unwrap();
    assert_eq!(settled(&broker), expected);
}
