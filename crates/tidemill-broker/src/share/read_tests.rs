//! Who waits for records while there is no memory to remember them, and what is known of a
//! partition that was sought meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_core::budget::Class;
use tidemill_core::{Event, EventId, EventType, GroupName, Offset, Partition, Source, TopicName};
use tidemill_log::PartitionId;
use tidemill_log::limits::BATCH_MAX_BYTES;

use super::read::Taker;
use super::{
    ShareAcknowledgement, ShareBounds, ShareError, ShareHeartbeat, SharePart, ShareRecords,
    ShareSettings, ShareVerdict,
};
use crate::{BatchBuilder, Begins, Broker, CreateTopic, EPOCH_JOIN, Produce};

const BOUNDS: ShareBounds = ShareBounds {
    records_max: 100,
    bytes_max: 1 << 20,
};

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

/// Makes the group with a member that reads a topic from its first record on.
async fn join(broker: &Broker, topic: TopicName) {
    let groups = broker.share_groups();
    let settings = ShareSettings {
        from_beginning: Some(true),
        ..ShareSettings::default()
    };
    groups.set(&group(), settings).await.unwrap();
    let join = ShareHeartbeat {
        member: "a".into(),
        epoch: EPOCH_JOIN,
        topics: Some(BTreeSet::from([topic])),
        ..ShareHeartbeat::default()
    };
    groups.heartbeat(&group(), join).await.unwrap();
}

