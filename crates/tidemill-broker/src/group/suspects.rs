//! After a bad end of the process: which events may have caused it, and what is done so that one
//! that does so again and again is known.
//!
//! What may have been in flight when the process died is *watched*: it is marked as given out
//! before a handler of this process gets it, a bounded number at a time. What was marked and not
//! settled when the process died once more is *suspect*: of these one at a time is in flight, for a
//! bounded time, as one whose handler hangs ends nothing and has no others wait for it. A suspect
//! that was given out so three times, unless told otherwise, is not given out any more.
//!
//! Pure, as all of the delivery state. It may not know how a marker is kept. In a life after a
//! good end nothing of this is ever filled.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::cursor::Cursor;
use tidemill_core::limits::CURSOR_RANGES_MAX;
use tidemill_core::slots::MemberId;
use tidemill_core::{Delivery, Failure, GroupName, Offset, Ticket};
use tidemill_log::PartitionId;

use super::core::Core;
use super::queue::{FlowIndex, Item, Queue};
use crate::limits::{
    CRASH_LETTER_AGAIN_AFTER, CRASH_LETTER_AGAIN_MAX, MARKED_AT_ONCE, MARKS_MAX, SUSPECT_ALONE_MAX,
};
use crate::machine::{Mark, Marked};

/// What a member that handles events in this process is to do about those that it was given.
#[derive(Debug)]
pub(crate) struct Guard {
    /// How often an event is given out before it is given up.
    crashes_max: u32,
    /// These are to be marked before they are handled.
    pub(crate) marks: Vec<Marked>,
    /// These are not to be handled, but given up.
    pub(crate) over: Vec<(Ticket, Failure)>,
}

impl Guard {
    pub(crate) fn new(crashes_max: u32) -> Self {
        Self {
            crashes_max,
            marks: Vec::new(),
            over: Vec::new(),
        }
    }
}

/// What is known of an event that is not settled.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// What earlier lives said of it.
    before: Option<Mark>,
    /// It was given out in this life.
    given: bool,
    /// It is in flight, marked in this life for the first time.
    fresh: bool,
    /// How often its dead letter could not be kept.
    refused: u32,
}

/// An event, by its place.
type Place = (FlowIndex, Offset);

/// What is watched and suspected in a group.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    known: HashMap<Place, Known>,
    /// How many of them are in flight and marked in this life for the first time.
    fresh: usize,
    /// The suspect that is in flight, and until when others wait for it.
    alone: Option<(Place, Duration)>,
    /// Those that wait for that, each with its lane.
    aside: Queue,
}

/// What may be done with an event whose turn it is.
enum Admitted {
    Freely,
    Marked(Marked),
    Later,
    Never(Failure),
}

impl Suspects {
    /// Whether no marker is left for another event.
    fn has_all(&self) -> bool {
        self.known.len() >= MARKS_MAX
    }

    /// Whether no further event can be marked until one that is in flight has landed.
    fn is_full(&self) -> bool {
        let flying = self.fresh > 0 || self.alone.is_some();
        self.fresh >= MARKED_AT_ONCE || (flying && self.has_all())
    }

    /// Does that, and answers whether others can be in flight now that could not before.
    fn makes_room(&mut self, change: impl FnOnce(&mut Self)) -> bool {
        if self.known.is_empty() && self.alone.is_none() {
            return false;
        }
        let (full, alone) = (self.is_full(), self.alone.is_some());
        change(self);
        let next = alone && self.alone.is_none() && self.has_aside();
        next || (full && !self.is_full())
    }

    /// An event is in flight no longer, however that ended. Answers whether others can be now.
    pub(super) fn landed(&mut self, index: FlowIndex, offset: Offset) -> bool {
        self.makes_room(|all| {
            let place = (index, offset);
            if let Some(known) = all.known.get_mut(&place)
                && std::mem::take(&mut known.fresh)
            {
                all.fresh -= 1;
            }
            all.alone = all.alone.filter(|(alone, _)| *alone != place);
        })
    }

    /// The suspect in flight did not end the process: it goes on there, and others may too.
    fn outlived(&mut self, place: Place) -> bool {
        self.makes_room(|all| all.alone = all.alone.filter(|(alone, _)| *alone != place))
    }

    /// Others wait no longer for a suspect that has been in flight for too long. Answers whether
    /// some can be now.
    pub(super) fn let_go(&mut self, now: Duration) -> bool {
        self.makes_room(|all| all.alone = all.alone.filter(|(_, until)| now < *until))
    }

