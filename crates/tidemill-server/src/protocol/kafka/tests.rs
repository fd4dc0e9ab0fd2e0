//! What clients are answered, key by key and frame by frame, where memory is short, transactions
//! are open, and the server closes.

mod acls;
mod any_bytes;
mod every_key;
mod permissions;
mod room;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest};
use tidemill_broker::batch::Producer as Header;
use tidemill_broker::{
    BatchBuilder, Begins, Broker, CreateTopic, InitTransactional, Produce as Writing,
    ProducerError, ProducerIdentity, TransactionEnd, TransactionalId,
};
use tidemill_core::budget::Class;
use tidemill_core::{Partition, TopicId, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, duplex, split};
use tokio::sync::watch;

use super::Door;
use super::apis::fetch::Fetch;
use super::apis::list_offsets::ListOffsets;
use super::apis::metadata::Metadata;
use super::apis::produce::Produce;
use super::connection::{self, Ends};
use super::convert;
use super::error::Code;
use super::frame::Frames;
use super::registry::{Api, Call};
use super::sasl::Session;
use crate::config::KafkaConfig;
use crate::limits::{KAFKA_FETCH_COST, KAFKA_FETCH_SESSION_PARTITION_BYTES, KAFKA_IDLE_TIMEOUT};
use crate::metrics::Metrics;

const HERE: ([u8; 4], u16) = ([127, 0, 0, 1], 9092);

pub(super) fn door(broker: Broker) -> (Arc<Door>, watch::Sender<bool>) {
    let (close, closing) = watch::channel(false);
    let metrics = Arc::new(Metrics::new());
    let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
    let door = Door::new(broker, KafkaConfig::default(), metrics, pullers, closing);
    (Arc::new(door), close)
}

pub(super) fn call(door: &Arc<Door>, version: i16) -> Call {
    Call {
        door: Arc::clone(door),
        broker: door.broker.clone(),
        version,
        too_new: false,
        client_id: None,
        peer: SocketAddr::from(HERE),
        local: SocketAddr::from(HERE),
        session: Arc::new(session(door)),
        turn: None,
        client: Arc::clone(&door.metrics.connected.enter(0, "kafka", HERE.into()).client),
    }
}

pub(super) fn session(door: &Door) -> Session {
    let ends = Ends {
        peer: SocketAddr::from(HERE),
        local: SocketAddr::from(HERE),
    };
    Session::new(door, ends, false, None)
}

pub(super) fn topic() -> TopicName {
    TopicName::new("a").unwrap()
}

pub(super) fn builder(time_ms: i64, value: &[u8]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    let pushed = builder.push(time_ms, None, Some(value), std::iter::empty());
    pushed.unwrap();
    builder
}

pub(super) fn writing(builder: BatchBuilder, begins: Begins) -> Writing {
    Writing {
        topic: topic(),
        partition: Partition(0),
        batch: builder.finish().unwrap().try_into().unwrap(),
        begins,
    }
}

pub(super) async fn broker(partitions: u32, memory: usize) -> Broker {
    let builder = Broker::builder().in_memory(1 << 30).memory(memory);
    let broker = builder.open().await.unwrap();
    let how = CreateTopic {
        partitions,
        ..CreateTopic::default()
    };
    broker.create_topic(topic(), how).await.unwrap();
    broker
}

#[tokio::test]
async fn metadata_tells_of_a_topic_once_however_often_it_is_asked_for() {
    let (door, _close) = door(broker(64, 1 << 26).await);
    let id = convert::wire_id(door.broker.topic(&topic()).unwrap().id);
    let by_name = MetadataRequestTopic::default().with_name(Some(convert::wire_topic(&topic())));
    let by_id = MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(id);
    let asked = [vec![by_name; 1000], vec![by_id; 1000]].concat();
    let request = MetadataRequest::default().with_topics(Some(asked));
    let held = Metadata::answer(call(&door, 12), request).await;
    assert_eq!(held.response.topics.len(), 2);
    for topic in &held.response.topics {
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 64));
    }
    assert!(held.share.bytes() >= 2 * 64 * 256);
    assert_eq!(door.memory.used(Class::Answers), held.share.bytes());
}

#[tokio::test]
async fn metadata_without_memory_is_to_be_asked_for_again() {
    let (door, _close) = door(broker(64, 1 << 26).await);
    let all = door.memory.free(Class::Answers);
    let _share = door.memory.take(Class::Answers, all).unwrap();
    tokio::time::pause();
    let request = MetadataRequest::default().with_topics(None);
    let held = Metadata::answer(call(&door, 12), request).await;
    let [topic] = &held.response.topics[..] else {
        panic!("there is one topic");
    };
    let code = Code::LeaderNotAvailable.code();
    assert_eq!((topic.error_code, topic.partitions.len()), (code, 0));
}

