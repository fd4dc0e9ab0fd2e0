//! What one run of something took. A module of every binary that measures times.

use std::time::Duration;

/// Latencies of one run and how long it took.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) took: Vec<Duration>,
    pub(crate) whole: Duration,
}

impl Run {
    /// The latency that `share` parts of 1,000 do not exceed, in milliseconds.
    pub(crate) fn permille(&mut self, share: usize) -> f64 {
        self.took.sort_unstable();
        let at = (self.took.len() * share / 1000).min(self.took.len().saturating_sub(1));
        self.took
            .get(at)
            .map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.whole.as_secs_f64()
    }
}
