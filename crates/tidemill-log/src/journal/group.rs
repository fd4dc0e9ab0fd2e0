//! A group: the entries of one commit while they are sealed. Small things are copied into one
//! buffer, large batches stay where they lie.

use std::ops::Range;

use bytes::Bytes;
use tidemill_core::Offset;

use super::entry::{
    EFFECT_PREFIX_BYTES, ENTRY_HEADER_BYTES, PARTITION_ID_BYTES, RECORDS_PREFIX_BYTES, Swap, kind,
    put_partition,
};
use crate::batch::Batch;
use crate::limits::INLINE_BATCH_BYTES;
use crate::machine::{Lsn, PartitionId};
use crate::settings::PartitionSettings;

/// What a sealed part will do to the log once it is durable.
#[derive(Clone, Debug)]
pub(crate) enum Sealed {
    /// A partition begins.
    Create(PartitionId),
    /// A partition ends.
    Delete(PartitionId),
    /// A partition's settings are these.
    Settings {
        id: PartitionId,
        settings: PartitionSettings,
    },
    /// A segment may now be made.
    Segment { id: PartitionId, base: Offset },
    /// Segments, and everything below an offset, may go.
    Trim {
        id: PartitionId,
        bases: Vec<Offset>,
        earliest: Offset,
    },
    /// Segments were written anew.
    Swap { id: PartitionId, swap: Swap },
    /// Records, at their final offsets.
    Records { id: PartitionId, batch: Batch },
    /// An effect, whose bytes lie in this range of [`Group::buffer`].
    Effect { kind: u16, range: Range<usize> },
}

/// Entries that are being sealed.
#[derive(Debug, Default)]
pub(crate) struct GroupBuilder {
    buffer: Vec<u8>,
    /// Large batches, each with the length that the buffer had before it.
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
    parts: Vec<(Lsn, Sealed)>,
    first: Lsn,
    next: Lsn,
    /// Where the entry that is open began, to go back to.
    entry: EntryStart,
    entry_parts: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct EntryStart {
    buffer: usize,
    large: usize,
    large_bytes: usize,
    parts: usize,
}

/// The entries of one commit, ready to be written.
#[derive(Debug)]
pub(crate) struct Group {
    /// The number of the first entry.
    pub(crate) first: Lsn,
    /// How many entries there are.
    pub(crate) count: u32,
    /// The small parts' bytes.
    pub(crate) buffer: Bytes,
    /// The payload in order.
    pub(crate) pieces: Vec<Bytes>,
    /// What to do once it is durable.
    pub(crate) parts: Vec<(Lsn, Sealed)>,
}

impl Group {
    /// The number of the last entry; the one before the first where there is none.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.first.0 + u64::from(self.count) - 1)
    }
}

impl GroupBuilder {
    /// An empty group whose first entry will have the number `first`.
    pub(crate) fn new(first: Lsn) -> Self {
        Self {
            first,
            next: first,
            ..Self::default()
        }
    }

    /// Bytes of payload so far.
    pub(crate) fn size_bytes(&self) -> usize {
        self.buffer.len() + self.large_bytes
    }

