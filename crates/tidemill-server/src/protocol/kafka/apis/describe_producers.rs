//! `DescribeProducers` (61), version 0: the producers that partitions know, and where their open
//! transactions begin. The least of those offsets is where `read_committed` ends.
//!
//! Deviations: when a producer wrote last is not known, nor which coordinator's epoch decided its
//! last transaction (-1). A topic that is named twice is answered once. Where memory is short, this
//! partition and the ones behind it are answered with `NOT_LEADER_OR_FOLLOWER`, which clients take
//! for a reason to ask again.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{
    ApiKey, DescribeProducersRequest, DescribeProducersResponse, ProducerId,
};
use tidemill_broker::ProducerInfo;
use tidemill_core::TopicName;
use tidemill_core::budget::{Class, Share};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{KAFKA_PARTITION_BYTES, MEMORY_WAIT};

/// See the module.
pub(in super::super) struct DescribeProducers;

impl Api for DescribeProducers {
    type Request = DescribeProducersRequest;
    type Response = Held<DescribeProducersResponse>;
    const KEY: ApiKey = ApiKey::DescribeProducers;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_PRODUCERS;
    const NEEDS: Needs = &[(Operation::Read, Kind::Topic)];

    async fn answer(
        call: Call,
        request: DescribeProducersRequest,
    ) -> Held<DescribeProducersResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let until = Instant::now() + MEMORY_WAIT;
        let mut asked: BTreeMap<_, BTreeSet<i32>> = BTreeMap::new();
        for topic in request.topics {
            asked
                .entry(topic.name)
                .or_default()
                .extend(topic.partition_indexes);
        }
        let mut topics = Vec::new();
        let mut is_short = false;
        let access = call.access();
        for (topic, indexes) in asked {
            let may = access.topic(Operation::Read, &topic);
            let name = may.and_then(|()| convert::topic(&topic));
            let mut partitions = Vec::new();
            for index in indexes {
                let known = match &name {
                    _ if is_short => Err(Code::NotLeaderOrFollower),
                    Ok(name) => producers(&call, name, index, &mut share, until).await,
                    Err(code) => Err(*code),
                };
                is_short |= matches!(known, Err(Code::NotLeaderOrFollower));
                let response = PartitionResponse::default()
                    .with_partition_index(index)
                    .with_error_code(error::code_of(&known));
                partitions.push(response.with_active_producers(known.unwrap_or_default()));
            }
            topics.push(
                TopicResponse::default()
                    .with_name(topic)
                    .with_partitions(partitions),
            );
        }
        let response = DescribeProducersResponse::default().with_topics(topics);
        Held { response, share }
    }
}

async fn producers(
    call: &Call,
    name: &TopicName,
    index: i32,
    share: &mut Share,
    until: Instant,
) -> Result<Vec<ProducerState>, Code> {
    // A request may name very many: others are served between them.
    yield_now().await;
    // A queue has partitions and is no topic.
    call.partition(name, index)?;
    let partition = convert::partition(index)?;
    let known = call.broker.producers(name, partition);
    let known = known.map_err(|why| error::producer(&why))?;
    match grown(share, known.len() * KAFKA_PARTITION_BYTES, until).await {
        true => Ok(known.iter().map(tell).collect()),
        false => Err(Code::NotLeaderOrFollower),
    }
}

fn tell(info: &ProducerInfo) -> ProducerState {
    let start = info.transaction_start.map(convert::wire_offset);
    let sequence = info.last_sequence.map(|last| last.number());
    ProducerState::default()
        .with_producer_id(ProducerId(info.producer.0))
        .with_producer_epoch(i32::from(info.epoch.0))
        .with_last_sequence(sequence.unwrap_or(-1))
        .with_last_timestamp(-1)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(start.unwrap_or(-1))
}
