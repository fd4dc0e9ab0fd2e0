//! Mutant buses: a wrapper around a sound bus that gets one thing wrong, so that each check of
//! the suite can be shown to fail. May not know which bus it wraps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_core::bus::{Advanced, TopicBounds, Watch};
use tidemill_core::{
    Attempt, BoxFuture, Bus, Commit, Delivery, Event, Fetch, FetchError, Fetched, GroupMember,
    GroupName, Guarantees, Offset, Order, Outcome, Position, PublishError, Publisher, PullError,
    RequestError, Settle, SettleError, Settlement, Start, SubscribeError, Subscriber, Subscription,
    Ticket, TopicName,
};

/// What a mutant gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing: for the control run.
    None,
    /// Every third published event is lost and acknowledged.
    LosesEvents,
    /// Every publish is done twice.
    DoublesEvents,
    /// The events of one publish are written in the reverse order.
    ReversesBatches,
    /// The first data byte of every event is changed.
    ChangesData,
    /// What is too large is left out, and the rest is acknowledged.
    SwallowsTooLarge,
    /// An empty publish writes a record.
    FillsEmptyPublishes,
    /// A settlement is answered and forgotten.
    ForgetsSettlements,
    /// A dropped settlement is not given back.
    KeepsDropped,
    /// Every attempt is the first.
    ForgetsAttempts,
    /// Every settlement spends the right, refused or not.
    SpendsTheRight,
    /// A stale settlement is answered with success.
    AcceptsStale,
    /// The events of a commit are published before its settlement is decided.
    SplitsCommits,
    /// The events of a commit are dropped.
    DropsEffects,
    /// A retry comes at once.
    RetriesAtOnce,
    /// A dead letter is settled and not kept.
    BuriesDeadLetters,
    /// All groups are one.
    MergesGroups,
    /// Every member is a group of its own.
    SplitsGroups,
    /// Every new group starts at the beginning.
    IgnoresStart,
    /// No order is kept.
    IgnoresOrder,
    /// One event of a partition at a time, whatever was asked for.
    OneAtATime,
    /// Twice the credit is given.
    GivesTooMuch,
    /// A pull may be dropped after it took something.
    TakesBeforeCancel,
    /// A fetch starts one place too far.
    FetchesTooFar,
    /// A fetch does not wait.
    NeverWaits,
    /// A fetch answers an error with nothing.
    HidesFetchErrors,
    /// A fetch has no bounds.
    IgnoresBounds,
    /// Topics are listed with one event more than they have.
    ListsTooMuch,
    /// A watch tells one event too many.
    WatchesTooFar,
    /// A request is answered with itself.
    EchoesRequests,
    /// A request waits for ever.
    WaitsForEver,
    /// A dead-lettered request is answered as a time-out.
    HidesDeadLetters,
}

/// A bus with a mutation.
pub struct Mutant {
    inner: Bus,
    mutation: Mutation,
    count: Arc<AtomicU64>,
}

impl Mutant {
    /// `inner`, with `mutation`.
    #[must_use]
    pub fn new(inner: Bus, mutation: Mutation) -> Self {
        Self {
            inner,
            mutation,
            count: Arc::default(),
        }
    }
}

/// The same event with other first data.
fn spoilt(event: Event) -> Event {
    let mut data = event.data().map(|d| d.to_vec()).unwrap_or_default();
    match data.first_mut() {
        Some(first) => *first ^= 1,
        None => data.push(b'x'),
    }
    let content_type = event.datacontenttype().map(str::to_owned);
    let builder = event.to_builder();
    let builder = match content_type {
        Some(content_type) => builder.data(content_type, data),
        None => builder.untyped_data(data),
    };
    builder.build().unwrap_or(event)
}

