//! Retention: whole segments are deleted by age, by size, or because they lie below an earliest
//! offset that was asked for, and the active one is rolled so that it can go. Where it is what is
//! settled that goes, see [`super::settled`].
//!
//! Age is judged by the records' own timestamps, on a clock that a leaping wall clock cannot
//! run away with: see [`AgeClock`].

use std::ops::Bound;
use std::time::Duration;

use tidemill_core::Offset;

use super::Log;
use super::partition::PartitionState;
use super::removal::Gone;
use super::settled::Judge;
use super::store::{Store, Wish};
use crate::journal::commit::padded;
use crate::journal::entry::EXPIRY_ENTRY_BYTES;
use crate::journal::group::GroupBuilder;
use crate::journal::writer::{Asker, Room, Wanted};
use crate::limits::{
    AGE_CLOCK_EXTRA_MAX_MS, AGE_CLOCK_RATE_MAX, EXPIRIES_AT_ONCE, EXPIRY_SEGMENTS_MAX, LOOK_SOONER,
    LOOKS_AT_ONCE,
};
use crate::machine::{Lsn, Machine, Now, PartitionId};
use crate::options::Fault;
use crate::segment::Segment;
use crate::settings::{Cleanup, PartitionSettings};
use crate::stats;

/// The clock that ages are judged by. It follows the wall clock, but where that is ahead it
/// runs at most [`AGE_CLOCK_RATE_MAX`] times as fast as the monotonic one, and it never runs
/// back; what counts is the earlier of both. So a wall clock that leaps ahead by years lets a
/// day's worth of segments expire in an hour, one that goes back lets nothing expire, and the
/// time during which a log was closed is caught up with at the same pace. A snapshot keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeClock {
    believed_ms: i64,
    wall_ms: i64,
    at: Duration,
}

impl AgeClock {
    /// Goes on from what was believed before, or begins with the wall clock.
    pub(crate) fn new(now: Now, believed_ms: Option<i64>) -> Self {
        let wall_ms = now.wall.as_millisecond();
        Self {
            believed_ms: believed_ms.unwrap_or(wall_ms),
            wall_ms,
            at: now.monotonic,
        }
    }

    pub(crate) fn tick(&mut self, now: Now) {
        self.wall_ms = now.wall.as_millisecond();
        let elapsed = now.monotonic.saturating_sub(self.at);
        let elapsed = Duration::from_millis(elapsed.as_millis() as u64);
        self.at += elapsed;
        let elapsed_ms = elapsed.as_millis() as i64;
        let extra_ms = elapsed_ms.saturating_mul(AGE_CLOCK_RATE_MAX - 1);
        // Nobody has looked at the clock for so long: what it did meanwhile is not known.
        let most_ms = elapsed_ms.saturating_add(extra_ms.min(AGE_CLOCK_EXTRA_MAX_MS));
        let reached = self.wall_ms.min(self.believed_ms.saturating_add(most_ms));
        self.believed_ms = self.believed_ms.max(reached);
    }

    /// What a snapshot keeps.
    pub(crate) fn believed_ms(&self) -> i64 {
        self.believed_ms
    }

    /// The time that ages are judged by.
    pub(crate) fn age_ms(&self) -> i64 {
        self.wall_ms.min(self.believed_ms)
    }

    /// The wall clock, for what is written down.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.wall_ms
    }
}

/// Segments that are to be deleted, oldest first, and the partition's earliest offset then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) id: PartitionId,
    pub(crate) bases: Vec<Offset>,
    pub(crate) earliest: Offset,
    /// What they were judged by: where that is sealed otherwise by now, they stay.
    pub(crate) by: PartitionSettings,
}

/// What a look at a partition found to be due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The active segment is to be closed; the next one begins here.
    Roll(Offset),
    Delete(Expiry),
    Compact,
    /// It is to be compacted by now, and waits for a checkpoint.
    Name,
}

impl Segment {
    /// The time of its newest record: what the records say, unless that lies in the future or
    /// they say nothing; then when it was written to.
    fn newest_ms(&self, now_ms: i64) -> i64 {
        let said_ms = self.written.largest_ms;
        if (0..=now_ms).contains(&said_ms) {
            said_ms
        } else {
            self.times.appended_ms.max(0)
        }
    }

