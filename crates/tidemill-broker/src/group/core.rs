//! The delivery state of one group: who its members are, and which event goes to whom.
//!
//! A pure state machine: `(state, now, input) -> effects`. It may not know tokio, the log, or
//! what is durable; its shell in [`super`] reads, waits and commits. What members are to be
//! woken is left in `wake`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tidemill_core::cursor::{Cursor, CursorBounds};
use tidemill_core::slots::{MemberId, Slot, Slots, slot_of};
use tidemill_core::{Event, Generation, Offset, Order, Position, TopicId, TopicName};
use tidemill_log::PartitionId;

use super::flow::{Flow, InFlight};
use super::lanes::Lanes;
use super::queue::{FlowIndex, Item, Queue};
use super::suspects::Suspects;
use crate::limits::{GROUP_MEMORY_MAX_BYTES, GROUP_SLOTS, READ_LEAST_BYTES};
use crate::machine::Topic;

/// A topic of the group and how its work is shared.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) name: TopicName,
    pub(super) topic: Topic,
    pub(super) slots: Slots,
    /// What any member may have.
    pub(super) shared: Queue,
    /// What belongs to a slot that is moving between members.
    pub(super) parked: BTreeMap<Slot, Queue>,
    /// Its partitions' places in the group's list.
    pub(super) flows: Vec<FlowIndex>,
    /// The topic was deleted.
    pub(super) gone: bool,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// Its topics, by their places in the group's list.
    pub(super) topics: Vec<usize>,
    /// What is to be given to it and nobody else.
    pub(super) queue: Queue,
    /// One of its topics, or the group, was deleted.
    pub(super) gone: bool,
}

/// What is remembered of an event that was given out, when the event itself is forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) attempt: u32,
    pub(super) due: Option<Duration>,
}

/// The delivery state of one group.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) order: Order,
    pub(super) generation: Generation,
    pub(super) shares: Vec<Share>,
    pub(super) flows: Vec<Flow>,
    pub(super) flow_of: HashMap<PartitionId, FlowIndex>,
    share_of: HashMap<TopicName, usize>,
    pub(super) members: BTreeMap<MemberId, Member>,
    next_member: u64,
    pub(super) next_sequence: u64,
    pub(super) lanes: Lanes,
    /// Events that were given out and came back while nobody was there.
    pub(super) seen: HashMap<(FlowIndex, Offset), Seen>,
    /// Events that may have ended the process.
    pub(super) suspects: Suspects,
    /// Bytes of the events that wait or are in flight.
    pub(super) held_bytes: usize,
    /// A read found no memory: whoever gives some back says so to all.
    pub(super) short: bool,
    /// Bytes that the next read needs at least.
    pub(super) read_least: usize,
    /// Where the search for a partition to read begins.
    pub(super) next_flow: usize,
    /// How much may be above a partition's position.
    pub(super) bounds: CursorBounds,
    /// Members that have something to look at.
    pub(super) wake: BTreeSet<MemberId>,
}

impl Core {
    /// A group without members; `generation` is above every one that it had before.
    pub(super) fn new(order: Order, generation: Generation) -> Self {
        Self {
            order,
            generation,
            shares: Vec::new(),
            flows: Vec::new(),
            flow_of: HashMap::new(),
            share_of: HashMap::new(),
            members: BTreeMap::new(),
            next_member: 0,
            next_sequence: 0,
            lanes: Lanes::default(),
            seen: HashMap::new(),
            suspects: Suspects::default(),
            held_bytes: 0,
            short: false,
            read_least: READ_LEAST_BYTES,
            next_flow: 0,
            bounds: CursorBounds::default(),
            wake: BTreeSet::new(),
        }
    }

    /// The order of the group's members, where it has some.
    pub(super) fn order_in_use(&self) -> Option<Order> {
        (!self.members.is_empty()).then_some(self.order)
    }

    /// The partition that a position names, if the group reads it.
    pub(super) fn partition_id(&self, position: &Position) -> Option<PartitionId> {
        let place = self.share_of.get(&position.topic)?;
        let share = self.shares.get(*place)?;
        (position.partition.0 < share.topic.partitions).then_some(PartitionId {
            topic: share.topic.id,
            partition: position.partition,
        })
    }

    /// How many events wait for a member.
    pub(super) fn ready(&self, member: MemberId) -> usize {
        let Some(member) = self.members.get(&member) else {
            return 0;
        };
        let shares = member
            .topics
            .iter()
            .filter_map(|place| self.shares.get(*place));
        member.queue.len() + shares.map(|share| share.shared.len()).sum::<usize>()
    }

