//! `FindCoordinator` (10), versions 0 to 5: who coordinates a consumer group (0) or a
//! transactional producer (1). It is this node, for all of them.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// The first version that asks for several keys at once.
const SEVERAL: i16 = 4;

/// Nobody.
const NOBODY: i32 = -1;

/// See the module.
pub(in super::super) struct FindCoordinator;

impl Api for FindCoordinator {
    type Request = FindCoordinatorRequest;
    type Response = FindCoordinatorResponse;
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VERSIONS: [i16; 2] = [0, 5];
    const SHAPE: &'static Shape = &shapes::FIND_COORDINATOR;
    const NEEDS: Needs = &[
        (Operation::Describe, Kind::Group),
        (Operation::Describe, Kind::TransactionalId),
    ];

    async fn answer(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let served = match request.key_type {
            0 | 1 if call.door.is_closing() => Err(Code::CoordinatorNotAvailable),
            0 | 1 => Ok(call.door.advertised(call.local)),
            _ => Err(Code::InvalidRequest),
        };
        let access = call.access();
        let kind = request.key_type;
        // Of the one key that is asked for, or of each.
        let may = |key: &StrBytes| match kind {
            0 => access.group(Operation::Describe, key),
            _ => access.transaction(Operation::Describe, key),
        };
        let served = match call.version < SEVERAL {
            true => served.and_then(|at| may(&request.key).map(|()| at)),
            false => served,
        };
        let code = error::code_of(&served);
        let (node, host, port) = match served {
            Ok(at) => (
                call.door.config.node_id,
                StrBytes::from_string(at.host),
                i32::from(at.port),
            ),
            Err(_) => (NOBODY, StrBytes::default(), NOBODY),
        };
        let node = convert::node(node);
        if call.version < SEVERAL {
            return FindCoordinatorResponse::default()
                .with_error_code(code)
                .with_error_message(None)
                .with_node_id(node)
                .with_host(host)
                .with_port(port);
        }
        let one = |key: StrBytes| {
            if code == NONE
                && let Err(refused) = may(&key)
            {
                return Coordinator::default()
                    .with_key(key)
                    .with_error_code(refused.code())
                    .with_error_message(None)
                    .with_node_id(convert::node(NOBODY))
                    .with_port(NOBODY);
            }
            Coordinator::default()
                .with_key(key)
                .with_error_code(code)
                .with_error_message(None)
                .with_node_id(node)
                .with_host(host.clone())
                .with_port(port)
        };
        let all = request.coordinator_keys.into_iter().map(one);
        FindCoordinatorResponse::default().with_coordinators(all.collect())
    }
}
