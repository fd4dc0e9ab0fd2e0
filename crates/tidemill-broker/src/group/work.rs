//! Giving events out: what is read next, and what a member takes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::slots::MemberId;
use tidemill_core::{Attempt, Delivery, Event, GroupName, Offset, Position, Ticket};
use tidemill_log::PartitionId;

use super::core::{Core, Member};
use super::flow::InFlight;
use super::memory::Held;
use super::queue::{FlowIndex, Item};
use super::suspects::Guard;
use crate::limits::GROUP_MEMORY_MAX_BYTES;

/// A read of the log that a group asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadPlan {
    pub(super) flow: FlowIndex,
    pub(super) id: PartitionId,
    pub(super) offset: Offset,
    /// Most events to take from what is read.
    pub(super) events_max: usize,
    /// Which state of the partition this is for.
    pub(super) epoch: u64,
}

/// What a read of the log gave.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The events, ascending.
    pub(super) events: Vec<(Offset, Arc<Event>)>,
    /// Where to read on.
    pub(super) next: Offset,
    /// Why some offsets in between could not be read.
    pub(super) damage: Option<String>,
    /// What is passed was deleted before the group settled it.
    pub(super) deleted: bool,
    /// The memory of the events.
    pub(super) held: Option<Arc<Held>>,
}

/// What a read passed because there is nothing to be delivered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Settled, which is to be made durable.
    pub(super) ranges: Vec<Range<Offset>>,
    /// How many of these offsets were not settled before.
    pub(super) offsets: u64,
}

/// What a member's look for work gave.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Deliveries and their tickets.
    Given(Vec<(Delivery, Ticket)>),
    /// Nothing yet; look again when this time comes, if nothing wakes it before.
    Nothing {
        due: Option<Duration>,
        /// Something is being read that may be for somebody.
        reads: bool,
    },
    /// The group or a topic of the member's was deleted.
    Gone,
}

impl Core {
    /// Gives a member at most `credit` of the events that are its, lowest first.
    #[cfg(test)]
    pub(super) fn take(
        &mut self,
        group: &GroupName,
        member: MemberId,
        credit: usize,
        now: Duration,
    ) -> Taken {
        self.take_where(group, member, credit, None, None, now)
    }

    /// Gives a member at most `credit` of the events that are its, lowest first, as long as the
    /// next one is one that `may` be given. A member that handles here brings its guard along.
    pub(super) fn take_where(
        &mut self,
        group: &GroupName,
        member: MemberId,
        credit: usize,
        may: Option<&dyn Fn(&Event) -> bool>,
        mut guard: Option<&mut Guard>,
        now: Duration,
    ) -> Taken {
        while let Some(item) = self.lanes.pop_due(now) {
            self.route(item);
        }
        if self.suspects.let_go(now) {
            self.wake_all();
        }
        match self.members.get(&member) {
            None => return Taken::Gone,
            Some(member) if member.gone => return Taken::Gone,
            Some(_) => {}
        }
        let mut given = Vec::new();
        while given.len() < credit {
            if let Some(item) = self.next_aside(member, guard.is_some()) {
                given.extend(self.hand(group, member, item, guard.as_deref_mut(), now));
                continue;
            }
            if let Some(may) = may
                && !self.first_item(member).is_some_and(|item| may(&item.event))
            {
                break;
            }
            if guard.is_some() && self.is_held_back(member) {
                break;
            }
            let Some(item) = self.next_item(member) else {
                break;
            };
            if let Some(item) = self.lanes.enter(item) {
                given.extend(self.hand(group, member, item, guard.as_deref_mut(), now));
            }
        }
        if given.is_empty() {
            let dues = [self.lanes.next_due(), self.suspects.due()];
            let due = dues.into_iter().flatten().min();
            let reads = self.flows.iter().any(|flow| flow.reading);
            return Taken::Nothing { due, reads };
        }
        Taken::Given(given)
    }

    /// Where the lowest of a member's items is: in a share that any member may have, by its place,
    /// or else among its own.
    fn lowest(&self, member: &Member) -> Option<usize> {
        let own = member.queue.first();
        let mut best = None;
        for place in &member.topics {
            let first = self
                .shares
                .get(*place)
                .and_then(|share| share.shared.first());
            let lowest = best.map(|(first, _)| first).or(own);
            if let Some(first) = first
                && lowest.is_none_or(|lowest| first < lowest)
            {
                best = Some((first, *place));
            }
        }
        best.map(|(_, place)| place)
    }

    /// The lowest of a member's own items and those that any member may have.
    fn next_item(&mut self, id: MemberId) -> Option<Item> {
        match self.lowest(self.members.get(&id)?) {
            Some(place) => self.shares.get_mut(place)?.shared.pop(),
            None => self.members.get_mut(&id)?.queue.pop(),
        }
    }

    /// The same, which stays where it is.
    pub(super) fn first_item(&self, id: MemberId) -> Option<&Item> {
        let member = self.members.get(&id)?;
        match self.lowest(member) {
            Some(place) => self.shares.get(place)?.shared.front(),
            None => member.queue.front(),
        }
    }

