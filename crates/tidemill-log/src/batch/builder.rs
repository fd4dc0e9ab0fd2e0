//! Builds an uncompressed record batch, record by record, in one buffer.

use super::header::{Batch, HEADER_BYTES, Parts, Producer};
use super::{BatchError, varint};
use crate::limits::BATCH_MAX_BYTES;

/// Collects records; [`BatchBuilder::finish`] gives the batch, at base offset 0.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    count: i32,
    /// The offset of the next record, from the batch's base offset.
    next_delta: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer: Option<Producer>,
    transactional: bool,
    control: bool,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl BatchBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty builder with room for about `records_bytes` of records.
    #[must_use]
    pub fn with_capacity(records_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + records_bytes.min(BATCH_MAX_BYTES));
        bytes.resize(HEADER_BYTES, 0);
        Self {
            bytes,
            count: 0,
            next_delta: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer: None,
            transactional: false,
            control: false,
        }
    }

    /// Marks the batch as an idempotent producer's.
    #[must_use]
    pub fn producer(mut self, producer: Producer) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.transactional = true;
        self
    }

    /// Marks the records as markers for the log itself.
    pub(super) fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// Appends a record. `headers` is walked twice: for the length, then for the bytes.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] when the batch would pass [`BATCH_MAX_BYTES`], and
    /// [`BatchError::TimestampRange`]; the builder is as it was before then.
    pub fn push<'a>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    ) -> Result<(), BatchError> {
        if self.count == 0 {
            self.base_timestamp_ms = timestamp_ms;
            self.max_timestamp_ms = timestamp_ms;
        }
        let time_delta = timestamp_ms
            .checked_sub(self.base_timestamp_ms)
            .ok_or(BatchError::TimestampRange)?;
        let (header_count, headers_bytes) = headers
            .clone()
            .fold((0usize, 0usize), |(count, size), (name, value)| {
                (count + 1, size + sized(name.len()) + optional(value))
            });
        let length = 1
            + varint::size(time_delta)
            + varint::size(i64::from(self.next_delta))
            + optional(key)
            + optional(value)
            + varint::size(header_count as i64)
            + headers_bytes;
        let size_bytes = self.bytes.len() + sized(length);
        if size_bytes > BATCH_MAX_BYTES {
            return Err(BatchError::TooLarge {
                size_bytes,
                max_bytes: BATCH_MAX_BYTES,
            });
        }
        let out = &mut self.bytes;
        out.reserve(sized(length));
        varint::put(out, length as i64);
        out.push(0);
        varint::put(out, time_delta);
        varint::put(out, i64::from(self.next_delta));
        put_optional(out, key);
        put_optional(out, value);
        varint::put(out, header_count as i64);
        for (name, value) in headers {
            put_optional(out, Some(name.as_bytes()));
            put_optional(out, value);
        }
        self.count += 1;
        self.next_delta += 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        Ok(())
    }

    /// Leaves out the offsets up to `delta` from the batch's base offset: what is pushed next
    /// gets that one, and the batch reaches up to before it even where nothing is pushed.
    /// Answers whether a batch may be so long; it is as it was where not.
    pub(crate) fn skip_to(&mut self, delta: u64) -> bool {
        match i32::try_from(delta) {
            Ok(delta) if delta < i32::MAX => {
                self.next_delta = self.next_delta.max(delta);
                true
            }
            _ => false,
        }
    }

    /// How many records were pushed.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.count.unsigned_abs()
    }

    /// The size in bytes of the batch so far, header included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch, at base offset 0 and leader epoch 0.
    ///
    /// # Errors
    /// [`BatchError::Empty`] where no record was pushed.
    pub fn finish(self) -> Result<Batch, BatchError> {
        if self.count == 0 {
            return Err(BatchError::Empty);
        }
        Ok(self.finish_bare())
    }

    /// The batch, which may have no record but then at least an offset that was skipped.
    pub(crate) fn finish_bare(self) -> Batch {
        let parts = Parts {
            count: self.count,
            last_offset_delta: self.next_delta - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer: self.producer,
            transactional: self.transactional,
            control: self.control,
        };
        Batch::assemble(self.bytes, &parts)
    }
}

/// The size of `length` bytes with their length before them.
fn sized(length: usize) -> usize {
    varint::size(length as i64) + length
}

fn optional(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| sized(bytes.len()))
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
