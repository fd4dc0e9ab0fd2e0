//! The clocks: the wall for dates, the monotonic one for waiting. Nothing else reads them.

use std::time::Instant;

use crate::machine::Now;

/// Both clocks, the monotonic one from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: jiff::Timestamp::now(),
            monotonic: self.0.elapsed(),
        }
    }
}