impl Publisher for Mutant {
    fn publish(
        &self,
        topic: TopicName,
        mut events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let (bus, mutation) = (self.inner.clone(), self.mutation);
        let count = Arc::clone(&self.count);
        Box::pin(async move {
            match mutation {
                Mutation::LosesEvents => {
                    let before = events.len();
                    events.retain(|_| count.fetch_add(1, Ordering::Relaxed) % 3 != 2);
                    let lost = before - events.len();
                    let mut positions = bus.publish(topic.clone(), events).await?;
                    let faked = Position {
                        topic,
                        partition: Default::default(),
                        offset: positions.last().map_or(Offset(0), |p| p.offset.next()),
                    };
                    positions.extend((0..lost).map(|_| faked.clone()));
                    Ok(positions)
                }
                Mutation::DoublesEvents => {
                    let positions = bus.publish(topic.clone(), events.clone()).await?;
                    bus.publish(topic, events).await?;
                    Ok(positions)
                }
                Mutation::SwallowsTooLarge => {
                    let result = bus.publish(topic.clone(), events.clone()).await;
                    if !matches!(result, Err(PublishError::TooLarge { .. })) {
                        return result;
                    }
                    events.truncate(1);
                    bus.publish(topic, events).await
                }
                Mutation::FillsEmptyPublishes if events.is_empty() => {
                    let filler = crate::conformance::tools::event(Some("k"), "filler");
                    bus.publish(topic, vec![filler]).await?;
                    Ok(Vec::new())
                }
                Mutation::ReversesBatches => {
                    events.reverse();
                    bus.publish(topic, events).await
                }
                Mutation::ChangesData => {
                    bus.publish(topic, events.into_iter().map(spoilt).collect())
                        .await
                }
                _ => bus.publish(topic, events).await,
            }
        })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let (bus, mutation) = (self.inner.clone(), self.mutation);
        Box::pin(async move {
            match mutation {
                Mutation::EchoesRequests => bus
                    .request(topic, event.clone(), timeout)
                    .await
                    .map(|_| event),
                Mutation::WaitsForEver => match bus.request(topic, event, timeout).await {
                    Err(RequestError::Timeout(_)) => std::future::pending().await,
                    other => other,
                },
                Mutation::HidesDeadLetters => match bus.request(topic, event, timeout).await {
                    Err(RequestError::DeadLettered(_)) => Err(RequestError::Timeout(timeout)),
                    other => other,
                },
                _ => bus.request(topic, event, timeout).await,
            }
        })
    }
}

impl Subscriber for Mutant {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn subscribe(
        &self,
        mut subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let (bus, mutation) = (self.inner.clone(), self.mutation);
        let name = |text: String| GroupName::new(text).expect("letters and digits are legal");
        match mutation {
            Mutation::MergesGroups => subscription.group = name("everybody".to_owned()),
            Mutation::SplitsGroups => {
                let number = self.count.fetch_add(1, Ordering::Relaxed);
                subscription.group = name(format!("{}{number}", subscription.group));
            }
            Mutation::IgnoresStart => subscription.start = Start::Beginning,
            Mutation::IgnoresOrder => subscription.order = Order::None,
            Mutation::OneAtATime => subscription.order = Order::PerPartition,
            _ => {}
        }
        Box::pin(async move {
            let member = bus.subscribe(subscription).await?;
            let mutant = MutantMember {
                inner: member,
                bus,
                mutation,
            };
            Ok(Box::new(mutant) as Box<dyn GroupMember>)
        })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let (bus, mutation) = (self.inner.clone(), self.mutation);
        Box::pin(async move {
            let mut topics = bus.topics().await?;
            if mutation == Mutation::ListsTooMuch {
                for bounds in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    bounds.end = bounds.end.next();
                }
            }
            Ok(topics)
        })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        Ok(Box::new(MutantWatch {
            inner: self.inner.watch()?,
            beyond: u64::from(self.mutation == Mutation::WatchesTooFar),
        }))
    }

    fn fetch(&self, mut fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let (bus, mutation) = (self.inner.clone(), self.mutation);
        match mutation {
            Mutation::FetchesTooFar => fetch.offset = fetch.offset.next(),
            Mutation::NeverWaits => fetch.wait = Duration::ZERO,
            Mutation::IgnoresBounds => (fetch.max_events, fetch.max_bytes) = (1000, 1 << 20),
            _ => {}
        }
        Box::pin(async move {
            let fetched = bus.fetch(fetch.clone()).await;
            if fetched.is_err() && mutation == Mutation::HidesFetchErrors {
                return Ok(Fetched {
                    events: Vec::new(),
                    next: fetch.offset,
                    end: fetch.offset,
                });
            }
            fetched
        })
    }
}

