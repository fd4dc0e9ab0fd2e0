//! `FindCoordinator` (10), versions 0 to 5: who coordinates a consumer group (0) or a
//! transactional producer (1). It is this node, for all of them.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::convert;
use super::super::error::{self, Code};
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

    async fn answer(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let served = match request.key_type {
            0 | 1 if call.door.is_closing() => Err(Code::CoordinatorNotAvailable),
            0 | 1 => Ok(call.door.advertised(call.local)),
            _ => Err(Code::InvalidRequest),
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
                .with_node_id(node)
                .with_host(host)
                .with_port(port);
        }
        let one = |key| {
            Coordinator::default()
                .with_key(key)
                .with_error_code(code)
                .with_node_id(node)
                .with_host(host.clone())
                .with_port(port)
        };
        let all = request.coordinator_keys.into_iter().map(one);
        FindCoordinatorResponse::default().with_coordinators(all.collect())
    }
}
