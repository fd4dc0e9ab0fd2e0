//! The order of a group: of one lane (a key, or a partition) one event is in flight, and what
//! comes later waits behind it, also while it waits for its next attempt.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::time::Duration;

use tidemill_core::{Event, Order};

use super::queue::{FlowIndex, Item, Queue};

/// What keeps its order: the events of a partition whose keys have the same hash, or the whole
/// partition. Two keys of one hash keep the order between them too, which harms nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    flow: FlowIndex,
    hash: u64,
}

/// A lane that is taken, or has events behind it.
#[derive(Debug, Default)]
struct State {
    /// One of its events is in flight or delayed.
    taken: bool,
    /// What waits, without the one that is to go next: that is in a member's queue.
    behind: Queue,
}

/// The lanes of a group, and the events that wait for a time.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    states: HashMap<Lane, State>,
    /// Delayed events by the time at which they are due.
    delayed: BTreeMap<(Duration, u64), Item>,
    hasher: RandomState,
}

impl Lanes {
    /// The lane of an event; `None` where it has no order to keep.
    pub(super) fn of(&self, flow: FlowIndex, event: &Event, order: Order) -> Option<Lane> {
        let hash = match order {
            Order::None => return None,
            Order::PerPartition => 0,
            Order::PerKey => self.hasher.hash_one(event.key()?),
        };
        Some(Lane { flow, hash })
    }

    /// Takes an item's lane for it; keeps the item where the lane is taken already.
    pub(super) fn enter(&mut self, item: Item) -> Option<Item> {
        let Some(lane) = item.lane else {
            return Some(item);
        };
        let state = self.states.entry(lane).or_default();
        if state.taken {
            state.behind.insert(item);
            return None;
        }
        state.taken = true;
        Some(item)
    }

    /// What had the lane is done with it, or is `back` and waits for it again. Answers the
    /// lane's next event, which is to go into a queue.
    pub(super) fn release(&mut self, lane: Option<Lane>, back: Option<Item>) -> Option<Item> {
        let Some((lane, state)) = lane.and_then(|lane| Some((lane, self.states.get_mut(&lane)?)))
        else {
            return back;
        };
        state.taken = false;
        if let Some(item) = back {
            state.behind.insert(item);
        }
        let next = state.behind.pop();
        if state.behind.len() == 0 {
            self.states.remove(&lane);
        }
        next
    }

    /// Keeps an item until `due`; its lane, which it has, stays taken.
    pub(super) fn delay(&mut self, item: Item, due: Duration) {
        if let Some(lane) = item.lane {
            self.states.entry(lane).or_default().taken = true;
        }
        self.delayed.insert((due, item.sequence), item);
    }

    /// A lane is taken by an event in flight; for one that was withdrawn with what waits.
    pub(super) fn hold(&mut self, lane: Lane) {
        self.states.entry(lane).or_default().taken = true;
    }

    /// When the next item is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    /// The next item that is due by now, with its lane free.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Item> {
        let first = self.delayed.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let item = first.remove();
        self.release(item.lane, Some(item))
    }

    /// Takes the items of a partition out, with the time at which the delayed ones are due.
    pub(super) fn withdraw(&mut self, flow: FlowIndex) -> Vec<(Item, Option<Duration>)> {
        let delayed = self.delayed.extract_if(.., |_, item| item.flow == flow);
        let mut items: Vec<_> = delayed.map(|((due, _), item)| (item, Some(due))).collect();
        let lanes = self.states.extract_if(|lane, _| lane.flow == flow);
        let behind = lanes.flat_map(|(_, state)| state.behind.into_items());
        items.extend(behind.map(|item| (item, None)));
        items
    }
}
