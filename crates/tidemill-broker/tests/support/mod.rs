//! What the broker's tests share: events, members, and a broker in both places.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

pub(crate) mod gate;
pub(crate) mod transacted;

use tempfile::TempDir;
use tidemill_broker::{Broker, Builder};
use tidemill_core::{
    Commit, Delivery, Effects, Event, EventId, EventType, Failure, GroupMember, GroupName, Key,
    Order, Outcome, Settlement, Source, Start, Subscription, TopicName,
};

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

pub(crate) fn event(id: impl std::fmt::Display, key: Option<&str>) -> Event {
    let id = EventId::new(id.to_string()).unwrap();
    let ty = EventType::new("made").unwrap();
    let builder = Event::builder(id, Source::new("/test").unwrap(), ty);
    let builder = builder.data("application/json", r#"{"n":12345678901234567890123}"#);
    match key {
        Some(key) => builder.key(&Key::new(key).unwrap()).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

/// `count` events `from`, `from` + 1 and so on, without keys.
pub(crate) fn events(from: usize, count: usize) -> Vec<Event> {
    (from..from + count).map(|n| event(n, None)).collect()
}

pub(crate) fn id(delivery: &Delivery) -> String {
    delivery.event.id().to_string()
}

pub(crate) fn ids(held: &[(Delivery, Settlement)]) -> Vec<String> {
    held.iter().map(|(delivery, _)| id(delivery)).collect()
}

pub(crate) async fn join(
    broker: &Broker,
    name: &str,
    of: &str,
    order: Order,
) -> Box<dyn GroupMember> {
    let subscription = Subscription {
        topics: vec![topic(of)],
        group: group(name),
        order,
        start: Start::Beginning,
    };
    broker.bus().subscribe(subscription).await.unwrap()
}

/// Takes exactly this many.
pub(crate) async fn take(
    member: &mut dyn GroupMember,
    count: usize,
) -> Vec<(Delivery, Settlement)> {
    let mut held = Vec::new();
    while held.len() < count {
        held.extend(member.pull(count - held.len()).await.unwrap());
    }
    held
}

/// Takes and settles this many; answers their ids.
pub(crate) async fn settle(member: &mut dyn GroupMember, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        for (delivery, settlement) in member.pull(count - seen.len()).await.unwrap() {
            settlement.settle(Commit::ack()).await.unwrap();
            seen.push(id(&delivery));
        }
    }
    seen
}

/// An acknowledgement with staged events.
pub(crate) fn ack_with(events: Vec<(TopicName, Event)>) -> Commit {
    Commit {
        outcome: Outcome::Ack,
        effects: Effects {
            events,
            ..Effects::default()
        },
    }
}

pub(crate) fn dead_letter(error: &str) -> Commit {
    let failure = Failure {
        reason: "error".into(),
        error: error.into(),
        attempts: 3,
        first: None,
        last: None,
        handler: Some("charge".into()),
        version: Some("1".into()),
    };
    Commit {
        outcome: Outcome::DeadLetter {
            failure: Box::new(failure),
        },
        effects: Effects::default(),
    }
}

/// A member of the group `by` gives up so many events of a topic, for this error.
pub(crate) async fn give_up(broker: &Broker, by: &str, of: &str, count: usize, error: &str) {
    let mut member = join(broker, by, of, Order::None).await;
    for (_, settlement) in take(&mut *member, count).await {
        settlement.settle(dead_letter(error)).await.unwrap();
    }
}

/// A folder that a broker can be opened on again and again.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub(crate) fn builder(&self) -> Builder {
        Broker::builder().path(self.0.path())
    }

    pub(crate) async fn open(&self) -> Broker {
        self.builder().open().await.unwrap()
    }
}

/// A broker in memory and one on disk, with what keeps its folder.
pub(crate) async fn both(with: impl Fn(Builder) -> Builder) -> Vec<(Broker, Option<Folder>)> {
    let folder = Folder::new();
    let memory = with(Broker::builder()).open().await.unwrap();
    let disk = with(folder.builder()).open().await.unwrap();
    vec![(memory, None), (disk, Some(folder))]
}
