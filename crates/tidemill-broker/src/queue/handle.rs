//! The handle on a queue: enqueue, dequeue, acknowledge, give back, peek.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use jiff::Timestamp;
use tidemill_core::error::Unavailable;
use tidemill_core::{Event, Offset, TopicName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::QueueError;
use super::dead::Why;
use super::expiry::{self, expiry, within};
use super::info::Dequeued;
use super::leases::{Lease, LeaseId};
use super::live::{Held, Live, Store};
use super::memory::NoRoom;
use super::store::{Given, Look, locked};
use crate::broker::{Broker, Inner};
use crate::encode::{Sorted, too_large};
use crate::limits::{
    DEQUEUE_MAX_MESSAGES, DISK_WAIT, LEASE_MAX, LEASES_AT_ONCE, PUBLISH_MAX_EVENTS,
};
use crate::machine::{Append, Client, Operation, Receipt};
use crate::metrics::add;

/// How much a dequeue takes, for how long, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dequeue {
    /// Most messages, 1 to [`DEQUEUE_MAX_MESSAGES`]; fewer where they are large: see
    /// [`DEQUEUE_MAX_BYTES`](crate::limits::DEQUEUE_MAX_BYTES).
    pub max: usize,
    /// How long they are the taker's, up to [`LEASE_MAX`]; zero removes them at once, and `None`
    /// is the queue's own.
    pub lease: Option<Duration>,
    /// How long to wait for the first message.
    pub wait: Duration,
}

impl Default for Dequeue {
    fn default() -> Self {
        Self {
            max: 1,
            lease: None,
            wait: Duration::ZERO,
        }
    }
}

/// A queue of a broker, which it keeps open. Clones are the same queue.
///
/// Messages are given out in the order in which they were enqueued, one that came back at its old
/// place. What is dequeued is the taker's until it is acknowledged, given back, or its lease ends;
/// leases end with the process, too. Dropped while it waits, a dequeue has taken nothing.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
    client: Client,
    live: Arc<Live>,
}

/// Wakes somebody else when whoever waited goes.
struct PassOn<'a>(&'a Notify);

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

pub(super) fn no_room(bytes: usize) -> QueueError {
    QueueError::Full(format!(
        "the memory for queues that are kept in memory has no room for {bytes} bytes more; dequeue \
         something first"
    ))
}

impl Broker {
    /// The queue of this name.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], and [`QueueError::IsTopic`] where it is none.
    pub fn queue(&self, name: &TopicName) -> Result<Queue, QueueError> {
        Ok(Queue {
            live: self.inner.queue(name)?,
            inner: Arc::clone(&self.inner),
            client: self.client,
        })
    }
}

impl Queue {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TopicName {
        &self.live.name
    }

    pub(super) fn parts(&self) -> (&Arc<Inner>, &Arc<Live>) {
        (&self.inner, &self.live)
    }

    fn open(&self) -> Result<(), QueueError> {
        match self.inner.closed.load(Ordering::Acquire) {
            true => Err(Unavailable::Closed.into()),
            false => Ok(()),
        }
    }

    /// Adds messages at the end, all of them or none; answers their offsets in their order.
    /// Resolves when that is durable, where the queue is.
    ///
    /// # Errors
    /// [`QueueError::Publish`] where one is too large, or says until when it is good
    /// ([`EXPIRY`](super::EXPIRY)) and names no time, [`QueueError::Full`] where the memory for
    /// queues in memory has no room, and [`QueueError::Unknown`] where it was deleted.
    pub async fn enqueue(&self, events: Vec<Event>) -> Result<Vec<Offset>, QueueError> {
        self.enqueue_for(events, None).await
    }

