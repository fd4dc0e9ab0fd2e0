//! `OffsetFetch` (9), versions 1 to 9: positions of groups, with what was kept beside them. From
//! version 8 on of several groups at once; one that is named twice is told once.
//!
//! A position that nobody committed in this way is told like any other: a group whose members
//! were of another kind goes on where it was. Where the client wants only what is decided (from
//! version 7 on), one that an open transaction is to set is an error that may be tried again.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    ApiKey, GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName as WireTopic,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{CommittedOffset, ConsumerCaller};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, NONE};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::group;

/// The first version that tells errors of the group.
const TELLS_ERRORS: i16 = 2;
/// The first version that asks for several groups at once.
const SEVERAL: i16 = 8;

/// See the module.
pub(in super::super) struct OffsetFetch;

impl Api for OffsetFetch {
    type Request = OffsetFetchRequest;
    type Response = OffsetFetchResponse;
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VERSIONS: [i16; 2] = [1, 9];
    const SHAPE: &'static Shape = &shapes::OFFSET_FETCH;
    const NEEDS: Needs = &[
        (Operation::Describe, Kind::Group),
        (Operation::Describe, Kind::Topic),
    ];

    async fn answer(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let stable = request.require_stable;
        if call.version >= SEVERAL {
            let mut seen = BTreeSet::new();
            let once = |asked: &OffsetFetchRequestGroup| seen.insert(asked.group_id.clone());
            let groups = request.groups.into_iter().filter(once).map(|asked| {
                let topics = asked.topics.map(|topics| {
                    let one = topics.into_iter();
                    one.map(|topic| (topic.name, topic.partition_indexes))
                        .collect()
                });
                let who = asked.member_id.as_ref().filter(|_| asked.member_epoch >= 0);
                let who = who.map(|member| group::consumer(member, asked.member_epoch));
                one_of_several(&call, (asked.group_id, who), topics, stable)
            });
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let topics = request.topics.map(|topics| {
            let one = topics.into_iter();
            one.map(|topic| (topic.name, topic.partition_indexes))
                .collect()
        });
        let (found, code) = find(&call, (&request.group_id, None), topics, stable);
        let topics = found.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|one| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(one.partition)
                    .with_committed_offset(one.offset)
                    .with_committed_leader_epoch(one.leader_epoch)
                    .with_metadata(Some(one.metadata))
                    .with_error_code(one.code)
            });
            OffsetFetchResponseTopic::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
        let response = OffsetFetchResponse::default().with_topics(topics.collect());
        match call.version >= TELLS_ERRORS {
            true => response.with_error_code(code),
            false => response,
        }
    }
}

fn one_of_several(
    call: &Call,
    (id, who): (GroupId, Option<ConsumerCaller>),
    topics: Option<Topics>,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let (found, code) = find(call, (&id, who), topics, stable);
    let topics = found.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|one| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(one.partition)
                .with_committed_offset(one.offset)
                .with_committed_leader_epoch(one.leader_epoch)
                .with_metadata(Some(one.metadata))
                .with_error_code(one.code)
        });
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default()
        .with_group_id(id)
        .with_topics(topics.collect())
        .with_error_code(code)
}

/// Topics with the numbers of their partitions.
type Topics = Vec<(WireTopic, Vec<i32>)>;

/// A position as clients read it.
struct Found {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    code: i16,
}

impl Found {
    fn none(partition: i32, code: i16) -> Self {
        Self {
            partition,
            offset: -1,
            leader_epoch: -1,
            metadata: StrBytes::default(),
            code,
        }
    }

    fn of(have: &CommittedOffset, stable: bool) -> Self {
        let partition = convert::wire_partition(have.partition);
        let Some(offset) = have.offset.filter(|_| !(stable && have.is_pending)) else {
            let code = match stable && have.is_pending {
                true => Code::UnstableOffsetCommit.code(),
                false => NONE,
            };
            return Self::none(partition, code);
        };
        let epoch = have.note.leader_epoch;
        Self {
            offset: convert::wire_offset(offset),
            leader_epoch: epoch
                .and_then(|epoch| i32::try_from(epoch).ok())
                .unwrap_or(-1),
            metadata: convert::text(&have.note.metadata),
            ..Self::none(partition, NONE)
        }
    }
}

/// Positions of a group, of these partitions or of all that it has one in. A member of a consumer
/// group that asks for them is in its epoch.
fn find(
    call: &Call,
    (id, who): (&GroupId, Option<ConsumerCaller>),
    topics: Option<Topics>,
    stable: bool,
) -> (Vec<(WireTopic, Vec<Found>)>, i16) {
    let access = call.access();
    let sees = |topic: &str| access.may(Operation::Describe, Kind::Topic, topic);
    let may = access.group(Operation::Describe, id);
    let name = match may.and_then(|()| group::shown(id)) {
        Ok(_) if call.door.is_closing() => Err(Code::CoordinatorNotAvailable),
        other => other,
    };
    let consumers = call.broker.consumer_groups();
    let name = name.and_then(|name| match who.filter(|_| consumers.has(&name)) {
        None => Ok(name),
        Some(who) => match consumers.may_fetch(&name, &who) {
            Ok(()) => Ok(name),
            Err(why) => Err(error::consumer(&why)),
        },
    });
    let (have, code) = match name {
        Ok(name) => (call.broker.classic_groups().offsets(&name), NONE),
        Err(code) => (Vec::new(), code.code()),
    };
    let Some(topics) = topics else {
        let mut all: BTreeMap<WireTopic, Vec<Found>> = BTreeMap::new();
        let there = |one: &&CommittedOffset| {
            (one.offset.is_some() || one.is_pending) && sees(one.topic.as_str())
        };
        for one in have.iter().filter(there) {
            let topic = all.entry(convert::wire_topic(&one.topic)).or_default();
            topic.push(Found::of(one, stable));
        }
        return (all.into_iter().collect(), code);
    };
    let found = topics.into_iter().map(|(topic, partitions)| {
        let hidden = code == NONE && !sees(&topic);
        let partitions = partitions.into_iter().map(|partition| {
            if hidden {
                return Found::none(partition, Code::TopicAuthorizationFailed.code());
            }
            let place = have.binary_search_by(|one| {
                let other = (one.topic.as_str(), convert::wire_partition(one.partition));
                other.cmp(&(topic.as_str(), partition))
            });
            let one = place.ok().and_then(|place| have.get(place));
            one.map_or_else(
                || Found::none(partition, code),
                |one| Found::of(one, stable),
            )
        });
        let partitions = partitions.collect();
        (topic, partitions)
    });
    (found.collect(), code)
}
