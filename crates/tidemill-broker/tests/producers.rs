//! Idempotent producers against a broker on disk: what is sent again is kept once, also after a
//! restart, after an answer that never came, and while the first try is still being written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::gate::Gate;
use support::{both, events, topic};
use tidemill_broker::batch::Producer as Header;
use tidemill_broker::{
    Batch, BatchBuilder, Begins, Broker, CreateTopic, Produce, ProducerBatch, ProducerEpoch,
    ProducerError, ProducerId, ProducerIdentity, Sequence,
};
use tidemill_core::{Fetch, Offset, Partition, Position};
use tidemill_testkit::sim::SimDisk;

fn batch(who: ProducerIdentity, first: i32, count: u32) -> Batch {
    let mut builder = BatchBuilder::new().producer(Header {
        id: who.id.0,
        epoch: who.epoch.0,
        base_sequence: first,
    });
    for n in 0..count {
        let value = Sequence::new(first).unwrap().plus(n).to_string();
        builder
            .push(0, None, Some(value.as_bytes()), std::iter::empty())
            .unwrap();
    }
    builder.finish().unwrap()
}

fn produce(batch: Batch) -> Produce {
    Produce {
        topic: topic("t"),
        partition: Partition(0),
        batch: batch.try_into().unwrap(),
        begins: Begins::default(),
    }
}

async fn send(
    broker: &Broker,
    who: ProducerIdentity,
    first: i32,
    count: u32,
) -> Result<u64, ProducerError> {
    let sent = broker.produce(produce(batch(who, first, count))).await;
    sent.map(|offset| offset.0)
}

async fn create(broker: &Broker) {
    let how = CreateTopic {
        partitions: 2,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("t"), how).await.unwrap();
}

/// The values in partition 0, as numbers.
async fn values(broker: &Broker) -> Vec<i32> {
    let fetch = Fetch {
        topic: topic("t"),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10_000,
        max_bytes: 1 << 24,
        wait: Duration::ZERO,
    };
    let events = broker.bus().fetch(fetch).await.unwrap().events;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse().unwrap();
    let values = events.iter().map(|(_, event)| text(event.data().unwrap()));
    values.collect()
}

#[tokio::test]
async fn a_batch_sent_again_has_its_old_offset_and_a_gap_is_refused() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let who = broker.init_producer().unwrap();
        assert_eq!(send(&broker, who, 0, 3).await, Ok(0));
        assert_eq!(send(&broker, who, 3, 2).await, Ok(3));
        assert_eq!(send(&broker, who, 0, 3).await, Ok(0));
        assert_eq!(send(&broker, who, 3, 2).await, Ok(3));
        let gap = send(&broker, who, 6, 1).await.unwrap_err();
        let (found, expected) = (Sequence::new(6).unwrap(), Sequence::new(5).unwrap());
        let producer = who.id;
        let out_of_order = ProducerError::OutOfOrder {
            producer,
            found,
            expected,
        };
        assert_eq!(gap, out_of_order);
        assert!(!gap.is_retriable());
        assert_eq!(values(&broker).await, [0, 1, 2, 3, 4]);
        let metrics = broker.metrics();
        let counted = (metrics.published_events, metrics.repeated_events);
        assert_eq!((counted, metrics.publish_errors), ((5, 5), 1));
        let known = broker.producers(&topic("t"), Partition(0)).unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].last_sequence, Sequence::new(4));
        assert!(
            broker
                .producers(&topic("t"), Partition(1))
                .unwrap()
                .is_empty()
        );
        broker.close().await;
    }
}

#[tokio::test]
async fn copies_that_are_sent_at_once_are_written_once() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let who = broker.init_producer().unwrap();
        let sends = (0..40).map(|n| {
            let broker = broker.clone();
            // Each of four batches ten times, the copies of one in a row.
            tokio::spawn(async move { send(&broker, who, 2 * (n / 10), 2).await })
        });
        let sends: Vec<_> = sends.collect();
        for (n, sent) in sends.into_iter().enumerate() {
            let sent = sent.await.unwrap();
            // A task that came too early found a gap.
            let expected = 2 * (n as u64 / 10);
            let right = match &sent {
                Ok(offset) => *offset == expected,
                Err(error) => matches!(error, ProducerError::OutOfOrder { .. }),
            };
            assert!(right, "{n}: {sent:?}");
        }
        let values = values(&broker).await;
        let expected: Vec<i32> = (0..values.len() as i32).collect();
        assert!(!values.is_empty());
        assert_eq!(values, expected);
        broker.close().await;
    }
}

