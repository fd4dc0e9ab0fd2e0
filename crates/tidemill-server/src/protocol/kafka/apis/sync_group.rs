//! `SyncGroup` (14), versions 0 to 5: a member asks for its part of the work, and the leader of
//! the generation brings everybody's. It is answered when the leader has.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, SyncGroupRequest, SyncGroupResponse};
use tidemill_broker::{ClassicSync, ClassicSynced};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// The first version in which the group's type and protocol are told.
const TELLS_TYPE: i16 = 5;

/// See the module.
pub(in super::super) struct SyncGroup;

impl Api for SyncGroup {
    type Request = SyncGroupRequest;
    type Response = SyncGroupResponse;
    const KEY: ApiKey = ApiKey::SyncGroup;
    const VERSIONS: [i16; 2] = [0, 5];
    const SHAPE: &'static Shape = &shapes::SYNC_GROUP;
    const NEEDS: Needs = &[(Operation::Read, Kind::Group)];

    async fn answer(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
        let synced = tokio::select! {
            synced = sync(&call, request) => synced,
            () = call.door.closed() => Err(Code::CoordinatorNotAvailable),
        };
        let response = SyncGroupResponse::default().with_error_code(error::code_of(&synced));
        let Ok(synced) = synced else {
            return response;
        };
        let response = response.with_assignment(synced.assignment);
        match call.version >= TELLS_TYPE {
            true => response
                .with_protocol_type(Some(convert::text(&synced.protocol_type)))
                .with_protocol_name(Some(convert::text(&synced.protocol))),
            false => response,
        }
    }
}

async fn sync(call: &Call, request: SyncGroupRequest) -> Result<ClassicSynced, Code> {
    call.access().group(Operation::Read, &request.group_id)?;
    let name = group::name(&request.group_id)?;
    let instance = request.group_instance_id.as_ref();
    // Copied: nothing of it is to hold the request's memory.
    let parts = request.assignments.iter().map(|part| {
        let bytes = Bytes::copy_from_slice(&part.assignment);
        (convert::own(&part.member_id), bytes)
    });
    let sync = ClassicSync {
        caller: group::caller(&request.member_id, instance, request.generation_id),
        protocol_type: request.protocol_type.as_ref().map(convert::own),
        protocol: request.protocol_name.as_ref().map(convert::own),
        assignments: parts.collect(),
    };
    drop(request);
    let groups = call.broker.classic_groups();
    let synced = groups.sync(&name, sync).await;
    synced.map_err(|why| error::classic(&why))
}
