//! `Fetch` (1), versions 4 to 14: record batches from offsets on.
//!
//! Whole batches are answered as they are stored: the first one may begin before the offset that
//! was asked for, and the client leaves out what it has. `max_wait_ms` and `min_bytes` are kept;
//! a server that closes answers at once.
//!
//! From version 13 on topics are named by their ids: what is read of a topic that was made anew
//! under its name is never told to who knows the old one (`UNKNOWN_TOPIC_ID`). Later versions are
//! not served, as their requests cannot be walked.
//!
//! Deviations: no sessions: every answer has the session id 0, and clients ask for all their
//! partitions each time. `min_bytes` counts what is read, not what could be. Bounds of bytes are
//! passed by at most a batch a partition. No diverging epochs are told. Where memory is short an
//! answer has less, or nothing, and no error: the client asks again.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{ApiKey, FetchRequest};
use tidemill_broker::{Batch, FetchBatches, FetchedBatches, Isolation};
use tidemill_core::budget::{Class, Share};
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, Offset, Partition, TopicId, TopicName};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::fetch_reply::{FetchReply, PartitionReply, TopicReply};
use crate::limits::{
    ANSWER_PART, FETCH_LEAST_BYTES, FETCH_WAIT_BYTES, KAFKA_FETCH_MAX_BYTES, KAFKA_FETCH_WAIT_MAX,
    MEMORY_LOOK_EVERY, MEMORY_WAIT,
};

/// The first version that names topics by their ids.
const BY_ID: i16 = 13;

/// See the module.
pub(in super::super) struct Fetch;

impl Api for Fetch {
    type Request = FetchRequest;
    type Response = FetchReply;
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: [i16; 2] = [4, 14];
    const SHAPE: &'static Shape = &shapes::FETCH;

    async fn answer(call: Call, request: FetchRequest) -> FetchReply {
        let mut reading = Reading::new(call, &request);
        reading.look().await;
        reading.wait(&request).await;
        reading.reply.share = Some(reading.share);
        reading.reply
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
    fn new(call: Call, request: &FetchRequest) -> Self {
        let memory = &call.door.memory;
        let free = memory.free(Class::Answers) / ANSWER_PART;
        let most = free.clamp(FETCH_LEAST_BYTES, KAFKA_FETCH_MAX_BYTES);
        let share = memory.empty(Class::Answers);
        let mut reading = Self {
            isolation: match request.isolation_level {
                1 => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
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
        let mut seen = BTreeSet::new();
        for asked in &request.topics {
            let by_id = reading.call.version >= BY_ID;
            let id = by_id.then_some(TopicId(asked.topic_id));
            let name = match id {
                None => convert::topic(&asked.topic),
                Some(id) => {
                    let name = reading.call.broker.topic_name(id);
                    name.ok_or(Code::UnknownTopicId)
                }
            };
            let mut topic = TopicReply::new(asked.topic.to_string(), asked.topic_id);
            for partition in &asked.partitions {
                if !seen.insert((&asked.topic, asked.topic_id, partition.partition)) {
                    continue;
                }
                let at = (reading.reply.topics.len(), topic.partitions.len());
                let mut reply = PartitionReply::new(partition.partition);
                match source(&name, id, partition, at) {
                    Ok(source) => reading.sources.push(source),
                    Err(code) => {
                        reply.error = code.code();
                        reading.failed = true;
                    }
                }
                topic.partitions.push(reply);
            }
            reading.reply.topics.push(topic);
        }
        reading
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
        let mut reads: FuturesUnordered<Read> = FuturesUnordered::new();
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

fn source(
    name: &Result<TopicName, Code>,
    id: Option<TopicId>,
    partition: &FetchPartition,
    at: (usize, usize),
) -> Result<Source, Code> {
    let index = convert::partition(partition.partition)?;
    let offset = u64::try_from(partition.fetch_offset);
    Ok(Source {
        at,
        topic: name.clone()?,
        id,
        partition: index,
        next: Offset(offset.map_err(|_| Code::OffsetOutOfRange)?),
        max_bytes: usize::try_from(partition.partition_max_bytes)
            .unwrap_or(0)
            .max(1),
        open: true,
    })
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
