//! Sealing: what waits becomes a group, its entries get their LSNs and its records their
//! offsets, and the group becomes one commit.

use tidemill_core::budget::Class;
use tidemill_core::error::Unavailable;

use super::commit::{Ended, JournalJob};
use super::{Log, Step};
use crate::draft::Draft;
use crate::error::CommitError;
use crate::io::Action;
use crate::journal::commit::{Commit, padded};
use crate::journal::entry::{MARKER_ENTRY_BYTES, SEGMENT_ENTRY_BYTES};
use crate::journal::group::GroupBuilder;
use crate::journal::writer::{Asker, Room, Wanted};
use crate::limits::{GROUP_BYTES, GROUP_OPERATIONS, MARKER_AFTER, SEGMENTS_AT_ONCE};
use crate::machine::{Demand, Lsn, Machine};
use crate::options::{Fault, FlushPolicy};
use crate::stats;

/// What to do with the operation that waits first.
enum Admission {
    Seal,
    Wait,
    Refuse(Unavailable),
}

impl<M: Machine, T> Log<M, T> {
    /// The next thing for the journal's lane.
    pub(super) fn journal_step(&mut self) -> Option<(JournalJob<M, T>, Vec<Action>)> {
        if self.sync_is_due() {
            let through = self.committed;
            let actions = vec![Action::Sync(self.journal.current_path())];
            return Some((JournalJob::Sync { through }, actions));
        }
        let mut group = GroupBuilder::new(self.next);
        self.want_room = None;
        self.seal_segments(&mut group);
        self.seal_expiries(&mut group);
        self.seal_swap(&mut group);
        let ended = self.seal_waiting(&mut group);
        if group.is_empty() {
            self.hand_out(ended);
            if self.marked || self.now.monotonic < self.last_commit_at + MARKER_AFTER {
                return None;
            }
            if self
                .journal
                .room(padded(MARKER_ENTRY_BYTES) as u64, Asker::Own)
                != Room::Yes
            {
                // There will be one after the next commit that has room.
                self.marked = true;
                return None;
            }
            group.begin();
            group.marker();
            group.keep();
            return Some(self.commit(group, Vec::new(), true));
        }
        Some(self.commit(group, ended, false))
    }

    /// New segments are journaled before their files are made.
    fn seal_segments(&mut self, group: &mut GroupBuilder) {
        let count = self.store.wishes.len().min(SEGMENTS_AT_ONCE);
        if count == 0 {
            return;
        }
        let bytes = padded(count * SEGMENT_ENTRY_BYTES) as u64;
        let asker = Asker::Own;
        if self.journal.room(bytes, asker) != Room::Yes {
            self.want_room = Some(Wanted { bytes, asker });
            return;
        }
        for wish in self.store.wishes.drain(..count) {
            if self
                .store
                .partitions
                .get(&wish.id)
                .is_some_and(|partition| partition.wished)
            {
                group.begin();
                group.segment(wish.id, wish.base, wish.roll);
                group.keep();
            }
        }
    }

    fn seal_waiting(&mut self, group: &mut GroupBuilder) -> Vec<Ended<M, T>> {
        let mut ended = Vec::new();
        self.want_tail = false;
        self.sealing_bytes = 0;
        self.queue.begin();
        // Once records have to wait for room, all records do, so that small ones do not take it
        // from a large one. What appends none goes on.
        let mut records = true;
        while group.size_bytes() < GROUP_BYTES && ended.len() < GROUP_OPERATIONS {
            let Some(demand) = self.queue.next(records) else {
                break;
            };
            let admission = self.admit(demand, group);
            if matches!(admission, Admission::Wait) {
                if !demand.appends {
                    break;
                }
                records = false;
                continue;
            }
            let Some(waiting) = self.queue.pop(records) else {
                break;
            };
            let outcome = match admission {
                Admission::Refuse(why) => Err(CommitError::Unavailable(why)),
                _ => {
                    let epoch = i32::try_from(self.journal.epoch).unwrap_or(i32::MAX);
                    let now_ms = self.now.wall.as_millisecond();
                    let mut draft = Draft::new(group, &mut self.outlines, epoch, now_ms);
                    match self.machine.seal(waiting.operation, self.now, &mut draft) {
                        Ok(receipt) => {
                            draft.keep();
                            self.sealing_bytes += demand.records;
                            Ok(receipt)
                        }
                        Err(refusal) => {
                            draft.forget();
                            Err(CommitError::Refused(refusal))
                        }
                    }
                }
            };
            ended.push(Ended {
                token: waiting.token,
                outcome,
                place: waiting.place,
            });
        }
        ended
    }

