//! Who is let in to wait: each operation takes its memory from the budget, and no lane may take
//! so much that others find none.
//!
//! A lane may have as much as is still free after it (the dynamic threshold of Choudhury and
//! Hahne, 1998): one alone gets half of what may wait, two get a third each, and one that begins
//! to wait always finds room. Lanes are counted in so many places that two of them rarely share
//! one; where they do, they get a part together. What appends no records has a part of its own,
//! so that settlements wait however much is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidemill_core::budget::{Budget, Class, Share};

use crate::limits::{LANES_COUNTED, OPERATION_BYTES};
use crate::machine::Demand;

/// Bytes that lanes have taken, by what their numbers leave.
#[derive(Debug)]
struct Lanes(Box<[AtomicUsize]>);

impl Lanes {
    fn new() -> Arc<Self> {
        Arc::new(Self(
            (0..LANES_COUNTED).map(|_| AtomicUsize::new(0)).collect(),
        ))
    }

    fn of(&self, lane: u64) -> Option<&AtomicUsize> {
        self.0.get(lane as usize % LANES_COUNTED)
    }
}

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    budget: Budget,
    records: Arc<Lanes>,
    others: Arc<Lanes>,
}

/// The memory of one operation that was let in; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    share: Share,
    lanes: Arc<Lanes>,
    lane: u64,
}

impl Entrance {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            records: Lanes::new(),
            others: Lanes::new(),
        }
    }

    /// Lets an operation in; `None` where too much waits. One that is larger than all that may
    /// wait is let in where nothing else does.
    pub(crate) fn enter(&self, demand: &Demand) -> Option<Place> {
        let (class, lanes) = match demand.appends {
            true => (Class::Writes, &self.records),
            false => (Class::Settlements, &self.others),
        };
        let bytes = demand.records.saturating_add(OPERATION_BYTES);
        let used = self.budget.used(class);
        let after = used.saturating_add(bytes);
        let left = self.budget.max(class).saturating_sub(after);
        let fits = |lane: usize| lane.checked_add(bytes).filter(|sum| *sum <= left);
        let counter = lanes.of(demand.lane)?;
        let counted = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        let mut place = Place {
            share: self.budget.empty(class),
            lanes: Arc::clone(lanes),
            lane: demand.lane,
        };
        if counted.is_ok() {
            if place.share.grow(bytes) {
                return Some(place);
            }
            counter.fetch_sub(bytes, Ordering::Relaxed);
        }
        if used > 0 || self.budget.over() > 0 {
            return None;
        }
        counter.fetch_add(bytes, Ordering::Relaxed);
        place.share.grow_anyway(bytes);
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let bytes = self.share.bytes();
        if let Some(counter) = self.lanes.of(self.lane).filter(|_| bytes > 0) {
            counter.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(lane: u64, records: usize) -> Demand {
        Demand {
            records,
            appends: records > 0,
            lane,
            ..Demand::default()
        }
    }

    #[test]
    fn one_lane_leaves_room_for_others_however_much_it_hands_in() {
        let entrance = Entrance::new(&Budget::new(16 << 20));
        let max = entrance.budget.max(Class::Writes);
        let fill = |lane: u64| {
            std::iter::from_fn(|| entrance.enter(&demand(lane, 4096))).collect::<Vec<_>>()
        };
        let bytes = |places: &[Place]| places.iter().map(|place| place.share.bytes()).sum();
        let first = fill(1);
        let taken: usize = bytes(&first);
        assert!(
            taken <= max / 2 && taken > max / 2 - 8192,
            "{taken} of {max}"
        );
        // Each that follows gets a half of what the ones before left.
        for lane in 2..6 {
            let free = entrance.budget.free(Class::Writes);
            let next = fill(lane);
            assert!(!next.is_empty() && bytes(&next) <= free / 2);
            std::mem::forget(next);
        }
        assert!(entrance.enter(&demand(1, 4096)).is_none());
        assert!(
            entrance.enter(&demand(9, 0)).is_some(),
            "no records, another part"
        );
        drop(first);
        assert!(entrance.enter(&demand(1, 4096)).is_some());
    }

    #[test]
    fn one_that_is_too_large_is_let_in_alone() {
        let entrance = Entrance::new(&Budget::new(16 << 20));
        let large = entrance.enter(&demand(1, 100 << 20)).unwrap();
        assert!(entrance.enter(&demand(1, 100 << 20)).is_none());
        drop(large);
        assert_eq!((entrance.budget.over(), entrance.budget.total()), (0, 0));
        let small = entrance.enter(&demand(2, 100)).unwrap();
        assert!(entrance.enter(&demand(1, 100 << 20)).is_none());
        drop(small);
        let _large = entrance.enter(&demand(1, 100 << 20)).unwrap();
    }
}
