//! `AlterShareGroupOffsets` (91), version 0: a share group without members goes on at other
//! offsets. What of a request is done is done together, and durable when it is answered.
//!
//! What is refused as a whole is refused for each partition, too: Kafka's clients of 4.1 look at
//! these alone.
//!
//! Deviations: an offset above the next one of its partition is refused, as what would be settled
//! then is not there yet; one below the first that is kept is taken, and what is gone is passed.

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, ApiKey,
};
use tidemill_broker::{SharePart, TopicInfo};
use tidemill_core::Offset;

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::{group, share_offsets};

/// See the module.
pub(in super::super) struct AlterShareGroupOffsets;

impl Api for AlterShareGroupOffsets {
    type Request = AlterShareGroupOffsetsRequest;
    type Response = AlterShareGroupOffsetsResponse;
    const KEY: ApiKey = ApiKey::AlterShareGroupOffsets;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::ALTER_SHARE_GROUP_OFFSETS;
    const NEEDS: Needs = &[
        (Operation::Read, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(
        call: Call,
        request: AlterShareGroupOffsetsRequest,
    ) -> AlterShareGroupOffsetsResponse {
        let answer = AlterShareGroupOffsetsResponse::default();
        let asked = request.topics.clone();
        match alter(&call, request).await {
            Ok(topics) => answer.with_responses(topics),
            Err(refused) => answer
                .with_error_code(refused.code.code())
                .with_responses(each(asked, refused.code))
                .with_error_message(refused.why.as_deref().map(convert::text)),
        }
    }
}

type Topic = AlterShareGroupOffsetsResponseTopic;

/// What is refused as a whole is refused for each partition.
fn each(asked: Vec<AlterShareGroupOffsetsRequestTopic>, code: Code) -> Vec<Topic> {
    let topics = asked.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|one| {
            AlterShareGroupOffsetsResponsePartition::default()
                .with_partition_index(one.partition_index)
                .with_error_code(code.code())
        });
        Topic::default()
            .with_partitions(partitions.collect())
            .with_topic_name(topic.topic_name)
    });
    topics.collect()
}

async fn alter(call: &Call, request: AlterShareGroupOffsetsRequest) -> Result<Vec<Topic>, Refused> {
    let access = call.access();
    access.group(Operation::Read, &request.group_id)?;
    let name = group::told(&request.group_id)?;
    let mut places = Vec::new();
    let topics = request.topics.into_iter();
    let topics: Vec<_> = topics
        .map(|topic| judge((call, &access), topic, &mut places))
        .collect();
    let done = call.broker.share_groups().seek(&name, &places).await;
    done.map_err(share_offsets::refused)?;
    Ok(topics)
}

/// What is answered of a topic; where its partitions are to go on is among `places` then.
fn judge(
    (call, access): (&Call, &Access),
    asked: AlterShareGroupOffsetsRequestTopic,
    places: &mut Vec<(SharePart, Offset)>,
) -> Topic {
    let topic = share_offsets::topic(call, access, Operation::Read, &asked.topic_name);
    let id = topic.as_ref().map(|topic| convert::wire_id(topic.id));
    let partitions = asked.partitions.into_iter().map(|one| {
        let place = topic.as_ref().map_err(|code| *code);
        let place = place.and_then(|topic| place_of(topic, &one));
        let code = error::code_of(&place);
        places.extend(place);
        AlterShareGroupOffsetsResponsePartition::default()
            .with_partition_index(one.partition_index)
            .with_error_code(code)
    });
    Topic::default()
        .with_partitions(partitions.collect())
        .with_topic_id(id.unwrap_or_default())
        .with_topic_name(asked.topic_name)
}

fn place_of(
    topic: &TopicInfo,
    asked: &AlterShareGroupOffsetsRequestPartition,
) -> Result<(SharePart, Offset), Code> {
    let partition = convert::partition(asked.partition_index)?;
    let there = topic.partitions.get(partition.0 as usize);
    let there = there.ok_or(Code::UnknownTopicOrPartition)?;
    let offset = u64::try_from(asked.start_offset).map(Offset);
    let offset = offset.map_err(|_| Code::OffsetOutOfRange)?;
    if offset > there.high_watermark {
        return Err(Code::OffsetOutOfRange);
    }
    let part = SharePart {
        topic: topic.id,
        partition,
    };
    Ok((part, offset))
}