    /// As [`Queue::enqueue`], of messages that are good for no longer than `ttl`.
    ///
    /// # Errors
    /// As [`Queue::enqueue`], and [`QueueError::Limit`] where none can be good for that.
    pub async fn enqueue_for(
        &self,
        events: Vec<Event>,
        ttl: Option<Duration>,
    ) -> Result<Vec<Offset>, QueueError> {
        self.open()?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let count = events.len();
        if count > PUBLISH_MAX_EVENTS {
            let why =
                format!("{count} messages are more than {PUBLISH_MAX_EVENTS}; send less at once");
            return Err(QueueError::Limit(why));
        }
        let events = self.good_for(events, ttl)?;
        let bytes = events.iter().map(Event::size_bytes).sum();
        let enqueued = match &self.live.store {
            Store::Disk { topic, .. } => {
                let name = self.live.name.clone();
                let (batches, places) =
                    self.inner
                        .encode_for(&name, *topic, &events, |_, builder| builder)?;
                let append = Append {
                    topic: name,
                    client: self.client,
                    route: *topic,
                    create: false,
                    batches,
                };
                let receipt = self.inner.submit(Operation::Enqueue(append)).await?;
                let Receipt::Appended(bases) = receipt else {
                    let why = "the broker answered otherwise";
                    return Err(QueueError::Other(why.into()));
                };
                let bases = bases.first().map(Vec::as_slice).unwrap_or_default();
                self.inner.seen.note(&self.live.name, &events);
                let positions = Sorted::positions(&places, bases);
                positions.map(|position| position.offset).collect()
            }
            Store::Memory(_) => {
                // What is refused at its bound was meant for it all the same.
                self.inner.seen.note(&self.live.name, &events);
                self.enqueue_in_memory(events, bytes)?
            }
        };
        self.live.head_changed();
        add(&self.inner.counters.enqueued, count);
        add(&self.inner.counters.published_bytes, bytes);
        Ok(enqueued)
    }

    /// The messages, each with the time until which it is good, where there is one.
    fn good_for(
        &self,
        events: Vec<Event>,
        ttl: Option<Duration>,
    ) -> Result<Vec<Event>, QueueError> {
        let ttl = ttl.map(expiry::checked).transpose()?;
        let ttl = ttl.into_iter().chain(self.live.settings.ttl).min();
        let now = Timestamp::now();
        let events = events.into_iter().map(|event| within(event, ttl, now));
        let events = events.collect::<Result<Vec<Event>, QueueError>>()?;
        if events.iter().any(|event| expiry(event).is_some()) {
            self.live.expires(&self.inner);
        }
        Ok(events)
    }

    fn enqueue_in_memory(
        &self,
        events: Vec<Event>,
        bytes: usize,
    ) -> Result<Vec<Offset>, QueueError> {
        let Store::Memory(store) = &self.live.store else {
            return Ok(Vec::new());
        };
        if !self.inner.queues.has(&self.live) {
            return Err(QueueError::Unknown(self.live.name.clone()));
        }
        let (event_max, all_max) = self.inner.publish_bounds();
        too_large(bytes, all_max)?;
        for event in &events {
            too_large(event.data().map_or(0, bytes::Bytes::len), event_max)?;
        }
        let count = events.len() as u64;
        let now_ms = Timestamp::now().as_millisecond();
        let pushed = locked(store).push(&self.inner.settings.memory, events, now_ms);
        let first = pushed.map_err(|NoRoom(bytes)| no_room(bytes))?;
        self.live.notify.notify_one();
        Ok((0..count).map(|n| first.plus(n)).collect())
    }

    /// Takes messages, oldest first: those that nobody has. Waits for the first one as long as is
    /// asked for, then answers what there is: perhaps nothing, and what was read so far where they
    /// come from the disk.
    ///
    /// With a lease of zero they are removed at once: a message whose taker dies on the way is
    /// lost.
    ///
    /// # Errors
    /// [`QueueError::Limit`], and [`QueueError::Unknown`] where the queue was deleted meanwhile.
    pub async fn dequeue(&self, how: Dequeue) -> Result<Vec<Dequeued>, QueueError> {
        self.dequeue_until(how, std::future::pending()).await
    }

