//! The fixed part of a record batch: where each field lies, and the checks that hold before
//! anything is read from it.

use std::fmt;

use bytes::{Bytes, BytesMut};
use tidemill_core::Offset;

use super::codec::{CompressionType, pack};
use super::{BatchError, Compression, Records};
use crate::limits::{BATCH_MAX_BYTES, UNCOMPRESSED_MAX_BYTES};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;

/// Bytes of base offset and length, which the length does not count.
const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the checksum begins to cover: after itself, from `attributes` on.
const CRC_COVERS_FROM: usize = 21;
/// A record's smallest size: length, attributes, time, offset, two null lengths, header count.
const RECORD_MIN_BYTES: usize = 7;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

const MAGIC_V2: i8 = 2;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The idempotent producer that wrote a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id, 0 or more.
    pub id: i64,
    /// Its epoch, 0 or more.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub base_sequence: i32,
}

/// A record batch whose lengths and checksum were checked. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// At least [`HEADER_BYTES`], exactly as long as the length field says.
    bytes: Bytes,
}

impl Batch {
    /// Takes one batch from the front of `bytes` and checks lengths, magic, checksum and the
    /// header's numbers; answers it with the bytes that follow. Shares the bytes, never copies.
    ///
    /// The records themselves are checked when they are read, see [`Batch::records`] and
    /// [`Batch::check_records`].
    ///
    /// # Errors
    /// [`BatchError`] says what is wrong. [`BatchError::Truncated`] may be cured by more bytes,
    /// nothing else can be.
    pub fn parse(mut bytes: Bytes) -> Result<(Self, Bytes), BatchError> {
        let size_bytes = Self::size_from_front(&bytes)?;
        if bytes.len() < size_bytes {
            return Err(BatchError::Truncated {
                need_bytes: size_bytes,
                have_bytes: bytes.len(),
            });
        }
        let rest = bytes.split_off(size_bytes);
        let batch = Self { bytes };
        let magic = i8::from_be_bytes(batch.field(MAGIC));
        if magic != MAGIC_V2 {
            return Err(BatchError::Magic(magic));
        }
        let stored = batch.crc();
        let actual = batch.computed_crc();
        if stored != actual {
            return Err(BatchError::Crc { stored, actual });
        }
        batch.check_header()?;
        Ok((batch, rest))
    }

