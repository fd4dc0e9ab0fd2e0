//! `DescribeConfigs` (32), versions 1 to 4: the configurations of topics, of the
//! node, and of groups.
//!
//! Deviations: synonyms are told of those that are kept of a topic, documentation of none; loggers
//! have no configurations.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_core::{GroupName, TopicName};

use super::super::access::{Kind, Needs, Operation};
use super::super::configs::{self, Config};
use super::super::error::{Code, Refused};
use super::super::group_configs;
use super::super::node_configs;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// Kafka's number for a topic as a resource.
pub(super) const TOPIC: i8 = 2;
/// And for a node.
pub(super) const BROKER: i8 = 4;
/// And for a group.
pub(super) const GROUP: i8 = 32;

/// See the module.
pub(in super::super) struct DescribeConfigs;

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    type Response = DescribeConfigsResponse;
    const KEY: ApiKey = ApiKey::DescribeConfigs;
    const VERSIONS: [i16; 2] = [1, 4];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_CONFIGS;
    const NEEDS: Needs = &[
        (Operation::DescribeConfigs, Kind::Topic),
        (Operation::DescribeConfigs, Kind::Group),
        (Operation::DescribeConfigs, Kind::Cluster),
    ];

    async fn answer(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let asked = request.resources.into_iter();
        let synonyms = request.include_synonyms;
        let results = asked.map(|resource| describe(&call, resource, synonyms));
        DescribeConfigsResponse::default().with_results(results.collect())
    }
}

fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    synonyms: bool,
) -> DescribeConfigsResult {
    let all = find(call, resource.resource_type, &resource.resource_name);
    let wanted = resource.configuration_keys;
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name);
    match all {
        Ok(all) => {
            let is_wanted = |config: &Config| {
                let keys = wanted.as_ref();
                keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == config.name))
            };
            let told = all.into_iter().filter(is_wanted);
            let told = told.map(|config| tell(config, synonyms));
            result.with_configs(told.collect())
        }
        Err(refused) => result
            .with_error_code(refused.code.code())
            .with_error_message(refused.why.map(StrBytes::from_string)),
    }
}

fn find(call: &Call, kind: i8, name: &str) -> Result<Vec<Config>, Refused> {
    call.access()
        .config(Operation::DescribeConfigs, kind, name)?;
    let config = &call.door.config;
    match kind {
        TOPIC => {
            let name = TopicName::new(name);
            let name = name.map_err(|why| Refused::new(Code::InvalidTopicException, why))?;
            let settings = call.broker.topic_settings(&name);
            let settings = settings.ok_or(Code::UnknownTopicOrPartition)?;
            Ok(configs::of_topic(&settings, config))
        }
        BROKER => {
            node(call, name)?;
            let advertised = call.door.advertised(call.local);
            Ok(node_configs::of_broker(config, &advertised))
        }
        GROUP => {
            let name = GroupName::new(name.to_owned());
            let name = name.map_err(|why| Refused::new(Code::InvalidGroupId, why))?;
            let settings = call.broker.share_groups().settings(&name);
            Ok(group_configs::all(&settings, config))
        }
        _ => Err(Refused::new(
            Code::InvalidRequest,
            "only topics, groups and the node have configurations",
        )),
    }
}

/// Whether this is how the node is called, alone or as all of them.
///
/// # Errors
/// It is not.
pub(super) fn node(call: &Call, name: &str) -> Result<(), Refused> {
    let id = call.door.config.node_id;
    if name.is_empty() || name == id.to_string() {
        return Ok(());
    }
    let why = format!("there is one node, {id}");
    Err(Refused::new(Code::InvalidRequest, why))
}

fn tell(config: Config, synonyms: bool) -> DescribeConfigsResourceResult {
    let told = config.synonyms.into_iter().filter(|_| synonyms);
    let told = told.map(|(name, value, source)| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_source(source)
    });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(Some(StrBytes::from_string(config.value)))
        .with_read_only(config.read_only)
        .with_config_source(config.source)
        .with_config_type(config.kind)
        .with_synonyms(told.collect())
}
