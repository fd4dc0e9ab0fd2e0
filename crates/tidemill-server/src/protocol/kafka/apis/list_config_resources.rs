//! `ListConfigResources` (74), versions 0 to 1: what has configurations.
//!
//! Deviations: those are the topics and the node. Version 0 asks for subscriptions to the metrics
//! of clients, of which there are none; loggers have no configurations
//! either, and groups are not listed. Topics
//! for which there is no memory are left out.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ApiKey, ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Kind, Needs, Operation};
use super::super::error::Code;
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use super::describe_configs::{BROKER, TOPIC};
use crate::limits::{KAFKA_PARTITION_BYTES, MEMORY_WAIT};

/// Kafka's numbers of what else may have configurations: loggers, client metrics, groups.
const OTHERS: [i8; 3] = [8, 16, 32];

/// See the module.
pub(in super::super) struct ListConfigResources;

impl Api for ListConfigResources {
    type Request = ListConfigResourcesRequest;
    type Response = Held<ListConfigResourcesResponse>;
    const KEY: ApiKey = ApiKey::ListConfigResources;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::LIST_CONFIG_RESOURCES;
    const NEEDS: Needs = &[(Operation::DescribeConfigs, Kind::Cluster)];

    async fn answer(
        call: Call,
        request: ListConfigResourcesRequest,
    ) -> Held<ListConfigResourcesResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let kinds = request.resource_types;
        let known = |kind: &i8| [TOPIC, BROKER].contains(kind) || OTHERS.contains(kind);
        let response = ListConfigResourcesResponse::default();
        if let Err(code) = call.access().cluster(Operation::DescribeConfigs) {
            let response = response.with_error_code(code.code());
            return Held { response, share };
        }
        if !kinds.iter().all(known) {
            let response = response.with_error_code(Code::UnsupportedVersion.code());
            return Held { response, share };
        }
        let wants = |kind| call.version > 0 && (kinds.is_empty() || kinds.contains(&kind));
        let mut resources = Vec::new();
        if wants(BROKER) {
            let node = call.door.config.node_id.to_string();
            resources.push(resource(BROKER, node));
        }
        if wants(TOPIC) {
            topics(&call, &mut share, &mut resources).await;
        }
        let response = response.with_config_resources(resources);
        Held { response, share }
    }
}

async fn topics(call: &Call, share: &mut Share, resources: &mut Vec<ConfigResource>) {
    let until = Instant::now() + MEMORY_WAIT;
    for info in call.broker.topics() {
        if !grown(
            share,
            KAFKA_PARTITION_BYTES + info.name.as_str().len(),
            until,
        )
        .await
        {
            return;
        }
        resources.push(resource(TOPIC, info.name.to_string()));
    }
}

fn resource(kind: i8, name: String) -> ConfigResource {
    ConfigResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name))
}
