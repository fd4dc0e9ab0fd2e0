//! Who is told when a partition has new durable events: groups, long polls, watchers. The log
//! calls in from its own thread, so nothing here is held for longer than a look-up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};

use tidemill_core::bus::{Advanced, BoxFuture, Watch};
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, Offset, TopicId};
use tidemill_log::PartitionId;
use tidemill_log::driver::Observer;
use tokio::sync::Notify;

use crate::machine::Durable;

/// The members of a group, as the log's thread wakes them.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    members: RwLock<Vec<Arc<Notify>>>,
}

impl Bell {
    /// Replaces who is woken.
    pub(crate) fn set(&self, members: Vec<Arc<Notify>>) {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// Wakes this one, too, from now on.
    pub(crate) fn add(&self, member: &Arc<Notify>) {
        let members = self.members.write();
        let mut members = members.unwrap_or_else(PoisonError::into_inner);
        members.push(Arc::clone(member));
    }

    /// Wakes this one no longer.
    pub(crate) fn remove(&self, member: &Arc<Notify>) {
        let members = self.members.write();
        let mut members = members.unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = members.iter().position(|have| Arc::ptr_eq(have, member)) {
            members.swap_remove(at);
        }
    }

    /// Wakes every member, or the next time that it waits.
    pub(crate) fn ring(&self) {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().for_each(|member| member.notify_one());
    }
}

#[derive(Debug, Default)]
struct Listeners {
    /// Long polls of this partition; woken all together.
    polls: Arc<Notify>,
    groups: Vec<Arc<Bell>>,
}

/// What one [`Watch`] has not told of yet.
#[derive(Debug, Default)]
struct Unread {
    /// One entry a partition at most.
    ends: Mutex<HashMap<PartitionId, Offset>>,
    notify: Notify,
}

/// Everybody who waits for partitions to advance.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// Only partitions that somebody listens to.
    partitions: RwLock<HashMap<PartitionId, Listeners>>,
    watches: Mutex<Vec<Weak<Unread>>>,
    /// How many watches there may be, so that the usual case of none costs nothing.
    watch_count: AtomicUsize,
    /// Woken when the broker closes or its log fails.
    all: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listening {
    /// What is notified when this partition advances.
    pub(crate) fn poll(self: &Arc<Self>, id: PartitionId) -> Poll {
        let mut partitions = self.partitions_mut();
        let notify = Arc::clone(&partitions.entry(id).or_default().polls);
        let listening = Arc::clone(self);
        Poll {
            listening,
            id,
            notify,
        }
    }

    fn partitions_mut(&self) -> RwLockWriteGuard<'_, HashMap<PartitionId, Listeners>> {
        self.partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings `bell` when one of these partitions advances.
    pub(crate) fn listen(&self, ids: impl Iterator<Item = PartitionId>, bell: &Arc<Bell>) {
        let mut partitions = self.partitions_mut();
        for id in ids {
            let groups = &mut partitions.entry(id).or_default().groups;
            if !groups.iter().any(|have| Arc::ptr_eq(have, bell)) {
                groups.push(Arc::clone(bell));
            }
        }
    }

    /// These partitions are gone, or nobody of `bell` reads them any longer.
    pub(crate) fn forget(&self, keep: impl Fn(PartitionId, &Arc<Bell>) -> bool) {
        let mut partitions = self.partitions_mut();
        partitions.retain(|id, listeners| {
            listeners.groups.retain(|bell| keep(*id, bell));
            // A poll that waits holds the notification, too.
            !listeners.groups.is_empty() || Arc::strong_count(&listeners.polls) > 1
        });
    }

    /// Wakes who waits for events of a topic that is gone.
    pub(crate) fn wake_topic(&self, topic: TopicId) {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let of_topic = partitions.iter().filter(|(id, _)| id.topic == topic);
        of_topic.for_each(|(_, listeners)| listeners.polls.notify_waiters());
    }

    /// Wakes everybody: what they wait for will not come.
    pub(crate) fn wake_all(&self) {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for listeners in partitions.values() {
            listeners.polls.notify_waiters();
            listeners.groups.iter().for_each(|bell| bell.ring());
        }
        for watch in lock(&self.watches).iter().filter_map(Weak::upgrade) {
            watch.notify.notify_one();
        }
        self.all.notify_waiters();
    }

    /// Begins to watch every partition.
    pub(crate) fn watch(self: &Arc<Self>, durable: Arc<Durable>, closed: Closed) -> BrokerWatch {
        let unread = Arc::new(Unread::default());
        let mut watches = lock(&self.watches);
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&unread));
        self.watch_count.store(watches.len(), Ordering::Release);
        BrokerWatch {
            told: HashMap::new(),
            unread,
            durable,
            closed,
        }
    }
}

