//! What programs that administer a cluster are told of one node: where its partitions are, who
//! leads them, page by page what there is, and what a topic's settings do to those who write.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId, CreateTopicsRequest,
    DescribeLogDirsRequest, DescribeTopicPartitionsRequest, ListConfigResourcesRequest,
    ListOffsetsRequest, ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{
    AlterTopic, BatchBuilder, Begins, Broker, CompressionType, CreateTopic, FetchBatches, Isolation,
};
use tidemill_core::{
    Event, EventId, EventType, Offset, Partition, PublishError, Source, TopicName,
};

use super::Door;
use super::apis::alter_partition_reassignments::AlterPartitionReassignments;
use super::apis::alter_replica_log_dirs::AlterReplicaLogDirs;
use super::apis::create_topics::CreateTopics;
use super::apis::describe_log_dirs::DescribeLogDirs;
use super::apis::describe_topic_partitions::DescribeTopicPartitions;
use super::apis::incremental_alter_configs::IncrementalAlterConfigs;
use super::apis::list_config_resources::ListConfigResources;
use super::apis::list_offsets::ListOffsets;
use super::apis::produce::Produce;
use super::error::Code;
use super::registry::Api;
use super::tests::{broker, builder, call, door, writing};

const MEMORY: usize = 64 << 20;

fn name(name: &'static str) -> kafka_protocol::messages::TopicName {
    StrBytes::from_static_str(name).into()
}

