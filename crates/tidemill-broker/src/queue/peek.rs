//! Looking at a queue without taking anything: its oldest messages, its length, its age.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::{Fetch, Offset, TopicName};
use tidemill_log::{PartitionId, Read};

use super::QueueError;
use super::expiry::is_over;
use super::handle::Queue;
use super::info::{QueueInfo, QueueMessage};
use super::live::{Live, Store};
use super::store::locked;
use crate::broker::Inner;
use crate::fetch;
use crate::limits::{PEEK_MAX_BYTES, PEEK_MAX_MESSAGES, PEEK_READS_MAX};
use crate::machine::Topic;

impl Queue {
    /// The oldest messages that nobody has, up to `max` of them. They stay where they are.
    ///
    /// # Errors
    /// [`QueueError::Limit`] where `max` is not 1 to [`PEEK_MAX_MESSAGES`], and
    /// [`QueueError::Other`] where they cannot be read.
    pub async fn peek(&self, max: usize) -> Result<Vec<QueueMessage>, QueueError> {
        if !(1..=PEEK_MAX_MESSAGES).contains(&max) {
            let why = format!("a peek shows 1 to {PEEK_MAX_MESSAGES} messages");
            return Err(QueueError::Limit(why));
        }
        let (inner, live) = self.parts();
        live.end_leases(inner);
        match &live.store {
            Store::Memory(store) => {
                let now = Timestamp::now();
                Ok(locked(store).peek(max, |event| !is_over(event, now)))
            }
            Store::Disk { topic, .. } => {
                let mut found = Vec::new();
                for id in topic.partition_ids() {
                    look_through(inner, live, id, max, &mut found).await?;
                }
                Ok(found)
            }
        }
    }

    /// How many messages are not settled, those in flight included.
    #[must_use]
    pub fn length(&self) -> u64 {
        let (inner, live) = self.parts();
        live.length(inner)
    }

    /// How many messages somebody has.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let (inner, live) = self.parts();
        live.end_leases(inner);
        live.in_flight() as u64
    }

    /// The queue as it is now.
    pub async fn info(&self) -> QueueInfo {
        let (inner, live) = self.parts();
        live.end_leases(inner);
        match &live.store {
            Store::Memory(store) => {
                let store = locked(store);
                QueueInfo {
                    name: live.name.clone(),
                    transient: true,
                    settings: live.settings,
                    length: store.len() as u64,
                    in_flight: live.in_flight() as u64,
                    expired: live.expired.load(Ordering::Acquire),
                    oldest_age_ms: store.oldest_ms().map(age_ms),
                    size_bytes: store.bytes() as u64,
                    dead_letters: dead_letter_topic(&live.group),
                    paused: store.paused(),
                    damage: None,
                }
            }
            Store::Disk { topic, .. } => disk_info(inner, &live.name, *topic).await,
        }
    }
}

impl Live {
    /// How many messages are not settled.
    pub(super) fn length(&self, inner: &Inner) -> u64 {
        match &self.store {
            Store::Memory(store) => locked(store).len() as u64,
            Store::Disk { topic, .. } => topic.partition_ids().map(|id| depth(inner, id)).sum(),
        }
    }

    /// How many of them nobody has.
    pub(super) fn waiting(&self, inner: &Inner) -> u64 {
        self.length(inner).saturating_sub(self.in_flight() as u64)
    }
}

/// Adds the oldest messages of a partition that nobody has.
async fn look_through(
    inner: &Inner,
    live: &Live,
    id: PartitionId,
    max: usize,
    found: &mut Vec<QueueMessage>,
) -> Result<(), QueueError> {
    let Store::Disk { group, .. } = &live.store else {
        return Ok(());
    };
    let Some((cursor, in_flight)) = group.held(id) else {
        return Ok(());
    };
    let now = Timestamp::now();
    let mut bytes = 0;
    let mut next = cursor.position();
    for _ in 0..PEEK_READS_MAX {
        next = cursor.next_unsettled(next);
        let end = inner.stable(id).map_or(Offset(0), |stable| stable.end);
        if next >= end || found.len() >= max || bytes >= PEEK_MAX_BYTES {
            break;
        }
        let wanted = Fetch {
            topic: live.name.clone(),
            partition: id.partition,
            offset: next,
            max_events: max - found.len() + in_flight.len().min(max),
            max_bytes: PEEK_MAX_BYTES - bytes,
            wait: Duration::ZERO,
        };
        let read = fetch::read(inner, id, &wanted).await?;
        if read.next <= next {
            break;
        }
        next = read.next;
        let free = read
            .events
            .into_iter()
            .filter(|(offset, _)| !cursor.is_settled(*offset) && !in_flight.contains(offset));
        let free = free.filter(|(_, event)| !is_over(event, now));
        for (offset, event) in free.take(max - found.len()) {
            bytes += event.size_bytes();
            found.push(QueueMessage { offset, event });
        }
    }
    Ok(())
}

