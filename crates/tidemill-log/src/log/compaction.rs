//! Compaction: which partitions are worth it, one of them at a time, a piece between other
//! steps; each segment that was written anew is journaled before it takes the old one's place.

use std::sync::Arc;

use tidemill_core::Offset;

use super::Log;
use super::background::BackgroundJob;
use super::partition::PartitionState;
use super::removal::Gone;
use super::retention::AgeClock;
use super::store::Store;
use crate::io::{Action, Work};
use crate::journal::commit::padded;
use crate::journal::entry::{SWAP_ENTRY_BYTES, Swap};
use crate::journal::group::GroupBuilder;
use crate::journal::writer::{Asker, Room, Wanted};
use crate::limits::SWAP_SEGMENTS_MAX;
use crate::machine::{Lsn, Machine, PartitionId};
use crate::options::Fault;
use crate::segment::compact::{Compaction, Group, Plan, Progress, Rewritten};
use crate::segment::{Segment, Times, partition_dir, paths};
use crate::stats;

/// The compaction under way.
#[derive(Debug)]
pub(super) struct Compacting {
    id: PartitionId,
    work: Arc<Compaction>,
    stage: Stage,
    cleaned: Offset,
}

#[derive(Debug)]
enum Stage {
    /// The next piece of work is to be done, or is.
    Working,
    /// What was written is to be synced.
    Written(Rewritten),
    /// It is being synced.
    Syncing(Rewritten),
    /// It is to be journaled; after the last one the compaction has ended.
    Swap { swap: Swap, last: bool },
    /// It is being journaled.
    Swapping { last: bool },
}

/// What a compaction has under way in the background.
#[derive(Debug)]
pub(super) enum CompactionJob {
    Work,
    Sync,
}

impl PartitionState {
    /// What a compaction would do now, if it is worth it: at least half of what may be
    /// compacted never was, or some of it has waited for as long as it may.
    pub(super) fn compaction(&self, clock: &AgeClock, segment_max_bytes: u64) -> Option<Plan> {
        let settings = &self.settings;
        if !settings.cleanup.compacts() || self.unreadable {
            return None;
        }
        let now_ms = clock.age_ms();
        let (_, closed) = self.segments.split_last()?;
        let may = |segment: &&Segment| {
            self.is_named(segment)
                && segment.times.appended_ms >= 0
                && segment.is_older_than(settings.compaction_lag_min_ms, now_ms)
        };
        let eligible: Vec<&Segment> = closed.iter().take_while(may).collect();
        let is_dirty = |segment: &&&Segment| segment.written.end > self.cleaned;
        let bytes = |segment: &&Segment| segment.written.bytes;
        let dirty_bytes: u64 = eligible.iter().filter(is_dirty).map(bytes).sum();
        let all_bytes: u64 = eligible.iter().map(bytes).sum();
        let first = eligible.iter().find(is_dirty)?;
        let late = self.has_waited(first, now_ms);
        if !late && 2 * dirty_bytes < all_bytes {
            return None;
        }
        let most_bytes = settings.roll_at_bytes(segment_max_bytes);
        Some(Plan {
            id: self.id,
            groups: self.groups(&eligible, now_ms, most_bytes),
            cleaned: self.cleaned,
            compression: settings.compression,
            // Ages never reach further: where the wall clock is back now, it is put right at once.
            now_ms: clock.believed_ms(),
            drops_latest: false,
        })
    }

    /// Whether a replay begins with a snapshot that has all of a segment.
    fn is_named(&self, segment: &Segment) -> bool {
        segment.written == segment.synced && segment.written.end <= self.named
    }

    /// Whether a segment has waited to be compacted for as long as it may.
    fn has_waited(&self, segment: &Segment, now_ms: i64) -> bool {
        self.settings.compaction_lag_max_ms.is_some_and(|lag_ms| {
            let lag_ms = i64::try_from(lag_ms).unwrap_or(i64::MAX);
            segment.times.begun_ms.saturating_add(lag_ms) <= now_ms
        })
    }