    /// As [`Queue::dequeue`], but it waits for messages no longer than until `end` resolves. What
    /// it took by then it answers: with a lease of zero, whoever drops it instead loses that.
    ///
    /// # Errors
    /// As [`Queue::dequeue`].
    pub async fn dequeue_until(
        &self,
        how: Dequeue,
        end: impl Future<Output = ()>,
    ) -> Result<Vec<Dequeued>, QueueError> {
        tokio::pin!(end);
        let (inner, live) = self.parts();
        let lease_for = self.checked(&how)?;
        let begun = Instant::now();
        let deadline = begun.checked_add(how.wait);
        let pass_on = PassOn(&live.notify);
        loop {
            let waiting = live.notify.notified();
            tokio::pin!(waiting);
            // From here on nothing is missed, whether it comes before or after the look.
            waiting.as_mut().enable();
            self.open()?;
            live.end_leases(inner);
            let (due, reads) = match live.take(inner, how.max) {
                Look::Gone => return Err(QueueError::Unknown(live.name.clone())),
                Look::Nothing { due, reads } => (due, reads),
                Look::Given(given) => {
                    // Nothing is awaited between the look and the leases.
                    let given = self.without_bad(given);
                    if given.is_empty() {
                        continue;
                    }
                    drop(pass_on);
                    return Ok(match lease_for.is_zero() {
                        true => self.remove(given).await?,
                        false => self.lease(given, lease_for),
                    });
                }
            };
            let now = Instant::now();
            // What is there and is being read, or needs memory first, is waited for in any case.
            let comes = due.is_some() || reads;
            let reads = comes.then(|| begun + DISK_WAIT);
            let until = deadline.map(|deadline| reads.map_or(deadline, |r| r.max(deadline)));
            if until.is_some_and(|until| until <= now) {
                return Ok(Vec::new());
            }
            let due = due.map(|due| now + due.saturating_sub(inner.now()));
            // In time or too late: look once more.
            let looks = async {
                match until.into_iter().chain(due).min() {
                    Some(until) => drop(tokio::time::timeout_at(until, waiting).await),
                    None => waiting.await,
                }
            };
            // Nothing is taken here.
            if let Either::Right(_) = select(pin!(looks), end.as_mut()).await {
                return Ok(Vec::new());
            }
        }
    }

    fn checked(&self, how: &Dequeue) -> Result<Duration, QueueError> {
        if !(1..=DEQUEUE_MAX_MESSAGES).contains(&how.max) {
            let why = format!("a dequeue takes 1 to {DEQUEUE_MAX_MESSAGES} messages");
            return Err(QueueError::Limit(why));
        }
        let lease_for = how.lease.unwrap_or(self.live.settings.lease);
        if lease_for > LEASE_MAX {
            let max_ms = LEASE_MAX.as_millis();
            return Err(QueueError::Limit(format!("a lease is at most {max_ms} ms")));
        }
        Ok(lease_for)
    }

    /// Leaves out what has expired, and what was given out too often before: that is buried.
    fn without_bad(&self, given: Vec<Given>) -> Vec<Given> {
        let (inner, live) = self.parts();
        let now = Timestamp::now();
        let mut good = Vec::with_capacity(given.len());
        for one in given {
            let before = one.deliveries.saturating_sub(1);
            let until = expiry(&one.message.event);
            if until.is_some() {
                live.expires(inner);
            }
            if let Some(until) = until.filter(|until| *until <= now) {
                live.put_away(inner, one.held, before, until);
            } else if before > 0 && live.is_worn_out(before) {
                live.bury_later(inner, one.held, before, Why::WornOut);
            } else {
                good.push(one);
            }
        }
        live.head_changed();
        let again = good.iter().filter(|one| one.deliveries > 1).count();
        add(&inner.counters.dequeued, good.len());
        add(&inner.counters.redelivered, again);
        good
    }

    fn lease(&self, given: Vec<Given>, lease_for: Duration) -> Vec<Dequeued> {
        let held = given.iter().map(|one| (one.held.clone(), one.deliveries));
        let leases = self.live.lease(&self.inner, held, lease_for);
        let given = given.into_iter().zip(leases);
        given
            .map(|(one, lease)| Dequeued {
                message: one.message,
                deliveries: one.deliveries,
                lease: Some(lease),
                lease_for,
            })
            .collect()
    }

