//! What members of share groups are told at the door: sessions and their epochs, acknowledgements
//! within a fetch and apart, and what is refused of whom with which code.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages as wire;
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{Begins, ShareHold, ShareSettings};
use tidemill_core::GroupName;
use tidemill_core::budget::Class;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use uuid::Uuid;

use super::Door;
use super::apis::alter_share_group_offsets::AlterShareGroupOffsets;
use super::apis::delete_share_group_offsets::DeleteShareGroupOffsets;
use super::apis::describe_share_group_offsets::DescribeShareGroupOffsets;
use super::apis::share_acknowledge::ShareAcknowledge;
use super::apis::share_fetch::ShareFetch;
use super::apis::share_group_heartbeat::ShareGroupHeartbeat;
use super::connection;
use super::error::Code;
use super::registry::Api;
use super::tests::{broker, builder, call, door, session, topic, writing};
use crate::limits::{KAFKA_SHARE_MEMBER_ID_MAX_BYTES, MEMORY_WAIT};

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;

fn text<T: From<StrBytes>>(text: &'static str) -> T {
    StrBytes::from_static_str(text).into()
}

/// A door to three records of topic `a`, and its members.
struct House {
    door: Arc<Door>,
    topic: Uuid,
    _close: tokio::sync::watch::Sender<bool>,
}

impl House {
    async fn new() -> Self {
        let broker = broker(1, 64 << 20).await;
        let settings = ShareSettings {
            from_beginning: Some(true),
            ..ShareSettings::default()
        };
        let group = GroupName::new("s").unwrap();
        broker.share_groups().set(&group, settings).await.unwrap();
        for value in [b"0", b"1", b"2"] {
            let one = writing(builder(1, value), Begins::No);
            broker.produce(one).await.unwrap();
        }
        let topic = broker.topic(&topic()).unwrap().id.0;
        let (door, _close) = door(broker);
        Self {
            door,
            topic,
            _close,
        }
    }

    async fn beat(&self, member: &'static str, epoch: i32) -> (i16, i32) {
        let topics = (epoch == 0).then(|| vec![text("a")]);
        let request = wire::ShareGroupHeartbeatRequest::default()
            .with_group_id(text("s"))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names(topics);
        let told = ShareGroupHeartbeat::answer(call(&self.door, 1), request).await;
        (told.error_code, told.member_epoch)
    }

    fn request(&self, member: &'static str, epoch: i32) -> wire::ShareFetchRequest {
        wire::ShareFetchRequest::default()
            .with_group_id(Some(text("s")))
            .with_member_id(Some(text(member)))
            .with_share_session_epoch(epoch)
            .with_max_bytes(1 << 20)
            .with_max_records(1)
    }

    /// Asks for the one partition of the topic of this id, and says something of its records.
    fn asks(
        &self,
        mut request: wire::ShareFetchRequest,
        topic: Uuid,
        said: &[(i64, i64, i8)],
    ) -> wire::ShareFetchRequest {
        use wire::share_fetch_request::*;
        let batch = |(first, last, verdict): &(i64, i64, i8)| {
            AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![*verdict])
        };
        let batches = said.iter().map(batch).collect();
        let partition = FetchPartition::default().with_acknowledgement_batches(batches);
        request.topics.push(
            FetchTopic::default()
                .with_topic_id(topic)
                .with_partitions(vec![partition]),
        );
        request
    }

    async fn fetch(&self, request: wire::ShareFetchRequest) -> (i16, Vec<PartitionData>) {
        let answer = ShareFetch::answer(call(&self.door, 1), request).await;
        answer.given.into_iter().for_each(ShareHold::sent);
        let told = answer.held.response;
        let topics = told.responses.into_iter();
        (
            told.error_code,
            topics.flat_map(|topic| topic.partitions).collect(),
        )
    }

    async fn acknowledge(
        &self,
        member: &'static str,
        epoch: i32,
        (first, last, verdict): (i64, i64, i8),
    ) -> (i16, Vec<i16>) {
        use wire::share_acknowledge_request::*;
        let batch = AcknowledgementBatch::default()
            .with_first_offset(first)
            .with_last_offset(last)
            .with_acknowledge_types(vec![verdict]);
        let partition = AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
        let topic = AcknowledgeTopic::default()
            .with_topic_id(self.topic)
            .with_partitions(vec![partition]);
        let request = wire::ShareAcknowledgeRequest::default()
            .with_group_id(Some(text("s")))
            .with_member_id(Some(text(member)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic]);
        let told = ShareAcknowledge::answer(call(&self.door, 1), request).await;
        let partitions = told.responses.iter().flat_map(|topic| &topic.partitions);
        (
            told.error_code,
            partitions.map(|one| one.error_code).collect(),
        )
    }
}

