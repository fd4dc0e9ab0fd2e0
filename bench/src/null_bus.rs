//! A bus that costs as little as its traits allow: it gives out events made beforehand, and
//! settles at once. What remains is the cost of the dispatcher.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill::core::bus::Support;
use tidemill::core::{
    BoxFuture, Fetch, FetchError, Fetched, Generation, GroupMember, Guarantees, PublishError,
    Publisher, PullError, RequestError, Settle, SettleError, Settlement, SubscribeError,
    Subscriber, Subscription, Ticket,
};
use tidemill::{Attempt, Bus, Commit, Delivery, Event, Offset, Outcome, Position, TopicName};
use tokio::sync::Notify;

/// Gives out `events`, over and over, `total` in number.
pub(crate) struct NullBus {
    events: Vec<Delivery>,
    total: u64,
    counts: Arc<Counts>,
}

/// What was settled.
pub(crate) struct Counts {
    total: u64,
    acknowledged: AtomicU64,
    settled: AtomicU64,
    all: Notify,
}

impl Counts {
    /// Waits until all events are settled; answers how many were acknowledged.
    pub(crate) async fn all(&self) -> u64 {
        self.all.notified().await;
        self.acknowledged.load(Ordering::Relaxed)
    }
}

impl NullBus {
    pub(crate) fn open(events: Vec<Delivery>, total: u64) -> (Bus, Arc<Counts>) {
        let counts = Arc::new(Counts {
            total,
            acknowledged: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            all: Notify::new(),
        });
        let bus = Self {
            events,
            total,
            counts: Arc::clone(&counts),
        };
        (Bus::new(bus), counts)
    }
}

impl Settle for Counts {
    fn settle(
        &self,
        _: Ticket,
        commit: Commit,
    ) -> BoxFuture<'static, Result<Vec<Position>, SettleError>> {
        if matches!(commit.outcome, Outcome::Ack) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        if self.settled.fetch_add(1, Ordering::Relaxed) + 1 == self.total {
            self.all.notify_one();
        }
        Box::pin(ready(Ok(Vec::new())))
    }

    fn abandon(&self, _: Ticket) {}
}

struct Member {
    bus: NullBus,
    given: u64,
}

impl GroupMember for Member {
    fn pull(
        &mut self,
        credit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Delivery, Settlement)>, PullError>> {
        let bus = &self.bus;
        let count = (bus.total - self.given).min(credit as u64);
        if count == 0 {
            return Box::pin(pending());
        }
        let from = self.given;
        self.given += count;
        let given = (from..self.given).zip(
            bus.events
                .iter()
                .cycle()
                .skip(from as usize % bus.events.len()),
        );
        let batch = given.map(|(offset, delivery)| {
            let mut delivery = delivery.clone();
            delivery.position.offset = Offset(offset);
            let ticket = Ticket {
                position: delivery.position.clone(),
                generation: Generation(1),
                attempt: Attempt(1),
            };
            let settler: Arc<dyn Settle> = bus.counts.clone();
            (delivery, Settlement::new(settler, ticket))
        });
        let batch = batch.collect();
        Box::pin(ready(Ok(batch)))
    }
}

impl Subscriber for NullBus {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            at_least_once: Support::Refused,
            order_per_key: Support::Native,
            atomic_handler_commit: Support::Native,
            replay: Support::Refused,
        }
    }

    fn subscribe(
        &self,
        _: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let bus = NullBus {
            events: self.events.clone(),
            total: self.total,
            counts: Arc::clone(&self.counts),
        };
        let member: Box<dyn GroupMember> = Box::new(Member { bus, given: 0 });
        Box::pin(ready(Ok(member)))
    }

    fn fetch(&self, _: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let why = "a null bus keeps nothing; subscribe to it";
        Box::pin(ready(Err(FetchError::Other(why.into()))))
    }
}

impl Publisher for NullBus {
    fn publish(
        &self,
        _: TopicName,
        _: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let why = "a null bus takes no events; subscribe to it";
        Box::pin(ready(Err(PublishError::Other(why.into()))))
    }

    fn request(
        &self,
        _: TopicName,
        _: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        Box::pin(ready(Err(RequestError::Timeout(timeout))))
    }
}