    /// Bytes of the tails at most.
    pub(super) fn tail_max_bytes(&self) -> usize {
        let budget = &self.options.memory;
        self.options.tail_max_bytes.min(budget.max(Class::Tails))
    }

    /// Takes memory for these records in the tails; answers whether it is there. Records that
    /// are more than the tails may ever have are taken where nothing else is in them.
    fn takes_memory(&mut self, records: usize) -> bool {
        let held = self.store.tail_bytes + self.sealing_bytes;
        let after = held.saturating_add(records);
        let more = after.saturating_sub(self.tails.bytes());
        if held == 0 {
            self.tails.grow_anyway(more);
            return true;
        }
        after <= self.options.tail_max_bytes && self.tails.grow(more)
    }

    /// Space is reserved before sealing: afterwards only a fatal error is possible.
    fn admit(&mut self, demand: Demand, group: &GroupBuilder) -> Admission {
        if demand.appends {
            if let Some(full) = &self.full {
                return Admission::Refuse(Unavailable::Full(full.why.clone()));
            }
            if let Some(why) = self.is_short_of(group.size_bytes().saturating_add(demand.bytes)) {
                return Admission::Refuse(Unavailable::Full(why));
            }
            if !self.takes_memory(demand.records) {
                self.want_tail = true;
                return Admission::Wait;
            }
        }
        let bytes = padded(group.size_bytes().saturating_add(demand.bytes)) as u64;
        let asker = if demand.appends {
            Asker::Records
        } else {
            Asker::Operation
        };
        // Where space is short, operations without records still wait for the head to move.
        let full = match asker {
            Asker::Records => self.why_full(),
            _ => self.full.as_ref().map(|full| full.why.as_str()),
        };
        match (self.journal.room(bytes, asker), full) {
            (Room::Yes, _) => Admission::Seal,
            (Room::Later | Room::Never, _) if !group.is_empty() => Admission::Wait,
            (Room::Later, Some(why)) => Admission::Refuse(Unavailable::Full(why.to_owned())),
            (Room::Later, None) => {
                self.want_room.get_or_insert(Wanted { bytes, asker });
                Admission::Wait
            }
            (Room::Never, _) => Admission::Refuse(Unavailable::Full(format!(
                "the operation needs {bytes} bytes, more than the whole journal may have"
            ))),
        }
    }

    fn commit(
        &mut self,
        group: GroupBuilder,
        mut ended: Vec<Ended<M, T>>,
        marker: bool,
    ) -> (JournalJob<M, T>, Vec<Action>) {
        let group = group.finish();
        let length: usize = group.pieces.iter().map(bytes::Bytes::len).sum();
        let placed = self
            .journal
            .place(padded(length) as u64, group.first, self.synced);
        let commit = Commit::of_group(placed.header, &group);
        self.journal.advance(commit.padded_bytes, commit.crc);
        stats::add(&self.counters.journal_bytes, commit.padded_bytes);
        self.next = Lsn(group.last().0 + 1);
        let mut actions = Vec::with_capacity(3);
        let previous_synced = placed.sync_first.is_some();
        let first = placed.sync_first.map(Action::Sync);
        actions.extend(first.filter(|_| !self.options.has(Fault::SkipSyncAtSwitch)));
        actions.push(Action::Write {
            path: placed.path.clone(),
            position: placed.header.offset,
            pieces: commit.pieces,
        });
        let synced = self.options.flush == FlushPolicy::EveryCommit;
        if synced && !self.options.has(Fault::SkipSync) {
            actions.push(Action::Sync(placed.path));
        }
        if self.options.has(Fault::AcknowledgeEarly) {
            self.hand_out(std::mem::take(&mut ended));
        }
        let job = JournalJob::Group {
            group,
            ended,
            synced,
            previous_synced,
            marker,
        };
        (job, actions)
    }

    pub(super) fn hand_out(&mut self, ended: Vec<Ended<M, T>>) {
        self.steps.extend(ended.into_iter().map(|ended| {
            drop(ended.place);
            let (token, outcome) = (ended.token, ended.outcome);
            Step::Done { token, outcome }
        }));
    }

    fn sync_is_due(&self) -> bool {
        let due = match self.options.flush {
            FlushPolicy::EveryCommit | FlushPolicy::Os => false,
            FlushPolicy::Interval(every) => self.now.monotonic >= self.last_sync_at + every,
        };
        self.synced < self.committed && (due || self.want_sync || self.closing)
    }
}
