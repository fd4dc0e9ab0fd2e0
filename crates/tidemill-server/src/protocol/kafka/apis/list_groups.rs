//! `ListGroups` (16), versions 0 to 5: the groups of the broker, but for those of queues. Those of
//! Tidemill's own members count as classic ones.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ApiKey, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_core::GroupName;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::{consumer_group_describe, describe_groups};

/// The types of groups.
const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";
const SHARE: &str = "share";

/// See the module.
pub(in super::super) struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;
    type Response = ListGroupsResponse;
    const KEY: ApiKey = ApiKey::ListGroups;
    const VERSIONS: [i16; 2] = [0, 5];
    const SHAPE: &'static Shape = &shapes::LIST_GROUPS;
    const NEEDS: Needs = &[
        (Operation::Describe, Kind::Cluster),
        (Operation::Describe, Kind::Group),
    ];

    async fn answer(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
        let access = call.access();
        let all = access.cluster(Operation::Describe).is_ok();
        let sees = |name: &str| all || access.may(Operation::Describe, Kind::Group, name);
        let groups = call.broker.classic_groups();
        let names = groups.names().into_iter();
        let listed = names.filter(|name| sees(name.as_str())).filter_map(|name| {
            let listed = listed(&call, &name)?;
            let type_wanted = wanted(&request.types_filter, &listed.group_type);
            let state_wanted = wanted(&request.states_filter, &listed.group_state);
            (type_wanted && state_wanted).then_some(listed)
        });
        ListGroupsResponse::default().with_groups(listed.collect())
    }
}

/// A group of any type, where it is there still.
fn listed(call: &Call, name: &GroupName) -> Option<ListedGroup> {
    let listed = ListedGroup::default().with_group_id(convert::text(name.as_str()).into());
    if let Some(group) = call.broker.consumer_groups().describe(name) {
        let state = consumer_group_describe::state_name(group.state);
        return Some(
            listed
                .with_protocol_type(convert::text(CONSUMER))
                .with_group_state(convert::text(state))
                .with_group_type(convert::text(CONSUMER)),
        );
    }
    if let Some(group) = call.broker.share_groups().describe(name) {
        let state = consumer_group_describe::state_name(group.state);
        return Some(
            listed
                .with_protocol_type(convert::text(SHARE))
                .with_group_state(convert::text(state))
                .with_group_type(convert::text(SHARE)),
        );
    }
    let group = call.broker.classic_groups().describe(name)?;
    let state = describe_groups::state_name(group.state);
    Some(
        listed
            .with_protocol_type(convert::text(&group.protocol_type))
            .with_group_state(convert::text(state))
            .with_group_type(convert::text(CLASSIC)),
    )
}

/// Whether a list names it; an empty one names all.
fn wanted(names: &[StrBytes], name: &str) -> bool {
    names.is_empty() || names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}
