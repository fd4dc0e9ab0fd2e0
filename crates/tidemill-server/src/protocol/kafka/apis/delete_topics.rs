//! `DeleteTopics` (20), versions 1 to 6: deletes topics by their names, or (6) by their ids.
//!
//! Deviations: none; a topic is gone when it is answered, with every group's position in it.

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    ApiKey, DeleteTopicsRequest, DeleteTopicsResponse, TopicName as WireName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct DeleteTopics;

impl Api for DeleteTopics {
    type Request = DeleteTopicsRequest;
    type Response = DeleteTopicsResponse;
    const KEY: ApiKey = ApiKey::DeleteTopics;
    const VERSIONS: [i16; 2] = [1, 6];
    const SHAPE: &'static Shape = &shapes::DELETE_TOPICS;
    const NEEDS: Needs = &[(Operation::Delete, Kind::Topic)];

    async fn answer(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let named = request
            .topic_names
            .into_iter()
            .map(|name| (Some(name), Uuid::nil()));
        let stated = request
            .topics
            .into_iter()
            .map(|topic| (topic.name, topic.topic_id));
        let mut results = Vec::new();
        for (name, id) in named.chain(stated) {
            let by_id = name.is_none();
            let mut known = name.or_else(|| name_of(&call, id));
            let sees = |name: &WireName| call.access().topic(Operation::Describe, name);
            let deleted = match &known {
                Some(name) if by_id && sees(name).is_err() => {
                    // Neither whose id it is, nor that it is somebody's.
                    known = None;
                    Err(Code::UnknownTopicId.into())
                }
                Some(name) => delete(&call, name).await,
                None => Err(Code::UnknownTopicId.into()),
            };
            let result = DeletableTopicResult::default()
                .with_name(known)
                .with_topic_id(id);
            results.push(match deleted {
                Ok(()) => result,
                Err(refused) => result
                    .with_error_code(refused.code.code())
                    .with_error_message(refused.why.map(StrBytes::from_string)),
            });
        }
        DeleteTopicsResponse::default().with_responses(results)
    }
}

fn name_of(call: &Call, id: Uuid) -> Option<WireName> {
    let topics = call.broker.topics();
    let found = topics.iter().find(|info| convert::wire_id(info.id) == id);
    found.map(|info| convert::wire_topic(&info.name))
}

async fn delete(call: &Call, name: &WireName) -> Result<(), Refused> {
    call.access().topic(Operation::Delete, name)?;
    let name = convert::topic(name)?;
    if call.broker.topic_settings(&name).is_none() {
        // A queue is no topic.
        return Err(Code::UnknownTopicOrPartition.into());
    }
    let deleted = call.broker.delete_topic(&name).await;
    deleted.map_err(|why| Refused::new(error::topic(&why), why))
}
