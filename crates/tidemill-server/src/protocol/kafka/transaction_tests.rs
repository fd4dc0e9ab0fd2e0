//! What administrators are told of transactions that are open, and what is refused of producers:
//! the codes that clients of Kafka know.

use std::time::Duration;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest,
    ListTransactionsRequest, ProduceRequest, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::batch::Producer as Header;
use tidemill_broker::{
    AlterTopic, BatchBuilder, Begins, InitTransactional, TransactionEnd, TransactionalId,
};
use tidemill_core::budget::Class;
use tidemill_core::{Offset, Partition};

use super::apis::describe_producers::DescribeProducers;
use super::apis::describe_transactions::DescribeTransactions;
use super::apis::init_producer_id::InitProducerId;
use super::apis::list_transactions::ListTransactions;
use super::apis::produce::Produce;
use super::convert;
use super::error::Code;
use super::registry::{Api, Call};
use super::tests::{begin, broker, builder, call, door, id, part, topic, writing};

const MEMORY: usize = 64 << 20;

async fn producers(call: Call) -> Vec<(i64, i64)> {
    let topic = TopicRequest::default()
        .with_name(convert::wire_topic(&topic()))
        .with_partition_indexes(vec![0]);
    // What is named twice is looked at and told once.
    let request = DescribeProducersRequest::default().with_topics(vec![topic.clone(), topic]);
    let told = DescribeProducers::answer(call, request).await.response;
    assert_eq!((told.topics.len(), told.topics[0].partitions.len()), (1, 1));
    let partition = &told.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let producers = partition.active_producers.iter();
    let told = producers.map(|one| (one.producer_id.0, one.current_txn_start_offset));
    told.collect()
}

/// When each producer wrote last, as it is told.
async fn times(call: Call) -> Vec<i64> {
    let topic = TopicRequest::default()
        .with_name(convert::wire_topic(&topic()))
        .with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let told = DescribeProducers::answer(call, request).await.response;
    let producers = told.topics[0].partitions[0].active_producers.iter();
    producers.map(|one| one.last_timestamp).collect()
}

#[tokio::test]
async fn the_time_of_a_producers_last_batch_is_told_while_it_is_there() {
    let broker = broker(1, MEMORY).await;
    let (door, _close) = door(broker.clone());
    let who = begin(&broker).await;
    broker.produce(part(who, 1000)).await.unwrap();
    assert_eq!(times(call(&door, 0)).await, [1000]);
    let next = builder(2000, b"y").transactional().producer(Header {
        id: who.id.0,
        epoch: who.epoch.0,
        base_sequence: 1,
    });
    let behind = broker.produce(writing(next, Begins::No)).await.unwrap();
    assert_eq!(times(call(&door, 0)).await, [2000]);
    // Somebody else's batch is none of its.
    broker
        .produce(writing(builder(3000, b"z"), Begins::No))
        .await
        .unwrap();
    assert_eq!(times(call(&door, 0)).await, [2000]);
    let end = TransactionEnd {
        commit: true,
        renew: false,
    };
    broker.end_transaction(&id(), who, end).await.unwrap();
    let trimmed = broker
        .trim_topic(&topic(), Partition(0), Offset(behind.0 + 1))
        .await;
    trimmed.unwrap();
    assert_eq!(times(call(&door, 0)).await, [-1]);
}

