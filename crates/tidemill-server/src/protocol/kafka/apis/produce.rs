//! `Produce` (0), versions 3 to 13; versions 0 to 2 are told to be served, and end the
//! connection, as Apache Kafka 4 has it.
//!
//! From version 13 on topics are named by their ids: one that was made anew under its name is not
//! written to by who knows the old one (`UNKNOWN_TOPIC_ID`).
//!
//! A batch is looked at (header, checksum, every record) and kept as it came: packed ones stay
//! packed. Its base offset and leader epoch are set, which the checksum does not cover.
//!
//! Deviations: `acks=1` and `acks=all` both wait until a batch is as durable as the server's flush
//! policy has it; `timeout_ms` bounds the wait for room in the log alone. The start of the log is
//! not told (-1). What fails with `acks=0` ends the connection, as Apache Kafka has it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::batch::Record;
use tidemill_broker::{
    Begins, Broker, FetchBatches, Isolation, Produce as Writing, ProducerBatch, ProducerError,
    TopicSettings,
};
use tidemill_core::budget::{Class, Freed};
use tidemill_core::error::Unavailable;
use tidemill_core::{Offset, TopicId, TopicName};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE, Refused};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use crate::clients::Client;
use crate::limits::{KAFKA_PRODUCE_WAIT_MAX, KAFKA_RECORD_ERRORS_MAX, KAFKA_ROOM_LOOK_AGAIN};

/// See the module.
pub(in super::super) struct Produce;

impl Api for Produce {
    type Request = ProduceRequest;
    type Response = ProduceResponse;
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: [i16; 2] = [3, 13];
    const SHAPE: &'static Shape = &shapes::PRODUCE;
    const NEEDS: Needs = &[
        (Operation::Write, Kind::Topic),
        (Operation::Write, Kind::TransactionalId),
    ];
    const PIPELINED: bool = true;

    fn is_answered(request: &ProduceRequest) -> bool {
        request.acks != 0
    }

    fn has_failed(response: &ProduceResponse) -> bool {
        let topics = response.responses.iter();
        let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
        partitions.any(|partition| partition.error_code != NONE)
    }

