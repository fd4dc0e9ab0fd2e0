//! `DescribeQuorum` (55), versions 0 to 2: who keeps the metadata of the cluster.
//!
//! Deviations: there is no quorum and no topic `__cluster_metadata`; metadata is in this node's
//! own journal. What is told is what holds: one voter, which leads. Its log's end and high
//! watermark are how often the data was opened, as the leader's epoch is. It has no other
//! controller's listener to tell of, and its folder's id is that of the data.

use kafka_protocol::messages::describe_quorum_request::TopicData as Asked;
use kafka_protocol::messages::describe_quorum_response::{
    Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{ApiKey, DescribeQuorumRequest, DescribeQuorumResponse};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::Code;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// Kafka's topic for metadata, of one partition.
const METADATA: &str = "__cluster_metadata";

/// See the module.
pub(in super::super) struct DescribeQuorum;

impl Api for DescribeQuorum {
    type Request = DescribeQuorumRequest;
    type Response = DescribeQuorumResponse;
    const KEY: ApiKey = ApiKey::DescribeQuorum;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_QUORUM;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Cluster)];

    async fn answer(call: Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
        if let Err(code) = call.access().cluster(Operation::Describe) {
            return DescribeQuorumResponse::default().with_error_code(code.code());
        }
        let topics = request.topics.into_iter().map(|topic| tell(&call, topic));
        let response = DescribeQuorumResponse::default().with_topics(topics.collect());
        match call.version {
            2.. => {
                let node = convert::node(call.door.config.node_id);
                response.with_nodes(vec![Node::default().with_node_id(node)])
            }
            _ => response,
        }
    }
}

fn tell(call: &Call, topic: Asked) -> TopicData {
    let node = convert::node(call.door.config.node_id);
    let epoch = convert::leader_epoch(call.broker.incarnation());
    let end = i64::from(epoch);
    let known = topic.topic_name.as_str() == METADATA;
    let partitions = topic.partitions.into_iter().map(|asked| {
        let partition = PartitionData::default().with_partition_index(asked.partition_index);
        if !known || asked.partition_index != 0 {
            return partition.with_error_code(Code::UnknownTopicOrPartition.code());
        }
        let voter = ReplicaState::default()
            .with_replica_id(node)
            .with_log_end_offset(end);
        let voter = match call.version {
            2.. => voter.with_replica_directory_id(call.broker.id()),
            _ => voter,
        };
        partition
            .with_leader_id(node)
            .with_leader_epoch(epoch)
            .with_high_watermark(end)
            .with_current_voters(vec![voter])
    });
    let partitions = partitions.collect();
    TopicData::default()
        .with_topic_name(topic.topic_name)
        .with_partitions(partitions)
}
