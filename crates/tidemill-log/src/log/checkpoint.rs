//! Checkpoints: the oldest partitions are written out and synced, a snapshot is taken, both
//! superblocks name it, and the journal's head moves.
//!
//! A checkpoint is fuzzy: commits go on meanwhile, and what they add is in the journal behind
//! the new head.

use std::iter::Peekable;
use std::time::Duration;

use super::Log;
use super::background::BackgroundJob;
use super::store::Scope;
use crate::io::Action;
use crate::journal::writer::Place;
use crate::limits::{CHECKPOINT_PARTITIONS_MAX, NAMING_LONGEST, NAMING_PAUSES};
use crate::machine::{Dump, Lsn, Machine, PartitionId};
use crate::options::Fault;
use crate::snapshot::{Housekeeping, SnapshotWriter, snapshot_path};
use crate::stats;
use crate::superblock::Superblock;

/// A checkpoint that is under way.
pub(super) struct Checkpoint {
    partitions: Vec<PartitionId>,
    /// What of them is to be written.
    through: Lsn,
    /// When it began, by the monotonic clock.
    began: Duration,
    stage: Stage,
}

enum Stage {
    /// Segments are written.
    Writing,
    /// Segments are being synced.
    Syncing,
    /// The snapshot is to be taken.
    Snapshot,
    /// The snapshot is being written, a chunk at a time.
    Snapshotting(Box<Snapshotting>),
    /// The last of it is being written and synced.
    Ending(Taken),
    /// The superblocks are to name it.
    Naming(Taken),
}

/// A snapshot that is being written.
struct Snapshotting {
    taken: Taken,
    writer: SnapshotWriter,
    /// The machine's state at that moment.
    dump: Peekable<Dump>,
}

/// A snapshot, as of the moment when it was taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// It holds everything up to here.
    lsn: Lsn,
    /// The first entry with records that its segments did not hold. Later deletions change
    /// that for the log, but not for the snapshot.
    needed: Lsn,
}

/// What a checkpoint has under way in the background.
#[derive(Debug)]
pub(super) enum CheckpointJob {
    Sync,
    Snapshot,
    Superblock(Superblock),
}

impl Snapshotting {
    /// What writes the next chunk, and after the last one what makes the snapshot durable.
    fn next(&mut self) -> Vec<Action> {
        if let Some(chunk) = self.dump.next() {
            self.writer.machine(chunk);
        }
        if self.is_whole() {
            return self.writer.finish();
        }
        self.writer.take()
    }

    /// Whether all of it was taken.
    fn is_whole(&mut self) -> bool {
        self.dump.peek().is_none()
    }
}

impl<M: Machine, T> Log<M, T> {
    fn checkpoint_is_due(&self) -> bool {
        let pressed = self.want_room.is_some();
        let after = self.options.checkpoint_after_bytes;
        let used = self.journal.used_bytes;
        // Where very many partitions have something to sync, a checkpoint hardly moves the head:
        // the next one waits for more, as long as the journal has room.
        let since = self.journal.written_bytes - self.checkpoint_from;
        let worth = since >= after / 4 || used >= self.options.journal_max_bytes / 2;
        let long = used >= after && worth;
        let more = self.snapshot_lsn < self.committed || self.store.oldest_dirty().is_some();
        let last = self.closing && self.queue.is_empty() && !self.is_clean();
        let named = self.store.names_wanted && self.now.monotonic >= self.next_naming;
        last || more && (pressed || long || named)
    }

    /// The next step of the checkpoint under way, or of one that is due.
    pub(super) fn checkpoint_step(&mut self) -> Option<(BackgroundJob, Vec<Action>)> {
        if self.checkpoint.is_none() {
            if !self.checkpoint_is_due() {
                return None;
            }
            let through = self.committed;
            self.checkpoint_from = self.journal.written_bytes;
            self.store.names_wanted = false;
            self.checkpoint = Some(Checkpoint {
                partitions: self.store.dirty(through, CHECKPOINT_PARTITIONS_MAX),
                through,
                began: self.now.monotonic,
                stage: Stage::Writing,
            });
        }
        if matches!(self.checkpoint.as_ref()?.stage, Stage::Snapshot) {
            let snapshot = self.snapshot();
            self.checkpoint.as_mut()?.stage = Stage::Snapshotting(Box::new(snapshot));
        }
        let checkpoint = self.checkpoint.as_mut()?;
        match &mut checkpoint.stage {
            Stage::Writing => {
                if self.synced < checkpoint.through {
                    self.want_sync = true;
                    return None;
                }
                let scope = Scope::Only(&checkpoint.partitions);
                if let Some((parts, actions)) = self.store.next_write(checkpoint.through, scope) {
                    return Some((BackgroundJob::Segments(parts), actions));
                }
                if self
                    .store
                    .has_unwritten(&checkpoint.partitions, checkpoint.through)
                {
                    // A new segment is being journaled.
                    return None;
                }
                checkpoint.stage = Stage::Syncing;
                let careless = self.options.has(Fault::PassOverFullSegment);
                let mut actions = self.store.sync(&checkpoint.partitions, careless);
                if self.options.has(Fault::SkipSegmentSync) {
                    actions.clear();
                }
                actions.extend(self.removals.sync());
                Some((BackgroundJob::Checkpoint(CheckpointJob::Sync), actions))
            }
            Stage::Snapshotting(snapshot) => {
                let mut actions = snapshot.next();
                if self.options.has(Fault::SkipSnapshotSync) {
                    actions.retain(|action| !action.is_sync());
                }
                if snapshot.is_whole() {
                    self.space.snapshot_bytes = snapshot.writer.size_bytes();
                    checkpoint.stage = Stage::Ending(snapshot.taken);
                }
                Some((BackgroundJob::Checkpoint(CheckpointJob::Snapshot), actions))
            }
            Stage::Naming(taken) => {
                let taken = *taken;
                self.name_snapshot(taken)
            }
            Stage::Syncing | Stage::Snapshot | Stage::Ending(_) => None,
        }
    }

