//! `AlterConfigs` (33), versions 0 to 2: gives topics and share groups other configurations; what
//! is not named goes back to its default. And what `IncrementalAlterConfigs` shares with it.
//!
//! Deviations: the node's configurations are those of the command line. Which ones are taken
//! without an effect is said in `configs.rs`, `node_configs.rs` and `group_configs.rs`.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse, ApiKey};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{ShareSettings, TopicSettings};
use tidemill_core::TopicName;

use super::super::access::{Kind, Needs, Operation};
use super::super::configs;
use super::super::error::{self, Code, NONE, Refused};
use super::super::group_configs;
use super::super::node_configs;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::describe_configs::{BROKER, GROUP, TOPIC, node};
use super::group;

/// See the module.
pub(in super::super) struct AlterConfigs;

impl Api for AlterConfigs {
    type Request = AlterConfigsRequest;
    type Response = AlterConfigsResponse;
    const KEY: ApiKey = ApiKey::AlterConfigs;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::ALTER_CONFIGS;
    const NEEDS: Needs = &[
        (Operation::AlterConfigs, Kind::Topic),
        (Operation::AlterConfigs, Kind::Group),
        (Operation::AlterConfigs, Kind::Cluster),
    ];

    async fn answer(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let mut responses = Vec::new();
        for resource in request.resources {
            let resource_of = (resource.resource_type, &resource.resource_name);
            let change = |settings: &mut TopicSettings| {
                *settings = TopicSettings::default();
                let mut all = resource.configs.iter();
                all.try_for_each(|one| configs::set(settings, &one.name, one.value.as_deref()))
            };
            let of_group = |settings: &mut ShareSettings| {
                *settings = ShareSettings::default();
                let mut all = resource.configs.iter();
                all.try_for_each(|one| {
                    group_configs::set(settings, &one.name, one.value.as_deref())
                })
            };
            let only_look = request.validate_only;
            let (code, why) = match resource.resource_type {
                GROUP => alter_group(&call, &resource.resource_name, only_look, of_group).await,
                BROKER => {
                    let names = resource.configs.iter().map(|one| one.name.as_str());
                    alter_node(&call, &resource.resource_name, names)
                }
                _ => alter(&call, resource_of, only_look, change).await,
            };
            responses.push(
                AlterConfigsResourceResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_error_code(code)
                    .with_error_message(why)
                    .with_resource_name(resource.resource_name),
            );
        }
        AlterConfigsResponse::default().with_responses(responses)
    }
}

/// Changes what is set for a group, and says how that went.
pub(super) async fn alter_group(
    call: &Call,
    name: &StrBytes,
    only_look: bool,
    change: impl FnOnce(&mut ShareSettings) -> Result<(), Refused>,
) -> (i16, Option<StrBytes>) {
    let altered = async {
        call.access().config(Operation::AlterConfigs, GROUP, name)?;
        let name = group::name(&name.clone().into())?;
        let groups = call.broker.share_groups();
        let before = groups.settings(&name);
        let mut settings = before;
        change(&mut settings)?;
        // What changes nothing makes no group.
        if only_look || settings == before {
            return Ok(());
        }
        let set = groups.set(&name, settings).await;
        set.map_err(|why| Refused::new(error::consumer(&why), why))
    };
    match altered.await {
        Ok(()) => (NONE, None),
        Err(refused) => (refused.code.code(), refused.why.map(StrBytes::from_string)),
    }
}

/// Takes what has no effect of the node's configurations, and says how that went.
pub(super) fn alter_node<'a>(
    call: &Call,
    name: &str,
    mut names: impl Iterator<Item = &'a str>,
) -> (i16, Option<StrBytes>) {
    let access = call.access();
    let altered = access.config(Operation::AlterConfigs, BROKER, name);
    let altered = altered.map_err(Refused::from);
    let altered = altered.and_then(|()| node(call, name));
    match altered.and_then(|()| names.try_for_each(node_configs::change)) {
        Ok(()) => (NONE, None),
        Err(refused) => (refused.code.code(), refused.why.map(StrBytes::from_string)),
    }
}

/// Changes a topic's settings, and says how that went.
pub(super) async fn alter(
    call: &Call,
    resource: (i8, &StrBytes),
    only_look: bool,
    change: impl FnOnce(&mut TopicSettings) -> Result<(), Refused>,
) -> (i16, Option<StrBytes>) {
    match altered(call, resource, only_look, change).await {
        Ok(()) => (NONE, None),
        Err(refused) => (refused.code.code(), refused.why.map(StrBytes::from_string)),
    }
}

async fn altered(
    call: &Call,
    (kind, name): (i8, &StrBytes),
    only_look: bool,
    change: impl FnOnce(&mut TopicSettings) -> Result<(), Refused>,
) -> Result<(), Refused> {
    call.access().config(Operation::AlterConfigs, kind, name)?;
    if kind != TOPIC {
        let why = "only topics, groups and the node have configurations";
        return Err(Refused::new(Code::InvalidRequest, why));
    }
    let name = TopicName::new(name.as_str());
    let name = name.map_err(|why| Refused::new(Code::InvalidTopicException, why))?;
    let settings = call.broker.topic_settings(&name);
    let mut settings = settings.ok_or(Code::UnknownTopicOrPartition)?;
    change(&mut settings)?;
    configs::check(&settings)?;
    if only_look {
        return Ok(());
    }
    let altered = call.broker.alter_topic(&name, settings.into()).await;
    let altered = altered.map_err(|why| Refused::new(error::topic(&why), why));
    altered.map(|_| ())
}
