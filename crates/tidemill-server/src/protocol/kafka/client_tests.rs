//! What people see of a client: what it says that it is, what it writes and reads, and the groups
//! that it is a member of.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    DescribeGroupsRequest, FetchRequest, GroupId, JoinGroupRequest, LeaveGroupRequest,
    ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{ClassicCaller, ConsumerCaller};
use tidemill_core::GroupName;

use super::apis::api_versions::ApiVersions;
use super::apis::consumer_group_describe::ConsumerGroupDescribe;
use super::apis::consumer_group_heartbeat::ConsumerGroupHeartbeat;
use super::apis::describe_groups::DescribeGroups;
use super::apis::fetch::Fetch;
use super::apis::join_group::JoinGroup;
use super::apis::leave_group::LeaveGroup;
use super::apis::produce::Produce;
use super::convert;
use super::error::Code;
use super::registry::{Api, Call};
use super::tests::{broker, builder, call, door, topic};

fn at(call: &Call, version: i16) -> Call {
    Call {
        version,
        ..call.clone()
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

#[tokio::test]
async fn a_client_is_seen_with_its_program_its_records_and_its_groups() {
    let (door, _close) = door(broker(1, 1 << 26).await);
    let call = call(&door, 3);
    let shown = |call: &Call| {
        let groups = call.broker.classic_groups();
        call.client.shown(|group, member| {
            let described = groups.describe(&GroupName::new(group).unwrap());
            described.is_some_and(|all| all.members.iter().any(|one| one.member == member))
        })
    };
    let versions = ApiVersionsRequest::default()
        .with_client_software_name(text("a-program"))
        .with_client_software_version(text("1.2"));
    ApiVersions::answer(at(&call, 3), versions).await;

    let batch = builder(1, b"value").finish().unwrap();
    let bytes = batch.size_bytes() as u64;
    let data = PartitionProduceData::default().with_records(Some(batch.as_bytes().clone()));
    let data = TopicProduceData::default()
        .with_name(convert::wire_topic(&topic()))
        .with_partition_data(vec![data]);
    let writing = ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![data]);
    for _ in 0..3 {
        Produce::answer(at(&call, 9), writing.clone()).await;
    }
    let mut elsewhere = writing;
    elsewhere.topic_data[0].name = text("none").into();
    Produce::answer(at(&call, 9), elsewhere).await;

    let part = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let reads = FetchTopic::default()
        .with_topic(convert::wire_topic(&topic()))
        .with_partitions(vec![part]);
    let reads = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_topics(vec![reads]);
    for _ in 0..2 {
        Fetch::answer(at(&call, 12), reads.clone()).await;
    }
    let joins = JoinGroupRequest::default()
        .with_group_id(GroupId(text("readers")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default().with_name(text("range")),
        ]);
    let joined = JoinGroup::answer(at(&call, 3), joins).await;
    assert_eq!(joined.error_code, 0);
    let seen = shown(&call);
    assert_eq!(seen.software_name.as_deref(), Some("a-program"));
    assert_eq!(seen.software_version.as_deref(), Some("1.2"));
    assert_eq!((seen.produced.records, seen.produced.bytes), (3, 3 * bytes));
    assert_eq!((seen.fetched.records, seen.fetched.bytes), (6, 6 * bytes));
    assert_eq!(seen.groups, ["readers"]);
    let leaves = LeaveGroupRequest::default()
        .with_group_id(GroupId(text("readers")))
        .with_member_id(joined.member_id);
    assert_eq!(LeaveGroup::answer(at(&call, 1), leaves).await.error_code, 0);
    assert_eq!(shown(&call).groups, [""; 0], "it is one no more");
}

/// Which kind the group is of, which was asked for, and what to do: people read it in a tool.
#[tokio::test]
async fn who_asks_for_a_group_of_another_kind_is_told_both_kinds() {
    let broker = broker(1, 1 << 26).await;
    let consumers = broker.consumer_groups();
    let nobody = ConsumerCaller {
        member: "".into(),
        epoch: -1,
    };
    let newer = GroupName::new("newer").unwrap();
    let committed = consumers.commit(&newer, &nobody, Vec::new()).await;
    committed.unwrap();
    let nobody = ClassicCaller {
        generation: -1,
        ..ClassicCaller::default()
    };
    let older = GroupName::new("older").unwrap();
    let classics = broker.classic_groups();
    let committed = classics.commit(&older, &nobody, Vec::new()).await;
    committed.unwrap();
    let (door, _close) = door(broker);
    let classic = async |id: &'static str, version| {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(id))]);
        let told = DescribeGroups::answer(call(&door, version), request).await;
        let group = &told.groups[0];
        let why = group.error_message.as_deref().unwrap_or_default();
        (group.error_code, why.to_owned())
    };
    let consumer = async |id: &'static str| {
        let request =
            ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(id))]);
        let told = ConsumerGroupDescribe::answer(call(&door, 1), request).await;
        let group = &told.groups[0];
        let why = group.error_message.as_deref().unwrap_or_default();
        (group.error_code, why.to_owned())
    };
    let unknown = Code::GroupIdNotFound.code();
    assert_eq!(classic("older", 6).await, (0, String::new()));
    assert_eq!(consumer("newer").await, (0, String::new()));
    assert_eq!(
        classic("newer", 5).await,
        (0, String::new()),
        "dead, as Kafka has it"
    );
    for (code, why) in [classic("newer", 6).await, consumer("older").await] {
        assert_eq!(code, unknown);
        assert!(why.contains("classic") && why.contains("consumer"), "{why}");
        assert!(why.contains("ask for it by its own kind"), "{why}");
    }
    for (code, why) in [classic("none", 6).await, consumer("none").await] {
        assert_eq!(code, unknown);
        assert!(why.contains("there is no group none"), "{why}");
    }
    // Who would join one that is a webhook's is told whose it is.
    let beat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("webhook.shop")))
        .with_member_id(text("m"));
    let said = ConsumerGroupHeartbeat::answer(call(&door, 1), beat).await;
    assert_eq!(said.error_code, Code::InvalidGroupId.code());
    let why = said.error_message.unwrap();
    assert!(why.contains("take another group"), "{why}");
}
