//! `ShareFetch` (78), version 1: a member of a share group takes records of the partitions of its
//! session, and says before what becomes of those that it has.
//!
//! Whole batches are answered as they are stored, and which of their records are the member's: it
//! leaves out the others. What could not be sent comes to others at once. The first request of a
//! session says nothing of records; the last one takes none, and gives back what the member still
//! has.
//!
//! Deviations: `min_bytes` is not waited for, one record is enough; `batch_size` is not looked at:
//! what is given out is in as few pieces as it can be. Where memory is short an answer has less,
//! or nothing, and no error: what is said of records is done all the same, and the session goes
//! on, so that client and server agree on its next request. Sessions that nobody has used for two
//! minutes make way for others.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::share_fetch_response::{
    AcquiredRecords, LeaderIdAndEpoch, PartitionData, ShareFetchableTopicResponse,
};
use kafka_protocol::messages::{ApiKey, ShareFetchRequest, ShareFetchResponse};
use tidemill_broker::{ShareBounds, ShareError, ShareHold, SharePart, ShareRecords};
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code, Refused};
use super::super::registry::{Api, Call, Given, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use super::super::share_session::{self, FIRST, LAST, Owner};
use super::share::{self, Said};
use crate::limits::{
    ANSWER_PART, FETCH_LEAST_BYTES, KAFKA_FETCH_MAX_BYTES, KAFKA_FETCH_WAIT_MAX,
    KAFKA_PARTITION_BYTES, MEMORY_WAIT,
};

/// See the module.
pub(in super::super) struct ShareFetch;

impl Api for ShareFetch {
    type Request = ShareFetchRequest;
    type Response = Given<ShareFetchResponse>;
    const KEY: ApiKey = ApiKey::ShareFetch;
    const VERSIONS: [i16; 2] = [1, 1];
    const SHAPE: &'static Shape = &shapes::SHARE_FETCH;
    const NEEDS: Needs = &[
        (Operation::Read, Kind::Group),
        (Operation::Read, Kind::Topic),
    ];

    async fn answer(call: Call, request: ShareFetchRequest) -> Given<ShareFetchResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let mut given = Vec::new();
        let response = match fetch(&call, request, (&mut share, &mut given)).await {
            Ok(response) => response,
            Err(refused) => ShareFetchResponse::default()
                .with_error_code(refused.code.code())
                .with_error_message(refused.why.as_deref().map(convert::text)),
        };
        let held = Held { response, share };
        Given { held, given }
    }
}

async fn fetch(
    call: &Call,
    request: ShareFetchRequest,
    (share, given): (&mut Share, &mut Vec<ShareHold>),
) -> Result<ShareFetchResponse, Refused> {
    let access = call.access();
    let (group, member) = (request.group_id.as_ref(), request.member_id.as_ref());
    let owner = share::owner(&access, group, member)?;
    let epoch = request.share_session_epoch;
    let (asked, mut replies) = read(&request);
    let acknowledges = asked.iter().any(|(_, said)| said.is_some());
    if epoch == FIRST && acknowledges {
        let why = "the first request of a session says nothing of records";
        return Err(Refused::new(Code::InvalidRequest, why));
    }
    if epoch == FIRST {
        share::is_there(call, &owner)?;
    }
    let forgotten = request.forgotten_topics_data.iter();
    let forgotten = forgotten.flat_map(|topic| {
        let each = topic.partitions.iter();
        each.filter_map(|index| share::part(topic.topic_id, *index).ok())
    });
    let said = share_session::Said {
        epoch,
        more: asked.iter().map(|(part, _)| *part).collect(),
        less: forgotten.collect(),
    };
    let sessions = &call.door.share_sessions;
    // Before the session goes on: who hangs up while it waits for memory may ask the same again.
    let room = epoch == LAST || {
        let count = asked.len() + sessions.len(&owner);
        let until = Instant::now() + MEMORY_WAIT;
        grown(share, count * KAFKA_PARTITION_BYTES, until).await
    };
    let parts = sessions.go_on(Instant::now(), &owner, said)?;
    // What is said is bounded by its request.
    let least = asked.len() * KAFKA_PARTITION_BYTES;
    share.grow_anyway(least.saturating_sub(share.bytes()));
    let said = asked.into_iter();
    let said = said.filter_map(|(part, said)| said.map(|said| Said { part, said }));
    for (part, done) in share::acknowledge(call, &access, &owner, said.collect()).await? {
        let reply = replies.entry(part).or_insert_with(|| reply(part));
        reply.acknowledge_error_code = error::code_of(&done);
    }
    if epoch == LAST {
        // A group that is gone has nothing to be released.
        let _ = call.broker.share_groups().release(&owner.0, &owner.1);
    } else if room {
        take(call, &owner, &request, parts, (&mut replies, share, given)).await?;
    }
    let lock = call.broker.share_groups().settings(&owner.0).lock();
    Ok(answer(call, replies, lock))
}