    /// A snapshot of this moment: everything committed is in it, and nothing else, whatever is
    /// committed while it is written.
    fn snapshot(&mut self) -> Snapshotting {
        let mut writer = SnapshotWriter::new(self.committed, self.superblock.snapshot + 1);
        for partition in self.store.partitions.values_mut() {
            let entry = partition.table_entry();
            let last = entry.segments.last();
            partition.naming = last.map_or(entry.earliest, |kept| kept.at.end);
            writer.partition(&entry);
        }
        writer.housekeeping(&Housekeeping {
            clock_ms: Some(self.clock.believed_ms()),
            gone: self.removals.listed(self.committed).collect(),
        });
        Snapshotting {
            taken: Taken {
                lsn: self.committed,
                needed: self.store.oldest_dirty().unwrap_or(self.committed.next()),
            },
            writer,
            dump: self.machine.dump().peekable(),
        }
    }

    fn name_snapshot(&mut self, taken: Taken) -> Option<(BackgroundJob, Vec<Action>)> {
        if self.pins.hold_the_head() {
            return None;
        }
        // A snapshot must not know more than the journal keeps through a power cut.
        if self.synced < taken.lsn && !self.options.has(Fault::NameSnapshotEarly) {
            self.want_sync = true;
            return None;
        }
        let mut needed = taken.needed.min(taken.lsn.next());
        if self.options.has(Fault::MoveHeadTooFar) {
            needed = taken.lsn.next();
        } else if self.options.has(Fault::NeedByLaterDirt) {
            let dirty = self.store.oldest_dirty().unwrap_or(self.committed.next());
            needed = dirty.min(taken.lsn.next());
        }
        let head = self.journal.place_of(needed, self.next);
        let mut superblock = Superblock {
            snapshot: self.superblock.snapshot + 1,
            head,
            durable_through: self.synced,
            head_bytes: self.journal.lap_bytes_of(head.lap),
            ..self.superblock
        };
        let mut actions = superblock.write();
        if self.options.has(Fault::SkipSuperblockSync) {
            actions.retain(|action| !action.is_sync());
        }
        Some((
            BackgroundJob::Checkpoint(CheckpointJob::Superblock(superblock)),
            actions,
        ))
    }

    pub(super) fn finished_checkpoint(&mut self, job: CheckpointJob) {
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return;
        };
        match job {
            CheckpointJob::Sync => {
                self.store.synced(&checkpoint.partitions);
                self.removals.synced();
                checkpoint.stage = Stage::Snapshot;
                self.checkpoint = Some(checkpoint);
            }
            CheckpointJob::Snapshot => {
                if let Stage::Ending(taken) = checkpoint.stage {
                    checkpoint.stage = Stage::Naming(taken);
                }
                self.checkpoint = Some(checkpoint);
            }
            CheckpointJob::Superblock(superblock) => {
                if let Stage::Naming(taken) = checkpoint.stage {
                    self.snapshot_lsn = taken.lsn;
                }
                for partition in self.store.partitions.values_mut() {
                    partition.named = partition.naming;
                }
                stats::add(&self.counters.checkpoints, 1);
                self.last_checkpoint = self.closing && self.queue.is_empty();
                self.moved_head(superblock.head);
                if self.superblock.snapshot > 0 {
                    let old = snapshot_path(self.superblock.snapshot);
                    self.removals.file(old);
                }
                self.superblock = superblock;
                let now = self.now.monotonic;
                let took = now.saturating_sub(checkpoint.began);
                self.next_naming = now + naming_pause(self.options.naming_every, took);
                // What waited to be named may be compacted.
                self.next_look = self.next_look.min(self.now.monotonic);
            }
        }
    }

    fn moved_head(&mut self, head: Place) {
        let removed = self.journal.moved_head(head);
        for path in removed {
            self.removals.file(path);
        }
    }
}

/// How long no checkpoint is made for the sake of compactions alone after one that took so long.
fn naming_pause(shortest: Duration, took: Duration) -> Duration {
    let share = took.saturating_mul(NAMING_PAUSES);
    share.clamp(shortest, shortest.saturating_mul(NAMING_LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_for_compactions_take_a_twentieth_of_the_time_and_come_within_a_minute() {
        let after = |took_ms| {
            let pause = naming_pause(Duration::from_secs(10), Duration::from_millis(took_ms));
            pause.as_millis()
        };
        assert_eq!([after(0), after(500), after(501)], [10_000, 10_000, 10_020]);
        assert_eq!([after(3_000), after(3_001), after(u64::MAX)], [60_000; 3]);
    }
}
