//! Finds out what is damaged, what can be done about it, and what is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tidemill_core::Offset;

use super::reach::in_files;
use super::segment::walk;
use super::{JournalCut, Lost, Mend, RepairError, SegmentMend};
use crate::disk::Disk;
use crate::inspect::journal::{files as journal_files, records_behind};
use crate::inspect::superblocks::{Root, roots};
use crate::inspect::verify::Look;
use crate::inspect::{InspectError, Progress, journal};
use crate::journal::commit::CommitHeader;
use crate::journal::entry::{Swap, decode};
use crate::journal::scan::{Found, Scan, Walked, read_payload};
use crate::journal::writer::{Place, journal_path};
use crate::machine::{Lsn, PartitionId};
use crate::segment::Segment;
use crate::snapshot::{TableEntry, snapshot_path};
use crate::superblock::Superblock;

/// What is to be done, and what is lost by it. Made by [`plan()`]; nothing is changed yet.
#[derive(Debug)]
pub struct Plan {
    /// A superblock is unreadable; both are written again.
    pub superblocks: bool,
    /// The journal ends before its damage.
    pub journal: Option<JournalCut>,
    /// Segments that are written anew.
    pub segments: Vec<SegmentMend>,
    /// Records that are lost, in the order of partitions and offsets.
    pub lost: Vec<Lost>,
    pub(super) superblock: Superblock,
    pub(super) cut: Option<Cut>,
    /// Every segment that is written anew, with its place in the table.
    pub(super) mends: Vec<(PartitionId, Segment)>,
    pub(super) table: BTreeMap<PartitionId, TableEntry>,
    /// Segments of it that the journal has deleted or swapped, by their first offsets.
    gone: BTreeSet<(PartitionId, Offset)>,
}

/// Where the journal is cut.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) survivors: Vec<CommitHeader>,
    pub(super) end: Place,
    /// The last entry that was ever given out, as far as is known.
    pub(super) last: Lsn,
    /// The highest incarnation that wrote to it.
    pub(super) epoch: u64,
    /// Offsets that stay without records, so that they are not given out again.
    pub(super) gaps: Spans,
    /// Partitions that are lost whole.
    unmade: Spans,
}

impl Plan {
    /// Whether there is nothing to repair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.superblocks && self.journal.is_none() && self.segments.is_empty()
    }
}

