//! What waits for room in the log: woken when there is some, and asked for its permission again.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Kind, Operation};
use super::permissions::{House, allow};
use super::*;
use crate::limits::KAFKA_ROOM_LOOK_AGAIN;
use crate::permissions::rule::Rule;

/// A batch for each of two partitions.
fn request(by_id: Option<TopicId>, timeout_ms: i32) -> ProduceRequest {
    let data = |index| {
        let batch = builder(1, b"x").finish().unwrap();
        let records = Bytes::copy_from_slice(batch.as_bytes());
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(records))
    };
    let named = match by_id {
        Some(id) => TopicProduceData::default().with_topic_id(convert::wire_id(id)),
        None => TopicProduceData::default().with_name(convert::wire_topic(&topic())),
    };
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(vec![named.with_partition_data(vec![data(0), data(1)])])
}

/// All that may wait to be written.
fn fill(door: &Door) -> Share {
    let all = door.memory.free(Class::Writes);
    door.memory.take(Class::Writes, all).unwrap()
}

fn codes(response: &ProduceResponse) -> Vec<i16> {
    let parts = response.responses[0].partition_responses.iter();
    parts.map(|part| part.error_code).collect()
}

fn waits(produced: std::pin::Pin<&mut impl Future<Output = ProduceResponse>>) {
    let polled = produced.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending));
}

/// Where it looked again by a clock, time would have to pass: paused, it goes by itself where
/// nothing else does.
#[tokio::test(start_paused = true)]
async fn who_waits_for_room_is_woken_when_there_is_some() {
    let (door, _close) = door(broker(2, 1 << 24).await);
    for timeout_ms in [100, 30_000] {
        let full = fill(&door);
        let begun = Instant::now();
        let mut produced = pin!(Produce::answer(call(&door, 9), request(None, timeout_ms)));
        waits(produced.as_mut());
        drop(full);
        assert_eq!(codes(&produced.await), [0, 0]);
        assert!(begun.elapsed() < KAFKA_ROOM_LOOK_AGAIN / 4);
    }
    // Not for longer than it was asked to.
    let _full = fill(&door);
    let begun = Instant::now();
    let said = Produce::answer(call(&door, 9), request(None, 1_100)).await;
    assert_eq!(codes(&said), [Code::NotEnoughReplicas.code(); 2]);
    let waited = begun.elapsed().as_millis();
    assert!((1_100..1_200).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn who_may_not_write_any_more_when_there_is_room_is_refused() {
    let house = House::new().await;
    let id = house.id;
    let rules = |operations: &[Operation]| -> Vec<Rule> {
        let rules = operations.iter();
        rules
            .map(|operation| allow(*operation, Kind::Topic, "a"))
            .collect()
    };
    let ends = || {
        let topics = house.broker.topics();
        let parts = topics[0].partitions.iter();
        parts.map(|part| part.high_watermark.0).collect::<Vec<_>>()
    };
    for (version, by_id, left, refused) in [
        (9, None, &[][..], Code::TopicAuthorizationFailed),
        (
            13,
            Some(id),
            &[Operation::Describe][..],
            Code::TopicAuthorizationFailed,
        ),
        // Hidden by now.
        (13, Some(id), &[], Code::UnknownTopicId),
    ] {
        house.add(rules(&[Operation::Write]));
        let before = ends();
        let full = fill(&house.door);
        let answer = Produce::answer(house.call(version), request(by_id, 30_000));
        let mut produced = pin!(answer);
        waits(produced.as_mut());
        house.remove_all();
        house.add(rules(left));
        drop(full);
        // Also what had not begun to wait by then.
        assert_eq!(codes(&produced.await), [refused.code(); 2]);
        assert_eq!(ends(), before);
        house.remove_all();
    }
}

#[tokio::test]
async fn who_may_not_use_the_transactional_id_any_more_is_refused() {
    let house = House::new().await;
    let may = |operation, kind, name| allow(operation, kind, name);
    house.add(vec![
        may(Operation::Write, Kind::Topic, "a"),
        may(Operation::Write, Kind::TransactionalId, "t"),
    ]);
    let batch = part(house.producer, 10).batch;
    let data = PartitionProduceData::default().with_records(Some(batch.get().as_bytes().clone()));
    let named = TopicProduceData::default()
        .with_name(convert::wire_topic(&topic()))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_transactional_id(Some(super::permissions::text("t")))
        .with_topic_data(vec![named]);
    let full = fill(&house.door);
    let mut produced = pin!(Produce::answer(house.call(9), request));
    waits(produced.as_mut());
    house.remove_all();
    house.add(vec![may(Operation::Write, Kind::Topic, "a")]);
    drop(full);
    let refused = Code::TransactionalIdAuthorizationFailed.code();
    assert_eq!(codes(&produced.await), [refused]);
}