    /// When others can be in flight that cannot now, whatever comes.
    pub(super) fn due(&self) -> Option<Duration> {
        let (_, until) = self.alone?;
        (self.has_aside() || self.is_full()).then_some(until)
    }

    /// An event is settled. Answers whether others can be in flight now.
    pub(super) fn settled(&mut self, index: FlowIndex, offset: Offset) -> bool {
        self.makes_room(|all| {
            let known = all.known.remove(&(index, offset));
            all.fresh -= usize::from(known.is_some_and(|known| known.fresh));
        })
    }

    /// Offsets that will never be given out. Answers whether others can be in flight now.
    pub(super) fn passed(&mut self, index: FlowIndex, gap: &Range<Offset>) -> bool {
        self.makes_room(|all| {
            all.retain(|(flow, offset)| *flow != index || !gap.contains(offset));
        })
    }

    /// Nothing is known of a partition any more; its events were withdrawn. Answers whether
    /// others can be in flight now.
    pub(super) fn forget(&mut self, index: FlowIndex) -> bool {
        self.makes_room(|all| {
            all.retain(|(flow, _)| *flow != index);
            all.alone = all.alone.filter(|((flow, _), _)| *flow != index);
        })
    }

    fn retain(&mut self, keep: impl Fn(&Place) -> bool) {
        self.known.retain(|place, _| keep(place));
        self.fresh = self.known.values().filter(|known| known.fresh).count();
    }

    /// Whether suspects wait for another one.
    pub(super) fn has_aside(&self) -> bool {
        self.aside.len() > 0
    }

    /// Moves those of a partition that wait to `out`.
    pub(super) fn withdraw(&mut self, index: FlowIndex, out: &mut Vec<Item>) {
        self.aside.withdraw(index, out);
    }
}

impl Core {
    /// The process died before this life: of a partition that ends at `end` what may have been in
    /// flight then is watched, and what earlier lives have `marked` is suspect.
    pub(super) fn watch(
        &mut self,
        partition: PartitionId,
        end: Offset,
        marked: impl IntoIterator<Item = (Offset, Mark)>,
    ) {
        let Some(index) = self.flow_index(partition) else {
            return;
        };
        let Some(flow) = self.flows.get_mut(index.0) else {
            return;
        };
        if flow.watched_until.is_some() {
            return;
        }
        flow.watched_until = Some(perhaps_read(&flow.cursor).min(end));
        for (offset, mark) in marked {
            if !flow.cursor.is_settled(offset) {
                let known = Known {
                    before: Some(mark),
                    given: false,
                    fresh: false,
                    refused: 0,
                };
                self.suspects.known.insert((index, offset), known);
            }
        }
    }

    fn is_watched(&self, index: FlowIndex, offset: Offset) -> bool {
        let flow = self.flows.get(index.0);
        let until = flow.and_then(|flow| flow.watched_until);
        until.is_some_and(|until| offset < until)
    }

    /// Whether the member's next event has to wait until others have landed.
    pub(super) fn is_held_back(&self, member: MemberId) -> bool {
        self.suspects.is_full()
            && self.first_item(member).is_some_and(|item| {
                let known = self.suspects.known.contains_key(&(item.flow, item.offset));
                !known && self.is_watched(item.flow, item.offset)
            })
    }

    /// The next of the suspects that waited for another one and are a member's by now: one that
    /// handles here gets it where no other is in flight.
    pub(super) fn next_aside(&mut self, member: MemberId, guarded: bool) -> Option<Item> {
        if !self.suspects.has_aside() || (guarded && self.suspects.alone.is_some()) {
            return None;
        }
        let topics = &self.members.get(&member)?.topics;
        let (flows, shares) = (&self.flows, &self.shares);
        let is_his = |item: &Item| {
            let place = flows.get(item.flow.0).map(|flow| flow.topic_index);
            let share = place.and_then(|place| shares.get(place));
            match item.slot {
                Some(slot) => share.and_then(|share| share.slots.owner(slot)) == Some(member),
                None => place.is_some_and(|place| topics.contains(&place)),
            }
        };
        self.suspects.aside.take_first(is_his)
    }

    /// A handler has returned from an attempt.
    pub(super) fn outlived(&mut self, ticket: &Ticket) {
        let Some(partition) = self.partition_id(&ticket.position) else {
            return;
        };
        if let Some((index, _)) = self.flight(partition, ticket)
            && self.suspects.outlived((index, ticket.position.offset))
        {
            self.wake_all();
        }
    }

