//! Carries a plan out: new files first, then the superblocks that name them, then the old files
//! are moved aside.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::Offset;
use uuid::Uuid;

use super::RepairError;
use super::plan::{Cut, Plan};
use super::segment::{Piece, walk};
use crate::batch::Batch;
use crate::disk::{Disk, DiskFile};
use crate::inspect::journal::files as journal_files;
use crate::inspect::snapshot::{self, Chunk};
use crate::io::{Action, Files, run_all};
use crate::journal::group::GroupBuilder;
use crate::journal::rewrite::Rewriter;
use crate::journal::scan::read_payload;
use crate::journal::writer::{JOURNAL_DIR, journal_path};
use crate::limits::{BLOCK_BYTES, GROUP_BYTES};
use crate::machine::{Lsn, PartitionId};
use crate::recovery::{ASIDE_DIR, list};
use crate::segment::sidecar::{LINE_BYTES, Line};
use crate::segment::{Extent, Kept, Segment, partition_dir};
use crate::snapshot::{SNAPSHOTS_DIR, SnapshotWriter, snapshot_path};
use crate::superblock::Superblock;

/// Files that are kept open at a time.
const OPEN_FILES: usize = 8;

/// Carries a plan out. Whoever calls has held the disk's lock since before the plan was made.
/// `seed` names the new journal and must never be used again. Answers where the old files are.
///
/// # Errors
/// [`RepairError`]: what was there is there, at its place or in `aside/`.
pub fn apply(disk: &Arc<dyn Disk>, plan: &Plan, seed: Uuid) -> Result<Vec<String>, RepairError> {
    plan.is_of(disk.as_ref())?;
    let repair = Repair {
        disk,
        files: Files::new(disk.clone(), OPEN_FILES),
        plan,
    };
    let mut superblock = plan.superblock;
    let mended = repair.segments()?;
    if !mended.is_empty() {
        superblock.snapshot = repair.snapshot(&mended)?;
    }
    if let Some(cut) = &plan.cut {
        repair.journal(cut, seed, &mut superblock)?;
    }
    repair.run("write the superblocks", &superblock.write())?;
    repair.aside(&superblock, &mended)
}

/// A segment that was written anew.
struct Mended {
    id: PartitionId,
    base: Offset,
    kept: Kept,
}

struct Repair<'a> {
    disk: &'a Arc<dyn Disk>,
    files: Files,
    plan: &'a Plan,
}