    async fn answer(mut call: Call, request: ProduceRequest) -> ProduceResponse {
        let turn = call.turn.take();
        let asked = Duration::from_millis(request.timeout_ms.try_into().unwrap_or(0));
        let until = Instant::now() + asked.min(KAFKA_PRODUCE_WAIT_MAX);
        let acks_known = matches!(request.acks, -1..=1);
        let access = call.access();
        // Copied, as the names of topics are.
        let transaction = request.transactional_id.as_ref();
        let transaction = transaction.map(|id| id.to_string());
        drop(request.transactional_id);
        let transactional = may_in_transaction(&access, transaction.as_deref());
        let topics = request.topic_data.into_iter().map(|topic| {
            let place = match acks_known {
                true => Place::of(&call, &access, &topic, transactional),
                false => Err(Code::InvalidRequiredAcks),
            };
            // Copied: the batch may have the frame's bytes to itself then, and is not copied.
            let name = StrBytes::from_string(topic.name.to_string());
            (name, topic.topic_id, place, topic.partition_data)
        });
        let topics = topics.collect::<Vec<_>>();
        let mut turns = Turns {
            call: &call,
            transaction,
            until,
            waited: false,
        };
        let mut room = KAFKA_RECORD_ERRORS_MAX;
        // Every batch is handed in before the first one is waited for.
        let mut writing = Vec::new();
        for (name, id, place, partitions) in topics {
            let mut all = Vec::new();
            for data in partitions {
                let begun = write(&call, place.clone(), data, &mut room);
                all.push(hand_in(begun, &mut turns).await);
            }
            writing.push((name, id, all));
        }
        drop(turn);
        let by_id = call.version >= BY_ID;
        let responses = writing
            .into_iter()
            .map(|(name, id, partitions)| async move {
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
    /// Whether the records may be those of a transaction.
    transactional: Result<(), Code>,
}

impl Place {
    fn of(
        call: &Call,
        access: &Access,
        topic: &TopicProduceData,
        transactional: Result<(), Code>,
    ) -> Result<Self, Code> {
        let id = (call.version >= BY_ID).then_some(TopicId(topic.topic_id));
        let name = match id {
            None => {
                access.topic(Operation::Write, &topic.name)?;
                convert::topic(&topic.name)?
            }
            Some(id) => {
                let name = call.broker.topic_name(id).ok_or(Code::UnknownTopicId)?;
                access.topic_of_id(Operation::Write, name.as_str())?;
                name
            }
        };
        Ok(Self {
            name,
            id,
            transactional,
        })
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

/// What a request has for a partition, and where it goes.
struct Ready {
    broker: Broker,
    client: Arc<Client>,
    index: i32,
    /// The topic with this identity and no other of its name.
    id: Option<TopicId>,
    writing: Result<Writing, NotWritten>,
    /// Whether its records get the time of their appending.
    stamps: bool,
}

type Answered = BoxFuture<'static, PartitionProduceResponse>;

/// Looks at what a request has for a partition.
fn write(
    call: &Call,
    place: Result<Place, Code>,
    data: PartitionProduceData,
    room: &mut usize,
) -> Ready {
    let index = data.index;
    let id = place.as_ref().map_or(None, |place| place.id);
    let settings = place.as_ref().ok();
    let settings = settings.and_then(|place| call.broker.topic_settings(&place.name));
    let stamps = settings.is_some_and(|settings| settings.append_time);
    let writing = place.map_err(NotWritten::from).and_then(|place| {
        let settings = settings.ok_or(Code::UnknownTopicOrPartition)?;
        let name = (place.name, &settings);
        let writing = prepare(call, name, index, data.records, room)?;
        if writing.batch.get().is_transactional() {
            place.transactional?;
        }
        Ok(writing)
    });
    Ready {
        broker: call.broker.clone(),
        client: Arc::clone(&call.client),
        index,
        id,
        writing,
        stamps,
    }
}

/// What a request has to hand in, one batch after the other.
struct Turns<'a> {
    call: &'a Call,
    transaction: Option<String>,
    /// How long it waits for room in all.
    until: Instant,
    /// It has waited for room. What who asks may do may be less since.
    waited: bool,
}

impl Turns<'_> {
    /// Whether a batch may be written, by what holds now.
    fn may(&self, writing: &Writing, id: Option<TopicId>) -> Result<(), Code> {
        let access = self.call.access();
        let topic = writing.topic.as_str();
        match id {
            None => access.topic(Operation::Write, topic)?,
            Some(_) => access.topic_of_id(Operation::Write, topic)?,
        }
        match writing.batch.get().is_transactional() {
            true => may_in_transaction(&access, self.transaction.as_deref()),
            false => Ok(()),
        }
    }

    /// Waits until there may be room; false where there is no time for that.
    async fn wait(&mut self, freed: Freed) -> bool {
        let door = &self.call.door;
        let look = Instant::now() + KAFKA_ROOM_LOOK_AGAIN;
        tokio::select! {
            () = freed => {}
            () = sleep_until(look.min(self.until)) => {}
            () = door.closed() => {}
        }
        self.waited = true;
        Instant::now() < self.until && !door.is_closing()
    }
}

/// Whether records may be those of a transaction.
fn may_in_transaction(access: &Access, id: Option<&str>) -> Result<(), Code> {
    match id {
        Some(id) => access.transaction(Operation::Write, id),
        None => access.nobodys_transaction(),
    }
}

/// Hands a batch in; what it resolves to, then, is the answer. A broker that has no room yet makes
/// its client wait, and not come again: what it sent after this would overtake it.
async fn hand_in(ready: Ready, turns: &mut Turns<'_>) -> Answered {
    let Ready {
        broker,
        client,
        index,
        id,
        writing,
        stamps,
    } = ready;
    let refused = |why| Box::pin(std::future::ready(response(index, -1, Err(why))));
    let writing = match writing {
        Ok(writing) => writing,
        Err(why) => return refused(why),
    };
    let mut freed = None;
    loop {
        if turns.waited
            && let Err(code) = turns.may(&writing, id)
        {
            return refused(code.into());
        }
        let produced = produce((broker.clone(), Arc::clone(&client)), id, writing.clone());
        // Without a budget: whether it is let in is known at the first look, and must be seen.
        let mut produced: BoxFuture<'static, _> = Box::pin(unconstrained(produced));
        let first = poll_fn(|task| Poll::Ready(produced.as_mut().poll(task)));
        let answer = match first.await {
            Poll::Pending => {
                return Box::pin(async move {
                    let written = produced.await;
                    kept(&broker, writing, (index, id, stamps), written).await
                });
            }
            Poll::Ready(answer) => answer,
        };
        let no_room = answer == Err(ProducerError::Unavailable(Unavailable::Overloaded));
        // Who listens before it looks misses nothing: the first time it looks once more at once.
        let again = match freed.take() {
            _ if !no_room => false,
            None => Instant::now() < turns.until && !turns.call.door.is_closing(),
            Some(freed) => turns.wait(freed).await,
        };
        if !again {
            let place = (index, id, stamps);
            return Box::pin(async move { kept(&broker, writing, place, answer).await });
        }
        freed = Some(turns.call.door.memory.freed(Class::Writes));
    }
}

async fn produce(
    (broker, client): (Broker, Arc<Client>),
    id: Option<TopicId>,
    writing: Writing,
) -> Result<Offset, ProducerError> {
    let batch = writing.batch.get();
    let (records, bytes) = (batch.record_count(), batch.size_bytes());
    let written = match id {
        Some(id) => broker.produce_to(id, writing).await,
        None => broker.produce(writing).await,
    };
    if written.is_ok() {
        client.produced(records.into(), bytes as u64);
    }
    written
}

/// The answer for a partition once a batch was written, or was not.
async fn kept(
    broker: &Broker,
    writing: Writing,
    (index, id, stamps): (i32, Option<TopicId>, bool),
    written: Result<Offset, ProducerError>,
) -> PartitionProduceResponse {
    let time_ms = match &written {
        Ok(offset) if stamps => stamp(broker, writing, *offset).await,
        _ => None,
    };
    response(index, time_ms.unwrap_or(-1), told(written, id))
}

/// The time that a batch got, as it is kept: of one that was sent again, the time of the first try.
async fn stamp(broker: &Broker, written: Writing, offset: Offset) -> Option<i64> {
    let fetch = FetchBatches {
        topic: written.topic,
        partition: written.partition,
        offset,
        max_bytes: 1,
        isolation: Isolation::ReadUncommitted,
        wait: Duration::ZERO,
    };
    let fetched = broker.fetch_batches(fetch).await.ok()?;
    fetched.batches.first()?.append_time_ms()
}

fn told(written: Result<Offset, ProducerError>, id: Option<TopicId>) -> Result<Offset, NotWritten> {
    written.map_err(|why| match (&why, id) {
        (ProducerError::UnknownTopic(_), Some(_)) => Code::UnknownTopicId.into(),
        _ => Refused::new(error::producer(&why), why).into(),
    })
}

fn response(
    index: i32,
    append_time_ms: i64,
    written: Result<Offset, NotWritten>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_log_append_time_ms(append_time_ms)
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
    (topic, settings): (TopicName, &TopicSettings),
    index: i32,
    records: Option<Bytes>,
    room: &mut usize,
) -> Result<Writing, NotWritten> {
    let partition = convert::partition(index)?;
    let records = records.unwrap_or_default();
    let own_bytes = settings.batch_max_bytes.map(usize::try_from);
    let own_bytes = own_bytes.and_then(Result::ok);
    let max_bytes = own_bytes.unwrap_or(call.door.config.message_max_bytes);
    if records.len() > max_bytes {
        let why = format!("a record batch has at most {max_bytes} bytes here");
        return Err(Refused::new(Code::MessageTooLarge, why).into());
    }
    let batch = ProducerBatch::new(records).map_err(|why| Refused {
        code: error::batch(&why),
        why: Some(why.to_string()),
    })?;
    if settings.compact {
        let why = "every record of a compacted topic needs a key";
        let refused = || Refused::new(Code::InvalidRecord, why);
        blame(&batch, |record| record.key.is_none(), refused, room)?;
    }
    let (before, after) = (settings.time_before_max_ms, settings.time_after_max_ms);
    if !settings.append_time && (before.is_some() || after.is_some()) {
        let now_ms = Timestamp::now().as_millisecond();
        let (least, most) = (wire_ms(before), wire_ms(after));
        let times = now_ms.saturating_sub(least)..=now_ms.saturating_add(most);
        let why = "the time of every record is within what the topic allows around the clock here";
        let refused = || Refused::new(Code::InvalidTimestamp, why);
        // Kafka's -1 says that there is no time.
        let wrong =
            |record: &Record| record.timestamp_ms != -1 && !times.contains(&record.timestamp_ms);
        blame(&batch, wrong, refused, room)?;
    }
    Ok(Writing {
        topic,
        partition,
        batch,
        // Clients add the partitions of a transaction before.
        begins: Begins::No,
    })
}

/// Milliseconds within what Kafka's times can be.
fn wire_ms(bound: Option<u64>) -> i64 {
    bound.map_or(i64::MAX, |ms| i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Refuses a batch that has wrong records, and names them, so many at most, but for the first one.
fn blame(
    batch: &ProducerBatch,
    is_wrong: impl Fn(&Record) -> bool,
    refused: impl Fn() -> Refused,
    room: &mut usize,
) -> Result<(), NotWritten> {
    let records = (0..).zip(batch.get().records());
    let wrong = records.filter(|(_, record)| record.as_ref().is_ok_and(&is_wrong));
    let told = wrong.map(|(index, _)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(index)
            .with_batch_index_error_message(None)
    });
    let records: Vec<_> = told.take((*room).max(1)).collect();
    if records.is_empty() {
        return Ok(());
    }
    *room = room.saturating_sub(records.len());
    Err(NotWritten {
        refused: refused(),
        records,
    })
}
