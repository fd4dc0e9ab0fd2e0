//! Snapshots: the machine's durable state and the log's own table of partitions and segments,
//! in chunks, each with the LSN that it holds everything up to. Layout: `FORMAT.md`.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use tidemill_core::Offset;

use crate::io::Action;
use crate::journal::entry::{KEPT_BYTES, get_kept, get_partition, put_kept, put_partition};
use crate::limits::{SNAPSHOT_CHUNK_MAX_BYTES, TABLE_CHUNK_BYTES};
use crate::log::removal::Gone;
use crate::machine::{Lsn, PartitionId};
use crate::segment::Kept;
use crate::settings::PartitionSettings;

/// The folder of snapshots.
pub(crate) const SNAPSHOTS_DIR: &str = "snapshots";

const MAGIC: [u8; 4] = *b"TMSC";
pub(crate) const CHUNK_HEADER_BYTES: usize = 32;
/// The checksum covers everything after itself.
const CRC_COVERS_FROM: usize = 8;

pub(crate) const KIND_MACHINE: u16 = 1;
pub(crate) const KIND_TABLE: u16 = 2;
pub(crate) const KIND_HOUSEKEEPING: u16 = 4;
pub(crate) const KIND_FOOTER: u16 = 0xffff;
/// The flag of a chunk that who does not know its kind may skip.
pub(crate) const FLAG_SKIPPABLE: u16 = 1;

/// The path of a snapshot.
pub(crate) fn snapshot_path(number: u64) -> Arc<str> {
    format!("{SNAPSHOTS_DIR}/{number:020}.snapshot").into()
}

/// The number of the snapshot with this name.
pub(crate) fn snapshot_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snapshot")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// A partition in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) id: PartitionId,
    pub(crate) earliest: Offset,
    /// How far it is compacted.
    pub(crate) cleaned: Offset,
    pub(crate) settings: PartitionSettings,
    /// Every incarnation that wrote to it, with its first offset.
    pub(crate) epochs: Vec<(u64, Offset)>,
    /// Its segments in order.
    pub(crate) segments: Vec<Kept>,
}

impl TableEntry {
    fn put(&self, out: &mut Vec<u8>) {
        put_partition(out, self.id);
        out.put_u64_le(self.earliest.0);
        out.put_u64_le(self.cleaned.0);
        out.put_u32_le(self.settings.count() as u32);
        out.put_u32_le(self.epochs.len() as u32);
        out.put_u32_le(self.segments.len() as u32);
        out.put_u32_le(0);
        self.settings.put(out);
        for (epoch, start) in &self.epochs {
            out.put_u64_le(*epoch);
            out.put_u64_le(start.0);
        }
        for kept in &self.segments {
            put_kept(out, kept);
        }
    }

    fn get(bytes: &mut Bytes) -> Option<Self> {
        let id = get_partition(bytes)?;
        if bytes.len() < 32 {
            return None;
        }
        let earliest = Offset(bytes.get_u64_le());
        let cleaned = Offset(bytes.get_u64_le());
        let setting_count = bytes.get_u32_le() as usize;
        let epoch_count = bytes.get_u32_le() as usize;
        let segment_count = bytes.get_u32_le() as usize;
        bytes.advance(4);
        let settings = PartitionSettings::get(bytes, setting_count)?;
        let needed = epoch_count
            .checked_mul(16)?
            .checked_add(segment_count.checked_mul(KEPT_BYTES)?)?;
        if bytes.len() < needed {
            return None;
        }
        let epochs = (0..epoch_count)
            .map(|_| (bytes.get_u64_le(), Offset(bytes.get_u64_le())))
            .collect();
        let segments = (0..segment_count).map(|_| get_kept(bytes)).collect();
        Some(Self {
            id,
            earliest,
            cleaned,
            settings,
            epochs,
            segments,
        })
    }
}

/// What else the log keeps for its next opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Housekeeping {
    /// What ages are judged by, in milliseconds since 1970.
    pub(crate) clock_ms: Option<i64>,
    /// What is deleted and may still be on the disk.
    pub(crate) gone: Vec<Gone>,
}

