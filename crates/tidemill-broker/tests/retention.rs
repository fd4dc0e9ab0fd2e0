//! Topics that keep only so much, and trims: who reads behind the start goes on where it is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use support::{Folder, both, event, events, group, ids, join, settle, take, topic};
use tidemill_broker::{Broker, CompressionType, CreateTopic, SeekTo, TopicError, TopicSettings};
use tidemill_core::{Commit, Fetch, FetchError, GroupMember, Offset, Order, Partition, PullError};
use tidemill_log::driver::MemoryDisk;

const P0: Partition = Partition(0);

async fn trim(broker: &Broker, before: u64) -> u64 {
    let trimmed = broker.trim_topic(&topic("t"), P0, Offset(before)).await;
    trimmed.unwrap().0
}

async fn fetch(broker: &Broker, offset: u64) -> Result<Vec<u64>, FetchError> {
    let fetch = Fetch {
        topic: topic("t"),
        partition: P0,
        offset: Offset(offset),
        max_events: 100,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let fetched = broker.bus().fetch(fetch).await?;
    Ok(fetched.events.iter().map(|(at, _)| at.0).collect())
}

async fn publish(broker: &Broker, from: usize, count: usize) {
    let published = broker.bus().publish(topic("t"), events(from, count)).await;
    published.unwrap();
}

fn bounds(broker: &Broker) -> (u64, u64) {
    let partition = &broker.topic(&topic("t")).unwrap().partitions[0];
    (partition.earliest.0, partition.end.0)
}

/// The group's position and its lag.
fn position(broker: &Broker, of: &str) -> (u64, u64) {
    let info = broker.group(&group(of)).unwrap();
    (info.partitions[0].position.0, info.lag())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_trimmed_is_out_of_range_also_after_a_restart() {
    let folder = Folder::new();
    let mut broker = folder.open().await;
    publish(&broker, 0, 10).await;
    assert_eq!(trim(&broker, 4).await, 4);
    for _ in 0..2 {
        assert_eq!(bounds(&broker), (4, 10));
        let below = fetch(&broker, 3).await.unwrap_err();
        let wanted = FetchError::OutOfRange {
            offset: Offset(3),
            earliest: Offset(4),
            end: Offset(10),
        };
        assert_eq!(below, wanted);
        assert_eq!(fetch(&broker, 4).await.unwrap(), [4, 5, 6, 7, 8, 9]);
        broker.close().await;
        broker = folder.open().await;
    }
    assert_eq!(trim(&broker, 2).await, 4, "what is deleted stays so");
    let name = topic("t");
    let beyond = broker.trim_topic(&name, P0, Offset(11)).await;
    assert_eq!(beyond, Err(TopicError::BeyondEnd { end: Offset(10) }));
    let other = broker.trim_topic(&name, Partition(1), Offset(0)).await;
    assert_eq!(other, Err(TopicError::UnknownPartition { count: 1 }));
    let other = broker.trim_topic(&topic("u"), P0, Offset(0)).await;
    assert_eq!(other, Err(TopicError::Unknown(topic("u"))));
    assert_eq!(trim(&broker, 10).await, 10);
    publish(&broker, 10, 1).await;
    assert_eq!(fetch(&broker, 10).await.unwrap(), [10]);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_behind_the_start_goes_on_there_and_counts_what_it_missed() {
    let folder = Folder::new();
    let broker = folder.open().await;
    publish(&broker, 0, 10).await;
    let mut member = join(&broker, "g", "t", Order::None).await;
    let mut held = take(&mut *member, 10).await;
    // Two at the beginning, one above them, one that is kept.
    for at in [8, 3, 1, 0] {
        held.remove(at).1.settle(Commit::ack()).await.unwrap();
    }
    drop(held);
    drop(member);
    assert_eq!(position(&broker, "g"), (2, 6));
    assert_eq!(trim(&broker, 6).await, 6);
    assert_eq!(position(&broker, "g"), (2, 3), "6, 7 and 9 are left");
    assert_eq!(broker.metrics().missed, 0, "nobody has read on yet");
    let mut member = join(&broker, "g", "t", Order::None).await;
    assert_eq!(settle(&mut *member, 3).await, ["6", "7", "9"]);
    assert_eq!(broker.metrics().missed, 3, "2, 4 and 5");
    assert_eq!(position(&broker, "g"), (10, 0));
    drop(member);
    broker.close().await;

    let broker = folder.open().await;
    assert_eq!(position(&broker, "g"), (10, 0));
    publish(&broker, 10, 1).await;
    let mut member = join(&broker, "g", "t", Order::None).await;
    assert_eq!(settle(&mut *member, 1).await, ["10"]);
    assert_eq!(broker.metrics().missed, 0);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_members_have_of_a_trimmed_part_is_theirs_to_settle() {
    for (broker, _folder) in both(|builder| builder).await {
        publish(&broker, 0, 6).await;
        let mut member = join(&broker, "g", "t", Order::None).await;
        let held = take(&mut *member, 3).await;
        assert_eq!(trim(&broker, 6).await, 6);
        publish(&broker, 6, 2).await;
        assert_eq!(ids(&held), ["0", "1", "2"]);
        for (_, settlement) in held {
            settlement.settle(Commit::ack()).await.unwrap();
        }
        // These were read with the first ones, before the trim.
        assert_eq!(settle(&mut *member, 5).await, ["3", "4", "5", "6", "7"]);
        let metrics = broker.metrics();
        assert_eq!((metrics.settled, metrics.missed), (8, 0));
        assert_eq!(position(&broker, "g"), (8, 0));
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_groups_and_seeks_begin_where_the_topic_does() {
    let broker = Broker::in_memory();
    publish(&broker, 0, 6).await;
    trim(&broker, 4).await;
    let mut member = join(&broker, "g", "t", Order::None).await;
    assert_eq!(position(&broker, "g"), (4, 2));
    assert_eq!(settle(&mut *member, 2).await, ["4", "5"]);
    let below = SeekTo::Offset(Offset(3));
    let refused = broker.seek(&group("g"), &topic("t"), P0, below).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("its first offset is 4"), "{refused}");
    for to in [SeekTo::Beginning, SeekTo::Offset(Offset(4))] {
        let sought = broker.seek(&group("g"), &topic("t"), P0, to).await;
        assert_eq!(sought.unwrap(), Offset(4));
        assert_eq!(settle(&mut *member, 2).await, ["4", "5"]);
    }
    assert_eq!(broker.metrics().missed, 0);
    broker.close().await;
}

const EVENT_BYTES: usize = 8 * 1024;

async fn publish_large(broker: &Broker, number: usize) {
    let large = event(number, None).to_builder();
    let large = large.untyped_data(vec![b'x'; EVENT_BYTES]).build().unwrap();
    let published = broker.bus().publish(topic("t"), vec![large]).await;
    published.unwrap();
}

/// Settles until this offset; answers how many it settled. None comes twice.
async fn drain(mut member: Box<dyn GroupMember>, until: u64) -> u64 {
    let (mut next, mut settled) = (0, 0);
    while next < until {
        for (delivery, settlement) in member.pull(16).await.unwrap() {
            let offset = delivery.position.offset.0;
            assert!(offset >= next, "{offset} came after {next}");
            next = offset + 1;
            settlement.settle(Commit::ack()).await.unwrap();
            settled += 1;
        }
    }
    settled
}

/// Reads every offset once until this one; answers how many there were.
async fn read_all(broker: Broker, until: u64) -> u64 {
    let (mut at, mut read) = (0, 0);
    while at < until {
        match fetch(&broker, at).await {
            Ok(offsets) => {
                let wanted: Vec<u64> = (at..).take(offsets.len()).collect();
                assert_eq!(offsets, wanted);
                at += offsets.len() as u64;
                read += offsets.len() as u64;
                if offsets.is_empty() {
                    tokio::task::yield_now().await;
                }
            }
            Err(FetchError::OutOfRange { earliest, .. }) => {
                assert!(earliest.0 > at, "{earliest} for {at}");
                at = earliest.0;
            }
            Err(error) => panic!("at {at}: {error}"),
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_keeps_so_many_bytes_and_its_readers_lose_and_double_nothing_else() {
    const COUNT: u64 = 200;
    for (broker, _folder) in both(|b| b.retention_look_every(Duration::from_millis(1))).await {
        let how = CreateTopic {
            settings: TopicSettings {
                retention_bytes: Some(128 * 1024),
                ..TopicSettings::default()
            },
            ..CreateTopic::default()
        };
        broker.create_topic(topic("t"), how).await.unwrap();
        let quick = join(&broker, "quick", "t", Order::PerPartition).await;
        let slow = join(&broker, "slow", "t", Order::PerPartition).await;
        let quick = tokio::spawn(drain(quick, COUNT));
        let reader = tokio::spawn(read_all(broker.clone(), COUNT));
        for number in 0..COUNT {
            publish_large(&broker, number as usize).await;
        }
        let mut end = COUNT;
        while bounds(&broker).0 == 0 {
            assert!(end < 20 * COUNT, "{:?}", bounds(&broker));
            publish_large(&broker, end as usize).await;
            end += 1;
        }
        let settled = quick.await.unwrap() + drain(slow, end).await;
        assert!(reader.await.unwrap() > 0);
        let (metrics, size) = (broker.metrics(), broker.topic(&topic("t")).unwrap());
        assert!(metrics.missed > 0 && metrics.expired_segments > 0);
        assert!(size.partitions[0].size_bytes >= 128 * 1024);
        assert_eq!((metrics.passed, metrics.damaged_reads), (0, 0));
        assert_eq!(settled, metrics.settled);
        let quick = &broker.group(&group("quick")).unwrap().partitions[0];
        let done = quick.position.0 + quick.settled_above + end;
        assert_eq!(settled + metrics.missed, done);
        assert_eq!(position(&broker, "slow"), (end, 0));
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topics_settings_are_kept_and_wrong_ones_are_refused() {
    let folder = Folder::new();
    let broker = folder.open().await;
    let settings = TopicSettings {
        compact: true,
        retention_ms: Some(86_400_000),
        retention_bytes: Some(1_000_000),
        compression: CompressionType::Lz4,
        ..TopicSettings::default()
    };
    let how = |settings| CreateTopic {
        partitions: 2,
        settings,
    };
    let made = broker.create_topic(topic("t"), how(settings)).await;
    assert_eq!(made.unwrap().settings, settings);
    for wrong in [
        TopicSettings {
            segment_ms: Some(0),
            ..settings
        },
        TopicSettings {
            compact_within_ms: Some(0),
            ..settings
        },
    ] {
        let refused = broker.create_topic(topic("u"), how(wrong)).await;
        assert!(matches!(refused, Err(TopicError::Limit(_))), "{refused:?}");
    }
    publish(&broker, 0, 100).await;
    broker.close().await;
    let broker = folder.open().await;
    let info = broker.topic(&topic("t")).unwrap();
    assert_eq!(info.settings, settings);
    let shown = serde_json::to_value(&info).unwrap();
    assert_eq!(shown["retention_ms"], 86_400_000);
    assert_eq!(shown["compression"], "lz4");
    let mut member = join(&broker, "g", "t", Order::None).await;
    assert_eq!(settle(&mut *member, 100).await.len(), 100);
    assert_eq!(broker.topics().len(), 1);
    broker.delete_topic(&topic("t")).await.unwrap();
    assert_eq!(member.pull(1).await.unwrap_err(), PullError::Gone);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_keeps_the_latest_event_of_each_key() {
    const KEYS: u64 = 10;
    let disk = Arc::new(MemoryDisk::new(256 << 20));
    let often = Broker::builder().retention_look_every(Duration::from_millis(1));
    let broker = often.clone().disk(disk.clone()).open().await.unwrap();
    let settings = TopicSettings {
        compact: true,
        retention_bytes: Some(64 << 20),
        ..TopicSettings::default()
    };
    let how = CreateTopic {
        settings,
        ..CreateTopic::default()
    };
    let made = broker.create_topic(topic("t"), how).await.unwrap();
    assert!(made.settings.compact);
    let data = format!("\"{}\"", "x".repeat(10_000));
    for turn in 0..400 {
        let of_key = |key| {
            let number = turn * KEYS + key;
            let keyed = event(number, Some(&format!("key-{key}"))).to_builder();
            keyed
                .data("application/json", data.clone())
                .build()
                .unwrap()
        };
        let events = (0..KEYS).map(of_key).collect();
        broker.bus().publish(topic("t"), events).await.unwrap();
    }
    let end = 400 * KEYS;
    // Closing makes the checkpoint that names the segments.
    broker.close().await;
    let broker = often.disk(disk).open().await.unwrap();
    let before = broker.topic(&topic("t")).unwrap().partitions[0].size_bytes;
    let size = || broker.topic(&topic("t")).unwrap().partitions[0].size_bytes;
    while size() > before / 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bounds(&broker), (0, end));
    let mut member = join(&broker, "g", "t", Order::PerPartition).await;
    let mut latest = BTreeMap::new();
    while position(&broker, "g").1 > 0 {
        for (delivery, settle) in member.pull(100).await.unwrap() {
            let event = delivery.event;
            latest.insert(event.key().unwrap().to_owned(), event.id().to_string());
            settle.settle(Commit::ack()).await.unwrap();
        }
    }
    let expected = (0..KEYS).map(|key| {
        let number = 399 * KEYS + key;
        (format!("key-{key}"), number.to_string())
    });
    assert_eq!(latest, expected.collect());
    broker.close().await;
}
