//! `OffsetDelete` (47), version 0: positions of a group are forgotten, but for those in topics
//! that its members read.

use std::collections::BTreeSet;

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetDeleteRequest, OffsetDeleteResponse};
use tidemill_broker::{ClassicDescription, ConsumerDescription};

use super::super::access::{Kind, Needs, Operation};
use super::super::consumer;
use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// See the module.
pub(in super::super) struct OffsetDelete;

impl Api for OffsetDelete {
    type Request = OffsetDeleteRequest;
    type Response = OffsetDeleteResponse;
    const KEY: ApiKey = ApiKey::OffsetDelete;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::OFFSET_DELETE;
    const NEEDS: Needs = &[
        (Operation::Delete, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        match delete(&call, request).await {
            Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
            Err(code) => OffsetDeleteResponse::default().with_error_code(code.code()),
        }
    }
}

/// The topics that the members read; `None` where nobody but them can tell.
fn read(group: &ClassicDescription) -> Option<BTreeSet<String>> {
    let mut topics = BTreeSet::new();
    for member in &group.members {
        topics.extend(consumer::subscription(
            &group.protocol_type,
            &member.metadata,
        )?);
    }
    Some(topics)
}

/// The topics that members of a consumer group read.
fn read_by_consumers(group: &ConsumerDescription) -> BTreeSet<String> {
    let members = || group.members.iter();
    let named = members().flat_map(|member| &member.topics);
    let matching = members().flat_map(|member| &member.target);
    let matching = matching.map(|topic| &topic.name);
    named.chain(matching).map(ToString::to_string).collect()
}

async fn delete(
    call: &Call,
    request: OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, Code> {
    let access = call.access();
    access.group(Operation::Delete, &request.group_id)?;
    let name = group::name(&request.group_id)?;
    let groups = call.broker.classic_groups();
    let read = match call.broker.consumer_groups().describe(&name) {
        Some(known) => read_by_consumers(&known),
        None => {
            let known = groups.describe(&name).ok_or(Code::GroupIdNotFound)?;
            read(&known).ok_or(Code::NonEmptyGroup)?
        }
    };
    let mut removed = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let may = access.topic(Operation::Read, &topic.name);
        let ours = convert::topic(&topic.name).ok();
        let info = ours.and_then(|name| call.broker.topic(&name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let index = convert::partition(asked.partition_index);
            let there = info.as_ref().zip(index.ok());
            let there = there.filter(|(info, index)| (index.0 as usize) < info.partitions.len());
            let code = match there {
                _ if may.is_err() => Code::TopicAuthorizationFailed.code(),
                None => Code::UnknownTopicOrPartition.code(),
                Some(_) if read.contains(topic.name.as_str()) => {
                    Code::GroupSubscribedToTopic.code()
                }
                Some((info, index)) => {
                    removed.push((info.name.clone(), index));
                    NONE
                }
            };
            partitions.push(
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code),
            );
        }
        topics.push(
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    let done = groups.remove_offsets(&name, &removed).await;
    done.map_err(|why| error::classic(&why))?;
    Ok(topics)
}
