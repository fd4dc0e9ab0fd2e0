//! `ListOffsets` (2), versions 1 to 8: where a partition begins and ends, and where a time is.
//!
//! Deviations: the largest time of a partition (-3, from version 7 on) is searched for, and
//! answered with the first record of it or later; the log is local as a whole (-4 is -2).

use jiff::Timestamp;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest, ListOffsetsResponse};
use std::time::Duration;
use tidemill_broker::{FetchBatches, Isolation, PartitionInfo};
use tidemill_core::{Offset, Partition, TopicName};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// Where the next record goes.
const LATEST: i64 = -1;
/// The first record that is kept.
const EARLIEST: i64 = -2;
/// The record with the largest time.
const MAX_TIMESTAMP: i64 = -3;
/// The first record that is kept on this node's disk.
const EARLIEST_LOCAL: i64 = -4;
/// No time.
const NO_TIME: i64 = -1;

/// See the module.
pub(in super::super) struct ListOffsets;

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;
    type Response = ListOffsetsResponse;
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: [i16; 2] = [1, 8];
    const SHAPE: &'static Shape = &shapes::LIST_OFFSETS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Topic)];

    async fn answer(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let committed = request.isolation_level == 1;
        let mut topics = Vec::new();
        let access = call.access();
        for topic in request.topics {
            let may = access.topic(Operation::Describe, &topic.name);
            let name = convert::topic(&topic.name);
            let info = name.ok().and_then(|name| call.broker.topic(&name));
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let found = match &info {
                    _ if may.is_err() => Err(Code::TopicAuthorizationFailed),
                    Some(info) => {
                        let there = partition_of(&info.partitions, asked.partition_index);
                        let place = there.map(|there| (&info.name, there));
                        find(&call, place, committed, asked.timestamp).await
                    }
                    None => Err(Code::UnknownTopicOrPartition),
                };
                partitions.push(response(&call, &asked, found));
            }
            topics.push(
                ListOffsetsTopicResponse::default()
                    .with_name(topic.name)
                    .with_partitions(partitions),
            );
        }
        ListOffsetsResponse::default().with_topics(topics)
    }
}

fn partition_of(partitions: &[PartitionInfo], index: i32) -> Option<&PartitionInfo> {
    partitions.get(usize::try_from(index).ok()?)
}

fn response(
    call: &Call,
    asked: &ListOffsetsPartition,
    found: Result<(i64, Option<Offset>), Code>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_error_code(error::code_of(&found));
    let Ok((time, Some(offset))) = found else {
        return response.with_timestamp(NO_TIME).with_offset(-1);
    };
    let response = response
        .with_timestamp(time)
        .with_offset(convert::wire_offset(offset));
    match call.version >= 4 {
        true => response.with_leader_epoch(convert::leader_epoch(call.broker.incarnation())),
        false => response,
    }
}

/// The place of a time, and the time of what is there; no place where nothing is so late.
async fn find(
    call: &Call,
    place: Option<(&TopicName, &PartitionInfo)>,
    committed: bool,
    time_ms: i64,
) -> Result<(i64, Option<Offset>), Code> {
    let (topic, there) = place.ok_or(Code::UnknownTopicOrPartition)?;
    let (end, isolation) = match committed {
        true => (there.end, Isolation::ReadCommitted),
        false => (there.high_watermark, Isolation::ReadUncommitted),
    };
    match time_ms {
        LATEST => Ok((NO_TIME, Some(end))),
        EARLIEST | EARLIEST_LOCAL => Ok((NO_TIME, Some(there.earliest))),
        MAX_TIMESTAMP if call.version >= 7 => latest(call, topic, there, isolation).await,
        0.. => since(call, topic, there, isolation, time_ms).await,
        _ => Err(Code::UnsupportedVersion),
    }
}

/// The first record of this time or later.
async fn since(
    call: &Call,
    topic: &TopicName,
    there: &PartitionInfo,
    isolation: Isolation,
    time_ms: i64,
) -> Result<(i64, Option<Offset>), Code> {
    let Ok(time) = Timestamp::from_millisecond(time_ms) else {
        // Nothing is so late.
        return Ok((NO_TIME, None));
    };
    let broker = &call.broker;
    let found = broker.offset_since_of_all(topic, there.partition, time);
    let offset = found.await.map_err(|why| error::fetch(&why))?;
    let place = (topic, there.partition, offset);
    match time_at(call, place, isolation, time_ms).await? {
        Some((time_ms, offset)) => Ok((time_ms, Some(offset))),
        None => Ok((NO_TIME, None)),
    }
}

/// The time and the offset of the first record from an offset on that has this time or a later
/// one; `None` where there is none, or where it is not decided yet and only the rest is wanted.
async fn time_at(
    call: &Call,
    (topic, partition, offset): (&TopicName, Partition, Offset),
    isolation: Isolation,
    time_ms: i64,
) -> Result<Option<(i64, Offset)>, Code> {
    let fetch = FetchBatches {
        topic: topic.clone(),
        partition,
        offset,
        max_bytes: 1,
        isolation,
        wait: Duration::ZERO,
    };
    let fetched = call.broker.fetch_batches(fetch).await;
    let batches = fetched.map_err(|why| error::fetch(&why))?.batches;
    let records = batches.iter().filter(|batch| !batch.is_control());
    let mut records = records.flat_map(|batch| batch.records().map_while(Result::ok));
    let first = records.find(|record| record.offset >= offset && record.timestamp_ms >= time_ms);
    Ok(first.map(|record| (record.timestamp_ms, record.offset)))
}

/// The first record with the largest time: halves the span of times as long as there is a record
/// of the later half.
async fn latest(
    call: &Call,
    topic: &TopicName,
    there: &PartitionInfo,
    isolation: Isolation,
) -> Result<(i64, Option<Offset>), Code> {
    let mut best = since(call, topic, there, isolation, 0).await?;
    // What may be the largest time: one that there is, and one that there is none of.
    let mut none = Timestamp::MAX.as_millisecond();
    while best.1.is_some() && best.0 + 1 < none {
        let middle = best.0 + (none - best.0) / 2;
        match since(call, topic, there, isolation, middle).await? {
            (time, Some(offset)) => best = (time, Some(offset)),
            (_, None) => none = middle,
        }
    }
    Ok(best)
}
