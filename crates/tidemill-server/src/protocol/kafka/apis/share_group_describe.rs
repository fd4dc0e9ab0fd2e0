//! `ShareGroupDescribe` (77), version 1: share groups (KIP-932) with their members and what these
//! read.
//!
//! Deviations: a group that is named twice is told once.

use std::collections::BTreeSet;

use kafka_protocol::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    ApiKey, GroupId, ShareGroupDescribeRequest, ShareGroupDescribeResponse,
};
use tidemill_broker::{ConsumerDescription, ConsumerMember, ConsumerTopicParts};

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::Refused;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::consumer_group_describe::state_name;
use super::group;

/// See the module.
pub(in super::super) struct ShareGroupDescribe;

impl Api for ShareGroupDescribe {
    type Request = ShareGroupDescribeRequest;
    type Response = ShareGroupDescribeResponse;
    const KEY: ApiKey = ApiKey::ShareGroupDescribe;
    const VERSIONS: [i16; 2] = [1, 1];
    const SHAPE: &'static Shape = &shapes::SHARE_GROUP_DESCRIBE;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Group)];

    async fn answer(call: Call, request: ShareGroupDescribeRequest) -> ShareGroupDescribeResponse {
        let access = call.access();
        let operations = request.include_authorized_operations;
        let mut seen = BTreeSet::new();
        let once = |id: &GroupId| seen.insert(id.clone());
        let groups = request.group_ids.into_iter().filter(once).map(|id| {
            let allowed = operations.then(|| access.operations(Kind::Group, &id));
            let group = describe(&call, &access, id);
            match allowed {
                Some(allowed) => group.with_authorized_operations(allowed),
                None => group,
            }
        });
        ShareGroupDescribeResponse::default().with_groups(groups.collect())
    }
}

fn describe(call: &Call, access: &Access, id: GroupId) -> DescribedGroup {
    let may = access.group(Operation::Describe, &id);
    let told = may.and_then(|()| group::shown(&id));
    let told = told.map_err(Refused::from).and_then(|name| {
        let told = call.broker.share_groups().describe(&name);
        let told = told.ok_or_else(|| group::not_described(call, &name, "share"))?;
        group::sees_members(access, &told)?;
        Ok(told)
    });
    match told {
        Ok(told) => known(id, told),
        Err(refused) => DescribedGroup::default()
            .with_error_code(refused.code.code())
            .with_error_message(refused.why.as_deref().map(convert::text))
            .with_group_id(id),
    }
}

fn known(id: GroupId, group: ConsumerDescription) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(convert::text(state_name(group.state)))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(convert::text(group.assignor))
        .with_members(group.members.into_iter().map(member).collect())
}

fn member(member: ConsumerMember) -> Member {
    let topics = member.topics.iter().map(convert::wire_topic);
    Member::default()
        .with_member_id(convert::text(&member.member))
        .with_rack_id(member.rack.as_deref().map(convert::text))
        .with_member_epoch(member.epoch)
        .with_client_id(convert::text(&member.client_id))
        .with_client_host(convert::text(&member.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_assignment(assignment(&member.assigned))
}

fn assignment(topics: &[ConsumerTopicParts]) -> Assignment {
    let topics = topics.iter().map(|topic| {
        let numbers = topic.partitions.iter().copied();
        TopicPartitions::default()
            .with_topic_id(convert::wire_id(topic.id))
            .with_topic_name(convert::wire_topic(&topic.name))
            .with_partitions(numbers.map(convert::wire_partition).collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
