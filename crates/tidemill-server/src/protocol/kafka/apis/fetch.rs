//! `Fetch` (1), versions 4 to 17: record batches from offsets on.
//!
//! Whole batches are answered as they are stored: the first one may begin before the offset that
//! was asked for, and the client leaves out what it has. `max_wait_ms` and `min_bytes` are kept;
//! a server that closes answers at once.
//!
//! From version 13 on topics are named by their ids: what is read of a topic that was made anew
//! under its name is never told to who knows the old one (`UNKNOWN_TOPIC_ID`, and in a session
//! `INCONSISTENT_TOPIC_ID`). What versions 15 to 17 add is for replicas, and is read past.
//!
//! From version 7 on there are sessions (`fetch_session`): all their partitions are read, and
//! those without news are left out of the answer.
//!
//! Deviations: a session is found by its owner alone. `min_bytes` counts what is read, not what
//! could be. Bounds of bytes are passed by at most a batch a partition. No diverging epochs are
//! told. Where memory is short an answer has less, or nothing, and no error: the client asks again.
//! Only where there is none to say anything of the partitions, `KAFKA_STORAGE_ERROR` is all of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::{ApiKey, FetchRequest, TopicName as WireName};
use tidemill_broker::{Batch, FetchBatches, FetchedBatches, Isolation};
use tidemill_core::budget::{Class, Share};
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, Offset, Partition, TopicId, TopicName};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::super::access::{Access, Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::fetch_session::{
    Asked, Bounds, Key, Named, Owner, Round, Sessions, Told, Wanted,
};
use super::super::registry::{Api, Call, grown};
use super::super::shape::Shape;
use super::super::shapes;
use super::fetch_reply::{FetchReply, PartitionReply, TopicReply};
use crate::limits::{
    ANSWER_PART, FETCH_LEAST_BYTES, FETCH_WAIT_BYTES, KAFKA_FETCH_COST, KAFKA_FETCH_MAX_BYTES,
    KAFKA_FETCH_WAIT_MAX, KAFKA_FETCH_WAIT_PART, KAFKA_FETCH_WAIT_PARTITION_BYTES,
    MEMORY_LOOK_EVERY, MEMORY_WAIT,
};
use crate::users::credential::random;

/// The first version that names topics by their ids.
const BY_ID: i16 = 13;

/// See the module.
pub(in super::super) struct Fetch;

impl Api for Fetch {
    type Request = FetchRequest;
    type Response = FetchReply;
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: [i16; 2] = [4, 17];
    const SHAPE: &'static Shape = &shapes::FETCH;
    const NEEDS: Needs = &[(Operation::Read, Kind::Topic)];

    async fn answer(call: Call, request: FetchRequest) -> FetchReply {
        let owner = Owner {
            principal: call.session.principal(),
            client_id: call.client_id.clone(),
        };
        let asked = asked(&request, call.version >= BY_ID);
        // Of a session that goes on, its request says little of what is read.
        let bytes = call.door.fetch_sessions(|all| all.bytes(&owner, &asked));
        let mut share = call.door.memory.empty(Class::Answers);
        let until = Instant::now() + MEMORY_WAIT;
        if !grown(&mut share, bytes * KAFKA_FETCH_COST, until).await {
            return FetchReply::refused(Code::KafkaStorageError);
        }
        let begun = call
            .door
            .fetch_sessions(|all| all.begin(Instant::now(), &owner, asked));
        let (round, wanted) = match begun {
            Ok(begun) => begun,
            Err(code) => return FetchReply::refused(code),
        };
        let bytes = wanted.iter().map(|one| one.key.bytes()).sum::<usize>();
        // It may have grown meanwhile.
        if !share.resize(bytes * KAFKA_FETCH_COST) {
            return FetchReply::refused(Code::KafkaStorageError);
        }
        if matches!(round, Round::Next { .. }) {
            call.door.metrics.kafka.fetches_incremental.inc();
        }
        let mut reading = Reading::new(call, &request, wanted, share);
        reading.look().await;
        reading.wait(&request).await;
        reading.end(round)
    }
}

/// A topic as a request names it. Its text is copied: a session outlives its requests.
fn named(name: &WireName, id: Uuid, by_id: bool) -> Named {
    match by_id {
        true => Named::Id(id),
        false => Named::Name(Arc::from(name.as_str())),
    }
}

/// What a request says to its session, each partition once.
fn asked(request: &FetchRequest, by_id: bool) -> Asked {
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let named = named(&topic.topic, topic.topic_id, by_id);
        for one in &topic.partitions {
            let key = Key {
                topic: named.clone(),
                index: one.partition,
            };
            if seen.insert(key.clone()) {
                wanted.push(Wanted::new(key, one.fetch_offset, one.partition_max_bytes));
            }
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_named = named(&topic.topic, topic.topic_id, by_id);
        let key = |index: &i32| Key {
            topic: topic_named.clone(),
            index: *index,
        };
        forgotten.extend(topic.partitions.iter().map(key));
    }
    Asked {
        session: request.session_id,
        epoch: request.session_epoch,
        by_id,
        wanted,
        forgotten,
    }
}

/// A partition's place in the reply, and how it is read on.
struct Source {
    at: (usize, usize),
    topic: TopicName,
    /// This one and no other of its name.
    id: Option<TopicId>,
    partition: Partition,
    next: Offset,
    max_bytes: usize,
    /// It was read without an error so far.
    open: bool,
}

/// A fetch that is being read.
struct Reading {
    call: Call,
    isolation: Isolation,
    /// What is wanted, and its places in the reply.
    wanted: Vec<Wanted>,
    places: Vec<(usize, usize)>,
    sources: Vec<Source>,
    reply: FetchReply,
    /// Bytes of batches that are read, and that may be.
    bytes: usize,
    max_bytes: usize,
    failed: bool,
    /// There was no memory for more.
    short: bool,
    /// How long it waits for memory in all.
    until: Instant,
    share: Share,
}

type Read = BoxFuture<'static, (usize, Result<FetchedBatches, FetchError>)>;

impl Reading {
    /// Of what is wanted, whose memory was taken.
    fn new(call: Call, request: &FetchRequest, wanted: Vec<Wanted>, share: Share) -> Self {
        let memory = &call.door.memory;
        let free = memory.free(Class::Answers) / ANSWER_PART;
        let most = free.clamp(FETCH_LEAST_BYTES, KAFKA_FETCH_MAX_BYTES);
        let mut reading = Self {
            isolation: match request.isolation_level {
                1 => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
            wanted,
            places: Vec::new(),
            sources: Vec::new(),
            reply: FetchReply::default(),
            bytes: 0,
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(most),
            failed: false,
            short: false,
            until: Instant::now() + MEMORY_WAIT,
            share,
            call,
        };
        reading.lay_out();
        reading
    }

    /// Gives every partition a place in the reply, and what it is read from.
    fn lay_out(&mut self) {
        let access = self.call.access();
        let mut topics = HashMap::new();
        for wanted in &mut self.wanted {
            let topic = &wanted.key.topic;
            // What he might read when the session began he may not be allowed any more.
            let first = || {
                self.reply.topics.push(TopicReply::new(topic.clone()));
                let name = name(&self.call, &access, wanted);
                (self.reply.topics.len() - 1, name)
            };
            let (at, name) = topics.entry(topic.clone()).or_insert_with(first);
            let id = match topic {
                Named::Id(id) => Some(TopicId(*id)),
                Named::Name(_) => None,
            };
            let Some(topic) = self.reply.topics.get_mut(*at) else {
                continue;
            };
            let at = (*at, topic.partitions.len());
            let mut reply = PartitionReply::new(wanted.key.index);
            match source(name, id, wanted, at) {
                Ok(source) => {
                    wanted.name = id.map(|_| source.topic.clone());
                    self.sources.push(source);
                }
                Err(code) => {
                    reply.error = code.code();
                    self.failed = true;
                }
            }
            topic.partitions.push(reply);
            self.places.push(at);
        }
    }

    /// Takes back what may not be read any more, since it was begun or while it was waited for.
    fn withhold(&mut self) {
        let access = self.call.access();
        for source in &self.sources {
            let topic = source.topic.as_str();
            let may = match source.id {
                Some(_) => access.topic_of_id(Operation::Read, topic),
                None => access.topic(Operation::Read, topic),
            };
            if let Err(code) = may
                && let Some(reply) = reply(&mut self.reply, source.at)
            {
                *reply = PartitionReply::new(reply.index);
                reply.error = code.code();
            }
        }
    }

    /// The answer, without what is no news to its session.
    fn end(mut self, round: Round) -> FetchReply {
        self.withhold();
        let wanted = std::mem::take(&mut self.wanted);
        let told = wanted.into_iter().zip(&self.places);
        let told = told.filter_map(|(wanted, at)| {
            let reply = reply(&mut self.reply, *at)?;
            Some(Told {
                wanted,
                bounds: Bounds {
                    earliest: reply.earliest,
                    stable_end: reply.stable_end,
                    high_watermark: reply.high_watermark,
                },
                failed: reply.error != error::NONE,
                records: !reply.batches.is_empty(),
            })
        });
        let told = told.collect();
        let now = Instant::now();
        let end = |all: &Sessions| all.end(now, round, told, number);
        let answer = match self.call.door.fetch_sessions(end) {
            Ok(answer) => answer,
            Err(code) => return FetchReply::refused(code),
        };
        self.reply.session = answer.session;
        for (at, news) in self.places.iter().zip(answer.news) {
            if let Some(reply) = reply(&mut self.reply, *at) {
                reply.silent = !news;
            }
        }
        self.reply.topics.retain_mut(|topic| {
            topic.partitions.retain(|partition| !partition.silent);
            !topic.partitions.is_empty()
        });
        self.reply.share = Some(self.share);
        self.reply
    }

    fn read(&self, number: usize, wait: Duration, max_bytes: usize) -> Option<Read> {
        let source = self.sources.get(number).filter(|source| source.open)?;
        let broker = self.call.broker.clone();
        let fetch = FetchBatches {
            topic: source.topic.clone(),
            partition: source.partition,
            offset: source.next,
            max_bytes: max_bytes.min(self.room(source)),
            isolation: self.isolation,
            wait,
        };
        Some(Box::pin(async move {
            (number, broker.fetch_batches(fetch).await)
        }))
    }

    /// Bytes that a partition may give.
    fn room(&self, source: &Source) -> usize {
        let left = self.max_bytes.saturating_sub(self.bytes);
        source.max_bytes.min(left).max(1)
    }

    /// Reads what is there, in the order in which it was asked for. What has no room any more is
    /// told where it ends all the same.
    async fn look(&mut self) {
        for number in 0..self.sources.len() {
            let full = self.bytes > 0 && self.bytes >= self.max_bytes;
            self.short |= Instant::now() >= self.until;
            match full || self.short {
                true => self.tell_bounds(number),
                false => self.look_at(number).await,
            }
        }
    }

    /// Reads from a partition within the memory that is free, which is taken before. Waits for
    /// some where the answer is empty.
    async fn look_at(&mut self, number: usize) {
        let memory = self.call.door.memory.clone();
        let mut least = 1;
        while let Some(source) = self.sources.get(number).filter(|source| source.open) {
            let free = memory.free(Class::Answers) / ANSWER_PART;
            let part = self.room(source).min(free.max(FETCH_LEAST_BYTES));
            let taken = part.max(least);
            if self.share.grow(taken) {
                let Some(read) = self.read(number, Duration::ZERO, taken) else {
                    self.share.shrink(taken);
                    return;
                };
                let (_, read) = read.await;
                let needs = size(&read);
                // What is larger than all answers may be is taken by one at a time.
                let huge = needs > memory.max(Class::Answers) && memory.over() == 0;
                if needs <= taken {
                    self.share.shrink(taken - needs);
                    return self.take(number, read);
                }
                if self.share.grow(needs - taken) {
                    return self.take(number, read);
                }
                if huge && self.bytes == 0 {
                    self.share.grow_anyway(needs - taken);
                    return self.take(number, read);
                }
                // Read again when there is memory for it.
                self.share.shrink(taken);
                least = needs;
            }
            if self.bytes > 0 || Instant::now() >= self.until {
                self.short = true;
                return self.tell_bounds(number);
            }
            sleep(MEMORY_LOOK_EVERY).await;
        }
    }

    /// Tells where a partition begins and ends, and reads nothing.
    fn tell_bounds(&mut self, number: usize) {
        let Some(source) = self.sources.get(number).filter(|source| source.open) else {
            return;
        };
        let there = self.call.broker.partition(&source.topic, source.partition);
        let isolation = self.isolation;
        let Some(reply) = reply(&mut self.reply, source.at) else {
            return;
        };
        match there {
            Ok(there) => {
                reply.high_watermark = convert::wire_offset(there.high_watermark);
                reply.stable_end = convert::wire_offset(there.end);
                reply.earliest = convert::wire_offset(there.earliest);
                if isolation == Isolation::ReadCommitted {
                    reply.aborted.get_or_insert_default();
                }
            }
            Err(why) => {
                refuse(reply, &why);
                self.failed = true;
            }
        }
    }

    /// Waits until there is enough, or the time is over.
    async fn wait(&mut self, request: &FetchRequest) {
        let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
        let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        let wait = Duration::from_millis(wait).min(KAFKA_FETCH_WAIT_MAX);
        let deadline = Instant::now() + wait;
        let enough = |reading: &Self| {
            let bytes = reading.bytes;
            reading.failed || reading.short || bytes >= min_bytes || bytes >= reading.max_bytes
        };
        if enough(self) || wait.is_zero() {
            return;
        }
        let bytes = self.sources.len() * KAFKA_FETCH_WAIT_PARTITION_BYTES;
        let memory = &self.call.door.memory;
        let left = memory.max(Class::Answers) / KAFKA_FETCH_WAIT_PART;
        let room = memory.free(Class::Answers) >= bytes.saturating_add(left);
        match room && self.share.grow(bytes) {
            true => {
                self.wait_for_each(deadline, enough).await;
                self.share.shrink(bytes);
            }
            false => self.wait_without(deadline, enough).await,
        }
    }

    /// Waits without asking to be told, which takes memory: looks from time to time.
    async fn wait_without(&mut self, deadline: Instant, enough: impl Fn(&Self) -> bool) {
        let door = self.call.door.clone();
        let mut closed = std::pin::pin!(door.closed());
        while !enough(self) && Instant::now() < deadline {
            tokio::select! {
                biased;
                () = &mut closed => return,
                () = sleep_until(deadline.min(Instant::now() + MEMORY_WAIT)) => {}
            }
            self.until = Instant::now() + MEMORY_WAIT;
            self.look().await;
        }
    }

    /// Waits for news of each partition.
    async fn wait_for_each(&mut self, deadline: Instant, enough: impl Fn(&Self) -> bool) {
        let mut reads: FuturesUnordered<Read> = FuturesUnordered::new();
        let wait = deadline.saturating_duration_since(Instant::now());
        let each = FETCH_WAIT_BYTES;
        reads.extend((0..self.sources.len()).filter_map(|number| self.read(number, wait, each)));
        let door = self.call.door.clone();
        let mut closed = std::pin::pin!(door.closed());
        while !enough(self) {
            let (number, read) = tokio::select! {
                biased;
                () = &mut closed => return,
                Some(read) = reads.next() => read,
                () = sleep_until(deadline) => return,
            };
            if !self.share.grow(size(&read)) {
                // Once more, as one who waits for memory.
                drop((read, reads));
                self.until = Instant::now() + MEMORY_WAIT;
                return self.look().await;
            }
            self.take(number, read);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            reads.extend(self.read(number, left, each));
        }
    }

    /// Takes what was read, whose memory was taken before.
    fn take(&mut self, number: usize, read: Result<FetchedBatches, FetchError>) {
        let Some(source) = self.sources.get_mut(number) else {
            return;
        };
        let Some(reply) = reply(&mut self.reply, source.at) else {
            return;
        };
        // It was there before the read, and no id comes twice: it was there all the time.
        let gone = |id| self.call.broker.topic_name(id).is_none();
        if source.id.is_some_and(gone) {
            self.share.shrink(size(&read));
            reply.error = Code::UnknownTopicId.code();
            source.open = false;
            self.failed = true;
            return;
        }
        let fetched = match read {
            Ok(fetched) => fetched,
            Err(FetchError::Unavailable(Unavailable::Overloaded)) => {
                self.short = true;
                return self.tell_bounds(number);
            }
            Err(why) => {
                refuse(reply, &why);
                source.open = false;
                self.failed = true;
                return;
            }
        };
        reply.high_watermark = convert::wire_offset(fetched.high_watermark);
        reply.stable_end = convert::wire_offset(fetched.stable_end);
        reply.earliest = convert::wire_offset(fetched.earliest);
        if self.isolation == Isolation::ReadCommitted {
            let aborted = fetched.aborted.iter();
            let aborted = aborted.map(|one| (one.producer.0, convert::wire_offset(one.first)));
            reply.aborted.get_or_insert_default().extend(aborted);
        }
        // One batch is always answered, however large; what comes after the bounds is not.
        if self.bytes > 0 && self.bytes >= self.max_bytes {
            self.share
                .shrink(fetched.batches.iter().map(Batch::size_bytes).sum());
            return;
        }
        for batch in fetched.batches {
            let size = batch.size_bytes();
            source.next = batch.next_offset();
            source.max_bytes = source.max_bytes.saturating_sub(size);
            let records = u64::from(batch.record_count());
            self.call.client.fetched(records, size as u64);
            self.bytes += size;
            reply.batches.push(batch.as_bytes().clone());
        }
        source.open = source.max_bytes > 0;
    }
}

/// Bytes of what was read.
fn size(read: &Result<FetchedBatches, FetchError>) -> usize {
    let batches = read.as_ref().map_or(&[][..], |fetched| &fetched.batches);
    batches.iter().map(Batch::size_bytes).sum()
}

/// The place of a partition.
fn reply(reply: &mut FetchReply, at: (usize, usize)) -> Option<&mut PartitionReply> {
    let topic = reply.topics.get_mut(at.0)?;
    topic.partitions.get_mut(at.1)
}

/// What the topic of a partition is called, or why it cannot be read. What he might read when a
/// session began he may not be allowed any more.
fn name(call: &Call, access: &Access, wanted: &Wanted) -> Result<TopicName, Code> {
    let id = match &wanted.key.topic {
        Named::Name(name) => {
            let name = TopicName::new(&**name).map_err(|_| Code::InvalidTopicException)?;
            access.topic(Operation::Read, name.as_str())?;
            return Ok(name);
        }
        Named::Id(id) => TopicId(*id),
    };
    if let Some(name) = call.broker.topic_name(id) {
        access.topic_of_id(Operation::Read, name.as_str())?;
        return Ok(name);
    }
    // A session may go on with a topic that was made anew since.
    let known = wanted.name.as_ref();
    let known = known.filter(|name| access.may(Operation::Describe, Kind::Topic, name.as_str()));
    match known.is_some_and(|name| call.broker.topic(name).is_some()) {
        true => Err(Code::InconsistentTopicId),
        false => Err(Code::UnknownTopicId),
    }
}

fn source(
    name: &Result<TopicName, Code>,
    id: Option<TopicId>,
    wanted: &Wanted,
    at: (usize, usize),
) -> Result<Source, Code> {
    let index = convert::partition(wanted.key.index)?;
    let offset = u64::try_from(wanted.offset);
    Ok(Source {
        at,
        topic: name.clone()?,
        id,
        partition: index,
        next: Offset(offset.map_err(|_| Code::OffsetOutOfRange)?),
        max_bytes: usize::try_from(wanted.max_bytes).unwrap_or(0).max(1),
        open: true,
    })
}

/// A number that a session may have.
fn number() -> i32 {
    i32::from_be_bytes(random()) & i32::MAX
}

fn refuse(reply: &mut PartitionReply, why: &FetchError) {
    let code = match why {
        FetchError::OutOfRange { earliest, end, .. } => {
            reply.earliest = convert::wire_offset(*earliest);
            reply.high_watermark = convert::wire_offset(*end);
            Code::OffsetOutOfRange
        }
        FetchError::Damaged { .. } => {
            tracing::warn!(%why, "a fetch of a Kafka client met damage");
            Code::CorruptMessage
        }
        why => error::fetch(why),
    };
    reply.error = code.code();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_partition_has_in_a_fetch_is_no_more_than_it_counts_for() {
        // What is wanted twice, in the session's words too; places; a topic of its own.
        let words = 2 * size_of::<Wanted>() + size_of::<Bounds>() + size_of::<(usize, usize)>();
        let reply = size_of::<PartitionReply>() + size_of::<TopicReply>();
        let sources = size_of::<Source>() + size_of::<(Named, usize, Result<TopicName, Code>)>();
        let counted = crate::limits::KAFKA_FETCH_SESSION_PARTITION_BYTES * KAFKA_FETCH_COST;
        let written = 64;
        assert!(words + reply + sources + written <= counted);
        let broker = tidemill_broker::Broker::in_memory();
        let read = broker.fetch_batches(FetchBatches {
            topic: TopicName::new("a").unwrap(),
            partition: Partition(0),
            offset: Offset(0),
            max_bytes: 1,
            isolation: Isolation::ReadCommitted,
            wait: Duration::ZERO,
        });
        // Beside it, what it is told by.
        assert!(
            size_of_val(&read) + 512 <= KAFKA_FETCH_WAIT_PARTITION_BYTES,
            "{}",
            size_of_val(&read)
        );
    }
}
