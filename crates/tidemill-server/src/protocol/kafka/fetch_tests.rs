//! Fetches that go on with a session, over a broker: what is left out, what is not, and how much
//! smaller requests and answers are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tidemill_broker::{Begins, Broker, CreateTopic, TransactionEnd};
use tidemill_core::Partition;
use tidemill_core::budget::Class;

use super::Door;
use super::apis::fetch::Fetch;
use super::convert;
use super::error::Code;
use super::registry::{Api, Reply};
use super::tests::{begin, broker, builder, call, door, id, part, topic, writing};
use crate::limits::KAFKA_FETCH_WAIT_PARTITION_BYTES;

type FetchReply = <Fetch as Api>::Response;

/// A request for these partitions, from these offsets on.
fn request(session: (i32, i32), partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(index, offset)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let named = FetchTopic::default()
        .with_topic(convert::wire_topic(&topic()))
        .with_partitions(partitions.collect::<Vec<_>>());
    let topics = match named.partitions.is_empty() {
        true => Vec::new(),
        false => vec![named],
    };
    FetchRequest::default()
        .with_max_bytes(1 << 30)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(topics)
}

async fn write(broker: &Broker, partition: u32) {
    let mut writing = writing(builder(1, b"x"), Begins::No);
    writing.partition = Partition(partition);
    broker.produce(writing).await.unwrap();
}

/// Which partitions are told, with their ends and how many batches there are.
fn told(reply: &FetchReply) -> BTreeMap<i32, (i64, usize)> {
    assert_eq!(reply.error, 0);
    let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
    let told = partitions.map(|one| (one.index, (one.high_watermark, one.batches.len())));
    told.collect()
}

async fn fetch(door: &Arc<Door>, request: FetchRequest) -> FetchReply {
    Fetch::answer(call(door, 12), request).await
}

#[tokio::test]
async fn a_session_leaves_out_what_has_no_news_and_tells_everything_that_has() {
    let broker = broker(4, 1 << 26).await;
    write(&broker, 1).await;
    let (door, _close) = door(broker.clone());
    let all = [(0, 0), (1, 0), (2, 0), (3, 0)];
    let first = fetch(&door, request((0, 0), &all)).await;
    let number = first.session;
    assert!(number > 0);
    let everything = [(0, (0, 0)), (1, (1, 1)), (2, (0, 0)), (3, (0, 0))];
    assert_eq!(told(&first), everything.into());
    // Records that were answered and are still asked for come again.
    let again = fetch(&door, request((number, 1), &[])).await;
    assert_eq!(told(&again), [(1, (1, 1))].into());
    let none = fetch(&door, request((number, 2), &[(1, 1)])).await;
    assert!(none.topics.is_empty() && none.session == number);
    write(&broker, 2).await;
    let news = fetch(&door, request((number, 3), &[])).await;
    assert_eq!(told(&news), [(2, (1, 1))].into());
    // An open transaction moves the end alone, its end what is decided alone.
    let who = begin(&broker).await;
    broker.produce(part(who, 1)).await.unwrap();
    let decided = request((number, 4), &[(2, 1)]).with_isolation_level(1);
    assert_eq!(told(&fetch(&door, decided).await), [(0, (1, 0))].into());
    let end = TransactionEnd {
        commit: false,
        renew: false,
    };
    broker.end_transaction(&id(), who, end).await.unwrap();
    let decided = request((number, 5), &[(0, 2)]).with_isolation_level(1);
    assert_eq!(told(&fetch(&door, decided).await), [(0, (2, 0))].into());
    // So does a beginning that moves.
    broker
        .trim_topic(&topic(), Partition(1), tidemill_core::Offset(1))
        .await
        .unwrap();
    let begun = fetch(&door, request((number, 6), &[])).await;
    assert_eq!(told(&begun), [(1, (1, 0))].into());
    let forgotten = ForgottenTopic::default()
        .with_topic(convert::wire_topic(&topic()))
        .with_partitions(vec![0, 1, 2]);
    let one = request((number, 7), &[]).with_forgotten_topics_data(vec![forgotten]);
    assert!(fetch(&door, one).await.topics.is_empty());
    assert_eq!(door.fetch_sessions(|all| all.partitions()), 1);
    write(&broker, 0).await;
    let silent = fetch(&door, request((number, 8), &[])).await;
    assert!(silent.topics.is_empty(), "nobody wants it any more");
}

