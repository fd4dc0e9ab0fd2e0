//! A consumer group and its time: the shell around its coordinator. It says to others of what
//! kind the group's members are.
//!
//! Invariant: nothing waits while a group is locked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::GroupName;
use tokio::sync::Notify;

use super::patterns::Pattern;
use super::state::Coordinator;
use super::types::ConsumerBounds;
use crate::broker::Inner;
use crate::catalog::Catalog;
use crate::classic::KindHold;

#[derive(Debug)]
pub(super) struct Locked {
    pub(super) coordinator: Coordinator,
    /// Held while there are members.
    hold: Option<KindHold>,
    /// When it last had a member, or a position was set; since the broker was opened.
    used: Duration,
    /// A task keeps the time.
    timed: bool,
    /// Bytes that are counted for it.
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    name: GroupName,
    locked: Mutex<Locked>,
    /// The time of the next deadline may be another one.
    changed: Notify,
    /// Bytes of all groups' members.
    total: Arc<AtomicUsize>,
}

impl Live {
    pub(super) fn new(name: GroupName, bounds: ConsumerBounds, total: Arc<AtomicUsize>) -> Self {
        Self {
            name,
            locked: Mutex::new(Locked {
                coordinator: Coordinator::new(bounds),
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

    /// When it was last used, since the broker was opened.
    pub(crate) fn used(&self) -> Duration {
        self.locked().used
    }

    /// An expression that a member has.
    pub(super) fn pattern(&self, text: &ByteString) -> Option<Arc<Pattern>> {
        let locked = self.locked();
        locked.coordinator.reads.patterns.get(text).cloned()
    }

    /// Whether its expressions were not compared with the names of these topics yet.
    pub(super) fn has_late_patterns(&self, catalog: &Arc<Catalog>) -> bool {
        let locked = self.locked();
        !locked.coordinator.reads.patterns.late(catalog).is_empty()
    }

    /// Compares them, which may take long; the group is locked before and after that alone.
    pub(super) fn renew_patterns(&self, catalog: &Arc<Catalog>) {
        let late = self.locked().coordinator.reads.patterns.late(catalog);
        let newer = late.iter().map(|pattern| Arc::new(pattern.at(catalog)));
        let newer = newer.collect();
        self.locked().coordinator.reads.patterns.renew(newer);
    }

    /// Does something with the group. `hold` is kept for as long as it has members.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        hold: Option<KindHold>,
        change: impl FnOnce(&mut Coordinator, Duration) -> T,
    ) -> T {
        let mut locked = self.locked();
        let now = inner.now();
        let changed = change(&mut locked.coordinator, now);
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
            let changed = tokio::time::timeout(wait, self.changed.notified()).await;
            if changed.is_ok() {
                continue;
            }
            let Some(inner) = inner.upgrade() else {
                return;
            };
            let mut locked = self.locked();
            let now = inner.now();
            for gone in locked.coordinator.tick(now) {
                tracing::info!(
                    group = %self.name, member = %gone,
                    "a member was silent, or kept what it had to give back, for too long"
                );
            }
            locked.used = now;
            locked.follow_up(&self.total);
        }
    }

    /// Nobody is served any longer.
    pub(crate) fn end(&self) {
        let mut locked = self.locked();
        locked.coordinator.end();
        locked.follow_up(&self.total);
        drop(locked);
        self.changed.notify_one();
    }
}

impl Locked {
    /// Counts. Answers whether a task is to keep the time from now on.
    fn follow_up(&mut self, total: &AtomicUsize) -> bool {
        if self.coordinator.member_count() == 0 {
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
