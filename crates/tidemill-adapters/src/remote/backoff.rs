//! How long to wait before another try to connect.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::limits::RECONNECT_WAIT;

/// Waits that double, each cut at random, so that many clients do not come back at once.
pub(super) struct Backoff {
    next: Duration,
    random: RandomState,
    tries: u64,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            next: RECONNECT_WAIT.0,
            random: RandomState::new(),
            tries: 0,
        }
    }

    /// The next wait: between a half of its bound and all of it.
    pub(super) fn wait(&mut self) -> Duration {
        self.tries += 1;
        let half = self.next / 2;
        self.next = (self.next * 2).min(RECONNECT_WAIT.1);
        let part = self.random.hash_one(self.tries) % 1024;
        half + half * u32::try_from(part).unwrap_or(0) / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_differ() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.wait()).collect();
        assert!(waits[0] <= RECONNECT_WAIT.0 && waits[0] >= RECONNECT_WAIT.0 / 2);
        assert!(waits.iter().all(|wait| *wait <= RECONNECT_WAIT.1));
        let late = &waits[12..];
        assert!(late.iter().all(|wait| *wait >= RECONNECT_WAIT.1 / 2));
        assert!(late.iter().any(|wait| *wait != late[0]));
    }
}