impl Repair<'_> {
    fn run(&self, what: &str, actions: &[Action]) -> Result<(), RepairError> {
        run_all(actions, &self.files).map_err(|failure| RepairError::io(what)(failure.error))
    }

    /// Writes every damaged segment anew, under the next generation's name.
    fn segments(&self) -> Result<Vec<Mended>, RepairError> {
        let mut mended = Vec::new();
        for (id, old) in &self.plan.mends {
            let kept = Kept {
                base: old.base,
                generation: old.generation + 1,
                times: old.times,
                at: Extent::empty(old.base),
            };
            let new = Segment::kept(*id, &kept);
            let what = format!("write {}", new.log_path);
            let actions = [
                Action::MakeDir(partition_dir(*id)),
                Action::Create(new.log_path.clone()),
                Action::Create(new.sum_path.clone()),
            ];
            self.run(&what, &actions)?;
            let at = self.segment(old, &new).map_err(RepairError::io(&*what))?;
            let actions = [
                Action::Sync(new.log_path.clone()),
                Action::Sync(new.sum_path.clone()),
                Action::SyncDir(partition_dir(*id)),
            ];
            self.run(&what, &actions)?;
            mended.push(Mended {
                id: *id,
                base: old.base,
                kept: Kept { at, ..kept },
            });
        }
        Ok(mended)
    }

    fn segment(&self, old: &Segment, new: &Segment) -> io::Result<Extent> {
        let mut writer = SegmentWriter {
            log: self.files.get(&new.log_path)?,
            sum: self.files.get(&new.sum_path)?,
            at: Extent::empty(old.base),
        };
        walk(self.disk.as_ref(), old, &mut |piece| match piece {
            Piece::Good(batch) => writer.put(&batch),
            Piece::Lost(offsets) => empty(offsets).try_for_each(|batch| writer.put(&batch)),
        })?;
        Ok(Extent {
            largest_ms: old.synced.largest_ms,
            ..writer.at
        })
    }

    /// Writes a snapshot that names the new segments, and is the old one otherwise.
    fn snapshot(&self, mended: &[Mended]) -> Result<u64, RepairError> {
        let old = self.plan.superblock.snapshot;
        let number = old + 1;
        let what = format!("write {}", snapshot_path(number));
        let mut writer: Option<SnapshotWriter> = None;
        let mut failed = Ok(());
        let read = snapshot::read(self.disk.as_ref(), old, |at, chunk| {
            let writer = writer.get_or_insert_with(|| SnapshotWriter::new(at.lsn, number));
            match chunk {
                Chunk::Machine(bytes) => writer.machine(bytes.to_vec()),
                Chunk::Table(entries) => {
                    for mut entry in entries {
                        for kept in &mut entry.segments {
                            let is_it = |new: &&Mended| new.id == entry.id && new.base == kept.base;
                            if let Some(new) = mended.iter().find(is_it) {
                                *kept = new.kept;
                            }
                        }
                        writer.partition(&entry);
                    }
                }
                Chunk::Housekeeping(kept) => writer.housekeeping(&kept),
                Chunk::Skipped | Chunk::Footer => return true,
            }
            failed = self.run(&what, &writer.take());
            failed.is_ok()
        });
        failed?;
        let hopeless = |why: String| RepairError::Hopeless {
            file: snapshot_path(old).to_string(),
            why,
        };
        read.map_err(|(_, why)| hopeless(why))?;
        let mut writer = writer.ok_or_else(|| hopeless("it is empty".to_owned()))?;
        self.run(&what, &writer.finish())?;
        Ok(number)
    }

    /// Writes the surviving commits into a fresh file, then a marker for each entry that is
    /// lost, so that its number is not given out again, then the gaps.
    fn journal(
        &self,
        cut: &Cut,
        seed: Uuid,
        superblock: &mut Superblock,
    ) -> Result<(), RepairError> {
        let found = journal_files(self.disk.as_ref())?;
        let number = found.keys().next_back().map_or(1, |last| last + 1);
        let path = journal_path(number);
        let what = format!("write {path}");
        let make = [
            Action::MakeDir(JOURNAL_DIR.into()),
            Action::Create(path.clone()),
        ];
        self.run(&what, &make)?;
        let file = self.files.get(&path).map_err(RepairError::io(&*what))?;
        let put = |at: u64, pieces: &[Bytes]| {
            let written = file.write_at(at, pieces);
            written.map_err(RepairError::io(&*what))
        };
        let first = cut
            .survivors
            .first()
            .map_or(cut.end.first, |commit| commit.first);
        let size_bytes = cut
            .survivors
            .iter()
            .map(|commit| commit.padded_bytes())
            .sum();
        let mut rewriter = Rewriter::new(seed, number, cut.end.lap + 1, first, size_bytes);
        for header in &cut.survivors {
            let payload = read_payload(&found, header).map_err(RepairError::io(format!(
                "read {}",
                journal_path(header.file)
            )))?;
            let (place, pieces) = rewriter.commit(header, &[payload]);
            put(place.offset, &pieces)?;
        }
        fill(cut, &mut rewriter, &put)?;
        if rewriter.end().offset == 0 {
            put(0, &[Bytes::from(vec![0; BLOCK_BYTES])])?;
        }
        let sync = [Action::Sync(path), Action::SyncDir(JOURNAL_DIR.into())];
        self.run(&what, &sync)?;
        superblock.journal = seed;
        superblock.epoch = cut.epoch;
        superblock.head = rewriter.head();
        superblock.head_bytes = rewriter.end().offset;
        superblock.durable_through = Lsn(rewriter.end().first.0 - 1);
        Ok(())
    }

    /// Moves aside what is no longer named; answers where it is.
    fn aside(
        &self,
        superblock: &Superblock,
        mended: &[Mended],
    ) -> Result<Vec<String>, RepairError> {
        let mut old: Vec<String> = Vec::new();
        let names = |dir: &str| list(self.disk.as_ref(), dir);
        if self.plan.cut.is_some() {
            let fresh = journal_path(superblock.head.file);
            let files = names(JOURNAL_DIR)?.into_iter();
            let paths = files.map(|name| format!("{JOURNAL_DIR}/{name}"));
            old.extend(paths.filter(|path| **path != *fresh));
        }
        if !mended.is_empty() {
            let fresh = snapshot_path(superblock.snapshot);
            let files = names(SNAPSHOTS_DIR)?.into_iter();
            let paths = files.map(|name| format!("{SNAPSHOTS_DIR}/{name}"));
            old.extend(paths.filter(|path| **path != *fresh));
        }
        let cut = self.plan.cut.is_some();
        for entry in self.plan.table.values() {
            let changed = mended.iter().filter(|new| new.id == entry.id);
            let changed: Vec<&Mended> = changed.collect();
            if changed.is_empty() && !cut {
                continue;
            }
            let new = |kept: &Kept| {
                let new = changed.iter().find(|new| new.base == kept.base);
                Segment::kept(entry.id, new.map_or(kept, |new| &new.kept))
            };
            let named: Vec<Segment> = entry.segments.iter().map(new).collect();
            let paths = named
                .iter()
                .flat_map(|of| [of.log_path.clone(), of.sum_path.clone()]);
            let known: BTreeSet<Arc<str>> = paths.collect();
            let dir = partition_dir(entry.id);
            let files = names(&dir)?.into_iter().map(|name| format!("{dir}/{name}"));
            old.extend(files.filter(|path| !known.contains(path.as_str())));
            if let Some(last) = named.last().filter(|_| cut) {
                self.keep_end(last, superblock.epoch)?;
            }
        }
        let mut moved = Vec::new();
        for path in old {
            moved.push(self.move_aside(&path, superblock.epoch)?);
        }
        Ok(moved)
    }

    /// What a segment holds beyond what was synced of it may be all that is left of lost
    /// entries, and the next opening cuts it off.
    fn keep_end(&self, last: &Segment, epoch: u64) -> Result<(), RepairError> {
        let sum_bytes = u64::from(last.synced.lines) * LINE_BYTES as u64;
        let both = [
            (&last.log_path, last.synced.bytes),
            (&last.sum_path, sum_bytes),
        ];
        for (path, bytes) in both {
            let keep = || -> io::Result<()> {
                let file = self.disk.open(path)?;
                let length = file.len()?;
                if length <= bytes {
                    return Ok(());
                }
                let to = self.free_name(path, epoch)?;
                let copy = self.disk.create(&to)?;
                let mut at = 0;
                while at < length {
                    let mut piece = vec![0; crate::limits::COPY_PIECE_BYTES];
                    let read = file.read_at(at, &mut piece)?;
                    piece.truncate(read);
                    if read == 0 {
                        break;
                    }
                    copy.write_at(at, &[Bytes::from(piece)])?;
                    at += read as u64;
                }
                copy.sync_data()?;
                self.disk.sync_dir(ASIDE_DIR)
            };
            keep().map_err(RepairError::io(format!("keep a copy of {path}")))?;
        }
        Ok(())
    }

    /// A path in the folder of what was put aside that nothing has.
    fn free_name(&self, path: &str, epoch: u64) -> io::Result<String> {
        self.disk.make_dir(ASIDE_DIR)?;
        self.disk.sync_dir("")?;
        let base = format!("{ASIDE_DIR}/{epoch}-repair-{}", path.replace('/', "_"));
        let mut to = base.clone();
        for number in 1.. {
            match self.disk.open(&to) {
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                _ => to = format!("{base}.{number}"),
            }
        }
        Ok(to)
    }

    fn move_aside(&self, path: &str, epoch: u64) -> Result<String, RepairError> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let move_it = || -> io::Result<String> {
            let to = self.free_name(path, epoch)?;
            self.disk.rename(path, &to)?;
            self.disk.sync_dir(ASIDE_DIR)?;
            self.disk.sync_dir(parent)?;
            Ok(to)
        };
        move_it().map_err(RepairError::io(format!("put {path} aside")))
    }
}

