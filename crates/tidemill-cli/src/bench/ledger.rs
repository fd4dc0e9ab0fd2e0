//! What a bench run knows of every event: which were accepted, which came, how often and in
//! which order for their key.
//!
//! This room may not know time, buses or tasks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The counts of a run. Events of one key are numbered from 0 without gaps.
pub(crate) struct Ledger {
    keys: Vec<Mutex<KeyState>>,
    accepted: AtomicU64,
    delivered: AtomicU64,
    doubled: AtomicU64,
    out_of_order: AtomicU64,
    /// Deliveries that belong to no key of this run.
    foreign: AtomicU64,
}

#[derive(Default)]
struct KeyState {
    /// All below it were delivered.
    next: u64,
    /// Delivered before one of a lower number.
    early: BTreeSet<u64>,
}

/// What a run amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Events that the publisher was told are kept.
    pub(crate) accepted: u64,
    /// Different events that came.
    pub(crate) delivered: u64,
    /// Accepted and never came.
    pub(crate) lost: u64,
    /// Deliveries of an event that had come already, until
    /// [`BENCH_LISTEN_ON`](crate::limits::BENCH_LISTEN_ON) after the last event that was missing.
    /// What comes later, as from a lease that runs out, is not seen.
    pub(crate) doubled: u64,
    /// Events that came before an earlier one of their key.
    pub(crate) out_of_order: u64,
}

impl Ledger {
    /// A ledger of `keys` keys.
    pub(crate) fn new(keys: u32) -> Self {
        Self {
            keys: (0..keys).map(|_| Mutex::default()).collect(),
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
        }
    }

    /// Events were accepted.
    pub(crate) fn accept(&self, count: u64) {
        self.accepted.fetch_add(count, Ordering::Relaxed);
    }

    /// The event `number` of `key` came.
    pub(crate) fn deliver(&self, key: u32, number: u64) {
        let Some(state) = self.keys.get(key as usize) else {
            self.foreign.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if number < state.next || state.early.contains(&number) {
            self.doubled.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if number > state.next {
            self.out_of_order.fetch_add(1, Ordering::Relaxed);
            state.early.insert(number);
            return;
        }
        state.next += 1;
        while state.early.first() == Some(&state.next) {
            state.early.pop_first();
            state.next += 1;
        }
    }

    /// How many different events came so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// How many events are accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The counts as they are; what has not come counts as lost.
    pub(crate) fn counts(&self) -> Counts {
        let (accepted, delivered) = (self.accepted(), self.delivered());
        Counts {
            accepted,
            delivered,
            lost: accepted.saturating_sub(delivered),
            doubled: self.doubled.load(Ordering::Relaxed) + self.foreign.load(Ordering::Relaxed),
            out_of_order: self.out_of_order.load(Ordering::Relaxed),
        }
    }
}

impl Counts {
    /// Whether everything came once and in order.
    pub(crate) fn clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.out_of_order == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(accepted: u64, deliveries: &[(u32, u64)]) -> Counts {
        let ledger = Ledger::new(2);
        ledger.accept(accepted);
        for (key, number) in deliveries {
            ledger.deliver(*key, *number);
        }
        ledger.counts()
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let found = counts(4, &[(0, 0), (1, 0), (1, 1), (0, 1)]);
        assert!(found.clean());
        assert_eq!(found.delivered, 4);
    }

    #[test]
    fn a_lost_event_is_counted() {
        let last = counts(2, &[(0, 0)]);
        assert_eq!((last.lost, last.clean()), (1, false));
        let middle = counts(3, &[(0, 0), (0, 2)]);
        assert_eq!((middle.lost, middle.out_of_order), (1, 1));
    }

    #[test]
    fn a_doubled_event_is_counted_wherever_it_comes() {
        let below = counts(1, &[(0, 0), (0, 0)]);
        assert_eq!(
            (below.doubled, below.delivered, below.clean()),
            (1, 1, false)
        );
        let above = counts(3, &[(0, 2), (0, 2), (0, 0), (0, 1)]);
        assert_eq!((above.doubled, above.delivered, above.lost), (1, 3, 0));
    }

    #[test]
    fn two_that_changed_places_are_out_of_order_once() {
        let found = counts(3, &[(0, 1), (0, 0), (0, 2)]);
        assert_eq!((found.out_of_order, found.lost, found.doubled), (1, 0, 0));
        assert!(!found.clean());
    }

    #[test]
    fn a_delivery_of_another_run_is_not_clean() {
        assert!(!counts(0, &[(9, 0)]).clean());
    }
}
