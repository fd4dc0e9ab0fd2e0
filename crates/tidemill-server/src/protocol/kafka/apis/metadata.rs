//! `Metadata` (3), versions 0 to 12: who is in the cluster, and which topics there are.
//!
//! A topic that a client asks for by its name is made where it is not there, if the request and
//! the settings allow it.
//!
//! Deviations: the cluster is this node alone, at the address that the client came by unless
//! another is set; queues are no topics; with no authorization, every operation is allowed.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{CreateTopic, TopicError, TopicInfo};
use tidemill_core::TopicName;
use uuid::Uuid;

use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// All that can be done with a topic, as bits by the numbers of Kafka's ACL operations: read,
/// write, create, delete, alter, describe, describe and alter configurations.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// And with the cluster: create, alter, describe, cluster action, describe and alter
/// configurations, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// See the module.
pub(in super::super) struct Metadata;

impl Api for Metadata {
    type Request = MetadataRequest;
    type Response = MetadataResponse;
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: [i16; 2] = [0, 12];
    const SHAPE: &'static Shape = &shapes::METADATA;

    async fn answer(call: Call, request: MetadataRequest) -> MetadataResponse {
        let operations = request.include_topic_authorized_operations;
        let create = request.allow_auto_topic_creation && call.door.config.auto_create;
        // No list asks for all; before version 1 an empty one does.
        let asked = request
            .topics
            .filter(|asked| call.version > 0 || !asked.is_empty());
        let mut topics = Vec::new();
        match asked {
            None => {
                let all = call.broker.topics();
                topics.extend(all.iter().map(|info| topic(&call, info)));
            }
            Some(asked) => {
                for one in asked {
                    topics.push(find(&call, one, create).await);
                }
            }
        }
        if operations {
            for topic in &mut topics {
                topic.topic_authorized_operations = TOPIC_OPERATIONS;
            }
        }
        let advertised = call.door.advertised(call.local);
        let node = convert::node(call.door.config.node_id);
        let broker = MetadataResponseBroker::default()
            .with_node_id(node)
            .with_host(StrBytes::from_string(advertised.host))
            .with_port(i32::from(advertised.port));
        let response = MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(call.door.cluster_id.clone()))
            .with_controller_id(node)
            .with_topics(topics);
        match request.include_cluster_authorized_operations {
            true => response.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
            false => response,
        }
    }
}

/// A topic that was asked for by its name or its id.
async fn find(call: &Call, asked: MetadataRequestTopic, create: bool) -> MetadataResponseTopic {
    let unknown = |code: Code| {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name(asked.name.clone())
            .with_topic_id(asked.topic_id)
    };
    let Some(name) = &asked.name else {
        let by_id = |info: &TopicInfo| convert::wire_id(info.id) == asked.topic_id;
        let found = call.broker.topics().into_iter().find(by_id);
        let known = found.filter(|_| asked.topic_id != Uuid::nil());
        return known.map_or_else(|| unknown(Code::UnknownTopicId), |info| topic(call, &info));
    };
    match find_or_create(call, name, create).await {
        Ok(info) => topic(call, &info),
        Err(code) => unknown(code),
    }
}

async fn find_or_create(
    call: &Call,
    name: &kafka_protocol::messages::TopicName,
    create: bool,
) -> Result<TopicInfo, Code> {
    let name: TopicName = convert::topic(name)?;
    if let Some(info) = call.broker.topic(&name) {
        return Ok(info);
    }
    if !create {
        return Err(Code::UnknownTopicOrPartition);
    }
    let how = CreateTopic {
        partitions: call.door.config.default_partitions,
        ..CreateTopic::default()
    };
    match call.broker.create_topic(name.clone(), how).await {
        Ok(info) => Ok(info),
        // Somebody else was quicker, or it is a queue.
        Err(TopicError::Exists(_)) => {
            let there = call.broker.topic(&name);
            there.ok_or(Code::InvalidTopicException)
        }
        Err(why) => Err(error::topic(&why)),
    }
}

fn topic(call: &Call, info: &TopicInfo) -> MetadataResponseTopic {
    let node = convert::node(call.door.config.node_id);
    let epoch = convert::leader_epoch(call.broker.incarnation());
    let partitions = info.partitions.iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_partition_index(convert::wire_partition(partition.partition))
            .with_leader_id(node)
            .with_leader_epoch(epoch)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    });
    MetadataResponseTopic::default()
        .with_error_code(NONE)
        .with_name(Some(convert::wire_topic(&info.name)))
        .with_topic_id(convert::wire_id(info.id))
        .with_partitions(partitions.collect())
}
