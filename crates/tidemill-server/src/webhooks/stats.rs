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
    /// The last attempt that failed.
    pub(crate) last_error: Option<(Timestamp, String)>,
    /// What keeps it from its topics, until it reads them again.
    pub(crate) trouble: Option<(Timestamp, String)>,
    /// Failures since the last success.
    row: u32,
    /// Until when the endpoint is left alone, as it failed so often.
    rest: Option<Instant>,
    /// Until when it asked to be left alone.
    asked: Option<Instant>,
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

    /// An event is on its way, until what is answered is dropped; `None` where `take` gets nothing
    /// for it. `take` hears whether no other is on its way, which nobody changes meanwhile.
    pub(crate) fn fly<T>(
        &self,
        bytes: usize,
        take: impl FnOnce(bool) -> Option<T>,
    ) -> Option<(T, Flying<'_>)> {
        let mut counts = self.lock();
        let taken = take(counts.in_flight == 0)?;
        counts.in_flight += 1;
        counts.in_flight_bytes += bytes;
        Some((taken, Flying { stats: self, bytes }))
    }

    pub(crate) fn delivered(&self, now: Timestamp) {
        let mut counts = self.lock();
        counts.delivered += 1;
        counts.last_success = Some(now);
        // What was on its way before the endpoint asked for a rest says nothing about that.
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
        let until = |rest: Option<Duration>| rest.map(|rest| Instant::now() + rest);
        counts.rest = counts.rest.max(until(own));
        counts.asked = counts.asked.max(until(after));
    }

    pub(crate) fn dead_lettered(&self) {
        self.lock().dead_lettered += 1;
    }

    /// Its topics cannot be read.
    pub(crate) fn trouble(&self, now: Timestamp, why: String) {
        self.lock().trouble = Some((now, why));
    }

    /// They can.
    pub(crate) fn out_of_trouble(&self) {
        self.lock().trouble = None;
    }

    /// Until when nothing is to be sent.
    pub(crate) fn rest(&self) -> Option<Instant> {
        let counts = self.lock();
        let until = counts.rest.max(counts.asked);
        until.filter(|until| *until > Instant::now())
    }

    /// It begins anew, as after a pause.
    pub(crate) fn rested(&self) {
        let mut counts = self.lock();
        (counts.row, counts.rest, counts.asked) = (0, None, None);
        counts.trouble = None;
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

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_was_asked_for_outlasts_what_was_on_its_way() {
        let stats = Stats::default();
        let now = Timestamp::UNIX_EPOCH;
        let asked = Duration::from_secs(30);
        for _ in 0..=WEBHOOK_REST_AFTER {
            stats.failed(now, "later", Some(asked), 1023);
        }
        stats.delivered(now);
        assert_eq!(stats.rest(), Some(Instant::now() + asked));
        stats.rested();
        assert_eq!(stats.rest(), None);
    }

    #[test]
    fn what_flies_is_counted_until_it_is_dropped_and_only_the_first_is_the_first() {
        let stats = Stats::default();
        let counted = || (stats.counts().in_flight, stats.counts().in_flight_bytes);
        assert!(stats.fly(9, |_| None::<()>).is_none());
        assert_eq!(counted(), (0, 0));
        let (first, flying) = stats.fly(7, Some).unwrap();
        assert!(first);
        assert_eq!(counted(), (1, 7));
        let (first, second) = stats.fly(2, Some).unwrap();
        assert!(!first);
        drop(flying);
        assert_eq!(counted(), (1, 2));
        drop(second);
        assert_eq!(counted(), (0, 0));
        assert!(stats.fly(1, Some).unwrap().0);
    }

    #[test]
    fn trouble_is_no_failed_attempt_and_ends() {
        let stats = Stats::default();
        stats.trouble(Timestamp::UNIX_EPOCH, "no topic".to_owned());
        assert!(stats.counts().trouble.is_some() && stats.counts().last_error.is_none());
        stats.out_of_trouble();
        assert!(stats.counts().trouble.is_none());
    }
}
