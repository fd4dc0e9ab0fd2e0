//! `DeleteGroups` (42), versions 0 to 2: groups without members go, with their positions.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{ApiKey, DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use super::super::access::{Kind, Needs, Operation};
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// See the module.
pub(in super::super) struct DeleteGroups;

impl Api for DeleteGroups {
    type Request = DeleteGroupsRequest;
    type Response = DeleteGroupsResponse;
    const KEY: ApiKey = ApiKey::DeleteGroups;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::DELETE_GROUPS;
    const NEEDS: Needs = &[(Operation::Delete, Kind::Group)];

    async fn answer(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut results = Vec::with_capacity(request.groups_names.len());
        for id in request.groups_names {
            let deleted = delete(&call, &id).await;
            results.push(
                DeletableGroupResult::default()
                    .with_error_code(error::code_of(&deleted))
                    .with_group_id(id),
            );
        }
        DeleteGroupsResponse::default().with_results(results)
    }
}

async fn delete(call: &Call, id: &GroupId) -> Result<(), Code> {
    call.access().group(Operation::Delete, id)?;
    let name = group::shown(id)?;
    let deleted = call.broker.classic_groups().delete(&name).await;
    deleted.map_err(|why| error::classic(&why))
}