impl House {
    /// The code of a group, and of each partition its topic, number, offset and code.
    async fn described(
        &self,
        group: &'static str,
        topics: Option<&[(&'static str, i32)]>,
    ) -> (i16, Vec<(String, i32, i64, i16)>) {
        use wire::describe_share_group_offsets_request::*;
        let topic = |(name, number): &(&'static str, i32)| {
            DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(text(name))
                .with_partitions(vec![*number])
        };
        let topics = topics.map(|topics| topics.iter().map(topic).collect());
        let group = DescribeShareGroupOffsetsRequestGroup::default()
            .with_group_id(text(group))
            .with_topics(topics);
        let request = wire::DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]);
        let told = DescribeShareGroupOffsets::answer(call(&self.door, 0), request).await;
        let told = &told.groups[0];
        let each = told.topics.iter().flat_map(|topic| {
            let each = topic.partitions.iter();
            each.map(|one| {
                let name = topic.topic_name.to_string();
                (name, one.partition_index, one.start_offset, one.error_code)
            })
        });
        (told.error_code, each.collect())
    }

    async fn alter(
        &self,
        group: &'static str,
        places: &[(&'static str, i32, i64)],
    ) -> (i16, Vec<i16>) {
        use wire::alter_share_group_offsets_request::*;
        let topic = |(name, number, offset): &(&'static str, i32, i64)| {
            let partition = AlterShareGroupOffsetsRequestPartition::default()
                .with_partition_index(*number)
                .with_start_offset(*offset);
            AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(text(name))
                .with_partitions(vec![partition])
        };
        let request = wire::AlterShareGroupOffsetsRequest::default()
            .with_group_id(text(group))
            .with_topics(places.iter().map(topic).collect());
        let told = AlterShareGroupOffsets::answer(call(&self.door, 0), request).await;
        let each = told.responses.iter().flat_map(|topic| &topic.partitions);
        (told.error_code, each.map(|one| one.error_code).collect())
    }

    async fn delete(&self, group: &'static str, topics: &[&'static str]) -> (i16, Vec<i16>) {
        use wire::delete_share_group_offsets_request::*;
        let topic = |name: &&'static str| {
            DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(text(name))
        };
        let request = wire::DeleteShareGroupOffsetsRequest::default()
            .with_group_id(text(group))
            .with_topics(topics.iter().map(topic).collect());
        let told = DeleteShareGroupOffsets::answer(call(&self.door, 0), request).await;
        let each = told.responses.iter();
        (told.error_code, each.map(|one| one.error_code).collect())
    }
}

/// First and last offsets and deliveries of what was taken.
fn taken(partition: &PartitionData) -> Vec<(i64, i64, i16)> {
    let each = partition.acquired_records.iter();
    each.map(|of| (of.first_offset, of.last_offset, of.delivery_count))
        .collect()
}

