//! `CreateTopics` (19), versions 2 to 7: makes topics.
//!
//! Deviations: there is one replica of everything, so any replication factor is taken, and 1 is
//! told; replicas are assigned to this node alone. Which configurations are kept, and which are
//! taken without an effect, is said in `configs.rs`. Topics are made one after the other, whatever
//! the time-out.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::limits::TOPIC_PARTITIONS_MAX;
use tidemill_broker::{CreateTopic, TopicSettings};
use tidemill_core::TopicName;
use uuid::Uuid;

use super::super::access::{Kind, Needs, Operation};
use super::super::configs;
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct CreateTopics;

impl Api for CreateTopics {
    type Request = CreateTopicsRequest;
    type Response = CreateTopicsResponse;
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: [i16; 2] = [2, 7];
    const SHAPE: &'static Shape = &shapes::CREATE_TOPICS;
    const NEEDS: Needs = &[
        (Operation::Create, Kind::Cluster),
        (Operation::Create, Kind::Topic),
        // Who may not see configurations is not told those that were set.
        (Operation::DescribeConfigs, Kind::Topic),
    ];

    async fn answer(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut results = Vec::new();
        for (n, topic) in request.topics.iter().enumerate() {
            let mut others = request.topics.iter().enumerate();
            let twice = others.any(|(m, other)| m != n && other.name == topic.name);
            let made = match twice {
                true => Err(Refused::new(
                    Code::InvalidRequest,
                    "the topic is named twice",
                )),
                false => create(&call, topic, request.validate_only).await,
            };
            results.push(result(&call, topic, made));
        }
        CreateTopicsResponse::default().with_topics(results)
    }
}

/// What was made, or would be.
struct Made {
    id: Uuid,
    how: CreateTopic,
}

async fn create(call: &Call, topic: &CreatableTopic, only_look: bool) -> Result<Made, Refused> {
    call.access().create_topic(&topic.name)?;
    let name = TopicName::new(topic.name.as_str());
    let name = name.map_err(|why| Refused::new(Code::InvalidTopicException, why))?;
    if call.broker.partition_count(&name).is_some() {
        let why = format!("the topic {name} exists already");
        return Err(Refused::new(Code::TopicAlreadyExists, why));
    }
    let mut settings = TopicSettings::default();
    for config in &topic.configs {
        configs::set(&mut settings, &config.name, config.value.as_deref())?;
    }
    configs::check(&settings)?;
    let how = CreateTopic {
        partitions: partitions(call, topic)?,
        settings,
    };
    if only_look {
        return Ok(Made {
            id: Uuid::nil(),
            how,
        });
    }
    let made = call.broker.create_topic(name, how).await;
    let made = made.map_err(|why| Refused::new(error::topic(&why), why))?;
    Ok(Made {
        id: convert::wire_id(made.id),
        how,
    })
}

/// How many partitions are asked for, and whether they can lie as they are to.
fn partitions(call: &Call, topic: &CreatableTopic) -> Result<u32, Refused> {
    let node = convert::node(call.door.config.node_id);
    if !topic.assignments.is_empty() {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let why = "with assignments, leave partitions and replication factor out";
            return Err(Refused::new(Code::InvalidRequest, why));
        }
        let mut indexes: Vec<_> = topic
            .assignments
            .iter()
            .map(|one| one.partition_index)
            .collect();
        indexes.sort_unstable();
        let follow = (0..).zip(&indexes).all(|(n, index)| n == *index);
        if !follow || topic.assignments.iter().any(|one| one.broker_ids != [node]) {
            let why = format!(
                "each partition from 0 on is assigned to node {} alone",
                node.0
            );
            return Err(Refused::new(Code::InvalidReplicaAssignment, why));
        }
        return Ok(u32::try_from(indexes.len()).unwrap_or(u32::MAX));
    }
    if topic.replication_factor < 1 && topic.replication_factor != -1 {
        let why = "a replication factor is 1 or more, or -1 for what the server has";
        return Err(Refused::new(Code::InvalidReplicationFactor, why));
    }
    match u32::try_from(topic.num_partitions) {
        Err(_) if topic.num_partitions == -1 => Ok(call.door.config.default_partitions),
        Ok(count) if (1..=TOPIC_PARTITIONS_MAX).contains(&count) => Ok(count),
        _ => {
            let why = format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions");
            Err(Refused::new(Code::InvalidPartitions, why))
        }
    }
}

fn result(
    call: &Call,
    topic: &CreatableTopic,
    made: Result<Made, Refused>,
) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic.name.clone());
    let made = match made {
        Ok(made) => made,
        Err(refused) => {
            return result
                .with_error_code(refused.code.code())
                .with_error_message(refused.why.map(StrBytes::from_string))
                .with_num_partitions(-1)
                .with_replication_factor(-1);
        }
    };
    if call.version < 5 {
        return result;
    }
    let access = call.access();
    if let Err(code) = access.topic(Operation::DescribeConfigs, &topic.name) {
        return result
            .with_topic_id(made.id)
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_topic_config_error_code(code.code());
    }
    let all = configs::of_topic(&made.how.settings, &call.door.config);
    let all = all.into_iter().map(|config| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(config.name))
            .with_value(Some(StrBytes::from_string(config.value)))
            .with_read_only(config.read_only)
            .with_config_source(config.source)
    });
    let count = i32::try_from(made.how.partitions).unwrap_or(-1);
    result
        .with_topic_id(made.id)
        .with_num_partitions(count)
        .with_replication_factor(1)
        .with_configs(Some(all.collect()))
}
