//! Topics that change while they are used: settings, and partitions that are added.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::{Folder, ack_with, both, event, events, group, id, join, settle, take, topic};
use tidemill_broker::{
    AlterTopic, Broker, CompressionType, CreateQueue, CreateTopic, Numbered, ProducerError, SeekTo,
    TopicError, TopicInfo, TopicSettings, backup,
};
use tidemill_core::{
    Commit, Event, Fetch, GroupMember, Offset, Order, Partition, Start, Subscription,
};

async fn create(broker: &Broker, partitions: u32, settings: TopicSettings) -> TopicInfo {
    let how = CreateTopic {
        partitions,
        settings,
    };
    broker.create_topic(topic("t"), how).await.unwrap()
}

async fn alter(broker: &Broker, change: AlterTopic) -> TopicInfo {
    broker.alter_topic(&topic("t"), change).await.unwrap()
}

async fn grow(broker: &Broker, partitions: u32) {
    let change = AlterTopic {
        partitions: Some(partitions),
        ..AlterTopic::default()
    };
    let info = alter(broker, change).await;
    assert_eq!(info.partitions.len(), partitions as usize);
}

/// Events of many keys, so that every partition gets some.
fn keyed(from: usize, count: usize) -> Vec<Event> {
    let numbers = from..from + count;
    numbers
        .map(|n| event(n, Some(&format!("key-{n}"))))
        .collect()
}

async fn publish(broker: &Broker, from: usize, count: usize) -> BTreeSet<u32> {
    let published = broker.bus().publish(topic("t"), keyed(from, count)).await;
    published.unwrap().iter().map(|at| at.partition.0).collect()
}

