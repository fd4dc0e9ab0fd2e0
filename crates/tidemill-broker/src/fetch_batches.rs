//! Reading record batches as they are stored, with what tells decided from undecided and aborted
//! ones: for doors whose clients decode batches themselves.
//!
//! This room may not know the types of a wire protocol.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::budget::Class;
use tidemill_core::{FetchError, Offset, Partition, TopicName};
use tidemill_log::{Batch, PartitionId};

use crate::broker::{Broker, Inner};
use crate::fetch::{Trouble, partition_id, poll, read_batches};
use crate::limits::FETCH_MAX_BYTES;
use crate::transaction::AbortedRange;

/// Which records a reader wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Those below the last stable offset; the reader leaves out the aborted ones.
    #[default]
    ReadCommitted,
    /// All below the high watermark.
    ReadUncommitted,
}

/// A read of batches.
#[derive(Clone, Debug)]
pub struct FetchBatches {
    /// The topic.
    pub topic: TopicName,
    /// The part of it.
    pub partition: Partition,
    /// From which offset on; the first batch may begin before it.
    pub offset: Offset,
    /// Most bytes, but for one batch that is larger; at most
    /// [`FETCH_MAX_BYTES`](crate::limits::FETCH_MAX_BYTES).
    pub max_bytes: usize,
    /// How far.
    pub isolation: Isolation,
    /// How long to wait for the first batch.
    pub wait: Duration,
}

/// What a read of batches gave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchedBatches {
    /// Whole batches in the order of their offsets, control batches too.
    pub batches: Vec<Batch>,
    /// The aborted transactions with something in these batches, by ascending
    /// [`last`](AbortedRange::last); none for [`Isolation::ReadUncommitted`].
    pub aborted: Vec<AbortedRange>,
    /// The first offset that is kept.
    pub earliest: Offset,
    /// The last stable offset: every transaction that begins below it has ended.
    pub stable_end: Offset,
    /// The offset that the next durable record gets.
    pub high_watermark: Offset,
}

impl Broker {
    /// Reads batches as they are stored. Waits for the first one as long as the fetch says.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch_batches(&self, fetch: FetchBatches) -> Result<FetchedBatches, FetchError> {
        let inner = Arc::clone(&self.inner);
        let id = partition_id(&inner, &fetch.topic, fetch.partition)?;
        let look = || -> tidemill_core::BoxFuture<'_, _> { Box::pin(look(&inner, id, &fetch)) };
        let there = |fetched: &FetchedBatches| !fetched.batches.is_empty();
        poll(&inner, id, fetch.wait, look, there).await
    }
}

async fn look(
    inner: &Inner,
    id: PartitionId,
    fetch: &FetchBatches,
) -> Result<FetchedBatches, FetchError> {
    let max_bytes = fetch.max_bytes.clamp(1, FETCH_MAX_BYTES);
    let trouble = |trouble: Trouble| trouble.of(&fetch.topic, fetch.offset);
    // Before the batches: what is decided only grows.
    let bounds = inner.handle.reader().bounds(id);
    let bounds = bounds.ok_or(Trouble::Unknown).map_err(trouble)?;
    let stable = inner.durable.stability.stable(id, bounds);
    let end = match fetch.isolation {
        Isolation::ReadCommitted => stable.end,
        Isolation::ReadUncommitted => bounds.end,
    };
    let mut share = inner.settings.memory.empty(Class::Reads);
    let read = read_batches(inner, id, fetch.offset, max_bytes, &stable, &mut share).await;
    let mut batches = read.map_err(trouble)?.unwrap_or_default();
    batches.retain(|batch| batch.base_offset() < end);
    let aborted = match (fetch.isolation, batches.first().zip(batches.last())) {
        (Isolation::ReadCommitted, Some((first, last))) => {
            stable.aborted(first.base_offset(), last.next_offset())
        }
        _ => Vec::new(),
    };
    Ok(FetchedBatches {
        batches,
        aborted,
        earliest: stable.earliest,
        stable_end: stable.end,
        high_watermark: bounds.end,
    })
}
