//! How fast a publisher goes: flat out, or so many events a second by the clock, whether or not
//! the bus keeps up.
//!
//! This room may not know what is published.

use std::time::Duration;

use tokio::time::Instant;

/// The pace of one publisher.
pub(crate) struct Pace {
    begun: Instant,
    /// Events a second; `None` is flat out.
    rate: Option<f64>,
    taken: u64,
    batch: u64,
}

/// Events that are due now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Due {
    pub(crate) count: u64,
    /// When the first of them was to be sent. A bus that cannot keep up is measured from here,
    /// so that waiting in line counts.
    pub(crate) since: Instant,
}

impl Pace {
    /// A pace of `rate` events a second, at most `batch` at a time.
    pub(crate) fn new(begun: Instant, rate: Option<f64>, batch: u64) -> Self {
        Self {
            begun,
            rate,
            taken: 0,
            batch,
        }
    }

    /// When the next event is due.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        match self.rate {
            None => now,
            Some(rate) => self.begun + Duration::from_secs_f64(self.taken as f64 / rate),
        }
    }

    /// Takes what is due at `now`; it counts as sent.
    pub(crate) fn take(&mut self, now: Instant) -> Due {
        let since = self.next(now);
        let count = match self.rate {
            None => self.batch,
            Some(rate) => {
                let due = (now - self.begun).as_secs_f64() * rate;
                (due as u64 + 1).saturating_sub(self.taken).min(self.batch)
            }
        };
        self.taken += count;
        Due { count, since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_the_clock() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut pace = Pace::new(begun, Some(100.0), 50);
        assert_eq!(pace.take(at(0)).count, 1);
        assert_eq!(pace.next(at(0)), at(10));
        assert_eq!(pace.take(at(9)).count, 0);
        let late = pace.take(at(100));
        assert_eq!((late.count, late.since), (10, at(10)));
    }

    #[test]
    fn a_publisher_that_fell_behind_catches_up_in_batches() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, Some(1000.0), 8);
        let now = begun + Duration::from_secs(1);
        assert_eq!(pace.take(now).count, 8);
        assert_eq!(pace.take(now).since, begun + Duration::from_millis(8));
    }

    #[test]
    fn flat_out_a_whole_batch_is_always_due_now() {
        let now = Instant::now();
        let mut pace = Pace::new(now, None, 4);
        assert_eq!(
            pace.take(now),
            Due {
                count: 4,
                since: now
            }
        );
    }
}
