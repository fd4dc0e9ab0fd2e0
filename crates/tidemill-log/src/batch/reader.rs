//! Reads the records of a batch without copying: keys, values and header values are slices of
//! the batch's own bytes, or of the one buffer that a packed batch is unpacked into.

use bytes::Bytes;
use tidemill_core::Offset;

use super::BatchError;
use super::codec::{Compression, unpack};
use super::header::{Batch, HEADER_BYTES};
use super::shape::{Cursor, Shape};

/// One record; shares the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was made, or appended where the batch says so, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name; not unique within a record.
    pub name: &'a str,
    /// Its value.
    pub value: Option<Bytes>,
}

/// The headers of a record, checked when the record was read and taken apart when asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Bytes,
    count: u32,
}

impl Headers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'_>> {
        let mut cursor = Cursor {
            bytes: &self.bytes,
            at: 0,
        };
        (0..self.count).map_while(move |_| {
            let (name, value) = cursor.header().ok()?;
            let value = value.map(|range| self.bytes.slice(range));
            Some(Header { name, value })
        })
    }
}

/// The iterator of [`Batch::records`].
#[derive(Clone, Debug)]
pub struct Records {
    /// The records, unpacked.
    bytes: Bytes,
    /// Why they could not be unpacked, until that was said.
    packed: Option<BatchError>,
    at: usize,
    base_offset: Offset,
    last_offset_delta: i32,
    base_timestamp_ms: i64,
    /// The time of all records, where the batch has one.
    append_time_ms: Option<i64>,
    count: u32,
    index: u32,
    /// The offset delta of the record before.
    before: i32,
    done: bool,
}

impl Records {
    pub(super) fn new(batch: &Batch) -> Self {
        let own = batch.as_bytes().slice(HEADER_BYTES..);
        let unpacked = match batch.compression() {
            Compression::None => Ok(own),
            // All records may have gone by compaction.
            _ if own.is_empty() => Ok(own),
            codec => unpack(codec, &own).map(Bytes::from),
        };
        let (bytes, packed) = match unpacked {
            Ok(bytes) => (bytes, None),
            Err(why) => (Bytes::new(), Some(why)),
        };
        Self {
            bytes,
            packed,
            at: 0,
            base_offset: batch.base_offset(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp_ms: batch.base_timestamp_ms(),
            append_time_ms: batch.append_time_ms(),
            count: batch.record_count(),
            index: 0,
            before: -1,
            done: false,
        }
    }

    /// Reads on to the end without making records of it; answers the largest time that was seen,
    /// `None` where no record was left.
    pub(super) fn survey(mut self) -> Result<Option<i64>, BatchError> {
        let mut largest = None;
        while let Some(next) = self.step() {
            let (_, timestamp_ms) = next?;
            largest = largest.max(Some(timestamp_ms));
        }
        Ok(largest)
    }

    /// The next record's shape and time; an error once and nothing after it.
    fn step(&mut self) -> Option<Result<(Shape, i64), BatchError>> {
        if self.done {
            return None;
        }
        if let Some(why) = self.packed.take() {
            self.done = true;
            return Some(Err(why));
        }
        let index = self.index;
        if index == self.count {
            self.done = true;
            let why = "bytes follow the last record";
            return (self.at != self.bytes.len()).then_some(Err(BatchError::Record { index, why }));
        }
        let shape = self.shape();
        self.done = shape.is_err();
        self.index += 1;
        Some(shape.map_err(|why| BatchError::Record { index, why }))
    }

    fn shape(&mut self) -> Result<(Shape, i64), &'static str> {
        let shape = Shape::read(&self.bytes, self.at)?;
        if shape.offset_delta <= self.before || shape.offset_delta > self.last_offset_delta {
            return Err("its offset does not follow the one before, or is past the last one");
        }
        let timestamp_ms = match self.append_time_ms {
            Some(time) => time,
            None => self
                .base_timestamp_ms
                .checked_add(shape.time_delta)
                .ok_or("its timestamp is out of range")?,
        };
        self.at = shape.end;
        self.before = shape.offset_delta;
        Ok((shape, timestamp_ms))
    }

    fn record(&self, shape: Shape, timestamp_ms: i64) -> Record {
        let slice = |range| self.bytes.slice(range);
        Record {
            // Above `before`, which is -1 or more.
            offset: self.base_offset.plus(shape.offset_delta as u64),
            timestamp_ms,
            key: shape.key.map(slice),
            value: shape.value.map(slice),
            headers: Headers {
                bytes: self.bytes.slice(shape.headers),
                count: shape.header_count,
            },
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step()?;
        Some(step.map(|(shape, timestamp_ms)| self.record(shape, timestamp_ms)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for an error at the end.
        let left = (self.count - self.index) as usize;
        (0, Some(if self.done { 0 } else { left + 1 }))
    }
}

impl std::iter::FusedIterator for Records {}