#[tokio::test]
async fn a_session_takes_says_and_ends_and_what_it_has_comes_to_others() {
    let house = House::new().await;
    assert_eq!(house.beat("m", 0).await, (0, 1));
    assert_eq!(house.beat("n", 0).await, (0, 2));
    let first = house.asks(house.request("m", 0), house.topic, &[]);
    let (code, told) = house.fetch(first).await;
    assert_eq!((code, taken(&told[0])), (0, vec![(0, 0, 1)]));
    assert!(!told[0].records.as_ref().unwrap().is_empty());
    // Says it and takes the next one.
    let next = house.asks(house.request("m", 1), house.topic, &[(0, 0, ACCEPT)]);
    let (code, told) = house.fetch(next).await;
    assert_eq!((code, taken(&told[0])), (0, vec![(1, 1, 1)]));
    assert_eq!(told[0].acknowledge_error_code, 0);
    // What was settled is not his any more; nothing is said of the partition else.
    let again = house.asks(house.request("m", 2), house.topic, &[(0, 1, ACCEPT)]);
    let (code, told) = house.fetch(again).await;
    assert_eq!((code, taken(&told[0])), (0, vec![(2, 2, 1)]));
    let stale = Code::InvalidRecordState.code();
    assert_eq!(told[0].acknowledge_error_code, stale);
    assert_eq!(house.fetch(house.request("m", 3)).await, (0, Vec::new()));
    let other = house.asks(house.request("n", 0), house.topic, &[]);
    assert_eq!(house.fetch(other).await, (0, Vec::new()));
    assert_eq!(
        house.acknowledge("n", 1, (1, 1, ACCEPT)).await,
        (0, vec![stale])
    );
    assert_eq!(
        house.acknowledge("m", 4, (1, 1, RELEASE)).await,
        (0, vec![0])
    );
    // The end gives back what is left.
    assert_eq!(house.fetch(house.request("m", -1)).await, (0, Vec::new()));
    let mut both = Vec::new();
    for epoch in [2, 3] {
        let (code, told) = house.fetch(house.request("n", epoch)).await;
        assert_eq!(code, 0);
        both.extend(taken(&told[0]));
    }
    assert_eq!(both, [(1, 1, 2), (2, 2, 2)]);
}

#[tokio::test]
async fn without_memory_nothing_is_taken_and_what_is_said_is_done_and_the_session_goes_on() {
    let house = House::new().await;
    for (member, epoch) in [("m", 1), ("n", 2)] {
        assert_eq!(house.beat(member, 0).await, (0, epoch));
    }
    let memory = house.door.memory.clone();
    let all = || {
        let mut share = memory.empty(Class::Answers);
        while share.grow(64) {}
        share
    };
    let held = all();
    tokio::time::pause();
    let first = house.asks(house.request("m", 0), house.topic, &[]);
    assert_eq!(house.fetch(first).await, (0, Vec::new()));
    drop(held);
    let (code, told) = house.fetch(house.request("m", 1)).await;
    assert_eq!((code, taken(&told[0])), (0, vec![(0, 0, 1)]));
    let (code, told) = house.fetch(house.request("m", 2)).await;
    assert_eq!((code, taken(&told[0])), (0, vec![(1, 1, 1)]));
    let held = all();
    let next = house.asks(house.request("m", 3), house.topic, &[(0, 0, ACCEPT)]);
    let (code, told) = house.fetch(next).await;
    assert_eq!((code, told[0].acknowledge_error_code), (0, 0));
    assert!(taken(&told[0]).is_empty());
    // The end comes at once, and gives back what is left.
    let began = tokio::time::Instant::now();
    assert_eq!(house.fetch(house.request("m", -1)).await, (0, Vec::new()));
    assert!(began.elapsed() < MEMORY_WAIT);
    drop(held);
    let mut other = house.asks(house.request("n", 0), house.topic, &[]);
    other.max_records = 3;
    let (code, told) = house.fetch(other).await;
    assert_eq!((code, taken(&told[0])), (0, vec![(1, 1, 2), (2, 2, 1)]));
    assert_eq!((memory.used(Class::Answers), memory.over()), (0, 0));
}

