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
            let of_topic = |settings: &mut TopicSettings| {
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
        AlterConfigsResponse::default().with_responses(responses)
    }
}

/// Changes what is set for a resource, by one of these changes for a topic and for a group, and
/// says how that went. Of the node's configurations, whose `names` these are, what has no effect
/// is taken.
pub(super) async fn alter<'a>(
    call: &Call,
    (kind, name): (i8, &StrBytes),
    only_look: bool,
    names: impl Iterator<Item = &'a str>,
    (of_topic, of_group): (
        impl FnOnce(&mut TopicSettings) -> Result<(), Refused>,
        impl FnOnce(&mut ShareSettings) -> Result<(), Refused>,
    ),
) -> (i16, Option<StrBytes>) {
    let may = call.access().config(Operation::AlterConfigs, kind, name);
    let altered = match (may, kind) {
        (Err(code), _) => Err(code.into()),
        (Ok(()), TOPIC) => alter_topic(call, name, only_look, of_topic).await,
        (Ok(()), GROUP) => alter_group(call, name, only_look, of_group).await,
        (Ok(()), BROKER) => alter_node(call, name, names),
        (Ok(()), _) => {
            let why = "only topics, groups and the node have configurations";
            Err(Refused::new(Code::InvalidRequest, why))
        }
    };
    match altered {
        Ok(()) => (NONE, None),
        Err(refused) => (refused.code.code(), refused.why.map(StrBytes::from_string)),
    }
}

async fn alter_group(
    call: &Call,
    name: &StrBytes,
    only_look: bool,
    change: impl FnOnce(&mut ShareSettings) -> Result<(), Refused>,
) -> Result<(), Refused> {
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
}

/// Takes what has no effect of the node's configurations.
fn alter_node<'a>(
    call: &Call,
    name: &str,
    mut names: impl Iterator<Item = &'a str>,
) -> Result<(), Refused> {
    node(call, name)?;
    names.try_for_each(node_configs::change)
}

async fn alter_topic(
    call: &Call,
    name: &StrBytes,
    only_look: bool,
    change: impl FnOnce(&mut TopicSettings) -> Result<(), Refused>,
) -> Result<(), Refused> {
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
    altered
        .map(drop)
        .map_err(|why| Refused::new(error::topic(&why), why))
}