    pub(super) fn give(
        &mut self,
        group: &GroupName,
        member: MemberId,
        item: Item,
    ) -> Option<(Delivery, Ticket)> {
        let flow = self.flows.get_mut(item.flow.0)?;
        let attempt = Attempt(item.attempt);
        let position = Position {
            topic: flow.topic.clone(),
            partition: flow.id.partition,
            offset: item.offset,
        };
        let ticket = Ticket {
            position: position.clone(),
            generation: self.generation,
            attempt,
        };
        let delivery = Delivery {
            event: Arc::clone(&item.event),
            position,
            attempt,
            group: group.clone(),
        };
        let full = flow.room() == 0;
        flow.waiting = flow.waiting.saturating_sub(1);
        if let Some((slot, share)) = item.slot.zip(self.shares.get_mut(flow.topic_index)) {
            share.slots.given(slot);
        }
        let flight = InFlight {
            item,
            member,
            generation: self.generation,
            settling: false,
            abandoned: false,
        };
        flow.in_flight.insert(flight.item.offset, flight);
        if full && flow.room() > 0 {
            // What comes next may be another member's.
            let place = flow.topic_index;
            self.wake_topic(place);
        }
        Some((delivery, ticket))
    }

    /// The next partition to be read for a member, if there is one with something new (`end`
    /// tells how far they reach) and room for it. Nobody else reads it until
    /// [`Core::loaded`] or [`Core::unread`].
    pub(super) fn plan_read(
        &mut self,
        member: MemberId,
        end: impl Fn(PartitionId) -> Option<Offset>,
    ) -> Option<ReadPlan> {
        if self.held_bytes >= GROUP_MEMORY_MAX_BYTES {
            return None;
        }
        let topics = &self.members.get(&member)?.topics;
        let count = self.flows.len();
        for step in 0..count {
            let at = (self.next_flow + step) % count;
            let Some(flow) = self.flows.get_mut(at) else {
                continue;
            };
            // What is settled already need not be read, and may lie in no segment any more.
            flow.next_read = flow.cursor.next_unsettled(flow.next_read);
            if flow.reading || flow.seeking || !topics.contains(&flow.topic_index) {
                continue;
            }
            let events_max = flow.room();
            if events_max == 0 || end(flow.id).is_none_or(|end| end <= flow.next_read) {
                continue;
            }
            flow.reading = true;
            self.next_flow = at + 1;
            return Some(ReadPlan {
                flow: FlowIndex(at),
                id: flow.id,
                offset: flow.next_read,
                events_max,
                epoch: flow.epoch,
            });
        }
        None
    }

    /// A read gave nothing.
    pub(super) fn unread(&mut self, plan: &ReadPlan) {
        if let Some(flow) = self.flows.get_mut(plan.flow.0)
            && flow.epoch == plan.epoch
        {
            flow.reading = false;
        }
    }

    /// Takes in what was read. Answers what was passed.
    pub(super) fn loaded(&mut self, plan: &ReadPlan, loaded: Loaded) -> Passed {
        let mut passed = Passed::default();
        let Some(flow) = self.flows.get_mut(plan.flow.0) else {
            return passed;
        };
        if flow.epoch != plan.epoch {
            return passed;
        }
        flow.reading = false;
        flow.damage = loaded.damage.or(flow.damage.take());
        let mut expected = plan.offset;
        flow.next_read = loaded.next.max(expected);
        let place = flow.topic_index;
        for (offset, event) in loaded.events {
            self.pass(plan.flow, expected..offset, &mut passed);
            expected = offset.next();
            self.take_in(plan.flow, offset, event, loaded.held.clone());
        }
        self.pass(plan.flow, expected..loaded.next, &mut passed);
        if !passed.ranges.is_empty() {
            self.wake_topic(place);
        }
        passed
    }

    fn pass(&mut self, index: FlowIndex, gap: Range<Offset>, passed: &mut Passed) {
        if gap.is_empty() {
            return;
        }
        if self.suspects.passed(index, &gap) {
            self.wake_all();
        }
        if !self.seen.is_empty() {
            // They never come again.
            let passes = |flow, offset: &Offset| flow == index && gap.contains(offset);
            self.seen.retain(|(flow, offset), _| !passes(*flow, offset));
        }
        if let Some(flow) = self.flows.get_mut(index.0) {
            let before = flow.settled();
            flow.settle(gap.clone());
            passed.offsets += flow.settled() - before;
            passed.ranges.push(gap);
        }
    }

    fn take_in(
        &mut self,
        index: FlowIndex,
        offset: Offset,
        event: Arc<Event>,
        held: Option<Arc<Held>>,
    ) {
        let slot = self.slot_for(index, &event);
        let Some(flow) = self.flows.get_mut(index.0) else {
            return;
        };
        if flow.cursor.is_settled(offset) {
            return;
        }
        if let Some(flight) = flow.in_flight.get_mut(&offset) {
            // Being settled since before everybody left; should it come back, then among those
            // that are read with it now.
            flight.item.sequence = self.next_sequence;
            self.next_sequence += 1;
            return;
        }
        let seen = self.seen.remove(&(index, offset));
        let item = Item {
            sequence: self.next_sequence,
            flow: index,
            offset,
            size_bytes: event.size_bytes(),
            lane: self.lanes.of(index, &event, self.order),
            event,
            attempt: seen.map_or(1, |seen| seen.attempt),
            slot,
            due: seen.and_then(|seen| seen.due),
            held,
        };
        self.next_sequence += 1;
        flow.waiting += 1;
        self.held_bytes += item.size_bytes;
        self.enqueue(item);
    }

    /// Has an item wait that holds no lane.
    pub(super) fn enqueue(&mut self, item: Item) {
        // One that is to wait for its time has its lane meanwhile, or waits behind who has it.
        let routed = match item.due {
            Some(_) => self.lanes.enter(item),
            None => Some(item),
        };
        routed.into_iter().for_each(|item| self.route(item));
    }
}
