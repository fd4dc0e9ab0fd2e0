//! A queue while the broker is open: who waits for it, and who has what of it until when.
//!
//! Nothing is awaited while something is locked here. A queue holds no broker: both end when
//! nobody uses the broker any longer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidemill_core::slots::MemberId;
use tidemill_core::{GroupName, Offset, Order, Ticket, TopicId, TopicName};
use tokio::sync::Notify;
use uuid::Uuid;

use super::QueueError;
use super::expiry::Aside;
use super::leases::{Lease, LeaseId, Leases};
use super::memory::MemoryStore;
use super::settings::QueueSettings;
use crate::broker::Inner;
use crate::group::Group;
use crate::limits::TRANSIENT_QUEUES_MAX;
use crate::machine::{GroupKind, Topic};
use crate::subscribe::group_of;

/// Where the messages are.
pub(super) enum Store {
    /// In a topic, read by a group whose one member is this.
    Disk {
        topic: Topic,
        group: Arc<Group>,
        member: MemberId,
    },
    /// In memory alone.
    Memory(Mutex<MemoryStore>),
}

/// A message that was given out, as its store knows it.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Disk(Ticket),
    Memory(Offset),
}

/// The leases, and whether somebody watches over them.
#[derive(Default)]
struct Watched {
    leases: Leases<Held>,
    watched: bool,
}

/// A queue that is in use.
pub(crate) struct Live {
    pub(super) name: TopicName,
    /// The group that its dead letters name.
    pub(super) group: GroupName,
    pub(super) settings: QueueSettings,
    pub(super) store: Store,
    /// Rung for one of those who wait when there may be something for them.
    pub(super) notify: Arc<Notify>,
    /// How many of its dead letters could not be kept so far.
    pub(super) unburied: AtomicUsize,
    /// Whether its messages may expire: then its timer runs.
    pub(super) expiring: AtomicBool,
    /// Rung for that timer when the head may be another message.
    pub(super) head: Arc<Notify>,
    /// How many messages have expired.
    pub(super) expired: AtomicU64,
    /// Those of them that are not put away yet.
    pub(super) aside: Mutex<Aside>,
    watched: Mutex<Watched>,
    /// Rung when a lease is given that may end before all others.
    sooner: Arc<Notify>,
}

impl Live {
    /// A queue in memory.
    pub(super) fn in_memory(name: TopicName, group: GroupName, settings: QueueSettings) -> Self {
        let store = Store::Memory(Mutex::default());
        Self::new(name, group, settings, store, Arc::default())
    }

