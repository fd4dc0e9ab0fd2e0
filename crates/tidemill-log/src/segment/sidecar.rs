//! The sidecar of a segment: a line for every batch, with where it lies and a checksum of those
//! bytes of its header that its own checksum does not cover. Layout: `FORMAT.md`.

use bytes::{Buf, BufMut};
use tidemill_core::Offset;

use crate::batch::Batch;

/// Bytes of one line.
pub(crate) const LINE_BYTES: usize = 32;
/// The first bytes of a batch, up to the end of its own checksum.
const HEADER_COVERED_BYTES: usize = 21;
/// A line's own checksum covers what is before it.
const LINE_COVERED_BYTES: usize = 28;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The batch's base offset.
    pub(crate) base: Offset,
    /// Where the batch begins in the segment, in bytes.
    pub(crate) position: u32,
    /// The batch's size in bytes.
    pub(crate) size_bytes: u32,
    /// CRC-32C of the batch's first 21 bytes.
    pub(crate) header_crc: u32,
    /// The largest timestamp of this batch and those before it in the segment, in milliseconds
    /// since 1970; -1 where there is none. It never falls, so that a time can be searched for.
    pub(crate) largest_ms: i64,
}

/// The checksum that a line keeps of its batch's header.
pub(crate) fn header_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(..HEADER_COVERED_BYTES).unwrap_or(batch))
}

impl Line {
    /// The line of a batch at this position, where those before it are no later than
    /// `before_ms`.
    pub(crate) fn of(batch: &Batch, position: u32, before_ms: i64) -> Self {
        let own_ms = if batch.record_count() > 0 {
            batch.max_timestamp_ms()
        } else {
            -1
        };
        Self {
            largest_ms: own_ms.max(before_ms),
            base: batch.base_offset(),
            position,
            size_bytes: u32::try_from(batch.size_bytes()).expect("batches are bounded"),
            header_crc: header_crc(batch.as_bytes()),
        }
    }

    /// Writes the line.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u64_le(self.base.0);
        out.put_u32_le(self.position);
        out.put_u32_le(self.size_bytes);
        out.put_u32_le(self.header_crc);
        out.put_i64_le(self.largest_ms);
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.put_u32_le(crc);
    }

    /// Reads a line; `None` where its checksum does not hold.
    pub(crate) fn get(mut bytes: &[u8]) -> Option<Self> {
        let covered = bytes.get(..LINE_COVERED_BYTES)?;
        let actual = crc32c::crc32c(covered);
        if bytes.len() < LINE_BYTES {
            return None;
        }
        let line = Self {
            base: Offset(bytes.get_u64_le()),
            position: bytes.get_u32_le(),
            size_bytes: bytes.get_u32_le(),
            header_crc: bytes.get_u32_le(),
            largest_ms: bytes.get_i64_le(),
        };
        (bytes.get_u32_le() == actual).then_some(line)
    }
}