#[tokio::test]
async fn transactions_are_found_by_an_expression_that_their_whole_ids_match() {
    let broker = broker(1, MEMORY).await;
    for name in ["orders-1", "orders-2", "bills"] {
        let init = InitTransactional {
            id: TransactionalId::new(name).unwrap(),
            timeout: Duration::from_secs(60),
            expected: None,
        };
        broker.init_transactional(init).await.unwrap();
    }
    let (door, _close) = door(broker);
    let ask = async |pattern: Option<&str>| {
        let request = ListTransactionsRequest::default()
            .with_duration_filter(-1)
            .with_transactional_id_pattern(pattern.map(convert::text));
        let told = ListTransactions::answer(call(&door, 2), request)
            .await
            .response;
        let ids = told.transaction_states.iter();
        let ids: Vec<_> = ids.map(|one| one.transactional_id.to_string()).collect();
        (told.error_code, ids.join(" "))
    };
    let found = |ids: &str| (0, ids.to_owned());
    for all in [None, Some(""), Some(".*")] {
        assert_eq!(ask(all).await, found("bills orders-1 orders-2"), "{all:?}");
    }
    assert_eq!(ask(Some("orders-.*")).await, found("orders-1 orders-2"));
    assert_eq!(ask(Some("orders")).await, found(""), "the whole id");
    assert_eq!(ask(Some("bills|.*-2")).await, found("bills orders-2"));
    let wrong = Code::InvalidRegularExpression.code();
    for text in [
        "(",
        "a)(b",
        "(?=a)",
        "((a{200}){200}){200}",
        &"a".repeat(5000),
    ] {
        assert_eq!(ask(Some(text)).await, (wrong, String::new()), "{text}");
    }
}

#[tokio::test]
async fn an_expression_that_is_too_large_for_so_many_ids_is_refused() {
    let broker = broker(1, MEMORY).await;
    for number in 0..200 {
        let init = InitTransactional {
            id: TransactionalId::new(format!("{number:01024}")).unwrap(),
            timeout: Duration::from_secs(60),
            expected: None,
        };
        broker.init_transactional(init).await.unwrap();
    }
    let (door, _close) = door(broker);
    let ask = async |pattern: &str| {
        let request = ListTransactionsRequest::default()
            .with_duration_filter(-1)
            .with_transactional_id_pattern(Some(convert::text(pattern)));
        let told = ListTransactions::answer(call(&door, 2), request)
            .await
            .response;
        (told.error_code, told.transaction_states.len())
    };
    // Both fail at the first byte of an id, so that this takes no time.
    assert_eq!(ask("x").await, (0, 0));
    let large = format!("x{}", "a{9}".repeat(22));
    let wrong = Code::InvalidRegularExpression.code();
    assert_eq!(ask(&large).await, (wrong, 0));
}

async fn listed(call: Call, request: ListTransactionsRequest) -> Vec<String> {
    let told = ListTransactions::answer(call, request).await.response;
    assert_eq!(told.error_code, 0);
    let states = told.transaction_states.iter();
    states
        .map(|one| one.transaction_state.to_string())
        .collect()
}

#[tokio::test]
async fn an_open_transaction_is_seen_with_where_it_begins_until_it_ends() {
    let broker = broker(1, MEMORY).await;
    let before = writing(builder(1, b"x"), Begins::No);
    broker.produce(before).await.unwrap();
    let who = begin(&broker).await;
    broker.produce(part(who, 1000)).await.unwrap();
    let (door, _close) = door(broker.clone());
    let describe = async |id: &'static str| {
        let id = StrBytes::from_static_str(id).into();
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
        let mut told = DescribeTransactions::answer(call(&door, 0), request).await;
        told.response.transaction_states.remove(0)
    };
    let name: &'static str = id().as_str().to_owned().leak();
    assert_eq!(producers(call(&door, 0)).await, [(who.id.0, 1)]);
    let open = describe(name).await;
    assert_eq!((open.error_code, open.producer_id.0), (0, who.id.0));
    assert_eq!(open.transaction_state.as_str(), "Ongoing");
    assert!(open.transaction_start_time_ms > 0);
    assert_eq!(open.topics[0].partitions, [0]);
    let all = ListTransactionsRequest::default().with_duration_filter(-1);
    assert_eq!(listed(call(&door, 1), all.clone()).await, ["Ongoing"]);
    let day = all.clone().with_duration_filter(86_400_000);
    assert!(listed(call(&door, 1), day).await.is_empty());
    let other = all.clone().with_producer_id_filters(vec![ProducerId(7)]);
    assert!(listed(call(&door, 1), other).await.is_empty());
    let end = TransactionEnd {
        commit: false,
        renew: false,
    };
    broker.end_transaction(&id(), who, end).await.unwrap();
    assert_eq!(producers(call(&door, 0)).await, [(who.id.0, -1)]);
    let ended = describe(name).await;
    assert_eq!(ended.transaction_state.as_str(), "CompleteAbort");
    assert_eq!(
        (ended.transaction_start_time_ms, ended.topics.len()),
        (-1, 0)
    );
    let ongoing = all.with_state_filters(vec![StrBytes::from_static_str("Ongoing")]);
    assert!(listed(call(&door, 1), ongoing).await.is_empty());
    let unknown = Code::TransactionalIdNotFound.code();
    assert_eq!(describe("nobody").await.error_code, unknown);
}