/// Writes pieces at a place of the fresh journal file.
type Put<'a> = dyn Fn(u64, &[Bytes]) -> Result<(), RepairError> + 'a;

/// Writes what takes the place of lost entries and offsets.
fn fill(cut: &Cut, rewriter: &mut Rewriter, put: &Put<'_>) -> Result<(), RepairError> {
    let mut gaps = cut.gaps.iter().flat_map(|(id, offsets)| {
        let batches = empty(offsets.clone());
        batches.map(|batch| (*id, batch))
    });
    let mut gap = gaps.next();
    while rewriter.end().first <= cut.last || gap.is_some() {
        let mut next = rewriter.end().first;
        let mut group = GroupBuilder::new(next);
        while group.size_bytes() < GROUP_BYTES && (next <= cut.last || gap.is_some()) {
            group.begin();
            let due = if next > cut.last { gap.take() } else { None };
            match due {
                Some((id, batch)) => {
                    group.records(id, batch);
                    gap = gaps.next();
                }
                None => group.marker(),
            }
            group.keep();
            next = next.next();
        }
        let group = group.finish();
        let (place, pieces) = rewriter.entries(group.count, cut.epoch, &group.pieces);
        put(place.offset, &pieces)?;
    }
    Ok(())
}

/// Batches without records over these offsets.
fn empty(offsets: Range<Offset>) -> impl Iterator<Item = Batch> {
    let mut from = offsets.start;
    std::iter::from_fn(move || {
        let left = offsets.end.0.checked_sub(from.0).filter(|left| *left > 0)?;
        let count = left.min(i32::MAX as u64);
        let batch = Batch::without_records(from, count as u32);
        from = batch.next_offset();
        Some(batch)
    })
}

/// A segment and its sidecar while they are written.
struct SegmentWriter {
    log: Arc<dyn DiskFile>,
    sum: Arc<dyn DiskFile>,
    at: Extent,
}

impl SegmentWriter {
    fn put(&mut self, batch: &Batch) -> io::Result<()> {
        let position = u32::try_from(self.at.bytes)
            .map_err(|_| io::Error::new(ErrorKind::FileTooLarge, "a segment is below 4 GiB"))?;
        let line = Line::of(batch, position, self.at.largest_ms);
        let mut bytes = Vec::new();
        line.put(&mut bytes);
        self.log
            .write_at(self.at.bytes, std::slice::from_ref(batch.as_bytes()))?;
        let place = u64::from(self.at.lines) * LINE_BYTES as u64;
        self.sum.write_at(place, &[Bytes::from(bytes)])?;
        self.at = Extent {
            end: batch.next_offset(),
            bytes: self.at.bytes + batch.size_bytes() as u64,
            lines: self.at.lines + 1,
            largest_ms: line.largest_ms,
        };
        Ok(())
    }
}
