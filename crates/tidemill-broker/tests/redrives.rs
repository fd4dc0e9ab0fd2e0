//! What is redriven is byte for byte what failed, also where a stranger wrote it, and letters
//! that failed as letters are letters again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use support::{give_up, group, topic};
use tidemill_broker::{
    BatchBuilder, Begins, Broker, CreateTopic, DeadLetterError, EPOCH_JOIN, FetchBatches,
    Isolation, Produce, ShareAcknowledgement, ShareBounds, ShareHeartbeat, SharePart,
    ShareSettings, ShareVerdict,
};
use tidemill_core::{Event, EventId, EventType, Offset, Partition, Source};

type Given = Option<&'static [u8]>;
type Header = (&'static str, Given);

/// Key, value and headers.
type Written = (Option<Bytes>, Option<Bytes>, Vec<(String, Option<Bytes>)>);

const STRUCTURED: &str = r#"{ "specversion":"1.0", "type":"made","source":"/s","id":"1","data":7}"#;

/// Records as strangers write them, none of which is its event's.
fn strange() -> Vec<Written> {
    let event: [Header; 4] = [
        ("ce_specversion", Some(b"1.0")),
        ("ce_type", Some(b"made")),
        ("ce_source", Some(b"/s")),
        ("ce_id", Some(b"1")),
    ];
    let traced: Vec<Header> = std::iter::once(("trace", Some(&b"\xff\x00"[..])))
        .chain(event)
        .collect();
    let records: [(Given, Given, Vec<Header>); 7] = [
        (Some(b"\xff\x00key"), Some(b"\xfe"), vec![]),
        (
            None,
            Some(b"x"),
            vec![("b", None), ("a", Some(b"1")), ("b", Some(b""))],
        ),
        (Some(b"k"), None, vec![]),
        (Some(b""), Some(b""), vec![]),
        (
            Some(b"k"),
            Some(STRUCTURED.as_bytes()),
            vec![("content-type", Some(b"application/cloudevents+json"))],
        ),
        (Some(b"k"), Some(b"7"), traced),
        (Some(&[b'k'; 9000]), Some(b"long"), vec![]),
    ];
    let owned = records.into_iter().map(|(key, value, headers)| {
        let headers = headers.into_iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.map(Bytes::from)));
        (
            key.map(Bytes::from),
            value.map(Bytes::from),
            headers.collect(),
        )
    });
    owned.collect()
}

/// Appends them to the last partition of the topic, wherever their keys belong.
async fn write(broker: &Broker, name: &str, records: &[Written]) {
    let mut builder = BatchBuilder::new();
    for (key, value, headers) in records {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_deref()));
        let pushed = builder.push(1, key.as_deref(), value.as_deref(), headers);
        pushed.unwrap();
    }
    let last = broker.topic(&topic(name)).unwrap().partitions.len() - 1;
    let produce = Produce {
        topic: topic(name),
        partition: Partition(last as u32),
        batch: builder.finish().unwrap().try_into().unwrap(),
        begins: Begins::default(),
    };
    broker.produce(produce).await.unwrap();
}

async fn read(broker: &Broker, name: &str, partition: Partition, from: Offset) -> Vec<Written> {
    let fetch = FetchBatches {
        topic: topic(name),
        partition,
        offset: from,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
        wait: Duration::ZERO,
    };
    let fetched = broker.fetch_batches(fetch).await.unwrap();
    let mut found = Vec::new();
    for batch in &fetched.batches {
        for record in batch.checked_records().unwrap().map(Result::unwrap) {
            if record.offset >= from {
                let headers = record.headers.iter();
                let headers = headers.map(|header| (header.name.to_owned(), header.value));
                let headers = headers.collect();
                found.push((record.key.clone(), record.value.clone(), headers));
            }
        }
    }
    found
}

/// A group gives up so many events of a topic.
async fn bury(broker: &Broker, of: &str, by: &str, count: usize) {
    give_up(broker, by, of, count, &format!("no card for {by}")).await;
}

/// Gives back all dead letters of a group; where they are now.
async fn redrive(broker: &Broker, by: &str, to: Option<&str>) -> Vec<(Partition, Offset)> {
    let found = broker.dead_letters(&group(by), None, 100).await.unwrap();
    let mut places = Vec::new();
    for one in found.letters {
        let place = (one.partition, one.offset);
        let at = broker.redrive(&group(by), place, to.map(topic)).await;
        let at = at.unwrap();
        places.push((at.partition, at.offset));
    }
    places
}

async fn create(broker: &Broker, partitions: u32) {
    let how = CreateTopic {
        partitions,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("orders"), how).await.unwrap();
    let other = broker.create_topic(topic("by-hand"), CreateTopic::default());
    other.await.unwrap();
}