    /// Whether something is to be compacted by now that no snapshot names yet.
    pub(super) fn is_late(&self, clock: &AgeClock) -> bool {
        let settings = &self.settings;
        if !settings.cleanup.compacts() || self.unreadable {
            return false;
        }
        let now_ms = clock.age_ms();
        let closed = self.segments.split_last().map(|(_, closed)| closed);
        let mut dirty = closed
            .unwrap_or_default()
            .iter()
            .skip_while(|segment| segment.written.end <= self.cleaned);
        dirty.next().is_some_and(|first| {
            !self.is_named(first)
                && first.times.appended_ms >= 0
                && first.is_older_than(settings.compaction_lag_min_ms, now_ms)
                && self.has_waited(first, now_ms)
        })
    }

    /// The files that a compaction of the segments as they are would write: they are there where
    /// one did not end.
    fn unfinished_paths(&self) -> Vec<Arc<str>> {
        let newest = self.segments.iter().map(|one| one.generation).max();
        let next = newest.unwrap_or_default() + 1;
        let of_segment = |segment: &Segment| {
            let (id, base) = (self.id, segment.base);
            let generations = segment.generation + 1..=next;
            generations.flat_map(move |generation| paths(id, base, generation))
        };
        self.segments.iter().flat_map(of_segment).collect()
    }

    /// What is written anew as one. Segments are put together once nothing in them waits for a
    /// time any more, so that a record without a value never waits twice.
    fn groups(&self, eligible: &[&Segment], now_ms: i64, most_bytes: u64) -> Vec<Group> {
        let wait_ms = i64::try_from(self.settings.delete_retention_ms).unwrap_or(i64::MAX);
        let settled = |segment: &Segment| {
            let at = segment.times.compacted_ms;
            at >= 0 && at.saturating_add(wait_ms) <= now_ms
        };
        let mut groups: Vec<Group> = Vec::new();
        for segment in eligible {
            let is_settled = settled(segment);
            let bytes =
                |group: &Group| -> u64 { group.segments.iter().map(|one| one.written.bytes).sum() };
            let joins = |group: &&mut Group| {
                is_settled
                    && group.without_tombstones
                    && group.segments.len() < SWAP_SEGMENTS_MAX
                    && bytes(group) + segment.written.bytes <= most_bytes
            };
            if let Some(group) = groups.last_mut().filter(joins) {
                group.generation = group.generation.max(segment.generation + 1);
                group.times = later(group.times, segment.times);
                group.segments.push(segment.view());
            } else {
                groups.push(Group {
                    segments: vec![segment.view()],
                    generation: segment.generation + 1,
                    times: segment.times,
                    without_tombstones: is_settled,
                });
            }
        }
        groups
    }

    /// Puts a segment that was written anew in the place of others. Answers those, or nothing
    /// where they are not there any more.
    fn swap(&mut self, swap: &Swap) -> Vec<Gone> {
        let Some(new) = &swap.new else {
            self.cleaned = self.cleaned.max(swap.cleaned);
            return Vec::new();
        };
        let names = self.segments.iter();
        let names: Vec<_> = names.map(|one| (one.base, one.generation)).collect();
        let Some(place) = swap.place(&names) else {
            return Vec::new();
        };
        let new = Segment::kept(self.id, new);
        self.view.grow(new.written.bytes);
        let removed: Vec<Segment> = self.segments.splice(place, [new]).collect();
        self.view
            .shrink(removed.iter().map(|segment| segment.written.bytes).sum());
        self.view.publish_all(&self.segments);
        let id = self.id;
        let gone = removed.iter().map(|segment| Gone::Segment {
            id,
            base: segment.base,
            generation: segment.generation,
        });
        gone.collect()
    }
}

fn later(one: Times, other: Times) -> Times {
    Times {
        begun_ms: one.begun_ms.min(other.begun_ms),
        appended_ms: one.appended_ms.max(other.appended_ms),
        compacted_ms: one.compacted_ms.max(other.compacted_ms),
    }
}

impl Store {
    /// See [`PartitionState::swap`].
    pub(crate) fn swap(&mut self, id: PartitionId, swap: &Swap) -> Vec<Gone> {
        let partition = self.partitions.get_mut(&id);
        partition.map_or_else(Vec::new, |partition| partition.swap(swap))
    }
}

