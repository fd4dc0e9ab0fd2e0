//! Giving messages out and taking them back, wherever they are kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::{
    Commit, Effects, Event, Failure, Offset, Outcome, Partition, Position, PublishError,
};
use tidemill_log::CommitError;
use tidemill_log::limits::BATCH_MAX_BYTES;

use super::QueueError;
use super::info::QueueMessage;
use super::live::{Held, Live, Store};
use super::memory::MemoryStore;
use crate::broker::Inner;
use crate::group::Taken;
use crate::limits::{DEQUEUE_MAX_BYTES, REROUTES_MAX};
use crate::machine::{Operation, Refusal};
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
    },
    /// The queue was deleted.
    Gone,
}

pub(super) fn locked(store: &Mutex<MemoryStore>) -> MutexGuard<'_, MemoryStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
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
            Store::Disk { group, member, .. } => match group.take(inner, *member, 1) {
                Taken::Gone => Look::Gone,
                Taken::Nothing { due } => Look::Nothing { due },
                Taken::Given(given) => {
                    let given = given.into_iter().map(|(delivery, ticket)| Given {
                        message: QueueMessage {
                            offset: delivery.position.offset,
                            event: delivery.event,
                        },
                        deliveries: delivery.attempt.0,
                        held: Held::Disk(ticket),
                    });
                    Look::Given(given.collect())
                }
            },
            Store::Memory(_) if !inner.queues.has(self) => Look::Gone,
            Store::Memory(store) => {
                let taken = locked(store).take(1);
                if taken.is_empty() {
                    return Look::Nothing { due: None };
                }
                let given = taken.into_iter().map(|(message, deliveries)| Given {
                    held: Held::Memory(message.offset),
                    message,
                    deliveries,
                });
                Look::Given(given.collect())
            }
        }
    }

    /// Whether messages are being read from the disk.
    pub(super) fn is_reading(&self) -> bool {
        matches!(&self.store, Store::Disk { group, .. } if group.is_reading())
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
    }

    /// Gives back what is leased to those who did not settle it in time.
    pub(super) fn end_leases(self: &Arc<Self>, inner: &Arc<Inner>) {
        for lease in self.over(inner) {
            add(&inner.counters.leases_ended, 1);
            if self.is_worn_out(lease.deliveries) {
                self.bury_later(inner, lease.held, lease.deliveries);
            } else {
                self.give_back(inner, &lease.held);
            }
        }
    }

    /// Whether a message is not to be given out again.
    pub(super) fn is_worn_out(&self, deliveries: u32) -> bool {
        let most = self.settings.max_deliveries;
        most.is_some_and(|most| deliveries >= most)
    }

    /// Has a message buried, whoever waits for that.
    pub(super) fn bury_later(self: &Arc<Self>, inner: &Arc<Inner>, held: Held, deliveries: u32) {
        let (inner, live) = (Arc::clone(inner), Arc::clone(self));
        tokio::spawn(async move {
            if let Err(error) = live.bury(&inner, &held, deliveries).await {
                tracing::warn!(queue = %live.name, %error, "a message could not be buried");
            }
        });
    }

    /// Moves a message to the dead letters. Where that fails it is given back.
    pub(super) async fn bury(
        &self,
        inner: &Arc<Inner>,
        held: &Held,
        deliveries: u32,
    ) -> Result<(), QueueError> {
        let failure = self.failure(deliveries);
        let buried = match (&self.store, held) {
            (Store::Disk { group, .. }, Held::Disk(ticket)) => {
                let commit = Commit {
                    outcome: Outcome::DeadLetter {
                        failure: Box::new(failure),
                    },
                    effects: Effects::default(),
                };
                let settler = group.settler(inner);
                let settled = settler.settle(ticket.clone(), commit).await;
                settled.map(drop).map_err(QueueError::from)
            }
            (Store::Memory(store), Held::Memory(offset)) => {
                let event = locked(store).held(*offset);
                let buried = match event {
                    Some(event) => self.publish_dead(inner, &event, *offset, failure).await,
                    None => Ok(()),
                };
                if buried.is_ok() {
                    locked(store).settle(*offset);
                    self.notify.notify_one();
                    add(&inner.counters.dead_lettered, 1);
                }
                buried
            }
            _ => Ok(()),
        };
        if buried.is_err() {
            self.give_back(inner, held);
        }
        buried
    }

    fn failure(&self, deliveries: u32) -> Failure {
        let times = match deliveries {
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        Failure {
            reason: "max_deliveries".to_owned(),
            error: format!("it was dequeued {times} and never acknowledged"),
            attempts: deliveries,
            first: None,
            last: Some(Timestamp::now()),
            handler: None,
            version: None,
        }
    }

    /// Publishes the dead letter of a message that was in memory alone.
    async fn publish_dead(
        &self,
        inner: &Arc<Inner>,
        event: &Event,
        offset: Offset,
        failure: Failure,
    ) -> Result<(), QueueError> {
        let letter = DeadLetter {
            event: event.clone(),
            origin: Position {
                topic: self.name.clone(),
                partition: Partition(0),
                offset,
            },
            group: self.group.clone(),
            failure,
        };
        let letter = letter.to_event().map_err(PublishError::Invalid)?;
        let topic = dead_letter_topic(&self.group);
        let max_bytes = (BATCH_MAX_BYTES, BATCH_MAX_BYTES);
        for _ in 0..REROUTES_MAX {
            let letters = std::slice::from_ref(&letter);
            let (append, _) = inner.encode_within(&topic, true, letters, max_bytes)?;
            match inner.submit(Operation::Publish(append)).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Refused(Refusal::Rerouted { .. } | Refusal::UnknownTopic(_))) => {}
                Err(error) => return Err(crate::publish::publish_error(error).into()),
            }
        }
        let why = format!("the topic {topic} keeps changing; try again");
        Err(QueueError::Other(why))
    }
}
