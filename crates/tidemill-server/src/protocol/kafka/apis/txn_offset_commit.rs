//! `TxnOffsetCommit` (28), versions 0 to 3: a transaction sets positions of a group, which hold
//! once it is committed.
//!
//! Deviations: none.

use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{ApiKey, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use tidemill_broker::{
    ClassicCommit, ConsumerError, ConsumerTransactionError, TransactionalCommitError,
};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group::{self, Asked};

/// See the module.
pub(in super::super) struct TxnOffsetCommit;

impl Api for TxnOffsetCommit {
    type Request = TxnOffsetCommitRequest;
    type Response = TxnOffsetCommitResponse;
    const KEY: ApiKey = ApiKey::TxnOffsetCommit;
    const VERSIONS: [i16; 2] = [0, 3];
    const SHAPE: &'static Shape = &shapes::TXN_OFFSET_COMMIT;
    const NEEDS: Needs = &[
        (Operation::Write, Kind::TransactionalId),
        (Operation::Read, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(call: Call, asked: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
        let positions = asked.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Asked {
                topic: &topic.name,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_ref(),
            })
        });
        let (commits, places) = group::commits(&call, positions);
        let said = commit(&call, &asked, commits).await;
        let code = |place: Result<usize, Code>| match (place, &said) {
            (Err(code), _) => code.code(),
            (Ok(_), Err(code)) => code.code(),
            (Ok(place), Ok(said)) => said.get(place).copied().unwrap_or(NONE),
        };
        let mut codes = places.into_iter().map(code);
        let topics = asked.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().zip(codes.by_ref());
            let partitions = partitions.map(|(partition, code)| {
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
            TxnOffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        TxnOffsetCommitResponse::default().with_topics(topics.collect())
    }
}

/// What is said of each position.
async fn commit(
    call: &Call,
    asked: &TxnOffsetCommitRequest,
    commits: Vec<ClassicCommit>,
) -> Result<Vec<i16>, Code> {
    let access = call.access();
    access.transaction(Operation::Write, &asked.transactional_id)?;
    access.group(Operation::Read, &asked.group_id)?;
    let (id, producer) = (&asked.transactional_id, asked.producer_id);
    let (id, identity) = convert::transaction(id, producer, asked.producer_epoch)?;
    let name = group::name(&asked.group_id)?;
    let instance = asked.group_instance_id.as_ref();
    let consumers = call.broker.consumer_groups();
    if consumers.has(&name) {
        let caller = group::consumer(&asked.member_id, asked.generation_id);
        let done = consumers.commit_in_transaction((&id, identity), &name, &caller, commits);
        return match done.await {
            Ok(said) => Ok(said.iter().map(error::committed).collect()),
            // This key's clients do not know the other code.
            Err(ConsumerTransactionError::Group(ConsumerError::StaleEpoch)) => {
                Err(Code::IllegalGeneration)
            }
            Err(ConsumerTransactionError::Group(why)) => Err(error::consumer(&why)),
            Err(ConsumerTransactionError::Producer(why)) => Err(error::transaction(&why, false)),
        };
    }
    let caller = group::caller(&asked.member_id, instance, asked.generation_id);
    let groups = call.broker.classic_groups();
    let done = groups.commit_in_transaction((&id, identity), &name, &caller, commits);
    match done.await {
        Ok(said) => Ok(said.iter().map(error::committed).collect()),
        Err(TransactionalCommitError::Group(why)) => Err(error::classic(&why)),
        Err(TransactionalCommitError::Producer(why)) => Err(error::transaction(&why, false)),
    }
}