/// A broker with one record in a topic, and a member of the group that reads it.
async fn house() -> (Broker, SharePart) {
    let (broker, topic) = (Broker::in_memory(), TopicName::new("t").unwrap());
    let create = broker.create_topic(topic.clone(), CreateTopic::default());
    create.await.unwrap();
    join(&broker, topic.clone()).await;
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

async fn produce(broker: &Broker, topic: &TopicName, partition: Partition, value: &[u8]) {
    let mut batch = BatchBuilder::new();
    let pushed = batch.push(1, None, Some(value), std::iter::empty());
    pushed.unwrap();
    let produce = Produce {
        topic: topic.clone(),
        partition,
        batch: batch.finish().unwrap().try_into().unwrap(),
        begins: Begins::No,
    };
    broker.produce(produce).await.unwrap();
}

async fn take(
    broker: &Broker,
    part: SharePart,
    wait: Duration,
    room: &mut (dyn FnMut(usize) -> bool + Send),
) -> ShareRecords {
    let (groups, group, who) = (broker.share_groups(), group(), "a".into());
    let taken = groups.take(&group, &who, &[part], BOUNDS, wait, room).await;
    let mut taken = taken.unwrap().remove(0).unwrap();
    std::mem::take(&mut taken.hold).sent();
    taken
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
async fn who_waits_in_a_group_that_is_deleted_gets_nothing_of_the_one_that_is_made_then() {
    let (broker, part) = house().await;
    let taker = Taker {
        inner: Arc::clone(&broker.inner),
        live: broker.inner.shares.get(&broker.inner, &group()).unwrap(),
        member: "a".into(),
        settings: broker.share_groups().settings(&group()),
    };
    broker.delete_group(&group()).await.unwrap();
    join(&broker, TopicName::new("t").unwrap()).await;
    let parts = [part];
    let old = taker
        .take(&parts, BOUNDS, Duration::ZERO, &mut |_| true)
        .await;
    assert!(matches!(old, Err(ShareError::UnknownGroup)), "{old:?}");
    let given = take(&broker, part, Duration::ZERO, &mut |_| true).await;
    assert_eq!(given.acquired.len(), 1);
    broker
        .delete_topic(&TopicName::new("t").unwrap())
        .await
        .unwrap();
    let live = broker.inner.shares.get(&broker.inner, &group()).unwrap();
    assert!(
        live.locked().parts.iter().next().is_none(),
        "nothing is to be given up"
    );
    // That an earlier one is gone is no news of this one.
    broker.inner.shares.group_gone(&broker.inner, &group());
    assert_eq!(
        broker
            .share_groups()
            .describe(&group())
            .unwrap()
            .members
            .len(),
        1
    );
}

#[tokio::test]
async fn one_record_that_can_be_no_letter_holds_up_no_other() {
    let (broker, part) = house().await;
    // As large as a record can be: its letter says where it was, too.
    let value = vec![b'x'; BATCH_MAX_BYTES - 200];
    for value in [&value[..], b"1"] {
        let topic = TopicName::new("t").unwrap();
        produce(&broker, &topic, Partition(0), value).await;
    }
    let mut had = 0;
    while had < 3 {
        let given = take(&broker, part, Duration::ZERO, &mut |_| true).await;
        had += given.acquired.len();
    }
    let said = ShareAcknowledgement {
        first: Offset(0),
        last: Offset(2),
        verdicts: vec![ShareVerdict::Reject],
    };
    let (groups, name, who) = (broker.share_groups(), group(), "a".into());
    let done = groups.acknowledge(&name, &who, vec![(part, vec![said])]);
    done.await.unwrap().remove(0).unwrap();
    let info = broker.group(&group()).unwrap();
    let at = &info.partitions[0];
    assert_eq!((at.position, at.settled_above), (Offset(3), 0));
    // It is settled without one, and counted.
    let metrics = broker.metrics();
    let counted = (metrics.dead_lettered, metrics.unwritable_letters);
    assert_eq!(counted, (2, 1));
    let letters = broker.dead_letters(&group(), None, 10).await.unwrap();
    assert_eq!(letters.letters.len(), 2);
}

#[tokio::test]
async fn who_waits_looks_again_only_for_partitions_of_its_own() {
    let (broker, first) = house().await;
    let topic = TopicName::new("u").unwrap();
    let create = CreateTopic {
        partitions: 2,
        ..CreateTopic::default()
    };
    broker.create_topic(topic.clone(), create).await.unwrap();
    join(&broker, topic.clone()).await;
    let id = broker.topic(&topic).unwrap().id;
    let part = |number| SharePart {
        topic: id,
        partition: Partition(number),
    };
    let looks = [const { AtomicUsize::new(0) }; 2];
    let wait = |number: usize| {
        let (broker, looks) = (&broker, &looks);
        async move {
            // It is told once of each partition that is looked at.
            let mut room = |bytes| {
                looks[number].fetch_add(usize::from(bytes == 0), Ordering::Relaxed);
                true
            };
            let part = part(number as u32);
            take(broker, part, Duration::from_secs(60), &mut room).await
        }
    };
    let told = || [0, 1].map(|number| looks[number].load(Ordering::Relaxed));
    let goes_on = async {
        tokio::task::yield_now().await;
        assert_eq!(told(), [1, 1]);
        // What others take, release and say of another partition is nothing for them.
        let given = take(&broker, first, Duration::ZERO, &mut |_| true).await;
        assert_eq!(given.acquired.len(), 1);
        let (groups, who) = (broker.share_groups(), "a".into());
        groups.release(&group(), &who).unwrap();
        produce(&broker, &topic, Partition(1), b"1").await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(told(), [1, 1], "the other one has what it waited for");
        produce(&broker, &topic, Partition(0), b"0").await;
    };
    let (one, other, ()) = tokio::join!(wait(0), wait(1), goes_on);
    assert_eq!((one.acquired.len(), other.acquired.len()), (1, 1));
    assert_eq!(told(), [1, 1]);
    let live = broker.inner.shares.get(&broker.inner, &group()).unwrap();
    let have = live.locked().parts.held_by(&"a".into());
    assert_eq!(have, 2);
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
    let live = broker.inner.shares.get(&broker.inner, &group()).unwrap();
    let epoch = live.locked().parts.get(id).unwrap().records.epoch();
    live.restart((id, epoch + 1));
    let in_flight = live.locked().parts.get(id).unwrap().records.in_flight();
    assert_eq!(in_flight, 1);
    live.restart((id, epoch));
    assert!(live.locked().parts.iter().next().is_none());
}
