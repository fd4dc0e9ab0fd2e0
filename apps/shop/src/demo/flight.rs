//! The orders under way: since when, and how long those that ended took. What the demo's source
//! waits for when too many are open. Time arrives as an argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Notify;

/// Longest time that is told apart, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Orders under way, shared by the source that begins them and the tail that sees them end.
pub(super) struct Flight {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    open: HashMap<i64, Instant>,
    ended: u64,
    /// Times of the orders that ended since the last reading, and since the start.
    recent: Histogram<u64>,
    all: Histogram<u64>,
}

/// The middle and the slow end of some times, in microseconds; nothing when there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Times {
    /// Half took at most this long.
    pub p50_us: u64,
    /// 99 of 100 took at most this long.
    pub p99_us: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in the order it asks for")
}

fn times(of: &Histogram<u64>) -> Times {
    Times {
        p50_us: of.value_at_quantile(0.5),
        p99_us: of.value_at_quantile(0.99),
    }
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                open: HashMap::new(),
                ended: 0,
                recent: histogram(),
                all: histogram(),
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An order is on its way.
    pub(super) fn begin(&self, order_id: i64, now: Instant) {
        self.state().open.insert(order_id, now);
    }

    /// An order ended; one that was not begun here is passed over.
    pub(super) fn end(&self, order_id: i64, now: Instant) {
        let mut state = self.state();
        let Some(begun) = state.open.remove(&order_id) else {
            return;
        };
        let took = now.saturating_duration_since(begun).as_micros();
        let took = u64::try_from(took).unwrap_or(LONGEST_US);
        state.ended += 1;
        state.recent.saturating_record(took);
        state.all.saturating_record(took);
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn open(&self) -> usize {
        self.state().open.len()
    }

    pub(super) fn ended(&self) -> u64 {
        self.state().ended
    }

    /// The times since the last call.
    pub(super) fn recent(&self) -> Times {
        let mut state = self.state();
        let read = times(&state.recent);
        state.recent.reset();
        read
    }

    /// The times since the start.
    pub(super) fn all(&self) -> Times {
        times(&self.state().all)
    }

    /// Waits until at most `most` orders are open; false when none ended for `patience`.
    pub(super) async fn down_to(&self, most: usize, patience: Duration) -> bool {
        loop {
            // Registered before looking: an end in between is not missed.
            let changed = self.changed.notified();
            if self.open() <= most {
                return true;
            }
            if tokio::time::timeout(patience, changed).await.is_err() {
                return self.open() <= most;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_are_timed_once_and_waited_for() {
        let flight = Flight::new();
        let start = Instant::now();
        flight.begin(1, start);
        flight.begin(2, start);
        flight.end(1, start + Duration::from_millis(5));
        flight.end(1, start + Duration::from_millis(500));
        flight.end(9, start);
        assert_eq!((flight.open(), flight.ended()), (1, 1));
        let times = flight.recent();
        assert!((4_990..=5_010).contains(&times.p99_us), "{times:?}");
        assert_eq!(flight.recent(), Times::default());
        assert!(flight.down_to(1, Duration::ZERO).await);
        assert!(!flight.down_to(0, Duration::from_millis(1)).await);
        let (empty, ()) = tokio::join!(flight.down_to(0, Duration::from_secs(9)), async {
            flight.end(2, start);
        });
        assert!(empty);
    }
}
