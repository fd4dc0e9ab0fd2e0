//! Who is told when memory of a class is given back: wakers of whatever runtime there is.
//!
//! Invariant: who listens first and looks for room then misses nothing. Giving back is followed by
//! a fence and a look at the number of listeners, and beginning to listen by a fence and the look
//! for room: one of the two sees the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Budget, Class};

/// Those who listen for one class.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// How many there are, so that the usual case of none costs nothing.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Raised whenever something is given back while somebody listens.
    epoch: u64,
    numbers: u64,
    /// Those who wait, in the order in which they began to listen.
    wakers: BTreeMap<u64, Waker>,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was given back.
    pub(super) fn tell(&self) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let woken = {
            let mut waiting = self.lock();
            waiting.epoch += 1;
            std::mem::take(&mut waiting.wakers)
        };
        woken.into_values().for_each(Waker::wake);
    }
}

/// Resolves when something of a class was given back since this was made. That it is enough for
/// anybody is not said: others listen, too.
#[derive(Debug)]
#[must_use = "nothing is waited for until it is polled"]
pub struct Freed {
    budget: Budget,
    class: Class,
    number: u64,
    since: u64,
}

impl Budget {
    /// Listens from now on for what a class gives back: whoever looks for room after this call,
    /// finds none and waits for the future misses nothing that is given back by then.
    pub fn freed(&self, class: Class) -> Freed {
        let listeners = &self.account(class).listeners;
        listeners.count.fetch_add(1, Ordering::Relaxed);
        let mut waiting = listeners.lock();
        waiting.numbers += 1;
        let (number, since) = (waiting.numbers, waiting.epoch);
        drop(waiting);
        fence(Ordering::SeqCst);
        Freed {
            budget: self.clone(),
            class,
            number,
            since,
        }
    }
}

impl Future for Freed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.budget.account(self.class).listeners.lock();
        if waiting.epoch != self.since {
            return Poll::Ready(());
        }
        waiting.wakers.insert(self.number, task.waker().clone());
        Poll::Pending
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        let listeners = &self.budget.account(self.class).listeners;
        listeners.lock().wakers.remove(&self.number);
        listeners.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;
    use std::thread::{self, Thread};

    use super::*;
    use crate::limits::MEMORY_MIN_BYTES;

    struct Unpark(Thread, AtomicBool);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Release);
            self.0.unpark();
        }
    }

    fn waker() -> Arc<Unpark> {
        Arc::new(Unpark(thread::current(), AtomicBool::new(false)))
    }

    fn is_ready(freed: &mut Freed, waker: &Arc<Unpark>) -> bool {
        let waker = Waker::from(Arc::clone(waker));
        let mut task = Context::from_waker(&waker);
        Pin::new(freed).poll(&mut task).is_ready()
    }

    #[test]
    fn who_listens_is_told_of_what_its_class_gives_back_and_of_nothing_else() {
        let budget = Budget::new(MEMORY_MIN_BYTES);
        let share = budget.take(Class::Writes, 100).unwrap();
        let other = budget.take(Class::Reads, 100).unwrap();
        let mut freed = budget.freed(Class::Writes);
        let waker = waker();
        assert!(!is_ready(&mut freed, &waker));
        drop(other);
        assert!(!waker.1.load(Ordering::Acquire));
        assert!(!is_ready(&mut freed, &waker));
        drop(share);
        assert!(waker.1.load(Ordering::Acquire));
        assert!(is_ready(&mut freed, &waker));
        // What was given back before is nothing to who begins now, and who is gone leaves nothing.
        freed = budget.freed(Class::Writes);
        assert!(!is_ready(&mut freed, &waker));
        drop(freed);
        let listeners = &budget.account(Class::Writes).listeners;
        assert_eq!(listeners.count.load(Ordering::Relaxed), 0);
        assert!(listeners.lock().wakers.is_empty());
    }

    /// Without a bound on any wait: a lost one would hang.
    #[test]
    fn nothing_that_is_given_back_is_missed() {
        let budget = Budget::new(MEMORY_MIN_BYTES);
        let all = budget.max(Class::Writes);
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let waker = waker();
                    for _ in 0..5_000 {
                        let share = loop {
                            let mut freed = budget.freed(Class::Writes);
                            if let Some(share) = budget.take(Class::Writes, all) {
                                break share;
                            }
                            while !is_ready(&mut freed, &waker) {
                                thread::park();
                            }
                        };
                        drop(share);
                    }
                });
            }
        });
        assert_eq!(budget.total(), 0);
    }
}