    pub(super) fn is_older_than(&self, age_ms: u64, now_ms: i64) -> bool {
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        // One that was not written to since a restart has no time of its own in the worst case.
        let known = self.written.largest_ms >= 0 || self.times.appended_ms >= 0;
        known && self.newest_ms(now_ms).saturating_add(age_ms) <= now_ms
    }
}

impl PartitionState {
    /// What is due, by the time that ages are judged by and by the wall clock.
    fn due(&self, clock: &AgeClock, segment_max_bytes: u64, judge: &Judge<'_>) -> Due {
        if self.wished || self.changing {
            return Due::Nothing;
        }
        let Some((active, closed)) = self.segments.split_last() else {
            return Due::Nothing;
        };
        let (settings, now_ms) = (&self.settings, clock.age_ms());
        if settings.cleanup == Cleanup::Settled {
            return self.due_settled(active, closed, judge);
        }
        let earliest = self.view.earliest();
        let deletes = settings.cleanup.deletes();
        let age_ms = settings.retention_ms.filter(|_| deletes);
        let retained = settings.retention_bytes.filter(|_| deletes);
        let mut left = self.view.size_bytes();
        let mut goes = |segment: &Segment| {
            let below = segment.written.end <= earliest;
            let old = age_ms.is_some_and(|age| segment.is_older_than(age, now_ms));
            let rest = left.saturating_sub(segment.written.bytes);
            let surplus = retained.is_some_and(|most| rest >= most);
            left = rest;
            below || old || surplus
        };
        let gone = closed.iter().take(EXPIRY_SEGMENTS_MAX);
        let gone: Vec<&Segment> = gone.take_while(|segment| goes(segment)).collect();
        if let Some(last) = gone.last() {
            return Due::Delete(Expiry {
                id: self.id,
                earliest: earliest.max(last.written.end),
                bases: gone.iter().map(|segment| segment.base).collect(),
                by: *settings,
            });
        }
        let aged = self.rolling().roll_after_ms().is_some_and(|after_ms| {
            let begun = active.times.begun_ms;
            let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
            begun >= 0 && begun.saturating_add(after_ms) <= clock.wall_ms()
        });
        let roll = active.written.bytes > 0 && (aged || (closed.is_empty() && goes(active)));
        if roll {
            Due::Roll(active.written.end)
        } else if self.compaction(clock, segment_max_bytes).is_some() {
            Due::Compact
        } else if self.is_late(clock) {
            Due::Name
        } else {
            Due::Nothing
        }
    }

    /// Whether what waits in memory is to be written to a segment although it is little, so that
    /// it can go by its age.
    fn is_overdue(&self, clock: &AgeClock) -> bool {
        let after_ms = self.rolling().roll_after_ms();
        let waiting = after_ms.zip(self.pending.front());
        waiting.is_some_and(|(after_ms, (_, batch))| {
            let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
            batch.max_timestamp_ms().saturating_add(after_ms) <= clock.age_ms()
        })
    }

    /// Whether looking again later may find something due.
    fn is_watched(&self) -> bool {
        let earliest = self.view.earliest();
        let below = |segment: &Segment| segment.base < earliest;
        self.settings.needs_looks() || self.segments.first().is_some_and(below)
    }