    /// The dead letter of an attempt could not be kept. Answers how often that was so.
    pub(super) fn letter_refused(&mut self, ticket: &Ticket, now: Duration) -> u32 {
        let Some(partition) = self.partition_id(&ticket.position) else {
            return 0;
        };
        let place = self.flow_index(partition);
        let place = place.map(|index| (index, ticket.position.offset));
        let known = place.and_then(|place| self.suspects.known.get_mut(&place));
        let times = known.map_or(1, |known| {
            known.refused = known.refused.saturating_add(1);
            known.refused
        });
        self.retry(partition, ticket, Some(now + letter_again_after(times)));
        times
    }

    /// What may be done with an event whose turn it is and that has its lane.
    fn admit(&mut self, item: &Item, crashes_max: u32, now: Duration) -> Admitted {
        let place = (item.flow, item.offset);
        let watched = self.is_watched(item.flow, item.offset);
        let Some(partition) = self.flows.get(item.flow.0).map(|flow| flow.id) else {
            return Admitted::Freely;
        };
        let marked = |attempts| Marked {
            partition,
            offset: item.offset,
            attempts,
        };
        let Some(known) = self.suspects.known.get_mut(&place) else {
            // Where all markers are of what nobody has or reads, others do not wait for that.
            if !watched || self.suspects.has_all() {
                return Admitted::Freely;
            }
            let known = Known {
                before: None,
                given: true,
                fresh: true,
                refused: 0,
            };
            self.suspects.known.insert(place, known);
            self.suspects.fresh += 1;
            return Admitted::Marked(marked(1));
        };
        let Some(before) = known.before else {
            if !std::mem::replace(&mut known.fresh, true) {
                self.suspects.fresh += 1;
            }
            return Admitted::Freely;
        };
        if before.attempts >= crashes_max {
            return Admitted::Never(ended_the_process(before));
        }
        if self.suspects.alone.is_some() {
            return Admitted::Later;
        }
        self.suspects.alone = Some((place, now.saturating_add(SUSPECT_ALONE_MAX)));
        match std::mem::replace(&mut known.given, true) {
            true => Admitted::Freely,
            false => Admitted::Marked(marked(before.attempts + 1)),
        }
    }

    /// Gives an event to a member, as far as it may have it: one that handles here brings its
    /// guard along.
    pub(super) fn hand(
        &mut self,
        group: &GroupName,
        member: MemberId,
        item: Item,
        guard: Option<&mut Guard>,
        now: Duration,
    ) -> Option<(Delivery, Ticket)> {
        let Some(guard) = guard else {
            return self.give(group, member, item);
        };
        match self.admit(&item, guard.crashes_max, now) {
            Admitted::Freely => self.give(group, member, item),
            Admitted::Marked(mark) => {
                guard.marks.push(mark);
                self.give(group, member, item)
            }
            Admitted::Later => {
                self.suspects.aside.insert(item);
                None
            }
            Admitted::Never(failure) => {
                let given = self.give(group, member, item);
                guard
                    .over
                    .extend(given.map(|(_, ticket)| (ticket, failure)));
                None
            }
        }
    }
}

/// How long until a dead letter is tried again that could not be kept so many times.
pub(super) fn letter_again_after(times: u32) -> Duration {
    let doubled = 1 << times.saturating_sub(1).min(16);
    (CRASH_LETTER_AGAIN_AFTER * doubled).min(CRASH_LETTER_AGAIN_MAX)
}

/// Why an event is not given out any more.
fn ended_the_process(mark: Mark) -> Failure {
    let date = |ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok();
    let times = mark.attempts;
    Failure {
        reason: "crash".to_owned(),
        error: format!("the process ended {times} times while this event was handled"),
        attempts: times,
        first: date(mark.first_ms),
        last: date(mark.last_ms),
        handler: None,
        version: None,
    }
}

/// The offset before which everything lies that can have been in flight with this position: what
/// is read and not settled counts as ranges of it, which are bounded.
pub(super) fn perhaps_read(cursor: &Cursor) -> Offset {
    let mut left = CURSOR_RANGES_MAX as u64;
    let mut at = cursor.position().0;
    for range in cursor.ranges() {
        let unsettled = range.start.0 - at;
        if unsettled >= left {
            break;
        }
        left -= unsettled;
        at = range.end.0;
    }
    Offset(at.saturating_add(left))
}