#[tokio::test]
async fn the_folder_has_every_partition_with_its_bytes() {
    let broker = broker(2, MEMORY).await;
    let wrote = broker.produce(writing(builder(1, &[7; 1000]), Begins::No));
    wrote.await.unwrap();
    let size = |of: usize| broker.topic(&super::tests::topic()).unwrap().partitions[of].size_bytes;
    let (door, _close) = door(broker.clone());
    let all = DescribeLogDirsRequest::default().with_topics(None);
    let told = DescribeLogDirs::answer(call(&door, 4), all).await.response;
    let dir = &told.results[0];
    assert_eq!(dir.log_dir.as_str(), door.config.log_dir);
    let sizes = dir.topics[0].partitions.iter();
    let sizes: Vec<_> = sizes.map(|one| one.partition_size as u64).collect();
    assert!(sizes[0] > 1000);
    assert_eq!(sizes, [size(0), size(1)]);
    let one = DescribableLogDirTopic::default()
        .with_topic(name("a"))
        .with_partitions(vec![1, 9]);
    let named = DescribeLogDirsRequest::default().with_topics(Some(vec![one.clone(), one]));
    let told = DescribeLogDirs::answer(call(&door, 1), named)
        .await
        .response;
    let topics = &told.results[0].topics;
    assert_eq!(topics.len(), 1);
    let partitions = topics[0].partitions.iter().map(|one| one.partition_index);
    assert_eq!(partitions.collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_partition_lies_on_this_node_and_in_its_folder_alone() {
    let (door, _close) = door(broker(1, MEMORY).await);
    let ours = door.config.log_dir.clone();
    for (path, partition, code) in [
        (ours.as_str(), 0, 0),
        (ours.as_str(), 1, Code::UnknownTopicOrPartition.code()),
        ("elsewhere", 0, Code::LogDirNotFound.code()),
    ] {
        let topic = AlterReplicaLogDirTopic::default()
            .with_name(name("a"))
            .with_partitions(vec![partition]);
        let dir = AlterReplicaLogDir::default()
            .with_path(StrBytes::from_string(path.to_owned()))
            .with_topics(vec![topic]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
        let told = AlterReplicaLogDirs::answer(call(&door, 2), request).await;
        assert_eq!(told.results[0].partitions[0].error_code, code, "{path}");
    }
    let node = door.config.node_id;
    for (nodes, code) in [
        (Some(vec![node]), 0),
        (
            Some(vec![node, node + 1]),
            Code::InvalidReplicaAssignment.code(),
        ),
        (None, Code::NoReassignmentInProgress.code()),
    ] {
        let nodes = nodes.map(|nodes| nodes.into_iter().map(BrokerId).collect());
        let partition = ReassignablePartition::default().with_replicas(nodes);
        let topic = ReassignableTopic::default()
            .with_name(name("a"))
            .with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        let told = AlterPartitionReassignments::answer(call(&door, 1), request).await;
        assert_eq!(told.responses[0].partitions[0].error_code, code);
    }
}

#[tokio::test]
async fn topics_come_page_by_page_each_partition_once() {
    let broker = broker(3, MEMORY).await;
    let other = TopicName::new("b").unwrap();
    broker
        .create_topic(other, CreateTopic::default())
        .await
        .unwrap();
    let (door, _close) = door(broker);
    let (mut cursor, mut seen, mut pages) = (None::<Cursor>, Vec::new(), 0);
    loop {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(2)
            .with_cursor(cursor);
        let told = DescribeTopicPartitions::answer(call(&door, 0), request)
            .await
            .response;
        pages += 1;
        for topic in told.topics {
            let name = topic.name.unwrap().to_string();
            let partitions = topic.partitions.into_iter();
            seen.extend(partitions.map(|one| (name.clone(), one.partition_index)));
        }
        let Some(next) = told.next_cursor else { break };
        let next = Cursor::default()
            .with_topic_name(next.topic_name)
            .with_partition_index(next.partition_index);
        cursor = Some(next);
    }
    let all = [("a", 0), ("a", 1), ("a", 2), ("b", 0)];
    assert_eq!(seen, all.map(|(name, index)| (name.to_owned(), index)));
    assert_eq!(pages, 2);
    let unknown = TopicRequest::default().with_name(name("c"));
    let request = DescribeTopicPartitionsRequest::default().with_topics(vec![unknown]);
    let told = DescribeTopicPartitions::answer(call(&door, 0), request)
        .await
        .response;
    let code = Code::UnknownTopicOrPartition.code();
    assert_eq!(told.topics[0].error_code, code);
}

#[tokio::test]
async fn topics_and_the_node_have_configurations() {
    let (door, _close) = door(broker(1, MEMORY).await);
    let ask = async |version, kinds| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
        let told = ListConfigResources::answer(call(&door, version), request).await;
        let resources = told.response.config_resources.into_iter();
        let resources = resources.map(|one| (one.resource_type, one.resource_name.to_string()));
        (told.response.error_code, resources.collect::<Vec<_>>())
    };
    let (node, topic) = ((4, "1".to_owned()), (2, "a".to_owned()));
    assert_eq!(ask(1, vec![]).await, (0, vec![node, topic.clone()]));
    assert_eq!(ask(1, vec![2]).await, (0, vec![topic]));
    assert_eq!(ask(0, vec![]).await, (0, vec![]));
    assert_eq!(ask(1, vec![3]).await.0, Code::UnsupportedVersion.code());
}

#[tokio::test]
async fn the_node_takes_what_has_no_effect_and_refuses_what_would_have_one() {
    use kafka_protocol::messages::IncrementalAlterConfigsRequest;
    use kafka_protocol::messages::incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig,
    };
    let (door, _close) = door(broker(1, MEMORY).await);
    for (node, config, expected) in [
        ("1", "num.io.threads", 0),
        ("", "num.io.threads", 0),
        ("2", "num.io.threads", Code::InvalidRequest.code()),
        ("1", "num.partitions", Code::InvalidRequest.code()),
        ("1", "ssl.keystore.location", Code::InvalidRequest.code()),
    ] {
        let change = AlterableConfig::default()
            .with_name(StrBytes::from_static_str(config))
            .with_value(Some(StrBytes::from_static_str("9")));
        let node = AlterConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(StrBytes::from_static_str(node))
            .with_configs(vec![change]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![node]);
        let told = IncrementalAlterConfigs::answer(call(&door, 1), request).await;
        assert_eq!(told.responses[0].error_code, expected, "{config}");
    }
}

#[tokio::test]
async fn any_replication_factor_is_taken_and_one_replica_told() {
    let (door, _close) = door(broker(1, MEMORY).await);
    let make = async |name, factor| {
        let topic = CreatableTopic::default()
            .with_name(StrBytes::from_static_str(name).into())
            .with_num_partitions(1)
            .with_replication_factor(factor);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let told = CreateTopics::answer(call(&door, 7), request).await;
        let made = told.topics.into_iter().next().unwrap();
        (made.error_code, made.replication_factor)
    };
    for (name, factor) in [("left", -1), ("one", 1), ("three", 3), ("most", i16::MAX)] {
        assert_eq!(make(name, factor).await, (0, 1), "{factor}");
    }
    let refused = (Code::InvalidReplicationFactor.code(), -1);
    assert_eq!(make("none", 0).await, refused);
    assert_eq!(make("none", -2).await, refused);
}

fn produce(batch: BatchBuilder, packed: CompressionType) -> ProduceRequest {
    let batch = batch.finish().unwrap().compressed(packed);
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(batch.as_bytes().clone()));
    let topic = TopicProduceData::default()
        .with_name(name("a"))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic])
}

async fn produced(
    door: &Arc<Door>,
    batch: BatchBuilder,
    packed: CompressionType,
) -> PartitionProduceResponse {
    let mut told = Produce::answer(call(door, 9), produce(batch, packed)).await;
    told.responses.remove(0).partition_responses.remove(0)
}

async fn alter(broker: &Broker, change: AlterTopic) {
    let topic = super::tests::topic();
    broker.alter_topic(&topic, change).await.unwrap();
}

