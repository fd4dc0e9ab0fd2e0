//! `DescribeProducers` (61), version 0: the producers that partitions know, the time of the last
//! batch of each, and where their open transactions begin. The least of those offsets is where
//! `read_committed` ends.
//!
//! Deviations: the time is read from the batch, for 1,024 producers of a request and where it is
//! still there (else -1); the end of a transaction is none. Which coordinator's epoch decided the
//! last transaction is not known (-1). A topic that is named twice is answered once. Where memory
//! is short, this partition and the ones behind it are answered with `NOT_LEADER_OR_FOLLOWER`,
//! which clients take for a reason to ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{
    ApiKey, DescribeProducersRequest, DescribeProducersResponse, ProducerId,
};
use tidemill_broker::{FetchBatches, Isolation, ProducerInfo};
use tidemill_core::budget::{Class, Share};
use tidemill_core::{Partition, TopicName};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{KAFKA_PARTITION_BYTES, KAFKA_PRODUCER_TIMES_MAX, MEMORY_WAIT};

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
        let mut times = Times {
            left: KAFKA_PRODUCER_TIMES_MAX,
            until,
        };
        let access = call.access();
        for (topic, indexes) in asked {
            let may = access.topic(Operation::Read, &topic);
            let name = may.and_then(|()| convert::topic(&topic));
            let mut partitions = Vec::new();
            for index in indexes {
                let known = match &name {
                    _ if is_short => Err(Code::NotLeaderOrFollower),
                    Ok(name) => producers(&call, name, index, &mut share, &mut times).await,
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
    times: &mut Times,
) -> Result<Vec<ProducerState>, Code> {
    // A request may name very many: others are served between them.
    yield_now().await;
    // A queue has partitions and is no topic.
    call.partition(name, index)?;
    let partition = convert::partition(index)?;
    let known = call.broker.producers(name, partition);
    let known = known.map_err(|why| error::producer(&why))?;
    let bytes = known.len() * KAFKA_PARTITION_BYTES;
    if !grown(share, bytes, times.until).await {
        return Err(Code::NotLeaderOrFollower);
    }
    let mut told = Vec::with_capacity(known.len());
    for info in &known {
        let time_ms = times.last_of(call, name, partition, info).await;
        told.push(tell(info, time_ms.unwrap_or(-1)));
    }
    Ok(told)
}

/// When producers last wrote, as far as there is time to look that up: each is a read.
struct Times {
    left: usize,
    until: Instant,
}

impl Times {
    /// The time of its last batch; `None` where that is not there any more, or is not looked up.
    async fn last_of(
        &mut self,
        call: &Call,
        topic: &TopicName,
        partition: Partition,
        info: &ProducerInfo,
    ) -> Option<i64> {
        let offset = info.last_offset?;
        self.left = self.left.checked_sub(1)?;
        let fetch = FetchBatches {
            topic: topic.clone(),
            partition,
            offset,
            max_bytes: 1,
            isolation: Isolation::ReadUncommitted,
            wait: Duration::ZERO,
        };
        let fetched = timeout_at(self.until, call.broker.fetch_batches(fetch)).await;
        let fetched = fetched.ok()?.ok()?;
        let batch = fetched.batches.first()?;
        let own = batch.base_offset() == offset;
        let own = own && batch.producer().is_some_and(|of| of.id == info.producer.0);
        own.then(|| batch.max_timestamp_ms())
    }
}

fn tell(info: &ProducerInfo, time_ms: i64) -> ProducerState {
    let start = info.transaction_start.map(convert::wire_offset);
    let sequence = info.last_sequence.map(|last| last.number());
    ProducerState::default()
        .with_producer_id(ProducerId(info.producer.0))
        .with_producer_epoch(i32::from(info.epoch.0))
        .with_last_sequence(sequence.unwrap_or(-1))
        .with_last_timestamp(time_ms)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(start.unwrap_or(-1))
}
