//! What the checks share: events with known contents, bounded waits, and a member that collects.

use std::future::Future;
use std::time::Duration;

use tidemill_core::{
    Bus, Commit, Delivery, Event, EventId, EventType, Fetch, GroupMember, GroupName, Key, Offset,
    Order, Partition, Position, Settlement, Source, Start, Subscription, TopicName,
};

use super::{Instance, Violation};

pub(super) type Checked<T = ()> = Result<T, Violation>;

/// Fails with the given words unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::conformance::Violation(format!($($words)+)));
        }
    };
}
pub(super) use ensure;

/// An event whose id says which it is.
pub(super) fn event(key: Option<&str>, id: &str) -> Event {
    let named = Event::builder(
        EventId::new(id.to_owned()).expect("the suite's ids are legal"),
        Source::new("/conformance").expect("a legal source"),
        EventType::new("conformance").expect("a legal type"),
    )
    .untyped_data(format!("{{\"id\":\"{id}\"}}"));
    let keyed = match key {
        Some(key) => named.key(&Key::new(key.to_owned()).expect("the suite's keys are legal")),
        None => named,
    };
    keyed.build().expect("every part was checked")
}

/// Events `0..count` of one key: ids `<key>-0`, `<key>-1` and so on.
pub(super) fn events(key: &str, count: usize) -> Vec<Event> {
    (0..count)
        .map(|n| event(Some(key), &format!("{key}-{n}")))
        .collect()
}

pub(super) fn ids(deliveries: &[(Delivery, Settlement)]) -> Vec<String> {
    deliveries.iter().map(|(d, _)| id(d)).collect()
}

pub(super) fn id(delivery: &Delivery) -> String {
    delivery.event.id().as_str().to_owned()
}

pub(super) fn group(name: &str) -> GroupName {
    GroupName::new(name.to_owned()).expect("the suite's group names are legal")
}

impl Instance {
    /// Waits for what must come.
    pub(super) async fn within<T>(&self, what: &str, wait: impl Future<Output = T>) -> Checked<T> {
        tokio::time::timeout(self.patience, wait)
            .await
            .map_err(|_| Violation(format!("{what}: nothing came within {:?}", self.patience)))
    }

    pub(super) async fn publish(
        &self,
        topic: &TopicName,
        events: Vec<Event>,
    ) -> Checked<Vec<Position>> {
        let count = events.len();
        let published = self.bus.publish(topic.clone(), events);
        let positions = self
            .within("publish", published)
            .await?
            .map_err(|error| Violation(format!("publish failed: {error}")))?;
        ensure!(
            positions.len() == count,
            "{count} events were published and {} positions came back",
            positions.len()
        );
        Ok(positions)
    }

    pub(super) async fn join(
        &self,
        topic: &TopicName,
        name: &str,
        order: Order,
        start: Start,
    ) -> Checked<Member<'_>> {
        let subscription = Subscription {
            topics: vec![topic.clone()],
            group: group(&format!("{}{name}", self.prefix)),
            order,
            start,
        };
        let member = self
            .within("subscribe", self.bus.subscribe(subscription))
            .await?
            .map_err(|error| Violation(format!("subscribe failed: {error}")))?;
        Ok(Member {
            instance: self,
            member,
        })
    }

    /// Everything that is in the partition of `position`, from its beginning.
    pub(super) async fn all_of(&self, position: &Position) -> Checked<Vec<(Offset, String)>> {
        let read = fetch(&position.topic, position.partition, Offset(0));
        let fetched = self
            .within("fetch", self.bus.fetch(read))
            .await?
            .map_err(|error| Violation(format!("fetch failed: {error}")))?;
        let named = fetched.events.iter();
        Ok(named
            .map(|(offset, event)| (*offset, event.id().as_str().to_owned()))
            .collect())
    }
}

/// A fetch with wide bounds that does not wait.
pub(super) fn fetch(topic: &TopicName, partition: Partition, offset: Offset) -> Fetch {
    Fetch {
        topic: topic.clone(),
        partition,
        offset,
        max_events: 10_000,
        max_bytes: 16 * 1024 * 1024,
        wait: Duration::ZERO,
    }
}

/// A member of a group whose waits are bounded.
pub(super) struct Member<'a> {
    instance: &'a Instance,
    pub(super) member: Box<dyn GroupMember>,
}

impl Member<'_> {
    /// Pulls once.
    pub(super) async fn pull(&mut self, credit: usize) -> Checked<Vec<(Delivery, Settlement)>> {
        let taken = self
            .instance
            .within("pull", self.member.pull(credit))
            .await?
            .map_err(|error| Violation(format!("pull failed: {error}")))?;
        ensure!(!taken.is_empty(), "a pull resolved without an event");
        Ok(taken)
    }

    /// Pulls until `count` deliveries are held.
    pub(super) async fn take(&mut self, count: usize) -> Checked<Vec<(Delivery, Settlement)>> {
        let mut held = Vec::new();
        while held.len() < count {
            let more = self.pull(count - held.len()).await.map_err(|why| {
                Violation(format!("{why}; {} of {count} deliveries came", held.len()))
            })?;
            held.extend(more);
        }
        Ok(held)
    }

    /// Exactly one delivery.
    pub(super) async fn one(&mut self) -> Checked<(Delivery, Settlement)> {
        let mut taken = self.pull(1).await?;
        ensure!(
            taken.len() == 1,
            "a credit of 1 gave {} events",
            taken.len()
        );
        taken
            .pop()
            .ok_or_else(|| Violation("a pull resolved without an event".to_owned()))
    }

    /// Takes and settles events one by one until the one with the id `last` came. Returns all
    /// ids in the order of their delivery, `last` included.
    pub(super) async fn settle_until(&mut self, last: &str) -> Checked<Vec<String>> {
        let mut seen = Vec::new();
        loop {
            let (delivery, settlement) = self.one().await?;
            let id = id(&delivery);
            ensure!(!seen.contains(&id), "{id} came again after it was settled");
            seen.push(id);
            ack(settlement).await?;
            if seen.last().is_some_and(|id| id == last) {
                return Ok(seen);
            }
            ensure!(
                seen.len() < 10_000,
                "{last} does not come; 10,000 others did"
            );
        }
    }
}

/// Settles without effects.
pub(super) async fn ack(settlement: Settlement) -> Checked {
    let settled = settlement.settle(Commit::ack()).await;
    settled
        .map(|_| ())
        .map_err(|error| Violation(format!("a fresh settlement was refused: {error}")))
}

/// The bus, for checks that look at an error.
pub(super) fn bus(instance: &Instance) -> &Bus {
    &instance.bus
}
