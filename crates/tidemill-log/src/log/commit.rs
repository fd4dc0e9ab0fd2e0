//! What happens when a commit has ended: readers and the machine's durable state get it, then
//! the receipts are handed out.

use tidemill_core::error::Unavailable;

use super::removal::Gone;
use super::{Log, Outcome, Place, Step};
use crate::error::CommitError;
use crate::io::IoFailure;
use crate::journal::group::{Group, Sealed};
use crate::machine::{Effect, Lsn, Machine};
use crate::stats;

/// An operation that was sealed or refused.
pub(super) struct Ended<M: Machine, T> {
    pub(super) token: T,
    pub(super) outcome: Outcome<M>,
    /// Its memory, until its commit has ended: small batches are copied into that.
    pub(super) place: Place,
}

/// What is under way on the journal's lane.
pub(super) enum JournalJob<M: Machine, T> {
    /// A commit.
    Group {
        group: Group,
        ended: Vec<Ended<M, T>>,
        /// Its own sync is part of it.
        synced: bool,
        /// A sync of everything before is part of it.
        previous_synced: bool,
        marker: bool,
    },
    /// A sync alone.
    Sync { through: Lsn },
}

impl<M: Machine, T> Log<M, T> {
    pub(super) fn committed_job(&mut self, job: JournalJob<M, T>) {
        match job {
            JournalJob::Sync { through } => {
                self.journal.unsynced = false;
                self.synced_through(through);
            }
            JournalJob::Group {
                group,
                ended,
                synced,
                previous_synced,
                marker,
            } => {
                if previous_synced {
                    self.synced_through(self.committed);
                }
                self.committed = group.last();
                stats::add(&self.counters.commits, 1);
                stats::add(&self.counters.entries, u64::from(group.count));
                if synced {
                    self.journal.unsynced = false;
                    self.synced_through(group.last());
                }
                self.apply(&group);
                self.marked = marker;
                self.last_commit_at = self.now.monotonic;
                self.hand_out(ended);
            }
        }
    }

    /// Says how much is in the tails: to the budget, and to whoever looks.
    pub(super) fn show_sizes(&mut self) {
        let held = self.store.tail_bytes + self.sealing_bytes;
        let now = self.tails.bytes();
        self.tails.shrink(now.saturating_sub(held));
        // Beyond what was said before, there are headers that the log itself wrote.
        self.tails.grow_anyway(held.saturating_sub(now));
        stats::set(&self.counters.tail_bytes, self.store.tail_bytes as u64);
        stats::set(&self.counters.replay_bytes, self.journal.used_bytes);
    }

    fn synced_through(&mut self, lsn: Lsn) {
        self.synced = self.synced.max(lsn);
        stats::add(&self.counters.syncs, 1);
        self.last_sync_at = self.now.monotonic;
        self.want_sync = false;
    }

    /// Nothing of the group is certain: its write or its sync failed.
    pub(super) fn failed_job(&mut self, job: JournalJob<M, T>, failure: &IoFailure) {
        let why = failure.to_string();
        self.give_up_job(job, &why);
        self.fail(&why);
    }

    /// What was sealed into a group is told as uncertain.
    pub(super) fn give_up_job(&mut self, job: JournalJob<M, T>, why: &str) {
        let JournalJob::Group { ended, .. } = job else {
            return;
        };
        for Ended { token, outcome, .. } in ended {
            let outcome = match outcome {
                Ok(_) => Err(CommitError::Indeterminate(why.to_owned())),
                // It was decided on what may be lost.
                Err(CommitError::Refused(_)) => Err(CommitError::Unavailable(
                    Unavailable::SyncFailed(why.to_owned()),
                )),
                other => other,
            };
            self.steps.push_back(Step::Done { token, outcome });
        }
    }

    fn apply(&mut self, group: &Group) {
        for (lsn, part) in &group.parts {
            match part {
                Sealed::Effect { kind, range } => {
                    let bytes = group.buffer.get(range.clone()).unwrap_or_default();
                    self.machine.apply(*lsn, Effect { kind: *kind, bytes });
                }
                Sealed::Create(id) => self.store.create(*id),
                Sealed::Delete(id) => {
                    if self.store.delete(*id) {
                        self.removals.gone(*lsn, Gone::Partition(*id));
                    }
                }
                Sealed::Settings { id, settings } => self.store.configure(*id, *settings),
                Sealed::Segment { id, base } => self.store.add_segment(*id, *base),
                Sealed::Trim {
                    id,
                    bases,
                    earliest,
                } => {
                    self.trimmed(*lsn, *id, bases, *earliest);
                    self.machine.trimmed(*lsn, *id, *earliest);
                }
                Sealed::Swap { id, swap } => self.swapped(*lsn, *id, swap),
                Sealed::Records { id, batch } => {
                    self.store.append(*lsn, *id, batch);
                    self.machine.appended(*lsn, *id, batch);
                }
            }
        }
        self.sealing_bytes = 0;
        self.show_sizes();
        for (id, end) in self.store.show() {
            self.steps.push_back(Step::Advanced { id, end });
        }
    }
}