/// How many messages of a partition are not settled.
fn depth(inner: &Inner, id: PartitionId) -> u64 {
    let Some(stable) = inner.stable(id) else {
        return 0;
    };
    let state = inner.durable.state();
    let Some(cursor) = state.queue_cursor(id) else {
        return 0;
    };
    let from = cursor.position().max(stable.earliest);
    let settled = cursor.ranges().map(|range| {
        let (start, end) = (range.start.max(from), range.end.min(stable.end));
        end.0.saturating_sub(start.0)
    });
    let settled: u64 = settled.sum();
    stable.end.0.saturating_sub(from.0).saturating_sub(settled)
}

/// A queue on disk, in use or not.
pub(super) async fn disk_info(inner: &Arc<Inner>, name: &TopicName, topic: Topic) -> QueueInfo {
    let (queue, group_name, heads) = {
        let state = inner.durable.state();
        let queue = state.queues.get(&topic.id).copied();
        let group = queue.and_then(|queue| state.group(queue.group));
        let heads = topic
            .partition_ids()
            .filter_map(|id| Some((id, state.queue_cursor(id)?.position())));
        let heads: Vec<_> = heads.collect();
        (queue, group.map(|group| group.name.clone()), heads)
    };
    let bounds = |id| inner.handle.reader().bounds(id);
    let size_bytes = topic.partition_ids().filter_map(bounds);
    let size_bytes = size_bytes.map(|bounds| bounds.size_bytes).sum();
    let mut oldest_ms: Option<i64> = None;
    for (id, head) in heads {
        let came_ms = came_ms(inner, id, head).await;
        oldest_ms = oldest_ms.into_iter().chain(came_ms).min();
    }
    let live = group_name.as_ref().and_then(|name| {
        let live = inner.groups().get(name).cloned();
        live.map(|live| live.overview().partitions)
    });
    let mut partitions = live.into_iter().flatten();
    let mut paused = None;
    let mut damage = None;
    for partition in partitions.by_ref() {
        paused = paused.or(partition.paused);
        damage = damage.or(partition.damage);
    }
    QueueInfo {
        name: name.clone(),
        transient: false,
        settings: queue.map(|queue| queue.settings).unwrap_or_default(),
        length: topic.partition_ids().map(|id| depth(inner, id)).sum(),
        in_flight: inner.queues.in_flight(name) as u64,
        expired: inner.queues.expired(name),
        oldest_age_ms: oldest_ms.map(age_ms),
        size_bytes,
        dead_letters: group_name.map_or_else(|| name.clone(), |name| dead_letter_topic(&name)),
        paused,
        damage,
    }
}

fn age_ms(came_ms: i64) -> u64 {
    let age_ms = Timestamp::now().as_millisecond().saturating_sub(came_ms);
    u64::try_from(age_ms).unwrap_or_default()
}

/// When the message at an offset came. `None` where there is none, or it cannot be read.
async fn came_ms(inner: &Inner, id: PartitionId, offset: Offset) -> Option<i64> {
    let offset = offset.max(inner.stable(id)?.earliest);
    let batches = match inner.handle.reader().read(id, offset, 1) {
        Read::Batches(batches) => batches,
        Read::Disk(read) => {
            let run = tokio::task::spawn_blocking(move || read.run());
            run.await.ok()?.ok()?
        }
        _ => return None,
    };
    let batch = batches.first()?;
    let mut records = batch.checked_records().ok()?.map_while(Result::ok);
    let record = records.find(|record| record.offset >= offset)?;
    Some(record.timestamp_ms)
}