impl Observer for Listening {
    fn advanced(&self, id: PartitionId, end: Offset) {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(listeners) = partitions.get(&id) {
            listeners.polls.notify_waiters();
            listeners.groups.iter().for_each(|bell| bell.ring());
        }
        drop(partitions);
        if self.watch_count.load(Ordering::Acquire) == 0 {
            return;
        }
        for watch in lock(&self.watches).iter().filter_map(Weak::upgrade) {
            lock(&watch.ends).insert(id, end);
            watch.notify.notify_one();
        }
    }

    fn failed(&self, why: &Unavailable) {
        tracing::error!(%why, "the log takes no more writes");
        self.wake_all();
    }
}

/// A long poll of one partition.
pub(crate) struct Poll {
    listening: Arc<Listening>,
    id: PartitionId,
    /// Woken, together with everybody else's, when the partition advances.
    pub(crate) notify: Arc<Notify>,
}

impl Drop for Poll {
    fn drop(&mut self) {
        let mut partitions = self.listening.partitions_mut();
        // The map's and this one's: no other poll waits.
        let last = Arc::strong_count(&self.notify) == 2;
        let unused = |listeners: &Listeners| last && listeners.groups.is_empty();
        if partitions.get(&self.id).is_some_and(unused) {
            partitions.remove(&self.id);
        }
    }
}

/// Says whether the broker was closed.
pub(crate) type Closed = Arc<std::sync::atomic::AtomicBool>;

/// The broker's [`Watch`].
#[derive(Debug)]
pub(crate) struct BrokerWatch {
    /// How far partitions with open transactions were told of: what comes behind those is news
    /// only when they have ended.
    told: HashMap<PartitionId, Offset>,
    unread: Arc<Unread>,
    durable: Arc<Durable>,
    closed: Closed,
}

impl BrokerWatch {
    /// How far a partition that ends at `end` may be read, where that was not told yet.
    fn news(&mut self, id: PartitionId, end: Offset) -> Option<Offset> {
        let stable = self.durable.stability.end(id, end);
        if stable == end {
            self.told.remove(&id);
            return Some(end);
        }
        let told = self.told.insert(id, stable);
        (told != Some(stable)).then_some(stable)
    }
}

impl Watch for BrokerWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Advanced>, FetchError>> {
        Box::pin(async move {
            loop {
                let ends = std::mem::take(&mut *lock(&self.unread.ends));
                let catalog = self.durable.catalog();
                let advanced = ends.into_iter().filter_map(|(id, end)| {
                    Some(Advanced {
                        topic: catalog.name(id.topic)?.clone(),
                        id: Some(id.topic),
                        partition: id.partition,
                        end: self.news(id, end)?,
                    })
                });
                let advanced: Vec<_> = advanced.collect();
                if !advanced.is_empty() {
                    return Ok(advanced);
                }
                if self.closed.load(Ordering::Acquire) {
                    return Err(Unavailable::Closed.into());
                }
                self.unread.notify.notified().await;
            }
        })
    }
}
