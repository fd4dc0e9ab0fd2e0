//! What was given out too often: the dead letters of a queue, and what becomes of those that
//! cannot be kept.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Commit, Effects, Event, Failure, Offset, Outcome, Partition, Position, PublishError,
    SettleError,
};
use tidemill_log::CommitError;
use tidemill_log::limits::BATCH_MAX_BYTES;

use super::QueueError;
use super::live::{Held, Live, Store};
use super::store::locked;
use crate::broker::Inner;
use crate::limits::{BURY_WAIT_MAX, BURY_WAIT_MIN, REROUTES_MAX};
use crate::machine::{Operation, Refusal};
use crate::metrics::add;

/// Why nobody is to get a message any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// It was given out as often as the queue allows.
    WornOut,
    /// It was good until then.
    Expired(Timestamp),
}

impl Live {
    /// Whether a message is not to be given out again.
    pub(super) fn is_worn_out(&self, deliveries: u32) -> bool {
        let most = self.settings.max_deliveries;
        most.is_some_and(|most| deliveries >= most)
    }

    /// Has a message buried, whoever waits for that. Where that fails nobody gets it: it is tried
    /// again, as long as the queue is there.
    pub(super) fn bury_later(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        held: Held,
        deliveries: u32,
        why: Why,
    ) {
        let (inner, live) = (Arc::clone(inner), Arc::clone(self));
        tokio::spawn(bury_in_time(inner, live, (held, deliveries, why)));
    }

    /// Moves a worn out message to the dead letters. Where that fails it is given back.
    pub(super) async fn bury(
        &self,
        inner: &Arc<Inner>,
        held: &Held,
        deliveries: u32,
    ) -> Result<(), QueueError> {
        let burying = self.try_to_bury(inner, held, deliveries, Why::WornOut);
        let buried = burying.await;
        if buried.is_err() {
            self.give_back(inner, held);
        }
        buried
    }

    /// Moves a message to the dead letters, or settles it where there are none for it. Where that
    /// fails the message stays given out.
    async fn try_to_bury(
        &self,
        inner: &Arc<Inner>,
        held: &Held,
        deliveries: u32,
        why: Why,
    ) -> Result<(), QueueError> {
        match self.failure(deliveries, why) {
            Some(failure) => self.move_to_dead(inner, held, failure).await?,
            None => self.settle(inner, held).await?,
        }
        if matches!(why, Why::Expired(_)) {
            add(&inner.counters.expired, 1);
            self.expired.fetch_add(1, Ordering::Release);
            self.head_changed();
        }
        Ok(())
    }