#[tokio::test]
async fn many_transactional_producers_are_listed_each_once_in_their_order() {
    let broker = broker(1, MEMORY).await;
    let mut names = Vec::new();
    for number in 0..600 {
        let name = format!("t-{number:03}");
        let init = InitTransactional {
            id: TransactionalId::new(name.clone()).unwrap(),
            timeout: Duration::from_secs(60),
            expected: None,
        };
        broker.init_transactional(init).await.unwrap();
        names.push(name);
    }
    let (door, _close) = door(broker);
    let all = ListTransactionsRequest::default().with_duration_filter(-1);
    let held = ListTransactions::answer(call(&door, 1), all.clone()).await;
    let told = held.response.transaction_states.iter();
    let told: Vec<_> = told.map(|one| one.transactional_id.to_string()).collect();
    assert_eq!(told, names);
    assert!(held.share.bytes() >= 600 * 200);
    // Where there is no memory it is to be asked for again.
    drop(held);
    let free = door.memory.free(Class::Answers);
    let _share = door.memory.take(Class::Answers, free).unwrap();
    tokio::time::pause();
    let held = ListTransactions::answer(call(&door, 1), all).await;
    let again = Code::CoordinatorLoadInProgress.code();
    assert_eq!(held.response.error_code, again);
    assert!(held.response.transaction_states.is_empty());
}

#[tokio::test]
async fn a_transaction_that_would_be_open_for_too_long_is_refused() {
    let (door, _close) = door(broker(1, MEMORY).await);
    for (ms, code) in [
        (60_000, 0),
        (900_001, Code::InvalidTransactionTimeout.code()),
        (-1, Code::InvalidTransactionTimeout.code()),
    ] {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(StrBytes::from_static_str("t").into()))
            .with_transaction_timeout_ms(ms);
        let told = InitProducerId::answer(call(&door, 5), request).await;
        assert_eq!(told.error_code, code, "{ms} ms");
    }
}

#[tokio::test]
async fn what_is_too_large_or_has_no_key_where_it_needs_one_is_refused() {
    let broker = broker(1, MEMORY).await;
    let (door, _close) = door(broker.clone());
    let produce = async |batch: BatchBuilder| {
        let records = batch.finish().unwrap().as_bytes().clone();
        let data = PartitionProduceData::default().with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(convert::wire_topic(&topic()))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_topic_data(vec![topic]);
        let told = Produce::answer(call(&door, 9), request.with_acks(-1)).await;
        told.responses[0].partition_responses[0].error_code
    };
    let too_large = vec![7; door.config.message_max_bytes];
    let code = Code::MessageTooLarge.code();
    assert_eq!(produce(builder(1, &too_large)).await, code);
    assert_eq!(produce(builder(1, b"x")).await, 0);
    let compact = AlterTopic {
        compact: Some(true),
        ..AlterTopic::default()
    };
    broker.alter_topic(&topic(), compact).await.unwrap();
    let code = Code::InvalidRecord.code();
    assert_eq!(produce(builder(1, b"x")).await, code);
    let mut keyed = BatchBuilder::new();
    let pushed = keyed.push(1, Some(b"k"), Some(b"x"), std::iter::empty());
    pushed.unwrap();
    assert_eq!(produce(keyed).await, 0);
}