    /// The full size in bytes of the batch that begins `bytes`, of which at least the first
    /// 61 must be there. For readers that fetch a header first and the rest by its length; the
    /// answer is bounded by [`BATCH_MAX_BYTES`].
    ///
    /// # Errors
    /// [`BatchError::Truncated`] where the header itself is cut off, [`BatchError::Length`]
    /// where the length is out of bounds.
    pub fn size_from_front(bytes: &[u8]) -> Result<usize, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated {
                need_bytes: HEADER_BYTES,
                have_bytes: bytes.len(),
            });
        }
        let length = i32::from_be_bytes(field_of(bytes, LENGTH));
        let size_bytes = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LENGTH_PREFIX_BYTES));
        match size_bytes {
            Some(size) if (HEADER_BYTES..=BATCH_MAX_BYTES).contains(&size) => Ok(size),
            _ => Err(BatchError::Length(length)),
        }
    }

    /// For the builder: bytes with room for the header, to which all fields are written.
    pub(super) fn assemble(mut bytes: Vec<u8>, parts: &Parts) -> Self {
        let length = bytes.len() - LENGTH_PREFIX_BYTES;
        let flag = |set: bool, flag: i16| if set { flag } else { 0 };
        let attributes = flag(parts.transactional, TRANSACTIONAL) | flag(parts.control, CONTROL);
        let length = i32::try_from(length).expect("the builder holds BATCH_MAX_BYTES");
        let producer = parts.producer.unwrap_or(Producer {
            id: -1,
            epoch: -1,
            base_sequence: -1,
        });
        put(&mut bytes, BASE_OFFSET, 0i64.to_be_bytes());
        put(&mut bytes, LENGTH, length.to_be_bytes());
        put(&mut bytes, LEADER_EPOCH, 0i32.to_be_bytes());
        put(&mut bytes, MAGIC, MAGIC_V2.to_be_bytes());
        put(&mut bytes, ATTRIBUTES, attributes.to_be_bytes());
        put(
            &mut bytes,
            LAST_OFFSET_DELTA,
            parts.last_offset_delta.to_be_bytes(),
        );
        put(
            &mut bytes,
            BASE_TIMESTAMP,
            parts.base_timestamp_ms.to_be_bytes(),
        );
        put(
            &mut bytes,
            MAX_TIMESTAMP,
            parts.max_timestamp_ms.to_be_bytes(),
        );
        put(&mut bytes, PRODUCER_ID, producer.id.to_be_bytes());
        put(&mut bytes, PRODUCER_EPOCH, producer.epoch.to_be_bytes());
        put(
            &mut bytes,
            BASE_SEQUENCE,
            producer.base_sequence.to_be_bytes(),
        );
        put(&mut bytes, RECORD_COUNT, parts.count.to_be_bytes());
        Self::sealed(bytes)
    }

    fn check_header(&self) -> Result<(), BatchError> {
        let wrong = |why| Err(BatchError::Header(why));
        let base = i64::from_be_bytes(self.field(BASE_OFFSET));
        let delta = self.last_offset_delta();
        let count = i32::from_be_bytes(self.field(RECORD_COUNT));
        if base < 0 {
            return wrong("the base offset is negative");
        }
        if delta < 0 || base.checked_add(i64::from(delta)).is_none() {
            return wrong("the last offset is out of range");
        }
        if count < 0 || i64::from(count) > i64::from(delta) + 1 {
            return wrong("there are more records than offsets, or fewer than none");
        }
        if self.attributes() & COMPRESSION_MASK > 4 {
            return wrong("the compression is none of none, gzip, snappy, lz4, zstd");
        }
        let room = match self.compression() {
            Compression::None => self.bytes.len() - HEADER_BYTES,
            _ => UNCOMPRESSED_MAX_BYTES,
        };
        if count as usize > room / RECORD_MIN_BYTES {
            return wrong("it claims more records than its bytes can hold");
        }
        Ok(())
    }

    /// A batch that takes the place of `count` offsets from `base` on, and has no records.
    ///
    /// # Panics
    /// Where there is no offset, or more than 2,147,483,647.
    #[must_use]
    pub fn without_records(base: Offset, count: u32) -> Self {
        let delta = i32::try_from(count).ok().filter(|count| *count > 0);
        let delta = delta.expect("a batch has from one to 2,147,483,647 offsets") - 1;
        let parts = Parts {
            count: 0,
            last_offset_delta: delta,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            producer: None,
            transactional: false,
            control: false,
        };
        Self::assemble(vec![0; HEADER_BYTES], &parts).with_base_offset(base)
    }

    /// The offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        // Checked not to be negative.
        Offset(u64::from_be_bytes(self.field(BASE_OFFSET)))
    }

    /// The offset of the last record, or of the last one that was there before a compaction.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        // Checked not to be negative.
        self.base_offset().plus(self.last_offset_delta() as u64)
    }

    /// The offset of the first record of whatever follows this batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// How many records are in the batch.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        // Checked not to be negative.
        u32::from_be_bytes(self.field(RECORD_COUNT))
    }

    /// The same batch at another place: the checksum does not cover the base offset, so the
    /// header is patched in place when nobody else holds these bytes, and copied otherwise.
    ///
    /// # Panics
    /// Where the last offset would pass `i64::MAX`, which no log reaches.
    #[must_use]
    pub fn with_base_offset(self, offset: Offset) -> Self {
        let delta = self.last_offset_delta() as u64;
        let fits = offset.0.checked_add(delta).map(i64::try_from);
        assert!(
            matches!(fits, Some(Ok(_))),
            "offset {offset} leaves the range of offsets"
        );
        self.patched(BASE_OFFSET, offset.0.to_be_bytes())
    }

    /// The leader epoch of the partition when the batch was appended.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.field(LEADER_EPOCH))
    }

    /// The same batch under another leader epoch; see [`Batch::with_base_offset`].
    #[must_use]
    pub fn with_leader_epoch(self, epoch: i32) -> Self {
        self.patched(LEADER_EPOCH, epoch.to_be_bytes())
    }

    /// The timestamp of the first record in milliseconds since 1970.
    #[must_use]
    pub fn base_timestamp_ms(&self) -> i64 {
        i64::from_be_bytes(self.field(BASE_TIMESTAMP))
    }

    /// The largest timestamp in milliseconds since 1970, as the writer said.
    #[must_use]
    pub fn max_timestamp_ms(&self) -> i64 {
        i64::from_be_bytes(self.field(MAX_TIMESTAMP))
    }

    /// Whether the records' time is the one of their appending, [`Batch::max_timestamp_ms`].
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// How the records are packed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        match self.attributes() & COMPRESSION_MASK {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            // Others were refused.
            _ => Compression::Zstd,
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether the records are markers for the log itself, which no consumer gets.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// The idempotent producer, where one wrote the batch.
    #[must_use]
    pub fn producer(&self) -> Option<Producer> {
        let id = i64::from_be_bytes(self.field(PRODUCER_ID));
        (id >= 0).then(|| Producer {
            id,
            epoch: i16::from_be_bytes(self.field(PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(self.field(BASE_SEQUENCE)),
        })
    }

    /// The checksum in the header: CRC-32C of everything from the attributes on.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(CRC))
    }

    /// The whole batch, as it is stored and sent.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The size of the whole batch in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Reads the records, sharing the batch's bytes, or one buffer that a packed batch is
    /// unpacked into here. Ends after the first error. What came from outside is read with
    /// [`Batch::checked_records`].
    #[must_use]
    pub fn records(&self) -> Records {
        Records::new(self)
    }

    /// The same records packed, one batch for one: offsets, times, producer and all flags stay.
    /// A batch that is packed already, that holds control records, that this build cannot pack
    /// so, or that would not become smaller stays as it is.
    #[must_use]
    pub fn compressed(self, to: CompressionType) -> Self {
        if self.compression() != Compression::None || self.is_control() {
            return self;
        }
        let records = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        let Some(packed) = pack(to, records) else {
            return self;
        };
        let header = self.bytes.get(..HEADER_BYTES).unwrap_or_default();
        let mut bytes = [header, &packed].concat();
        let length = i32::try_from(bytes.len() - LENGTH_PREFIX_BYTES);
        let length = length.expect("it is smaller than the batch was");
        let attributes = self.attributes() | to.codec() as i16;
        put(&mut bytes, LENGTH, length.to_be_bytes());
        put(&mut bytes, ATTRIBUTES, attributes.to_be_bytes());
        Self::sealed(bytes)
    }

    /// The time of all records in milliseconds since 1970, where it is that of their appending.
    #[must_use]
    pub fn append_time_ms(&self) -> Option<i64> {
        self.is_log_append_time().then(|| self.max_timestamp_ms())
    }

    /// The same batch, whose records have this one time in milliseconds since 1970, that of their
    /// appending. As Kafka's brokers do it, only the header says so: records that are packed
    /// stay as they are. The checksum covers it and is written anew.
    #[must_use]
    pub fn with_append_time_ms(self, time_ms: i64) -> Self {
        let attributes = self.attributes() | LOG_APPEND_TIME;
        let batch = self.patched(ATTRIBUTES, attributes.to_be_bytes());
        let batch = batch.patched(MAX_TIMESTAMP, time_ms.to_be_bytes());
        let crc = batch.computed_crc();
        batch.patched(CRC, crc.to_be_bytes())
    }

    /// The same batch saying another largest timestamp.
    pub(super) fn with_max_timestamp_ms(self, timestamp_ms: i64) -> Self {
        let mut bytes = self.bytes.to_vec();
        put(&mut bytes, MAX_TIMESTAMP, timestamp_ms.to_be_bytes());
        Self::sealed(bytes)
    }

    /// Writes the checksum.
    fn sealed(mut bytes: Vec<u8>) -> Self {
        let crc = crc_of(&bytes);
        put(&mut bytes, CRC, crc.to_be_bytes());
        Self {
            bytes: Bytes::from(bytes),
        }
    }

    pub(super) fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(LAST_OFFSET_DELTA))
    }

    fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(ATTRIBUTES))
    }

    fn computed_crc(&self) -> u32 {
        crc_of(&self.bytes)
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        field_of(&self.bytes, at)
    }

    fn patched<const N: usize>(self, at: usize, value: [u8; N]) -> Self {
        let mut bytes = self
            .bytes
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&*shared));
        put(&mut bytes, at, value);
        Self {
            bytes: bytes.freeze(),
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("base_offset", &self.base_offset().0)
            .field("record_count", &self.record_count())
            .field("compression", &self.compression())
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// What the builder knows when it finishes.
pub(super) struct Parts {
    pub(super) count: i32,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp_ms: i64,
    pub(super) max_timestamp_ms: i64,
    pub(super) producer: Option<Producer>,
    pub(super) transactional: bool,
    pub(super) control: bool,
}

fn crc_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes.get(CRC_COVERS_FROM..).unwrap_or_default())
}

fn field_of<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .expect("a batch has its 61 bytes of header")
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes
        .get_mut(at..at + N)
        .expect("a batch has its 61 bytes of header")
        .copy_from_slice(&value);
}
