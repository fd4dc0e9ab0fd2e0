//! Every key that is served, asked for something that is there.

#![expect(clippy::too_many_lines, reason = "one arm for each key")]

use kafka_protocol::messages as wire;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tidemill_core::TopicId;

use super::super::apis;
use super::super::convert;
use super::super::registry::Api;
use super::permissions::{House, USER, text};
use super::{builder, part};

pub(super) fn commit() -> wire::OffsetCommitRequest {
    use wire::offset_commit_request::*;
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text("a"))
        .with_partitions(vec![partition]);
    wire::OffsetCommitRequest::default()
        .with_group_id(text("g"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

pub(super) fn produce(id: Option<TopicId>) -> wire::ProduceRequest {
    use wire::produce_request::*;
    let records = builder(1, b"x").finish().unwrap();
    let partition = PartitionProduceData::default().with_records(Some(records.as_bytes().clone()));
    let topic = TopicProduceData::default().with_partition_data(vec![partition]);
    let topic = match id {
        Some(id) => topic.with_topic_id(convert::wire_id(id)),
        None => topic.with_name(text("a")),
    };
    wire::ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![topic])
}

pub(super) fn fetch(id: Option<TopicId>) -> wire::FetchRequest {
    use wire::fetch_request::*;
    let partition = FetchPartition::default().with_partition_max_bytes(1000);
    let topic = FetchTopic::default().with_partitions(vec![partition]);
    let topic = match id {
        Some(id) => topic.with_topic_id(convert::wire_id(id)),
        None => topic.with_topic(text("a")),
    };
    wire::FetchRequest::default()
        .with_max_bytes(1000)
        .with_topics(vec![topic])
}

fn share_join() -> wire::ShareGroupHeartbeatRequest {
    wire::ShareGroupHeartbeatRequest::default()
        .with_group_id(text("s"))
        .with_member_id(text("m"))
        .with_subscribed_topic_names(Some(vec![text("a")]))
}

fn share_fetch(id: TopicId) -> wire::ShareFetchRequest {
    use wire::share_fetch_request::*;
    let topic = FetchTopic::default()
        .with_topic_id(convert::wire_id(id))
        .with_partitions(vec![FetchPartition::default()]);
    wire::ShareFetchRequest::default()
        .with_group_id(Some(text("s")))
        .with_member_id(Some(text("m")))
        .with_max_bytes(1000)
        .with_max_records(10)
        .with_topics(vec![topic])
}

/// What a key is answered, as it is told to people: with the codes in it.
macro_rules! told {
    ($house:expr, $version:expr, $api:ty, $request:expr) => {
        format!(
            "{:?}",
            <$api>::answer($house.call($version), $request).await
        )
    };
    ($house:expr, $version:expr, held $api:ty, $request:expr) => {
        format!(
            "{:?}",
            <$api>::answer($house.call($version), $request)
                .await
                .response
        )
    };
}

/// Asks a key for what is there; `None` where this is not one about records and topics.
async fn of_topics(house: &House, key: ApiKey, version: i16) -> Option<String> {
    use apis::*;
    let partitions = vec![0];
    Some(match key {
        ApiKey::Produce => {
            let by_id = told!(house, version, produce::Produce, produce(Some(house.id)));
            let by_name = told!(house, 9, produce::Produce, produce(None));
            let mut request = produce(None).with_transactional_id(Some(text("t")));
            let batch = part(house.producer, 1001).batch;
            let records = batch.get().as_bytes().clone();
            request.topic_data[0].partition_data[0].records = Some(records);
            by_id + &by_name + &told!(house, 9, produce::Produce, request)
        }
        ApiKey::Fetch => {
            let by_id = told!(house, version, fetch::Fetch, fetch(Some(house.id)));
            by_id + &told!(house, 12, fetch::Fetch, fetch(None))
        }
        ApiKey::ListOffsets => {
            use wire::list_offsets_request::*;
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let topic = ListOffsetsTopic::default()
                .with_name(text("a"))
                .with_partitions(vec![partition]);
            let request = wire::ListOffsetsRequest::default().with_topics(vec![topic]);
            told!(house, version, list_offsets::ListOffsets, request)
        }
        ApiKey::OffsetForLeaderEpoch => {
            use wire::offset_for_leader_epoch_request::*;
            let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(text("a"))
                .with_partitions(vec![partition]);
            let request = wire::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let api = offset_for_leader_epoch::OffsetForLeaderEpoch::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::Metadata => {
            use wire::metadata_request::MetadataRequestTopic as One;
            let named = |name| One::default().with_name(Some(text(name)));
            let by_id = One::default()
                .with_name(None)
                .with_topic_id(convert::wire_id(house.id));
            let asked = vec![named("a"), named("new"), by_id];
            let request = wire::MetadataRequest::default()
                .with_allow_auto_topic_creation(true)
                .with_topics(Some(asked));
            told!(house, version, held metadata::Metadata, request)
        }
        ApiKey::DescribeTopicPartitions => {
            use wire::describe_topic_partitions_request::TopicRequest;
            let topics = vec![TopicRequest::default().with_name(text("a"))];
            let request = wire::DescribeTopicPartitionsRequest::default()
                .with_response_partition_limit(10)
                .with_topics(topics);
            let api = describe_topic_partitions::DescribeTopicPartitions::answer;
            format!("{:?}", api(house.call(version), request).await.response)
        }
        ApiKey::CreateTopics => {
            use wire::create_topics_request::CreatableTopic;
            let topic = CreatableTopic::default()
                .with_name(text("new"))
                .with_num_partitions(1)
                .with_replication_factor(1);
            let request = wire::CreateTopicsRequest::default().with_topics(vec![topic]);
            told!(house, version, create_topics::CreateTopics, request)
        }
        ApiKey::DeleteTopics => {
            use wire::delete_topics_request::DeleteTopicState;
            let by_id = DeleteTopicState::default().with_topic_id(convert::wire_id(house.id));
            let by_name = DeleteTopicState::default().with_name(Some(text("a")));
            let topics = vec![by_id, by_name];
            let request = wire::DeleteTopicsRequest::default().with_topics(topics);
            told!(house, version, delete_topics::DeleteTopics, request)
        }
        ApiKey::DeleteRecords => {
            use wire::delete_records_request::*;
            let partition = DeleteRecordsPartition::default().with_offset(1);
            let topic = DeleteRecordsTopic::default()
                .with_name(text("a"))
                .with_partitions(vec![partition]);
            let request = wire::DeleteRecordsRequest::default().with_topics(vec![topic]);
            told!(house, version, delete_records::DeleteRecords, request)
        }
        ApiKey::CreatePartitions => {
            use wire::create_partitions_request::CreatePartitionsTopic;
            let topic = CreatePartitionsTopic::default()
                .with_name(text("a"))
                .with_count(3)
                .with_assignments(None);
            let request = wire::CreatePartitionsRequest::default().with_topics(vec![topic]);
            told!(house, version, create_partitions::CreatePartitions, request)
        }
        ApiKey::DescribeProducers => {
            use wire::describe_producers_request::TopicRequest;
            let topic = TopicRequest::default()
                .with_name(text("a"))
                .with_partition_indexes(partitions);
            let request = wire::DescribeProducersRequest::default().with_topics(vec![topic]);
            told!(house, version, held describe_producers::DescribeProducers, request)
        }
        _ => return None,
    })
}

/// As [`of_topics`], for keys about groups.
async fn of_groups(house: &House, key: ApiKey, version: i16) -> Option<String> {
    use apis::*;
    Some(match key {
        ApiKey::OffsetCommit => told!(house, version, offset_commit::OffsetCommit, commit()),
        ApiKey::OffsetFetch => {
            use wire::offset_fetch_request::*;
            let topic = OffsetFetchRequestTopics::default()
                .with_name(text("a"))
                .with_partition_indexes(vec![0]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(text("g"))
                .with_topics(Some(vec![topic]));
            let request = wire::OffsetFetchRequest::default().with_groups(vec![group]);
            told!(house, version, offset_fetch::OffsetFetch, request)
        }
        ApiKey::OffsetDelete => {
            use wire::offset_delete_request::*;
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(text("a"))
                .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
            let request = wire::OffsetDeleteRequest::default()
                .with_group_id(text("g"))
                .with_topics(vec![topic]);
            told!(house, version, offset_delete::OffsetDelete, request)
        }
        ApiKey::FindCoordinator => {
            let request = |kind| {
                let keys = vec![StrBytes::from_static_str("g")];
                let request = wire::FindCoordinatorRequest::default().with_key_type(kind);
                request.with_coordinator_keys(keys)
            };
            let group = told!(
                house,
                version,
                find_coordinator::FindCoordinator,
                request(0)
            );
            group
                + &told!(
                    house,
                    version,
                    find_coordinator::FindCoordinator,
                    request(1)
                )
        }
        ApiKey::JoinGroup => {
            let request = wire::JoinGroupRequest::default()
                .with_group_id(text("g"))
                .with_session_timeout_ms(10_000)
                .with_protocol_type(text("consumer"));
            told!(house, version, join_group::JoinGroup, request)
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let request = wire::ConsumerGroupHeartbeatRequest::default()
                .with_group_id(text("g"))
                .with_member_id(text("m"))
                .with_rebalance_timeout_ms(10_000)
                .with_subscribed_topic_names(Some(vec![text("a")]))
                .with_topic_partitions(Some(Vec::new()));
            told!(
                house,
                version,
                consumer_group_heartbeat::ConsumerGroupHeartbeat,
                request
            )
        }
        ApiKey::ConsumerGroupDescribe => {
            let groups = vec![text("g")];
            let request = wire::ConsumerGroupDescribeRequest::default().with_group_ids(groups);
            told!(
                house,
                version,
                consumer_group_describe::ConsumerGroupDescribe,
                request
            )
        }
        ApiKey::ShareGroupHeartbeat => {
            let api = share_group_heartbeat::ShareGroupHeartbeat::answer;
            format!("{:?}", api(house.call(version), share_join()).await)
        }
        ApiKey::ShareGroupDescribe => {
            let groups = vec![text("s")];
            let request = wire::ShareGroupDescribeRequest::default().with_group_ids(groups);
            let api = share_group_describe::ShareGroupDescribe::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::ShareFetch => {
            let join = share_group_heartbeat::ShareGroupHeartbeat::answer;
            join(house.call(1), share_join()).await;
            let api = share_fetch::ShareFetch::answer;
            let first = api(house.call(version), share_fetch(house.id)).await;
            format!("{:?}", first.held.response)
        }
        ApiKey::ShareAcknowledge => {
            use wire::share_acknowledge_request::*;
            // Says something within a session.
            let join = share_group_heartbeat::ShareGroupHeartbeat::answer;
            join(house.call(1), share_join()).await;
            let begin = share_fetch::ShareFetch::answer;
            begin(house.call(1), share_fetch(house.id)).await;
            let batch = AcknowledgementBatch::default().with_acknowledge_types(vec![1]);
            let partition =
                AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
            let topic = AcknowledgeTopic::default()
                .with_topic_id(convert::wire_id(house.id))
                .with_partitions(vec![partition]);
            let request = wire::ShareAcknowledgeRequest::default()
                .with_group_id(Some(text("s")))
                .with_member_id(Some(text("m")))
                .with_share_session_epoch(1)
                .with_topics(vec![topic]);
            let api = share_acknowledge::ShareAcknowledge::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::DescribeShareGroupOffsets => {
            use wire::describe_share_group_offsets_request::*;
            let topic = DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(text("a"))
                .with_partitions(vec![0]);
            let group = DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(text("shared"))
                .with_topics(Some(vec![topic]));
            let request = wire::DescribeShareGroupOffsetsRequest::default();
            let request = request.with_groups(vec![group]);
            let api = describe_share_group_offsets::DescribeShareGroupOffsets::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::AlterShareGroupOffsets => {
            use wire::alter_share_group_offsets_request::*;
            let topic = AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(text("a"))
                .with_partitions(vec![AlterShareGroupOffsetsRequestPartition::default()]);
            let request = wire::AlterShareGroupOffsetsRequest::default()
                .with_group_id(text("shared"))
                .with_topics(vec![topic]);
            let api = alter_share_group_offsets::AlterShareGroupOffsets::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::DeleteShareGroupOffsets => {
            use wire::delete_share_group_offsets_request::*;
            let topic = DeleteShareGroupOffsetsRequestTopic::default();
            let request = wire::DeleteShareGroupOffsetsRequest::default()
                .with_group_id(text("shared"))
                .with_topics(vec![topic.with_topic_name(text("a"))]);
            let api = delete_share_group_offsets::DeleteShareGroupOffsets::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::SyncGroup => {
            let request = wire::SyncGroupRequest::default().with_group_id(text("g"));
            told!(house, version, sync_group::SyncGroup, request)
        }
        ApiKey::Heartbeat => {
            let request = wire::HeartbeatRequest::default().with_group_id(text("g"));
            told!(house, version, heartbeat::Heartbeat, request)
        }
        ApiKey::LeaveGroup => {
            let member = wire::leave_group_request::MemberIdentity::default();
            let request = wire::LeaveGroupRequest::default()
                .with_group_id(text("g"))
                .with_members(vec![member]);
            told!(house, version, leave_group::LeaveGroup, request)
        }
        ApiKey::DescribeGroups => {
            let groups = vec![text("g")];
            let request = wire::DescribeGroupsRequest::default().with_groups(groups);
            told!(house, version, describe_groups::DescribeGroups, request)
        }
        ApiKey::ListGroups => {
            let told = told!(house, version, list_groups::ListGroups, Default::default());
            // What may not be seen is left out.
            match told.contains("groups: []") {
                true => "error_code: 30".to_owned(),
                false => told,
            }
        }
        ApiKey::DeleteGroups => {
            let groups = vec![text("g")];
            let request = wire::DeleteGroupsRequest::default().with_groups_names(groups);
            told!(house, version, delete_groups::DeleteGroups, request)
        }
        _ => return None,
    })
}

/// As [`of_topics`], for keys about producers and transactions.
async fn of_transactions(house: &House, key: ApiKey, version: i16) -> Option<String> {
    use apis::*;
    let id = wire::ProducerId(house.producer.id.0);
    let epoch = house.producer.epoch.0;
    Some(match key {
        ApiKey::InitProducerId => {
            let request = |id: Option<wire::TransactionalId>| {
                wire::InitProducerIdRequest::default()
                    .with_transaction_timeout_ms(1000)
                    .with_producer_id(wire::ProducerId(-1))
                    .with_producer_epoch(-1)
                    .with_transactional_id(id)
            };
            let (none, named) = (request(None), request(Some(text("t"))));
            let none = told!(house, version, init_producer_id::InitProducerId, none);
            none + &told!(house, version, init_producer_id::InitProducerId, named)
        }
        ApiKey::AddPartitionsToTxn => {
            use wire::add_partitions_to_txn_request::*;
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(text("a"))
                .with_partitions(vec![0]);
            let request = wire::AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(text("t"))
                .with_v3_and_below_producer_id(id)
                .with_v3_and_below_producer_epoch(epoch)
                .with_v3_and_below_topics(vec![topic]);
            told!(
                house,
                version,
                add_partitions_to_txn::AddPartitionsToTxn,
                request
            )
        }
        ApiKey::AddOffsetsToTxn => {
            let request = wire::AddOffsetsToTxnRequest::default()
                .with_transactional_id(text("t"))
                .with_producer_id(id)
                .with_producer_epoch(epoch)
                .with_group_id(text("g"));
            told!(house, version, add_offsets_to_txn::AddOffsetsToTxn, request)
        }
        ApiKey::EndTxn => {
            let request = wire::EndTxnRequest::default()
                .with_transactional_id(text("t"))
                .with_producer_id(id)
                .with_producer_epoch(epoch);
            told!(house, version, end_txn::EndTxn, request)
        }
        ApiKey::TxnOffsetCommit => {
            use wire::txn_offset_commit_request::*;
            let topic = TxnOffsetCommitRequestTopic::default()
                .with_name(text("a"))
                .with_partitions(vec![TxnOffsetCommitRequestPartition::default()]);
            let request = wire::TxnOffsetCommitRequest::default()
                .with_transactional_id(text("t"))
                .with_group_id(text("g"))
                .with_producer_id(id)
                .with_producer_epoch(epoch)
                .with_generation_id(-1)
                .with_topics(vec![topic]);
            told!(house, version, txn_offset_commit::TxnOffsetCommit, request)
        }
        ApiKey::DescribeTransactions => {
            let ids = vec![text("t")];
            let request = wire::DescribeTransactionsRequest::default().with_transactional_ids(ids);
            let api = describe_transactions::DescribeTransactions::answer;
            let told = format!("{:?}", api(house.call(version), request).await.response);
            // Topics that may not be seen are left out.
            match told.contains("topics: []") {
                true => told + "error_code: 29",
                false => told,
            }
        }
        ApiKey::ListTransactions => {
            let request = wire::ListTransactionsRequest::default().with_duration_filter(-1);
            let told = told!(house, version, held list_transactions::ListTransactions, request);
            // What may not be seen is left out.
            match told.contains("transaction_states: []") {
                true => "error_code: 53".to_owned(),
                false => told,
            }
        }
        _ => return None,
    })
}

/// As [`of_topics`], for keys about the server.
async fn of_the_server(house: &House, key: ApiKey, version: i16) -> Option<String> {
    use apis::*;
    Some(match key {
        ApiKey::DescribeConfigs => {
            use wire::describe_configs_request::DescribeConfigsResource;
            let resource = |kind, name| {
                let resource = DescribeConfigsResource::default().with_resource_type(kind);
                resource.with_resource_name(text(name))
            };
            let resources = vec![resource(2, "a"), resource(4, "1"), resource(32, "g")];
            let request = wire::DescribeConfigsRequest::default().with_resources(resources);
            told!(house, version, describe_configs::DescribeConfigs, request)
        }
        ApiKey::AlterConfigs => {
            use wire::alter_configs_request::AlterConfigsResource;
            let resource = |kind, name| {
                let resource = AlterConfigsResource::default().with_resource_type(kind);
                resource.with_resource_name(text(name))
            };
            let resources = vec![resource(2, "a"), resource(4, "1"), resource(32, "g")];
            let request = wire::AlterConfigsRequest::default().with_resources(resources);
            told!(house, version, alter_configs::AlterConfigs, request)
        }
        ApiKey::IncrementalAlterConfigs => {
            use wire::incremental_alter_configs_request::AlterConfigsResource;
            let resource = |kind, name| {
                let resource = AlterConfigsResource::default().with_resource_type(kind);
                resource.with_resource_name(text(name))
            };
            let resources = vec![resource(2, "a"), resource(4, "1"), resource(32, "g")];
            let request = wire::IncrementalAlterConfigsRequest::default().with_resources(resources);
            let api = incremental_alter_configs::IncrementalAlterConfigs::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::AlterReplicaLogDirs => {
            use wire::alter_replica_log_dirs_request::*;
            let topic = AlterReplicaLogDirTopic::default()
                .with_name(text("a"))
                .with_partitions(vec![0]);
            let dir = AlterReplicaLogDir::default()
                .with_path(text("tidemill-data"))
                .with_topics(vec![topic]);
            let request = wire::AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
            told!(
                house,
                version,
                alter_replica_log_dirs::AlterReplicaLogDirs,
                request
            )
        }
        ApiKey::ElectLeaders => {
            use wire::elect_leaders_request::TopicPartitions;
            let topic = TopicPartitions::default()
                .with_topic(text("a"))
                .with_partitions(vec![0]);
            let request = || {
                let topics = Some(vec![topic.clone()]);
                wire::ElectLeadersRequest::default().with_topic_partitions(topics)
            };
            let new = told!(house, version, elect_leaders::ElectLeaders, request());
            new + &told!(house, 0, elect_leaders::ElectLeaders, request())
        }
        ApiKey::DescribeQuorum => {
            told!(
                house,
                version,
                describe_quorum::DescribeQuorum,
                Default::default()
            )
        }
        ApiKey::DescribeLogDirs => {
            let request = wire::DescribeLogDirsRequest::default().with_topics(None);
            told!(house, version, held describe_log_dirs::DescribeLogDirs, request)
        }
        ApiKey::ListConfigResources => {
            let request = wire::ListConfigResourcesRequest::default();
            told!(house, version, held list_config_resources::ListConfigResources, request)
        }
        ApiKey::AlterPartitionReassignments => {
            let api = alter_partition_reassignments::AlterPartitionReassignments::answer;
            format!("{:?}", api(house.call(version), Default::default()).await)
        }
        ApiKey::ListPartitionReassignments => {
            let api = list_partition_reassignments::ListPartitionReassignments::answer;
            format!("{:?}", api(house.call(version), Default::default()).await)
        }
        ApiKey::DescribeUserScramCredentials => {
            let api = describe_user_scram_credentials::DescribeUserScramCredentials::answer;
            format!("{:?}", api(house.call(version), Default::default()).await)
        }
        ApiKey::AlterUserScramCredentials => {
            use wire::alter_user_scram_credentials_request::ScramCredentialDeletion;
            let deletion = ScramCredentialDeletion::default().with_name(text("eve"));
            let request = wire::AlterUserScramCredentialsRequest::default()
                .with_deletions(vec![deletion.with_mechanism(1)]);
            let api = alter_user_scram_credentials::AlterUserScramCredentials::answer;
            format!("{:?}", api(house.call(version), request).await)
        }
        ApiKey::DescribeAcls => {
            let request = wire::DescribeAclsRequest::default()
                .with_resource_type_filter(1)
                .with_pattern_type_filter(1)
                .with_operation(1)
                .with_permission_type(1);
            told!(house, version, held acls::DescribeAcls, request)
        }
        ApiKey::CreateAcls => {
            use wire::create_acls_request::AclCreation;
            let creation = AclCreation::default()
                .with_resource_type(2)
                .with_resource_name(text("a"))
                .with_principal(text(USER))
                .with_host(text("*"))
                .with_operation(2)
                .with_permission_type(3);
            let request = wire::CreateAclsRequest::default().with_creations(vec![creation]);
            told!(house, version, acls::CreateAcls, request)
        }
        ApiKey::DeleteAcls => {
            use wire::delete_acls_request::DeleteAclsFilter;
            let filter = DeleteAclsFilter::default()
                .with_resource_type_filter(3)
                .with_pattern_type_filter(1)
                .with_operation(1)
                .with_permission_type(1);
            let request = wire::DeleteAclsRequest::default().with_filters(vec![filter]);
            told!(house, version, held acls::DeleteAcls, request)
        }
        _ => return None,
    })
}

/// The codes that a key answers with when it is asked for what is there.
pub(super) async fn codes(house: &House, key: ApiKey, version: i16) -> Vec<i16> {
    let told = match of_topics(house, key, version).await {
        None => of_groups(house, key, version).await,
        told => told,
    };
    let told = match told {
        None => of_transactions(house, key, version).await,
        told => told,
    };
    let told = match told {
        None => of_the_server(house, key, version).await,
        told => told,
    };
    let told = told.unwrap_or_else(|| panic!("say here what {key:?} needs, and ask it"));
    let codes = told.split("error_code: ").skip(1);
    let codes = codes.chain(told.split(" error: ").skip(1));
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '-');
        text[..end.unwrap_or(text.len())].parse().unwrap()
    };
    codes.map(number).collect()
}
