//! Record batches of Kafka's message format v2, the unit that the log stores and serves.
//!
//! [`BatchBuilder`] makes one, [`Batch::parse`] checks one that comes from disk and
//! [`Batch::from_producer`] one that comes from outside, [`Batch::checked_records`] reads it
//! without copying, [`Batch::compressed`] packs it. The layout is the one of "Record Batch" in
//! Kafka's message format documentation (magic 2); all numbers are big-endian.
//!
//! This room knows lengths, checksums, offsets and codecs. It may not know what a key, a value
//! or a header means, where batches are kept, or who wrote them.

mod builder;
mod check;
mod codec;
mod control;
mod header;
mod reader;
mod shape;
mod varint;

use thiserror::Error;

pub use builder::BatchBuilder;
pub use codec::{Compression, CompressionType};
pub use control::Marker;
pub use header::{Batch, HEADER_BYTES, Producer};
pub use reader::{Header, Headers, Record, Records};

/// Why bytes are not a record batch, or why one could not be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the record batch needs {need_bytes} bytes, only {have_bytes} are there")]
    Truncated {
        /// What the header asks for, or the size of the header itself.
        need_bytes: usize,
        /// What is there.
        have_bytes: usize,
    },
    /// The length field cannot be one.
    #[error("the record batch claims a length of {0} bytes, which is not possible")]
    Length(i32),
    /// Another format.
    #[error("record batches of magic {0} are not supported; use message format v2 (magic 2)")]
    Magic(i8),
    /// The bytes are not those that were written.
    #[error("the record batch is damaged: its CRC-32C says {stored:08x}, its bytes {actual:08x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// A field of the header contradicts another, or is out of its range.
    #[error("the record batch's header is wrong: {0}")]
    Header(&'static str),
    /// A record contradicts the header, or itself.
    #[error("record {index} of the batch is wrong: {why}")]
    Record {
        /// Which one, from 0.
        index: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// The packed records are not what their codec writes.
    #[error("the batch's {codec} data cannot be unpacked ({why}); send the records again")]
    Codec {
        /// What the header says.
        codec: Compression,
        /// What the codec said.
        why: String,
    },
    /// The packed records are more than a batch may hold.
    #[error("the batch's {codec} data unpacks to more than {max_bytes} bytes; split it")]
    Bomb {
        /// What the header says.
        codec: Compression,
        /// What is allowed.
        max_bytes: usize,
    },
    /// The header says another largest timestamp than the records have.
    #[error(
        "the record batch says that its largest timestamp is {stated_ms}, but it is \
         {actual_ms}; send the largest one of its records"
    )]
    MaxTimestamp {
        /// What the header says, in milliseconds since 1970.
        stated_ms: i64,
        /// The largest one of the records.
        actual_ms: i64,
    },
    /// A producer may not send this.
    #[error("the record batch is not one that a producer may send: {0}")]
    Producer(&'static str),
    /// A builder was finished without a record.
    #[error("a record batch needs at least one record")]
    Empty,
    /// A record was pushed that the batch cannot hold.
    #[error("the record batch would need {size_bytes} bytes, more than {max_bytes}; split it")]
    TooLarge {
        /// What it would need.
        size_bytes: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// Timestamps of one batch lie further apart than the format can say.
    #[error("the timestamps of one batch are too far apart; use batches of their own")]
    TimestampRange,
}
