//! `DescribeLogDirs` (35), versions 1 to 4: the folder of the data, and what each partition has
//! in it: the bytes of its record batches.
//!
//! Deviations: there is one folder, in which the journal is, too; that is in no partition's size.
//! How large the disk is, and how much of it is free, is not told (-1, as Kafka has it for what
//! is not known). What there is no memory for is left out.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{ApiKey, DescribeLogDirsRequest, DescribeLogDirsResponse};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::TopicInfo;
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{KAFKA_PARTITION_BYTES, KAFKA_TOPIC_BYTES, MEMORY_WAIT};

/// The first version that tells errors.
const TELLS_ERRORS: i16 = 3;

/// See the module.
pub(in super::super) struct DescribeLogDirs;

impl Api for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    type Response = Held<DescribeLogDirsResponse>;
    const KEY: ApiKey = ApiKey::DescribeLogDirs;
    const VERSIONS: [i16; 2] = [1, 4];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_LOG_DIRS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Cluster)];

    async fn answer(call: Call, request: DescribeLogDirsRequest) -> Held<DescribeLogDirsResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        if let Err(code) = call.access().cluster(Operation::Describe) {
            let response = match call.version {
                TELLS_ERRORS.. => DescribeLogDirsResponse::default().with_error_code(code.code()),
                _ => DescribeLogDirsResponse::default(),
            };
            return Held { response, share };
        }
        let until = Instant::now() + MEMORY_WAIT;
        let asked = match request.topics {
            None => call
                .broker
                .topics()
                .into_iter()
                .map(|info| (info, None))
                .collect(),
            Some(asked) => named(&call, asked),
        };
        let mut topics = Vec::new();
        for (info, only) in asked {
            // Others have their turn.
            tokio::task::yield_now().await;
            if let Some(topic) = tell(&mut share, until, &info, only.as_ref()).await {
                topics.push(topic);
            }
        }
        let dir = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_string(call.door.config.log_dir.clone()))
            .with_topics(topics)
            .with_total_bytes(-1)
            .with_usable_bytes(-1);
        let response = DescribeLogDirsResponse::default().with_results(vec![dir]);
        Held { response, share }
    }
}

/// The partitions that are asked for; `None` for all.
type Only = Option<BTreeSet<i32>>;

/// The topics that are asked for by their names, each once. What is not there is left out.
fn named(call: &Call, asked: Vec<DescribableLogDirTopic>) -> Vec<(TopicInfo, Only)> {
    let mut seen = BTreeSet::new();
    let asked = asked.into_iter().filter_map(|one| {
        let name = convert::topic(&one.topic).ok()?;
        let only = one.partitions.into_iter().collect();
        let info = seen
            .insert(name.clone())
            .then(|| call.broker.topic(&name))?;
        Some((info?, Some(only)))
    });
    asked.collect()
}

async fn tell(
    share: &mut Share,
    until: Instant,
    info: &TopicInfo,
    only: Option<&BTreeSet<i32>>,
) -> Option<DescribeLogDirsTopic> {
    let bytes = KAFKA_TOPIC_BYTES + info.partitions.len() * KAFKA_PARTITION_BYTES;
    if !grown(share, bytes, until).await {
        return None;
    }
    let partitions = info.partitions.iter().map(|partition| {
        let size = i64::try_from(partition.size_bytes).unwrap_or(i64::MAX);
        DescribeLogDirsPartition::default()
            .with_partition_index(convert::wire_partition(partition.partition))
            .with_partition_size(size)
    });
    let asked = |one: &DescribeLogDirsPartition| {
        only.is_none_or(|only| only.contains(&one.partition_index))
    };
    let topic = DescribeLogDirsTopic::default()
        .with_name(convert::wire_topic(&info.name))
        .with_partitions(partitions.filter(asked).collect());
    Some(topic)
}