#[tokio::test]
async fn an_old_epoch_is_fenced_and_a_new_one_begins_anew() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let who = broker.init_producer().unwrap();
        let next = ProducerIdentity {
            epoch: ProducerEpoch(1),
            ..who
        };
        assert_eq!(send(&broker, who, 0, 2).await, Ok(0));
        let late = send(&broker, next, 2, 1).await;
        assert!(matches!(late, Err(ProducerError::OutOfOrder { .. })));
        assert_eq!(send(&broker, next, 0, 2).await, Ok(2));
        let old = send(&broker, who, 2, 1).await.unwrap_err();
        assert!(matches!(old, ProducerError::Fenced { .. }), "{old}");
        broker.close().await;
    }
}

#[tokio::test]
async fn sequences_wrap() {
    for (broker, folder) in both(|builder| builder).await {
        create(&broker).await;
        let who = broker.init_producer().unwrap();
        assert_eq!(send(&broker, who, i32::MAX - 1, 2).await, Ok(0));
        assert_eq!(send(&broker, who, 0, 2).await, Ok(2));
        broker.close().await;
        let Some(folder) = folder else { continue };
        let broker = folder.open().await;
        assert_eq!(send(&broker, who, i32::MAX - 1, 2).await, Ok(0));
        assert_eq!(send(&broker, who, 2, 1).await, Ok(4));
        let values = values(&broker).await;
        assert_eq!(values, [i32::MAX - 1, i32::MAX, 0, 1, 2]);
        broker.close().await;
    }
}

/// Once from the journal alone (the first broker is dropped while it is open) and once from a
/// snapshot.
#[tokio::test]
async fn what_is_known_of_a_producer_survives_restarts() {
    let disk = SimDisk::new(3);
    let open = |disk: &SimDisk| {
        let builder = Broker::builder().disk(Arc::new(disk.clone()));
        tokio::task::spawn_blocking(move || builder.open_blocking().unwrap())
    };
    let broker = open(&disk).await.unwrap();
    create(&broker).await;
    let who = broker.init_producer().unwrap();
    for n in 0..7 {
        assert_eq!(send(&broker, who, n * 2, 2).await, Ok(n as u64 * 2));
    }
    let mut disk = disk;
    let mut broker = broker;
    for closed in [false, true, false] {
        if closed {
            broker.close().await;
        }
        disk = disk.lose_power();
        drop(broker);
        broker = open(&disk).await.unwrap();
        let new = broker.init_producer().unwrap();
        assert!(new.id > who.id, "ids ascend");
        for n in 2..7 {
            assert_eq!(send(&broker, who, n * 2, 2).await, Ok(n as u64 * 2));
        }
        assert!(send(&broker, who, 0, 2).await.is_err(), "too old");
    }
    assert_eq!(send(&broker, who, 14, 1).await, Ok(14));
    broker.close().await;
}

