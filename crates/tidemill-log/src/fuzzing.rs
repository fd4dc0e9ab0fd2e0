//! What a fuzzer calls: each decoder of the format with bytes of anybody's making. Checksums are
//! put right first, so that the fuzzer gets behind them. Only with the feature `fuzzing`.
//!
//! This room may not know what is in the bytes: nothing here may panic, whatever they are.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::{Offset, Partition, TopicId};
use uuid::Uuid;

use crate::batch::Batch;
use crate::disk::Disk;
use crate::driver::MemoryDisk;
use crate::error::ReadError;
use crate::io::Files;
use crate::journal::commit::CommitHeader;
use crate::journal::entry::{Part, decode};
use crate::limits::BLOCK_BYTES;
use crate::machine::{Lsn, PartitionId};
use crate::segment::read::SegmentRead;
use crate::segment::sidecar::{LINE_BYTES, Line};
use crate::segment::{Extent, SegmentView};
use crate::snapshot::{self, CHUNK_HEADER_BYTES};
use crate::superblock::Superblock;

/// Bytes of a disk for one segment.
const DISK_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where a batch's checksum lies, and from where on it covers (FORMAT.md, section 5.1).
const BATCH_CRC: (usize, usize) = (17, 21);

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

fn put(bytes: &mut [u8], at: usize, new: [u8; 4]) {
    for (to, byte) in bytes.iter_mut().skip(at).zip(new) {
        *to = byte;
    }
}

/// A batch with the checksum that belongs to it, and the length that it has.
fn mended(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let length = u32::try_from(bytes.len().saturating_sub(12)).unwrap_or(u32::MAX);
    put(&mut bytes, 8, length.to_be_bytes());
    let crc = crc32c::crc32c(bytes.get(BATCH_CRC.1..).unwrap_or_default());
    put(&mut bytes, BATCH_CRC.0, crc.to_be_bytes());
    Bytes::from(bytes)
}

/// A record batch, packed ones included: what the door takes can be read, and is read the same
/// way twice.
///
/// # Panics
/// When it is not: that is what a fuzzer looks for.
pub fn batch(bytes: &[u8]) {
    let bytes = mended(bytes);
    let records = |batch: &Batch| -> Vec<_> { batch.records().map_while(Result::ok).collect() };
    if let Ok((batch, _)) = Batch::parse(bytes.clone()) {
        let whole = batch.check_records().is_ok();
        let read = records(&batch);
        let count = batch.record_count() as usize;
        assert!(!whole || read.len() == count, "a checked batch is read");
    }
    if let Ok(batch) = Batch::from_producer(bytes) {
        assert!(batch.check_records().is_ok(), "what the door took is true");
        assert!(records(&batch).len() == batch.record_count() as usize);
    }
}

/// Entries of a commit: the first byte counts them.
pub fn entries(bytes: &[u8]) {
    let Some((count, payload)) = bytes.split_first() else {
        return;
    };
    let payload = Bytes::copy_from_slice(payload);
    // What is wrong with them is said; that is all there is to be seen.
    let _ = decode(payload, u32::from(*count), Lsn(7), |_, parts| {
        for part in parts {
            if let Part::Records { batch, .. } = part {
                batch.check_records().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    });
}

/// The header of a commit.
///
/// # Panics
/// When a header that was read names more entries than there are numbers.
pub fn commit(bytes: &[u8]) {
    if let Some((header, _)) = CommitHeader::decode(bytes) {
        assert!(header.next() >= header.first);
        assert!(header.padded_bytes() >= u64::from(header.length));
    }
}

/// A superblock, whose checksum is put right.
///
/// # Panics
/// When one that was read is written otherwise.
pub fn superblock(bytes: &[u8]) {
    let mut block = bytes.to_vec();
    block.resize(BLOCK_BYTES, 0);
    let before = crc32c::crc32c(block.get(..12).unwrap_or_default());
    let crc = crc32c::crc32c_append(before, block.get(16..).unwrap_or_default());
    put(&mut block, 12, crc.to_le_bytes());
    if let Ok(read) = Superblock::decode(&block) {
        let again = Superblock::decode(&read.encode());
        assert_eq!(again, Ok(read), "what was read is written the same");
    }
}

/// A snapshot, the checksum of each chunk put right.
pub fn snapshot(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let end = CHUNK_HEADER_BYTES.saturating_add(number(rest, 12) as usize);
        let Some(covered) = rest.get(8..end) else {
            break;
        };
        let crc = crc32c::crc32c(covered);
        put(rest, 4, crc.to_le_bytes());
        at += end;
    }
    // What is wrong with it is said; that is all there is to be seen.
    let _ = snapshot::decode(Bytes::from(bytes));
}

/// A segment and its sidecar, read from end to end around its damage. The first byte counts the
/// sidecar's lines, the second says from which offset on is read first; checksums of lines are
/// put right.
///
/// # Panics
/// When reading does not come to an end, or gives what it was not asked for.
pub fn segment(bytes: &[u8]) {
    let Some(([lines, from], rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(*lines) * LINE_BYTES;
    let (sums, log) = rest.split_at(length.min(rest.len()));
    let mut sums = sums.to_vec();
    for line in sums.chunks_exact_mut(LINE_BYTES) {
        let crc = crc32c::crc32c(line.get(..28).unwrap_or_default());
        put(line, 28, crc.to_le_bytes());
    }
    let ends = sums.chunks_exact(LINE_BYTES).filter_map(Line::get);
    let end = ends.map(|line| line.base.0.saturating_add(300)).max();
    let end = end.unwrap_or_default();
    let disk = MemoryDisk::new(DISK_MAX_BYTES);
    for (path, bytes) in [("log", log.to_vec()), ("sum", sums)] {
        let file = disk.create(path).expect("an empty disk");
        file.write_at(0, &[Bytes::from(bytes)])
            .expect("inputs are far smaller than the disk");
    }
    let view = SegmentView {
        base: Offset(0),
        generation: 0,
        written: Extent {
            end: Offset(end),
            bytes: log.len() as u64,
            lines: u32::from(*lines),
            largest_ms: -1,
        },
        log_path: "log".into(),
        sum_path: "sum".into(),
    };
    read_all(&view, &Files::new(Arc::new(disk), 2), u64::from(*from));
}

fn read_all(view: &SegmentView, files: &Files, from: u64) {
    let id = PartitionId {
        topic: TopicId(Uuid::nil()),
        partition: Partition(0),
    };
    let read = SegmentRead {
        id,
        segment: view,
        files,
    };
    let mut at = Offset(from);
    // Each step goes on by a line at least.
    for _ in 0..=2 * view.written.lines + 2 {
        if at >= view.written.end {
            return;
        }
        at = match read.run(at, 4096) {
            Ok(batches) => {
                let next = batches.last().map(Batch::next_offset);
                assert!(next > Some(at), "a read at {at} gave {next:?}");
                next.unwrap_or(at)
            }
            Err(ReadError::Damaged { resume, .. }) => {
                assert!(resume > at, "damage at {at} leads back to {resume}");
                resume
            }
            Err(_) => return,
        };
    }
    assert!(at >= view.written.end, "reading has not ended at {at}");
}
