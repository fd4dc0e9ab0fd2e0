//! Verifies a log: superblocks, snapshot, journal, segments, and that every file is one that
//! something names.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::Offset;

use crate::disk::Disk;
use crate::inspect::journal::Tail;
use crate::inspect::report::{Finding, Report};
use crate::inspect::segments::SegmentCheck;
use crate::inspect::snapshot::{self, At, Chunk};
use crate::inspect::superblocks::{Root, newest, roots};
use crate::inspect::{InspectError, Meaning, Progress, journal, no_log, strays};
use crate::log::removal::Gone;
use crate::machine::{Lsn, PartitionId};
use crate::segment::Segment;
use crate::segment::sidecar::LINE_BYTES;
use crate::snapshot::{TableEntry, snapshot_path};
use crate::superblock::Superblock;

/// Reads every byte of a log that has a meaning, and checks it. Memory holds one batch, one
/// chunk of the snapshot or one commit, and the table of partitions. Whoever calls keeps others
/// from writing meanwhile, as by [`Disk::lock`].
///
/// # Errors
/// [`InspectError`], where there is no log or none of this version; damage is no error, but a
/// [`Finding`].
pub fn verify(
    disk: &dyn Disk,
    meaning: &mut dyn Meaning,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, InspectError> {
    let mut look = Look::new(disk, meaning, watch);
    if let Some(block) = look.superblocks()? {
        look.through(&block)?;
    }
    Ok(look.report)
}

/// Tells `meaning` of every effect that the snapshot and the journal hold, as far as they are
/// readable.
///
/// # Errors
/// [`InspectError`], where there is no log or none of this version.
pub fn learn(disk: &dyn Disk, meaning: &mut dyn Meaning) -> Result<(), InspectError> {
    let mut unwatched = |_: Progress<'_>| {};
    let mut look = Look::new(disk, meaning, &mut unwatched);
    if let Some(block) = look.superblocks()? {
        look.snapshot(block.snapshot);
        journal::check(&mut look, &block)?;
    }
    Ok(())
}

/// One verification while it goes on.
pub(crate) struct Look<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) meaning: &'a mut dyn Meaning,
    watch: &'a mut dyn FnMut(Progress<'_>),
    pub(crate) report: Report,
    done_bytes: u64,
    total_bytes: u64,
    /// The snapshot's table.
    pub(crate) table: BTreeMap<PartitionId, TableEntry>,
    pub(crate) snapshot_lsn: Lsn,
    /// Segments that the snapshot lists as deleted: partition, first offset, generation.
    pub(crate) gone: BTreeSet<(PartitionId, Offset, u32)>,
    /// What the journal says beyond it.
    pub(crate) tail: Tail,
}