/// Reads everything, and says what a repair would do. Whoever calls keeps others from writing
/// meanwhile, as by [`Disk::lock`].
///
/// # Errors
/// [`RepairError`], where there is no log, or none that can be repaired.
pub fn plan(
    disk: &dyn Disk,
    meaning: &mut dyn Mend,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Plan, RepairError> {
    let mut look = Look::new(disk, meaning, watch);
    let superblock = named(&mut look)?;
    journal::check(&mut look, &superblock)?;
    let mut table = std::mem::take(&mut look.table);
    table.retain(|id, _| look.tail.ends.contains_key(id));
    let swaps = std::mem::take(&mut look.tail.swaps);
    let mut gone = std::mem::take(&mut look.tail.expired);
    for (id, swap) in &swaps {
        gone.extend(swap.old.iter().map(|(base, _)| (*id, *base)));
    }
    let snapshot = look.snapshot_lsn;
    let ends = std::mem::take(&mut look.tail.ends);
    let deleted = std::mem::take(&mut look.tail.deleted);
    drop(look);

    let known = Known {
        snapshot,
        ends,
        deleted,
    };
    let (journal, cut) = journal_cut(disk, &superblock, &known, meaning)?.unzip();
    let mut plan = Plan {
        superblocks: bad_superblocks(disk) > 0,
        journal,
        segments: Vec::new(),
        lost: Vec::new(),
        superblock,
        cut,
        mends: Vec::new(),
        table,
        gone,
    };
    for (id, swap) in swaps {
        compacted(disk, id, &swap)?;
    }
    plan.segments(disk, watch)?;
    if let (Some(journal), Some(cut)) = (&plan.journal, &plan.cut) {
        let lost = cut
            .gaps
            .iter()
            .chain(&cut.unmade)
            .map(|(id, offsets)| Lost {
                id: *id,
                offsets: offsets.clone(),
                file: journal.file.clone(),
            });
        plan.lost.extend(lost);
    }
    plan.lost.sort_by_key(|lost| (lost.id, lost.offsets.start));
    Ok(plan)
}

/// The superblock to go by, whose snapshot is whole.
fn named(look: &mut Look<'_>) -> Result<Superblock, RepairError> {
    let Some(superblock) = look.superblocks()? else {
        return Err(RepairError::Hopeless {
            file: crate::superblock::PATHS.join(" and "),
            why: "no superblock is readable".to_owned(),
        });
    };
    if !look.snapshot(superblock.snapshot) || look.report.damage > bad_superblocks(look.disk) {
        let why = look
            .report
            .findings
            .last()
            .map(|finding| finding.what.clone());
        return Err(RepairError::Hopeless {
            file: snapshot_path(superblock.snapshot).to_string(),
            why: why.unwrap_or_default(),
        });
    }
    Ok(superblock)
}

fn bad_superblocks(disk: &dyn Disk) -> u64 {
    let bad = |(_, root): &&(&str, Root)| matches!(root, Root::Unreadable(_));
    roots(disk).iter().filter(bad).count() as u64
}

/// What the snapshot and the readable part of the journal say.
struct Known {
    /// The last entry that the snapshot holds.
    snapshot: Lsn,
    /// How far each partition is known.
    ends: BTreeMap<PartitionId, Offset>,
    deleted: BTreeSet<PartitionId>,
}

/// Where the journal has to be cut; `None` where it is whole, or has a torn end.
fn journal_cut(
    disk: &dyn Disk,
    superblock: &Superblock,
    known: &Known,
    meaning: &dyn Mend,
) -> Result<Option<(JournalCut, Cut)>, RepairError> {
    let found = journal_files(disk)?;
    let scan = Scan {
        files: &found,
        journal: superblock.journal,
    };
    // Without the head's file nothing opens the log, whether entries are lost with it or not.
    let missing = !found.contains_key(&superblock.head.file);
    let walked = match missing {
        true => Walked {
            commits: Vec::new(),
            end: superblock.head,
        },
        false => scan.walk(superblock.head)?,
    };
    let Walked { commits, end } = walked;
    usable(&found, &commits)?;
    let behind = scan.behind(end)?;
    let synced = behind.iter().map(|commit| commit.synced_through).max();
    let durable = synced
        .max(Some(superblock.durable_through))
        .unwrap_or_default();
    let short = scan.short(superblock, commits.iter().chain(&behind));
    if durable < end.first && short.is_none() && !missing {
        return Ok(None);
    }
    let behind_it = behind.iter().map(|commit| Lsn(commit.next().0 - 1)).max();
    let last = durable
        .max(behind_it.unwrap_or_default())
        .max(known.snapshot);
    let last = last.max(Lsn(end.first.0 - 1));
    let epochs = commits.iter().chain(&behind).map(|commit| commit.epoch);
    let epoch = epochs.fold(superblock.epoch, u64::max);
    let behind = records_behind(&found, &behind).into_iter();
    let behind = behind.map(|(id, offsets)| (id, offsets.end));
    let files = in_files(disk, &known.ends, &known.deleted)?;
    let (gaps, unmade) = reached(behind.chain(files), &known.ends, meaning);
    let journal = JournalCut {
        file: journal_path(end.file).to_string(),
        byte: end.offset,
        entries: end.first..last.next(),
    };
    let cut = Cut {
        survivors: commits,
        end,
        last,
        epoch,
        gaps,
        unmade,
    };
    Ok(Some((journal, cut)))
}

type Spans = Vec<(PartitionId, Range<Offset>)>;

/// Offsets up to what was found behind the damage and in segments, and up to those that the machine
/// speaks of, which no partition has any more; and the partitions whose beginning is among what is
/// lost.
fn reached(
    found: impl Iterator<Item = (PartitionId, Offset)>,
    ends: &BTreeMap<PartitionId, Offset>,
    meaning: &dyn Mend,
) -> (Spans, Spans) {
    let mut reach: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    let spoken = meaning.reach().into_iter();
    let spoken = spoken.filter(|(id, _)| ends.contains_key(id));
    for (id, end) in found.chain(spoken) {
        let reached = reach.entry(id).or_insert(end);
        *reached = end.max(*reached);
    }
    let (mut gaps, mut unmade) = (Vec::new(), Vec::new());
    for (id, reached) in reach {
        match ends.get(&id) {
            Some(end) if *end < reached => gaps.push((id, *end..reached)),
            Some(_) => {}
            None => unmade.push((id, Offset(0)..reached)),
        }
    }
    (gaps, unmade)
}

/// Whether what a compaction wrote since the snapshot is whole: the journal names its bytes, so
/// it cannot be written anew before a snapshot does.
fn compacted(disk: &dyn Disk, id: PartitionId, swap: &Swap) -> Result<(), RepairError> {
    let Some(kept) = &swap.new else {
        return Ok(());
    };
    let segment = Segment::kept(id, kept);
    let walked = walk(disk, &segment, &mut |_| Ok(()))
        .map_err(RepairError::io(format!("read {}", segment.log_path)))?;
    match walked.is_whole {
        true => Ok(()),
        false => Err(RepairError::NotYet(segment.log_path.to_string())),
    }
}

/// Whether every entry can be used.
fn usable(found: &Found, commits: &[CommitHeader]) -> Result<(), RepairError> {
    for header in commits {
        let payload = read_payload(found, header).map_err(RepairError::io(format!(
            "read {}",
            journal_path(header.file)
        )))?;
        decode(payload, header.count, header.first, |_, _| Ok(()))
            .map_err(|(lsn, why)| RepairError::Entry { lsn, why })?;
    }
    Ok(())
}

impl Plan {
    /// Goes through all segments.
    fn segments(
        &mut self,
        disk: &dyn Disk,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), RepairError> {
        let kept = self.table.values().flat_map(|entry| &entry.segments);
        let total_bytes = kept.map(|kept| kept.at.bytes).sum();
        let mut done_bytes = 0;
        for entry in self.table.values() {
            for kept in &entry.segments {
                if self.gone.contains(&(entry.id, kept.base)) {
                    continue;
                }
                let segment = Segment::kept(entry.id, kept);
                let walked = walk(disk, &segment, &mut |_| Ok(()))
                    .map_err(RepairError::io(format!("read {}", segment.log_path)))?;
                done_bytes += kept.at.bytes;
                watch(Progress {
                    file: &segment.log_path,
                    done_bytes,
                    total_bytes,
                });
                if walked.is_whole {
                    continue;
                }
                self.segments.push(SegmentMend {
                    id: entry.id,
                    file: segment.log_path.to_string(),
                    loses: !walked.lost.is_empty(),
                });
                self.lost
                    .extend(walked.lost.into_iter().map(|offsets| Lost {
                        id: entry.id,
                        offsets,
                        file: segment.log_path.to_string(),
                    }));
                self.mends.push((entry.id, segment));
            }
        }
        Ok(())
    }

    /// A log without a readable journal or snapshot has nothing to go by.
    pub(super) fn is_of(&self, disk: &dyn Disk) -> Result<(), InspectError> {
        let again = crate::inspect::superblocks::newest(&roots(disk));
        match again == Some(self.superblock) {
            true => Ok(()),
            false => Err(InspectError::NoLog),
        }
    }
}
