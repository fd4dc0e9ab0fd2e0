//! `DescribeTopicPartitions` (75), version 0: topics and their partitions, page by page.
//!
//! Topics come sorted by their names. A page ends where the client's limit of partitions is
//! reached, or ours, and names the partition that comes next.
//!
//! Deviations: where memory is short a page ends sooner, perhaps with nothing in it.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_request::Cursor as From;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use tidemill_broker::{PartitionInfo, TopicInfo};
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::Code;
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{
    KAFKA_PARTITION_BYTES, KAFKA_PARTITIONS_PAGE_MAX, KAFKA_TOPIC_BYTES, MEMORY_WAIT,
};

/// See the module.
pub(in super::super) struct DescribeTopicPartitions;

impl Api for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    type Response = Held<DescribeTopicPartitionsResponse>;
    const KEY: ApiKey = ApiKey::DescribeTopicPartitions;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_TOPIC_PARTITIONS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Topic)];

    async fn answer(
        call: Call,
        request: DescribeTopicPartitionsRequest,
    ) -> Held<DescribeTopicPartitionsResponse> {
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut page = Page {
            left: limit.clamp(1, KAFKA_PARTITIONS_PAGE_MAX),
            share: call.door.memory.empty(Class::Answers),
            until: Instant::now() + MEMORY_WAIT,
            topics: Vec::new(),
            next: None,
            access: call.access(),
            call,
        };
        let named: BTreeSet<_> = request.topics.into_iter().map(|topic| topic.name).collect();
        let all = || page.call.broker.topics().into_iter();
        let names = match named.is_empty() {
            true => all()
                .map(|info| convert::wire_topic(&info.name))
                .filter(|name| page.access.may(Operation::Describe, Kind::Topic, name))
                .collect(),
            false => named,
        };
        page.fill(names, request.cursor).await;
        let response = DescribeTopicPartitionsResponse::default()
            .with_topics(page.topics)
            .with_next_cursor(page.next);
        Held {
            response,
            share: page.share,
        }
    }
}

/// What is told at once.
struct Page {
    call: Call,
    access: Access,
    /// How many partitions have a place in it.
    left: usize,
    share: Share,
    /// How long it waits for memory in all.
    until: Instant,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

impl Page {
    /// Takes topics from the cursor on, until it is full.
    async fn fill(&mut self, names: BTreeSet<TopicName>, cursor: Option<From>) {
        for name in names {
            // Others have their turn.
            tokio::task::yield_now().await;
            let first = match &cursor {
                Some(from) if name < from.topic_name => continue,
                Some(from) if name == from.topic_name => from.partition_index.max(0),
                _ => 0,
            };
            let bytes = KAFKA_TOPIC_BYTES + name.len();
            if self.left == 0 || !grown(&mut self.share, bytes, self.until).await {
                return self.end(name, first);
            }
            let may = self.access.topic(Operation::Describe, &name);
            let named = may.and_then(|()| convert::topic(&name));
            let info = named.map(|name| self.call.broker.topic(&name));
            let info = info.and_then(|info| info.ok_or(Code::UnknownTopicOrPartition));
            let topic = match info {
                Ok(info) => self.take(&info, first).await,
                Err(code) => DescribeTopicPartitionsResponseTopic::default()
                    .with_error_code(code.code())
                    .with_name(Some(name)),
            };
            self.topics.push(topic);
            if self.next.is_some() {
                return;
            }
        }
    }

    /// Takes partitions of a topic, and ends where they have no place.
    async fn take(&mut self, info: &TopicInfo, first: i32) -> DescribeTopicPartitionsResponseTopic {
        let mut partitions = Vec::new();
        for partition in &info.partitions {
            let index = convert::wire_partition(partition.partition);
            if index < first {
                continue;
            }
            let room = self.left > 0;
            if !room || !grown(&mut self.share, KAFKA_PARTITION_BYTES, self.until).await {
                self.end(convert::wire_topic(&info.name), index);
                break;
            }
            self.left -= 1;
            partitions.push(tell(&self.call, partition));
        }
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(convert::wire_topic(&info.name)))
            .with_topic_id(convert::wire_id(info.id))
            .with_topic_authorized_operations(
                self.access.operations(Kind::Topic, info.name.as_str()),
            )
            .with_partitions(partitions)
    }

    /// The next page begins there.
    fn end(&mut self, name: TopicName, index: i32) {
        let cursor = Cursor::default().with_topic_name(name);
        self.next = Some(cursor.with_partition_index(index));
    }
}

fn tell(call: &Call, partition: &PartitionInfo) -> DescribeTopicPartitionsResponsePartition {
    let node = convert::node(call.door.config.node_id);
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(convert::wire_partition(partition.partition))
        .with_leader_id(node)
        .with_leader_epoch(convert::leader_epoch(call.broker.incarnation()))
        .with_replica_nodes(vec![node])
        .with_isr_nodes(vec![node])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
