//! Who waits for records while there is no memory to remember them, and what is known of a
//! partition that was sought meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_core::budget::Class;
use tidemill_core::{Event, EventId, EventType, GroupName, Partition, Source, TopicName};
use tidemill_log::PartitionId;

use super::{ShareBounds, ShareHeartbeat, SharePart, ShareRecords, ShareSettings};
use crate::{Broker, CreateTopic, EPOCH_JOIN};

const BOUNDS: ShareBounds = ShareBounds {
    records_max: 100,
    bytes_max: 1 << 20,
};

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

/// A broker with one record in a topic, and a member of the group that reads it.
async fn house() -> (Broker, SharePart) {
    let (broker, topic) = (Broker::in_memory(), TopicName::new("t").unwrap());
    let create = broker.create_topic(topic.clone(), CreateTopic::default());
    create.await.unwrap();
    let groups = broker.share_groups();
    let settings = ShareSettings {
        from_beginning: Some(true),
        ..ShareSettings::default()
    };
    groups.set(&group(), settings).await.unwrap();
    let join = ShareHeartbeat {
        member: "a".into(),
        epoch: EPOCH_JOIN,
        topics: Some(BTreeSet::from([topic.clone()])),
        ..ShareHeartbeat::default()
    };
    groups.heartbeat(&group(), join).await.unwrap();
    let (id, source) = (EventId::new("0").unwrap(), Source::new("/test").unwrap());
    let event = Event::builder(id, source, EventType::new("word").unwrap());
    let event = event.data("text/plain", "0").build().unwrap();
    let bus = broker.bus();
    bus.publish(topic.clone(), vec![event]).await.unwrap();
    let part = SharePart {
        topic: broker.topic(&topic).unwrap().id,
        partition: Partition(0),
    };
    (broker, part)
}

async fn take(
    broker: &Broker,
    part: SharePart,
    wait: Duration,
    room: &mut (dyn FnMut(usize) -> bool + Send),
) -> ShareRecords {
    let (groups, group, who) = (broker.share_groups(), group(), "a".into());
    let taken = groups.take(&group, &who, &[part], BOUNDS, wait, room).await;
    taken.unwrap().remove(0).unwrap()
}

#[tokio::test]
async fn who_waits_where_no_record_can_be_remembered_looks_now_and_then_and_holds_nothing() {
    let (broker, part) = house().await;
    let mut all = broker.inner.settings.memory.empty(Class::Deliveries);
    let mut step = 1 << 30;
    while step > 0 {
        match all.grow(step) {
            true => {}
            false => step /= 2,
        }
    }
    let (asked, had) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut room = |bytes| {
        asked.fetch_add(usize::from(bytes > 0), Ordering::Relaxed);
        had.store(bytes, Ordering::Relaxed);
        true
    };
    let none = take(&broker, part, Duration::from_millis(200), &mut room).await;
    assert!(none.acquired.is_empty());
    let times = asked.load(Ordering::Relaxed);
    assert!((1..=12).contains(&times), "{times} reads in 200 ms");
    assert_eq!(had.load(Ordering::Relaxed), 0, "it needs no room");
    // It gets them when there is memory again.
    let again = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(all);
    };
    let wait = Duration::from_secs(20);
    let (given, ()) = tokio::join!(take(&broker, part, wait, &mut room), again);
    assert_eq!(given.acquired.len(), 1);
    let bytes: usize = given.batches.iter().map(|batch| batch.size_bytes()).sum();
    assert_eq!(had.load(Ordering::Relaxed), bytes);
}

#[tokio::test]
async fn what_is_said_of_an_earlier_epoch_forgets_nothing_of_this_one() {
    let (broker, part) = house().await;
    let given = take(&broker, part, Duration::ZERO, &mut |_| true).await;
    assert_eq!(given.acquired.len(), 1);
    let id = PartitionId {
        topic: part.topic,
        partition: part.partition,
    };
    let live = broker.inner.shares.get(&group()).unwrap();
    let epoch = live.locked().parts[&id].records.epoch();
    live.restart((id, epoch + 1));
    assert_eq!(live.locked().parts[&id].records.in_flight(), 1);
    live.restart((id, epoch));
    assert!(live.locked().parts.is_empty());
}