impl<M: Machine, T> Log<M, T> {
    /// The next piece of a compaction, or of cleaning up after one that did not end.
    pub(super) fn compaction_step(&mut self) -> Option<(BackgroundJob, Vec<Action>)> {
        if self.closing {
            self.give_up_compaction();
            return None;
        }
        if let Some(leftovers) = self.leftovers_step() {
            return Some(leftovers);
        }
        self.begin_compaction();
        let gone =
            |compacting: &mut Compacting| !self.store.partitions.contains_key(&compacting.id);
        if self.compacting.take_if(gone).is_some() {
            return None;
        }
        self.give_up_what_is_not_wanted();
        let compacting = self.compacting.as_mut()?;
        match std::mem::replace(&mut compacting.stage, Stage::Working) {
            Stage::Working => {
                let work: Arc<dyn Work> = compacting.work.clone();
                let job = BackgroundJob::Compaction(CompactionJob::Work);
                self.steps_since_compaction = 0;
                Some((job, vec![Action::Work(work)]))
            }
            Stage::Written(rewritten) => {
                let new = rewritten.new.as_ref();
                let files = new
                    .into_iter()
                    .flat_map(|new| [new.log_path.clone(), new.sum_path.clone()].map(Action::Sync));
                let dir = Action::SyncDir(partition_dir(compacting.id));
                let mut actions: Vec<Action> = files.chain([dir]).collect();
                if self.options.has(Fault::SwapUnsynced) {
                    actions.clear();
                }
                compacting.stage = Stage::Syncing(rewritten);
                Some((BackgroundJob::Compaction(CompactionJob::Sync), actions))
            }
            waiting => {
                compacting.stage = waiting;
                None
            }
        }
    }

    /// Removes what compactions of an earlier opening did not end, one partition after the other:
    /// where nothing else of a partition was to be recovered its folder was not looked into.
    fn leftovers_step(&mut self) -> Option<(BackgroundJob, Vec<Action>)> {
        // A backup may be copying what it saw.
        if self.pins.hold_files() {
            return None;
        }
        loop {
            let id = self.leftovers.pop_front()?;
            let partition = self.store.partitions.get(&id);
            let paths = partition.map_or_else(Vec::new, PartitionState::unfinished_paths);
            if !paths.is_empty() {
                self.steps_since_compaction = 0;
                let actions = paths.into_iter().map(Action::Remove).collect();
                return Some((BackgroundJob::Leftovers, actions));
            }
        }
    }

    /// Begins with the next partition that is worth it.
    fn begin_compaction(&mut self) {
        // A file whose name waits to be removed must not be written again.
        while self.compacting.is_none()
            && !self.pins.hold_files()
            && self.removals.is_empty()
            && self.leftovers.is_empty()
            && let Some(id) = self.store.compactions.pop_front()
        {
            let Some(partition) = self.store.partitions.get_mut(&id) else {
                continue;
            };
            partition.changing = false;
            let plan = partition.compaction(&self.clock, self.options.segment_max_bytes);
            let budget = self.journal_budget_bytes();
            let Some(mut plan) = plan.filter(|plan| plan.largest_bytes() < budget) else {
                continue;
            };
            if let Some(partition) = self.store.partitions.get_mut(&id) {
                partition.changing = true;
            }
            plan.drops_latest = self.options.has(Fault::DropLatest);
            if self.options.has(Fault::ForgetEarly) {
                let groups = plan.groups.iter_mut();
                groups.for_each(|group| group.without_tombstones = true);
            }
            let cleaned = plan.cleaned;
            self.compacting = Some(Compacting {
                id,
                work: Compaction::new(plan),
                stage: Stage::Working,
                cleaned,
            });
        }
    }

    pub(super) fn finished_compaction(&mut self, job: &CompactionJob) {
        let Some(compacting) = &mut self.compacting else {
            return;
        };
        if matches!(job, CompactionJob::Sync) {
            if let Stage::Syncing(rewritten) =
                std::mem::replace(&mut compacting.stage, Stage::Working)
            {
                stats::add(&self.counters.compacted_records, rewritten.removed);
                let swap = Swap {
                    cleaned: compacting.cleaned,
                    old: rewritten.old,
                    new: rewritten.new.as_ref().map(Segment::as_kept),
                };
                compacting.stage = Stage::Swap { swap, last: false };
            }
            return;
        }
        match compacting.work.progress() {
            Progress::Working => {}
            Progress::Rewritten(rewritten) if rewritten.new.is_some() => {
                compacting.stage = Stage::Written(rewritten);
            }
            Progress::Rewritten(rewritten) => {
                // The old one stays; what was written of a new one goes.
                for (base, generation) in rewritten.old {
                    let (id, generation) = (compacting.id, generation + 1);
                    for path in paths(id, base, generation) {
                        self.removals.file(path);
                    }
                }
            }
            Progress::Done { cleaned } => {
                let swap = Swap {
                    cleaned,
                    old: Vec::new(),
                    new: None,
                };
                compacting.stage = Stage::Swap { swap, last: true };
            }
            Progress::Stuck(why) => {
                let id = compacting.id;
                tracing::error!(%id, %why, "the partition cannot be compacted");
                if let Some(partition) = self.store.partitions.get_mut(&id) {
                    partition.unreadable = true;
                }
                self.give_up_compaction();
            }
        }
    }

