//! A classic group with those who wait: the shell around its coordinator. It keeps the time, hands
//! answers out, and says to others of what kind the group's members are.
//!
//! Invariant: nothing waits while a group is locked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::kinds::KindHold;
use super::member::Token;
use super::state::{Answer, Coordinator};
use super::types::{ClassicBounds, ClassicError, ClassicJoined, ClassicSynced};
use crate::broker::Inner;

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Waiter {
    Join(oneshot::Sender<Result<ClassicJoined, ClassicError>>),
    Sync(oneshot::Sender<Result<ClassicSynced, ClassicError>>),
}

#[derive(Debug)]
pub(super) struct Locked {
    pub(super) coordinator: Coordinator,
    waiting: HashMap<Token, Waiter>,
    tokens: u64,
    /// Held while there are members, or ids that may become some.
    hold: Option<KindHold>,
    /// When it last had a member, or a position was set; since the broker was opened.
    pub(super) used: Duration,
    /// A task keeps the time.
    timed: bool,
    /// Bytes that are counted for it.
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    locked: Mutex<Locked>,
    /// The time of the next deadline may be another one.
    changed: Notify,
    /// Bytes of all groups' members.
    total: Arc<AtomicUsize>,
}

impl Live {
    pub(super) fn new(bounds: ClassicBounds, total: Arc<AtomicUsize>) -> Self {
        Self {
            locked: Mutex::new(Locked {
                coordinator: Coordinator::new(bounds),
                waiting: HashMap::new(),
                tokens: 0,
                hold: None,
                used: Duration::ZERO,
                timed: false,
                bytes: 0,
            }),
            changed: Notify::new(),
            total,
        }
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the group, and hands out the answers that come of it. `hold` is kept
    /// for as long as the group has members.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        hold: Option<KindHold>,
        change: impl FnOnce(&mut Locked, Duration) -> T,
    ) -> T {
        let mut locked = self.locked();
        let now = inner.now();
        let changed = change(&mut locked, now);
        locked.used = now;
        locked.hold = locked.hold.take().or(hold);
        let watches = locked.follow_up(&self.total);
        drop(locked);
        self.changed.notify_one();
        if watches {
            let (live, inner) = (Arc::clone(self), Arc::downgrade(inner));
            tokio::spawn(async move { live.keep_time(inner).await });
        }
        changed
    }

    /// Has deadlines kept until there are none.
    async fn keep_time(self: Arc<Self>, inner: Weak<Inner>) {
        loop {
            let due = {
                let mut locked = self.locked();
                let due = locked.coordinator.deadline();
                locked.timed = due.is_some();
                due
            };
            let (Some(due), Some(strong)) = (due, inner.upgrade()) else {
                return;
            };
            let wait = due.saturating_sub(strong.now());
            drop(strong);
            if tokio::time::timeout(wait, self.changed.notified())
                .await
                .is_ok()
            {
                continue;
            }
            let Some(inner) = inner.upgrade() else {
                return;
            };
            let mut locked = self.locked();
            let now = inner.now();
            locked.coordinator.tick(now);
            locked.used = now;
            locked.follow_up(&self.total);
        }
    }

    /// Nobody is served any longer.
    pub(super) fn end(&self, why: &ClassicError) {
        let mut locked = self.locked();
        locked.coordinator.end(why);
        locked.follow_up(&self.total);
        drop(locked);
        self.changed.notify_one();
    }
}

impl Locked {
    /// A number for somebody who waits.
    pub(super) fn wait(&mut self, waiter: Waiter) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.waiting.insert(token, waiter);
        token
    }

    /// Hands answers out, and counts. Answers whether a task is to keep the time from now on.
    fn follow_up(&mut self, total: &AtomicUsize) -> bool {
        for answer in self.coordinator.take_answers() {
            // Who waited may be gone.
            match answer {
                Answer::Joined(token, answer) => {
                    if let Some(Waiter::Join(waiter)) = self.waiting.remove(&token) {
                        let _ = waiter.send(answer);
                    }
                }
                Answer::Synced(token, answer) => {
                    if let Some(Waiter::Sync(waiter)) = self.waiting.remove(&token) {
                        let _ = waiter.send(answer);
                    }
                }
            }
        }
        if self.coordinator.is_idle() {
            self.hold = None;
        }
        let bytes = self.coordinator.bytes();
        total.fetch_add(bytes, Ordering::Relaxed);
        total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        let begins = !self.timed && self.coordinator.deadline().is_some();
        self.timed |= begins;
        begins
    }
}
