//! `ConsumerGroupDescribe` (69), versions 0 and 1: consumer groups (KIP-848) with their members,
//! what these have and what they will have.
//!
//! Deviations: a group that is named twice is told once.

use std::collections::BTreeSet;

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId,
};
use tidemill_broker::{ConsumerDescription, ConsumerMember, ConsumerState, ConsumerTopicParts};

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::Refused;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// A member that speaks the protocol of consumer groups.
const IS_CONSUMER: i8 = 1;

/// See the module.
pub(in super::super) struct ConsumerGroupDescribe;

impl Api for ConsumerGroupDescribe {
    type Request = ConsumerGroupDescribeRequest;
    type Response = ConsumerGroupDescribeResponse;
    const KEY: ApiKey = ApiKey::ConsumerGroupDescribe;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::CONSUMER_GROUP_DESCRIBE;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Group)];

    async fn answer(
        call: Call,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
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
        ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
    }
}

fn describe(call: &Call, access: &Access, id: GroupId) -> DescribedGroup {
    let may = access.group(Operation::Describe, &id);
    let told = may.and_then(|()| group::shown(&id));
    let told = told.map_err(Refused::from).and_then(|name| {
        let told = call.broker.consumer_groups().describe(&name);
        let told = told.ok_or_else(|| group::not_described(call, &name, "consumer"))?;
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
        .with_instance_id(member.instance.as_deref().map(convert::text))
        .with_rack_id(member.rack.as_deref().map(convert::text))
        .with_member_epoch(member.epoch)
        .with_client_id(convert::text(&member.client_id))
        .with_client_host(convert::text(&member.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_subscribed_topic_regex(member.pattern.as_deref().map(convert::text))
        .with_assignment(assignment(&member.assigned))
        .with_target_assignment(assignment(&member.target))
        .with_member_type(IS_CONSUMER)
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

/// A state as clients know it.
pub(super) fn state_name(state: ConsumerState) -> &'static str {
    match state {
        ConsumerState::Empty => "Empty",
        ConsumerState::Assigning => "Assigning",
        ConsumerState::Reconciling => "Reconciling",
        ConsumerState::Stable => "Stable",
    }
}
