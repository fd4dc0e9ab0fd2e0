//! Latencies and rates over time.
//!
//! This room may not know what is measured.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::limits::LATENCY_MAX_US;

/// Latencies in microseconds, of the whole run and of the second under way.
pub(crate) struct Meter {
    inner: Mutex<Inner>,
}

struct Inner {
    whole: Histogram<u64>,
    second: Histogram<u64>,
}

/// Percentiles in microseconds, within 0.1 percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are right")
}

impl Meter {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            whole: histogram(),
            second: histogram(),
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Counts `count` events of this latency.
    pub(crate) fn record(&self, latency_us: u64, count: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.second.saturating_record_n(latency_us.max(1), count);
    }

    /// Ends the second under way: how many it had, and its percentiles.
    pub(crate) fn tick(&self) -> (u64, Percentiles) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { whole, second } = &mut *inner;
        let ended = (second.len(), percentiles(second));
        whole.add(&*second).expect("both have the same bounds");
        second.reset();
        ended
    }

    /// The percentiles of all seconds that have ended.
    pub(crate) fn whole(&self) -> Percentiles {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        percentiles(&inner.whole)
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    Percentiles {
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_ends_and_the_whole_keeps_it() {
        let meter = Meter::new();
        meter.record(100, 98);
        meter.record(5_000, 2);
        let (count, second) = meter.tick();
        assert_eq!((count, second.p50), (100, 100));
        assert!((5_000..5_010).contains(&second.max), "{}", second.max);
        assert_eq!(meter.tick().0, 0);
        assert_eq!(meter.whole().p50, 100);
        assert!(meter.whole().p99 >= 5_000);
    }

    #[test]
    fn latencies_beyond_the_bounds_count_as_the_bound() {
        let meter = Meter::new();
        meter.record(0, 1);
        meter.record(u64::MAX, 1);
        let (count, second) = meter.tick();
        assert_eq!(count, 2);
        assert!(second.max >= LATENCY_MAX_US);
    }
}