struct MutantWatch {
    inner: Box<dyn Watch>,
    beyond: u64,
}

impl Watch for MutantWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Advanced>, FetchError>> {
        Box::pin(async move {
            let mut told = self.inner.next().await?;
            for advanced in &mut told {
                advanced.end = advanced.end.plus(self.beyond);
            }
            Ok(told)
        })
    }
}

struct MutantMember {
    inner: Box<dyn GroupMember>,
    bus: Bus,
    mutation: Mutation,
}

impl GroupMember for MutantMember {
    fn pull(
        &mut self,
        credit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Delivery, Settlement)>, PullError>> {
        let mutation = self.mutation;
        let credit = match mutation {
            Mutation::GivesTooMuch => credit * 2,
            _ => credit,
        };
        Box::pin(async move {
            let taken = self.inner.pull(credit).await?;
            if mutation == Mutation::TakesBeforeCancel {
                tokio::task::yield_now().await;
            }
            let bus = &self.bus;
            let wrap = |(delivery, settlement)| wrapped(bus, mutation, delivery, settlement);
            Ok(taken.into_iter().map(wrap).collect())
        })
    }
}

fn wrapped(
    bus: &Bus,
    mutation: Mutation,
    mut delivery: Delivery,
    settlement: Settlement,
) -> (Delivery, Settlement) {
    if mutation == Mutation::ForgetsAttempts {
        delivery.attempt = Attempt(1);
    }
    let ticket = Ticket {
        position: delivery.position.clone(),
        generation: Default::default(),
        attempt: delivery.attempt,
    };
    let settler = MutantSettler {
        held: Arc::new(Mutex::new(Some(settlement))),
        bus: bus.clone(),
        mutation,
    };
    (delivery, Settlement::new(Arc::new(settler), ticket))
}

/// Stands between one settlement and its holder.
struct MutantSettler {
    held: Arc<Mutex<Option<Settlement>>>,
    bus: Bus,
    mutation: Mutation,
}

fn enter(held: &Mutex<Option<Settlement>>) -> MutexGuard<'_, Option<Settlement>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Settle for MutantSettler {
    fn settle(
        &self,
        _: Ticket,
        mut commit: Commit,
    ) -> BoxFuture<'static, Result<Vec<Position>, SettleError>> {
        let (bus, mutation, held) = (self.bus.clone(), self.mutation, Arc::clone(&self.held));
        Box::pin(async move {
            let mut settlement = enter(&held).take().ok_or(SettleError::Stale)?;
            match mutation {
                Mutation::ForgetsSettlements => return Ok(Vec::new()),
                Mutation::DropsEffects => commit.effects = Default::default(),
                Mutation::RetriesAtOnce => {
                    if let Outcome::Retry { after } = &mut commit.outcome {
                        *after = Duration::ZERO;
                    }
                }
                Mutation::BuriesDeadLetters => {
                    if matches!(commit.outcome, Outcome::DeadLetter { .. }) {
                        commit.outcome = Outcome::Ack;
                    }
                }
                Mutation::SplitsCommits => {
                    let mut positions = Vec::new();
                    for (topic, event) in std::mem::take(&mut commit.effects.events) {
                        let published = bus.publish(topic, vec![event]).await;
                        positions.extend(published.map_err(SettleError::Effect)?);
                    }
                    settlement.settle(commit).await?;
                    return Ok(positions);
                }
                _ => {}
            }
            match settlement.try_settle(commit).await {
                Err(SettleError::Stale) if mutation == Mutation::AcceptsStale => Ok(Vec::new()),
                settled => {
                    if settled.is_err() && mutation != Mutation::SpendsTheRight {
                        *enter(&held) = Some(settlement);
                    }
                    settled
                }
            }
        })
    }

    fn abandon(&self, _: Ticket) {
        let held = enter(&self.held).take();
        if self.mutation == Mutation::KeepsDropped {
            std::mem::forget(held);
        }
    }
}