impl Housekeeping {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_i64_le(self.clock_ms.unwrap_or(-1));
        for gone in &self.gone {
            put_partition(out, gone.id());
            let (kind, base, generation) = match gone {
                Gone::Partition(_) => (0, Offset(0), 0),
                Gone::Segment {
                    base, generation, ..
                } => (1, *base, *generation),
            };
            out.put_u32_le(kind);
            out.put_u64_le(base.0);
            out.put_u32_le(generation);
            out.put_u32_le(0);
        }
    }

    pub(crate) fn get(mut bytes: Bytes, into: &mut Self) -> Option<()> {
        if bytes.len() < 8 {
            return None;
        }
        let clock_ms = bytes.get_i64_le();
        into.clock_ms = (clock_ms >= 0).then_some(clock_ms);
        while !bytes.is_empty() {
            let id = get_partition(&mut bytes)?;
            if bytes.len() < 20 {
                return None;
            }
            let kind = bytes.get_u32_le();
            let base = Offset(bytes.get_u64_le());
            let generation = bytes.get_u32_le();
            bytes.advance(4);
            into.gone.push(match kind {
                0 => Gone::Partition(id),
                1 => Gone::Segment {
                    id,
                    base,
                    generation,
                },
                _ => return None,
            });
        }
        Some(())
    }
}

/// A snapshot while it is written. All of its chunks hold everything up to `lsn`.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    lsn: Lsn,
    path: Arc<str>,
    /// What was added and not written yet.
    pieces: Vec<Bytes>,
    /// How many bytes were written.
    position: u64,
    chunks: u32,
    table: Vec<u8>,
}

impl SnapshotWriter {
    pub(crate) fn new(lsn: Lsn, number: u64) -> Self {
        Self {
            lsn,
            path: snapshot_path(number),
            pieces: Vec::new(),
            position: 0,
            chunks: 0,
            table: Vec::new(),
        }
    }

    /// Adds a chunk of the machine's.
    pub(crate) fn machine(&mut self, chunk: Vec<u8>) {
        assert!(
            chunk.len() <= SNAPSHOT_CHUNK_MAX_BYTES,
            "a chunk of the machine's snapshot has {} bytes, more than {SNAPSHOT_CHUNK_MAX_BYTES}",
            chunk.len()
        );
        self.chunk(KIND_MACHINE, Bytes::from(chunk));
    }

    /// Adds a partition to the table.
    pub(crate) fn partition(&mut self, entry: &TableEntry) {
        entry.put(&mut self.table);
        if self.table.len() >= TABLE_CHUNK_BYTES {
            self.end_table();
        }
    }

    /// Adds what else the log keeps.
    pub(crate) fn housekeeping(&mut self, kept: &Housekeeping) {
        self.end_table();
        let mut payload = Vec::new();
        kept.put(&mut payload);
        self.chunk(KIND_HOUSEKEEPING, Bytes::from(payload));
    }

    fn end_table(&mut self) {
        if !self.table.is_empty() {
            let chunk = std::mem::take(&mut self.table);
            self.chunk(KIND_TABLE, Bytes::from(chunk));
        }
    }

    fn chunk(&mut self, kind: u16, payload: Bytes) {
        let mut header = Vec::with_capacity(CHUNK_HEADER_BYTES);
        header.put_slice(&MAGIC);
        header.put_u32_le(0);
        header.put_u16_le(kind);
        header.put_u16_le(0);
        header.put_u32_le(u32::try_from(payload.len()).expect("chunks are bounded"));
        header.put_u64_le(self.lsn.0);
        header.put_u32_le(self.chunks);
        header.put_u32_le(0);
        let crc = crc32c::crc32c(header.get(CRC_COVERS_FROM..).unwrap_or_default());
        let crc = crc32c::crc32c_append(crc, &payload);
        for (to, byte) in header.iter_mut().skip(4).zip(crc.to_le_bytes()) {
            *to = byte;
        }
        self.pieces.push(Bytes::from(header));
        self.pieces.push(payload);
        self.chunks += 1;
    }