#[tokio::test]
async fn a_topic_with_the_time_of_appending_tells_it_to_producers_readers_and_searches() {
    let broker = broker(1, MEMORY).await;
    let append_time = |on| AlterTopic {
        append_time: Some(on),
        ..AlterTopic::default()
    };
    let (door, _close) = door(broker.clone());
    let before = produced(&door, builder(1, &[7; 1000]), CompressionType::None).await;
    assert_eq!((before.error_code, before.log_append_time_ms), (0, -1));
    alter(&broker, append_time(true)).await;
    for (offset, packed) in [(1, CompressionType::None), (2, CompressionType::Lz4)] {
        let told = produced(&door, builder(1, &[7; 1000]), packed).await;
        assert_eq!((told.error_code, told.base_offset), (0, offset));
        let time_ms = told.log_append_time_ms;
        assert!(time_ms > 1_700_000_000_000, "{time_ms}");
        let fetch = FetchBatches {
            topic: super::tests::topic(),
            partition: Partition(0),
            offset: Offset(offset as u64),
            max_bytes: 1,
            isolation: Isolation::ReadCommitted,
            wait: Duration::ZERO,
        };
        let kept = broker.fetch_batches(fetch).await.unwrap().batches.remove(0);
        assert_eq!(kept.append_time_ms(), Some(time_ms));
        assert_eq!(kept.compression(), packed.codec(), "it was not unpacked");
        let times = kept.checked_records().unwrap();
        assert!(
            times
                .map(|record| record.unwrap().timestamp_ms)
                .eq([time_ms])
        );
    }
    let partition = ListOffsetsPartition::default().with_timestamp(1_700_000_000_000);
    let topic = ListOffsetsTopic::default()
        .with_name(name("a"))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let found = ListOffsets::answer(call(&door, 5), request).await;
    let found = &found.topics[0].partitions[0];
    assert_eq!(found.offset, 1, "the first one has its producer's time");
    alter(&broker, append_time(false)).await;
    let after = produced(&door, builder(1, &[7; 1000]), CompressionType::None).await;
    assert_eq!((after.error_code, after.log_append_time_ms), (0, -1));
}

#[tokio::test]
async fn a_topic_has_its_own_bounds_of_batches_and_times() {
    let broker = broker(1, MEMORY).await;
    let (door, _close) = door(broker.clone());
    let none = CompressionType::None;
    let large = Code::MessageTooLarge.code();
    let more = door.config.message_max_bytes + 1;
    let plain = produced(&door, builder(1, &vec![7; more]), none).await;
    assert_eq!(plain.error_code, large, "the node's bound");
    for (bytes, value, packed, code) in [
        (more as u64 + 200, more, none, 0),
        (500, 600, none, large),
        // What counts are the bytes as they are sent.
        (500, 600, CompressionType::Lz4, 0),
    ] {
        let change = AlterTopic {
            batch_max_bytes: Some(Some(bytes)),
            ..AlterTopic::default()
        };
        alter(&broker, change).await;
        let told = produced(&door, builder(1, &vec![7; value]), packed).await;
        assert_eq!(told.error_code, code, "{bytes} {value} {packed}");
    }
    let event = |bytes: usize| {
        let (id, ty) = (EventId::new("1").unwrap(), EventType::new("made").unwrap());
        let event = Event::builder(id, Source::new("/test").unwrap(), ty);
        let event = event.data("text/plain", vec![b'x'; bytes]).build();
        vec![event.unwrap()]
    };
    let bus = broker.bus();
    let published = bus.publish(super::tests::topic(), event(600)).await;
    let refused = published.unwrap_err();
    assert!(
        matches!(refused, PublishError::TooLarge { .. }),
        "{refused}"
    );
    let many = [event(100), event(100), event(100), event(100)].concat();
    bus.publish(super::tests::topic(), many).await.unwrap();

    let change = AlterTopic {
        time_before_max_ms: Some(Some(60_000)),
        time_after_max_ms: Some(Some(60_000)),
        ..AlterTopic::default()
    };
    alter(&broker, change).await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let code = Code::InvalidTimestamp.code();
    for (time_ms, code) in [
        (now_ms, 0),
        (-1, 0),
        (now_ms - 600_000, code),
        (now_ms + 600_000, code),
    ] {
        let mut batch = builder(now_ms, b"x");
        let none = std::iter::empty();
        batch.push(time_ms, None, Some(b"y"), none).unwrap();
        let told = produced(&door, batch, CompressionType::None).await;
        let blamed = told.record_errors.iter().map(|one| one.batch_index);
        let wanted = if code == 0 { vec![] } else { vec![1] };
        assert_eq!(
            (told.error_code, blamed.collect::<Vec<_>>()),
            (code, wanted)
        );
    }
}