/// What is asked of partitions, and what is said of their records, where something is.
type Asked = Vec<(
    SharePart,
    Option<Result<Vec<tidemill_broker::ShareAcknowledgement>, Code>>,
)>;

type Replies = BTreeMap<SharePart, PartitionData>;

fn read(request: &ShareFetchRequest) -> (Asked, Replies) {
    let (mut asked, mut replies) = (Asked::new(), Replies::new());
    for topic in &request.topics {
        for one in &topic.partitions {
            let Ok(part) = share::part(topic.topic_id, one.partition_index) else {
                let none = SharePart {
                    topic: tidemill_core::TopicId(topic.topic_id),
                    partition: tidemill_core::Partition(u32::MAX),
                };
                let code = Code::UnknownTopicOrPartition.code();
                let told = reply(none).with_partition_index(one.partition_index);
                replies.insert(none, told.with_error_code(code));
                continue;
            };
            let batches = &one.acknowledgement_batches;
            let said = (!batches.is_empty()).then(|| {
                let each = batches.iter();
                let each = each
                    .map(|of| share::said(of.first_offset, of.last_offset, &of.acknowledge_types));
                each.collect()
            });
            asked.push((part, said));
        }
    }
    (asked, replies)
}

/// Takes records of the session's partitions, as far as who asks may read them.
async fn take(
    call: &Call,
    owner: &Owner,
    request: &ShareFetchRequest,
    parts: Vec<SharePart>,
    (replies, share, given): (&mut Replies, &mut Share, &mut Vec<ShareHold>),
) -> Result<(), Refused> {
    let (readable, refused) = readable(call, parts, replies);
    if readable.is_empty() {
        return Ok(());
    }
    let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let wait = match refused {
        // There is something to be told.
        true => Duration::ZERO,
        false => Duration::from_millis(wait).min(KAFKA_FETCH_WAIT_MAX),
    };
    let memory = call.door.memory.clone();
    let most = memory.free(Class::Answers) / ANSWER_PART;
    let most = most.clamp(FETCH_LEAST_BYTES, KAFKA_FETCH_MAX_BYTES);
    let bounds = ShareBounds {
        records_max: usize::try_from(request.max_records).unwrap_or(0).max(1),
        bytes_max: usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .clamp(1, most),
    };
    let before = share.bytes();
    let mut room = |bytes: usize| {
        // Twice: as it is answered, and as it is written.
        let needs = 2 * bytes;
        let have = share.bytes() - before;
        if needs <= have {
            share.shrink(have - needs);
            return true;
        }
        let huge = needs > memory.max(Class::Answers) && memory.over() == 0;
        let taken = share.grow(needs - have);
        if !taken && huge && have == 0 {
            share.grow_anyway(needs);
            return true;
        }
        taken
    };
    let groups = call.broker.share_groups();
    let taking = groups.take(&owner.0, &owner.1, &readable, bounds, wait, &mut room);
    let taken = tokio::select! {
        biased;
        () = call.door.closed() => return Ok(()),
        taken = taking => taken,
    };
    let taken = taken.map_err(|why| Refused::new(share::code(&why), why))?;
    let bytes = put(call, (readable, taken), replies, given);
    let needs = before + 2 * bytes;
    share.shrink(share.bytes().saturating_sub(needs));
    Ok(())
}

