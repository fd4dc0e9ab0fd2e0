//! Reading by offset, outside of any group, with a long poll on the high watermark.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_core::budget::{Class, Share};
use tidemill_core::error::Unavailable;
use tidemill_core::{BoxFuture, Fetch, FetchError, Fetched, Offset, Partition, TopicName};
use tidemill_log::{Batch, PartitionId, Read, ReadError};
use tokio::time::Instant;

use crate::broker::Inner;
use crate::decode::{Want, decode};
use crate::limits::{
    FETCH_MAX_BYTES, FETCH_MAX_EVENTS, FETCH_MEMORY_WAIT, MEMORY_AGAIN_AFTER, READ_LEAST_BYTES,
    READ_MAX_BYTES, READ_TRIES_MAX,
};
use crate::metrics::add;
use crate::transaction::Stable;

/// Reads; waits for the first event as long as the fetch says.
pub(crate) async fn fetch(inner: Arc<Inner>, fetch: Fetch) -> Result<Fetched, FetchError> {
    let id = partition_id(&inner, &fetch.topic, fetch.partition)?;
    let fetched = poll(
        &inner,
        id,
        fetch.wait,
        || Box::pin(read(&inner, id, &fetch)),
        |fetched| answers(fetched, &fetch),
    );
    let fetched = fetched.await?;
    add(&inner.counters.fetched_events, fetched.events.len());
    Ok(fetched)
}

/// Looks at a partition until what is found answers, or the time is over, or its topic has got more
/// partitions: who reads them all is to look at those, too.
pub(crate) async fn poll<'a, T>(
    inner: &Inner,
    id: PartitionId,
    wait: Duration,
    look: impl Fn() -> BoxFuture<'a, Result<T, FetchError>>,
    answers: impl Fn(&T) -> bool,
) -> Result<T, FetchError> {
    let deadline = Instant::now().checked_add(wait);
    let open = || match inner.closed.load(Ordering::Acquire) {
        true => Err(Unavailable::Closed),
        false => Ok(()),
    };
    open()?;
    let found = look().await?;
    if wait.is_zero() || answers(&found) {
        return Ok(found);
    }
    let count = || {
        let catalog = inner.durable.catalog();
        let topic = catalog.name(id.topic).and_then(|name| catalog.topic(name));
        topic.map(|topic| topic.partitions)
    };
    let before = count();
    let poll = inner.listening.poll(id);
    loop {
        let waiting = poll.notify.notified();
        tokio::pin!(waiting);
        // From here on an advance is not missed, whether it comes before or after the look.
        waiting.as_mut().enable();
        open()?;
        let found = look().await?;
        if answers(&found) || count() != before {
            return Ok(found);
        }
        match deadline {
            Some(deadline) if deadline <= Instant::now() => return Ok(found),
            // In time or too late: look once more.
            Some(deadline) => drop(tokio::time::timeout_at(deadline, waiting).await),
            None => waiting.await,
        }
    }
}

/// Whether there is nothing to wait for.
fn answers(fetched: &Fetched, fetch: &Fetch) -> bool {
    !fetched.events.is_empty() || fetched.next > fetch.offset || fetch.max_events == 0
}

/// The partition of this name.
pub(crate) fn partition_id(
    inner: &Inner,
    name: &TopicName,
    partition: Partition,
) -> Result<PartitionId, FetchError> {
    let catalog = inner.durable.catalog();
    let Some(topic) = catalog.topic(name) else {
        return Err(match inner.queues.in_memory(name) {
            true => FetchError::IsQueue(name.clone()),
            false => FetchError::UnknownTopic(name.clone()),
        });
    };
    if catalog.is_queue(topic.id) {
        return Err(FetchError::IsQueue(name.clone()));
    }
    if partition.0 >= topic.partitions {
        return Err(FetchError::UnknownPartition {
            topic: name.clone(),
            partition,
            count: topic.partitions,
        });
    }
    Ok(PartitionId {
        topic: topic.id,
        partition,
    })
}

/// Everything there is now, up to the fetch's bounds.
pub(crate) async fn read(
    inner: &Inner,
    id: PartitionId,
    fetch: &Fetch,
) -> Result<Fetched, FetchError> {
    let events_max = fetch.max_events.min(FETCH_MAX_EVENTS);
    let bytes_max = fetch.max_bytes.clamp(1, FETCH_MAX_BYTES);
    let unknown = || FetchError::UnknownTopic(fetch.topic.clone());
    let end = inner.stable(id).ok_or_else(unknown)?.end;
    let mut fetched = Fetched {
        events: Vec::new(),
        next: fetch.offset,
        end,
    };
    let mut bytes = 0;
    let mut share = inner.settings.memory.empty(Class::Reads);
    while fetched.events.len() < events_max && bytes < bytes_max {
        let want = Want {
            from: fetched.next,
            events_max: events_max - fetched.events.len(),
            bytes_max: bytes_max - bytes,
        };
        let stable = inner.stable(id).ok_or_else(unknown)?;
        if fetched.events.is_empty() {
            share.shrink(share.bytes());
        }
        let read = read_batches(inner, id, want.from, READ_MAX_BYTES, &stable, &mut share);
        let batches = match read.await {
            Ok(Some(batches)) => batches,
            Ok(None) => break,
            // What was read before the trouble is given first.
            Err(_) if !fetched.events.is_empty() => break,
            Err(error) => return Err(error.of(&fetch.topic, fetch.offset)),
        };
        let decoded = decode(&batches, &fetch.topic, id, want, &stable.passing(&batches));
        if let Some(why) = decoded.damage {
            if !fetched.events.is_empty() {
                // The next fetch begins with it.
                break;
            }
            return Err(FetchError::Damaged {
                offset: want.from,
                resume: decoded.next,
                why,
            });
        }
        if decoded.next <= want.from {
            break;
        }
        bytes += decoded
            .events
            .iter()
            .map(|(_, e)| e.size_bytes())
            .sum::<usize>();
        fetched.events.extend(decoded.events);
        fetched.next = decoded.next;
        fetched.end = fetched.end.max(decoded.next);
    }
    Ok(fetched)
}