    /// Settles messages before they are handed out. Those for which that fails are given back.
    async fn remove(&self, given: Vec<Given>) -> Result<Vec<Dequeued>, QueueError> {
        let (inner, live) = (Arc::clone(&self.inner), Arc::clone(&self.live));
        // Nobody may wait any longer: it goes on all the same.
        let removed = tokio::spawn(async move {
            let settled = join_all(given.iter().map(|one| live.settle(&inner, &one.held))).await;
            let mut failed = None;
            let mut removed = Vec::with_capacity(given.len());
            for (one, settled) in given.into_iter().zip(settled) {
                if let Err(error) = settled {
                    live.give_back(&inner, &one.held);
                    failed = Some(error);
                    continue;
                }
                removed.push(Dequeued {
                    message: one.message,
                    deliveries: one.deliveries,
                    lease: None,
                    lease_for: Duration::ZERO,
                });
            }
            match failed {
                Some(error) if removed.is_empty() => Err(error),
                _ => Ok(removed),
            }
        });
        removed.await.map_err(broken_off)?
    }

    /// Takes these leases, or none.
    fn unlease(&self, leases: &[LeaseId]) -> Result<Vec<(LeaseId, Lease<Held>)>, QueueError> {
        self.open()?;
        if leases.is_empty() || leases.len() > LEASES_AT_ONCE {
            let why = format!("name 1 to {LEASES_AT_ONCE} leases at once");
            return Err(QueueError::Limit(why));
        }
        if !self.inner.queues.has(&self.live) {
            return Err(QueueError::Unknown(self.live.name.clone()));
        }
        let taken = self.live.unlease(&self.inner, leases);
        if let Err(QueueError::Stale(stale)) = &taken {
            add(&self.inner.counters.stale_settlements, stale.len());
        }
        taken
    }

    /// The messages of these leases are done with. Resolves when that is durable, where the queue
    /// is: then they never come back.
    ///
    /// # Errors
    /// [`QueueError::Stale`] names the leases that are over; nothing was done then. After
    /// [`QueueError::Unavailable`] a lease goes on, and another try may succeed.
    pub async fn ack(&self, leases: &[LeaseId]) -> Result<(), QueueError> {
        let taken = self.unlease(leases)?;
        let (inner, live) = (Arc::clone(&self.inner), Arc::clone(&self.live));
        // Nobody may wait any longer: a lease that is taken out is settled, or put back.
        let acked = tokio::spawn(async move {
            let settle = taken
                .iter()
                .map(|(_, lease)| live.settle(&inner, &lease.held));
            let ended = join_all(settle).await;
            let mut failed = Ok(());
            for ((id, lease), ended) in taken.into_iter().zip(ended) {
                if let Err(error) = ended {
                    if !matches!(error, QueueError::Indeterminate(_)) {
                        live.keep(&inner, id, lease);
                    }
                    failed = Err(error);
                }
            }
            failed
        });
        acked.await.map_err(broken_off)?
    }

    /// The messages of these leases wait again, at their old places. One that was given out as
    /// often as the queue allows goes to the dead letters.
    ///
    /// # Errors
    /// [`QueueError::Stale`] names the leases that are over; nothing was done then. Others where a
    /// dead letter was not kept: its message waits again.
    pub async fn give_back(&self, leases: &[LeaseId]) -> Result<(), QueueError> {
        let taken = self.unlease(leases)?;
        let (inner, live) = (Arc::clone(&self.inner), Arc::clone(&self.live));
        let mut worn_out = Vec::new();
        for (_, lease) in taken {
            if live.is_worn_out(lease.deliveries) {
                worn_out.push(lease);
            } else {
                live.give_back(&inner, &lease.held);
            }
        }
        if worn_out.is_empty() {
            return Ok(());
        }
        let buried = tokio::spawn(async move {
            let bury = worn_out
                .iter()
                .map(|lease| live.bury(&inner, &lease.held, lease.deliveries));
            join_all(bury).await.into_iter().collect()
        });
        buried.await.map_err(broken_off)?
    }
}

fn broken_off(error: tokio::task::JoinError) -> QueueError {
    QueueError::Indeterminate(format!("it was broken off: {error}"))
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}
