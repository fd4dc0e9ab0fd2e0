//! `CreatePartitions` (37), versions 0 to 3: adds partitions to topics.
//!
//! Deviations: new partitions lie on this node, whatever is assigned otherwise is refused. The next
//! events of a key may go elsewhere than those before, as with Apache Kafka.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{ApiKey, CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::AlterTopic;
use tidemill_broker::limits::TOPIC_PARTITIONS_MAX;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct CreatePartitions;

impl Api for CreatePartitions {
    type Request = CreatePartitionsRequest;
    type Response = CreatePartitionsResponse;
    const KEY: ApiKey = ApiKey::CreatePartitions;
    const VERSIONS: [i16; 2] = [0, 3];
    const SHAPE: &'static Shape = &shapes::CREATE_PARTITIONS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Topic)];

    async fn answer(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
        let mut results = Vec::new();
        for topic in request.topics {
            let added = add(&call, &topic, request.validate_only).await;
            let refused = added.err();
            let code = refused.as_ref().map_or(NONE, |refused| refused.code.code());
            let why = refused.and_then(|refused| refused.why);
            results.push(
                CreatePartitionsTopicResult::default()
                    .with_name(topic.name)
                    .with_error_code(code)
                    .with_error_message(why.map(StrBytes::from_string)),
            );
        }
        CreatePartitionsResponse::default().with_results(results)
    }
}

async fn add(call: &Call, topic: &CreatePartitionsTopic, only_look: bool) -> Result<(), Refused> {
    call.access().topic(Operation::Alter, &topic.name)?;
    let name = convert::topic(&topic.name)?;
    let have = call.broker.topic_settings(&name);
    let have = have.and_then(|_| call.broker.partition_count(&name));
    let have = have.ok_or(Code::UnknownTopicOrPartition)?;
    let count = u32::try_from(topic.count).unwrap_or(0);
    if count <= have || count > TOPIC_PARTITIONS_MAX {
        let why = format!("the topic has {have} partitions, and may have {TOPIC_PARTITIONS_MAX}");
        return Err(Refused::new(Code::InvalidPartitions, why));
    }
    let node = convert::node(call.door.config.node_id);
    if let Some(assigned) = &topic.assignments {
        let all = u32::try_from(assigned.len()) == Ok(count - have);
        if !all || assigned.iter().any(|one| one.broker_ids != [node]) {
            let why = format!("each new partition is assigned to node {} alone", node.0);
            return Err(Refused::new(Code::InvalidReplicaAssignment, why));
        }
    }
    if only_look {
        return Ok(());
    }
    let change = AlterTopic {
        partitions: Some(count),
        ..AlterTopic::default()
    };
    let altered = call.broker.alter_topic(&name, change).await;
    let altered = altered.map_err(|why| Refused::new(error::topic(&why), why));
    altered.map(|_| ())
}
