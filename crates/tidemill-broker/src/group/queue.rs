//! A queue of events that are read and wait for a member, in the order in which they were read:
//! what comes back goes to its old place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::slots::Slot;
use tidemill_core::{Event, Offset};

use super::lanes::Lane;
use super::memory::Held;

/// An event that a group has read and not settled.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Ascends as events are read; within a partition as their offsets do.
    pub(super) sequence: u64,
    /// Its partition, as an index into the group's.
    pub(super) flow: FlowIndex,
    pub(super) offset: Offset,
    pub(super) event: Arc<Event>,
    /// The number of the next attempt, from 1.
    pub(super) attempt: u32,
    /// Which part of the work it is; `None`: any member may have it.
    pub(super) slot: Option<Slot>,
    /// What it keeps its order in; `None`: it has none to keep.
    pub(super) lane: Option<Lane>,
    /// When it is to be tried, where its turn comes before that.
    pub(super) due: Option<Duration>,
    /// What it counts for in memory.
    pub(super) size_bytes: usize,
    /// The memory of the read that it came with, which others share.
    pub(super) held: Option<Arc<Held>>,
}

impl Item {
    /// Lets go of the read that it came with, where there is memory for it alone: it may wait for
    /// long, and the read's other events are soon done with.
    pub(super) fn detached(self) -> Self {
        let held = match &self.held {
            None => None,
            Some(held) => match held.alone(self.size_bytes) {
                None => return self,
                Some(alone) => Some(Arc::new(alone)),
            },
        };
        Self {
            event: Arc::new(self.event.detached()),
            held,
            ..self
        }
    }

    /// The same event for another attempt.
    pub(super) fn again(self) -> Self {
        Self {
            attempt: self.attempt.saturating_add(1),
            ..self
        }
    }
}

/// A partition of the group, by its place in the group's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowIndex(pub(super) usize);

/// Items by ascending sequence.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Item>);

impl Queue {
    /// Puts an item in its place; at the end in one step.
    pub(super) fn insert(&mut self, item: Item) {
        let last = self.0.back().map(|last| last.sequence);
        if last.is_none_or(|last| last < item.sequence) {
            self.0.push_back(item);
            return;
        }
        let at = self.0.partition_point(|have| have.sequence < item.sequence);
        self.0.insert(at, item);
    }

    /// The sequence of the first item.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.front().map(|item| item.sequence)
    }

    /// The first item.
    pub(super) fn front(&self) -> Option<&Item> {
        self.0.front()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        self.0.pop_front()
    }

    /// Takes out the first item for which this is so.
    pub(super) fn take_first(&mut self, is_it: impl Fn(&Item) -> bool) -> Option<Item> {
        let at = self.0.iter().position(is_it)?;
        self.0.remove(at)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item> {
        self.0.drain(..)
    }

    pub(super) fn into_items(self) -> impl Iterator<Item = Item> {
        self.0.into_iter()
    }

    /// Moves the items of a partition to `out`.
    pub(super) fn withdraw(&mut self, flow: FlowIndex, out: &mut Vec<Item>) {
        let items = self.0.drain(..);
        let (of_flow, others): (Vec<_>, Vec<_>) = items.partition(|item| item.flow == flow);
        out.extend(of_flow);
        self.0 = others.into();
    }
}
