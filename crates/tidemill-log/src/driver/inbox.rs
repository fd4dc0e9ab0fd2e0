//! What waits for a thread: operations, bounded by the memory that they were let in with, ends
//! of background steps, and whether to close.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backup::Pinned;
use crate::io::{IoFailure, IoId};
use crate::log::PinId;

/// The end of a background step, and the bytes that the disk has left after it.
pub(super) type Finished = (IoId, Result<(), IoFailure>, Option<u64>);

/// What a backup asks of the log.
pub(super) enum Control {
    /// Hold a moment.
    Pin(mpsc::Sender<(PinId, Pinned)>),
    /// The head may move again.
    Loosen(PinId),
    /// Everything may go on.
    Release(PinId),
}

/// What the log's thread has to look at.
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
    /// Rung when something came in while the thread slept.
    bell: Condvar,
}

/// Everything under the one lock; it is held for a push or a swap, never while something runs.
struct State<T> {
    arrivals: Arrivals<T>,
    closed: bool,
    sleeping: bool,
}

/// What came in since the last look.
pub(super) struct Arrivals<T> {
    /// Things to do, in order.
    pub(super) items: VecDeque<T>,
    /// Background steps that have ended.
    pub(super) finished: Vec<Finished>,
    /// What backups ask for; their number bounds it.
    pub(super) controls: Vec<Control>,
    /// Close was called.
    pub(super) closing: bool,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            finished: Vec::new(),
            controls: Vec::new(),
            closing: false,
        }
    }
}

/// Something was not taken: the thread is gone, or going.
pub(super) struct NotTaken<T>(pub(super) T);

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                arrivals: Arrivals::default(),
                closed: false,
                sleeping: false,
            }),
            bell: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that runs under the lock can leave the queues half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.lock();
        change(&mut state);
        if std::mem::take(&mut state.sleeping) {
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Adds something to do.
    pub(super) fn push(&self, item: T) -> Result<(), NotTaken<T>> {
        let mut refused = None;
        self.change(|state| {
            if state.closed || state.arrivals.closing {
                refused = Some(NotTaken(item));
            } else {
                state.arrivals.items.push_back(item);
            }
        });
        refused.map_or(Ok(()), Err)
    }

    /// Whether nothing more is taken.
    pub(super) fn is_closed(&self) -> bool {
        let state = self.lock();
        state.closed || state.arrivals.closing
    }

    pub(super) fn finished(&self, finished: Finished) {
        self.change(|state| state.arrivals.finished.push(finished));
    }

    /// Asks for something that is looked at while the log closes too. It is dropped where the
    /// thread is gone.
    pub(super) fn control(&self, control: Control) {
        self.change(|state| {
            if !state.closed {
                state.arrivals.controls.push(control);
            }
        });
    }

    /// Nothing more is taken.
    pub(super) fn close(&self) {
        self.change(|state| state.arrivals.closing = true);
    }

    /// The thread is gone; answers what it did not see.
    pub(super) fn abandon(&self) -> VecDeque<T> {
        let mut state = self.lock();
        state.closed = true;
        state.arrivals.controls.clear();
        std::mem::take(&mut state.arrivals.items)
    }

    /// Takes what came in, without waiting.
    pub(super) fn take(&self) -> Arrivals<T> {
        Self::swap(&mut self.lock())
    }

    fn swap(state: &mut State<T>) -> Arrivals<T> {
        let closing = state.arrivals.closing;
        let taken = std::mem::take(&mut state.arrivals);
        state.arrivals.closing = closing;
        taken
    }

    /// Takes what came in; waits for it, `at_most` that long.
    pub(super) fn wait(&self, at_most: Option<Duration>, was_closing: bool) -> Arrivals<T> {
        let mut state = self.lock();
        let is_empty = |state: &State<T>| {
            let arrivals = &state.arrivals;
            arrivals.items.is_empty()
                && arrivals.finished.is_empty()
                && arrivals.controls.is_empty()
                && arrivals.closing == was_closing
        };
        while is_empty(&state) {
            state.sleeping = true;
            match at_most {
                None => {
                    state = self
                        .bell
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                Some(at_most) => {
                    let waited = self.bell.wait_timeout(state, at_most);
                    let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = again;
                    if timeout.timed_out() {
                        break;
                    }
                }
            }
        }
        state.sleeping = false;
        Self::swap(&mut state)
    }
}