#[tokio::test]
async fn what_is_no_producers_batch_is_refused() {
    let broker = Broker::in_memory();
    create(&broker).await;
    let never = ProducerIdentity {
        id: ProducerId(4711),
        epoch: ProducerEpoch(0),
    };
    let refused = send(&broker, never, 0, 1).await.unwrap_err();
    assert_eq!(refused, ProducerError::UnknownProducer(never.id));
    let who = broker.init_producer().unwrap();
    for (id, epoch, sequence) in [(who.id.0, -1, 0), (who.id.0, 0, -1)] {
        let header = Header {
            id,
            epoch,
            base_sequence: sequence,
        };
        let mut builder = BatchBuilder::new().producer(header);
        builder.push(0, None, None, std::iter::empty()).unwrap();
        let refused = broker.produce(produce(builder.finish().unwrap())).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, ProducerError::InvalidBatch(_)),
            "{refused}"
        );
    }
    let to = |name: &str, partition| Produce {
        topic: topic(name),
        partition: Partition(partition),
        batch: batch(who, 0, 1).try_into().unwrap(),
        begins: Begins::default(),
    };
    let refused = broker.produce(to("none", 0)).await.unwrap_err();
    assert_eq!(refused, ProducerError::UnknownTopic(topic("none")));
    let refused = broker.produce(to("t", 2)).await.unwrap_err();
    assert!(matches!(
        refused,
        ProducerError::UnknownPartition { count: 2, .. }
    ));
    broker.close().await;
    let refused = send(&broker, who, 0, 1).await.unwrap_err();
    assert!(matches!(refused, ProducerError::Unavailable(_)) && !refused.is_retriable());
}

/// A batch whose bytes were changed, with a checksum that fits them again.
fn lying(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in ["one", "two"] {
        builder
            .push(7, None, Some(value.as_bytes()), std::iter::empty())
            .unwrap();
    }
    let mut bytes = builder.finish().unwrap().as_bytes().to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// Nothing that [`Broker::produce`] takes can be made of a batch that lies.
#[test]
fn a_batch_that_lies_never_becomes_one_of_a_producer() {
    assert!(ProducerBatch::new(lying(|_| {})).is_ok());
    let set = |at: usize, field: i32| {
        move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&field.to_be_bytes())
    };
    let lies: [(&str, Bytes); 6] = [
        ("a last offset beyond the records", lying(set(23, 9))),
        ("fewer records than there are", lying(set(57, 1))),
        ("a record longer than it is", lying(|bytes| bytes[61] += 2)),
        ("another offset", lying(|bytes| bytes[64] += 2)),
        ("control records", lying(|bytes| bytes[22] |= 0x20)),
        ("the time of appending", lying(|bytes| bytes[22] |= 0x08)),
    ];
    for (lie, bytes) in lies {
        assert!(ProducerBatch::new(bytes.clone()).is_err(), "{lie}");
        let Ok((batch, _)) = Batch::parse(bytes) else {
            continue;
        };
        assert!(ProducerBatch::try_from(batch).is_err(), "{lie}");
    }
    let more = [lying(|_| {}), lying(|_| {})].concat();
    assert!(ProducerBatch::new(more.into()).is_err(), "two batches");
    let marker = tidemill_broker::batch::Marker::Commit.batch(1, 0, 0, 0);
    assert!(ProducerBatch::try_from(marker).is_err(), "a marker");
}

#[tokio::test]
async fn a_topic_made_again_knows_no_producer() {
    let broker = Broker::in_memory();
    create(&broker).await;
    let who = broker.init_producer().unwrap();
    assert_eq!(send(&broker, who, 0, 5).await, Ok(0));
    broker.delete_topic(&topic("t")).await.unwrap();
    create(&broker).await;
    // As its client goes on.
    assert_eq!(send(&broker, who, 5, 1).await, Ok(0));
    broker.close().await;
}

#[tokio::test]
async fn a_producer_of_the_program_numbers_its_events_and_sends_again_what_had_no_answer() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let mut producer = broker.producer().unwrap();
        let mut expected = Vec::new();
        for round in 0..20 {
            let events = events(round * 3, 3);
            expected.extend(events.iter().map(|event| event.id().to_string()));
            // Dropped after its first poll, when it is on its way: the next one sees to it.
            let name = topic("t");
            let publish = producer.publish(&name, &events);
            let dropped = tokio::time::timeout(Duration::ZERO, publish).await;
            if let Ok(published) = dropped {
                assert_eq!(published.unwrap().len(), 3);
            }
            // Sometimes by itself, sometimes before others.
            let more = events_of(round);
            expected.extend(more.iter().map(|event| event.id().to_string()));
            let published = producer.publish(&name, &more).await.unwrap();
            assert_eq!(published.len(), more.len());
        }
        let mut found = Vec::new();
        for partition in 0..2 {
            let fetch = Fetch {
                topic: topic("t"),
                partition: Partition(partition),
                offset: Offset(0),
                max_events: 1_000,
                max_bytes: 1 << 24,
                wait: Duration::ZERO,
            };
            let fetched = broker.bus().fetch(fetch).await.unwrap();
            found.extend(fetched.events.iter().map(|(_, e)| e.id().to_string()));
        }
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(broker.metrics().published_events, expected.len() as u64);
        broker.close().await;
    }
}