/// Why batches could not be read.
pub(crate) enum Trouble {
    OutOfRange {
        earliest: Offset,
        end: Offset,
    },
    Unknown,
    Read(ReadError),
    /// One batch has so many bytes, more than what was taken for it.
    Room(usize),
    Lost,
}

impl Trouble {
    /// The trouble of a fetch from this offset of this topic.
    pub(crate) fn of(self, topic: &TopicName, offset: Offset) -> FetchError {
        match self {
            Self::OutOfRange { earliest, end } => FetchError::OutOfRange {
                offset,
                earliest,
                end,
            },
            Self::Unknown => FetchError::UnknownTopic(topic.clone()),
            Self::Read(ReadError::Damaged {
                offset,
                resume,
                why,
                ..
            }) => FetchError::Damaged {
                offset,
                resume,
                why,
            },
            Self::Read(error @ (ReadError::Io { .. } | ReadError::Gone(_))) => {
                FetchError::Other(error.to_string())
            }
            Self::Room(_) => Unavailable::Overloaded.into(),
            Self::Lost => Unavailable::Closed.into(),
        }
    }
}

/// Batches from the one that holds `from` on, together at most `max_bytes` or one; `None` at the
/// end. What is stable must have been looked at before. What is deleted while it is read is read
/// again: the bounds say by then whether the topic is gone or begins later.
///
/// `share` grows by the memory that it takes. Where that is not free it reads less; it waits for
/// other reads to end where the share is empty, and gives up where it is not, so that none waits
/// for another that waits.
pub(crate) async fn read_batches(
    inner: &Inner,
    id: PartitionId,
    from: Offset,
    max_bytes: usize,
    stable: &Stable,
    share: &mut Share,
) -> Result<Option<Vec<Batch>>, Trouble> {
    let mut tries = 1;
    let free = inner.settings.memory.free(Class::Reads) / 4;
    let mut needs = max_bytes.min(free.max(READ_LEAST_BYTES));
    loop {
        take_memory(inner, share, needs).await?;
        match read_once(inner, id, from, needs, stable).await {
            Err(Trouble::Read(ReadError::Gone(_))) if tries < READ_TRIES_MAX => {
                tries += 1;
                share.shrink(needs);
            }
            Err(Trouble::Room(bytes)) => {
                share.shrink(needs);
                needs = bytes;
            }
            answer => return answer,
        }
    }
}

/// Takes memory for a read. What is more than all reads may ever have is taken by one at a time.
/// Who finds none for [`FETCH_MEMORY_WAIT`] is refused, and may try again: others hold it, and
/// nothing says for how long.
async fn take_memory(inner: &Inner, share: &mut Share, bytes: usize) -> Result<(), Trouble> {
    let memory = &inner.settings.memory;
    let until = Instant::now() + FETCH_MEMORY_WAIT;
    while !share.grow(bytes) {
        if share.bytes() > 0 {
            return Err(Trouble::Room(bytes));
        }
        if bytes > memory.max(Class::Reads) && memory.over() == 0 {
            share.grow_anyway(bytes);
            break;
        }
        if Instant::now() >= until {
            return Err(Trouble::Room(bytes));
        }
        tokio::time::sleep(MEMORY_AGAIN_AFTER).await;
    }
    Ok(())
}

pub(crate) async fn read_once(
    inner: &Inner,
    id: PartitionId,
    from: Offset,
    max_bytes: usize,
    stable: &Stable,
) -> Result<Option<Vec<Batch>>, Trouble> {
    let read = inner.handle.reader().read(id, from, max_bytes);
    if from < stable.earliest {
        // Also where its records are there for a moment longer than what is known of them.
        return Err(match read {
            Read::Unknown => Trouble::Unknown,
            _ => Trouble::OutOfRange {
                earliest: stable.earliest,
                end: stable.end.max(stable.earliest),
            },
        });
    }
    match read {
        Read::Batches(batches) => Ok(Some(batches)),
        Read::AtEnd => Ok(None),
        Read::OutOfRange(bounds) => Err(Trouble::OutOfRange {
            earliest: bounds.earliest,
            end: bounds.end,
        }),
        Read::Unknown => Err(Trouble::Unknown),
        Read::Disk(read) => {
            add(&inner.counters.disk_reads, 1);
            let run = move || {
                let mut needs = 0;
                let room = |bytes| {
                    needs = bytes;
                    bytes <= max_bytes
                };
                let read = read.run_within(room)?;
                Ok(read.ok_or(needs))
            };
            let run = tokio::task::spawn_blocking(run).await;
            let read = run.map_err(|_| Trouble::Lost)?.map_err(Trouble::Read)?;
            read.map(Some).map_err(Trouble::Room)
        }
    }
}
