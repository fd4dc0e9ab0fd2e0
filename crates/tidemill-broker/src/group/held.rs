//! Events that wait for a time, and the later ones of their keys that wait behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::Order;

use super::queue::{FlowIndex, Item, Queue};

/// What keeps its order: a key of a partition, or the whole partition where the key is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    flow: FlowIndex,
    key: Option<ByteString>,
}

impl Lane {
    /// The lane of an item; `None` where it has no order to keep.
    pub(super) fn of(item: &Item, order: Order) -> Option<Self> {
        let flow = item.flow;
        match order {
            Order::None => None,
            Order::PerPartition => Some(Self { flow, key: None }),
            Order::PerKey => Some(Self {
                flow,
                key: Some(ByteString::from(item.event.key()?)),
            }),
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// The sequences of the lane's delayed items.
    delayed: BTreeSet<u64>,
    /// Later items of the lane, in order.
    behind: Queue,
}

/// Delayed items by the time at which they are due, and what waits behind them.
#[derive(Debug, Default)]
pub(super) struct Held {
    due: BTreeMap<(Duration, u64), Item>,
    lanes: HashMap<Lane, Waiting>,
}

impl Held {
    /// Holds an item back until `due`, and everything later of its lane with it.
    pub(super) fn delay(&mut self, item: Item, lane: Option<Lane>, due: Duration) {
        if let Some(lane) = lane {
            let waiting = self.lanes.entry(lane).or_default();
            waiting.delayed.insert(item.sequence);
        }
        self.due.insert((due, item.sequence), item);
    }

    /// Keeps an item whose lane waits for an earlier one; gives back any other.
    pub(super) fn keep_behind(&mut self, item: Item, order: Order) -> Option<Item> {
        if self.lanes.is_empty() {
            return Some(item);
        }
        let lane = Lane::of(&item, order);
        let waiting = lane.and_then(|lane| self.lanes.get_mut(&lane));
        match waiting {
            Some(waiting) if waiting.delayed.first() < Some(&item.sequence) => {
                waiting.behind.insert(item);
                None
            }
            _ => Some(item),
        }
    }

    /// When the next item is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    /// Everything that need not wait any longer.
    pub(super) fn release(&mut self, now: Duration, order: Order) -> Vec<Item> {
        let mut released = Vec::new();
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let item = entry.remove();
            if let Some(lane) = Lane::of(&item, order)
                && let Some(waiting) = self.lanes.get_mut(&lane)
            {
                waiting.delayed.remove(&item.sequence);
                // What still waits for another delayed item is held again when it is taken.
                released.extend(waiting.behind.drain());
                if waiting.delayed.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
            released.push(item);
        }
        released
    }

    /// Takes the items of a partition out, with the time at which the delayed ones are due.
    pub(super) fn withdraw(&mut self, flow: FlowIndex) -> Vec<(Item, Option<Duration>)> {
        let delayed = self.due.extract_if(.., |_, item| item.flow == flow);
        let mut items: Vec<_> = delayed.map(|((due, _), item)| (item, Some(due))).collect();
        let lanes = self.lanes.extract_if(|lane, _| lane.flow == flow);
        let behind = lanes.flat_map(|(_, waiting)| waiting.behind.into_items());
        items.extend(behind.map(|item| (item, None)));
        items
    }
}
