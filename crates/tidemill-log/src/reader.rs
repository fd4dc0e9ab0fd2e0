//! Reads committed records, from memory or from segments, without a lock that a writer waits
//! for. It never sees anything above the high watermark.

use std::fmt;
use std::sync::Arc;

use tidemill_core::Offset;

use crate::batch::Batch;
use crate::error::ReadError;
use crate::io::Files;
use crate::limits::{SEARCH_READ_BYTES, SEARCH_TRIES_MAX};
use crate::machine::PartitionId;
use crate::segment::SegmentView;
use crate::segment::read::SegmentRead;
use crate::segment::search::{Found, first_since};
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
    /// before it. Where that offset's segment was deleted from between others, because all of it
    /// is settled, the first one begins behind it.
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

    /// What it reads.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
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

    /// Searches for the first record whose timestamp is `since_ms`, in milliseconds since 1970,
    /// or later. `None` where there is no such partition.
    #[must_use]
    pub fn since(&self, id: PartitionId, since_ms: i64) -> Option<TimeSearch> {
        let view = self.registry.get(id)?;
        Some(TimeSearch {
            view,
            registry: self.registry.clone(),
            files: self.files.clone(),
            since_ms,
        })
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
        let segment = view.segment(offset);
        match segment {
            // Between the look at the bounds and this one it was deleted.
            Some(segment) if offset < segment.base && offset < view.earliest() => {
                Read::OutOfRange(self::bounds(&view))
            }
            Some(segment) => Read::Disk(DiskRead {
                id,
                registry: self.registry.clone(),
                offset: offset.max(segment.base),
                segment,
                files: self.files.clone(),
                max_bytes,
            }),
            None if offset < view.earliest() => Read::OutOfRange(self::bounds(&view)),
            None => Read::Unknown,
        }
    }
}

/// A search for the first record of a time; made by [`Reader::since`].
#[derive(Debug)]
pub struct TimeSearch {
    view: Arc<View>,
    registry: Arc<Registry>,
    files: Arc<Files>,
    since_ms: i64,
}

impl TimeSearch {
    /// Searches; blocks as the disk does. Answers the offset of the first record, in the order of
    /// the offsets, whose timestamp is the one asked for or later, markers of transactions left
    /// out; the high watermark where there
    /// is none yet. Where what may hold it is unreadable, that place: reading there names the
    /// damage.
    ///
    /// # Errors
    /// [`ReadError::Gone`] where the partition is deleted, or more of it meanwhile than is looked
    /// for again; [`ReadError::Io`] where its files cannot be read.
    pub fn run(&self) -> Result<Offset, ReadError> {
        let (view, since_ms) = (&self.view, self.since_ms);
        let end = view.end();
        let mut next = view.earliest();
        let mut tries = 0;
        while next < end {
            let tail = view.tail.read(next, end, SEARCH_READ_BYTES);
            if let Some(batches) = tail.filter(|batches| !batches.is_empty()) {
                for batch in &batches {
                    match first_since(batch, next, since_ms) {
                        Ok(None) => next = next.max(batch.next_offset()),
                        Ok(Some(offset)) => return Ok(offset),
                        Err(_) => return Ok(batch.base_offset().max(next)),
                    }
                }
            } else if let Some(segment) = view.segment(next) {
                next = next.max(segment.base);
                match self.in_segment(&segment, next) {
                    Ok(Found::At(offset)) => return Ok(offset.min(end)),
                    Ok(Found::Nothing) => next = next.max(segment.written.end),
                    Err(ReadError::Gone(id)) if is_listed(&self.registry, id, &segment) => {
                        return Ok(next);
                    }
                    // It was deleted or written anew meanwhile, its partition was not.
                    Err(ReadError::Gone(id))
                        if tries < SEARCH_TRIES_MAX && self.registry.get(id).is_some() =>
                    {
                        tries += 1;
                        next = next.max(view.earliest());
                    }
                    Err(error) => return Err(error),
                }
            } else if view.earliest() > next {
                next = view.earliest();
            } else {
                return Err(ReadError::Gone(view.id));
            }
        }
        Ok(next.min(end))
    }

    fn in_segment(&self, segment: &SegmentView, from: Offset) -> Result<Found, ReadError> {
        if segment.written.largest_ms < self.since_ms {
            return Ok(Found::Nothing);
        }
        let read = SegmentRead {
            id: self.view.id,
            segment,
            files: &self.files,
        };
        read.since(from, self.since_ms)
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
    registry: Arc<Registry>,
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
    /// is still readable, from the offset that it names on. [`ReadError::Gone`] where the
    /// records were deleted or written anew meanwhile: reading again finds out.
    pub fn run(&self) -> Result<Vec<Batch>, ReadError> {
        let read = self.run_within(|_| true)?;
        Ok(read.expect("there is always room"))
    }

    /// As [`DiskRead::run`]; where a single batch has more bytes than were asked for, `room` is
    /// told how many before it is read. `None` where that answers `false`.
    ///
    /// # Errors
    /// As [`DiskRead::run`].
    pub fn run_within(
        &self,
        room: impl FnOnce(usize) -> bool,
    ) -> Result<Option<Vec<Batch>>, ReadError> {
        let read = SegmentRead {
            id: self.id,
            segment: &self.segment,
            files: &self.files,
        };
        match read.run_within(self.offset, self.max_bytes, room) {
            Err(ReadError::Gone(id)) if is_listed(&self.registry, id, &self.segment) => {
                Err(ReadError::Damaged {
                    id,
                    offset: self.offset,
                    resume: self.segment.written.end,
                    why: format!("{} or its sidecar is missing", self.segment.log_path),
                })
            }
            answer => answer,
        }
    }
}

/// Whether the segment is one of the partition's still: then its files should be there.
fn is_listed(registry: &Registry, id: PartitionId, segment: &SegmentView) -> bool {
    let found = registry.get(id).and_then(|view| view.segment(segment.base));
    found.is_some_and(|found| found.log_path == segment.log_path)
}
