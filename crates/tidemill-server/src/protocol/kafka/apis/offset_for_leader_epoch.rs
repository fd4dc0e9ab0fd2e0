//! `OffsetForLeaderEpoch` (23), versions 2 to 4: where the records of a leader's epoch end, so that
//! a consumer learns whether what it has read is still there.
//!
//! An epoch is one opening of the data. Deviations: none; the place is searched for among the
//! batches, each of which has its epoch.

use std::time::Duration;

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{ApiKey, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use tidemill_broker::{FetchBatches, Isolation, PartitionInfo, TopicInfo};
use tidemill_core::{Offset, TopicName};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct OffsetForLeaderEpoch;

impl Api for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    type Response = OffsetForLeaderEpochResponse;
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    const VERSIONS: [i16; 2] = [2, 4];
    const SHAPE: &'static Shape = &shapes::OFFSET_FOR_LEADER_EPOCH;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Topic)];

    async fn answer(
        call: Call,
        request: OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let mut topics = Vec::new();
        let access = call.access();
        for topic in request.topics {
            let may = access.topic(Operation::Describe, &topic.topic);
            let name = convert::topic(&topic.topic);
            let info = name.ok().and_then(|name| call.broker.topic(&name));
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let found = match may {
                    Ok(()) => find(&call, info.as_ref(), &asked).await,
                    Err(code) => Err(code),
                };
                let result = EpochEndOffset::default()
                    .with_partition(asked.partition)
                    .with_error_code(error::code_of(&found));
                partitions.push(match found {
                    Ok((epoch, end)) => result
                        .with_leader_epoch(epoch)
                        .with_end_offset(convert::wire_offset(end)),
                    Err(_) => result.with_leader_epoch(-1).with_end_offset(-1),
                });
            }
            topics.push(
                OffsetForLeaderTopicResult::default()
                    .with_topic(topic.topic)
                    .with_partitions(partitions),
            );
        }
        OffsetForLeaderEpochResponse::default().with_topics(topics)
    }
}

/// The newest epoch up to the one that is asked for, and where it ends.
async fn find(
    call: &Call,
    info: Option<&TopicInfo>,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, Offset), Code> {
    let info = info.ok_or(Code::UnknownTopicOrPartition)?;
    let partition = convert::partition(asked.partition)?;
    let mut there = info.partitions.iter();
    let there = there.find(|there| there.partition == partition);
    let there = there.ok_or(Code::UnknownTopicOrPartition)?;
    let now = convert::leader_epoch(call.broker.incarnation());
    match asked.current_leader_epoch {
        -1 => {}
        known if known < now => return Err(Code::FencedLeaderEpoch),
        known if known > now => return Err(Code::UnknownLeaderEpoch),
        _ => {}
    }
    if asked.leader_epoch > now {
        return Err(Code::UnknownLeaderEpoch);
    }
    if asked.leader_epoch == now {
        return Ok((now, there.high_watermark));
    }
    search(call, &info.name, there, asked.leader_epoch).await
}

/// Halves the offsets until the first batch of a later epoch is found.
async fn search(
    call: &Call,
    topic: &TopicName,
    there: &PartitionInfo,
    epoch: i32,
) -> Result<(i32, Offset), Code> {
    // What lies before `low` is of the epoch or older, what lies from `high` on is newer.
    let (mut low, mut high) = (there.earliest, there.high_watermark);
    let mut newest = epoch;
    while low < high {
        let middle = Offset(low.0 + (high.0 - low.0) / 2);
        let fetch = FetchBatches {
            topic: topic.clone(),
            partition: there.partition,
            offset: middle,
            max_bytes: 1,
            isolation: Isolation::ReadUncommitted,
            wait: Duration::ZERO,
        };
        let fetched = call.broker.fetch_batches(fetch).await;
        let batches = fetched.map_err(|why| error::fetch(&why))?.batches;
        // A batch may begin before the offset, or behind it where records were deleted.
        match batches.first() {
            Some(batch) if batch.leader_epoch() <= epoch => {
                newest = batch.leader_epoch();
                low = batch.next_offset().max(middle.next());
            }
            Some(batch) => high = batch.base_offset().min(middle),
            None => high = middle,
        }
    }
    Ok((newest, high.max(low)))
}
