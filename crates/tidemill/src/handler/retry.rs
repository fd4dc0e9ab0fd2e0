//! How often and when a failed handler is tried again.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::limits::{RETRIES_DEFAULT, RETRY_FIRST, RETRY_MAX};

/// How often a failure is tried again, and after which waits: `first`, then twice as long each
/// time, up to `max`. A number alone means so many retries with the usual waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Tries after the first one.
    pub retries: u32,
    /// Wait before the first retry; written as `first_ms`.
    #[serde(rename = "first_ms", serialize_with = "in_milliseconds")]
    pub first: Duration,
    /// Longest wait; written as `max_ms`.
    #[serde(rename = "max_ms", serialize_with = "in_milliseconds")]
    pub max: Duration,
}

/// A duration as a number of milliseconds, rounded down.
pub(crate) fn in_milliseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .serialize(to)
}

impl Retry {
    /// No retry: the first failure makes a dead letter.
    #[must_use]
    pub fn never() -> Self {
        Self::times(0)
    }

    /// So many retries, with the usual waits.
    #[must_use]
    pub fn times(retries: u32) -> Self {
        Self {
            retries,
            ..Self::default()
        }
    }

    /// With these waits.
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.first = first;
        self.max = max;
        self
    }

    /// The wait before the try after `attempt` (from 1), or none when that was the last one.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        if attempt > self.retries {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        Some(self.first.saturating_mul(1 << doublings).min(self.max))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: RETRIES_DEFAULT,
            first: RETRY_FIRST,
            max: RETRY_MAX,
        }
    }
}

impl From<u32> for Retry {
    fn from(retries: u32) -> Self {
        Self::times(retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let retry = Retry::times(4).backoff(Duration::from_secs(1), Duration::from_secs(3));
        let waits: Vec<_> = (1..=5).map(|n| retry.wait_after(n)).collect();
        let secs = |n| Some(Duration::from_secs(n));
        assert_eq!(waits, [secs(1), secs(2), secs(3), secs(3), None]);
        assert_eq!(Retry::never().wait_after(1), None);
        assert_eq!(Retry::times(u32::MAX).wait_after(1000), Some(RETRY_MAX));
    }
}
