//! The dispatcher's own task: takes events in as there is room for them, starts workers as they
//! are of use, and ends everything in order.

use std::any::Any;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::error::Unavailable;
use tidemill_core::{Delivery, GroupMember, PullError, Settlement};
use tokio::task::{JoinError, JoinSet};

use super::backoff::Backoff;
use super::error::ServeError;
use super::shared::Shared;
use super::worker::work;
use crate::limits::{PULL_WAIT_FIRST, PULL_WAIT_MAX};

/// How serving ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// What was done.
    pub stats: super::Stats,
    /// Handlers that were still running when the grace period was over, or whose settlements a
    /// busy bus had not taken by then: they were cancelled, and their events are given out again.
    pub cancelled: usize,
}

/// Runs until `shutdown` resolves or the bus ends, then drains: intake stops, running handlers
/// finish and settle, the member leaves.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut member: Box<dyn GroupMember>,
    shutdown: impl Future<Output = ()>,
) -> Result<Served, ServeError> {
    let mut workers = JoinSet::new();
    // A set of one: it is aborted when it is dropped.
    let mut timer = JoinSet::new();
    timer.spawn(delays(Arc::clone(&shared)));
    let ended = take_in(&shared, &mut *member, &mut workers, shutdown).await;
    shared.close();
    drop(timer);
    let cancelled = drain(&shared, &mut workers).await;
    // Everything is settled or given back: now the others may have this member's share.
    drop(member);
    ended?;
    match shared.take_error() {
        Some(error) => Err(error),
        None => Ok(Served {
            stats: shared.counters.read(),
            cancelled,
        }),
    }
}

async fn take_in(
    shared: &Arc<Shared>,
    member: &mut dyn GroupMember,
    workers: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut shutdown = pin!(shutdown);
    let mut stopped = pin!(shared.stopped());
    let mut backoff = Backoff::new(PULL_WAIT_FIRST, PULL_WAIT_MAX);
    loop {
        for _ in 0..shared.hire() {
            workers.spawn(work(Arc::clone(shared)));
        }
        let credit = shared.credit();
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            () = &mut stopped => return Ok(()),
            Some(ended) = workers.join_next() => {
                // None ends before the queue is closed, unless by a panic.
                return ended.map_err(worker_error);
            }
            () = shared.hands() => {}
            () = shared.room(), if credit == 0 => {}
            pulled = pull(member, credit, &mut backoff), if credit > 0 => {
                shared.add(pulled?);
            }
        }
    }
}

/// Takes events once; waits and answers none after an error that may pass.
async fn pull(
    member: &mut dyn GroupMember,
    credit: usize,
    backoff: &mut Backoff,
) -> Result<Vec<(Delivery, Settlement)>, ServeError> {
    let error = match member.pull(credit).await {
        Ok(batch) => {
            *backoff = Backoff::new(PULL_WAIT_FIRST, PULL_WAIT_MAX);
            return Ok(batch);
        }
        Err(error) => error,
    };
    let closed = PullError::Unavailable(Unavailable::Closed);
    if error == PullError::Gone || error == closed {
        return Err(ServeError::Pull(error));
    }
    let wait = backoff.wait();
    tracing::warn!(%error, ?wait, "taking events in is delayed");
    tokio::time::sleep(wait).await;
    Ok(Vec::new())
}

/// Waits for running handlers, and cancels what does not end within the grace period. Answers how
/// many these were.
async fn drain(shared: &Shared, workers: &mut JoinSet<()>) -> usize {
    let all = async {
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                shared.fail(worker_error(error));
            }
        }
    };
    let grace = shared.settings.grace;
    if tokio::time::timeout(grace, all).await.is_ok() {
        return 0;
    }
    let (_, running) = shared.lengths();
    tracing::warn!(
        running,
        ?grace,
        "handlers or their settlements did not end in time and are cancelled"
    );
    workers.shutdown().await;
    running
}

/// Wakes events whose wait before another try is over.
async fn delays(shared: Arc<Shared>) {
    loop {
        let next = shared.wake_delayed();
        let sleep = async {
            match next {
                // A timer that fires within the millisecond before its time would spin.
                Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = shared.delay_added.notified() => {}
        }
    }
}

fn worker_error(error: JoinError) -> ServeError {
    let text = match error.try_into_panic() {
        Ok(panic) => panic_text(&*panic),
        Err(error) => error.to_string(),
    };
    ServeError::Worker(text)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    crate::app::panicked(panic).to_string()
}