    /// Takes a member in that reads these topics from these positions on; a position that the
    /// group has already stays. The order must be the group's, unless it has no members.
    pub(super) fn join(
        &mut self,
        order: Order,
        topics: Vec<(TopicName, Topic, Vec<Cursor>)>,
    ) -> MemberId {
        if self.members.is_empty() && self.order != order {
            self.change_order(order);
        }
        let id = MemberId(self.next_member);
        self.next_member += 1;
        let mut places = Vec::with_capacity(topics.len());
        for (name, topic, cursors) in topics {
            // A topic deleted and made again under its name is another one.
            let old = self
                .share_of
                .get(&name)
                .and_then(|place| self.shares.get(*place));
            if let Some(old) = old
                .map(|share| share.topic.id)
                .filter(|old| *old != topic.id)
            {
                self.topic_gone(old);
            }
            let place = match self.share_of.get(&name).copied() {
                Some(place) => {
                    self.grow(&name, topic, cursors);
                    place
                }
                None => self.add_topic(name, topic, cursors),
            };
            if let Some(share) = self.shares.get_mut(place) {
                share.slots.join(id);
            }
            places.push(place);
        }
        let member = Member {
            topics: places,
            queue: Queue::default(),
            gone: false,
        };
        self.members.insert(id, member);
        self.generation.0 += 1;
        self.reroute(Vec::new());
        id
    }

    /// Shares the work in another way. What is still being settled belongs to other parts of it
    /// from now on, and goes on to hold them back.
    fn change_order(&mut self, order: Order) {
        self.order = order;
        for share in &mut self.shares {
            share.slots = slots(order, share.topic);
        }
        for at in 0..self.flows.len() {
            let Some(flow) = self.flows.get_mut(at) else {
                continue;
            };
            let place = flow.topic_index;
            let mut flying = std::mem::take(&mut flow.in_flight);
            for InFlight { item, .. } in flying.values_mut() {
                item.slot = self.slot_for(item.flow, &item.event);
                if let Some((share, slot)) = self.shares.get_mut(place).zip(item.slot) {
                    share.slots.given(slot);
                }
            }
            if let Some(flow) = self.flows.get_mut(at) {
                flow.in_flight = flying;
            }
        }
    }

    /// A topic of the group has more partitions, from these positions on. Answers whether there
    /// was one that is new.
    pub(super) fn grow(&mut self, name: &TopicName, topic: Topic, cursors: Vec<Cursor>) -> bool {
        let place = self.share_of.get(name).copied();
        let Some((place, share)) = place.and_then(|at| Some((at, self.shares.get_mut(at)?))) else {
            return false;
        };
        let have = share.topic.partitions;
        if share.topic.id != topic.id || have >= topic.partitions {
            return false;
        }
        share.topic = topic;
        if self.order == Order::PerPartition {
            share.slots.grow(topic.partitions);
        }
        let added = topic.partition_ids().zip(cursors).skip(have as usize);
        for (id, cursor) in added {
            let index = FlowIndex(self.flows.len());
            let mut flow = Flow::new(id, name.clone(), place, cursor);
            flow.bounds = self.bounds;
            self.flows.push(flow);
            self.flow_of.insert(id, index);
            share.flows.push(index);
        }
        self.wake_topic(place);
        true
    }

    /// The topics that somebody reads, as they are known here.
    pub(super) fn read_topics(&self) -> impl Iterator<Item = (&TopicName, Topic)> {
        let shares = self.shares.iter().enumerate();
        let read = shares.filter(|(place, share)| !share.gone && !self.is_alone(*place));
        read.map(|(_, share)| (&share.name, share.topic))
    }

    fn add_topic(&mut self, name: TopicName, topic: Topic, cursors: Vec<Cursor>) -> usize {
        let place = self.shares.len();
        let mut flows = Vec::with_capacity(cursors.len());
        for (id, cursor) in topic.partition_ids().zip(cursors) {
            let index = FlowIndex(self.flows.len());
            let mut flow = Flow::new(id, name.clone(), place, cursor);
            flow.bounds = self.bounds;
            self.flows.push(flow);
            self.flow_of.insert(id, index);
            flows.push(index);
        }
        self.share_of.insert(name.clone(), place);
        self.shares.push(Share {
            slots: slots(self.order, topic),
            name,
            topic,
            shared: Queue::default(),
            parked: BTreeMap::new(),
            flows,
            gone: false,
        });
        place
    }