    /// Removes these segments, and moves the earliest offset. Answers what was removed. While
    /// the log runs the last one stays: it is written to.
    pub(super) fn trim(&mut self, bases: &[Offset], earliest: Offset, replayed: bool) -> Vec<Gone> {
        if !bases.is_empty() {
            self.changing = false;
        }
        // Before the segments, so that a reader who finds none looks at the bounds again.
        self.view.raise_earliest(earliest);
        let last = self.segments.last().map(|segment| segment.base);
        let goes = |segment: &mut Segment| {
            bases.contains(&segment.base) && (replayed || Some(segment.base) != last)
        };
        let removed: Vec<Segment> = self.segments.extract_if(.., goes).collect();
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

impl Store {
    /// Looks at up to [`LOOKS_AT_ONCE`] partitions behind `from`; answers where to go on.
    fn look(
        &mut self,
        from: Option<PartitionId>,
        clock: &AgeClock,
        judge: &Judge<'_>,
    ) -> Option<PartitionId> {
        let behind = from.map_or(Bound::Unbounded, Bound::Excluded);
        let ids: Vec<_> = self
            .watched
            .range((behind, Bound::Unbounded))
            .take(LOOKS_AT_ONCE)
            .copied()
            .collect();
        for id in &ids {
            let Some(partition) = self.partitions.get_mut(id) else {
                self.watched.remove(id);
                continue;
            };
            if partition.is_overdue(clock) && !partition.queued && !partition.wished {
                partition.queued = true;
                self.ready.push_back(*id);
                self.found = true;
            }
            let due = partition.due(clock, self.segment_max_bytes, judge);
            // A checkpoint comes when it may, whether it is looked for sooner or not.
            self.found |= !matches!(due, Due::Nothing | Due::Name);
            match due {
                Due::Roll(base) => {
                    partition.wished = true;
                    let (id, roll) = (*id, true);
                    self.wishes.push_back(Wish { id, base, roll });
                }
                Due::Delete(expiry) => {
                    partition.changing = true;
                    self.expiries.push_back(expiry);
                }
                Due::Compact => {
                    partition.changing = true;
                    self.compactions.push_back(*id);
                }
                Due::Name => self.names_wanted = true,
                Due::Nothing if !partition.is_watched() => {
                    self.watched.remove(id);
                }
                Due::Nothing => {}
            }
        }
        (ids.len() == LOOKS_AT_ONCE).then(|| ids.last().copied())?
    }

    /// Looks at a partition from now on, if there may be something to find.
    pub(super) fn watch(&mut self, id: PartitionId) {
        if self
            .partitions
            .get(&id)
            .is_some_and(PartitionState::is_watched)
        {
            self.watched.insert(id);
        }
    }

    /// Segments were deleted, and records below `earliest`; answers what was removed.
    pub(crate) fn trim(
        &mut self,
        id: PartitionId,
        bases: &[Offset],
        earliest: Offset,
    ) -> Vec<Gone> {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return Vec::new();
        };
        let gone = partition.trim(bases, earliest, false);
        self.watch(id);
        gone
    }

    /// As [`Store::trim`], of an entry that is replayed. What was in segments that were never
    /// synced is in no segment now; where nothing else is left it need not be written again.
    pub(crate) fn trim_again(&mut self, id: PartitionId, bases: &[Offset], earliest: Offset) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        partition.trim(bases, earliest, true);
        if partition.segments.is_empty() {
            self.tail_bytes -= partition.forget_below(earliest);
            if partition.pending.is_empty() {
                self.unmade -= usize::from(std::mem::take(&mut partition.unmade));
            }
            self.soil(id);
        }
        self.watch(id);
    }
}

impl<M: Machine, T> Log<M, T> {
    /// Looks at some partitions, when it is time.
    pub(super) fn look_for_due(&mut self) {
        if self.store.watched.is_empty() || self.now.monotonic < self.next_look {
            return;
        }
        let machine = &self.machine;
        let careless = self.options.has(Fault::DropUnsettled);
        let judge = Judge {
            is_settled: &|id, offsets| careless || machine.is_settled(id, offsets),
            drops_unnamed: self.options.has(Fault::DropUnnamed),
        };
        self.looked = self.store.look(self.looked, &self.clock, &judge);
        if self.looked.is_none() {
            // What was found makes more to do: a segment that is written is closed, and one that is
            // closed is compacted.
            let found = std::mem::take(&mut self.store.found);
            let sooner = if found { LOOK_SOONER } else { 1 };
            self.next_look = self.now.monotonic + self.options.look_every / sooner;
        }
    }

    /// Journals what is to be deleted.
    pub(super) fn seal_expiries(&mut self, group: &mut GroupBuilder) {
        let count = self.store.expiries.len().min(EXPIRIES_AT_ONCE);
        if count == 0 || self.want_room.is_some() {
            return;
        }
        let bytes = padded(group.size_bytes() + count * EXPIRY_ENTRY_BYTES) as u64;
        // What the log keeps for its new segments is left to these.
        let asker = Asker::Operation;
        if self.journal.room(bytes, asker) != Room::Yes {
            self.want_room = Some(Wanted { bytes, asker });
            return;
        }
        for expiry in self.store.expiries.drain(..count) {
            if self.outlines.settings(expiry.id) != expiry.by {
                // The next look judges anew.
                if let Some(partition) = self.store.partitions.get_mut(&expiry.id) {
                    partition.changing = false;
                }
                continue;
            }
            if self.store.partitions.contains_key(&expiry.id)
                && self.outlines.trim(expiry.id, expiry.earliest)
            {
                group.begin();
                group.trim(expiry.id, expiry.bases, expiry.earliest);
                group.keep();
            }
        }
    }

