//! Taking events back: settled, to be tried again, or withdrawn by a seek.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::cursor::Cursor;
use tidemill_core::{Event, Offset, SettleError, Ticket};
use tidemill_log::PartitionId;

use super::core::{Core, Seen};
use super::flow::InFlight;
use super::queue::{FlowIndex, Item};

/// An attempt whose settlement began.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) partition: PartitionId,
    /// The epoch of the position that it was given out in.
    pub(super) epoch: u64,
    pub(super) event: Arc<Event>,
}

/// How a settlement that began has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The event is settled and that is durable.
    Settled,
    /// Nothing was kept: its holder may try again, or abandon it.
    Refused,
    /// Nobody knows: the event stays where it is until a restart.
    Unknown,
}

impl Core {
    /// The attempt is to be settled: from now on nobody can take it back.
    ///
    /// # Errors
    /// [`SettleError::Stale`], or another where it is being settled already.
    pub(super) fn begin_settle(&mut self, ticket: &Ticket) -> Result<Begun, SettleError> {
        let partition = self.partition_id(&ticket.position);
        let partition = partition.ok_or(SettleError::Stale)?;
        let (index, flight) = self.flight(partition, ticket).ok_or(SettleError::Stale)?;
        if flight.settling {
            let why = "this attempt is being settled already; wait for the first answer";
            return Err(SettleError::Other(why.into()));
        }
        flight.settling = true;
        let event = Arc::clone(&flight.item.event);
        let flow = self.flows.get(index.0).ok_or(SettleError::Stale)?;
        Ok(Begun {
            partition,
            epoch: flow.cursor.epoch(),
            event,
        })
    }

    /// A settlement that began has ended.
    pub(super) fn end_settle(&mut self, partition: PartitionId, ticket: &Ticket, ended: Ended) {
        match ended {
            Ended::Unknown => {}
            Ended::Refused => {
                let Some((_, flight)) = self.flight(partition, ticket) else {
                    return;
                };
                flight.settling = false;
                let (member, abandoned) = (flight.member, flight.abandoned);
                if abandoned || !self.members.contains_key(&member) {
                    self.retry(partition, ticket, None);
                }
            }
            Ended::Settled => {
                let full = self.is_full(partition);
                let Some(item) = self.take_flight(partition, ticket) else {
                    return;
                };
                self.free(item.size_bytes);
                let next = self.lanes.release(item.lane, None);
                next.into_iter().for_each(|item| self.route(item));
                if self.suspects.settled(item.flow, item.offset) {
                    self.wake_all();
                }
                let Some(flow) = self.flows.get_mut(item.flow.0) else {
                    return;
                };
                let place = flow.topic_index;
                flow.settle(item.offset..item.offset.next());
                if full && flow.room() > 0 {
                    self.wake_topic(place);
                }
            }
        }
    }

    /// Whether nothing more of a partition may be read.
    fn is_full(&self, partition: PartitionId) -> bool {
        let index = self.flow_of.get(&partition);
        let flow = index.and_then(|index| self.flows.get(index.0));
        flow.is_some_and(|flow| flow.room() == 0)
    }

    /// The attempt is given up: the event is given out again, not before `due` if that is
    /// given. Answers whether the ticket was not stale.
    pub(super) fn retry(
        &mut self,
        partition: PartitionId,
        ticket: &Ticket,
        due: Option<Duration>,
    ) -> bool {
        match self.flight(partition, ticket) {
            Some((_, flight)) if flight.settling => {
                flight.abandoned = true;
                return false;
            }
            Some(_) => {}
            None => return false,
        }
        match self.take_flight(partition, ticket) {
            Some(item) => {
                self.give_back(item.again(), due);
                true
            }
            None => false,
        }
    }

    pub(super) fn flight(
        &mut self,
        partition: PartitionId,
        ticket: &Ticket,
    ) -> Option<(FlowIndex, &mut InFlight)> {
        let index = *self.flow_of.get(&partition)?;
        let flow = self.flows.get_mut(index.0)?;
        let flight = flow.in_flight.get_mut(&ticket.position.offset)?;
        let same =
            flight.generation == ticket.generation && flight.item.attempt == ticket.attempt.0;
        same.then_some((index, flight))
    }

