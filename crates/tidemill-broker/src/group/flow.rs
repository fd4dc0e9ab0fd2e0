//! How one partition flows through a group: how far it was read, what is in flight, what is
//! settled.

use std::collections::HashMap;
use std::ops::Range;

use tidemill_core::cursor::{Cursor, CursorBounds};
use tidemill_core::slots::MemberId;
use tidemill_core::{Generation, Offset, TopicName};
use tidemill_log::PartitionId;

use super::queue::Item;
use crate::limits::READ_AHEAD_EVENTS;

/// An event that a member has.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) item: Item,
    pub(super) member: MemberId,
    pub(super) generation: Generation,
    /// Its settlement is being made durable: nobody can take it back.
    pub(super) settling: bool,
    /// Its holder went away while it was being settled.
    pub(super) abandoned: bool,
}

/// One partition of a group.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) id: PartitionId,
    /// The topic's name, and its place in the group's list.
    pub(super) topic: TopicName,
    pub(super) topic_index: usize,
    /// What is settled and durable, and what was passed.
    pub(super) cursor: Cursor,
    /// The offset to read from.
    pub(super) next_read: Offset,
    /// Somebody reads: nobody else may.
    pub(super) reading: bool,
    /// Its position is being set: nothing is read or taken.
    pub(super) seeking: bool,
    pub(super) in_flight: HashMap<Offset, InFlight>,
    /// Items in any queue, not in flight.
    pub(super) waiting: usize,
    /// Counts the rewinds, so that what was read for an older one is thrown away.
    pub(super) epoch: u64,
    /// The newest thing that could not be read.
    pub(super) damage: Option<String>,
    /// How much may be above the cursor's position.
    pub(super) bounds: CursorBounds,
    /// Before which offset events may have been in flight when the process died; `None` where
    /// it was not looked for.
    pub(super) watched_until: Option<Offset>,
}

impl Flow {
    pub(super) fn new(
        id: PartitionId,
        topic: TopicName,
        topic_index: usize,
        cursor: Cursor,
    ) -> Self {
        Self {
            id,
            topic,
            topic_index,
            next_read: cursor.position(),
            cursor,
            reading: false,
            seeking: false,
            in_flight: HashMap::new(),
            waiting: 0,
            epoch: 0,
            damage: None,
            bounds: CursorBounds::default(),
            watched_until: None,
        }
    }

    /// How many more events may be read. Each one that is read and not settled can become a
    /// range of its own when it is settled out of order, so they count as ranges already.
    pub(super) fn room(&self) -> usize {
        let bounds = self.bounds;
        let held = self.cursor.range_count() + self.in_flight.len() + self.waiting;
        let by_ranges = bounds.ranges_max.saturating_sub(held);
        let by_queue = READ_AHEAD_EVENTS.saturating_sub(self.waiting);
        let ahead = self.next_read.0.saturating_sub(self.cursor.position().0);
        let by_window = bounds.window_max.saturating_sub(ahead);
        by_ranges
            .min(by_queue)
            .min(usize::try_from(by_window).unwrap_or(usize::MAX))
    }

    /// Why nothing is read, where that is not for a lack of credit.
    pub(super) fn paused(&self) -> Option<String> {
        if self.room() > 0 || self.waiting >= READ_AHEAD_EVENTS {
            return None;
        }
        let (topic, partition) = (&self.topic, self.id.partition);
        let position = self.cursor.position();
        Some(format!(
            "{topic}/{partition} is at its bound: {} settled ranges and {} events in flight above \
             offset {position}, which is not settled; settle or dead-letter it first",
            self.cursor.range_count(),
            self.in_flight.len(),
        ))
    }

    /// How many offsets are settled.
    pub(super) fn settled(&self) -> u64 {
        self.cursor.position().0 + self.cursor.settled_above()
    }

    /// Settles offsets, whatever the bounds: those were kept when the events were read.
    pub(super) fn settle(&mut self, range: Range<Offset>) {
        let bounds = CursorBounds {
            ranges_max: usize::MAX,
            window_max: u64::MAX,
        };
        let settled = self.cursor.settle(range, bounds);
        settled.expect("a cursor without bounds takes everything");
    }

    /// Takes back what a member has and is not settling, as new attempts.
    pub(super) fn take_from(&mut self, member: MemberId) -> Vec<Item> {
        let of_member =
            |_: &Offset, flight: &mut InFlight| flight.member == member && !flight.settling;
        let taken = self.in_flight.extract_if(of_member);
        taken.map(|(_, flight)| flight.item.again()).collect()
    }

    /// Reads from the position on again: nothing waits any longer.
    pub(super) fn rewind(&mut self) {
        self.next_read = self.cursor.position();
        self.waiting = 0;
        self.reading = false;
        self.epoch += 1;
    }

    /// Begins at a cursor anew; nothing is in flight any longer.
    pub(super) fn restart(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.in_flight.clear();
        self.damage = None;
        self.rewind();
    }
}
