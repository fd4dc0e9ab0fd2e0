//! Reads committed records, from memory or from segments, without a lock that a writer waits
//! for. It never sees anything above the high watermark.

use std::fmt;
use std::sync::Arc;

use tidemill_core::Offset;

use crate::batch::Batch;
use crate::error::ReadError;
use crate::io::Files;
use crate::machine::PartitionId;
use crate::segment::SegmentView;
use crate::segment::read::SegmentRead;
use crate::settings::PartitionSettings;
use crate::view::{Registry, View};

/// How far a partition reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is kept.
    pub earliest: Offset,
    /// The offset that the next record gets: the high watermark.
    pub end: Offset,
    /// Bytes of its batches.
    pub size_bytes: u64,
}

/// Reads partitions. Clones share everything.
#[derive(Clone)]
pub struct Reader {
    registry: Arc<Registry>,
    files: Arc<Files>,
}

/// The answer to a read.
#[derive(Debug)]
pub enum Read {
    /// Batches in order; the first one holds the offset that was asked for, and may begin
    /// before it.
    Batches(Vec<Batch>),
    /// They are on disk: run this where blocking is allowed.
    Disk(DiskRead),
    /// The offset lies outside of these.
    OutOfRange(Bounds),
    /// There is nothing at this offset yet.
    AtEnd,
    /// There is no such partition.
    Unknown,
}

impl Reader {
    pub(crate) fn new(registry: Arc<Registry>, files: Arc<Files>) -> Self {
        Self { registry, files }
    }

    /// The files that reads open.
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// How far a partition reaches. `None` where there is none.
    #[must_use]
    pub fn bounds(&self, id: PartitionId) -> Option<Bounds> {
        self.registry.get(id).map(|view| bounds(&view))
    }

    /// A partition's settings. `None` where there is no such partition.
    #[must_use]
    pub fn settings(&self, id: PartitionId) -> Option<PartitionSettings> {
        self.registry.get(id).map(|view| view.settings())
    }

    /// Batches from the one that holds `offset` on, together at most `max_bytes` or one batch.
    /// Never blocks; bytes that are on disk come from [`DiskRead::run`].
    #[must_use]
    pub fn read(&self, id: PartitionId, offset: Offset, max_bytes: usize) -> Read {
        let Some(view) = self.registry.get(id) else {
            return Read::Unknown;
        };
        let bounds = bounds(&view);
        if offset == bounds.end {
            return Read::AtEnd;
        }
        if offset > bounds.end || offset < bounds.earliest {
            return Read::OutOfRange(bounds);
        }
        // The tail before the segments: what leaves the tail is in a segment by then.
        if let Some(batches) = view.tail.read(offset, bounds.end, max_bytes) {
            return Read::Batches(batches);
        }
        match view.segment(offset) {
            Some(segment) => Read::Disk(DiskRead {
                id,
                segment,
                files: self.files.clone(),
                offset,
                max_bytes,
            }),
            // Between the look at the bounds and this one the partition was deleted.
            None => Read::Unknown,
        }
    }
}

fn bounds(view: &View) -> Bounds {
    Bounds {
        earliest: view.earliest(),
        end: view.end(),
        size_bytes: view.size_bytes(),
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// A read that has to go to the disk.
#[derive(Debug)]
pub struct DiskRead {
    id: PartitionId,
    segment: SegmentView,
    files: Arc<Files>,
    offset: Offset,
    max_bytes: usize,
}

impl DiskRead {
    /// Reads; blocks as the disk does. Gives at least the batch that holds the offset.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where the bytes are not those that were written: everything else
    /// is still readable, from the offset that it names on.
    pub fn run(&self) -> Result<Vec<Batch>, ReadError> {
        let read = SegmentRead {
            id: self.id,
            segment: &self.segment,
            files: &self.files,
        };
        read.run(self.offset, self.max_bytes)
    }
}
