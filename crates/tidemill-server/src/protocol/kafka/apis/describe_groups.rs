//! `DescribeGroups` (15), versions 0 to 6: groups with their members, and what these share.
//!
//! Deviations: a group whose members are Tidemill's own is shown as stable and of the type
//! `tidemill`, with their ids alone. One that is named twice is told once, so that an answer is no
//! larger than what groups may hold together.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{ApiKey, DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use tidemill_broker::{ClassicDescription, ClassicState};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// The first version in which an unknown group is an error, not a dead group.
const TELLS_UNKNOWN: i16 = 6;

/// See the module.
pub(in super::super) struct DescribeGroups;

impl Api for DescribeGroups {
    type Request = DescribeGroupsRequest;
    type Response = DescribeGroupsResponse;
    const KEY: ApiKey = ApiKey::DescribeGroups;
    const VERSIONS: [i16; 2] = [0, 6];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_GROUPS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Group)];

    async fn answer(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let access = call.access();
        let operations = request.include_authorized_operations;
        let mut seen = BTreeSet::new();
        let once = |id: &GroupId| seen.insert(id.clone());
        let groups = request.groups.into_iter().filter(once).map(|id| {
            if let Err(code) = access.group(Operation::Describe, &id) {
                return unknown(id).with_error_code(code.code());
            }
            let allowed = operations.then(|| access.operations(Kind::Group, &id));
            let group = describe(&call, id);
            match allowed {
                Some(allowed) => group.with_authorized_operations(allowed),
                None => group,
            }
        });
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }
}

fn describe(call: &Call, id: GroupId) -> DescribedGroup {
    let name = match group::shown(&id) {
        Ok(name) => name,
        Err(code) => return unknown(id).with_error_code(code.code()),
    };
    match call.broker.classic_groups().describe(&name) {
        Some(group) => known(id, group),
        None if call.version < TELLS_UNKNOWN => unknown(id),
        None => {
            let refused = group::not_described(call, &name, "classic");
            unknown(id)
                .with_error_code(refused.code.code())
                .with_error_message(refused.why.as_deref().map(convert::text))
        }
    }
}

fn unknown(id: GroupId) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(convert::text(state_name(ClassicState::Dead)))
}

fn known(id: GroupId, group: ClassicDescription) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(convert::text(&member.member))
            .with_group_instance_id(member.instance.as_deref().map(convert::text))
            .with_client_id(convert::text(&member.client_id))
            .with_client_host(convert::text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(convert::text(state_name(group.state)))
        .with_protocol_type(convert::text(&group.protocol_type))
        .with_protocol_data(convert::text(&group.protocol))
        .with_members(members.collect())
}

/// A state as clients know it.
pub(super) fn state_name(state: ClassicState) -> &'static str {
    match state {
        ClassicState::Empty => "Empty",
        ClassicState::PreparingRebalance => "PreparingRebalance",
        ClassicState::CompletingRebalance => "CompletingRebalance",
        ClassicState::Stable => "Stable",
        ClassicState::Dead => "Dead",
    }
}
