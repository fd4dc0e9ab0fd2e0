//! Finds the first record of a time in a segment. Each line of the sidecar has the largest
//! timestamp up to its batch, so that the lines can be searched by halves.

use tidemill_core::Offset;

use super::read::SegmentRead;
use crate::batch::{Batch, BatchError};
use crate::disk::DiskFile;
use crate::error::ReadError;
use crate::limits::SEARCH_READ_BYTES;

/// What [`SegmentRead::since`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The first record from the offset on that is of the time or later.
    At(Offset),
    /// There is none from the offset on.
    Nothing,
}

impl SegmentRead<'_> {
    /// The first record from `from` on whose timestamp is `since_ms` or later. Where what may
    /// hold it is unreadable, that place: whoever reads there is told of the damage.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and [`ReadError::Io`].
    pub(crate) fn since(&self, from: Offset, since_ms: i64) -> Result<Found, ReadError> {
        let end = self.segment.written.end;
        let sums = self.open(&self.segment.sum_path)?;
        let mut next = from.max(self.segment.base);
        if let Some(at) = self.first_line(sums.as_ref(), next, since_ms)? {
            next = next.max(at);
        }
        // Usually the first batch holds it. Only where a record before `from` is of that time
        // already do the lines say nothing about those behind.
        while next < end {
            let batches = match self.run(next, SEARCH_READ_BYTES) {
                Ok(batches) => batches,
                Err(ReadError::Damaged { offset, .. }) => return Ok(Found::At(offset.max(next))),
                Err(error) => return Err(error),
            };
            for batch in &batches {
                match first_since(batch, next, since_ms) {
                    Ok(Some(offset)) => return Ok(Found::At(offset)),
                    Ok(None) => next = next.max(batch.next_offset()),
                    Err(_) => return Ok(Found::At(batch.base_offset().max(next))),
                }
            }
            if batches.is_empty() {
                break;
            }
        }
        Ok(Found::Nothing)
    }

    /// The base offset of the first line, from the one that holds `from` on, that has this time.
    /// `None` where the lines cannot be searched, being damaged.
    fn first_line(
        &self,
        sums: &dyn DiskFile,
        from: Offset,
        since_ms: i64,
    ) -> Result<Option<Offset>, ReadError> {
        let Some(mut low) = self.line_of(sums, from)? else {
            return Ok(None);
        };
        let mut high = self.segment.written.lines;
        // Line `high` has the time, or there is no such line.
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.line(sums, middle)? {
                Some(line) if line.largest_ms >= since_ms => {
                    found = Some(line.base);
                    high = middle;
                }
                Some(_) => low = middle + 1,
                None => return Ok(None),
            }
        }
        Ok(Some(found.unwrap_or(self.segment.written.end)))
    }
}

/// The first record of a batch, from `from` on, whose timestamp is `since_ms` or later. What is
/// written to end transactions is nobody's record.
pub(crate) fn first_since(
    batch: &Batch,
    from: Offset,
    since_ms: i64,
) -> Result<Option<Offset>, BatchError> {
    if batch.is_control()
        || batch.record_count() == 0
        || batch.max_timestamp_ms() < since_ms
        || batch.last_offset() < from
    {
        return Ok(None);
    }
    for record in batch.checked_records()? {
        let record = record?;
        if record.offset >= from && record.timestamp_ms >= since_ms {
            return Ok(Some(record.offset));
        }
    }
    Ok(None)
}
