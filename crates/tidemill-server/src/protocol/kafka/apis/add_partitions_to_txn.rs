//! `AddPartitionsToTxn` (24), versions 0 to 3: a transaction is going to write to partitions.
//!
//! Deviations: none. Versions from 4 on are for brokers among themselves.

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct AddPartitionsToTxn;

impl Api for AddPartitionsToTxn {
    type Request = AddPartitionsToTxnRequest;
    type Response = AddPartitionsToTxnResponse;
    const KEY: ApiKey = ApiKey::AddPartitionsToTxn;
    const VERSIONS: [i16; 2] = [0, 3];
    const SHAPE: &'static Shape = &shapes::ADD_PARTITIONS_TO_TXN;
    const NEEDS: Needs = &[
        (Operation::Write, Kind::TransactionalId),
        (Operation::Write, Kind::Topic),
    ];

    async fn answer(call: Call, asked: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
        let access = call.access();
        let mine = access.transaction(Operation::Write, &asked.v3_and_below_transactional_id);
        let unknown = |topic: &kafka_protocol::messages::TopicName, index: i32| {
            mine?;
            access.topic(Operation::Write, topic)?;
            let name = convert::topic(topic)?;
            let partition = convert::partition(index)?;
            let count = call.broker.partition_count(&name).unwrap_or(0);
            match partition.0 < count {
                true => Ok((name, partition)),
                false => Err(Code::UnknownTopicOrPartition),
            }
        };
        let mut all = Vec::new();
        let mut results = Vec::new();
        let mut missing = false;
        for topic in &asked.v3_and_below_topics {
            let mut codes = Vec::new();
            for index in &topic.partitions {
                let found = unknown(&topic.name, *index);
                codes.push((*index, error::code_of(&found)));
                missing |= found.is_err();
                all.extend(found);
            }
            results.push((topic.name.clone(), codes));
        }
        // All of them or none.
        let others = match missing {
            true => Code::OperationNotAttempted.code(),
            false => add(&call, &asked, &all).await,
        };
        let result = |(index, code): (i32, i16)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(if code == NONE { others } else { code })
        };
        let results = results.into_iter().map(|(name, codes)| {
            AddPartitionsToTxnTopicResult::default()
                .with_name(name)
                .with_results_by_partition(codes.into_iter().map(result).collect())
        });
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
    }
}

async fn add(
    call: &Call,
    asked: &AddPartitionsToTxnRequest,
    partitions: &[(tidemill_core::TopicName, tidemill_core::Partition)],
) -> i16 {
    let id = &asked.v3_and_below_transactional_id;
    let (producer, epoch) = (
        asked.v3_and_below_producer_id,
        asked.v3_and_below_producer_epoch,
    );
    let (id, identity) = match convert::transaction(id, producer, epoch) {
        Ok(both) => both,
        Err(code) => return code.code(),
    };
    let added = call
        .broker
        .add_to_transaction(&id, identity, partitions)
        .await;
    let knows_fenced = call.version >= 2;
    error::code_of(&added.map_err(|why| error::transaction(&why, knows_fenced)))
}