impl<'a> Look<'a> {
    pub(crate) fn new(
        disk: &'a dyn Disk,
        meaning: &'a mut dyn Meaning,
        watch: &'a mut dyn FnMut(Progress<'_>),
    ) -> Self {
        Self {
            disk,
            meaning,
            watch,
            report: Report::default(),
            done_bytes: 0,
            total_bytes: 0,
            table: BTreeMap::new(),
            snapshot_lsn: Lsn(0),
            gone: BTreeSet::new(),
            tail: Tail::default(),
        }
    }

    /// Everything behind the superblocks.
    pub(super) fn through(&mut self, block: &Superblock) -> Result<(), InspectError> {
        self.report.log = Some(block.log);
        self.report.epoch = block.epoch;
        let whole = self.snapshot(block.snapshot);
        self.total_bytes = self.done_bytes + self.segment_bytes();
        journal::check(self, block)?;
        self.swap();
        self.segments();
        if whole {
            strays::look(self, block.snapshot)?;
        }
        Ok(())
    }

    /// Reads both superblocks; answers the newest.
    pub(crate) fn superblocks(&mut self) -> Result<Option<Superblock>, InspectError> {
        let mut roots = roots(self.disk);
        for (_, root) in &mut roots {
            if let Root::Refused(_) = root
                && let Root::Refused(refusal) = std::mem::replace(root, Root::Missing)
            {
                return Err(refusal.into());
            }
        }
        if roots.iter().all(|(_, root)| matches!(root, Root::Missing)) {
            return Err(no_log(self.disk));
        }
        let newest = newest(&roots);
        let next = match newest {
            Some(_) => "the other one counts, and the next opening mends it",
            None => "restore the folder from a backup",
        };
        for (path, root) in roots {
            match root {
                Root::Good(_) => self.report.counts.superblocks += 1,
                Root::Unreadable(why) => {
                    let what = format!("this superblock is unreadable ({why}); {next}");
                    self.report.add(Finding::damage(path, what));
                }
                Root::Missing if newest.is_some() => {
                    let what = format!("this superblock is missing; {next}");
                    self.report.add(Finding::note(path, what));
                }
                Root::Missing | Root::Refused(_) => {}
            }
        }
        Ok(newest)
    }

    /// Reads the snapshot; answers whether it is whole.
    pub(crate) fn snapshot(&mut self, number: u64) -> bool {
        if number == 0 {
            return true;
        }
        let path = snapshot_path(number);
        let disk = self.disk;
        let read = snapshot::read(disk, number, |at, chunk| {
            self.chunk(&path, at, chunk);
            true
        });
        if let Err((byte, why)) = &read {
            let what = format!("the snapshot is damaged: {why}; restore the folder from a backup");
            self.report.add(Finding::damage(&*path, what).at(*byte));
        }
        read.is_ok()
    }

    fn chunk(&mut self, path: &str, at: &At, chunk: Chunk) {
        self.snapshot_lsn = at.lsn;
        self.report.counts.snapshot_chunks += 1;
        self.report.counts.snapshot_bytes += at.size_bytes;
        self.read(path, at.size_bytes);
        match chunk {
            Chunk::Machine(bytes) => {
                if let Err(why) = self.meaning.chunk(&bytes) {
                    let what = format!("chunk {} of the machine: {why}", at.number);
                    self.report.add(Finding::damage(path, what).at(at.byte));
                }
            }
            Chunk::Table(entries) => {
                for entry in entries {
                    if let Some(why) = disorder(&entry) {
                        let finding = Finding::damage(path, why).at(at.byte);
                        self.report.add(finding.of(entry.id));
                    }
                    self.tail.begin(&entry);
                    self.table.insert(entry.id, entry);
                }
            }
            Chunk::Housekeeping(kept) => {
                for gone in kept.gone {
                    match gone {
                        Gone::Partition(id) => self.tail.deleted.insert(id),
                        Gone::Segment {
                            id,
                            base,
                            generation,
                        } => self.gone.insert((id, base, generation)),
                    };
                }
            }
            Chunk::Skipped | Chunk::Footer => {}
        }
    }

    /// Brings the table up to date with what was compacted since the snapshot.
    fn swap(&mut self) {
        for (id, swap) in std::mem::take(&mut self.tail.swaps) {
            let Some(entry) = self.table.get_mut(&id) else {
                continue;
            };
            let segments = &mut entry.segments;
            let names = segments.iter().map(|kept| (kept.base, kept.generation));
            if let Some(place) = swap.place(&names.collect::<Vec<_>>()) {
                segments.splice(place, swap.new);
            }
            let gone = swap
                .old
                .iter()
                .map(|(base, generation)| (id, *base, *generation));
            self.gone.extend(gone);
        }
    }

    /// Checks the segments of all partitions that were not deleted since the snapshot.
    fn segments(&mut self) {
        let table = std::mem::take(&mut self.table);
        for entry in table.values() {
            if !self.tail.ends.contains_key(&entry.id) {
                continue;
            }
            for (index, kept) in entry.segments.iter().enumerate() {
                if self.tail.expired.contains(&(entry.id, kept.base)) {
                    continue;
                }
                self.report.counts.segments += 1;
                let segment = Segment::kept(entry.id, kept);
                let is_last = index + 1 == entry.segments.len();
                SegmentCheck::new(self, entry.id, &segment, is_last).run();
            }
        }
        self.table = table;
        self.report.counts.partitions = self.tail.ends.len() as u64;
    }

    fn segment_bytes(&self) -> u64 {
        let extents = self.table.values().flat_map(|entry| &entry.segments);
        extents
            .map(|kept| kept.at.bytes + u64::from(kept.at.lines) * LINE_BYTES as u64)
            .sum()
    }

    /// So many bytes more are going to be read.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.total_bytes += bytes;
    }

    /// So many bytes more were read.
    pub(super) fn read(&mut self, file: &str, bytes: u64) {
        self.done_bytes += bytes;
        self.total_bytes = self.total_bytes.max(self.done_bytes);
        (self.watch)(Progress {
            file,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        });
    }
}

/// What is wrong with the order of a partition's segments.
fn disorder(entry: &TableEntry) -> Option<String> {
    let mut end = None;
    for kept in &entry.segments {
        if kept.at.end < kept.base || end.is_some_and(|end| kept.base < end) {
            let base = kept.base;
            return Some(format!("the table's segment at {base} overlaps another"));
        }
        end = Some(kept.at.end);
    }
    None
}
