//! Entries of the journal and the parts that they consist of: numbers, layout, decoding. The
//! numbers are in `FORMAT.md`; one without code is refused by its name.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use tidemill_core::{Offset, Partition, TopicId};
use uuid::Uuid;

use crate::batch::Batch;
use crate::limits::{EXPIRY_SEGMENTS_MAX, SWAP_SEGMENTS_MAX};
use crate::machine::{Lsn, PartitionId};
use crate::segment::{Extent, Kept, Times};
use crate::settings::PartitionSettings;

/// Bytes before an entry's parts: their length, their number.
pub(crate) const ENTRY_HEADER_BYTES: usize = 8;
/// Bytes before a part's body: kind, flags, the body's length.
pub(crate) const PART_HEADER_BYTES: usize = 8;
/// Bytes of a partition's name.
pub(crate) const PARTITION_ID_BYTES: usize = 20;
/// Bytes between a records part's header and its batch.
pub(crate) const RECORDS_PREFIX_BYTES: usize = PARTITION_ID_BYTES + 4;
/// Bytes between an effect part's header and the machine's bytes.
pub(crate) const EFFECT_PREFIX_BYTES: usize = 4;

/// Bytes of an entry that is a marker alone.
pub(crate) const MARKER_ENTRY_BYTES: usize = ENTRY_HEADER_BYTES + PART_HEADER_BYTES;

/// Bytes of an entry that begins one segment.
pub(crate) const SEGMENT_ENTRY_BYTES: usize = MARKER_ENTRY_BYTES + PARTITION_ID_BYTES + 8;
/// Bytes of an entry that deletes as many segments as one may.
pub(crate) const EXPIRY_ENTRY_BYTES: usize =
    MARKER_ENTRY_BYTES + PARTITION_ID_BYTES + 4 + 8 * EXPIRY_SEGMENTS_MAX + 8;

/// The flag of a part that who does not know its kind may skip.
pub(crate) const FLAG_SKIPPABLE: u16 = 1;

/// The numbers of the kinds with code.
pub(crate) mod kind {
    pub(crate) const EPOCH: u16 = 0x0001;
    pub(crate) const MARKER: u16 = 0x0002;
    pub(crate) const PARTITION_CREATE: u16 = 0x0010;
    pub(crate) const PARTITION_DELETE: u16 = 0x0011;
    pub(crate) const PARTITION_SETTINGS: u16 = 0x0012;
    pub(crate) const SEGMENT_CREATE: u16 = 0x0020;
    pub(crate) const SEGMENT_ROLL: u16 = 0x0021;
    pub(crate) const SEGMENT_SWAP: u16 = 0x0022;
    pub(crate) const SEGMENT_DELETE: u16 = 0x0023;
    pub(crate) const RECORDS: u16 = 0x0030;
    pub(crate) const EFFECT: u16 = 0x0040;
}

/// Kinds that have a number and a layout in `FORMAT.md`, but no code yet.
const RESERVED: &[(u16, &str)] = &[
    (0x0003, "checkpoint mark"),
    (0x0031, "records by reference"),
    (0x0032, "queue body"),
    (0x0041, "attempt marker"),
];

/// One part of an entry, as recovery reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The log was opened as this incarnation.
    Epoch { epoch: u64, wall_ms: i64 },
    /// Nothing but a commit behind the last one.
    Marker,
    /// A partition begins, at offset 0.
    PartitionCreate(PartitionId),
    /// A partition is gone with all its segments.
    PartitionDelete(PartitionId),
    /// The partition's settings are these from now on.
    PartitionSettings {
        id: PartitionId,
        settings: PartitionSettings,
    },
    /// The partition's next segment begins at this offset.
    SegmentCreate { id: PartitionId, base: Offset },
    /// Segments are deleted, and everything below an offset.
    SegmentDelete {
        id: PartitionId,
        bases: Vec<Offset>,
        earliest: Offset,
    },
    /// Segments are replaced by one that a compaction wrote.
    SegmentSwap { id: PartitionId, swap: Swap },
    /// Records of a partition.
    Records { id: PartitionId, batch: Batch },
    /// A change of the machine's state.
    Effect { kind: u16, bytes: Bytes },
}

/// Why an entry of a whole commit is of no use: it names the entry's part.
pub(crate) type EntryError = String;

/// Writes a partition's name.
pub(crate) fn put_partition(out: &mut Vec<u8>, id: PartitionId) {
    out.extend_from_slice(id.topic.0.as_bytes());
    out.extend_from_slice(&id.partition.0.to_le_bytes());
}

/// Reads a partition's name, `None` where the bytes end before it does.
pub(crate) fn get_partition(bytes: &mut Bytes) -> Option<PartitionId> {
    if bytes.len() < PARTITION_ID_BYTES {
        return None;
    }
    let mut topic = [0; 16];
    bytes.copy_to_slice(&mut topic);
    Some(PartitionId {
        topic: TopicId(Uuid::from_bytes(topic)),
        partition: Partition(bytes.get_u32_le()),
    })
}

