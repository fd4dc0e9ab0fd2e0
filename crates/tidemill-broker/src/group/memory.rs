//! The memory of one group's events, out of the broker's budget.
//!
//! What is taken is taken for a read, before it is made, and is given back when the last event of
//! it is settled: events share the bytes that were read. A group may have as much as it leaves
//! free for others; one that has nothing may always have a little, if it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidemill_core::Event;
use tidemill_core::budget::{Budget, Class, Share};
use tidemill_log::Batch;

use crate::limits::{EVENT_MEMORY_BYTES, READ_LEAST_BYTES, READ_MAX_BYTES};

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    budget: Budget,
    /// What the group has.
    held: Arc<AtomicUsize>,
}

/// The memory of one read.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    share: Share,
    group: Arc<AtomicUsize>,
}

impl Memory {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            held: Arc::default(),
        }
    }

    /// Whether the group has nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Takes memory for a read: at least `least`, as much as is fair. `None` where that is not
    /// free.
    pub(super) fn reserve(&self, least: usize) -> Option<Held> {
        let class = Class::Deliveries;
        let held = self.held.load(Ordering::Relaxed);
        let fair = self.budget.free(class).saturating_sub(held) / 2;
        let mut reserved = Held {
            budget: self.budget.clone(),
            share: self.budget.empty(class),
            group: Arc::clone(&self.held),
        };
        if fair >= least {
            let most = (2 * READ_MAX_BYTES).max(least);
            return reserved.resize(fair.min(most)).then_some(reserved);
        }
        if held > 0 {
            return None;
        }
        let taken = reserved.resize(least) || self.takes_whole(&mut reserved, least);
        taken.then_some(reserved)
    }

    /// Takes what is more than all groups may ever have, for one group at a time.
    fn takes_whole(&self, held: &mut Held, bytes: usize) -> bool {
        let too_large = bytes > self.budget.max(Class::Deliveries);
        let taken = too_large && self.budget.over() == 0;
        if taken {
            let more = bytes.saturating_sub(held.bytes());
            held.group.fetch_add(more, Ordering::Relaxed);
            held.share.grow_anyway(more);
        }
        taken
    }

    /// Makes the memory of a read the one that these events need, leaving out the last ones
    /// where they do not fit.
    ///
    /// # Errors
    /// What the first event alone needs, where that is not free.
    pub(super) fn fit<T>(
        &self,
        held: &mut Held,
        events: &mut Vec<(T, Arc<Event>)>,
        batches: &[Batch],
    ) -> Result<Option<T>, usize>
    where
        T: Copy,
    {
        let read: usize = batches.iter().map(Batch::size_bytes).sum();
        let mut left_out = None;
        loop {
            let sizes = events.iter().map(|(_, event)| event.size_bytes());
            let sizes: usize = sizes.sum();
            let needs = match events.len() {
                0 => 0,
                count => read.max(sizes) + count * EVENT_MEMORY_BYTES,
            };
            if held.resize(needs) {
                return Ok(left_out);
            }
            if events.len() <= 1 {
                return match self.takes_whole(held, needs) {
                    true => Ok(left_out),
                    false => Err(needs.max(READ_LEAST_BYTES)),
                };
            }
            let keep = events.len() / 2;
            left_out = events.get(keep).map(|(at, _)| *at);
            events.truncate(keep);
        }
    }
}

impl Held {
    pub(super) fn bytes(&self) -> usize {
        self.share.bytes()
    }

    /// Memory of its own for one event of this size that leaves the read. `None` where that is not
    /// free.
    pub(super) fn alone(&self, event_bytes: usize) -> Option<Held> {
        let mut alone = Held {
            budget: self.budget.clone(),
            share: self.budget.empty(Class::Deliveries),
            group: Arc::clone(&self.group),
        };
        let bytes = event_bytes + EVENT_MEMORY_BYTES;
        alone.resize(bytes).then_some(alone)
    }

    /// Bytes of batches to be read with it: what comes out of them needs the rest.
    pub(super) fn read_bytes(&self) -> usize {
        (self.bytes() / 2).clamp(1, READ_MAX_BYTES)
    }

    /// Takes what one batch of this size needs; answers whether that is free.
    pub(super) fn takes(&mut self, batch_bytes: usize) -> bool {
        self.resize(self.bytes().max(batch_bytes + READ_LEAST_BYTES))
    }

    fn resize(&mut self, bytes: usize) -> bool {
        let before = self.bytes();
        let done = self.share.resize(bytes);
        let after = self.bytes();
        if after >= before {
            self.group.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.group.fetch_sub(before - after, Ordering::Relaxed);
        }
        done
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.group.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}
