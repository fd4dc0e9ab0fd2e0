//! Background steps: removals, new journal files, segments, checkpoints. At most one at a time.

use std::sync::OnceLock;

use bytes::Bytes;

use super::checkpoint::CheckpointJob;
use super::compaction::CompactionJob;
use super::partition::Written;
use super::store::Scope;
use super::{Full, Log};
use crate::io::Action;
use crate::journal::writer::{Asker, JOURNAL_DIR, Making, journal_path};
use crate::limits::{FULL_RETRY_AFTER, STEPS_BEFORE_COMPACTION, ZERO_PIECE_BYTES};
use crate::machine::{Lsn, Machine};
use crate::options::Fault;
use crate::stats;
use crate::superblock::Superblock;

/// What is under way in the background.
#[derive(Debug)]
pub(super) enum BackgroundJob {
    Remove,
    /// What a compaction that did not end has written is removed.
    Leftovers,
    /// Nothing is done, so that it is told how much space there is.
    Look,
    Zero {
        bytes: u64,
    },
    Segments(Vec<Written>),
    Checkpoint(CheckpointJob),
    Compaction(CompactionJob),
    /// The superblocks say that the journal goes on in another file.
    Witness(Superblock),
}

impl<M: Machine, T> Log<M, T> {
    /// The next thing for the background's lane.
    pub(super) fn background_step(&mut self) -> Option<(BackgroundJob, Vec<Action>)> {
        if !self.pins.hold_files()
            && let Some(actions) = self.removals.next(self.removable())
        {
            return Some((BackgroundJob::Remove, actions));
        }
        self.look_for_due();
        if !self.may_write() {
            return None;
        }
        if let Some(look) = self.look() {
            return Some(look);
        }
        self.steps_since_compaction = self.steps_since_compaction.saturating_add(1);
        if self.steps_since_compaction > STEPS_BEFORE_COMPACTION
            && let Some(step) = self.compaction_step()
        {
            return Some(step);
        }
        let budget_bytes = self.journal_budget_bytes();
        let making = self.journal.make(self.want_room, budget_bytes);
        for path in self.journal.shed.drain(..) {
            self.removals.file(path);
        }
        if let Some(making) = making {
            let (job, mut actions) = zero(making);
            if self.options.has(Fault::SkipJournalName) {
                actions.retain(|action| !matches!(action, Action::SyncDir(_)));
            }
            return Some((job, actions));
        }
        if let Some(witness) = self.witness() {
            return Some(witness);
        }
        // Each has its turn: under a load that never ends there is always a segment to write, and
        // without a checkpoint the journal's head stays where it is.
        let step = match std::mem::take(&mut self.segments_were_last) {
            true => self.checkpoint_step().or_else(|| self.segments_step()),
            false => self.segments_step().or_else(|| self.checkpoint_step()),
        };
        if step.is_none() && self.checkpoint.is_none() {
            // There is nothing to try again with, so the next operation shall try.
            self.full = None;
            self.nothing_makes_room();
        }
        step.or_else(|| self.compaction_step())
    }

    /// The next write of segments.
    fn segments_step(&mut self) -> Option<(BackgroundJob, Vec<Action>)> {
        let full_tail = self.want_tail || self.store.tail_bytes > self.tail_max_bytes() / 4 * 3;
        let scope = if full_tail {
            Scope::Oldest
        } else {
            Scope::Ready
        };
        if let Some((parts, actions)) = self.store.next_write(self.synced, scope) {
            self.segments_were_last = true;
            return Some((BackgroundJob::Segments(parts), actions));
        }
        if full_tail && self.synced < self.committed {
            self.want_sync = true;
        }
        None
    }

    /// What entries up to this one gave up may be removed.
    fn removable(&self) -> Lsn {
        match self.options.has(Fault::RemoveEarly) {
            true => self.committed,
            false => self.synced,
        }
    }

    /// A journal file that is lost whole, or up to its first commit, has nothing in it that could
    /// tell: so once its first commit is synced, the superblocks say so.
    fn witness(&self) -> Option<(BackgroundJob, Vec<Action>)> {
        let first = self.journal.lap_first;
        if self.superblock.durable_through >= first || self.synced < first {
            return None;
        }
        let mut superblock = Superblock {
            durable_through: self.synced,
            ..self.superblock
        };
        let actions = superblock.write();
        Some((BackgroundJob::Witness(superblock), actions))
    }

    /// Whoever waits for room while nothing is under way that could make some is refused.
    fn nothing_makes_room(&mut self) {
        let under_way = self.journal_io.is_some() || self.want_sync;
        let Some(wanted) = self.want_room.filter(|_| !under_way) else {
            return;
        };
        let why = format!("the journal cannot grow by {} bytes", wanted.bytes);
        match wanted.asker {
            Asker::Records => drop(self.run_short(why, 0)),
            Asker::Operation | Asker::Own => {
                let retry_at = self.now.monotonic + FULL_RETRY_AFTER;
                self.full = Some(Full { why, retry_at });
            }
        }
    }

    pub(super) fn finished_background(&mut self, job: BackgroundJob) {
        use BackgroundJob::{Leftovers, Look, Remove};
        let wrote = !matches!(job, Remove | Leftovers | Look);
        match job {
            BackgroundJob::Remove => self.removals.finished(true),
            BackgroundJob::Leftovers | BackgroundJob::Look => {}
            BackgroundJob::Zero { bytes } => self.journal.made(bytes),
            BackgroundJob::Segments(parts) => {
                let bytes = self.store.wrote(&parts, self.clock.wall_ms());
                stats::add(&self.counters.segment_bytes, bytes);
            }
            BackgroundJob::Checkpoint(job) => self.finished_checkpoint(job),
            BackgroundJob::Compaction(job) => self.finished_compaction(&job),
            BackgroundJob::Witness(superblock) => self.superblock = superblock,
        }
        self.show_sizes();
        if wrote && self.full.take().is_some() {
            tracing::info!("there is space again");
        }
    }
}

fn zero(making: Making) -> (BackgroundJob, Vec<Action>) {
    const ZEROS_BYTES: usize = 64 * 1024;
    static ZEROS: OnceLock<Bytes> = OnceLock::new();
    let zeros = ZEROS.get_or_init(|| Bytes::from(vec![0; ZEROS_BYTES]));
    let path = journal_path(making.file.number);
    let left = making.file.size_bytes - making.zeroed_bytes;
    let bytes = left.min(ZERO_PIECE_BYTES as u64);
    let mut actions = Vec::new();
    if making.zeroed_bytes == 0 {
        actions.push(Action::Create(path.clone()));
    }
    let whole = bytes as usize / ZEROS_BYTES;
    let mut pieces = vec![zeros.clone(); whole];
    pieces.push(zeros.slice(..bytes as usize % ZEROS_BYTES));
    actions.push(Action::Write {
        path: path.clone(),
        position: making.zeroed_bytes,
        pieces,
    });
    if bytes == left {
        actions.push(Action::Sync(path));
        actions.push(Action::SyncDir(JOURNAL_DIR.into()));
    }
    (BackgroundJob::Zero { bytes }, actions)
}