/// Bytes of a segment's name, extent and times.
pub(crate) const KEPT_BYTES: usize = 64;

/// Writes a segment as snapshots and the journal name it.
pub(crate) fn put_kept(out: &mut Vec<u8>, kept: &Kept) {
    out.put_u64_le(kept.base.0);
    out.put_u64_le(kept.at.end.0);
    out.put_u64_le(kept.at.bytes);
    out.put_u32_le(kept.at.lines);
    out.put_u32_le(kept.generation);
    out.put_i64_le(kept.at.largest_ms);
    out.put_i64_le(kept.times.begun_ms);
    out.put_i64_le(kept.times.appended_ms);
    out.put_i64_le(kept.times.compacted_ms);
}

/// Reads a segment, of which all [`KEPT_BYTES`] must be there.
pub(crate) fn get_kept(bytes: &mut Bytes) -> Kept {
    let base = Offset(bytes.get_u64_le());
    let end = Offset(bytes.get_u64_le());
    let size_bytes = bytes.get_u64_le();
    let lines = bytes.get_u32_le();
    let generation = bytes.get_u32_le();
    let at = Extent {
        end,
        bytes: size_bytes,
        lines,
        largest_ms: bytes.get_i64_le(),
    };
    let times = Times {
        begun_ms: bytes.get_i64_le(),
        appended_ms: bytes.get_i64_le(),
        compacted_ms: bytes.get_i64_le(),
    };
    Kept {
        base,
        generation,
        times,
        at,
    }
}

/// What a compaction replaces in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    /// Everything below is compacted then.
    pub(crate) cleaned: Offset,
    /// First offset and generation of each segment that goes.
    pub(crate) old: Vec<(Offset, u32)>,
    /// What comes for them; `None` where nothing goes either.
    pub(crate) new: Option<Kept>,
}

/// Bytes of an entry that swaps as many segments as one may.
pub(crate) const SWAP_ENTRY_BYTES: usize = MARKER_ENTRY_BYTES
    + PARTITION_ID_BYTES
    + SWAP_PREFIX_BYTES
    + SWAP_OLD_BYTES * SWAP_SEGMENTS_MAX
    + KEPT_BYTES;
/// Bytes before the first old segment.
const SWAP_PREFIX_BYTES: usize = 16;
/// Bytes of an old segment's name.
const SWAP_OLD_BYTES: usize = 12;

impl Swap {
    pub(crate) fn size_bytes(&self) -> usize {
        let new = if self.new.is_some() { KEPT_BYTES } else { 0 };
        SWAP_PREFIX_BYTES + SWAP_OLD_BYTES * self.old.len() + new
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.cleaned.0);
        let count = u32::try_from(self.old.len()).expect("an entry swaps a few segments");
        out.put_u32_le(count);
        out.put_u32_le(u32::from(self.new.is_some()));
        for (base, generation) in &self.old {
            out.put_u64_le(base.0);
            out.put_u32_le(*generation);
        }
        if let Some(new) = &self.new {
            put_kept(out, new);
        }
    }

    /// Where the old segments lie among those with these first offsets and generations.
    pub(crate) fn place(&self, names: &[(Offset, u32)]) -> Option<Range<usize>> {
        let count = self.old.len();
        let at = names
            .windows(count.max(1))
            .position(|some| some == self.old)?;
        Some(at..at + count)
    }

    fn get(body: &mut Bytes) -> Option<Self> {
        if body.len() < SWAP_PREFIX_BYTES {
            return None;
        }
        let cleaned = Offset(body.get_u64_le());
        let (old, new) = (body.get_u32_le() as usize, body.get_u32_le() as usize);
        let bytes = old.checked_mul(SWAP_OLD_BYTES)?;
        if new > 1 || Some(body.len()) != bytes.checked_add(new * KEPT_BYTES) {
            return None;
        }
        let old = (0..old).map(|_| (Offset(body.get_u64_le()), body.get_u32_le()));
        Some(Self {
            cleaned,
            old: old.collect(),
            new: (new > 0).then(|| get_kept(body)),
        })
    }
}

/// Reads the entries of one commit's payload, the first of which has the number `first`.
pub(crate) fn decode(
    mut payload: Bytes,
    count: u32,
    first: Lsn,
    mut each: impl FnMut(Lsn, Vec<Part>) -> Result<(), EntryError>,
) -> Result<(), (Lsn, EntryError)> {
    let mut lsn = first;
    for _ in 0..count {
        let parts = take_entry(&mut payload).map_err(|why| (lsn, why))?;
        each(lsn, parts).map_err(|why| (lsn, why))?;
        lsn = lsn.next();
    }
    if payload.is_empty() {
        return Ok(());
    }
    Err((
        lsn,
        format!("{} bytes follow the last entry", payload.len()),
    ))
}

