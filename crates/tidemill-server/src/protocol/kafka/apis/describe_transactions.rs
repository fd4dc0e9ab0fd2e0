//! `DescribeTransactions` (65), version 0: transactional producers by their ids: how far they are,
//! since when, and where their open transactions write.
//!
//! Deviations: a transaction's end is one entry of the journal, so that none is ever seen while it
//! is being committed or aborted. An id is told of once. Where memory is short an id is answered
//! with `COORDINATOR_LOAD_IN_PROGRESS`, and asked for again.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    ApiKey, DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{TransactionInfo, TransactionStatus};
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::Code;
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{KAFKA_PARTITION_BYTES, KAFKA_TOPIC_BYTES, MEMORY_WAIT};

/// See the module.
pub(in super::super) struct DescribeTransactions;

impl Api for DescribeTransactions {
    type Request = DescribeTransactionsRequest;
    type Response = Held<DescribeTransactionsResponse>;
    const KEY: ApiKey = ApiKey::DescribeTransactions;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_TRANSACTIONS;
    const NEEDS: Needs = &[
        (Operation::Describe, Kind::TransactionalId),
        (Operation::Describe, Kind::Topic),
    ];

    async fn answer(
        call: Call,
        request: DescribeTransactionsRequest,
    ) -> Held<DescribeTransactionsResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let until = Instant::now() + MEMORY_WAIT;
        let asked: BTreeSet<_> = request.transactional_ids.into_iter().collect();
        let access = call.access();
        let mut states = Vec::new();
        for id in asked {
            // Others have their turn.
            tokio::task::yield_now().await;
            let state = match find(&call, &id, &mut share, until).await {
                Ok(info) => tell(&access, &info),
                Err(code) => TransactionState::default().with_error_code(code.code()),
            };
            states.push(state.with_transactional_id(id));
        }
        let response = DescribeTransactionsResponse::default().with_transaction_states(states);
        Held { response, share }
    }
}

async fn find(
    call: &Call,
    id: &TransactionalId,
    share: &mut Share,
    until: Instant,
) -> Result<TransactionInfo, Code> {
    call.access().transaction(Operation::Describe, id)?;
    let id = convert::transactional_id(id)?;
    let info = call.broker.transaction(&id);
    let info = info.ok_or(Code::TransactionalIdNotFound)?;
    let bytes = KAFKA_TOPIC_BYTES + info.partitions.len() * KAFKA_PARTITION_BYTES;
    match grown(share, bytes, until).await {
        true => Ok(info),
        false => Err(Code::CoordinatorLoadInProgress),
    }
}

fn tell(access: &Access, info: &TransactionInfo) -> TransactionState {
    let mut topics = BTreeMap::<_, Vec<i32>>::new();
    let sees = |topic: &str| access.may(Operation::Describe, Kind::Topic, topic);
    for place in info
        .partitions
        .iter()
        .filter(|place| sees(place.topic.as_str()))
    {
        let partitions = topics.entry(&place.topic).or_default();
        partitions.push(convert::wire_partition(place.partition));
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        TopicData::default()
            .with_topic(convert::wire_topic(name))
            .with_partitions(partitions)
    });
    let started = info.started.map(|at| at.as_millisecond());
    TransactionState::default()
        .with_transaction_state(StrBytes::from_static_str(state(info.status)))
        .with_transaction_timeout_ms(i32::try_from(info.timeout.as_millis()).unwrap_or(i32::MAX))
        .with_transaction_start_time_ms(started.unwrap_or(-1))
        .with_producer_id(ProducerId(info.producer.0))
        .with_producer_epoch(info.epoch.0)
        .with_topics(topics.collect())
}

/// Kafka's word for how far a transaction is.
pub(super) fn state(status: TransactionStatus) -> &'static str {
    match status {
        TransactionStatus::Empty => "Empty",
        TransactionStatus::Ongoing => "Ongoing",
        TransactionStatus::Committed => "CompleteCommit",
        TransactionStatus::Aborted => "CompleteAbort",
    }
}
