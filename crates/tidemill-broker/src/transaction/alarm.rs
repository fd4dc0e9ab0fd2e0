//! Ends transactions whose time is over: a thread that the first transaction starts and that
//! sleeps while none is open. What is over is decided by the machine; this only asks.

use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tidemill_core::error::Unavailable;
use tidemill_log::CommitError;

use super::ask::{Ask, Done};
use crate::broker::Inner;
use crate::limits::OVERDUE_LOOK_EVERY;
use crate::machine::{Operation, Receipt, Refusal};

#[derive(Debug, Default)]
struct State {
    /// A transaction began since the last look.
    rung: bool,
    closed: bool,
    running: bool,
    /// Whom the thread asks; nobody while the broker is being opened.
    inner: Weak<Inner>,
}

/// Wakes the thread.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

impl Alarm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this broker's transactions are watched, also those that are open already.
    pub(crate) fn watch_over(inner: &Arc<Inner>) {
        let alarm = &inner.durable.alarm;
        alarm.state().inner = Arc::downgrade(inner);
        let open = inner.durable.state().transactions.open();
        if open > 0 {
            alarm.ring();
        }
    }

    /// A transaction is open. The first one starts the thread.
    pub(crate) fn ring(self: &Arc<Self>) {
        let mut state = self.state();
        state.rung = true;
        let starts = !state.running && !state.closed && state.inner.strong_count() > 0;
        state.running |= starts;
        let inner = state.inner.clone();
        drop(state);
        self.changed.notify_all();
        if !starts {
            return;
        }
        let alarm = Arc::clone(self);
        let thread = thread::Builder::new().name("tidemill-timeouts".into());
        if let Err(error) = thread.spawn(move || alarm.run(&inner)) {
            tracing::error!(%error, "transactions are not aborted when their time is over");
            self.state().running = false;
        }
    }

    /// The broker is closed.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn run(&self, inner: &Weak<Inner>) {
        while self.wait_for_one() {
            while let Some(next) = look(inner) {
                if !self.wait(next) {
                    return;
                }
            }
        }
    }

    /// Waits until a transaction is open; false when the broker is closed.
    fn wait_for_one(&self) -> bool {
        let state = self.state();
        let asleep = |state: &mut State| !state.rung && !state.closed;
        let waited = self.changed.wait_while(state, asleep);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.rung = false;
        !state.closed
    }

    /// Waits for a time; false when the broker is closed.
    fn wait(&self, time: Duration) -> bool {
        let state = self.state();
        let asleep = |state: &mut State| !state.closed;
        let waited = self.changed.wait_timeout_while(state, time, asleep);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }
}

/// Aborts what is overdue. Answers how long to wait for the next look; `None` where no
/// transaction is open, or the broker takes no writes any longer.
fn look(inner: &Weak<Inner>) -> Option<Duration> {
    let inner = inner.upgrade()?;
    let overdue = match ask(&inner, Ask::Overdue) {
        Ok(Receipt::Transaction(Done::Overdue(ids, next))) if ids.is_empty() => {
            return next.map(|next| next.min(OVERDUE_LOOK_EVERY));
        }
        Ok(Receipt::Transaction(Done::Overdue(ids, _))) => ids,
        Ok(_) => return None,
        Err(error) => return try_again(&error).then_some(OVERDUE_LOOK_EVERY),
    };
    for id in overdue {
        let abort = Ask::Abort {
            id: id.clone(),
            overdue: true,
        };
        match ask(&inner, abort) {
            Ok(_) => tracing::warn!(transactional_id = %id, "aborted a transaction, out of time"),
            // It ended by itself, or its partitions grew meanwhile: the next look tells.
            Err(CommitError::Refused(_)) => {}
            Err(error) if !try_again(&error) => return None,
            Err(_) => {}
        }
    }
    Some(Duration::from_millis(50))
}

fn try_again(error: &CommitError<Refusal>) -> bool {
    matches!(
        error,
        CommitError::Unavailable(Unavailable::Full(_) | Unavailable::Overloaded)
            | CommitError::Refused(_)
    )
}

fn ask(inner: &Inner, ask: Ask) -> Result<Receipt, CommitError<Refusal>> {
    let (sender, answer) = mpsc::channel();
    let operation = Operation::Transaction(Box::new(inner.transaction_operation(ask)));
    inner.handle.submit(operation, move |answer| {
        // Nobody else is there to tell.
        let _ = sender.send(answer);
    });
    let closed = |_| Err(CommitError::Unavailable(Unavailable::Closed));
    answer.recv().unwrap_or_else(closed)
}