fn fetch(partitions: &[i32]) -> FetchRequest {
    let partitions = partitions.iter().map(|index| {
        FetchPartition::default()
            .with_partition(*index)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default()
        .with_topic(convert::wire_topic(&topic()))
        .with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_bytes(1 << 30)
        .with_min_bytes(1)
        .with_topics(vec![topic])
}

#[tokio::test]
async fn answers_that_nobody_takes_stay_within_the_memory() {
    let broker = broker(1, 1 << 24).await;
    for _ in 0..16 {
        let batch = builder(1, &vec![7; 100_000]);
        broker.produce(writing(batch, Begins::No)).await.unwrap();
    }
    let (door, _close) = door(broker);
    tokio::time::pause();
    let mut held = Vec::new();
    for _ in 0..200 {
        let reply = Fetch::answer(call(&door, 12), fetch(&[0])).await;
        let part = &reply.topics[0].partitions[0];
        assert_eq!((part.error, part.high_watermark), (0, 16));
        let bytes: usize = part.batches.iter().map(bytes::Bytes::len).sum();
        // Beside them, what is said of the partition, and the topic's name.
        let words = (KAFKA_FETCH_SESSION_PARTITION_BYTES + 1) * KAFKA_FETCH_COST;
        assert_eq!(reply.share.as_ref().unwrap().bytes(), bytes + words);
        held.push(reply);
        if bytes == 0 {
            break;
        }
    }
    assert_eq!(door.memory.over(), 0);
    let last = held.pop().unwrap();
    assert!(last.topics[0].partitions[0].batches.is_empty(), "no end");
    assert!(held.len() > 2, "some find memory");
    drop(held);
    let reply = Fetch::answer(call(&door, 12), fetch(&[0])).await;
    assert!(!reply.topics[0].partitions[0].batches.is_empty());
}

#[tokio::test]
async fn a_full_fetch_tells_the_bounds_of_the_rest_and_each_partition_once() {
    let broker = broker(2, 1 << 26).await;
    for partition in [0, 1] {
        let mut writing = writing(builder(1, b"x"), Begins::No);
        writing.partition = Partition(partition);
        broker.produce(writing).await.unwrap();
    }
    let (door, _close) = door(broker);
    let request = fetch(&[0, 1, 1, 0]).with_max_bytes(1);
    let reply = Fetch::answer(call(&door, 12), request).await;
    let parts = &reply.topics[0].partitions;
    let told = parts.iter().map(|part| (part.index, part.high_watermark));
    assert_eq!(told.collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    assert_eq!((parts[0].batches.len(), parts[1].batches.len()), (1, 0));
}

pub(super) fn id() -> TransactionalId {
    TransactionalId::new("t").unwrap()
}

pub(super) async fn begin(broker: &Broker) -> ProducerIdentity {
    let init = InitTransactional {
        id: id(),
        timeout: Duration::from_secs(60),
        expected: None,
    };
    broker.init_transactional(init).await.unwrap()
}

pub(super) fn part(who: ProducerIdentity, time_ms: i64) -> Writing {
    let batch = builder(time_ms, b"x").transactional().producer(Header {
        id: who.id.0,
        epoch: who.epoch.0,
        base_sequence: 0,
    });
    writing(batch, Begins::Yes)
}

async fn since(door: &Arc<Door>, isolation: i8, time_ms: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(time_ms);
    let topic = ListOffsetsTopic::default()
        .with_name(convert::wire_topic(&topic()))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_isolation_level(isolation)
        .with_topics(vec![topic]);
    let said = ListOffsets::answer(call(door, 8), request).await;
    let part = &said.topics[0].partitions[0];
    assert_eq!(part.error_code, 0);
    (part.offset, part.timestamp)
}

#[tokio::test]
async fn times_are_found_behind_markers_and_in_open_transactions() {
    let broker = broker(1, 1 << 26).await;
    let who = begin(&broker).await;
    broker.produce(part(who, 1000)).await.unwrap();
    let (door, _close) = door(broker.clone());
    assert_eq!(since(&door, 0, 500).await, (0, 1000), "open, read anyway");
    assert_eq!(since(&door, 1, 500).await, (-1, -1), "not decided yet");
    let committed = TransactionEnd {
        commit: true,
        renew: false,
    };
    broker.end_transaction(&id(), who, committed).await.unwrap();
    assert_eq!(since(&door, 1, 500).await, (0, 1000));
    // The marker at 1 is of now.
    assert_eq!(since(&door, 0, 2000).await, (-1, -1));
    let later = writing(builder(3000, b"x"), Begins::No);
    broker.produce(later).await.unwrap();
    for isolation in [0, 1] {
        assert_eq!(since(&door, isolation, 2000).await, (2, 3000));
        assert_eq!(since(&door, isolation, -3).await, (2, 3000), "the latest");
    }
}

/// A request of Produce, version 3, with its length.
fn produce(correlation: i32, acks: i16, topic: &str) -> BytesMut {
    produce_large(correlation, acks, topic, 0, b"x")
}

/// The same with one record of this value, and how long it may take.
fn produce_large(
    correlation: i32,
    acks: i16,
    topic: &str,
    timeout_ms: i32,
    value: &[u8],
) -> BytesMut {
    let batch = builder(1, value).finish().unwrap();
    let mut frame = BytesMut::new();
    frame.put_slice(&[0, 0, 0, 3]);
    frame.put_i32(correlation);
    // No client id, no transactional id.
    frame.put_slice(&[0xff; 4]);
    frame.put_i16(acks);
    frame.put_i32(timeout_ms);
    frame.put_slice(&[0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()]);
    frame.put_slice(topic.as_bytes());
    frame.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    frame.put_u32(u32::try_from(batch.as_bytes().len()).unwrap());
    frame.put_slice(batch.as_bytes());
    let mut whole = BytesMut::new();
    whole.put_u32(u32::try_from(frame.len()).unwrap());
    whole.unsplit(frame);
    whole
}

type Running = tokio::task::JoinHandle<std::io::Result<()>>;

fn connect(door: &Arc<Door>) -> (DuplexStream, Running) {
    let (client, mut server) = duplex(1 << 16);
    let (door, broker) = (Arc::clone(door), door.broker.clone());
    let session = Arc::new(session(&door));
    let until = tokio::time::Instant::now();
    let run = async move { connection::run(&mut server, door, broker, session, until).await };
    (client, tokio::spawn(run))
}

/// Bytes of such an answer with its length.
const ANSWER_BYTES: usize = 45;

/// The correlation of the next answer, and the offset that it tells.
async fn answer(stream: &mut ReadHalf<DuplexStream>) -> (i32, i64) {
    let length = stream.read_u32().await.unwrap();
    assert_eq!(length + 4, u32::try_from(ANSWER_BYTES).unwrap());
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut bytes).await.unwrap();
    let correlation = i32::from_be_bytes(bytes[..4].try_into().unwrap());
    // One topic "a", one partition 0, no error.
    assert_eq!(bytes[4..21], *b"\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\0\0\0");
    (
        correlation,
        i64::from_be_bytes(bytes[21..29].try_into().unwrap()),
    )
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests_however_these_are_cut() {
    let (door, _close) = door(broker(1, 1 << 26).await);
    let (client, running) = connect(&door);
    let (mut from, mut to) = split(client);
    let all: Vec<u8> = (0..50).flat_map(|n| produce(n, 1, "a")).collect();
    let send = tokio::spawn(async move {
        for piece in all.chunks(37) {
            to.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        to.shutdown().await.unwrap();
    });
    for n in 0..50 {
        assert_eq!(answer(&mut from).await, (n, i64::from(n)));
    }
    send.await.unwrap();
    running.await.unwrap().unwrap();
}

/// More is sent ahead than the log has room for at once: the producer waits, in its order.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_waits_for_room_and_nothing_is_overtaken() {
    let (door, _close) = door(broker(1, 1 << 24).await);
    let (client, running) = connect(&door);
    let (mut from, mut to) = split(client);
    let send = tokio::spawn(async move {
        let value = vec![b'x'; 512 << 10];
        for n in 0..40 {
            let request = produce_large(n, -1, "a", 30_000, &value);
            to.write_all(&request).await.unwrap();
        }
        to.shutdown().await.unwrap();
    });
    for n in 0..40 {
        assert_eq!(answer(&mut from).await, (n, i64::from(n)));
    }
    send.await.unwrap();
    running.await.unwrap().unwrap();
}

/// What as many requests at once say that came over connections of their own.
async fn flood(door: &Arc<Door>, timeout_ms: i32) -> Vec<i16> {
    let value = vec![b'x'; 512 << 10];
    let answers = (0..20).map(|_| {
        let batch = builder(1, &value).finish().unwrap();
        let records = Bytes::copy_from_slice(batch.as_bytes());
        let data = PartitionProduceData::default().with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(convert::wire_topic(&topic()))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(vec![topic]);
        Produce::answer(call(door, 9), request)
    });
    let answers = futures_util::future::join_all(answers).await;
    let parts = answers
        .iter()
        .map(|answer| &answer.responses[0].partition_responses[0]);
    parts.map(|part| part.error_code).collect()
}

#[tokio::test]
async fn who_does_not_wait_for_room_or_meets_the_end_is_told_to_come_again() {
    let (door, close) = door(broker(1, 1 << 24).await);
    let again = Code::NotEnoughReplicas.code();
    assert_eq!(flood(&door, 30_000).await, [0; 20]);
    assert!(flood(&door, 0).await.contains(&again));
    close.send(true).unwrap();
    assert!(flood(&door, 30_000).await.contains(&again));
}

#[tokio::test]
async fn a_failure_that_has_no_answer_ends_the_connection() {
    let (door, _close) = door(broker(1, 1 << 26).await);
    let (mut client, running) = connect(&door);
    client.write_all(&produce(1, 0, "a")).await.unwrap();
    client.write_all(&produce(2, 0, "unknown")).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut rest));
    ended.await.expect("the connection goes on").unwrap();
    assert!(rest.is_empty());
    running.await.unwrap().unwrap_err();
    let kept = door.broker.partition(&topic(), Partition(0)).unwrap();
    assert_eq!(kept.end.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_goes_on_does_not_hold_up_the_end() {
    let (door, close) = door(broker(1, 1 << 26).await);
    let (client, running) = connect(&door);
    let (mut from, mut to) = split(client);
    let send = tokio::spawn(async move {
        let mut sent = 0;
        while to.write_all(&produce(sent, 1, "a")).await.is_ok() {
            sent += 1;
        }
    });
    for n in 0..100 {
        assert_eq!(answer(&mut from).await.0, n);
    }
    close.send(true).unwrap();
    // Whatever was taken is answered: what follows are whole answers, and then the end.
    let mut rest = Vec::new();
    let read = from.read_to_end(&mut rest);
    let ended = tokio::time::timeout(Duration::from_secs(5), read).await;
    ended.expect("the connection goes on").unwrap();
    running.await.unwrap().unwrap();
    send.await.unwrap();
    // All that was written was answered.
    let kept = door.broker.partition(&topic(), Partition(0)).unwrap();
    assert_eq!(rest.len() % ANSWER_BYTES, 0);
    assert_eq!(kept.end.0, 100 + (rest.len() / ANSWER_BYTES) as u64);
}

#[tokio::test]
async fn tls_where_none_is_spoken_is_named_with_what_to_set() {
    let (mut client, mut server) = duplex(64);
    let mut frames = Frames::new(&tidemill_core::budget::Budget::default());
    client.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let refused = frames.next(&mut server, true).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
    assert!(
        refused.to_string().contains("--kafka-tls-cert"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_answer_is_not_idle() {
    let (mut client, mut server) = duplex(64);
    let mut frames = Frames::new(&tidemill_core::budget::Budget::default());
    {
        let mut next = std::pin::pin!(frames.next(&mut server, false));
        let waited = tokio::time::timeout(2 * KAFKA_IDLE_TIMEOUT, &mut next);
        assert!(waited.await.is_err(), "it is waited for");
        client.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
        let frame = next.await.unwrap().unwrap();
        assert_eq!(frame.bytes[..], [7]);
    }
    let silent = frames.next(&mut server, true).await;
    assert_eq!(silent.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_topic_made_anew_is_another_by_its_id() {
    let broker = broker(1, 1 << 26).await;
    let id = || convert::wire_id(broker.topic(&topic()).unwrap().id);
    let old = id();
    let batch = || writing(builder(1, b"x"), Begins::No).batch;
    let (door, _close) = door(broker.clone());
    let produce = async |id| {
        let data =
            PartitionProduceData::default().with_records(Some(batch().get().as_bytes().clone()));
        let topic = TopicProduceData::default()
            .with_topic_id(id)
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_topic_data(vec![topic]);
        let told = Produce::answer(call(&door, 13), request).await;
        assert_eq!(told.responses[0].topic_id, id);
        told.responses[0].partition_responses[0].error_code
    };
    let fetched = async |id| {
        let mut request = fetch(&[0]);
        request.topics[0].topic_id = id;
        let mut reply = Fetch::answer(call(&door, 13), request).await;
        let part = reply.topics.remove(0).partitions.remove(0);
        (part.error, part.batches.len())
    };
    assert_eq!(produce(old).await, 0);
    assert_eq!(fetched(old).await, (0, 1));
    broker.delete_topic(&topic()).await.unwrap();
    let unknown = Code::UnknownTopicId.code();
    assert_eq!(produce(old).await, unknown);
    let how = CreateTopic::default();
    broker.create_topic(topic(), how).await.unwrap();
    assert_ne!(id(), old);
    assert_eq!(produce(old).await, unknown);
    assert_eq!(fetched(old).await, (unknown, 0));
    assert_eq!(produce(id()).await, 0);
    let named = writing(builder(1, b"x"), Begins::No);
    let other = broker.produce_to(TopicId(old), named).await;
    assert!(matches!(other, Err(ProducerError::UnknownTopic(_))));
    assert_eq!(broker.topic(&topic()).unwrap().partitions[0].end.0, 1);
}
