//! The record that failed, kept in its dead letter: what an event cannot tell of a record that a
//! stranger wrote, so that it can be given back byte for byte.
//!
//! A dead letter is an event, and its record has the header [`HEADER`] where the failed record is
//! not the one that its event would be written as: `version` (1 byte, 1), then the key, the value
//! and the headers. Numbers are unsigned LEB128 varints. The key, and each header's value, is its
//! length plus one, and its bytes; 0 where it is null. The value is one byte, 0 where it is the
//! letter's own, or 1, its length and its bytes. The headers are their count, and for each its
//! name's length, its name and its value.
//!
//! This room may not know why something is a dead letter, nor where letters are kept.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tidemill_core::binding::Encoded;
use tidemill_core::budget::{Class, Share};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::{Event, FetchError, GroupName, Offset, Position, PublishError, varint};
use tidemill_log::batch::Record;
use tidemill_log::limits::BATCH_MAX_BYTES;
use tidemill_log::{Batch, BatchBuilder, PartitionId, ReadError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::broker::Inner;
use crate::encode::refused;
use crate::fetch::{Trouble, read_once};
use crate::limits::{
    FETCH_MEMORY_WAIT, MEMORY_AGAIN_AFTER, ORIGINALS_KEPT, READ_LEAST_BYTES, READ_TRIES_MAX,
};
use crate::metrics::add;

/// The header of a dead letter's record that keeps the failed record.
pub(crate) const HEADER: &str = "tidemill_record";
/// The layout that is written, and the only one that is read.
const VERSION: u8 = 1;
/// What the attributes of a dead letter may have in its record.
const ATTRIBUTES_MAX_BYTES: usize = 128 * 1024;

/// An event that is to be kept as a dead letter, and its record where that is more.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) event: Event,
    /// What [`original`] gave.
    pub(crate) original: Option<Bytes>,
}

impl Letter {
    /// Roughly how many bytes it needs in memory and in the log.
    pub(crate) fn size_bytes(&self) -> usize {
        self.event.size_bytes() + self.original.as_ref().map_or(0, Bytes::len)
    }
}

/// Whether a dead letter that was refused so will be refused always: it is larger than a record
/// batch may be, or no event.
pub(crate) fn is_unwritable(why: &PublishError) -> bool {
    matches!(
        why,
        PublishError::TooLarge { .. } | PublishError::Invalid(_)
    )
}

/// Reads records that are given up, one after the other: what was read for one is there for others
/// of the same batches, until nobody has asked for [`ORIGINALS_KEPT`].
#[derive(Debug, Default)]
pub(crate) struct Originals {
    /// How often somebody asked.
    asked: AtomicU64,
    last: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: Option<Last>,
    /// A task waits to forget it.
    watched: bool,
}

/// What was read last.
#[derive(Debug)]
struct Last {
    id: PartitionId,
    batches: Vec<Batch>,
    _share: Share,
}

impl Last {
    /// The batch in which an offset lies.
    fn batch(&self, id: PartitionId, offset: Offset) -> Option<&Batch> {
        let holds = |batch: &&Batch| (batch.base_offset()..=batch.last_offset()).contains(&offset);
        self.batches.iter().find(holds).filter(|_| self.id == id)
    }
}

impl Originals {
    /// Has forgotten what is kept, in its time. Ends before that where the broker is gone.
    async fn forget(all: Weak<Self>) {
        let mut asked = None;
        loop {
            let Some(all) = all.upgrade() else {
                return;
            };
            let now = all.asked.load(Ordering::Acquire);
            if asked.replace(now) == Some(now) {
                *all.last.lock().await = Kept::default();
                return;
            }
            drop(all);
            tokio::time::sleep(ORIGINALS_KEPT).await;
        }
    }
}

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

impl Written {
    /// A batch of this record alone, of the time `timestamp_ms`.
    pub(crate) fn to_batch(&self, timestamp_ms: i64) -> Result<Batch, PublishError> {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_deref()));
        let mut builder = BatchBuilder::new();
        builder
            .push(
                timestamp_ms,
                self.key.as_deref(),
                self.value.as_deref(),
                headers,
            )
            .map_err(refused)?;
        builder.finish().map_err(refused)
    }
}

/// What a dead letter of `event` has to keep of the record that `event` was read from. `None`
/// where a redrive of the event writes this record, and where there is no room for both in one
/// record batch.
pub(crate) fn original(record: &Record, event: &Event) -> Option<Bytes> {
    let plain = DeadLetter::from_event(event)
        .ok()
        .map(|letter| letter.event);
    let plain = plain.as_ref().unwrap_or(event);
    let encoded = Encoded::new(plain);
    let same_headers = || {
        let have = record
            .headers
            .iter()
            .map(|header| (header.name, header.value));
        let would = encoded.headers();
        have.eq(would.map(|(name, value)| (name, value.map(Bytes::copy_from_slice))))
    };
    let same_value = record.value.as_deref() == encoded.value();
    if record.key.as_deref() == encoded.key() && same_value && same_headers() {
        return None;
    }
    let mut out = vec![VERSION];
    put_nullable(&mut out, record.key.as_deref());
    // The letter's value is the event's data, and no data is none.
    match record.value.as_deref().filter(|_| !same_value) {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(&mut out, value);
        }
    }
    varint::put(&mut out, record.headers.len() as u64);
    for header in record.headers.iter() {
        put(&mut out, header.name.as_bytes());
        put_nullable(&mut out, header.value.as_deref());
    }
    let letter_bytes = event.size_bytes() + out.len() + ATTRIBUTES_MAX_BYTES;
    (letter_bytes <= BATCH_MAX_BYTES).then(|| Bytes::from(out))
}

