//! `DescribeShareGroupOffsets` (90), version 0: the first offset that share groups have not settled
//! in partitions, in those that are named or in all in which they have a position.
//!
//! Where a group has no position, or there is no such topic or partition, the offset is -1, as in
//! Apache Kafka.
//!
//! Deviations: a position is of a group's kind at the moment, and was perhaps set by members of
//! another one. The epoch is the one of the node, not of who said it last.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse,
};
use tidemill_broker::SharePart;
use tidemill_core::{Offset, TopicId};

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::{group, share_offsets};

/// The offset where there is no position.
const NOWHERE: i64 = -1;

/// See the module.
pub(in super::super) struct DescribeShareGroupOffsets;

impl Api for DescribeShareGroupOffsets {
    type Request = DescribeShareGroupOffsetsRequest;
    type Response = DescribeShareGroupOffsetsResponse;
    const KEY: ApiKey = ApiKey::DescribeShareGroupOffsets;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_SHARE_GROUP_OFFSETS;
    const NEEDS: Needs = &[
        (Operation::Describe, Kind::Group),
        (Operation::Describe, Kind::Topic),
    ];

    async fn answer(
        call: Call,
        request: DescribeShareGroupOffsetsRequest,
    ) -> DescribeShareGroupOffsetsResponse {
        let access = call.access();
        let groups = request.groups.into_iter().map(|asked| {
            let answer = DescribeShareGroupOffsetsResponseGroup::default();
            let answer = answer.with_group_id(asked.group_id.clone());
            match describe(&call, &access, asked) {
                Ok(topics) => answer.with_topics(topics),
                Err(refused) => answer
                    .with_error_code(refused.code.code())
                    .with_error_message(refused.why.as_deref().map(convert::text)),
            }
        });
        DescribeShareGroupOffsetsResponse::default().with_groups(groups.collect())
    }
}

type Topic = DescribeShareGroupOffsetsResponseTopic;

fn describe(
    call: &Call,
    access: &Access,
    asked: DescribeShareGroupOffsetsRequestGroup,
) -> Result<Vec<Topic>, Refused> {
    access.group(Operation::Describe, &asked.group_id)?;
    let name = group::shown(&asked.group_id)?;
    let positions = call.broker.share_groups().positions(&name);
    let positions = positions.ok_or_else(|| group::not_described(call, &name, "share"))?;
    let epoch = convert::leader_epoch(call.broker.incarnation());
    Ok(match asked.topics {
        Some(topics) => {
            let known = positions.into_iter().collect();
            let topics = topics.into_iter();
            let topics = topics.map(|topic| named((call, access), topic, &known, epoch));
            topics.collect()
        }
        None => all((call, access), positions, epoch),
    })
}

fn named(
    (call, access): (&Call, &Access),
    asked: DescribeShareGroupOffsetsRequestTopic,
    known: &BTreeMap<SharePart, Offset>,
    epoch: i32,
) -> Topic {
    let may = access.topic(Operation::Describe, &asked.topic_name);
    let there = share_offsets::topic(call, access, Operation::Describe, &asked.topic_name);
    let topic = there.ok().map(|info| info.id);
    let partitions = asked.partitions.into_iter().map(|index| {
        let part = topic.zip(convert::partition(index).ok());
        let part = part.map(|(topic, partition)| SharePart { topic, partition });
        let offset = part.and_then(|part| known.get(&part));
        partition(index, offset, epoch, may)
    });
    Topic::default()
        .with_topic_id(topic.map(convert::wire_id).unwrap_or_default())
        .with_topic_name(asked.topic_name)
        .with_partitions(partitions.collect())
}

/// All positions in topics that who asks may see.
fn all(
    (call, access): (&Call, &Access),
    positions: Vec<(SharePart, Offset)>,
    epoch: i32,
) -> Vec<Topic> {
    let mut topics: BTreeMap<TopicId, Option<Topic>> = BTreeMap::new();
    for (part, offset) in positions {
        let topic = topics.entry(part.topic).or_insert_with(|| {
            let name = call.broker.topic_name(part.topic)?;
            access.topic(Operation::Describe, name.as_str()).ok()?;
            let topic = Topic::default().with_topic_name(convert::wire_topic(&name));
            Some(topic.with_topic_id(convert::wire_id(part.topic)))
        });
        if let Some(topic) = topic {
            let index = convert::wire_partition(part.partition);
            topic
                .partitions
                .push(partition(index, Some(&offset), epoch, Ok(())));
        }
    }
    topics.into_values().flatten().collect()
}

fn partition(
    index: i32,
    offset: Option<&Offset>,
    epoch: i32,
    may: Result<(), Code>,
) -> DescribeShareGroupOffsetsResponsePartition {
    let answer = DescribeShareGroupOffsetsResponsePartition::default().with_partition_index(index);
    match (may, offset) {
        (Err(code), _) => answer
            .with_start_offset(NOWHERE)
            .with_error_code(code.code()),
        (Ok(()), None) => answer.with_start_offset(NOWHERE),
        (Ok(()), Some(offset)) => answer
            .with_start_offset(convert::wire_offset(*offset))
            .with_leader_epoch(epoch),
    }
}
