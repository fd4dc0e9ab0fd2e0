//! What happened to a webhook since the server began: for those who look at it, and for the rests
//! that an endpoint gets which fails again and again.
//!
//! This room may not know how anything is sent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::retry;
use crate::limits::{WEBHOOK_REST, WEBHOOK_REST_AFTER};

/// The counts of one webhook.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) in_flight: usize,
    /// Bytes of what is in flight.
    pub(crate) in_flight_bytes: usize,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) last_success: Option<Timestamp>,
    pub(crate) last_error: Option<(Timestamp, String)>,
    /// Failures since the last success.
    row: u32,
    /// Until when the endpoint is left alone.
    rest: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<Counts>);

impl Stats {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// An event is on its way, until what is answered is dropped.
    pub(crate) fn flying(&self, bytes: usize) -> Flying<'_> {
        let mut counts = self.lock();
        counts.in_flight += 1;
        counts.in_flight_bytes += bytes;
        Flying { stats: self, bytes }
    }

    pub(crate) fn delivered(&self, now: Timestamp) {
        let mut counts = self.lock();
        counts.delivered += 1;
        counts.last_success = Some(now);
        (counts.row, counts.rest) = (0, None);
    }

    /// An attempt failed. Endpoints that fail for any event get a rest, and those that ask for one.
    pub(crate) fn failed(&self, now: Timestamp, why: &str, after: Option<Duration>, random: u64) {
        let mut counts = self.lock();
        counts.failed += 1;
        counts.last_error = Some((now, why.to_owned()));
        counts.row = counts.row.saturating_add(1);
        let beyond = counts.row.saturating_sub(WEBHOOK_REST_AFTER);
        let own = (beyond > 0).then(|| retry::wait(beyond, WEBHOOK_REST.0, WEBHOOK_REST.1, random));
        let rest = own.max(after).map(|rest| Instant::now() + rest);
        counts.rest = counts.rest.max(rest);
    }

    pub(crate) fn dead_lettered(&self) {
        self.lock().dead_lettered += 1;
    }

    /// Something else than an attempt went wrong.
    pub(crate) fn trouble(&self, now: Timestamp, why: String) {
        self.lock().last_error = Some((now, why));
    }

    /// Until when nothing is to be sent.
    pub(crate) fn rest(&self) -> Option<Instant> {
        self.lock().rest.filter(|until| *until > Instant::now())
    }

    /// It begins anew, as after a pause.
    pub(crate) fn rested(&self) {
        let mut counts = self.lock();
        (counts.row, counts.rest) = (0, None);
    }
}

/// An event that is on its way.
pub(crate) struct Flying<'a> {
    stats: &'a Stats,
    bytes: usize,
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        let mut counts = self.stats.lock();
        counts.in_flight -= 1;
        counts.in_flight_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_again_and_again_gets_a_rest_until_it_succeeds() {
        let stats = Stats::default();
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..WEBHOOK_REST_AFTER {
            stats.failed(now, "no", None, 1023);
        }
        assert_eq!(stats.rest(), None);
        stats.failed(now, "no", None, 1023);
        assert_eq!(stats.rest(), Some(Instant::now() + WEBHOOK_REST.0));
        for _ in 0..100 {
            stats.failed(now, "no", None, 1023);
        }
        assert_eq!(stats.rest(), Some(Instant::now() + WEBHOOK_REST.1));
        stats.delivered(now);
        assert_eq!(stats.rest(), None);
        let asked = Duration::from_secs(30);
        stats.failed(now, "later", Some(asked), 0);
        assert_eq!(stats.rest(), Some(Instant::now() + asked));
        tokio::time::advance(asked).await;
        assert_eq!(stats.rest(), None);
    }

    #[test]
    fn what_flies_is_counted_until_it_is_dropped() {
        let stats = Stats::default();
        let flying = stats.flying(7);
        assert_eq!(
            (stats.counts().in_flight, stats.counts().in_flight_bytes),
            (1, 7)
        );
        drop(flying);
        assert_eq!(
            (stats.counts().in_flight, stats.counts().in_flight_bytes),
            (0, 0)
        );
    }
}
