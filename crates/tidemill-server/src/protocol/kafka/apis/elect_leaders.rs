//! `ElectLeaders` (43), versions 0 to 2: has partitions change their leaders.
//!
//! Deviations: this node leads every partition, so that no election is ever needed: each
//! partition that is named is answered with `ELECTION_NOT_NEEDED`. Who names none is told of none.

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ApiKey, ElectLeadersRequest, ElectLeadersResponse};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct ElectLeaders;

impl Api for ElectLeaders {
    type Request = ElectLeadersRequest;
    type Response = ElectLeadersResponse;
    const KEY: ApiKey = ApiKey::ElectLeaders;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::ELECT_LEADERS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Cluster)];

    async fn answer(call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
        let may = call.access().cluster(Operation::Alter);
        if let Err(code) = may
            && call.version > 0
        {
            return ElectLeadersResponse::default().with_error_code(code.code());
        }
        // Kinds of elections: 0 of the preferred leader, 1 of one that is not in sync.
        if call.version > 0 && !matches!(request.election_type, 0 | 1) {
            let code = Code::InvalidRequest.code();
            return ElectLeadersResponse::default().with_error_code(code);
        }
        let named = request.topic_partitions.unwrap_or_default();
        let results = named.into_iter().map(|topic| {
            let name = convert::topic(&topic.topic);
            let partitions = topic.partitions.into_iter().map(|index| {
                let there = may.and_then(|()| name.clone());
                let there = there.and_then(|name| call.partition(&name, index));
                let elected = there.and(Err::<(), _>(Code::ElectionNotNeeded));
                PartitionResult::default()
                    .with_partition_id(index)
                    .with_error_code(error::code_of(&elected))
            });
            let partitions = partitions.collect();
            ReplicaElectionResult::default()
                .with_topic(topic.topic)
                .with_partition_result(partitions)
        });
        ElectLeadersResponse::default().with_replica_election_results(results.collect())
    }
}