    fn new(
        name: TopicName,
        group: GroupName,
        settings: QueueSettings,
        store: Store,
        notify: Arc<Notify>,
    ) -> Self {
        Self {
            name,
            group,
            settings,
            store,
            notify,
            unburied: AtomicUsize::new(0),
            expiring: AtomicBool::new(false),
            head: Arc::default(),
            expired: AtomicU64::new(0),
            aside: Mutex::default(),
            watched: Mutex::default(),
            sooner: Arc::default(),
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages somebody has.
    pub(super) fn in_flight(&self) -> usize {
        self.watched().leases.len()
    }

    /// Whether it is this topic.
    fn is(&self, id: TopicId) -> bool {
        matches!(&self.store, Store::Disk { topic, .. } if topic.id == id)
    }

    /// Wakes everybody who waits.
    pub(super) fn wake_all(&self) {
        self.notify.notify_waiters();
        // And who is about to wait.
        self.notify.notify_one();
    }

    /// Leases messages for so long; answers the leases in the messages' order.
    pub(super) fn lease(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        given: impl Iterator<Item = (Held, u32)>,
        lease_for: Duration,
    ) -> Vec<LeaseId> {
        let ends = inner.now().saturating_add(lease_for);
        let mut watched = self.watched();
        let ids = given.map(|(held, deliveries)| {
            let id = inner.queues.next_lease();
            let lease = Lease {
                ends,
                deliveries,
                held,
            };
            watched.leases.insert(id, lease);
            id
        });
        let ids = ids.collect();
        self.watch(inner, watched);
        ids
    }

    /// Sees to it that the leases that were put in are watched over.
    fn watch(self: &Arc<Self>, inner: &Arc<Inner>, mut watched: MutexGuard<'_, Watched>) {
        let begins = !std::mem::replace(&mut watched.watched, true);
        drop(watched);
        if begins {
            let (inner, live) = (Arc::downgrade(inner), Arc::downgrade(self));
            tokio::spawn(watch_over(inner, live));
        } else {
            self.sooner.notify_one();
        }
    }

    /// Takes these leases out, or none of them.
    pub(super) fn unlease(
        &self,
        inner: &Inner,
        ids: &[LeaseId],
    ) -> Result<Vec<(LeaseId, Lease<Held>)>, QueueError> {
        let taken = self.watched().leases.take(ids, inner.now());
        taken.map_err(QueueError::Stale)
    }

    /// Puts a lease back that was taken out.
    pub(super) fn keep(self: &Arc<Self>, inner: &Arc<Inner>, id: LeaseId, lease: Lease<Held>) {
        let mut watched = self.watched();
        watched.leases.insert(id, lease);
        self.watch(inner, watched);
    }

    /// Takes out the leases that are over.
    pub(super) fn over(&self, inner: &Inner) -> Vec<Lease<Held>> {
        self.watched().leases.over(inner.now())
    }

    /// When the next lease ends; `None` where there is none: then nobody watches any longer.
    fn next_end(&self) -> Option<Duration> {
        let mut watched = self.watched();
        let next = watched.leases.next_end();
        watched.watched = next.is_some();
        next
    }
}

/// Gives back what is leased to those who did not settle it in time, as long as there are leases.
async fn watch_over(inner: Weak<Inner>, live: Weak<Live>) {
    loop {
        let (wait, sooner) = {
            let (Some(inner), Some(live)) = (inner.upgrade(), live.upgrade()) else {
                return;
            };
            live.end_leases(&inner);
            let Some(next) = live.next_end() else {
                return;
            };
            (next.saturating_sub(inner.now()), Arc::clone(&live.sooner))
        };
        // Either way there is something to look at.
        let _ = tokio::time::timeout(wait, sooner.notified()).await;
    }
}

/// The queues that are in use, and all that are in memory alone.
pub(crate) struct Queues {
    live: Mutex<HashMap<TopicName, Arc<Live>>>,
    /// How many of them are in memory alone.
    transient: AtomicUsize,
    /// Never the same again: leases of another opening are none of this one's.
    opening: u64,
    leases: AtomicU64,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            transient: AtomicUsize::new(0),
            opening: Uuid::now_v7().as_u64_pair().1,
            leases: AtomicU64::new(1),
        }
    }
}

impl Queues {
    fn live(&self) -> MutexGuard<'_, HashMap<TopicName, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_lease(&self) -> LeaseId {
        LeaseId {
            opening: self.opening,
            number: self.leases.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether a queue of this name is kept in memory alone.
    pub(crate) fn in_memory(&self, name: &TopicName) -> bool {
        self.transient.load(Ordering::Acquire) > 0
            && self
                .live()
                .get(name)
                .is_some_and(|live| live.is_transient())
    }

    /// The names of those that are in memory alone.
    pub(super) fn transient_names(&self) -> Vec<TopicName> {
        let live = self.live();
        let transient = live.values().filter(|live| live.is_transient());
        transient.map(|live| live.name.clone()).collect()
    }

    /// Takes one in memory in.
    pub(super) fn insert(&self, queue: Live) -> Result<Arc<Live>, QueueError> {
        let mut live = self.live();
        if live
            .get(&queue.name)
            .is_some_and(|have| have.is_transient())
        {
            return Err(QueueError::Exists(queue.name));
        }
        if self.transient.load(Ordering::Acquire) >= TRANSIENT_QUEUES_MAX {
            let why = format!(
                "there are {TRANSIENT_QUEUES_MAX} queues in memory already; delete one first"
            );
            return Err(QueueError::Limit(why));
        }
        let queue = Arc::new(queue);
        live.insert(queue.name.clone(), Arc::clone(&queue));
        self.transient.fetch_add(1, Ordering::AcqRel);
        Ok(queue)
    }

    /// Forgets one, and tells those who wait for it.
    pub(super) fn remove(&self, name: &TopicName) -> Option<Arc<Live>> {
        let removed = self.live().remove(name)?;
        if removed.is_transient() {
            self.transient.fetch_sub(1, Ordering::AcqRel);
        }
        removed.wake_all();
        Some(removed)
    }

    /// Whether this is the queue of its name still.
    pub(super) fn has(&self, queue: &Arc<Live>) -> bool {
        let live = self.live();
        live.get(&queue.name)
            .is_some_and(|have| Arc::ptr_eq(have, queue))
    }

    /// How many messages of a queue somebody has.
    pub(super) fn in_flight(&self, name: &TopicName) -> usize {
        let live = self.live().get(name).cloned();
        live.map_or(0, |live| live.in_flight())
    }

    /// How many messages of a queue have expired.
    pub(super) fn expired(&self, name: &TopicName) -> u64 {
        let live = self.live().get(name).cloned();
        live.map_or(0, |live| live.expired.load(Ordering::Acquire))
    }

    /// Wakes everybody who waits for a queue.
    pub(crate) fn wake_all(&self) {
        self.live().values().for_each(|live| live.wake_all());
    }
}

impl Inner {
    /// The queue of a name, in use from now on.
    pub(super) fn queue(self: &Arc<Self>, name: &TopicName) -> Result<Arc<Live>, QueueError> {
        let catalog = self.durable.catalog();
        let topic = catalog.topic(name);
        let mut all = self.queues.live();
        if let Some(live) = all.get(name) {
            let same = topic.is_some_and(|topic| live.is(topic.id));
            if live.is_transient() || same {
                return Ok(Arc::clone(live));
            }
        }
        let Some(topic) = topic else {
            return Err(QueueError::Unknown(name.clone()));
        };
        if !catalog.is_queue(topic.id) {
            return Err(QueueError::IsTopic(name.clone()));
        }
        let live = self.open_queue(name, topic)?;
        if let Some(old) = all.insert(name.clone(), Arc::clone(&live)) {
            old.wake_all();
        }
        Ok(live)
    }

