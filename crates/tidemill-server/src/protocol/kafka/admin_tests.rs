//! What programs that administer a cluster are told of one node: where its partitions are, who
//! leads them, and page by page what there is.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId,
    DescribeLogDirsRequest, DescribeTopicPartitionsRequest, ListConfigResourcesRequest,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{Begins, CreateTopic};
use tidemill_core::TopicName;

use super::apis::alter_partition_reassignments::AlterPartitionReassignments;
use super::apis::alter_replica_log_dirs::AlterReplicaLogDirs;
use super::apis::describe_log_dirs::DescribeLogDirs;
use super::apis::describe_topic_partitions::DescribeTopicPartitions;
use super::apis::list_config_resources::ListConfigResources;
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