fn sorted(ids: Vec<String>) -> Vec<usize> {
    let mut ids: Vec<usize> = ids.iter().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Something else than the default of each.
fn everything() -> TopicSettings {
    TopicSettings {
        retention_ms: Some(86_400_000),
        retention_bytes: Some(1_000_000),
        compact: true,
        compression: CompressionType::Lz4,
        segment_ms: Some(3_600_000),
        segment_bytes: Some(1 << 20),
        compact_after_ms: Some(1_000),
        compact_within_ms: Some(60_000),
        tombstone_retention_ms: Some(5_000),
        append_time: true,
        batch_max_bytes: Some(100_000),
        time_before_max_ms: Some(1_000),
        time_after_max_ms: Some(2_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_change_does_not_name_stays_and_what_it_names_survives() {
    let folder = Folder::new();
    let place = tempfile::tempdir().unwrap();
    let broker = folder.open().await;
    let first = everything();
    let made = create(&broker, 2, first).await;
    let nothing = AlterTopic::default();
    assert!(nothing.is_empty());
    assert_eq!(alter(&broker, nothing).await, made);
    let change = AlterTopic {
        retention_ms: Some(None),
        compact: Some(false),
        ..nothing
    };
    let mut second = first;
    (second.retention_ms, second.compact) = (None, false);
    assert_eq!(alter(&broker, change).await.settings, second);
    let change = AlterTopic {
        partitions: Some(5),
        retention_ms: Some(Some(7_200_000)),
        compression: Some(CompressionType::None),
        segment_bytes: Some(None),
        compact_within_ms: Some(None),
        tombstone_retention_ms: Some(Some(0)),
        batch_max_bytes: Some(Some(200_000)),
        time_after_max_ms: Some(None),
        ..nothing
    };
    let third = TopicSettings {
        retention_ms: Some(7_200_000),
        compression: CompressionType::None,
        segment_bytes: None,
        compact_within_ms: None,
        tombstone_retention_ms: Some(0),
        batch_max_bytes: Some(200_000),
        time_after_max_ms: None,
        ..second
    };
    let info = alter(&broker, change).await;
    assert_eq!((info.id, info.settings), (made.id, third));
    assert_eq!(publish(&broker, 0, 100).await.len(), 5);
    let taken = place.path().join("backup");
    assert!(broker.backup(&taken).await.unwrap().report.clean);
    broker.close().await;

    let restored = place.path().join("data");
    backup::restore(&taken, &restored, |_| {}).unwrap();
    for path in [folder.path(), &restored] {
        // Twice: from what the closing made, and from the journal that follows it.
        for compact in [true, false] {
            let broker = Broker::open(path).await.unwrap();
            let info = broker.topic(&topic("t")).unwrap();
            assert_eq!((info.id, info.partitions.len()), (made.id, 5));
            let settings = TopicSettings {
                compact: !compact,
                ..third
            };
            let now = if compact { third } else { settings };
            assert_eq!(info.settings, now);
            let change = AlterTopic {
                compact: Some(compact),
                ..nothing
            };
            alter(&broker, change).await;
            let mut member = join(&broker, "g", "t", Order::PerKey).await;
            if compact {
                assert_eq!(settle(&mut *member, 100).await.len(), 100);
            }
            drop(member);
            broker.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_can_be_given_to_a_topic_that_was_made_by_its_first_use() {
    let looks = Duration::from_millis(1);
    for (broker, _folder) in both(|builder| builder.retention_look_every(looks)).await {
        let unknown = broker.alter_topic(&topic("t"), AlterTopic::default()).await;
        assert_eq!(unknown, Err(TopicError::Unknown(topic("t"))));
        let large = |n| {
            let builder = event(n, None).to_builder();
            builder.untyped_data(vec![b'x'; 8 * 1024]).build().unwrap()
        };
        let size = |broker: &Broker| broker.topic(&topic("t")).unwrap().partitions[0].clone();
        for n in 0..100 {
            broker
                .bus()
                .publish(topic("t"), vec![large(n)])
                .await
                .unwrap();
        }
        assert_eq!(size(&broker).earliest, Offset(0));
        let change = AlterTopic {
            retention_bytes: Some(Some(128 * 1024)),
            ..AlterTopic::default()
        };
        alter(&broker, change).await;
        let mut n = 100;
        while size(&broker).earliest == Offset(0) {
            assert!(n < 2_000, "nothing of it goes");
            broker
                .bus()
                .publish(topic("t"), vec![large(n)])
                .await
                .unwrap();
            n += 1;
        }
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    for (broker, _folder) in both(|builder| builder).await {
        let made = create(&broker, 3, TopicSettings::default()).await;
        for (name, transient) in [("jobs", false), ("passing", true)] {
            let how = CreateQueue {
                transient,
                ..CreateQueue::default()
            };
            broker.create_queue(topic(name), how).await.unwrap();
        }
        let none = AlterTopic::default();
        let more = |partitions| AlterTopic {
            partitions: Some(partitions),
            compact: Some(true),
            ..none
        };
        let limits = [
            more(0),
            more(2),
            more(1025),
            AlterTopic {
                segment_ms: Some(Some(0)),
                ..none
            },
            AlterTopic {
                compact_within_ms: Some(Some(0)),
                ..more(4)
            },
        ];
        for wrong in limits {
            let refused = broker.alter_topic(&topic("t"), wrong).await;
            assert!(matches!(refused, Err(TopicError::Limit(_))), "{refused:?}");
        }
        assert_eq!(broker.topic(&topic("t")), Some(made.clone()));
        for name in ["jobs", "passing"] {
            let queue = broker.alter_topic(&topic(name), more(4)).await;
            assert_eq!(queue, Err(TopicError::IsQueue(topic(name))));
        }
        broker.delete_topic(&topic("t")).await.unwrap();
        let gone = broker.alter_topic(&topic("t"), more(4)).await;
        assert_eq!(gone, Err(TopicError::Unknown(topic("t"))));
        // A topic of the same name has nothing of the one before.
        let again = create(&broker, 1, TopicSettings::default()).await;
        assert_ne!(again.id, made.id);
        assert_eq!((again.partitions.len(), again.settings), (1, made.settings));
        broker.close().await;
    }
}

/// Pulls until so many different events have come; each is settled.
async fn drain(mut member: Box<dyn GroupMember>, count: usize) -> Vec<String> {
    settle(&mut *member, count).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_go_on_and_read_the_partitions_that_are_added() {
    for order in [Order::PerKey, Order::PerPartition, Order::None] {
        for (broker, _folder) in both(|builder| builder).await {
            create(&broker, 1, TopicSettings::default()).await;
            publish(&broker, 0, 50).await;
            let mut member = join(&broker, "g", "t", order).await;
            assert_eq!(settle(&mut *member, 20).await.len(), 20);
            // It waits, and is woken by what comes to a partition that it does not know yet.
            let rest = tokio::spawn(drain(member, 30 + 200));
            grow(&broker, 7).await;
            assert_eq!(publish(&broker, 50, 200).await.len(), 7);
            let rest = tokio::time::timeout(Duration::from_secs(60), rest).await;
            assert_eq!(rest.unwrap().unwrap().len(), 230, "{order:?}");
            let info = broker.group(&group("g")).unwrap();
            assert_eq!((info.partitions.len(), info.lag()), (7, 0), "{order:?}");
            // Two share what comes, and it grows again under both.
            let one = join(&broker, "g", "t", order).await;
            let other = join(&broker, "g", "t", order).await;
            grow(&broker, 9).await;
            publish(&broker, 250, 300).await;
            let both = share(one, other, 300);
            let seen = tokio::time::timeout(Duration::from_secs(60), both).await;
            assert_eq!(seen.unwrap(), (250..550).collect::<Vec<_>>(), "{order:?}");
            broker.close().await;
        }
    }
}

async fn share(
    mut one: Box<dyn GroupMember>,
    mut other: Box<dyn GroupMember>,
    count: usize,
) -> Vec<usize> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let pulled = tokio::select! {
            pulled = one.pull(10) => pulled,
            pulled = other.pull(10) => pulled,
        };
        for (delivery, settlement) in pulled.unwrap() {
            settlement.settle(Commit::ack()).await.unwrap();
            seen.push(id(&delivery));
        }
    }
    sorted(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_members_misses_nothing_of_what_is_added() {
    let folder = Folder::new();
    let broker = folder.open().await;
    create(&broker, 2, TopicSettings::default()).await;
    publish(&broker, 0, 20).await;
    let at_end = || Subscription {
        topics: vec![topic("t")],
        group: group("g"),
        order: Order::PerKey,
        start: Start::End,
    };
    drop(broker.bus().subscribe(at_end()).await.unwrap());
    grow(&broker, 6).await;
    publish(&broker, 20, 60).await;
    let info = broker.group(&group("g")).unwrap();
    assert_eq!((info.partitions.len(), info.lag()), (6, 60));
    let added = Partition(5);
    let end = broker.topic(&topic("t")).unwrap().partitions[5].end;
    let seek = |to| {
        let (broker, name) = (broker.clone(), topic("t"));
        async move { broker.seek(&group("g"), &name, added, to).await.unwrap() }
    };
    assert_eq!(seek(SeekTo::End).await, end);
    assert_eq!(broker.group(&group("g")).unwrap().lag(), 60 - end.0);
    assert_eq!(seek(SeekTo::Beginning).await, Offset(0));
    broker.close().await;
    let broker = folder.open().await;
    let member = broker.bus().subscribe(at_end()).await.unwrap();
    let seen = drain(member, 60).await;
    assert_eq!(sorted(seen), (20..80).collect::<Vec<_>>());
    broker.close().await;
}

/// Publishers, a group and changes of the topic at the same time: every event is kept once, and
/// given out once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn growing_under_load_loses_and_doubles_nothing() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker, 1, TopicSettings::default()).await;
        let member = join(&broker, "g", "t", Order::PerKey).await;
        let reading = tokio::spawn(drain(member, 4 * 500));
        let publishing = (0..4).map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    publish(&broker, publisher * 500 + n * 5, 5).await;
                }
            })
        });
        let publishing: Vec<_> = publishing.collect();
        for partitions in [2, 3, 5, 8, 13, 21] {
            grow(&broker, partitions).await;
        }
        for publisher in publishing {
            publisher.await.unwrap();
        }
        let seen = tokio::time::timeout(Duration::from_secs(60), reading).await;
        assert_eq!(
            sorted(seen.unwrap().unwrap()),
            (0..2000).collect::<Vec<_>>()
        );
        let info = broker.topic(&topic("t")).unwrap();
        let kept: u64 = info
            .partitions
            .iter()
            .map(|partition| partition.end.0)
            .sum();
        assert_eq!((info.partitions.len(), kept), (21, 2000));
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handlers_events_are_sorted_anew_where_their_topic_has_grown() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker, 1, TopicSettings::default()).await;
        broker
            .bus()
            .publish(topic("in"), events(0, 8))
            .await
            .unwrap();
        let mut member = join(&broker, "g", "in", Order::None).await;
        let held = take(&mut *member, 8).await;
        let settling = held.into_iter().enumerate().map(|(n, (_, settlement))| {
            let staged = vec![(topic("t"), event(n, Some(&format!("key-{n}"))))];
            tokio::spawn(settlement.settle(ack_with(staged)))
        });
        let settling: Vec<_> = settling.collect();
        grow(&broker, 4).await;
        for settled in settling {
            settled.await.unwrap().unwrap();
        }
        let info = broker.topic(&topic("t")).unwrap();
        let kept: u64 = info
            .partitions
            .iter()
            .map(|partition| partition.end.0)
            .sum();
        assert_eq!(kept, 8);
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_answers_when_its_topic_has_more_partitions() {
    let broker = Broker::in_memory();
    create(&broker, 1, TopicSettings::default()).await;
    let poll = Fetch {
        topic: topic("t"),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10,
        max_bytes: 1 << 20,
        wait: Duration::from_secs(3600),
    };
    let bus = broker.bus();
    let polling = tokio::spawn(async move { bus.fetch(poll).await });
    let settings = AlterTopic {
        compact: Some(true),
        ..AlterTopic::default()
    };
    let mut partitions = 1;
    // It may not wait yet when the first one is added.
    while !polling.is_finished() {
        alter(&broker, settings).await;
        partitions += 1;
        grow(&broker, partitions).await;
        tokio::task::yield_now().await;
    }
    let fetched = polling.await.unwrap().unwrap();
    assert_eq!((fetched.events.len(), fetched.next), (0, Offset(0)));
    broker.close().await;
}

/// What was kept before its topic got more partitions is known when it is sent again: sorted
/// anew it would be kept twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_numbered_publish_that_is_sent_again_after_the_growth_is_kept_once() {
    let folder = Folder::new();
    let broker = folder.open().await;
    create(&broker, 3, TopicSettings::default()).await;
    let mut numbered = Numbered {
        topic: topic("t"),
        producer: broker.init_producer().unwrap(),
        partitions: 3,
        round: 0,
        sequences: BTreeMap::new(),
    };
    let events = keyed(0, 30);
    let first = broker
        .publish_numbered(numbered.clone(), &events)
        .await
        .unwrap();
    grow(&broker, 5).await;
    let again = broker.publish_numbered(numbered.clone(), &events).await;
    assert_eq!(again.unwrap(), first);
    broker.close().await;
    let broker = folder.open().await;
    let again = broker.publish_numbered(numbered.clone(), &events).await;
    assert_eq!(again.unwrap(), first);
    // What is new must be sorted for as many as there are.
    for position in &first {
        let next = numbered.sequences.entry(position.partition).or_default();
        *next = next.plus(1);
    }
    let stale = broker
        .publish_numbered(numbered.clone(), &keyed(30, 9))
        .await;
    assert_eq!(stale, Err(ProducerError::Changed(topic("t"))));
    numbered.partitions = 5;
    let sorted = broker.publish_numbered(numbered, &keyed(30, 9)).await;
    assert_eq!(sorted.unwrap().len(), 9);
    let info = broker.topic(&topic("t")).unwrap();
    let kept: u64 = info
        .partitions
        .iter()
        .map(|partition| partition.end.0)
        .sum();
    assert_eq!(kept, 39);
    broker.close().await;
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused_together_with_what_is_there() {
    let folder = Folder::new();
    let broker = folder.open().await;
    let refused = |answer: Result<TopicInfo, TopicError>| {
        assert!(matches!(&answer, Err(TopicError::Limit(_))), "{answer:?}");
    };
    for settings in [
        TopicSettings {
            segment_bytes: Some(TopicSettings::SEGMENT_BYTES.start() - 1),
            ..TopicSettings::default()
        },
        TopicSettings {
            segment_ms: Some(0),
            ..TopicSettings::default()
        },
        TopicSettings {
            compact_after_ms: Some(2),
            compact_within_ms: Some(1),
            ..TopicSettings::default()
        },
    ] {
        let how = CreateTopic {
            settings,
            ..CreateTopic::default()
        };
        refused(broker.create_topic(topic("t"), how).await);
    }
    let within = TopicSettings {
        compact: true,
        compact_within_ms: Some(10),
        ..TopicSettings::default()
    };
    let made = create(&broker, 1, within).await;
    let after = |ms| AlterTopic {
        compact_after_ms: Some(Some(ms)),
        ..AlterTopic::default()
    };
    refused(broker.alter_topic(&topic("t"), after(11)).await);
    assert_eq!(broker.topic(&topic("t")).unwrap(), made);
    let info = alter(&broker, after(10)).await;
    assert_eq!(info.settings.compact_after_ms, Some(10));
    let info = alter(&broker, TopicSettings::default().into()).await;
    assert_eq!(info.settings, TopicSettings::default());
    broker.close().await;
}