#[tokio::test]
async fn wrong_epochs_strangers_and_unknown_topics_are_told_with_their_codes() {
    let house = House::new().await;
    assert_eq!(house.beat("m", 1).await.0, Code::UnknownMemberId.code());
    assert_eq!(house.beat("m", 0).await, (0, 1));
    assert_eq!(house.beat("m", 7).await.0, Code::FencedMemberEpoch.code());
    assert_eq!(house.beat("m", -2).await.0, Code::InvalidRequest.code());
    let not_found = Code::ShareSessionNotFound.code();
    assert_eq!(house.fetch(house.request("m", 1)).await.0, not_found);
    assert_eq!(house.fetch(house.request("m", -1)).await.0, not_found);
    let early = house.asks(house.request("m", 0), house.topic, &[(0, 0, ACCEPT)]);
    assert_eq!(house.fetch(early).await.0, Code::InvalidRequest.code());
    let first = house.asks(house.request("m", 0), house.topic, &[]);
    assert_eq!(house.fetch(first).await.0, 0);
    let wrong = Code::InvalidShareSessionEpoch.code();
    for epoch in [0, 2, 9] {
        let told = house.acknowledge("m", epoch, (0, 0, ACCEPT)).await;
        assert_eq!(told, (wrong, Vec::new()), "{epoch}");
    }
    assert_eq!(house.fetch(house.request("m", 5)).await.0, wrong);
    let told = house.acknowledge("m", 1, (0, 0, 9)).await;
    assert_eq!(told, (0, vec![Code::InvalidRequest.code()]));
    let told = house.acknowledge("m", 2, (0, -1, ACCEPT)).await;
    assert_eq!(told, (0, vec![Code::InvalidRequest.code()]));
    let unknown = house.asks(house.request("m", 3), Uuid::from_u128(7), &[(0, 0, ACCEPT)]);
    let (code, told) = house.fetch(unknown).await;
    let codes = |one: &PartitionData| (one.error_code, one.acknowledge_error_code);
    let gone = Code::UnknownTopicId.code();
    let told: Vec<_> = told.iter().filter(|one| one.error_code != 0).collect();
    assert_eq!((code, told.len(), codes(told[0])), (0, 1, (gone, gone)));
    // Nobody asks for no group, as no member, or in a group of another kind.
    let nobody = house.request("", 0);
    assert_eq!(house.fetch(nobody).await.0, Code::InvalidRequest.code());
    let mut other = house.asks(house.request("m", 0), house.topic, &[]);
    other.group_id = Some(text("other"));
    assert_eq!(house.fetch(other).await.0, Code::GroupIdNotFound.code());
}

#[tokio::test]
async fn ids_of_members_have_a_bound_and_no_session_is_made_where_there_is_no_group() {
    let house = House::new().await;
    let longest: &'static str = "m".repeat(KAFKA_SHARE_MEMBER_ID_MAX_BYTES).leak();
    let longer: &'static str = "m".repeat(KAFKA_SHARE_MEMBER_ID_MAX_BYTES + 1).leak();
    let invalid = Code::InvalidRequest.code();
    assert_eq!(house.beat(longer, 0).await.0, invalid);
    assert_eq!(house.fetch(house.request(longer, 0)).await.0, invalid);
    let told = house.acknowledge(longer, 1, (0, 0, ACCEPT)).await;
    assert_eq!(told, (invalid, Vec::new()));
    assert_eq!(house.beat(longest, 0).await.0, 0);
    assert_eq!(house.fetch(house.request(longest, 0)).await.0, 0);
    let of = |epoch| {
        let mut request = house.request("m", epoch);
        request.group_id = Some(text("other"));
        house.fetch(request)
    };
    assert_eq!(of(0).await.0, Code::GroupIdNotFound.code());
    assert_eq!(of(1).await.0, Code::ShareSessionNotFound.code());
}

/// The first fetch of the member `m` as a client sends it: one record of one partition.
fn first_fetch(topic: Uuid) -> BytesMut {
    let mut whole = BytesMut::new();
    let mut frame = BytesMut::new();
    // Key, version, correlation, no name, no tags; the group, the member.
    frame.put_slice(&[0, 78, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0]);
    frame.put_slice(&[2, b's', 2, b'm']);
    // Epoch, wait, least and most bytes, most records, records of a batch.
    for number in [0, 0, 1, 1 << 20, 1, 1] {
        frame.put_i32(number);
    }
    frame.put_u8(2);
    frame.put_slice(topic.as_bytes());
    // Partition 0, of which nothing is said; nothing is forgotten.
    frame.put_slice(&[2, 0, 0, 0, 0, 1, 0, 0, 1, 0]);
    whole.put_u32(u32::try_from(frame.len()).unwrap());
    whole.unsplit(frame);
    whole
}

#[tokio::test]
async fn what_a_connection_that_breaks_was_to_get_comes_to_others_as_if_it_never_was_given() {
    let house = House::new().await;
    assert_eq!(house.beat("m", 0).await, (0, 1));
    assert_eq!(house.beat("n", 0).await, (0, 2));
    let request = first_fetch(house.topic);
    for (reads_all, next) in [(false, (0, 0, 1)), (true, (1, 1, 1))] {
        // No answer has room in it.
        let (mut client, mut server) = duplex(16);
        let (door, broker) = (Arc::clone(&house.door), house.door.broker.clone());
        let session = Arc::new(session(&door));
        let until = tokio::time::Instant::now();
        let run = async move { connection::run(&mut server, door, broker, session, until).await };
        let run = tokio::spawn(run);
        client.write_all(&request).await.unwrap();
        let length = client.read_u32().await.unwrap();
        if reads_all {
            let mut answer = vec![0; usize::try_from(length).unwrap()];
            client.read_exact(&mut answer).await.unwrap();
        }
        drop(client);
        assert_eq!(run.await.unwrap().is_ok(), reads_all);
        let other = house.asks(house.request("n", 0), house.topic, &[]);
        let (code, told) = house.fetch(other).await;
        assert_eq!((code, taken(&told[0])), (0, vec![next]));
        let back = house.acknowledge("n", 1, (next.0, next.1, RELEASE)).await;
        assert_eq!(back, (0, vec![0]));
    }
}

