//! Events into record batches: which partition each goes to, and at which place of its batch it
//! lies. May not know the log beyond the batch, nor what is done with it.

use bytes::Bytes;
use tidemill_core::binding::Encoded;
use tidemill_core::partition::partition_of;
use tidemill_core::{Event, Offset, Partition, Position, PublishError, TopicName};
use tidemill_log::batch::HEADER_BYTES;
use tidemill_log::limits::BATCH_MAX_BYTES;
use tidemill_log::{Batch, BatchBuilder, BatchError};

use crate::machine::Topic;
use crate::original;

/// What a publish may have at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// An event's data.
    pub(crate) event_bytes: usize,
    /// All of them together.
    pub(crate) publish_bytes: usize,
    /// An event as a record batch of its own.
    pub(crate) batch_bytes: usize,
}

impl Bounds {
    /// A batch alone bounds it.
    pub(crate) const BATCH: Self = Self {
        event_bytes: BATCH_MAX_BYTES,
        publish_bytes: BATCH_MAX_BYTES,
        batch_bytes: usize::MAX,
    };
}

/// Events sorted into one batch a partition.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) batches: Vec<(Partition, Batch)>,
    /// For each event its batch's index and its place in the batch.
    places: Vec<(usize, u64)>,
}

impl Sorted {
    /// Where the events are, in their order, when the batches have these base offsets.
    pub(crate) fn positions<'a>(
        places: &'a Places,
        bases: &'a [Offset],
    ) -> impl Iterator<Item = Position> + 'a {
        places.places.iter().filter_map(|(batch, place)| {
            Some(Position {
                topic: places.topic.clone(),
                partition: *places.partitions.get(*batch)?,
                offset: bases.get(*batch)?.plus(*place),
            })
        })
    }

    /// The batches, and what is needed to tell the events' positions later.
    pub(crate) fn split(self, topic: TopicName) -> (Vec<(Partition, Batch)>, Places) {
        let places = Places {
            topic,
            partitions: self
                .batches
                .iter()
                .map(|(partition, _)| *partition)
                .collect(),
            places: self.places,
        };
        (self.batches, places)
    }
}

/// Where events lie in their batches.
#[derive(Debug)]
pub(crate) struct Places {
    topic: TopicName,
    partitions: Vec<Partition>,
    places: Vec<(usize, u64)>,
}

/// Sorts events into batches, one a partition, each in the events' order. A key goes to its
/// partition; `round` gives the next number for an event without one. `stamp` has the last word
/// on each batch. Beside an event is the record that it is a dead letter of, where it keeps that.
///
/// # Errors
/// [`PublishError::TooLarge`] where an event's data, or it alone as a batch, has more bytes than
/// the bounds say, or all together have.
pub(crate) fn sort<'a>(
    events: impl Iterator<Item = (&'a Event, Option<&'a Bytes>)>,
    topic: Topic,
    bounds: Bounds,
    timestamp_ms: i64,
    mut round: impl FnMut() -> u32,
    stamp: impl Fn(Partition, BatchBuilder) -> BatchBuilder,
) -> Result<Sorted, PublishError> {
    let mut builders: Vec<(Partition, BatchBuilder)> = Vec::new();
    // Where each partition's builder is.
    let mut index: Vec<Option<usize>> = vec![None; topic.partitions.max(1) as usize];
    let mut places = Vec::new();
    let mut total_bytes = 0;
    for (event, original) in events {
        let data_bytes = event.data().map_or(0, bytes::Bytes::len);
        too_large(data_bytes, bounds.event_bytes)?;
        total_bytes += event.size_bytes();
        too_large(total_bytes, bounds.publish_bytes)?;
        let partition = match event.key() {
            Some(key) => partition_of(key.as_bytes(), topic.partitions),
            None => Partition(round() % topic.partitions.max(1)),
        };
        let slot = index.get_mut(partition.0 as usize);
        let slot = slot.expect("a partition's number is below their count");
        let at = *slot.get_or_insert_with(|| {
            builders.push((partition, BatchBuilder::new()));
            builders.len() - 1
        });
        let (_, builder) = builders.get_mut(at).expect("it was pushed, now or before");
        let record = Encoded::new(event);
        let original = original.map(|bytes| (original::HEADER, Some(&**bytes)));
        let headers = record.headers().chain(original);
        places.push((at, u64::from(builder.record_count())));
        let before_bytes = builder.size_bytes();
        builder
            .push(timestamp_ms, record.key(), record.value(), headers)
            .map_err(refused)?;
        let alone_bytes = HEADER_BYTES + builder.size_bytes() - before_bytes;
        too_large(alone_bytes, bounds.batch_bytes)?;
    }
    let finished = builders.into_iter().map(|(partition, builder)| {
        let batch = stamp(partition, builder).finish();
        Ok((partition, batch.map_err(refused)?))
    });
    let batches: Result<Vec<_>, PublishError> = finished.collect();
    Ok(Sorted {
        batches: batches?,
        places,
    })
}

/// # Errors
/// [`PublishError::TooLarge`] where so many bytes are more than the bound.
pub(crate) fn too_large(size_bytes: usize, max_bytes: usize) -> Result<(), PublishError> {
    if size_bytes <= max_bytes {
        return Ok(());
    }
    Err(PublishError::TooLarge {
        size_bytes,
        max_bytes,
    })
}

pub(crate) fn refused(error: BatchError) -> PublishError {
    match error {
        BatchError::TooLarge {
            size_bytes,
            max_bytes,
        } => PublishError::TooLarge {
            size_bytes,
            max_bytes,
        },
        other => PublishError::Other(other.to_string()),
    }
}
