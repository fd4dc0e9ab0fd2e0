//! Giving messages out and taking them back, wherever they are kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::{Commit, Delivery, Event, Ticket};

use super::QueueError;
use super::dead::Why;
use super::expiry::is_over;
use super::info::QueueMessage;
use super::live::{Held, Live, Store};
use super::memory::MemoryStore;
use crate::broker::Inner;
use crate::group::Taken;
use crate::limits::DEQUEUE_MAX_BYTES;
use crate::metrics::add;

/// A message that was given out.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) message: QueueMessage,
    /// How many times it was given out, this time included.
    pub(super) deliveries: u32,
    pub(super) held: Held,
}

/// What a look for messages gave.
#[derive(Debug)]
pub(super) enum Look {
    Given(Vec<Given>),
    /// Nothing yet; look again when this time comes, if nothing wakes before.
    Nothing {
        due: Option<Duration>,
        /// Messages are being read, by whoever looks at that moment too.
        reads: bool,
    },
    /// The queue was deleted.
    Gone,
}

pub(super) fn locked(store: &Mutex<MemoryStore>) -> MutexGuard<'_, MemoryStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_disk((delivery, ticket): (Delivery, Ticket)) -> Given {
    Given {
        message: QueueMessage {
            offset: delivery.position.offset,
            event: delivery.event,
        },
        deliveries: delivery.attempt.0,
        held: Held::Disk(ticket),
    }
}

fn of_memory((message, deliveries): (QueueMessage, u32)) -> Given {
    Given {
        held: Held::Memory(message.offset),
        message,
        deliveries,
    }
}

impl Live {
    /// Whether it is kept in memory alone.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.store, Store::Memory(_))
    }

    /// Takes up to `max` messages, oldest first, until they have
    /// [`DEQUEUE_MAX_BYTES`](crate::limits::DEQUEUE_MAX_BYTES).
    pub(super) fn take(self: &Arc<Self>, inner: &Arc<Inner>, max: usize) -> Look {
        let mut all: Vec<Given> = Vec::new();
        let mut bytes = 0;
        while all.len() < max && bytes < DEQUEUE_MAX_BYTES {
            match self.take_one(inner) {
                Look::Given(given) => {
                    let sizes = given.iter().map(|one| one.message.event.size_bytes());
                    bytes += sizes.sum::<usize>();
                    all.extend(given);
                }
                _ if !all.is_empty() => break,
                nothing => return nothing,
            }
        }
        Look::Given(all)
    }

    fn take_one(self: &Arc<Self>, inner: &Arc<Inner>) -> Look {
        match &self.store {
            Store::Disk { group, member, .. } => match group.take(inner, *member, 1, None) {
                Taken::Gone => Look::Gone,
                Taken::Nothing { due, reads } => Look::Nothing { due, reads },
                Taken::Given(given) => Look::Given(given.into_iter().map(of_disk).collect()),
            },
            Store::Memory(_) if !inner.queues.has(self) => Look::Gone,
            Store::Memory(store) => {
                let taken = locked(store).take(1);
                if taken.is_empty() {
                    return Look::Nothing {
                        due: None,
                        reads: false,
                    };
                }
                Look::Given(taken.into_iter().map(of_memory).collect())
            }
        }
    }

    /// Takes the oldest message that nobody has, where that has expired.
    pub(super) fn take_over(self: &Arc<Self>, inner: &Arc<Inner>, now: Timestamp) -> Option<Given> {
        match &self.store {
            Store::Disk { group, member, .. } => {
                let is_over = |event: &Event| is_over(event, now);
                match group.take_where(inner, *member, 1, Some(&is_over), None) {
                    Taken::Given(given) => given.into_iter().map(of_disk).next(),
                    Taken::Nothing { .. } | Taken::Gone => None,
                }
            }
            Store::Memory(store) => {
                let taken = locked(store).take_aside(|event| is_over(event, now));
                taken.map(of_memory)
            }
        }
    }

    /// The oldest message that nobody has, as far as it is read.
    pub(super) fn first(&self) -> Option<Arc<Event>> {
        match &self.store {
            Store::Disk { group, member, .. } => group.first(*member),
            Store::Memory(store) => locked(store).first(),
        }
    }

    /// A message is done with; resolves when that is durable, where the queue is.
    pub(super) async fn settle(&self, inner: &Arc<Inner>, held: &Held) -> Result<(), QueueError> {
        match (&self.store, held) {
            (Store::Disk { group, .. }, Held::Disk(ticket)) => {
                let settler = group.settler(inner);
                settler.settle(ticket.clone(), Commit::ack()).await?;
            }
            (Store::Memory(store), Held::Memory(offset)) => {
                let settled = locked(store).settle(*offset);
                add(&inner.counters.settled, usize::from(settled.is_some()));
                // There may be room in flight for one who waits.
                self.notify.notify_one();
            }
            _ => {}
        }
        self.head_changed();
        Ok(())
    }

    /// A message waits again, at its old place.
    pub(super) fn give_back(&self, inner: &Arc<Inner>, held: &Held) {
        match (&self.store, held) {
            (Store::Disk { group, .. }, Held::Disk(ticket)) => {
                group.settler(inner).abandon(ticket.clone());
            }
            (Store::Memory(store), Held::Memory(offset)) => {
                locked(store).give_back(*offset);
                self.notify.notify_one();
            }
            _ => {}
        }
        self.head_changed();
    }

    /// Gives back what is leased to those who did not settle it in time.
    pub(super) fn end_leases(self: &Arc<Self>, inner: &Arc<Inner>) {
        for lease in self.over(inner) {
            add(&inner.counters.leases_ended, 1);
            if self.is_worn_out(lease.deliveries) {
                self.bury_later(inner, lease.held, lease.deliveries, Why::WornOut);
            } else {
                self.give_back(inner, &lease.held);
            }
        }
    }
}
