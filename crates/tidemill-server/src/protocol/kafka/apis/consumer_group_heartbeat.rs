//! `ConsumerGroupHeartbeat` (68), versions 0 and 1: a member of a consumer group (KIP-848) joins,
//! says that it lives and what it has, or leaves, and is told what it is to have.
//!
//! Deviations: members are in memory, so that after a restart of the server they are unknown, and
//! join again by themselves. A group with classic members does not turn into a consumer group
//! while it has them. Regular expressions are those of the crate `regex-lite`: without classes of
//! Unicode and without `\Q...\E`. The rack is shown, and used for nothing on the one node;
//! it has 256 bytes at most, and as many of the client's name are shown.

use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use tidemill_broker::{ConsumerHeartbeat, ConsumerParts, ConsumerPlace};
use tidemill_core::TopicId;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// The first version whose clients choose their own ids.
const HAS_ID: i16 = 1;

/// See the module.
pub(in super::super) struct ConsumerGroupHeartbeat;

impl Api for ConsumerGroupHeartbeat {
    type Request = ConsumerGroupHeartbeatRequest;
    type Response = ConsumerGroupHeartbeatResponse;
    const KEY: ApiKey = ApiKey::ConsumerGroupHeartbeat;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::CONSUMER_GROUP_HEARTBEAT;
    const NEEDS: Needs = &[
        (Operation::Read, Kind::Group),
        (Operation::Describe, Kind::Topic),
    ];

    async fn answer(
        call: Call,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let answer = ConsumerGroupHeartbeatResponse::default();
        match heartbeat(&call, request).await {
            Ok(place) => {
                let every = i32::try_from(place.heartbeat_interval.as_millis());
                answer
                    .with_member_id(Some(convert::text(&place.member)))
                    .with_member_epoch(place.epoch)
                    .with_heartbeat_interval_ms(every.unwrap_or(i32::MAX))
                    .with_assignment(place.assignment.as_ref().map(assignment))
            }
            Err(refused) => answer
                .with_error_code(refused.code.code())
                .with_error_message(refused.why.as_deref().map(convert::text)),
        }
    }
}

async fn heartbeat(
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerPlace, Refused> {
    let access = call.access();
    let topics = request.subscribed_topic_names.iter().flatten();
    let name = group::joined(call, &access, &request.group_id, topics)?;
    if call.version >= HAS_ID && request.member_id.is_empty() {
        return Err(Refused::new(Code::InvalidRequest, "a member has an id"));
    }
    let mut beat = read(call, request)?;
    // Whatever it names, has, or matches: it is given only what it may see now.
    beat.sight = access.sight();
    // One that has nothing and waits for nothing is nobody: the group is free for this one.
    call.door.pullers.dismiss_idle(&name);
    let groups = call.broker.consumer_groups();
    let place = groups.heartbeat(&name, beat).await;
    let place = place.map_err(|why| Refused::new(error::consumer(&why), why))?;
    if place.epoch >= 0 {
        call.client.is_in(name.as_str(), &place.member);
    }
    Ok(place)
}

/// What a request says. Copied: nothing of it is to hold the request's memory.
fn read(call: &Call, request: ConsumerGroupHeartbeatRequest) -> Result<ConsumerHeartbeat, Refused> {
    let topics = request.subscribed_topic_names.map(|names| {
        let names = names.iter().map(|name| {
            let refused = |code| Refused::new(code, format!("no topic is called {name:?}"));
            convert::topic(name).map_err(refused)
        });
        names.collect::<Result<_, _>>()
    });
    let owned = request.topic_partitions.map(|topics| {
        let each = topics.into_iter().flat_map(|topic| {
            let id = TopicId(topic.topic_id);
            let partitions = topic.partitions.into_iter();
            partitions.map(move |number| Ok((id, convert::partition(number)?)))
        });
        each.collect::<Result<ConsumerParts, Code>>()
    });
    let timeout = u64::try_from(request.rebalance_timeout_ms);
    let client_id = call.client_id.as_ref().map(convert::own);
    Ok(ConsumerHeartbeat {
        member: convert::own(&request.member_id),
        epoch: request.member_epoch,
        instance: request.instance_id.as_ref().map(convert::own),
        rack: request.rack_id.as_ref().map(convert::own),
        rebalance_timeout: timeout.ok().map(Duration::from_millis),
        topics: topics.transpose()?,
        pattern: request.subscribed_topic_regex.as_ref().map(convert::own),
        assignor: request.server_assignor.as_ref().map(convert::own),
        owned: owned.transpose()?,
        client_id: client_id.unwrap_or_default(),
        client_host: group::host(call),
        sight: None,
    })
}

/// Partitions as clients read them.
fn assignment(parts: &ConsumerParts) -> Assignment {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for (id, partition) in parts {
        let (id, number) = (convert::wire_id(*id), convert::wire_partition(*partition));
        match topics.last_mut().filter(|last| last.topic_id == id) {
            Some(last) => last.partitions.push(number),
            None => topics.push(
                TopicPartitions::default()
                    .with_topic_id(id)
                    .with_partitions(vec![number]),
            ),
        }
    }
    Assignment::default().with_topic_partitions(topics)
}