    /// What writes the chunks that were added since the last time.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.position == 0 {
            actions.push(Action::Create(self.path.clone()));
        }
        let pieces = std::mem::take(&mut self.pieces);
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        actions.push(Action::Write {
            path: self.path.clone(),
            position: self.position,
            pieces,
        });
        self.position += bytes as u64;
        actions
    }

    /// How many bytes were written or are to be written by what was taken.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.position
    }

    /// What writes the rest of the snapshot and makes it durable.
    pub(crate) fn finish(&mut self) -> Vec<Action> {
        self.end_table();
        let mut footer = Vec::new();
        footer.put_u32_le(self.chunks);
        footer.put_u32_le(0);
        self.chunk(KIND_FOOTER, Bytes::from(footer));
        let mut actions = self.take();
        actions.push(Action::Sync(self.path.clone()));
        actions.push(Action::SyncDir(SNAPSHOTS_DIR.into()));
        actions
    }
}

/// A snapshot that was read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Every chunk holds everything up to here.
    pub(crate) lsn: Lsn,
    /// How long it is.
    pub(crate) bytes: u64,
    pub(crate) machine: Vec<Bytes>,
    pub(crate) table: Vec<TableEntry>,
    pub(crate) housekeeping: Housekeeping,
}

/// Reads a snapshot back. The error says what is wrong with it.
pub(crate) fn decode(mut bytes: Bytes) -> Result<Snapshot, String> {
    let length = bytes.len() as u64;
    let mut machine = Vec::new();
    let mut table = Vec::new();
    let mut housekeeping = Housekeeping::default();
    let mut snapshot_lsn = None;
    for index in 0.. {
        let (kind, flags, lsn, payload) = take_chunk(&mut bytes, index)?;
        if *snapshot_lsn.get_or_insert(lsn) != lsn {
            return Err(format!("chunk {index} is of another moment than the first"));
        }
        match kind {
            KIND_MACHINE => machine.push(payload),
            KIND_TABLE => read_table(payload, &mut table)
                .ok_or_else(|| format!("chunk {index} is no table of partitions"))?,
            KIND_HOUSEKEEPING => Housekeeping::get(payload, &mut housekeeping)
                .ok_or_else(|| format!("chunk {index} is no list of what was deleted"))?,
            KIND_FOOTER if payload.len() == 8 && payload.clone().get_u32_le() == index => break,
            KIND_FOOTER => return Err("the footer counts other chunks".to_owned()),
            _ if flags & FLAG_SKIPPABLE != 0 => {}
            _ => {
                return Err(format!(
                    "chunk {index} has kind {kind}, use a newer version"
                ));
            }
        }
    }
    if !bytes.is_empty() {
        return Err(format!("{} bytes follow the footer", bytes.len()));
    }
    Ok(Snapshot {
        lsn: snapshot_lsn.unwrap_or_default(),
        bytes: length,
        machine,
        table,
        housekeeping,
    })
}

/// Reads the partitions of a table's chunk; `None` where it is none.
pub(crate) fn read_table(mut payload: Bytes, table: &mut Vec<TableEntry>) -> Option<()> {
    while !payload.is_empty() {
        table.push(TableEntry::get(&mut payload)?);
    }
    Some(())
}

fn take_chunk(bytes: &mut Bytes, index: u32) -> Result<(u16, u16, Lsn, Bytes), String> {
    let cut = || format!("it ends inside of chunk {index}");
    let head = ChunkHead::get(bytes).ok_or_else(cut)?;
    bytes.advance(CHUNK_HEADER_BYTES);
    if head.length > bytes.len() {
        return Err(cut());
    }
    let payload = bytes.split_to(head.length);
    if !head.covers(&payload) || head.number != index {
        return Err(format!("the checksum of chunk {index} does not hold"));
    }
    Ok((head.kind, head.flags, head.lsn, payload))
}