/// The record that the record of a dead letter keeps; `None` where it keeps none, or none that can
/// be read.
pub(crate) fn kept(letter: &Record) -> Option<Written> {
    let mut headers = letter.headers.iter();
    let header = headers.find(|header| header.name == HEADER)?;
    let bytes = header.value?;
    let mut rest = bytes.strip_prefix(&[VERSION])?;
    let key = take_nullable(&bytes, &mut rest)?;
    let (own_value, after) = rest.split_first()?;
    rest = after;
    let value = match own_value {
        0 => letter.value.clone(),
        1 => Some(take(&bytes, &mut rest)?),
        _ => return None,
    };
    let count = take_number(&mut rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take(&bytes, &mut rest)?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        headers.push((name, take_nullable(&bytes, &mut rest)?));
    }
    rest.is_empty().then_some(Written {
        key,
        value,
        headers,
    })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, 0),
        Some(bytes) => {
            varint::put(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = varint::take(rest)?;
    *rest = after;
    usize::try_from(number).ok()
}

fn take_bytes(all: &Bytes, rest: &mut &[u8], count: usize) -> Option<Bytes> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(all.slice_ref(taken))
}

fn take(all: &Bytes, rest: &mut &[u8]) -> Option<Bytes> {
    let count = take_number(rest)?;
    take_bytes(all, rest, count)
}

fn take_nullable(all: &Bytes, rest: &mut &[u8]) -> Option<Option<Bytes>> {
    match take_number(rest)?.checked_sub(1) {
        None => Some(None),
        Some(count) => take_bytes(all, rest, count).map(Some),
    }
}

impl Inner {
    /// Events of a group are settled without dead letters, which can never be kept. Nobody waits
    /// for that who could be told; to try it again would hold the group's position where it is for
    /// ever.
    pub(crate) fn unwritable(&self, group: &GroupName, at: &Position, why: &dyn fmt::Display) {
        tracing::error!(
            %group, %at, %why,
            "an event is given up without a dead letter, which can never be kept: read it by its \
             offset, for as long as its topic keeps it"
        );
        add(&self.counters.unwritable_letters, 1);
    }

    /// One record; `None` where there is none (any more), or it is damaged.
    ///
    /// Records of the same batches that are asked for soon after each other are read once.
    ///
    /// # Errors
    /// Where it cannot be read now.
    pub(crate) async fn record(
        &self,
        id: PartitionId,
        offset: Offset,
    ) -> Result<Option<Record>, FetchError> {
        let originals = &self.originals;
        let mut kept = originals.last.lock().await;
        originals.asked.fetch_add(1, Ordering::AcqRel);
        let have = kept.last.as_ref().and_then(|last| last.batch(id, offset));
        if have.is_none() {
            // Given back before more is taken.
            kept.last = None;
            kept.last = self.read_original(id, offset).await?;
            if !std::mem::replace(&mut kept.watched, true) {
                tokio::spawn(Originals::forget(Arc::downgrade(originals)));
            }
        }
        let batch = kept.last.as_ref().and_then(|last| last.batch(id, offset));
        let records = batch.and_then(|batch| batch.checked_records().ok());
        let mut records = records.into_iter().flatten().map_while(Result::ok);
        Ok(records.find(|record| record.offset == offset))
    }

    async fn read_original(
        &self,
        id: PartitionId,
        offset: Offset,
    ) -> Result<Option<Last>, FetchError> {
        let catalog = self.durable.catalog();
        let (Some(topic), Some(stable)) = (catalog.name(id.topic), self.stable(id)) else {
            return Ok(None);
        };
        let mut share = self.settings.memory.empty(Class::Reads);
        let (mut needs, mut tries) = (READ_LEAST_BYTES, 1);
        let batches = loop {
            self.room_for_original(&mut share, needs).await;
            match read_once(self, id, offset, needs, &stable).await {
                Ok(batches) => break batches.unwrap_or_default(),
                Err(Trouble::Room(bytes)) if bytes > needs => needs = bytes,
                Err(Trouble::Read(ReadError::Gone(_))) if tries < READ_TRIES_MAX => tries += 1,
                Err(Trouble::OutOfRange { .. } | Trouble::Unknown) => return Ok(None),
                Err(trouble) => match trouble.of(topic, offset) {
                    FetchError::Damaged { .. } => return Ok(None),
                    why => return Err(why),
                },
            }
        };
        Ok(Some(Last {
            id,
            batches,
            _share: share,
        }))
    }

    /// Makes the memory of a read so much. Where it is short it waits for other reads, which give
    /// theirs back; but not for ever: whoever gives something up may hold what others wait for, and
    /// must come to an end. Then it goes beyond the limit, one read at a time, and so it does for
    /// what is more than all reads may have.
    async fn room_for_original(&self, share: &mut Share, bytes: usize) {
        let more = bytes.saturating_sub(share.bytes());
        let until = Instant::now() + FETCH_MEMORY_WAIT;
        while !share.grow(more) {
            let huge = bytes > self.settings.memory.max(Class::Reads);
            if huge || Instant::now() >= until {
                share.grow_anyway(more);
                return;
            }
            tokio::time::sleep(MEMORY_AGAIN_AFTER).await;
        }
    }
}