    /// Lets a member go. What it has and is not being settled is given out again.
    pub(super) fn leave(&mut self, id: MemberId) {
        let Some(mut member) = self.members.remove(&id) else {
            return;
        };
        self.generation.0 += 1;
        for place in &member.topics {
            if let Some(share) = self.shares.get_mut(*place) {
                share.slots.leave(id);
            }
        }
        let mut loose: Vec<Item> = member.queue.drain().collect();
        let mut again = Vec::new();
        let mut room = false;
        for flow in &mut self.flows {
            let taken = flow.take_from(id);
            if let Some(share) = self.shares.get_mut(flow.topic_index) {
                let slots = taken.iter().filter_map(|item| item.slot);
                slots.for_each(|slot| {
                    share.slots.returned(slot);
                });
            }
            for item in taken {
                room |= self.suspects.landed(item.flow, item.offset);
                if item.offset >= flow.next_read {
                    // What waited gave its memory back: it is read again with that.
                    loose.extend(self.lanes.release(item.lane, None));
                    again.push(item);
                    continue;
                }
                flow.waiting += 1;
                loose.extend(self.lanes.release(item.lane, Some(item)));
            }
        }
        for item in again {
            self.free(item.size_bytes);
            let (attempt, due) = (item.attempt, None);
            let seen = Seen { attempt, due };
            self.seen.insert((item.flow, item.offset), seen);
        }
        self.reroute(loose);
        if room {
            self.wake_all();
        }
        for place in member.topics {
            self.rest_if_alone(place);
        }
    }

    /// Puts every waiting item, and the `loose` ones, where they belong by now.
    fn reroute(&mut self, mut loose: Vec<Item>) {
        for member in self.members.values_mut() {
            loose.extend(member.queue.drain());
        }
        for share in &mut self.shares {
            let parked = std::mem::take(&mut share.parked);
            loose.extend(parked.into_values().flat_map(Queue::into_items));
        }
        // In order, each insertion is one at the end.
        loose.sort_unstable_by_key(|item| item.sequence);
        for item in loose {
            self.route(item);
        }
        self.look_aside();
    }

    /// Whose the suspects are that wait may have changed.
    fn look_aside(&mut self) {
        if self.suspects.has_aside() {
            self.wake_all();
        }
    }

    /// Puts an item into the queue that it belongs to, and wakes who waits for it.
    pub(super) fn route(&mut self, mut item: Item) {
        let place = self.flows.get(item.flow.0).map(|flow| flow.topic_index);
        if let Some(due) = item.due.take() {
            self.lanes.delay(item, due);
            // Whoever waits has a new time to look at.
            self.wake_topic(place.unwrap_or_default());
            return;
        }
        let Some(share) = place.and_then(|place| self.shares.get_mut(place)) else {
            return;
        };
        let Some(slot) = item.slot else {
            share.shared.insert(item);
            self.wake_topic(place.unwrap_or_default());
            return;
        };
        let owner = share.slots.owner(slot);
        match owner.and_then(|owner| Some((owner, self.members.get_mut(&owner)?))) {
            Some((owner, member)) => {
                member.queue.insert(item);
                self.wake.insert(owner);
            }
            None => share.parked.entry(slot).or_default().insert(item),
        }
    }

    /// An event of this slot is no longer in flight: the slot may move now.
    pub(super) fn slot_returned(&mut self, place: usize, slot: Option<Slot>) {
        let Some((share, slot)) = self.shares.get_mut(place).zip(slot) else {
            return;
        };
        if share.slots.returned(slot).is_some()
            && let Some(parked) = share.parked.remove(&slot)
        {
            parked.into_items().for_each(|item| self.route(item));
        }
        self.look_aside();
    }

    /// Wakes every member that reads a topic.
    pub(super) fn wake_topic(&mut self, place: usize) {
        let readers = self.members.iter();
        let readers = readers.filter(|(_, member)| member.topics.contains(&place));
        self.wake.extend(readers.map(|(id, _)| *id));
    }

    /// Events of so many bytes are no longer held. Wakes everybody where that makes room.
    pub(super) fn free(&mut self, bytes: usize) {
        let full = self.held_bytes >= GROUP_MEMORY_MAX_BYTES;
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        let room = full && self.held_bytes < GROUP_MEMORY_MAX_BYTES;
        if room || std::mem::take(&mut self.short) {
            self.wake_all();
        }
    }

    /// Wakes every member that reads a partition.
    pub(super) fn wake_readers(&mut self, index: FlowIndex) {
        if let Some(place) = self.flows.get(index.0).map(|flow| flow.topic_index) {
            self.wake_topic(place);
        }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&mut self) {
        self.wake.extend(self.members.keys());
    }

    /// Whether nobody reads a topic.
    pub(super) fn is_alone(&self, place: usize) -> bool {
        !self
            .members
            .values()
            .any(|member| member.topics.contains(&place))
    }

    /// Forgets the events of a topic that nobody reads, but for how often they were tried: they
    /// are read again when somebody comes.
    fn rest_if_alone(&mut self, place: usize) {
        if !self.is_alone(place) {
            return;
        }
        let flows = self.shares.get(place).map(|share| share.flows.clone());
        for index in flows.unwrap_or_default() {
            self.forget(index);
            if let Some(flow) = self.flows.get_mut(index.0) {
                // What is still being settled holds only its slot from now on.
                for flight in flow.in_flight.values_mut() {
                    flight.item.lane = None;
                }
            }
        }
    }

