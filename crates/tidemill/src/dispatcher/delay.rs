//! Settlements that wait before another try: counted, and told when that begins and when it ends,
//! however many events are held up. It may not know how long they wait, or why.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_core::{Position, SettleError};
use tokio::time::Instant;

use super::hooks::Counters;
use crate::limits::SETTLE_TELL_GAP;

/// Why settlements wait: what passes by itself must not hide what needs somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The bus takes nothing at present.
    Unavailable,
    /// The bus refuses this one.
    Refused,
}

/// The delayed settlements of one dispatcher.
#[derive(Debug, Default)]
pub(super) struct Delays {
    unavailable: Mutex<State>,
    refused: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Settlements that wait now.
    waiting: usize,
    /// Settlements that had to wait, and their tries, since the last end that was told.
    events: u64,
    tries: u64,
    /// When a beginning was told last.
    told: Option<Instant>,
    /// Whether its end is still to be told.
    open: bool,
}

impl State {
    /// Whether a beginning is to be told now; it counts as told then.
    fn begins(&mut self, now: Instant) -> bool {
        let recent = |told: Instant| now.saturating_duration_since(told) < SETTLE_TELL_GAP;
        if self.open || self.told.is_some_and(recent) {
            return false;
        }
        self.open = true;
        self.told = Some(now);
        true
    }
}

impl Delays {
    fn state(&self, cause: Cause) -> MutexGuard<'_, State> {
        let state = match cause {
            Cause::Unavailable => &self.unavailable,
            Cause::Refused => &self.refused,
        };
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many settlements wait now.
    pub(super) fn waiting(&self) -> usize {
        let unavailable = self.state(Cause::Unavailable).waiting;
        unavailable + self.state(Cause::Refused).waiting
    }
}

/// One settlement, which has waited or has not. What it said is taken back when it is dropped.
pub(super) struct Delayed<'a> {
    delays: &'a Delays,
    counters: &'a Counters,
    cause: Option<Cause>,
}

impl<'a> Delayed<'a> {
    /// One that has not waited yet.
    pub(super) fn new(delays: &'a Delays, counters: &'a Counters) -> Self {
        Self {
            delays,
            counters,
            cause: None,
        }
    }

    /// It failed and is to be tried again after `wait`.
    pub(super) fn wait(
        &mut self,
        cause: Cause,
        position: &Position,
        error: &SettleError,
        wait: Duration,
    ) {
        if self.cause.is_none() {
            self.counters.settle_delayed.add(1);
        }
        self.counters.settle_retried.add(1);
        let enters = self.cause != Some(cause);
        if enters {
            self.leave();
            self.cause = Some(cause);
        }
        let mut state = self.delays.state(cause);
        state.waiting += usize::from(enters);
        state.events += u64::from(enters);
        state.tries += 1;
        // Asked at every try: one that began unsaid is told once it has lasted.
        let begins = state.begins(Instant::now());
        drop(state);
        tracing::debug!(%position, %error, ?wait, "a settlement waits");
        match cause {
            _ if !begins => {}
            Cause::Unavailable => {
                tracing::warn!(%position, %error, ?wait, "settling is delayed");
            }
            Cause::Refused => tracing::warn!(
                %position, %error, ?wait,
                "a settlement is refused and tried again; its key waits for it"
            ),
        }
    }

    fn leave(&mut self) {
        let Some(cause) = self.cause.take() else {
            return;
        };
        let mut state = self.delays.state(cause);
        state.waiting -= 1;
        if state.waiting > 0 || !state.open {
            return;
        }
        state.open = false;
        let (events, tries) = (state.events, state.tries);
        (state.events, state.tries) = (0, 0);
        drop(state);
        match cause {
            Cause::Unavailable => tracing::warn!(events, tries, "settling is no longer delayed"),
            Cause::Refused => tracing::warn!(events, tries, "no settlement is refused any more"),
        }
    }
}

impl Drop for Delayed<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