    /// Gives a compaction up whose partition is not to be compacted any more, as sealed so far.
    /// Nothing of it may be under way in the background.
    fn give_up_what_is_not_wanted(&mut self) {
        let unwanted = self.compacting.as_ref().is_some_and(|compacting| {
            let journaled = matches!(compacting.stage, Stage::Swapping { .. });
            let settings = self.outlines.settings(compacting.id);
            !journaled && !settings.cleanup.compacts()
        });
        if unwanted {
            self.give_up_compaction();
        }
    }

    /// Forgets the compaction under way; what it has swapped stays swapped.
    pub(super) fn give_up_compaction(&mut self) {
        let Some(compacting) = self.compacting.take() else {
            return;
        };
        let new = match &compacting.stage {
            Stage::Written(rewritten) | Stage::Syncing(rewritten) => rewritten.new.as_ref(),
            _ => None,
        };
        let written = new.map(|new| [new.log_path.clone(), new.sum_path.clone()]);
        let unswapped = match &compacting.stage {
            Stage::Swap { swap, .. } => swap.new.as_ref(),
            _ => None,
        };
        let unswapped = unswapped.map(|new| paths(compacting.id, new.base, new.generation));
        let written = written.or(unswapped).into_iter().flatten();
        for path in compacting.work.unfinished().into_iter().chain(written) {
            self.removals.file(path);
        }
        if let Some(partition) = self.store.partitions.get_mut(&compacting.id) {
            partition.changing = false;
        }
    }

    /// Journals that a segment was written anew.
    pub(super) fn seal_swap(&mut self, group: &mut GroupBuilder) {
        let ready = |compacting: &Compacting| matches!(compacting.stage, Stage::Swap { .. });
        if self.compacting.as_ref().is_some_and(ready) {
            self.give_up_what_is_not_wanted();
        }
        let Some(compacting) = &mut self.compacting else {
            return;
        };
        if !matches!(compacting.stage, Stage::Swap { .. }) || self.want_room.is_some() {
            return;
        }
        let bytes = padded(group.size_bytes() + SWAP_ENTRY_BYTES) as u64;
        let asker = Asker::Operation;
        if self.journal.room(bytes, asker) != Room::Yes {
            self.want_room = Some(Wanted { bytes, asker });
            return;
        }
        if let Stage::Swap { swap, last } = std::mem::replace(&mut compacting.stage, Stage::Working)
        {
            compacting.stage = Stage::Swapping { last };
            if self.options.has(Fault::SwapUnjournaled) {
                let id = compacting.id;
                self.swapped(self.committed, id, &swap);
            } else if self.store.partitions.contains_key(&compacting.id) {
                group.begin();
                group.swap(compacting.id, swap);
                group.keep();
            }
        }
    }

    /// A swap is durable.
    pub(super) fn swapped(&mut self, lsn: Lsn, id: PartitionId, swap: &Swap) {
        for gone in self.store.swap(id, swap) {
            self.removals.gone(lsn, gone);
        }
        let own = |compacting: &&mut Compacting| compacting.id == id;
        let Some(compacting) = self.compacting.as_mut().filter(own) else {
            return;
        };
        match compacting.stage {
            Stage::Swapping { last: true } => {
                self.compacting = None;
                stats::add(&self.counters.compactions, 1);
                if let Some(partition) = self.store.partitions.get_mut(&id) {
                    partition.changing = false;
                }
            }
            Stage::Swapping { last: false } => compacting.stage = Stage::Working,
            _ => {}
        }
    }
}
