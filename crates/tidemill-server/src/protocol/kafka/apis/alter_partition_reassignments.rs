//! `AlterPartitionReassignments` (45), versions 0 to 1: moves partitions to other nodes.
//!
//! Deviations: there is one node, which has every partition already. To say so again is done at
//! once, every other place is refused (`INVALID_REPLICA_ASSIGNMENT`), and there is never a move to
//! be called off (`NO_REASSIGNMENT_IN_PROGRESS`).

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ApiKey, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct AlterPartitionReassignments;

impl Api for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    type Response = AlterPartitionReassignmentsResponse;
    const KEY: ApiKey = ApiKey::AlterPartitionReassignments;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::ALTER_PARTITION_REASSIGNMENTS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Cluster)];

    async fn answer(
        call: Call,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        if let Err(code) = call.access().cluster(Operation::Alter) {
            let response = AlterPartitionReassignmentsResponse::default();
            return response.with_error_code(code.code());
        }
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|one| {
                let refused = assign(&call, &topic.name, one).err();
                let response = ReassignablePartitionResponse::default()
                    .with_partition_index(one.partition_index);
                match refused {
                    None => response,
                    Some(refused) => response
                        .with_error_code(refused.code.code())
                        .with_error_message(refused.why.map(StrBytes::from_string)),
                }
            });
            let partitions = partitions.collect();
            ReassignableTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        });
        AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(request.allow_replication_factor_change)
            .with_responses(topics.collect())
    }
}

fn assign(call: &Call, name: &TopicName, one: &ReassignablePartition) -> Result<(), Refused> {
    call.partition(&convert::topic(name)?, one.partition_index)?;
    let node = convert::node(call.door.config.node_id);
    match &one.replicas {
        None => Err(Code::NoReassignmentInProgress.into()),
        Some(nodes) if *nodes == [node] => Ok(()),
        Some(_) => {
            let why = format!("there is one node, {}", node.0);
            Err(Refused::new(Code::InvalidReplicaAssignment, why))
        }
    }
}
