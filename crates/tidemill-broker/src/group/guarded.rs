//! What a member that handles in this process does after a bad end, beside pulling: markers are
//! kept before events are handled, and what ended the process too often is given up.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_core::delivery::{Settle, Settlement};
use tidemill_core::{Commit, Delivery, Effects, Failure, Outcome, SettleError, Ticket};
use tokio::sync::oneshot;

use super::Group;
use crate::broker::Inner;
use crate::machine::{Marked, Marks, Operation};
use crate::original::is_unwritable;

/// Events that a member was given and that are being marked. Dropped, they are given back.
pub(super) struct Marking {
    given: VecDeque<(Delivery, Settlement)>,
    /// `None` once the answer is there.
    kept: Option<oneshot::Receiver<()>>,
}

impl Marking {
    pub(super) fn begin(
        inner: &Inner,
        group: &Group,
        marks: Vec<Marked>,
        given: Vec<(Delivery, Settlement)>,
    ) -> Self {
        let (sender, kept) = oneshot::channel();
        let operation = Operation::Mark(Marks {
            group: group.id,
            epoch: inner.handle.epoch(),
            marks,
        });
        let name = group.name.clone();
        inner.handle.submit(operation, move |answer| {
            if let Err(error) = answer {
                tracing::warn!(group = %name, %error, "events are handled without a marker");
            }
            // Nobody may wait any longer.
            let _ = sender.send(());
        });
        Self {
            given: given.into(),
            kept: Some(kept),
        }
    }

    /// Waits until the markers are where the end of the process does not reach them, or cannot
    /// be: what the log refuses is handled all the same.
    pub(super) async fn kept(&mut self) {
        if let Some(kept) = &mut self.kept {
            // Without an answer the log is gone.
            let _ = kept.await;
            self.kept = None;
        }
    }

    /// The first of them, at most `credit`, and whether there are more.
    pub(super) fn take(&mut self, credit: usize) -> (Vec<(Delivery, Settlement)>, bool) {
        let count = credit.min(self.given.len());
        let taken = self.given.drain(..count).collect();
        (taken, !self.given.is_empty())
    }
}

/// Makes a dead letter of an event that ended the process again and again; where that can never be
/// kept the event is settled without.
pub(super) async fn give_up(
    inner: Arc<Inner>,
    group: Arc<Group>,
    settler: Arc<dyn Settle>,
    ticket: Ticket,
    failure: Failure,
) {
    let (at, error) = (ticket.position.clone(), failure.error.clone());
    let commit = Commit {
        outcome: Outcome::DeadLetter {
            failure: Box::new(failure),
        },
        effects: Effects::default(),
    };
    let settled = match settler.settle(ticket.clone(), commit).await {
        Err(SettleError::Effect(why)) if is_unwritable(&why) => {
            let settled = settler.settle(ticket.clone(), Commit::ack()).await;
            if settled.is_ok() {
                inner.unwritable(&group.name, &at, &why);
                return;
            }
            settled
        }
        settled => settled,
    };
    match settled {
        Ok(_) => tracing::error!(group = %group.name, %at, %error, "an event is a dead letter"),
        Err(SettleError::Stale) => {}
        Err(why) => {
            if group.letter_refused(&ticket, inner.now()) == 1 {
                tracing::warn!(group = %group.name, %at, %why, "a dead letter has to wait");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::{GroupName, Offset, Order, Partition, Start, Subscription, TopicName};
    use tidemill_log::BatchBuilder;
    use tidemill_log::limits::BATCH_MAX_BYTES;

    use super::*;
    use crate::broker::Broker;
    use crate::{Begins, Produce};

    #[tokio::test]
    async fn what_can_be_no_letter_is_settled_without_one_and_counted() {
        let broker = Broker::builder().in_memory(1 << 30).memory(1 << 30);
        let broker = broker.event_max_bytes(BATCH_MAX_BYTES);
        let broker = broker.open().await.unwrap();
        let (of, by) = (TopicName::new("t").unwrap(), GroupName::new("g").unwrap());
        let create = broker.create_topic(of.clone(), crate::CreateTopic::default());
        create.await.unwrap();
        // With what its letter says beside it, it is more than a batch may be.
        let (mut builder, value) = (BatchBuilder::new(), vec![b'x'; BATCH_MAX_BYTES - 200]);
        let none = std::iter::empty();
        builder.push(1, None, Some(&value), none).unwrap();
        let produce = Produce {
            topic: of.clone(),
            partition: Partition(0),
            batch: builder.finish().unwrap().try_into().unwrap(),
            begins: Begins::No,
        };
        broker.produce(produce).await.unwrap();
        let subscription = Subscription {
            topics: vec![of],
            group: by.clone(),
            order: Order::None,
            start: Start::Beginning,
        };
        let mut member = broker.bus().subscribe(subscription).await.unwrap();
        let held = member.pull(1).await.unwrap();
        let group = Arc::clone(&broker.inner.groups()[&by]);
        let ticket = Ticket {
            position: held[0].0.position.clone(),
            generation: group.locked().core.generation,
            attempt: held[0].0.attempt,
        };
        let settler = group.settler(&broker.inner);
        let inner = Arc::clone(&broker.inner);
        give_up(inner, group, settler, ticket, Failure::default()).await;
        let at = &broker.group(&by).unwrap().partitions[0];
        assert_eq!((at.position, at.in_flight), (Offset(1), 0));
        let metrics = broker.metrics();
        let counted = (metrics.dead_lettered, metrics.unwritable_letters);
        assert_eq!(counted, (0, 1));
    }
}