/// Once the second call sent the first one's batch, and then its own.
#[tokio::test]
async fn a_publish_that_is_made_again_without_an_answer_is_kept_once() {
    let (gate, disk) = Gate::new(16 << 20);
    let broker = Broker::builder().disk(disk).open().await.unwrap();
    let how = CreateTopic::default();
    broker.create_topic(topic("t"), how).await.unwrap();
    let mut producer = broker.producer().unwrap();
    let name = topic("t");
    gate.close();
    let first = events(0, 3);
    let publish = producer.publish(&name, &first);
    let dropped = tokio::time::timeout(Duration::ZERO, publish).await;
    assert!(dropped.is_err(), "nothing is durable yet");
    gate.open();
    let published = producer.publish(&name, &first).await.unwrap();
    let offsets = |of: &[Position]| of.iter().map(|at| at.offset.0).collect::<Vec<_>>();
    assert_eq!(offsets(&published), [0, 1, 2]);
    assert_eq!(producer.resume().await, Ok(None));
    // Answered, it is another publish.
    let published = producer.publish(&name, &first).await.unwrap();
    assert_eq!(offsets(&published), [3, 4, 5]);
    gate.close();
    let publish = producer.publish(&name, &first);
    let dropped = tokio::time::timeout(Duration::ZERO, publish).await;
    assert!(dropped.is_err());
    gate.open();
    let resumed = producer.resume().await.unwrap().unwrap();
    assert_eq!(offsets(&resumed), [6, 7, 8]);
    gate.fail();
    let lost = producer.publish(&name, &first).await.unwrap_err();
    assert!(matches!(lost, ProducerError::Indeterminate(_)), "{lost}");
    for _ in 0..2 {
        let lost = producer.publish(&name, &first).await.unwrap_err();
        assert!(matches!(lost, ProducerError::Unavailable(_)), "{lost}");
    }
    broker.close().await;
}

fn events_of(round: usize) -> Vec<tidemill_core::Event> {
    events(1_000 + round * 2, round % 3)
}

/// The power goes after each number of steps of the disk. What had no answer is sent again, and
/// is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_at_any_step_what_is_sent_again_is_kept_once() {
    const BATCHES: i32 = 6;
    for cut in 0.. {
        let disk = SimDisk::new(cut);
        let open = |disk: &SimDisk| {
            let builder = Broker::builder().disk(Arc::new(disk.clone()));
            tokio::task::spawn_blocking(move || builder.open_blocking())
        };
        let broker = open(&disk).await.unwrap().unwrap();
        create(&broker).await;
        let who = broker.init_producer().unwrap();
        disk.fail_after(Some(cut));
        let mut acknowledged = 0;
        for n in 0..BATCHES {
            match send(&broker, who, n * 2, 2).await {
                Ok(offset) => acknowledged = offset + 2,
                Err(_) => break,
            }
        }
        let disk = disk.lose_power();
        drop(broker);
        let broker = open(&disk).await.unwrap().unwrap();
        assert!(
            values(&broker).await.len() as u64 >= acknowledged,
            "cut {cut}"
        );
        // The client does not know how far it came, and sends the last five again.
        let unsure = (acknowledged as i32 / 2 - 4).max(0);
        for n in unsure..BATCHES {
            assert_eq!(
                send(&broker, who, n * 2, 2).await,
                Ok(n as u64 * 2),
                "cut {cut}"
            );
        }
        let all: Vec<i32> = (0..BATCHES * 2).collect();
        assert_eq!(values(&broker).await, all, "cut {cut}");
        broker.close().await;
        if acknowledged == BATCHES as u64 * 2 {
            assert!(cut > 5, "{cut} steps are too few to have been cut at");
            break;
        }
    }
}
