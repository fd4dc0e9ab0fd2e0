//! `ShareAcknowledge` (79), version 1: a member of a share group says what becomes of records that
//! it has. Answered when it is durable. What is said of a partition is done as a whole or not at
//! all, but for letters to the dead, which follow what is accepted.
//!
//! Deviations: what is rejected goes to the group's dead letters, see `docs/KAFKA.md`.

use std::collections::BTreeMap;

use kafka_protocol::messages::share_acknowledge_response::{
    LeaderIdAndEpoch, PartitionData, ShareAcknowledgeTopicResponse,
};
use kafka_protocol::messages::{ApiKey, ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use tidemill_core::TopicId;
use tokio::time::Instant;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::super::share_session::{self, FIRST, LAST};
use super::share::{self, Said};

/// See the module.
pub(in super::super) struct ShareAcknowledge;

impl Api for ShareAcknowledge {
    type Request = ShareAcknowledgeRequest;
    type Response = ShareAcknowledgeResponse;
    const KEY: ApiKey = ApiKey::ShareAcknowledge;
    const VERSIONS: [i16; 2] = [1, 1];
    const SHAPE: &'static Shape = &shapes::SHARE_ACKNOWLEDGE;
    const NEEDS: Needs = &[
        (Operation::Read, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(call: Call, request: ShareAcknowledgeRequest) -> ShareAcknowledgeResponse {
        match acknowledge(&call, request).await {
            Ok(response) => response,
            Err(refused) => ShareAcknowledgeResponse::default()
                .with_error_code(refused.code.code())
                .with_error_message(refused.why.as_deref().map(convert::text)),
        }
    }
}

async fn acknowledge(
    call: &Call,
    request: ShareAcknowledgeRequest,
) -> Result<ShareAcknowledgeResponse, Refused> {
    let access = call.access();
    let (group, member) = (request.group_id.as_ref(), request.member_id.as_ref());
    let owner = share::owner(&access, group, member)?;
    let epoch = request.share_session_epoch;
    if epoch == FIRST {
        return Err(Code::InvalidShareSessionEpoch.into());
    }
    let said = share_session::Said {
        epoch,
        ..Default::default()
    };
    let sessions = &call.door.share_sessions;
    sessions.go_on(Instant::now(), &owner, said)?;
    let mut all = Vec::new();
    let mut topics: BTreeMap<TopicId, Vec<PartitionData>> = BTreeMap::new();
    for topic in request.topics {
        for one in topic.partitions {
            match share::part(topic.topic_id, one.partition_index) {
                Ok(part) => {
                    let batches = one.acknowledgement_batches.iter();
                    let said = batches.map(|of| {
                        share::said(of.first_offset, of.last_offset, &of.acknowledge_types)
                    });
                    let said = said.collect();
                    all.push(Said { part, said });
                }
                Err(code) => {
                    let told = told(call, one.partition_index, &Err(code));
                    topics
                        .entry(TopicId(topic.topic_id))
                        .or_default()
                        .push(told);
                }
            }
        }
    }
    for (part, done) in share::acknowledge(call, &access, &owner, all).await? {
        let told = told(call, convert::wire_partition(part.partition), &done);
        topics.entry(part.topic).or_default().push(told);
    }
    if epoch == LAST {
        // A group that is gone has nothing to be released.
        let _ = call.broker.share_groups().release(&owner.0, &owner.1);
    }
    let topics = topics.into_iter().map(|(id, partitions)| {
        ShareAcknowledgeTopicResponse::default()
            .with_topic_id(convert::wire_id(id))
            .with_partitions(partitions)
    });
    Ok(ShareAcknowledgeResponse::default().with_responses(topics.collect()))
}

fn told(call: &Call, index: i32, done: &Result<(), Code>) -> PartitionData {
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(call.door.config.node_id)
        .with_leader_epoch(convert::leader_epoch(call.broker.incarnation()));
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(error::code_of(done))
        .with_current_leader(leader)
}