    async fn move_to_dead(
        &self,
        inner: &Arc<Inner>,
        held: &Held,
        failure: Failure,
    ) -> Result<(), QueueError> {
        match (&self.store, held) {
            (Store::Disk { group, .. }, Held::Disk(ticket)) => {
                let commit = Commit {
                    outcome: Outcome::DeadLetter {
                        failure: Box::new(failure),
                    },
                    effects: Effects::default(),
                };
                let settler = group.settler(inner);
                let settled = settler.settle(ticket.clone(), commit).await;
                match settled {
                    Ok(_) => Ok(()),
                    // Nobody has it any longer: it was settled, or its queue is gone.
                    Err(SettleError::Stale) => Err(QueueError::Unknown(self.name.clone())),
                    Err(error) => Err(error.into()),
                }
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
        }
    }

    /// What the dead letter says; `None` where there is to be none.
    fn failure(&self, deliveries: u32, why: Why) -> Option<Failure> {
        let times = match deliveries {
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        let (reason, error) = match why {
            Why::WornOut => (
                "max_deliveries",
                format!("it was dequeued {times} and never acknowledged"),
            ),
            // A queue without a bound for deliveries has no dead letters.
            Why::Expired(_) if self.settings.max_deliveries.is_none() => return None,
            Why::Expired(until) => (
                "expired",
                format!("it was good until {until}, and nobody had acknowledged it by then"),
            ),
        };
        Some(Failure {
            reason: reason.to_owned(),
            error,
            attempts: deliveries,
            first: None,
            last: Some(Timestamp::now()),
            handler: None,
            version: None,
        })
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

/// Tries to bury a message until that is done, or there is nothing to bury it for.
pub(super) async fn bury_in_time(inner: Arc<Inner>, live: Arc<Live>, what: (Held, u32, Why)) {
    let (held, deliveries, why) = &what;
    let burying = live.try_to_bury(&inner, held, *deliveries, *why);
    let Err(error) = burying.await else {
        return;
    };
    if is_over(&inner, &live, &error) {
        return;
    }
    if live.unburied.fetch_add(1, Ordering::AcqRel) == 0 {
        let queue = &live.name;
        tracing::warn!(%queue, %error, "dead letters cannot be kept; it is tried again and again");
    }
    // Neither keeps the broker open.
    let (weak_inner, weak_live) = (Arc::downgrade(&inner), Arc::downgrade(&live));
    drop((inner, live));
    let buried = try_again(&weak_inner, &weak_live, &what).await;
    let Some(live) = weak_live.upgrade() else {
        return;
    };
    if live.unburied.fetch_sub(1, Ordering::AcqRel) == 1 && buried {
        tracing::info!(queue = %live.name, "all dead letters are kept again");
    }
}

/// Answers whether it was buried in the end.
async fn try_again(inner: &Weak<Inner>, live: &Weak<Live>, what: &(Held, u32, Why)) -> bool {
    let (held, deliveries, why) = what;
    let mut wait = BURY_WAIT_MIN;
    loop {
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(BURY_WAIT_MAX);
        let (Some(inner), Some(live)) = (inner.upgrade(), live.upgrade()) else {
            return false;
        };
        match live.try_to_bury(&inner, held, *deliveries, *why).await {
            Ok(()) => return true,
            Err(error) if is_over(&inner, &live, &error) => return false,
            Err(_) => {}
        }
    }
}

/// Whether another try cannot succeed: the broker or the queue is gone, or takes no writes until
/// it is opened again, or nobody has the message any longer. It stays given out until then.
fn is_over(inner: &Inner, live: &Arc<Live>, error: &QueueError) -> bool {
    let never = match error {
        QueueError::Unavailable(why) => {
            matches!(why, Unavailable::Closed | Unavailable::SyncFailed(_))
        }
        QueueError::Indeterminate(_) | QueueError::Unknown(_) => true,
        _ => false,
    };
    never || inner.closed.load(Ordering::Acquire) || !inner.queues.has(live)
}

#[cfg(test)]
mod tests {
    use tidemill_core::{
        Event, EventBuilder, EventId, EventType, ExtensionValue, GroupName, Source, TopicName,
    };

    use super::*;
    use crate::broker::Broker;
    use crate::limits::{EXPIRED_UNDER_WAY_MAX, QUEUE_IN_FLIGHT_MAX};
    use crate::queue::{CreateQueue, Dequeue, EXPIRY, Queue, QueueSettings};

    fn name(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn event(id: &str) -> EventBuilder {
        let (id, ty) = (EventId::new(id).unwrap(), EventType::new("made").unwrap());
        Event::builder(id, Source::new("/test").unwrap(), ty)
    }

    /// The queue `jobs`, whose dead letters cannot be kept, as a queue has the name of their topic.
    async fn without_a_grave(transient: bool, max_deliveries: u32) -> (Broker, Queue) {
        let broker = Broker::in_memory();
        let settings = QueueSettings {
            max_deliveries: Some(max_deliveries),
            ..QueueSettings::default()
        };
        let how = CreateQueue {
            transient,
            settings,
        };
        broker.create_queue(name("jobs"), how).await.unwrap();
        let queue = broker.queue(&name("jobs")).unwrap();
        // As one that is there from before, or came at the same moment.
        let group = GroupName::new("other").unwrap();
        let other = Live::in_memory(name("jobs.deadletter"), group, settings);
        queue.parts().0.queues.insert(other).unwrap();
        (broker, queue)
    }

    #[tokio::test]
    async fn what_cannot_be_buried_is_nobodys_until_it_can() {
        for transient in [true, false] {
            let (broker, queue) = without_a_grave(transient, 1).await;
            let (_, live) = queue.parts();
            queue
                .enqueue(vec![event("1").build().unwrap()])
                .await
                .unwrap();
            let taken = queue.dequeue(Dequeue::default()).await.unwrap();
            let refused = queue.give_back(&[taken[0].lease.unwrap()]).await;
            assert!(
                matches!(refused, Err(QueueError::Publish(_))),
                "{refused:?}"
            );
            while live.unburied.load(Ordering::Acquire) == 0 {
                assert_eq!(queue.dequeue(Dequeue::default()).await.unwrap().len(), 0);
                tokio::task::yield_now().await;
            }
            // It does not come again and again.
            assert_eq!(queue.dequeue(Dequeue::default()).await.unwrap().len(), 0);
            assert_eq!(live.unburied.load(Ordering::Acquire), 1);
            assert_eq!((queue.length(), broker.metrics().dead_lettered), (1, 0));

            broker.delete_queue(&name("jobs.deadletter")).await.unwrap();
            while queue.length() > 0 || live.unburied.load(Ordering::Acquire) > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(broker.metrics().dead_lettered, 1);
            assert!(broker.topic(&name("jobs.deadletter")).is_some());
        }
    }

    #[tokio::test]
    async fn expired_messages_that_cannot_be_buried_keep_nobody_from_good_ones() {
        // On disk a group has as many unsettled ones at a time as its cursor can tell apart.
        let sizes = [
            (true, QUEUE_IN_FLIGHT_MAX + 1),
            (false, 3 * EXPIRED_UNDER_WAY_MAX),
        ];
        for (transient, expired) in sizes {
            let (broker, queue) = without_a_grave(transient, 9).await;
            let (_, live) = queue.parts();
            let until = ExtensionValue::String("2020-01-31T12:00:00Z".into());
            let gone = event("gone").extension(EXPIRY, until).build().unwrap();
            queue.enqueue(vec![gone; expired]).await.unwrap();
            let good = event("good").build().unwrap();
            queue.enqueue(vec![good]).await.unwrap();
            // On disk a peek reads only so far.
            let peeked = queue.peek(1).await.unwrap();
            assert!(
                !transient || peeked[0].event.id().as_str() == "good",
                "{peeked:?}"
            );
            let taken = loop {
                let taken = queue.dequeue(Dequeue::default()).await.unwrap();
                if !taken.is_empty() {
                    break taken;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(taken[0].message.event.id().as_str(), "good");
            while live.unburied.load(Ordering::Acquire) < EXPIRED_UNDER_WAY_MAX {
                tokio::task::yield_now().await;
            }
            assert_eq!(queue.length(), expired as u64 + 1);
            assert_eq!(live.unburied.load(Ordering::Acquire), EXPIRED_UNDER_WAY_MAX);
            queue.ack(&[taken[0].lease.unwrap()]).await.unwrap();

            broker.delete_queue(&name("jobs.deadletter")).await.unwrap();
            let expired = expired as u64;
            while queue.length() > 0 || broker.metrics().dead_lettered < expired {
                tokio::task::yield_now().await;
            }
            assert_eq!(broker.metrics().dead_lettered, expired);
        }
    }
}
