//! The clocks of a run: one that only goes on, and the wall's, which leaps as it likes. May not
//! know: the log.

use std::time::Duration;

use jiff::Timestamp;
use tidemill_log::Now;
use tidemill_log::limits::AGE_CLOCK_RATE_MAX;

use crate::sim::random::Random;
use crate::sim::scenario::{WALL_BEGINS_MS, WALL_MIN_MS};

const HOUR_MS: u64 = 3_600_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    monotonic: Duration,
    wall_ms: i64,
    /// No age that follows the rules of the log's clock is judged by a later time than this.
    age_max_ms: i64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            monotonic: Duration::ZERO,
            wall_ms: WALL_BEGINS_MS as i64,
            age_max_ms: WALL_BEGINS_MS as i64,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: Timestamp::UNIX_EPOCH + Duration::from_millis(self.wall_ms as u64),
            monotonic: self.monotonic,
        }
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.monotonic += Duration::from_millis(millis);
        self.wall_ms += millis as i64;
        let reached = self.age_max_ms + AGE_CLOCK_RATE_MAX * millis as i64;
        self.age_max_ms = self.age_max_ms.max(reached.min(self.wall_ms));
    }

    /// The wall clock is set to another time; answers by how many milliseconds.
    pub(super) fn leap(&mut self, random: &mut Random) -> i64 {
        let furthest = [1_000, HOUR_MS, 48 * HOUR_MS, 90_000 * HOUR_MS];
        let furthest = random.pick(&furthest).copied().unwrap_or(0);
        let by = random.between(1, furthest) as i64;
        let before = self.wall_ms;
        let back = random.chance(500_000);
        let to = before + if back { -by } else { by };
        self.wall_ms = to.clamp(
            WALL_MIN_MS,
            WALL_BEGINS_MS as i64 + 200_000 * HOUR_MS as i64,
        );
        self.wall_ms - before
    }

    /// A log is made, whose clock believes the wall's.
    pub(super) fn believed(&mut self) {
        self.age_max_ms = self.age_max_ms.max(self.wall_ms);
    }

    pub(super) fn age_max_ms(&self) -> i64 {
        self.age_max_ms
    }

    /// Milliseconds by which ages have grown at most.
    pub(super) fn aged_max_ms(&self) -> u64 {
        self.monotonic.as_millis() as u64 * AGE_CLOCK_RATE_MAX as u64
    }
}