    fn open_queue(
        self: &Arc<Self>,
        name: &TopicName,
        topic: Topic,
    ) -> Result<Arc<Live>, QueueError> {
        let state = self.durable.state();
        let queue = state.queues.get(&topic.id).copied();
        let kept = queue.and_then(|queue| state.group(queue.group)).cloned();
        drop(state);
        let (Some(queue), Some(kept)) = (queue, kept) else {
            return Err(QueueError::Unknown(name.clone()));
        };
        let order = Order::None;
        let group = group_of(
            self,
            kept.name.clone(),
            queue.group,
            order,
            GroupKind::Queue,
        );
        let cursor = |id| kept.cursors.get(&id).cloned().unwrap_or_default();
        let cursors = topic.partition_ids().map(cursor).collect();
        let joined = group.join(self, order, vec![(name.clone(), topic, cursors)]);
        let (member, notify) = joined.map_err(|refused| {
            QueueError::Other(format!("its group takes nobody in: {refused:?}"))
        })?;
        let store = Store::Disk {
            topic,
            group,
            member,
        };
        let live = Live::new(name.clone(), kept.name, queue.settings, store, notify);
        let live = Arc::new(live);
        // Whether what is there from before expires shows when it is at the head.
        if queue.settings.ttl.is_some() || live.length(self) > 0 {
            live.expires(self);
        }
        Ok(live)
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::{Event, EventId, EventType, Source};

    use super::*;
    use crate::broker::Broker;
    use crate::queue::{CreateQueue, Dequeue};

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_put_back_after_the_watch_ended_ends_in_its_time() {
        const HOUR: Duration = Duration::from_secs(3600);
        let broker = Broker::in_memory();
        let name = TopicName::new("jobs").unwrap();
        let how = CreateQueue {
            transient: true,
            ..CreateQueue::default()
        };
        broker.create_queue(name.clone(), how).await.unwrap();
        let queue = broker.queue(&name).unwrap();
        let (id, ty) = (EventId::new("1").unwrap(), EventType::new("made").unwrap());
        let event = Event::builder(id, Source::new("/test").unwrap(), ty);
        queue.enqueue(vec![event.build().unwrap()]).await.unwrap();
        let taken = queue.dequeue(Dequeue::default()).await.unwrap();

        let (inner, live) = queue.parts();
        let kept = live.unlease(inner, &[taken[0].lease.unwrap()]).unwrap();
        live.sooner.notify_one();
        while live.watched().watched {
            tokio::task::yield_now().await;
        }
        for (id, lease) in kept {
            live.keep(inner, id, lease);
        }
        let begun = tokio::time::Instant::now();
        let how = Dequeue {
            wait: HOUR,
            ..Dequeue::default()
        };
        assert_eq!(queue.dequeue(how).await.unwrap().len(), 1);
        assert!(begun.elapsed() < HOUR, "its end was not watched for");
    }
}