#[tokio::test]
async fn who_waits_in_a_group_that_is_deleted_is_told_that_there_is_none() {
    let house = House::new().await;
    assert_eq!(house.beat("m", 0).await, (0, 1));
    let mut first = house.asks(house.request("m", 0), house.topic, &[]);
    first.max_records = 3;
    assert_eq!(house.fetch(first).await.0, 0);
    let waits = house.request("m", 1).with_max_wait_ms(60_000);
    let group = GroupName::new("s").unwrap();
    let delete = async {
        tokio::task::yield_now().await;
        house.door.broker.delete_group(&group).await.unwrap();
    };
    let (told, ()) = tokio::join!(house.fetch(waits), delete);
    let gone = Code::GroupIdNotFound.code();
    assert_eq!(told, (gone, Vec::new()));
    let told = house.acknowledge("m", 2, (0, 0, ACCEPT)).await;
    assert_eq!(told, (gone, Vec::new()));
    let said = house.asks(house.request("m", 3), house.topic, &[(1, 1, ACCEPT)]);
    assert_eq!(house.fetch(said).await, (gone, Vec::new()));
}

#[tokio::test]
async fn offsets_of_share_groups_are_told_set_and_forgotten_where_nobody_is_a_member() {
    let house = House::new().await;
    let (gone, unknown) = (
        Code::GroupIdNotFound.code(),
        Code::UnknownTopicOrPartition.code(),
    );
    let at = |offset: i64| vec![("a".to_owned(), 0, offset, 0)];
    // The group is there and has read nothing.
    assert_eq!(house.described("s", None).await, (0, Vec::new()));
    let told = house
        .described("s", Some(&[("a", 0), ("a", 7), ("b", 0)]))
        .await;
    let told: Vec<_> = told.1.into_iter().map(|one| (one.2, one.3)).collect();
    assert_eq!(told, [(-1, 0); 3]);
    assert_eq!(house.described("other", None).await.0, gone);
    assert_eq!(
        house.alter("other", &[("a", 0, 1)]).await,
        (gone, vec![gone])
    );
    assert_eq!(house.delete("other", &["a"]).await, (gone, Vec::new()));
    assert_eq!(house.beat("m", 0).await, (0, 1));
    assert_eq!(house.described("s", Some(&[("a", 0)])).await, (0, at(0)));
    let in_use = Code::NonEmptyGroup.code();
    let told = house.alter("s", &[("a", 0, 1)]).await;
    assert_eq!(told, (in_use, vec![in_use]));
    assert_eq!(house.delete("s", &["a"]).await, (in_use, Vec::new()));
    assert_eq!(house.beat("m", -1).await, (0, -1));
    let (range, all) = (
        Code::OffsetOutOfRange.code(),
        [("a", 0, 2), ("a", 1, 0), ("b", 0, 0)],
    );
    let told = house.alter("s", &all).await;
    assert_eq!(told, (0, vec![0, unknown, unknown]));
    assert_eq!(house.described("s", None).await, (0, at(2)));
    for wrong in [-1, 4] {
        assert_eq!(house.alter("s", &[("a", 0, wrong)]).await, (0, vec![range]));
    }
    assert_eq!(house.beat("n", 0).await.0, 0);
    let first = house.asks(house.request("n", 0), house.topic, &[]);
    assert_eq!(taken(&house.fetch(first).await.1[0]), [(2, 2, 1)]);
    assert_eq!(house.beat("n", -1).await, (0, -1));
    assert_eq!(house.delete("s", &["a", "b"]).await, (0, vec![0, unknown]));
    assert_eq!(house.described("s", None).await, (0, Vec::new()));
    assert_eq!(house.delete("s", &["a"]).await, (0, vec![0]));
}
