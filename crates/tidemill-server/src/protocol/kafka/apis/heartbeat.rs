//! `Heartbeat` (12), versions 0 to 4: a member says that it lives, and is told when it is to join
//! again.

use kafka_protocol::messages::{ApiKey, HeartbeatRequest, HeartbeatResponse};

use super::super::access::{Kind, Needs, Operation};
use super::super::error;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// See the module.
pub(in super::super) struct Heartbeat;

impl Api for Heartbeat {
    type Request = HeartbeatRequest;
    type Response = HeartbeatResponse;
    const KEY: ApiKey = ApiKey::Heartbeat;
    const VERSIONS: [i16; 2] = [0, 4];
    const SHAPE: &'static Shape = &shapes::HEARTBEAT;
    const NEEDS: Needs = &[(Operation::Read, Kind::Group)];

    async fn answer(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
        let instance = request.group_instance_id.as_ref();
        let caller = group::caller(&request.member_id, instance, request.generation_id);
        let may = call.access().group(Operation::Read, &request.group_id);
        let named = may.and_then(|()| group::name(&request.group_id));
        let lives = named.and_then(|name| {
            let lives = call.broker.classic_groups().heartbeat(&name, &caller);
            if lives.is_ok() {
                call.client.is_in(name.as_str(), &caller.member);
            }
            lives.map_err(|why| error::classic(&why))
        });
        HeartbeatResponse::default().with_error_code(error::code_of(&lives))
    }
}
