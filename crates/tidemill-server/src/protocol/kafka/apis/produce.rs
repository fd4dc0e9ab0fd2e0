//! `Produce` (0), versions 3 to 13; versions 0 to 2 are told to be served, and end the
//! connection, as Apache Kafka 4 has it.
//!
//! From version 13 on topics are named by their ids: one that was made anew under its name is not
//! written to by who knows the old one (`UNKNOWN_TOPIC_ID`).
//!
//! A batch is looked at (header, checksum, every record) and kept as it came: packed ones stay
//! packed. Its base offset and leader epoch are set, which the checksum does not cover.
//!
//! Deviations: `acks=1` and `acks=all` both wait until a batch is as durable as the server's
//! flush policy has it; `timeout_ms` is not looked at; the time of appending is never set
//! (`LogAppendTime`). The start of the log is not told (-1). What fails with `acks=0` ends the
//! connection, as Apache Kafka has it.

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{Begins, Produce as Writing, ProducerBatch, ProducerError};
use tidemill_core::{Offset, TopicId, TopicName};

use super::super::convert;
use super::super::error::{self, Code, NONE, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::KAFKA_RECORD_ERRORS_MAX;

/// See the module.
pub(in super::super) struct Produce;

impl Api for Produce {
    type Request = ProduceRequest;
    type Response = ProduceResponse;
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: [i16; 2] = [3, 13];
    const SHAPE: &'static Shape = &shapes::PRODUCE;
    const PIPELINED: bool = true;

    fn is_answered(request: &ProduceRequest) -> bool {
        request.acks != 0
    }

    fn has_failed(response: &ProduceResponse) -> bool {
        let topics = response.responses.iter();
        let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
        partitions.any(|partition| partition.error_code != NONE)
    }

    async fn answer(call: Call, request: ProduceRequest) -> ProduceResponse {
        let acks_known = matches!(request.acks, -1..=1);
        let topics = request.topic_data.into_iter().map(|topic| {
            let place = match acks_known {
                true => Place::of(&call, &topic),
                false => Err(Code::InvalidRequiredAcks),
            };
            // Copied: the batch may have the frame's bytes to itself then, and is not copied.
            let name = StrBytes::from_string(topic.name.to_string());
            (name, topic.topic_id, place, topic.partition_data)
        });
        let topics = topics.collect::<Vec<_>>();
        drop(request.transactional_id);
        let mut room = KAFKA_RECORD_ERRORS_MAX;
        // Every batch is handed in before the first one is waited for.
        let writing = topics.into_iter().map(|(name, id, place, partitions)| {
            let partitions = partitions.into_iter();
            let writing = partitions.map(|data| write(&call, place.clone(), data, &mut room));
            (name, id, writing.collect::<Vec<_>>())
        });
        let by_id = call.version >= BY_ID;
        let responses = writing.map(|(name, id, partitions)| async move {
            let response = match by_id {
                true => TopicProduceResponse::default().with_topic_id(id),
                false => TopicProduceResponse::default().with_name(name.into()),
            };
            response.with_partition_responses(join_all(partitions).await)
        });
        ProduceResponse::default().with_responses(join_all(responses).await)
    }
}

/// The first version that names topics by their ids.
const BY_ID: i16 = 13;

/// Which topic is meant.
#[derive(Clone)]
struct Place {
    name: TopicName,
    /// This one and no other of its name.
    id: Option<TopicId>,
}

impl Place {
    fn of(call: &Call, topic: &TopicProduceData) -> Result<Self, Code> {
        if call.version < BY_ID {
            let name = convert::topic(&topic.name)?;
            return Ok(Self { name, id: None });
        }
        let id = TopicId(topic.topic_id);
        let name = call.broker.topic_name(id).ok_or(Code::UnknownTopicId)?;
        Ok(Self { name, id: Some(id) })
    }
}

/// Why a batch was not written, and which of its records are to blame.
struct NotWritten {
    refused: Refused,
    records: Vec<BatchIndexAndErrorMessage>,
}

impl<T: Into<Refused>> From<T> for NotWritten {
    fn from(refused: T) -> Self {
        Self {
            refused: refused.into(),
            records: Vec::new(),
        }
    }
}

type Written = BoxFuture<'static, PartitionProduceResponse>;

/// Begins to write what a request has for a partition. The future is to be polled once before
/// anything that must come after.
fn write(
    call: &Call,
    place: Result<Place, Code>,
    data: PartitionProduceData,
    room: &mut usize,
) -> Written {
    let index = data.index;
    let id = place.as_ref().map_or(None, |place| place.id);
    let writing = place
        .map_err(NotWritten::from)
        .and_then(|place| prepare(call, place.name, index, data.records, room));
    let broker = call.broker.clone();
    Box::pin(async move {
        let written = match writing {
            Ok(writing) => {
                let written = match id {
                    Some(id) => broker.produce_to(id, writing).await,
                    None => broker.produce(writing).await,
                };
                written.map_err(|why| match (&why, id) {
                    (ProducerError::UnknownTopic(_), Some(_)) => Code::UnknownTopicId.into(),
                    _ => Refused::new(error::producer(&why), why).into(),
                })
            }
            Err(why) => Err(why),
        };
        response(index, written)
    })
}

fn response(index: i32, written: Result<Offset, NotWritten>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    match written {
        Ok(offset) => response.with_base_offset(convert::wire_offset(offset)),
        Err(NotWritten { refused, records }) => response
            .with_base_offset(-1)
            .with_error_code(refused.code.code())
            .with_error_message(refused.why.map(StrBytes::from_string))
            .with_record_errors(records),
    }
}

/// Looks at a partition's records, and says where they go.
fn prepare(
    call: &Call,
    topic: TopicName,
    index: i32,
    records: Option<Bytes>,
    room: &mut usize,
) -> Result<Writing, NotWritten> {
    let partition = convert::partition(index)?;
    let records = records.unwrap_or_default();
    let settings = call.broker.topic_settings(&topic);
    let settings = settings.ok_or(Code::UnknownTopicOrPartition)?;
    let max_bytes = call.door.config.message_max_bytes;
    if records.len() > max_bytes {
        let why = format!("a record batch has at most {max_bytes} bytes here");
        return Err(Refused::new(Code::MessageTooLarge, why).into());
    }
    let batch = ProducerBatch::new(records).map_err(|why| Refused {
        code: error::batch(&why),
        why: Some(why.to_string()),
    })?;
    let keyless = match settings.compact {
        true => keyless(&batch, *room),
        false => Vec::new(),
    };
    if !keyless.is_empty() {
        *room = room.saturating_sub(keyless.len());
        let why = "every record of a compacted topic needs a key";
        return Err(NotWritten {
            refused: Refused::new(Code::InvalidRecord, why),
            records: keyless,
        });
    }
    Ok(Writing {
        topic,
        partition,
        batch,
        // Clients add the partitions of a transaction before.
        begins: Begins::No,
    })
}

/// The records without a key, so many at most, but for the first one.
fn keyless(batch: &ProducerBatch, room: usize) -> Vec<BatchIndexAndErrorMessage> {
    let records = (0..).zip(batch.get().records());
    let keyless = records.filter(|(_, record)| record.as_ref().is_ok_and(|one| one.key.is_none()));
    let told = keyless.map(|(index, _)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(index)
            .with_batch_index_error_message(None)
    });
    told.take(room.max(1)).collect()
}