#[tokio::test]
async fn what_strangers_wrote_is_redriven_byte_for_byte_into_its_partition() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path()).await.unwrap();
    create(&broker, 3).await;
    let records = strange();
    write(&broker, "orders", &records).await;
    bury(&broker, "orders", "billing", records.len()).await;
    broker.close().await;

    let broker = Broker::open(folder.path()).await.unwrap();
    let places = redrive(&broker, "billing", None).await;
    let count = records.len() as u64;
    let there = (count..2 * count).map(|offset| (Partition(2), Offset(offset)));
    assert_eq!(places, there.collect::<Vec<_>>());
    let again = read(&broker, "orders", Partition(2), Offset(count)).await;
    assert_eq!(again, records);
    broker.close().await;
}

#[tokio::test]
async fn what_members_of_a_share_group_reject_is_redriven_byte_for_byte() {
    let broker = Broker::in_memory();
    create(&broker, 1).await;
    let records = strange();
    write(&broker, "orders", &records).await;
    let groups = broker.share_groups();
    let g = group("g");
    let settings = ShareSettings {
        from_beginning: Some(true),
        ..ShareSettings::default()
    };
    groups.set(&g, settings).await.unwrap();
    let join = ShareHeartbeat {
        member: "m".into(),
        epoch: EPOCH_JOIN,
        topics: Some(BTreeSet::from([topic("orders")])),
        ..ShareHeartbeat::default()
    };
    groups.heartbeat(&g, join).await.unwrap();
    let part = SharePart {
        topic: broker.topic(&topic("orders")).unwrap().id,
        partition: Partition(0),
    };
    let parts = [part];
    let bounds = ShareBounds {
        records_max: 100,
        bytes_max: 1 << 20,
    };
    let (wait, mut room) = (Duration::ZERO, |_| true);
    let member = "m".into();
    let taken = groups.take(&g, &member, &parts, bounds, wait, &mut room);
    let mut taken = taken.await.unwrap().remove(0).unwrap();
    std::mem::take(&mut taken.hold).sent();
    let said = ShareAcknowledgement {
        first: Offset(0),
        last: Offset(records.len() as u64 - 1),
        verdicts: vec![ShareVerdict::Reject],
    };
    let said = groups.acknowledge(&g, &member, vec![(part, vec![said])]);
    said.await.unwrap().remove(0).unwrap();

    redrive(&broker, "g", Some("by-hand")).await;
    let again = read(&broker, "by-hand", Partition(0), Offset(0)).await;
    assert_eq!(again, records);
    broker.close().await;
}

#[tokio::test]
async fn a_letter_that_failed_as_a_letter_is_that_letter_again() {
    let broker = Broker::in_memory();
    create(&broker, 1).await;
    let records = strange();
    write(&broker, "orders", &records).await;
    let (id, ty) = (EventId::new("1").unwrap(), EventType::new("made").unwrap());
    let event = Event::builder(id, Source::new("/test").unwrap(), ty);
    let event = event.data("application/json", "7").build().unwrap();
    let published = vec![event.clone()];
    broker
        .bus()
        .publish(topic("orders"), published)
        .await
        .unwrap();
    let count = records.len() + 1;
    bury(&broker, "orders", "billing", count).await;
    let letters = broker.dead_letters(&group("billing"), None, 100).await;
    let letters = letters.unwrap().letters;
    let kept = read(&broker, "billing.deadletter", Partition(0), Offset(0)).await;
    bury(&broker, "billing.deadletter", "undertaker", count).await;

    redrive(&broker, "undertaker", None).await;
    let from = Offset(count as u64);
    let again = read(&broker, "billing.deadletter", Partition(0), from).await;
    assert_eq!(again, kept);
    let (billing, from) = (group("billing"), Some((Partition(0), from)));
    let listed = broker.dead_letters(&billing, from, 100);
    let listed = listed.await.unwrap().letters;
    let failures = |of: &[tidemill_broker::ParkedLetter]| -> Vec<_> {
        of.iter().map(|one| one.letter.clone()).collect()
    };
    assert_eq!(failures(&listed), failures(&letters));

    // And what it is a letter of is as it was.
    for one in listed {
        let place = (one.partition, one.offset);
        let to = Some(topic("by-hand"));
        broker.redrive(&group("billing"), place, to).await.unwrap();
    }
    let again = read(&broker, "by-hand", Partition(0), Offset(0)).await;
    assert_eq!(again[..records.len()], records);
    assert_eq!(again.len(), count);
    broker.close().await;
}

#[tokio::test]
async fn nothing_is_put_among_the_dead_letters_of_another_group_that_is_none_of_them() {
    let broker = Broker::in_memory();
    create(&broker, 1).await;
    write(&broker, "orders", &strange()[..1]).await;
    bury(&broker, "orders", "billing", 1).await;
    let place = (Partition(0), Offset(0));
    for name in ["shipping.deadletter", "billing.deadletter"] {
        let to = Some(topic(name));
        let refused = broker.redrive(&group("billing"), place, to).await;
        let refused = refused.unwrap_err();
        let is_it = matches!(refused, DeadLetterError::NotItsLetters { .. });
        assert!(is_it, "{refused:?}");
        assert!(
            refused.to_string().contains("name another topic"),
            "{refused}"
        );
    }
    // It is still there.
    broker
        .redrive(&group("billing"), place, None)
        .await
        .unwrap();
    broker.close().await;
}