    /// Whether no entry was kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.first
    }

    /// Opens the next entry.
    pub(crate) fn begin(&mut self) {
        self.entry = EntryStart {
            buffer: self.buffer.len(),
            large: self.large.len(),
            large_bytes: self.large_bytes,
            parts: self.parts.len(),
        };
        self.entry_parts = 0;
        self.buffer.extend_from_slice(&[0; ENTRY_HEADER_BYTES]);
    }

    /// Forgets the entry that is open.
    pub(crate) fn forget(&mut self) {
        self.buffer.truncate(self.entry.buffer);
        self.large.truncate(self.entry.large);
        self.large_bytes = self.entry.large_bytes;
        self.parts.truncate(self.entry.parts);
    }

    /// Keeps the entry that is open, unless it has no parts; answers its number if it was kept.
    pub(crate) fn keep(&mut self) -> Option<Lsn> {
        if self.entry_parts == 0 {
            self.forget();
            return None;
        }
        let start = self.entry.buffer;
        let length = self.buffer.len() - start - ENTRY_HEADER_BYTES + self.large_bytes
            - self.entry.large_bytes;
        let length = u32::try_from(length).expect("an operation has less than 4 GiB");
        let header = self
            .buffer
            .get_mut(start..)
            .expect("the header was written by begin");
        for (to, byte) in header.iter_mut().zip(
            length
                .to_le_bytes()
                .into_iter()
                .chain(self.entry_parts.to_le_bytes()),
        ) {
            *to = byte;
        }
        let lsn = self.next;
        self.next = lsn.next();
        Some(lsn)
    }

    fn part(&mut self, kind: u16, length: usize) {
        let length = u32::try_from(length).expect("a part has less than 4 GiB");
        self.buffer.extend_from_slice(&kind.to_le_bytes());
        self.buffer.extend_from_slice(&0u16.to_le_bytes());
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.entry_parts += 1;
    }

    /// Adds the entry of an opening.
    pub(crate) fn epoch(&mut self, epoch: u64, wall_ms: i64) {
        self.part(kind::EPOCH, 16);
        self.buffer.extend_from_slice(&epoch.to_le_bytes());
        self.buffer.extend_from_slice(&wall_ms.to_le_bytes());
    }

    /// Adds a marker.
    pub(crate) fn marker(&mut self) {
        self.part(kind::MARKER, 0);
    }

    /// Adds the beginning of a partition.
    pub(crate) fn create(&mut self, id: PartitionId) {
        self.part(kind::PARTITION_CREATE, PARTITION_ID_BYTES);
        put_partition(&mut self.buffer, id);
        self.parts.push((self.next, Sealed::Create(id)));
    }

    /// Adds the end of a partition.
    pub(crate) fn delete(&mut self, id: PartitionId) {
        self.part(kind::PARTITION_DELETE, PARTITION_ID_BYTES);
        put_partition(&mut self.buffer, id);
        self.parts.push((self.next, Sealed::Delete(id)));
    }

    /// Adds a partition's settings.
    pub(crate) fn settings(&mut self, id: PartitionId, settings: PartitionSettings) {
        let length = PARTITION_ID_BYTES + 4 + settings.size_bytes();
        self.part(kind::PARTITION_SETTINGS, length);
        put_partition(&mut self.buffer, id);
        let count = u32::try_from(settings.count()).expect("there are a few settings");
        self.buffer.extend_from_slice(&count.to_le_bytes());
        settings.put(&mut self.buffer);
        self.parts
            .push((self.next, Sealed::Settings { id, settings }));
    }

    /// Adds the beginning of a segment; `roll` says that the partition has one already.
    pub(crate) fn segment(&mut self, id: PartitionId, base: Offset, roll: bool) {
        let number = if roll {
            kind::SEGMENT_ROLL
        } else {
            kind::SEGMENT_CREATE
        };
        self.part(number, PARTITION_ID_BYTES + 8);
        put_partition(&mut self.buffer, id);
        self.buffer.extend_from_slice(&base.0.to_le_bytes());
        self.parts.push((self.next, Sealed::Segment { id, base }));
    }

    /// Adds the end of everything below an offset, and of these segments.
    pub(crate) fn trim(&mut self, id: PartitionId, bases: Vec<Offset>, earliest: Offset) {
        let length = PARTITION_ID_BYTES + 4 + 8 * bases.len() + 8;
        self.part(kind::SEGMENT_DELETE, length);
        put_partition(&mut self.buffer, id);
        let count = u32::try_from(bases.len()).expect("an entry deletes a few segments");
        self.buffer.extend_from_slice(&count.to_le_bytes());
        for base in bases.iter().chain([&earliest]) {
            self.buffer.extend_from_slice(&base.0.to_le_bytes());
        }
        let sealed = Sealed::Trim {
            id,
            bases,
            earliest,
        };
        self.parts.push((self.next, sealed));
    }

    /// Adds that segments are replaced by one that was written anew.
    pub(crate) fn swap(&mut self, id: PartitionId, swap: Swap) {
        self.part(kind::SEGMENT_SWAP, PARTITION_ID_BYTES + swap.size_bytes());
        put_partition(&mut self.buffer, id);
        swap.put(&mut self.buffer);
        self.parts.push((self.next, Sealed::Swap { id, swap }));
    }

    /// Adds records at the offset that they have.
    pub(crate) fn records(&mut self, id: PartitionId, batch: Batch) {
        let bytes = batch.as_bytes();
        self.part(kind::RECORDS, RECORDS_PREFIX_BYTES + bytes.len());
        put_partition(&mut self.buffer, id);
        self.buffer.extend_from_slice(&[0; 4]);
        if bytes.len() <= INLINE_BATCH_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.large.push((self.buffer.len(), bytes.clone()));
            self.large_bytes += bytes.len();
        }
        self.parts.push((self.next, Sealed::Records { id, batch }));
    }

    /// Adds a change of the machine's state.
    pub(crate) fn effect(&mut self, number: u16, bytes: &[u8]) {
        self.part(kind::EFFECT, EFFECT_PREFIX_BYTES + bytes.len());
        self.buffer.extend_from_slice(&number.to_le_bytes());
        self.buffer.extend_from_slice(&[0; 2]);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let range = start..self.buffer.len();
        self.parts.push((
            self.next,
            Sealed::Effect {
                kind: number,
                range,
            },
        ));
    }

    /// Ends the group.
    pub(crate) fn finish(self) -> Group {
        let buffer = Bytes::from(self.buffer);
        let mut pieces = Vec::with_capacity(2 * self.large.len() + 1);
        let mut start = 0;
        for (end, bytes) in self.large {
            pieces.push(buffer.slice(start..end));
            pieces.push(bytes);
            start = end;
        }
        if start < buffer.len() {
            pieces.push(buffer.slice(start..));
        }
        Group {
            first: self.first,
            count: u32::try_from(self.next.0 - self.first.0).expect("a group is bounded"),
            buffer,
            pieces,
            parts: self.parts,
        }
    }
}
