//! `DescribeCluster` (60), versions 0 to 1: the cluster, which is this node.
//!
//! Deviations: there is no controller to connect to; who asks for its endpoints is told the
//! same.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{ApiKey, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::access::Needs;
use super::super::convert;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct DescribeCluster;

impl Api for DescribeCluster {
    type Request = DescribeClusterRequest;
    type Response = DescribeClusterResponse;
    const KEY: ApiKey = ApiKey::DescribeCluster;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_CLUSTER;
    const NEEDS: Needs = &[];

    async fn answer(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
        let advertised = call.door.advertised(call.local);
        let node = convert::node(call.door.config.node_id);
        let broker = DescribeClusterBroker::default()
            .with_broker_id(node)
            .with_host(StrBytes::from_string(advertised.host))
            .with_port(i32::from(advertised.port));
        let response = DescribeClusterResponse::default()
            .with_cluster_id(call.door.cluster_id.clone())
            .with_controller_id(node)
            .with_brokers(vec![broker]);
        match request.include_cluster_authorized_operations {
            true => {
                let operations = call.access().cluster_operations();
                response.with_cluster_authorized_operations(operations)
            }
            false => response,
        }
    }
}
