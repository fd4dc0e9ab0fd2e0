//! `JoinGroup` (11), versions 0 to 9: a member joins the next generation of its group, and is
//! answered when that begins. From version 4 on a new member is given an id first, and comes again
//! with it.
//!
//! Deviations: what a member says about why it joins is not looked at. A client that is cut off
//! while it waits stays a member until its session is over, as with Apache Kafka.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{ApiKey, JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{ClassicError, ClassicJoin, ClassicJoined, ClassicProtocol};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// The first version that knows how long a rebalance may take.
const HAS_REBALANCE_TIMEOUT: i16 = 1;
/// The first version whose clients come again with the id that they are given.
const ASKS_TWICE: i16 = 4;
/// The first version in which the group's type is told, and no protocol is no text.
const TELLS_TYPE: i16 = 7;
/// The first version in which a leader may be told that what it shared out stays.
const MAY_SKIP: i16 = 9;

/// See the module.
pub(in super::super) struct JoinGroup;

impl Api for JoinGroup {
    type Request = JoinGroupRequest;
    type Response = JoinGroupResponse;
    const KEY: ApiKey = ApiKey::JoinGroup;
    const VERSIONS: [i16; 2] = [0, 9];
    const SHAPE: &'static Shape = &shapes::JOIN_GROUP;
    const NEEDS: Needs = &[(Operation::Read, Kind::Group)];

    async fn answer(call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
        let member = request.member_id.clone();
        let joined = tokio::select! {
            joined = join(&call, request) => joined,
            () = call.door.closed() => Err(Refused::from(Code::CoordinatorNotAvailable)),
        };
        match joined {
            Ok(joined) => response(&call, joined),
            Err(refused) => JoinGroupResponse::default()
                .with_error_code(refused.code.code())
                .with_generation_id(-1)
                .with_protocol_name((call.version < TELLS_TYPE).then(StrBytes::default))
                .with_member_id(refused.id.unwrap_or(member)),
        }
    }
}

/// A code, and the id with which to come again.
struct Refused {
    code: Code,
    id: Option<StrBytes>,
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self { code, id: None }
    }
}

impl From<ClassicError> for Refused {
    fn from(why: ClassicError) -> Self {
        let code = error::classic(&why);
        let id = match why {
            ClassicError::IdRequired(id) => Some(convert::text(&id)),
            _ => None,
        };
        Self { code, id }
    }
}

fn time(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

async fn join(call: &Call, request: JoinGroupRequest) -> Result<ClassicJoined, Refused> {
    call.access().group(Operation::Read, &request.group_id)?;
    let name = group::name(&request.group_id)?;
    let rebalance_ms = match call.version >= HAS_REBALANCE_TIMEOUT {
        true => request.rebalance_timeout_ms,
        false => request.session_timeout_ms,
    };
    // Copied: nothing of it is to hold the request's memory.
    let protocols = request.protocols.iter().map(|known| ClassicProtocol {
        name: convert::own(&known.name),
        metadata: Bytes::copy_from_slice(&known.metadata),
    });
    let join = ClassicJoin {
        member: convert::own(&request.member_id),
        instance: request.group_instance_id.as_ref().map(convert::own),
        client_id: call
            .client_id
            .as_ref()
            .map(convert::own)
            .unwrap_or_default(),
        client_host: group::host(call),
        session_timeout: time(request.session_timeout_ms),
        rebalance_timeout: time(rebalance_ms),
        protocol_type: convert::own(&request.protocol_type),
        protocols: protocols.collect(),
        asks_twice: call.version >= ASKS_TWICE,
        may_skip: call.version >= MAY_SKIP,
    };
    drop(request);
    // One that has nothing and waits for nothing is nobody: the group is free for this one.
    call.door.pullers.dismiss_idle(&name);
    let groups = call.broker.classic_groups();
    let joined = groups.join(&name, join).await?;
    call.client.is_in(name.as_str(), &joined.member);
    Ok(joined)
}

fn response(call: &Call, joined: ClassicJoined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(convert::text(&member.member))
            .with_group_instance_id(member.instance.as_deref().map(convert::text))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(
            (call.version >= TELLS_TYPE).then(|| convert::text(&joined.protocol_type)),
        )
        .with_protocol_name(Some(convert::text(&joined.protocol)))
        .with_leader(convert::text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(convert::text(&joined.member))
        .with_members(members.collect())
}
