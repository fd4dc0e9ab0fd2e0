//! Checks the journal: the chain of commits, what is in them, and whether its end is a torn one
//! or damage (FORMAT.md, section 3.2).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use tidemill_core::Offset;

use super::report::Finding;
use super::verify::Look;
use crate::batch::Batch;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::journal::commit::CommitHeader;
use crate::journal::entry::{Part, Swap, decode};
use crate::journal::scan::{Found, Scan, Walked, read_payload};
use crate::journal::writer::{JOURNAL_DIR, Place, journal_number, journal_path};
use crate::machine::{Effect, Lsn, PartitionId};
use crate::recovery::list;
use crate::snapshot::TableEntry;
use crate::superblock::Superblock;

/// What the journal says beyond the snapshot, as a replay sees it.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Every partition's next offset.
    pub(crate) ends: BTreeMap<PartitionId, Offset>,
    /// Partitions with records that no synced segment has.
    pub(crate) dirty: BTreeSet<PartitionId>,
    /// Segments that were begun.
    pub(crate) begun: BTreeSet<(PartitionId, Offset)>,
    /// Partitions that were deleted.
    pub(crate) deleted: BTreeSet<PartitionId>,
    /// Segments that were deleted of partitions that are there.
    pub(crate) expired: BTreeSet<(PartitionId, Offset)>,
    /// Segments that were swapped for others, in order.
    pub(crate) swaps: Vec<(PartitionId, Swap)>,
}

impl Tail {
    /// A partition as the snapshot has it.
    pub(crate) fn begin(&mut self, entry: &TableEntry) {
        let last = entry.segments.last();
        let end = last.map_or(entry.earliest, |kept| kept.at.end);
        self.ends.insert(entry.id, end);
    }

