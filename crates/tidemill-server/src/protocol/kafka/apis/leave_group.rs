//! `LeaveGroup` (13), versions 0 to 5: members leave their group. From version 3 on several at
//! once, also by the names of their instances alone.

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{ApiKey, LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_core::GroupName;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// The first version in which several leave.
const SEVERAL: i16 = 3;

/// See the module.
pub(in super::super) struct LeaveGroup;

impl Api for LeaveGroup {
    type Request = LeaveGroupRequest;
    type Response = LeaveGroupResponse;
    const KEY: ApiKey = ApiKey::LeaveGroup;
    const VERSIONS: [i16; 2] = [0, 5];
    const SHAPE: &'static Shape = &shapes::LEAVE_GROUP;
    const NEEDS: Needs = &[(Operation::Read, Kind::Group)];

    async fn answer(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
        let may = call.access().group(Operation::Read, &request.group_id);
        let name = match may.and_then(|()| group::name(&request.group_id)) {
            Ok(name) => name,
            Err(code) => return LeaveGroupResponse::default().with_error_code(code.code()),
        };
        if call.version < SEVERAL {
            let left = leave(&call, &name, &request.member_id, None);
            return LeaveGroupResponse::default().with_error_code(error::code_of(&left));
        }
        let members = request.members.into_iter().map(|member| {
            let instance = member.group_instance_id.as_ref();
            let left = leave(&call, &name, &member.member_id, instance);
            MemberResponse::default()
                .with_error_code(error::code_of(&left))
                .with_member_id(member.member_id)
                .with_group_instance_id(member.group_instance_id)
        });
        LeaveGroupResponse::default().with_members(members.collect())
    }
}

fn leave(
    call: &Call,
    group: &GroupName,
    member: &StrBytes,
    instance: Option<&StrBytes>,
) -> Result<(), Code> {
    let instance = instance.map(convert::own);
    let groups = call.broker.classic_groups();
    let left = groups.leave(group, &convert::own(member), instance.as_ref());
    left.map_err(|why| error::classic(&why))
}