    /// Forgets what waits of a partition, but for how often it was tried, to read it again.
    fn forget(&mut self, index: FlowIndex) {
        for (item, due) in self.withdraw(index) {
            if item.attempt > 1 {
                let (attempt, due) = (item.attempt, due.or(item.due));
                self.seen
                    .insert((index, item.offset), Seen { attempt, due });
            }
        }
        if let Some(flow) = self.flows.get_mut(index.0) {
            flow.rewind();
        }
    }

    /// Events that wait for members: what [`Core::shed`] would give back.
    pub(super) fn waiting(&self) -> usize {
        self.flows.iter().map(|flow| flow.waiting).sum()
    }

    /// Gives back the memory of all that waits and is not in flight; it is read again when its
    /// turn comes. What is in flight keeps its lanes.
    pub(super) fn shed(&mut self) {
        for at in 0..self.flows.len() {
            let index = FlowIndex(at);
            let waits = |flow: &&Flow| flow.waiting > 0 && !flow.seeking;
            if self.flows.get(at).filter(waits).is_none() {
                continue;
            }
            self.forget(index);
            let flights = self.flows.get(at).map(|flow| flow.in_flight.values());
            for flight in flights.into_iter().flatten() {
                flight
                    .item
                    .lane
                    .into_iter()
                    .for_each(|lane| self.lanes.hold(lane));
            }
        }
        self.wake_all();
    }

    /// Takes the waiting items of a partition out of every queue, with the time at which the
    /// delayed ones are due.
    pub(super) fn withdraw(&mut self, index: FlowIndex) -> Vec<(Item, Option<Duration>)> {
        let mut items = self.lanes.withdraw(index);
        let mut plain = Vec::new();
        for member in self.members.values_mut() {
            member.queue.withdraw(index, &mut plain);
        }
        let place = self.flows.get(index.0).map(|flow| flow.topic_index);
        if let Some(share) = place.and_then(|place| self.shares.get_mut(place)) {
            share.shared.withdraw(index, &mut plain);
            for queue in share.parked.values_mut() {
                queue.withdraw(index, &mut plain);
            }
        }
        self.suspects.withdraw(index, &mut plain);
        items.extend(plain.into_iter().map(|item| (item, None)));
        let bytes: usize = items.iter().map(|(item, _)| item.size_bytes).sum();
        self.free(bytes);
        if let Some(flow) = self.flows.get_mut(index.0) {
            flow.waiting = 0;
        }
        items
    }

    /// The slot of an event; `None` where any member may have it.
    pub(super) fn slot_for(&self, index: FlowIndex, event: &Event) -> Option<Slot> {
        match self.order {
            Order::None => None,
            Order::PerKey => Some(slot_of(event.key()?.as_bytes(), GROUP_SLOTS)),
            Order::PerPartition => {
                let flow = self.flows.get(index.0)?;
                Some(Slot(flow.id.partition.0))
            }
        }
    }

    /// The topics that somebody reads, sorted.
    pub(super) fn topics(&self) -> Vec<TopicName> {
        let read = |(place, share): (usize, &Share)| {
            (!share.gone && !self.is_alone(place)).then(|| share.name.clone())
        };
        let mut names: Vec<_> = self.shares.iter().enumerate().filter_map(read).collect();
        names.sort_unstable();
        names
    }

    /// A topic was deleted: its members are told to subscribe again.
    pub(super) fn topic_gone(&mut self, topic: TopicId) {
        let gone = |share: &Share| share.topic.id == topic && !share.gone;
        let Some(place) = self.shares.iter().position(gone) else {
            return;
        };
        let Some(share) = self.shares.get_mut(place) else {
            return;
        };
        share.gone = true;
        self.share_of.remove(&share.name);
        for index in share.flows.clone() {
            self.begin_seek(index);
        }
        for (id, member) in &mut self.members {
            if member.topics.contains(&place) {
                member.gone = true;
                self.wake.insert(*id);
            }
        }
    }

    /// The group was deleted.
    pub(super) fn group_gone(&mut self) {
        for index in 0..self.flows.len() {
            self.begin_seek(FlowIndex(index));
        }
        for member in self.members.values_mut() {
            member.gone = true;
        }
        self.wake_all();
    }
}

fn slots(order: Order, topic: Topic) -> Slots {
    Slots::new(match order {
        Order::PerKey => GROUP_SLOTS,
        Order::PerPartition => topic.partitions,
        Order::None => 1,
    })
}