    /// Takes one part of entry `lsn`; the snapshot holds everything up to `snapshot`.
    fn part(&mut self, lsn: Lsn, snapshot: Lsn, part: &Part) -> Result<(), String> {
        let is_new = lsn > snapshot;
        match part {
            Part::PartitionCreate(id) if is_new => {
                self.ends.entry(*id).or_insert(Offset(0));
            }
            Part::PartitionDelete(id) => {
                if is_new {
                    self.ends.remove(id);
                    self.dirty.remove(id);
                }
                self.deleted.insert(*id);
            }
            Part::SegmentCreate { id, base } => {
                self.begun.insert((*id, *base));
            }
            Part::SegmentDelete { id, bases, .. } => {
                let bases = bases.iter().map(|base| (*id, *base));
                self.expired.extend(bases);
            }
            Part::SegmentSwap { id, swap } if is_new => self.swaps.push((*id, swap.clone())),
            Part::Records { id, batch } => {
                let (base, next) = (batch.base_offset(), batch.next_offset());
                match self.ends.get_mut(id) {
                    Some(end) if *end < base => {
                        let missing = *end;
                        *end = next;
                        return Err(format!(
                            "records of partition {id} begin at {base}, but those from {missing} \
                             on are missing"
                        ));
                    }
                    // It may reach across an offset below which everything was deleted.
                    Some(end) if base <= *end && *end < next => {
                        *end = next;
                        self.dirty.insert(*id);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The journal's files by number.
///
/// # Errors
/// What the disk says.
pub(crate) fn files(disk: &dyn Disk) -> Result<Found, OpenError> {
    let mut found = Found::new();
    for number in list(disk, JOURNAL_DIR)?
        .iter()
        .filter_map(|name| journal_number(name))
    {
        let path = journal_path(number);
        let open = || {
            let file = disk.open(&path)?;
            let size = file.len()?;
            Ok((file, size))
        };
        let opened = open().map_err(OpenError::io(format!("open {path}")))?;
        found.insert(number, opened);
    }
    Ok(found)
}

/// Checks the journal that a superblock names.
pub(crate) fn check(look: &mut Look<'_>, block: &Superblock) -> Result<(), OpenError> {
    let found = files(look.disk)?;
    look.report.counts.journal_files = found.len() as u64;
    let head = block.head;
    look.report.entries = head.first..head.first;
    if !found.contains_key(&head.file) {
        let what = "the journal file that the superblock names is missing; restore the folder \
                    from a backup, or see what `tidemill log repair` saves";
        let lost = head.first..block.durable_through.next();
        let finding = Finding::damage(&*journal_path(head.file), what);
        look.report.add(finding.entries(lost));
        return Ok(());
    }
    let scan = Scan {
        files: &found,
        journal: block.journal,
    };
    let Walked { commits, end } = scan.walk(head)?;
    look.report.entries = head.first..end.first;
    look.expect(commits.iter().map(CommitHeader::padded_bytes).sum());
    for header in &commits {
        commit(look, &found, header);
    }
    let behind = scan.behind(end)?;
    if let Some(OpenError::JournalCut {
        file,
        found,
        expected,
    }) = scan.short(block, commits.iter().chain(&behind))
    {
        let what = format!(
            "has {found} bytes instead of {expected}, so its end is lost; restore the folder \
             from a backup, or see what `tidemill log repair` saves"
        );
        look.report.add(Finding::damage(file, what).at(found));
    }
    let synced = behind.iter().map(|commit| commit.synced_through).max();
    let durable = synced.max(Some(block.durable_through)).unwrap_or_default();
    if durable >= end.first {
        damaged(look, &found, end, durable, &behind);
    } else if is_torn(&found, block, end) {
        let what = "the last write did not reach the disk whole; nobody was told that it was kept, \
                    and the next opening cuts it off";
        let finding = Finding::note(&*journal_path(end.file), what).at(end.offset);
        look.report.add(finding);
    }
    Ok(())
}

fn commit(look: &mut Look<'_>, found: &Found, header: &CommitHeader) {
    let path = journal_path(header.file);
    let entries = header.first..header.next();
    look.report.counts.commits += 1;
    look.report.counts.entries += u64::from(header.count);
    look.report.counts.journal_bytes += header.padded_bytes();
    look.read(&path, header.padded_bytes());
    let at = |finding: Finding| finding.at(header.offset).entries(entries.clone());
    let payload = match read_payload(found, header) {
        Ok(payload) => payload,
        Err(error) => {
            let what = format!("cannot be read: {error}");
            return look.report.add(at(Finding::damage(&*path, what)));
        }
    };
    if let Err((lsn, why)) = read_parts(look, header, payload) {
        let what = format!("the entry {lsn} cannot be used: {why}");
        look.report.add(at(Finding::damage(&*path, what)));
    }
}

/// Reads a commit's entries as a replay does.
fn read_parts(
    look: &mut Look<'_>,
    header: &CommitHeader,
    payload: Bytes,
) -> Result<(), (Lsn, String)> {
    decode(payload, header.count, header.first, |lsn, parts| {
        for part in parts {
            look.tail.part(lsn, look.snapshot_lsn, &part)?;
            match &part {
                Part::Effect { kind, bytes } => {
                    look.meaning.effect(Effect { kind: *kind, bytes })?
                }
                Part::Records { id, batch } => {
                    records(batch).map_err(|why| format!("partition {id}: {why}"))?
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Reads every record of a batch.
pub(super) fn records(batch: &Batch) -> Result<(), String> {
    batch.check_records().map_err(|error| error.to_string())
}

/// The chain ends before what was known to be durable.
fn damaged(look: &mut Look<'_>, found: &Found, end: Place, durable: Lsn, behind: &[CommitHeader]) {
    let path = journal_path(end.file);
    let what = format!(
        "the journal is damaged at entry {}, and entries up to {durable} behind it were \
         acknowledged; restore the folder from a backup, or see what `tidemill log repair` saves",
        end.first
    );
    let last = behind.iter().map(CommitHeader::next).max();
    let lost = end.first..durable.next().max(last.unwrap_or_default());
    let finding = Finding::damage(&*path, what).at(end.offset);
    look.report.add(finding.entries(lost));
    for (id, offsets) in records_behind(found, behind) {
        let ends = look.tail.ends.get(&id).copied();
        let from = ends.map_or(offsets.start, |end| end.max(offsets.start));
        if from < offsets.end {
            let what = "these records lie behind the damage and cannot be reached";
            let finding = Finding::damage(&*path, what).of(id);
            look.report.add(finding.offsets(from..offsets.end));
        }
    }
}

/// What the whole commits behind damage hold of each partition.
pub(crate) fn records_behind(
    found: &Found,
    behind: &[CommitHeader],
) -> BTreeMap<PartitionId, Range<Offset>> {
    let mut records: BTreeMap<PartitionId, Range<Offset>> = BTreeMap::new();
    for header in behind {
        let Ok(payload) = read_payload(found, header) else {
            continue;
        };
        // What cannot be read of them is lost anyhow.
        let _ = decode(payload, header.count, header.first, |_, parts| {
            for part in parts {
                if let Part::Records { id, batch } = part {
                    let (base, next) = (batch.base_offset(), batch.next_offset());
                    let range = records.entry(id).or_insert(base..next);
                    *range = range.start.min(base)..range.end.max(next);
                }
            }
            Ok(())
        });
    }
    records
}

/// Whether a commit was begun at the chain's end.
fn is_torn(found: &Found, block: &Superblock, end: Place) -> bool {
    let Some((file, _)) = found.get(&end.file) else {
        return false;
    };
    let mut head = [0; crate::journal::commit::COMMIT_HEADER_BYTES];
    let read = file.read_at(end.offset, &mut head);
    read.is_ok_and(|read| read == head.len())
        && CommitHeader::decode(&head).is_some_and(|(header, _)| {
            header.journal == block.journal && header.lap == end.lap && header.first == end.first
        })
}