/// The partitions that who asks may read, and whether there are others, whose replies say so.
fn readable(call: &Call, parts: Vec<SharePart>, replies: &mut Replies) -> (Vec<SharePart>, bool) {
    let access = call.access();
    let mut readable = Vec::with_capacity(parts.len());
    let mut refused = false;
    for part in parts {
        match share::may_read(call, &access, part.topic) {
            Ok(()) => readable.push(part),
            Err(code) => {
                refused = true;
                let reply = replies.entry(part).or_insert_with(|| reply(part));
                reply.error_code = code.code();
            }
        }
    }
    (readable, refused)
}

/// Puts what was taken into the replies. Answers the bytes of its batches.
fn put(
    call: &Call,
    (parts, taken): (Vec<SharePart>, Vec<Result<ShareRecords, ShareError>>),
    replies: &mut Replies,
    given: &mut Vec<ShareHold>,
) -> usize {
    // What he may read may be another thing after a wait.
    let access = call.access();
    let mut bytes = 0;
    for (part, taken) in parts.into_iter().zip(taken) {
        let taken = taken.map_err(|why| code(&why));
        let taken = share::may_read(call, &access, part.topic).and(taken);
        if taken
            .as_ref()
            .is_ok_and(|records| records.acquired.is_empty())
        {
            continue;
        }
        let reply = replies.entry(part).or_insert_with(|| reply(part));
        match taken {
            Ok(mut records) => {
                given.push(std::mem::take(&mut records.hold));
                bytes += fill(call, reply, records);
            }
            Err(code) => reply.error_code = code.code(),
        }
    }
    bytes
}

fn code(why: &ShareError) -> Code {
    if let ShareError::Read(why) = why {
        tracing::warn!(%why, "records of a share group cannot be read");
    }
    share::code(why)
}

/// Puts records into a reply. Answers the bytes of their batches.
fn fill(call: &Call, reply: &mut PartitionData, records: ShareRecords) -> usize {
    let size = records
        .batches
        .iter()
        .map(tidemill_broker::Batch::size_bytes);
    let mut bytes = BytesMut::with_capacity(size.sum());
    for batch in &records.batches {
        bytes.extend_from_slice(batch.as_bytes());
    }
    let acquired = records.acquired.iter().map(|of| {
        AcquiredRecords::default()
            .with_first_offset(convert::wire_offset(of.first))
            .with_last_offset(convert::wire_offset(of.last))
            .with_delivery_count(i16::try_from(of.deliveries).unwrap_or(i16::MAX))
    });
    reply.acquired_records = acquired.collect();
    let count: u64 = records
        .acquired
        .iter()
        .map(|of| of.last.0 - of.first.0 + 1)
        .sum();
    call.client.fetched(count, bytes.len() as u64);
    let size = bytes.len();
    reply.records = Some(bytes.freeze());
    size
}

fn reply(part: SharePart) -> PartitionData {
    PartitionData::default()
        .with_partition_index(convert::wire_partition(part.partition))
        .with_records(Some(Bytes::new()))
}

fn answer(call: &Call, replies: Replies, lock: Duration) -> ShareFetchResponse {
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(call.door.config.node_id)
        .with_leader_epoch(convert::leader_epoch(call.broker.incarnation()));
    let mut topics: Vec<ShareFetchableTopicResponse> = Vec::new();
    for (part, reply) in replies {
        let id = convert::wire_id(part.topic);
        let reply = reply.with_current_leader(leader.clone());
        match topics.last_mut().filter(|last| last.topic_id == id) {
            Some(last) => last.partitions.push(reply),
            None => topics.push(
                ShareFetchableTopicResponse::default()
                    .with_topic_id(id)
                    .with_partitions(vec![reply]),
            ),
        }
    }
    let lock = i32::try_from(lock.as_millis()).unwrap_or(i32::MAX);
    ShareFetchResponse::default()
        .with_acquisition_lock_timeout_ms(lock)
        .with_responses(topics)
}
