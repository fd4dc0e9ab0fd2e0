//! `ShareGroupHeartbeat` (76), version 1: a member of a share group (KIP-932) joins, says that it
//! lives, or leaves, and is told which partitions it reads.
//!
//! Deviations: members are in memory, so that after a restart of the server they are unknown, and
//! join again by themselves. The interval is the one of consumer groups. The rack is shown, and
//! used for nothing on the one node. Ids of members and racks of more than 256 bytes are refused.
//! What a member has is released when it leaves.

use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ApiKey, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use tidemill_broker::{ConsumerParts, ConsumerPlace, ShareHeartbeat};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::{group, share};

/// See the module.
pub(in super::super) struct ShareGroupHeartbeat;

impl Api for ShareGroupHeartbeat {
    type Request = ShareGroupHeartbeatRequest;
    type Response = ShareGroupHeartbeatResponse;
    const KEY: ApiKey = ApiKey::ShareGroupHeartbeat;
    const VERSIONS: [i16; 2] = [1, 1];
    const SHAPE: &'static Shape = &shapes::SHARE_GROUP_HEARTBEAT;
    const NEEDS: Needs = &[
        (Operation::Read, Kind::Group),
        (Operation::Describe, Kind::Topic),
    ];

    async fn answer(
        call: Call,
        request: ShareGroupHeartbeatRequest,
    ) -> ShareGroupHeartbeatResponse {
        let answer = ShareGroupHeartbeatResponse::default();
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
    request: ShareGroupHeartbeatRequest,
) -> Result<ConsumerPlace, Refused> {
    let access = call.access();
    let topics = request.subscribed_topic_names.iter().flatten();
    let name = group::joined(call, &access, &request.group_id, topics)?;
    let topics = request.subscribed_topic_names.as_ref().map(|names| {
        let names = names.iter().map(|name| {
            let refused = |code| Refused::new(code, format!("no topic is called {name:?}"));
            convert::topic(name).map_err(refused)
        });
        names.collect::<Result<_, _>>()
    });
    // Copied: nothing of it is to hold the request's memory.
    let client_id = call.client_id.as_ref().map(convert::own);
    let beat = ShareHeartbeat {
        member: share::member_id(&request.member_id)?,
        epoch: request.member_epoch,
        rack: request.rack_id.as_ref().map(convert::own),
        topics: topics.transpose()?,
        client_id: client_id.unwrap_or_default(),
        client_host: group::host(call),
        sight: access.sight(),
    };
    // One that has nothing and waits for nothing is nobody: the group is free for this one.
    call.door.pullers.dismiss_idle(&name);
    let place = call.broker.share_groups().heartbeat(&name, beat).await;
    let place = place.map_err(|why| Refused::new(error::consumer(&why), why))?;
    if place.epoch >= 0 {
        call.client.is_in(name.as_str(), &place.member);
    }
    Ok(place)
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
