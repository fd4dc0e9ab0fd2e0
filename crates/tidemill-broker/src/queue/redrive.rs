//! The dead letters of a queue go back into it: the message is in the queue again and its letter is
//! done with, both or nothing.
//!
//! This room may not know how dead letters are listed.

use std::sync::Arc;

use jiff::Timestamp;
use tidemill_core::{Event, Offset, Partition, Position, TopicName};
use tidemill_log::CommitError;

use super::live::{Live, Store};
use super::memory::NoRoom;
use super::store::locked;
use super::{QueueError, expiry};
use crate::broker::{Broker, Inner};
use crate::encode::Sorted;
use crate::machine::{Append, Client, GroupId, Operation, Receipt, Refusal, Settled};
use crate::metrics::add;

/// A dead letter as it is settled.
pub(crate) struct Parked {
    /// The group that is done with the dead letters.
    pub(crate) reader: GroupId,
    /// The letter.
    pub(crate) settled: Settled,
}

/// Why a message was not given back: nothing was done.
#[derive(Debug)]
pub(crate) enum NotGiven {
    /// Somebody else was quicker: its letter is settled.
    Settled,
    Refused(QueueError),
}

impl<E: Into<QueueError>> From<E> for NotGiven {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

fn not_given(error: CommitError<Refusal>) -> NotGiven {
    match error {
        CommitError::Refused(Refusal::Stale | Refusal::Sought) => NotGiven::Settled,
        error => NotGiven::Refused(error.into()),
    }
}

impl Broker {
    /// Puts a message back into its queue, at the end, and is done with its dead letter. Nothing is
    /// done where the letter is settled already.
    pub(crate) async fn give_back_to_queue(
        &self,
        queue: &TopicName,
        event: Event,
        parked: Parked,
    ) -> Result<Position, NotGiven> {
        let inner = &self.inner;
        let live = inner.queue(queue)?;
        let event = expiry::anew(event, live.settings.ttl, Timestamp::now())?;
        if expiry::expiry(&event).is_some() {
            live.expires(inner);
        }
        let bytes = event.size_bytes();
        let offset = match &live.store {
            Store::Disk { topic, .. } => {
                let events = [event];
                let stamp = |_, builder| builder;
                let (batches, places) = inner.encode_for(queue, *topic, &events, stamp)?;
                let append = Append {
                    topic: queue.clone(),
                    client: Client::Any,
                    route: *topic,
                    create: false,
                    batches,
                };
                let operation = Operation::GiveBack {
                    reader: parked.reader,
                    settled: parked.settled,
                    append,
                };
                let receipt = inner.submit(operation).await.map_err(not_given)?;
                let Receipt::Appended(bases) = receipt else {
                    return Err(QueueError::Other("the broker answered otherwise".into()).into());
                };
                let bases = bases.first().map(Vec::as_slice).unwrap_or_default();
                let first = Sorted::positions(&places, bases).next();
                let none = || QueueError::Other("the broker gave no position".into());
                first.ok_or_else(none)?.offset
            }
            Store::Memory(_) => into_memory(inner, &live, event, parked).await?,
        };
        live.head_changed();
        add(&inner.counters.enqueued, 1);
        add(&inner.counters.published_bytes, bytes);
        Ok(Position {
            topic: queue.clone(),
            partition: Partition(0),
            offset,
        })
    }
}

/// The message has its place, which nobody is given, until its letter is settled.
async fn into_memory(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    event: Event,
    parked: Parked,
) -> Result<Offset, NotGiven> {
    let Store::Memory(store) = &live.store else {
        return Err(QueueError::Unknown(live.name.clone()).into());
    };
    let now_ms = Timestamp::now().as_millisecond();
    let held = locked(store).push_held(&inner.settings.memory, event, now_ms);
    let offset = held.map_err(|NoRoom(bytes)| super::handle::no_room(bytes))?;
    let operation = Operation::Commit {
        group: parked.reader,
        settled: vec![parked.settled],
        appends: Vec::new(),
    };
    let of = Arc::clone(live);
    // Also where nobody waits for the answer any longer.
    let settled = inner.submit_then(operation, move |answer| {
        let Store::Memory(store) = &of.store else {
            return;
        };
        match answer {
            Ok(_) => locked(store).give_back(offset),
            Err(_) => drop(locked(store).settle(offset)),
        }
        of.notify.notify_one();
    });
    settled.await.map_err(not_given)?;
    Ok(offset)
}
