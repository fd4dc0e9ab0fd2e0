//! `ListPartitionReassignments` (46), version 0: partitions that are being moved to other nodes.
//!
//! Deviations: there is one node, so there are never any.

use kafka_protocol::messages::{
    ApiKey, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::super::access::{Kind, Needs, Operation};
use super::super::error;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct ListPartitionReassignments;

impl Api for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    type Response = ListPartitionReassignmentsResponse;
    const KEY: ApiKey = ApiKey::ListPartitionReassignments;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::LIST_PARTITION_REASSIGNMENTS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Cluster)];

    async fn answer(
        call: Call,
        _: ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        let may = call.access().cluster(Operation::Describe);
        ListPartitionReassignmentsResponse::default().with_error_code(error::code_of(&may))
    }
}