/// What stands before a chunk's payload.
#[derive(Debug)]
pub(crate) struct ChunkHead {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    /// Bytes of the payload.
    pub(crate) length: usize,
    pub(crate) lsn: Lsn,
    pub(crate) number: u32,
    crc: u32,
    /// The checksum of the head's own bytes, to be continued with the payload's.
    own_crc: u32,
}

impl ChunkHead {
    /// Reads the head that `bytes` begin with; `None` where they do not begin with one.
    pub(crate) fn get(bytes: &[u8]) -> Option<Self> {
        let whole = bytes.get(..CHUNK_HEADER_BYTES)?;
        let mut rest = whole.strip_prefix(&MAGIC)?;
        let own_crc = crc32c::crc32c(whole.get(CRC_COVERS_FROM..)?);
        let crc = rest.get_u32_le();
        Some(Self {
            kind: rest.get_u16_le(),
            flags: rest.get_u16_le(),
            length: rest.get_u32_le() as usize,
            lsn: Lsn(rest.get_u64_le()),
            number: rest.get_u32_le(),
            crc,
            own_crc,
        })
    }

    /// Whether head and payload are what the checksum was made of.
    pub(crate) fn covers(&self, payload: &[u8]) -> bool {
        crc32c::crc32c_append(self.own_crc, payload) == self.crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Extent, Times};
    use tidemill_core::{Partition, TopicId};
    use uuid::Uuid;

    fn housekeeping() -> Housekeeping {
        let id = PartitionId {
            topic: TopicId(Uuid::from_u128(9)),
            partition: Partition(1),
        };
        let segment = Gone::Segment {
            id,
            base: Offset(5),
            generation: 2,
        };
        Housekeeping {
            clock_ms: Some(123),
            gone: vec![Gone::Partition(id), segment],
        }
    }

    fn written() -> (Bytes, Vec<TableEntry>) {
        let entry = |topic| TableEntry {
            id: PartitionId {
                topic: TopicId(Uuid::from_u128(topic)),
                partition: Partition(3),
            },
            earliest: Offset(1),
            cleaned: Offset(2),
            settings: PartitionSettings {
                retention_ms: Some(3),
                ..PartitionSettings::default()
            },
            epochs: vec![(1, Offset(0)), (4, Offset(9))],
            segments: vec![Kept {
                base: Offset(0),
                generation: 5,
                times: Times {
                    begun_ms: 6,
                    appended_ms: 7,
                    compacted_ms: -1,
                },
                at: Extent {
                    end: Offset(12),
                    bytes: 900,
                    lines: 4,
                    largest_ms: 8,
                },
            }],
        };
        let table = vec![entry(1), entry(2)];
        let mut writer = SnapshotWriter::new(Lsn(77), 1);
        writer.machine(b"first".to_vec());
        let mut actions = writer.take();
        writer.machine(b"second".to_vec());
        for entry in &table {
            writer.partition(entry);
        }
        writer.housekeeping(&housekeeping());
        actions.extend(writer.finish());
        let mut file = Vec::new();
        for action in actions {
            match action {
                Action::Create(_) => assert!(file.is_empty(), "it is begun once"),
                Action::Write {
                    position, pieces, ..
                } => {
                    assert_eq!(position, file.len() as u64, "it has no gap");
                    file.extend(pieces.concat());
                }
                _ => {}
            }
        }
        (Bytes::from(file), table)
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was_written() {
        let (bytes, table) = written();
        let read = decode(bytes).unwrap();
        assert_eq!(read.lsn, Lsn(77));
        assert_eq!(read.machine, vec!["first".as_bytes(), "second".as_bytes()]);
        assert_eq!(read.table, table);
        assert_eq!(read.housekeeping, housekeeping());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_of_a_snapshot_is_seen() {
        let (bytes, _) = written();
        for at in 0..bytes.len() {
            assert!(decode(bytes.slice(..at)).is_err(), "a cut at {at}");
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 4;
            assert!(decode(Bytes::from(flipped)).is_err(), "a flip at {at}");
        }
    }
}
