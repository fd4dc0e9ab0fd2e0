//! What a dispatcher tells about its work: counters that are always there, and hooks for those
//! who want each event. It may not know who listens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tidemill_core::Delivery;

use crate::app::VerdictKind;
use crate::router::HandlerInfo;

/// Is told what a dispatcher does. Called on the way of every event: each must be quick and must
/// not block. Every method does nothing by itself.
pub trait Hooks: Send + Sync + 'static {
    /// `events` were added to the dispatcher's queue.
    fn added(&self, events: usize) {
        let _ = events;
    }

    /// A handler was called and has ended, one way or another.
    fn attempted(&self, attempted: &Attempted<'_>) {
        let _ = attempted;
    }

    /// An event needs nothing more of this dispatcher.
    fn settled(&self, settled: &Settled<'_>) {
        let _ = settled;
    }
}

/// One call of a handler.
#[derive(Clone, Debug)]
pub struct Attempted<'a> {
    /// What it was called with.
    pub delivery: &'a Delivery,
    /// The handler; none when there was none for the event.
    pub handler: Option<&'a HandlerInfo>,
    /// How it ended.
    pub kind: VerdictKind,
    /// How long the call took, its layers included.
    pub took: Duration,
    /// The wait before it is tried again, where it is.
    pub again_after: Option<Duration>,
}

/// The end of an event at this dispatcher.
#[derive(Clone, Debug)]
pub struct Settled<'a> {
    /// The event.
    pub delivery: &'a Delivery,
    /// How it ended.
    pub end: End,
    /// How many events were published with the settlement.
    pub published: usize,
    /// How long it was here: since it was added to the queue.
    pub took: Duration,
}

/// How an event ended at a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Settled with its effects, durably.
    Acknowledged,
    /// Copied to the dead letters and settled.
    DeadLettered,
    /// Another member has it by now; nothing was kept of this attempt.
    Stale,
    /// The bus could not take the settlement; the event is given out again.
    Unsettled,
}

/// What a dispatcher has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Events that were added to the queue.
    pub added: u64,
    /// Calls of handlers that ended well.
    pub handled: u64,
    /// Events that no handler was for; they were acknowledged.
    pub unhandled: u64,
    /// Calls of handlers that failed, those turned away by a limit not counted.
    pub failed: u64,
    /// Calls that a limit turned away.
    pub turned_away: u64,
    /// Events that were put back to be tried again.
    pub retried: u64,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
    /// Events whose settlement was refused as stale.
    pub stale: u64,
    /// Events whose settlement the bus could not take.
    pub unsettled: u64,
    /// Events whose settlement had to wait, as the bus could not take it or refused it.
    pub settle_delayed: u64,
    /// Tries of settlements that failed and were to be made again.
    pub settle_retried: u64,
    /// Events that handlers published.
    pub published: u64,
}

/// [`Stats`] in the making.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) added: Counter,
    pub(super) handled: Counter,
    pub(super) unhandled: Counter,
    pub(super) failed: Counter,
    pub(super) turned_away: Counter,
    pub(super) retried: Counter,
    pub(super) acknowledged: Counter,
    pub(super) dead_lettered: Counter,
    pub(super) stale: Counter,
    pub(super) unsettled: Counter,
    pub(super) settle_delayed: Counter,
    pub(super) settle_retried: Counter,
    pub(super) published: Counter,
}

/// A number that only grows. Nothing is decided by it, so no order is needed.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        if count > 0 {
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> Stats {
        Stats {
            added: self.added.get(),
            handled: self.handled.get(),
            unhandled: self.unhandled.get(),
            failed: self.failed.get(),
            turned_away: self.turned_away.get(),
            retried: self.retried.get(),
            acknowledged: self.acknowledged.get(),
            dead_lettered: self.dead_lettered.get(),
            stale: self.stale.get(),
            unsettled: self.unsettled.get(),
            settle_delayed: self.settle_delayed.get(),
            settle_retried: self.settle_retried.get(),
            published: self.published.get(),
        }
    }
}