    /// Records were deleted, by retention or by whoever asked for it.
    pub(super) fn trimmed(
        &mut self,
        lsn: Lsn,
        id: PartitionId,
        bases: &[Offset],
        earliest: Offset,
    ) {
        let mut gone = self.store.trim(id, bases, earliest);
        if self.options.has(Fault::ExpireOneMore) && !gone.is_empty() {
            let partition = self.store.partitions.get(&id);
            let next = partition.and_then(|partition| partition.segments.first());
            gone.extend(next.map(|next| Gone::Segment {
                id,
                base: next.base,
                generation: next.generation,
            }));
        }
        stats::add(&self.counters.expired_segments, gone.len() as u64);
        for gone in gone {
            self.removals.gone(lsn, gone);
        }
        // Segments below it may go at once.
        self.next_look = self.next_look.min(self.now.monotonic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const HOUR_MS: i64 = 3_600_000;

    fn at(wall_ms: i64, monotonic_ms: i64) -> Now {
        Now {
            wall: Timestamp::from_millisecond(wall_ms).unwrap(),
            monotonic: Duration::from_millis(monotonic_ms as u64),
        }
    }

    #[test]
    fn a_leap_ahead_is_followed_at_a_bounded_pace() {
        let start = 1_000_000 * HOUR_MS;
        let mut clock = AgeClock::new(at(start, 0), None);
        clock.tick(at(start + 10, 10));
        assert_eq!(clock.age_ms(), start + 10, "it follows a sound clock");
        let leap = 20 * 365 * 24 * HOUR_MS;
        clock.tick(at(start + leap, 11));
        assert_eq!(clock.age_ms(), start + 10 + 24);
        for second in 1..=3600 {
            clock.tick(at(start + leap, 11 + 1000 * second));
        }
        let day_ms = 24 * HOUR_MS;
        assert_eq!(clock.age_ms(), start + 34 + day_ms, "a day in an hour");
        clock.tick(at(start + leap, 11 + 3 * HOUR_MS));
        let unseen_ms = 2 * HOUR_MS + AGE_CLOCK_EXTRA_MAX_MS;
        assert_eq!(clock.age_ms(), start + 34 + day_ms + unseen_ms);
        clock.tick(at(start + HOUR_MS, 12 + 3 * HOUR_MS));
        assert_eq!(
            clock.age_ms(),
            start + HOUR_MS,
            "and it is put right at once"
        );
    }

    #[test]
    fn a_clock_that_goes_back_lets_nothing_expire() {
        let start = 1_000_000 * HOUR_MS;
        let mut clock = AgeClock::new(at(start, 0), None);
        clock.tick(at(0, 1000));
        assert_eq!(clock.age_ms(), 0);
        clock.tick(at(start + 2000, 2000));
        assert_eq!(clock.age_ms(), start + 2000, "nothing to catch up with");
    }

    #[test]
    fn the_time_while_the_log_was_closed_is_caught_up_with() {
        let start = 1_000_000 * HOUR_MS;
        let mut clock = AgeClock::new(at(start + 48 * HOUR_MS, 0), Some(start));
        assert_eq!(clock.age_ms(), start);
        for minute in 1..=60 {
            clock.tick(at(start + 48 * HOUR_MS, minute * 60_000));
        }
        assert_eq!(clock.age_ms(), start + 24 * HOUR_MS);
        for minute in 60..=180 {
            clock.tick(at(start + 51 * HOUR_MS, minute * 60_000));
        }
        assert_eq!(clock.age_ms(), start + 51 * HOUR_MS);
    }

    #[test]
    fn times_from_the_future_count_as_the_time_of_writing() {
        let id = PartitionId {
            topic: tidemill_core::TopicId(uuid::Uuid::nil()),
            partition: tidemill_core::Partition(0),
        };
        let mut segment = Segment::new(id, Offset(0));
        segment.times.appended_ms = 5_000;
        for (said_ms, newest_ms) in [(4_000, 4_000), (6_001, 5_000), (-1, 5_000)] {
            segment.written.largest_ms = said_ms;
            assert_eq!(segment.newest_ms(6_000), newest_ms, "{said_ms}");
            assert!(segment.is_older_than(1_000, 6_000));
            assert!(!segment.is_older_than(2_001, 6_000));
        }
    }
}
