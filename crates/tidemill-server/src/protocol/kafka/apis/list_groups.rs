//! `ListGroups` (16), versions 0 to 5: the groups of the broker, but for those of queues. All of
//! them count as classic ones.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ApiKey, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::convert;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::describe_groups::state_name;

/// What all groups are.
const TYPE: &str = "classic";

/// See the module.
pub(in super::super) struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;
    type Response = ListGroupsResponse;
    const KEY: ApiKey = ApiKey::ListGroups;
    const VERSIONS: [i16; 2] = [0, 5];
    const SHAPE: &'static Shape = &shapes::LIST_GROUPS;

    async fn answer(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
        if !wanted(&request.types_filter, TYPE) {
            return ListGroupsResponse::default();
        }
        let groups = call.broker.classic_groups();
        let listed = groups.names().into_iter().filter_map(|name| {
            let group = groups.describe(&name)?;
            let state = state_name(group.state);
            let listed = ListedGroup::default()
                .with_group_id(convert::text(name.as_str()).into())
                .with_protocol_type(convert::text(&group.protocol_type))
                .with_group_state(convert::text(state))
                .with_group_type(convert::text(TYPE));
            wanted(&request.states_filter, state).then_some(listed)
        });
        ListGroupsResponse::default().with_groups(listed.collect())
    }
}

/// Whether a list names it; an empty one names all.
fn wanted(names: &[StrBytes], name: &str) -> bool {
    names.is_empty() || names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}