    /// Takes an attempt out of flight, and lets its slot move if it was the last one.
    fn take_flight(&mut self, partition: PartitionId, ticket: &Ticket) -> Option<Item> {
        let (index, _) = self.flight(partition, ticket)?;
        let flow = self.flows.get_mut(index.0)?;
        let flight = flow.in_flight.remove(&ticket.position.offset)?;
        let place = flow.topic_index;
        if self.suspects.landed(index, flight.item.offset) {
            self.wake_all();
        }
        self.slot_returned(place, flight.item.slot);
        Some(flight.item)
    }

    fn give_back(&mut self, item: Item, due: Option<Duration>) {
        let Some(flow) = self.flows.get_mut(item.flow.0) else {
            return;
        };
        let place = flow.topic_index;
        if item.offset >= flow.next_read {
            // Everybody had left meanwhile: it is read again with the others.
            self.free(item.size_bytes);
            let attempt = item.attempt;
            let seen = Seen { attempt, due };
            self.seen.insert((item.flow, item.offset), seen);
            let next = self.lanes.release(item.lane, None);
            next.into_iter().for_each(|item| self.route(item));
            self.wake_topic(place);
            return;
        }
        flow.waiting += 1;
        let item = match due {
            Some(_) => item.detached(),
            None => item,
        };
        if item.lane.is_none() {
            // It has none to keep, or lost it when everybody left.
            let lane = self.lanes.of(item.flow, &item.event, self.order);
            self.enqueue(Item { lane, due, ..item });
            return;
        }
        match due {
            Some(due) => {
                self.lanes.delay(item, due);
                // Whoever waits has a new time to look at.
                self.wake_topic(place);
            }
            None => {
                let next = self.lanes.release(item.lane, Some(item));
                next.into_iter().for_each(|item| self.route(item));
            }
        }
    }

    /// A partition's position is about to be set: what waits is forgotten, what is in flight
    /// becomes stale, and nothing is read until [`Core::end_seek`].
    pub(super) fn begin_seek(&mut self, index: FlowIndex) {
        drop(self.withdraw(index));
        self.seen.retain(|(flow, _), _| *flow != index);
        self.generation.0 += 1;
        if self.suspects.forget(index) {
            self.wake_all();
        }
        let Some(flow) = self.flows.get_mut(index.0) else {
            return;
        };
        // What is given out from there on is not what was in flight when the process died.
        flow.watched_until = flow.watched_until.map(|_| Offset(0));
        flow.seeking = true;
        let place = flow.topic_index;
        let flights: Vec<_> = flow
            .in_flight
            .drain()
            .map(|(_, flight)| flight.item)
            .collect();
        flow.rewind();
        for item in flights {
            self.free(item.size_bytes);
            self.slot_returned(place, item.slot);
        }
    }

    /// The position is `cursor` now; `None`: it could not be set, and is where it was. One of
    /// an older epoch than what is known is no news.
    pub(super) fn end_seek(&mut self, index: FlowIndex, cursor: Option<Cursor>) {
        // Another seek may have ended before this one, and events may be out since.
        self.begin_seek(index);
        if let Some(flow) = self.flows.get_mut(index.0) {
            let newer = |cursor: &Cursor| cursor.epoch() >= flow.cursor.epoch();
            let cursor = cursor.filter(newer);
            let cursor = cursor.unwrap_or_else(|| flow.cursor.clone());
            flow.restart(cursor);
            flow.seeking = false;
            let place = flow.topic_index;
            self.wake_topic(place);
        }
    }

    /// The durable position is `cursor`: follows a seek that this state was not told of.
    pub(super) fn follow(&mut self, partition: PartitionId, cursor: &Cursor) {
        let Some(index) = self.flow_index(partition) else {
            return;
        };
        let flow = self.flows.get(index.0);
        let share = flow.and_then(|flow| self.shares.get(flow.topic_index));
        let missed = flow.is_some_and(|flow| flow.cursor.epoch() < cursor.epoch());
        if missed && share.is_some_and(|share| !share.gone) {
            self.end_seek(index, Some(cursor.clone()));
        }
    }

    /// A partition's place in the list.
    pub(super) fn flow_index(&self, partition: PartitionId) -> Option<FlowIndex> {
        self.flow_of.get(&partition).copied()
    }
}
