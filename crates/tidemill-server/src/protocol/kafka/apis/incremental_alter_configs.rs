//! `IncrementalAlterConfigs` (44), versions 0 to 1: changes single configurations of topics, of
//! groups, and of the node.
//!
//! Deviations: as those of `AlterConfigs`.

use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    ApiKey, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use tidemill_broker::{ShareSettings, TopicSettings};

use super::super::access::{Kind, Needs, Operation};
use super::super::configs;
use super::super::group_configs;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::alter_configs::alter;

/// See the module.
pub(in super::super) struct IncrementalAlterConfigs;

impl Api for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    type Response = IncrementalAlterConfigsResponse;
    const KEY: ApiKey = ApiKey::IncrementalAlterConfigs;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::INCREMENTAL_ALTER_CONFIGS;
    const NEEDS: Needs = &[
        (Operation::AlterConfigs, Kind::Topic),
        (Operation::AlterConfigs, Kind::Group),
        (Operation::AlterConfigs, Kind::Cluster),
    ];

    async fn answer(
        call: Call,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let mut responses = Vec::new();
        for resource in request.resources {
            let resource_of = (resource.resource_type, &resource.resource_name);
            let of_topic = |settings: &mut TopicSettings| {
                resource.configs.iter().try_for_each(|one| {
                    let (operation, value) = (one.config_operation, one.value.as_ref());
                    configs::change(settings, &one.name, operation, value)
                })
            };
            let of_group = |settings: &mut ShareSettings| {
                resource.configs.iter().try_for_each(|one| {
                    let (operation, value) = (one.config_operation, one.value.as_ref());
                    group_configs::change(settings, &one.name, operation, value)
                })
            };
            let names = resource.configs.iter().map(|one| one.name.as_str());
            let only_look = request.validate_only;
            let changes = (of_topic, of_group);
            let (code, why) = alter(&call, resource_of, only_look, names, changes).await;
            responses.push(
                AlterConfigsResourceResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_error_code(code)
                    .with_error_message(why)
                    .with_resource_name(resource.resource_name),
            );
        }
        IncrementalAlterConfigsResponse::default().with_responses(responses)
    }
}
