//! Reads the records of a batch without copying: keys, values and header values are slices of
//! the batch's own bytes. No number from the wire is trusted or used to reserve memory.

use bytes::Bytes;
use tidemill_core::Offset;

use super::header::{Batch, Compression, HEADER_BYTES};
use super::{BatchError, varint};

/// One record; shares the batch's bytes.
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
        (0..self.count).map_while(move |_| cursor.header().ok())
    }
}

/// The iterator of [`Batch::records`].
#[derive(Clone, Debug)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    base_offset: Offset,
    last_offset_delta: i32,
    base_timestamp_ms: i64,
    /// The time of all records, where the batch has one.
    append_time_ms: Option<i64>,
    compression: Compression,
    count: u32,
    index: u32,
    /// The offset delta of the record before.
    before: i32,
    done: bool,
}

impl Records {
    pub(super) fn new(batch: &Batch) -> Self {
        Self {
            bytes: batch.as_bytes().clone(),
            at: HEADER_BYTES,
            base_offset: batch.base_offset(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp_ms: batch.base_timestamp_ms(),
            append_time_ms: batch.is_log_append_time().then(|| batch.max_timestamp_ms()),
            compression: batch.compression(),
            count: batch.record_count(),
            index: 0,
            before: -1,
            done: false,
        }
    }

    fn record(&mut self) -> Result<Record, &'static str> {
        let mut outer = Cursor {
            bytes: &self.bytes,
            at: self.at,
        };
        let length = outer.length()?.ok_or("its length is negative")?;
        let end = outer.ahead(length)?;
        let body = self.bytes.slice(outer.at..end);
        let mut cursor = Cursor {
            bytes: &body,
            at: 0,
        };
        cursor.skip(1)?;
        let time_delta = cursor.varint_64()?;
        let offset_delta = cursor.varint_32()?;
        let key = cursor.optional()?;
        let value = cursor.optional()?;
        let headers = cursor.headers()?;
        if cursor.at != body.len() {
            return Err("it is longer than its parts");
        }
        if offset_delta <= self.before || offset_delta > self.last_offset_delta {
            return Err("its offset does not follow the one before, or is past the last one");
        }
        let timestamp_ms = match self.append_time_ms {
            Some(time) => time,
            None => self
                .base_timestamp_ms
                .checked_add(time_delta)
                .ok_or("its timestamp is out of range")?,
        };
        self.at = end;
        self.before = offset_delta;
        Ok(Record {
            // Above `before`, which is -1 or more.
            offset: self.base_offset.plus(offset_delta as u64),
            timestamp_ms,
            key,
            value,
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.compression != Compression::None {
            self.done = true;
            return Some(Err(BatchError::Compressed(self.compression)));
        }
        if self.index == self.count {
            self.done = true;
            let why = "bytes follow the last record";
            return (self.at != self.bytes.len()).then_some(Err(BatchError::Record {
                index: self.index,
                why,
            }));
        }
        let record = self.record().map_err(|why| BatchError::Record {
            index: self.index,
            why,
        });
        self.done = record.is_err();
        self.index += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for an error at the end.
        let left = (self.count - self.index) as usize;
        (0, Some(if self.done { 0 } else { left + 1 }))
    }
}

impl std::iter::FusedIterator for Records {}

/// A checked walk over bytes.
struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
}

const SHORT: &str = "its bytes end too early";
const VARINT: &str = "a number in it does not end or does not fit";

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Where `length` bytes from here end, if they are there.
    fn ahead(&self, length: usize) -> Result<usize, &'static str> {
        let end = self.at.checked_add(length).ok_or(SHORT)?;
        if end > self.bytes.len() {
            return Err(SHORT);
        }
        Ok(end)
    }

    fn skip(&mut self, length: usize) -> Result<(), &'static str> {
        self.at = self.ahead(length)?;
        Ok(())
    }

    fn varint_64(&mut self) -> Result<i64, &'static str> {
        let (value, size) = varint::get_64(self.rest()).ok_or(VARINT)?;
        self.at += size;
        Ok(value)
    }

    fn varint_32(&mut self) -> Result<i32, &'static str> {
        let (value, size) = varint::get_32(self.rest()).ok_or(VARINT)?;
        self.at += size;
        Ok(value)
    }

    /// A length: `None` for -1.
    fn length(&mut self) -> Result<Option<usize>, &'static str> {
        match self.varint_32()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| "a length in it is negative"),
        }
    }

    fn optional(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let end = self.ahead(length)?;
        let slice = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(Some(slice))
    }

    fn header(&mut self) -> Result<Header<'a>, &'static str> {
        let length = self.length()?.ok_or("a header has no name")?;
        let end = self.ahead(length)?;
        let name = self.bytes.get(self.at..end).ok_or(SHORT)?;
        let name = std::str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?;
        self.at = end;
        Ok(Header {
            name,
            value: self.optional()?,
        })
    }

    fn headers(&mut self) -> Result<Headers, &'static str> {
        let count = u32::try_from(self.varint_32()?).map_err(|_| "its header count is negative")?;
        let start = self.at;
        for _ in 0..count {
            self.header()?;
        }
        Ok(Headers {
            bytes: self.bytes.slice(start..self.at),
            count,
        })
    }
}