fn take_entry(payload: &mut Bytes) -> Result<Vec<Part>, EntryError> {
    if payload.len() < ENTRY_HEADER_BYTES {
        return Err("the commit ends inside of an entry's header".into());
    }
    let length = payload.get_u32_le() as usize;
    let count = payload.get_u32_le();
    if length > payload.len() {
        return Err("the entry is longer than its commit".into());
    }
    let mut body = payload.split_to(length);
    let mut parts = Vec::with_capacity((count as usize).min(length / PART_HEADER_BYTES));
    for _ in 0..count {
        if let Some(part) = take_part(&mut body)? {
            parts.push(part);
        }
    }
    if body.is_empty() {
        return Ok(parts);
    }
    Err(format!("{} bytes follow the entry's last part", body.len()))
}

fn take_part(entry: &mut Bytes) -> Result<Option<Part>, EntryError> {
    if entry.len() < PART_HEADER_BYTES {
        return Err("the entry ends inside of a part's header".into());
    }
    let kind = entry.get_u16_le();
    let flags = entry.get_u16_le();
    let length = entry.get_u32_le() as usize;
    if length > entry.len() {
        return Err(format!(
            "a part of kind {kind:#06x} is longer than its entry"
        ));
    }
    let body = entry.split_to(length);
    if is_known(kind) {
        return match known_part(kind, body) {
            Some(part) => Ok(Some(part)),
            None => Err(format!("a part of kind {kind:#06x} has a wrong body")),
        };
    }
    if flags & FLAG_SKIPPABLE != 0 {
        return Ok(None);
    }
    let name = RESERVED
        .iter()
        .find(|(number, _)| *number == kind)
        .map_or("unknown", |(_, name)| name);
    Err(format!(
        "its kind {kind:#06x} ({name}) is not supported by this version; use a newer one"
    ))
}

fn is_known(kind: u16) -> bool {
    use kind::*;
    matches!(
        kind,
        EPOCH
            | MARKER
            | PARTITION_CREATE
            | PARTITION_DELETE
            | PARTITION_SETTINGS
            | SEGMENT_CREATE
            | SEGMENT_ROLL
            | SEGMENT_SWAP
            | SEGMENT_DELETE
            | RECORDS
            | EFFECT
    )
}

fn known_part(kind: u16, mut body: Bytes) -> Option<Part> {
    let part = match kind {
        kind::EPOCH if body.len() == 16 => Part::Epoch {
            epoch: body.get_u64_le(),
            wall_ms: body.get_i64_le(),
        },
        kind::MARKER => Part::Marker,
        kind::PARTITION_CREATE => Part::PartitionCreate(get_partition(&mut body)?),
        kind::PARTITION_DELETE => Part::PartitionDelete(get_partition(&mut body)?),
        kind::PARTITION_SETTINGS => {
            let id = get_partition(&mut body)?;
            if body.len() < 4 {
                return None;
            }
            let count = body.get_u32_le() as usize;
            let settings = PartitionSettings::get(&mut body, count)?;
            Part::PartitionSettings { id, settings }
        }
        kind::SEGMENT_CREATE | kind::SEGMENT_ROLL => {
            let id = get_partition(&mut body)?;
            if body.len() != 8 {
                return None;
            }
            let base = Offset(body.get_u64_le());
            Part::SegmentCreate { id, base }
        }
        kind::SEGMENT_SWAP => {
            let id = get_partition(&mut body)?;
            let swap = Swap::get(&mut body)?;
            Part::SegmentSwap { id, swap }
        }
        kind::SEGMENT_DELETE => segment_delete(&mut body)?,
        kind::RECORDS => {
            let id = get_partition(&mut body)?;
            if body.len() < 4 {
                return None;
            }
            body.advance(4);
            let (batch, rest) = Batch::parse(body).ok()?;
            body = rest;
            Part::Records { id, batch }
        }
        kind::EFFECT => {
            if body.len() < EFFECT_PREFIX_BYTES {
                return None;
            }
            let kind = body.get_u16_le();
            body.advance(2);
            let bytes = std::mem::take(&mut body);
            Part::Effect { kind, bytes }
        }
        _ => return None,
    };
    body.is_empty().then_some(part)
}

fn segment_delete(body: &mut Bytes) -> Option<Part> {
    let id = get_partition(body)?;
    if body.len() < 4 {
        return None;
    }
    let count = body.get_u32_le() as usize;
    if Some(body.len()) != count.checked_mul(8)?.checked_add(8) {
        return None;
    }
    let bases = (0..count).map(|_| Offset(body.get_u64_le())).collect();
    let earliest = Offset(body.get_u64_le());
    Some(Part::SegmentDelete {
        id,
        bases,
        earliest,
    })
}