#[tokio::test]
async fn an_error_is_told_each_time_and_its_end_as_well() {
    let broker = broker(2, 1 << 26).await;
    let (door, _close) = door(broker.clone());
    let first = fetch(&door, request((0, 0), &[(0, 0), (1, 7), (9, 0)])).await;
    let errors = |reply: &FetchReply| -> Vec<_> {
        let all = reply.topics.iter().flat_map(|topic| &topic.partitions);
        all.map(|one| (one.index, one.error)).collect()
    };
    let beyond = (1, Code::OffsetOutOfRange.code());
    let unknown = (9, Code::UnknownTopicOrPartition.code());
    assert_eq!(errors(&first), [(0, 0), beyond, unknown]);
    let number = first.session;
    let again = fetch(&door, request((number, 1), &[])).await;
    assert_eq!(errors(&again), [beyond, unknown]);
    let mended = fetch(&door, request((number, 2), &[(1, 0)])).await;
    assert_eq!(errors(&mended), [(1, 0), unknown]);
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_told_to_a_session_by_ids() {
    let broker = broker(1, 1 << 26).await;
    let wire_id = || convert::wire_id(broker.topic(&topic()).unwrap().id);
    let (door, _close) = door(broker.clone());
    let by_id = async |session, named: bool| {
        let mut request = request(session, if named { &[(0, 0)] } else { &[] });
        if named {
            request.topics[0].topic_id = wire_id();
        }
        Fetch::answer(call(&door, 13), request).await
    };
    let error = |reply: &FetchReply| reply.topics[0].partitions[0].error;
    let first = by_id((0, 0), true).await;
    let number = first.session;
    let by_name = fetch(&door, request((number, 1), &[])).await;
    assert_eq!(by_name.error, Code::FetchSessionTopicIdError.code());
    assert_eq!(by_name.session, 0);
    broker.delete_topic(&topic()).await.unwrap();
    let gone = by_id((number, 1), false).await;
    assert_eq!(error(&gone), Code::UnknownTopicId.code());
    let how = CreateTopic::default();
    broker.create_topic(topic(), how).await.unwrap();
    let other = by_id((number, 2), false).await;
    assert_eq!(error(&other), Code::InconsistentTopicId.code());
    let both = by_id((number, 3), true).await;
    assert_eq!(both.topics.len(), 1 + 1, "the old one, and the new one");
}

#[tokio::test]
async fn who_names_a_session_that_is_not_there_is_told_so_and_its_end_ends_it() {
    let (door, _close) = door(broker(1, 1 << 26).await);
    let error = |reply: &FetchReply| (reply.error, reply.session, reply.topics.len());
    let none = fetch(&door, request((5, 1), &[(0, 0)])).await;
    let unknown = Code::FetchSessionIdNotFound.code();
    assert_eq!(error(&none), (unknown, 0, 0));
    let number = fetch(&door, request((0, 0), &[(0, 0)])).await.session;
    let early = fetch(&door, request((number, 2), &[])).await;
    let epoch = Code::InvalidFetchSessionEpoch.code();
    assert_eq!(error(&early), (epoch, 0, 0));
    let other = kafka_protocol::protocol::StrBytes::from_static_str("other");
    let mut stranger = call(&door, 12);
    stranger.client_id = Some(other);
    let refused = Fetch::answer(stranger, request((number, 1), &[])).await;
    assert_eq!(error(&refused), (unknown, 0, 0));
    let last = fetch(&door, request((number, -1), &[(0, 0)])).await;
    assert_eq!(error(&last), (0, 0, 1), "told, and without a session");
    assert_eq!(door.fetch_sessions(|all| all.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_over_all_its_partitions() {
    let broker = broker(64, 1 << 26).await;
    let (door, _close) = door(broker.clone());
    let all: Vec<_> = (0..64).map(|index| (index, 0)).collect();
    let number = fetch(&door, request((0, 0), &all)).await.session;
    let waits = |epoch, wait_ms| {
        let request = request((number, epoch), &[]);
        fetch(&door, request.with_min_bytes(1).with_max_wait_ms(wait_ms))
    };
    let begun = tokio::time::Instant::now();
    let none = waits(1, 500).await;
    assert!(none.topics.is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(500));
    // The log has a thread of its own, which no paused clock waits for.
    tokio::time::resume();
    let begun = std::time::Instant::now();
    let (news, ()) = tokio::join!(waits(2, 600_000), write(&broker, 63));
    assert_eq!(told(&news), [(63, (1, 1))].into());
    assert!(begun.elapsed() < Duration::from_secs(300), "as it came");
}

/// A request as it is sent, version 12: for the first so many partitions.
fn wire(session: (i32, i32), count: u16) -> Vec<u8> {
    let mut out = Vec::new();
    // For no replica, at once, up to 16 MiB, of what is not decided too.
    for number in [-1, 0, 0, 1 << 24] {
        out.extend(i32::to_be_bytes(number));
    }
    out.push(0);
    out.extend([session.0, session.1].map(i32::to_be_bytes).concat());
    match count {
        0 => out.push(1),
        count => {
            let [high, low] = [(count + 1) >> 7, (count + 1) & 0x7f].map(|n| n as u8);
            out.extend([2, 2, b'a', low | 0x80, high]);
        }
    }
    for index in 0..i32::from(count) {
        let (epoch, last_epoch, max_bytes) = (-1, -1, 1 << 20);
        let (offset, begins) = (0, -1);
        out.extend([index, epoch].map(i32::to_be_bytes).concat());
        out.extend(i64::to_be_bytes(offset));
        out.extend(i32::to_be_bytes(last_epoch));
        out.extend(i64::to_be_bytes(begins));
        out.extend(i32::to_be_bytes(max_bytes));
        out.push(0);
    }
    if count > 0 {
        out.push(0);
    }
    // None forgotten, no rack, no tagged fields.
    out.extend([1, 1, 0]);
    out
}

/// Bytes of a request and of its answer, and the session that this names.
async fn bytes(door: &Arc<Door>, sent: Vec<u8>) -> (usize, usize, i32) {
    let mut rest = bytes::Bytes::from(sent.clone());
    let request = FetchRequest::decode(&mut rest, 12).unwrap();
    assert!(rest.is_empty());
    let reply = fetch(door, request).await;
    let session = reply.session;
    let body = reply.into_body(12).unwrap();
    let answered = body.pieces.iter().map(bytes::Bytes::len).sum();
    (sent.len(), answered, session)
}

#[tokio::test]
async fn of_a_thousand_partitions_one_with_news_costs_a_hundredth_of_the_bytes() {
    let broker = broker(1000, 1 << 28).await;
    let (door, _close) = door(broker.clone());
    let (_, _, number) = bytes(&door, wire((0, 0), 1000)).await;
    write(&broker, 500).await;
    let naive = bytes(&door, wire((0, -1), 1000)).await;
    let short = bytes(&door, wire((number, 1), 0)).await;
    assert_eq!((naive.2, short.2), (0, number));
    // What is sent, and what is answered with a batch of one record.
    assert_eq!((naive.0, naive.1), (33_034, 37_086));
    assert_eq!((short.0, short.1), (29, 122));
}

#[tokio::test(start_paused = true)]
async fn answers_of_a_session_count_all_that_it_has_until_they_are_sent() {
    let broker = broker(1, 1 << 26).await;
    let (door, _close) = door(broker);
    let part = FetchPartition::default().with_partition_max_bytes(1);
    let names = (0..4000).map(|number| {
        let name = StrBytes::from_string(format!("none-{number}"));
        FetchTopic::default()
            .with_topic(name.into())
            .with_partitions(vec![part.clone()])
    });
    let first = request((0, 0), &[]).with_topics(names.collect());
    let number = fetch(&door, first).await.session;
    assert!(number > 0);
    assert_eq!(door.memory.used(Class::Answers), 0);
    // Nobody takes them.
    let (mut held, mut written) = (Vec::new(), 0);
    let refused = loop {
        let epoch = 1 + i32::try_from(held.len()).unwrap();
        let reply = fetch(&door, request((number, epoch), &[])).await;
        if reply.error != 0 {
            break reply;
        }
        assert_eq!(reply.topics.len(), 4000, "all errors, again");
        let body = reply.into_body(12).unwrap();
        written += body.pieces.iter().map(bytes::Bytes::len).sum::<usize>();
        held.push(body);
        assert!(door.memory.used(Class::Answers) > written);
    };
    assert_eq!(refused.error, Code::KafkaStorageError.code());
    assert!(refused.topics.is_empty() && !held.is_empty());
    let epoch = 1 + i32::try_from(held.len()).unwrap();
    drop(held);
    assert_eq!(door.memory.used(Class::Answers), 0);
    let again = fetch(&door, request((number, epoch), &[])).await;
    assert_eq!(again.topics.len(), 4000, "the session is as it was");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_gone_on_with_while_it_is() {
    let (door, _close) = door(broker(2, 1 << 26).await);
    let number = fetch(&door, request((0, 0), &[(0, 0), (1, 0)]))
        .await
        .session;
    let waits = |epoch| {
        let request = request((number, epoch), &[]);
        fetch(&door, request.with_min_bytes(1).with_max_wait_ms(1000))
    };
    let (first, second) = tokio::join!(waits(1), waits(2));
    assert_eq!((first.error, first.session), (0, number));
    assert_eq!(second.error, Code::InvalidFetchSessionEpoch.code());
    assert_eq!(waits(2).await.session, number);
    // Whose connection breaks is in nobody's way.
    assert!(Box::pin(waits(3)).now_or_never().is_none());
    assert_eq!(waits(4).await.session, number);
}

#[tokio::test(start_paused = true)]
async fn what_waits_counts_and_where_memory_is_short_it_looks_again() {
    let broker = broker(64, 1 << 26).await;
    let (door, _close) = door(broker.clone());
    let all: Vec<_> = (0..64).map(|index| (index, 0)).collect();
    let number = fetch(&door, request((0, 0), &all)).await.session;
    let waits = |epoch| {
        let request = request((number, epoch), &[]);
        let request = request.with_min_bytes(1).with_max_wait_ms(300_000);
        Box::pin(fetch(&door, request))
    };
    let used = || door.memory.used(Class::Answers);
    let each = 64 * KAFKA_FETCH_WAIT_PARTITION_BYTES;
    let mut waiting = waits(1);
    assert!((&mut waiting).now_or_never().is_none());
    assert!(used() > each);
    drop(waiting);
    assert_eq!(used(), 0);
    let others = door.memory.max(Class::Answers) / 2;
    let others = door.memory.take(Class::Answers, others).unwrap();
    let mut waiting = waits(2);
    assert!((&mut waiting).now_or_never().is_none());
    assert!(used() > others.bytes() && used() - others.bytes() < each);
    write(&broker, 63).await;
    assert_eq!(told(&waiting.await), [(63, (1, 1))].into());
    drop(others);
    assert_eq!(used(), 0);
}
