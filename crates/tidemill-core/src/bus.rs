//! What a bus is: the traits that the embedded broker, the remote one and every adapter
//! implement, and [`Bus`], the erased handle that programs hold.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, CatalogueError};
use crate::delivery::{Delivery, Settlement};
use crate::error::{FetchError, PublishError, PullError, RequestError, SubscribeError};
use crate::event::Event;
use crate::name::{GroupName, TopicName};
use crate::position::{Offset, Partition, Position, TopicId};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who writes events.
pub trait Publisher: Send + Sync + 'static {
    /// Publishes events to one topic, all of them or none, in their order per key. Resolves with
    /// their positions when the flush policy is satisfied.
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>>;

    /// Publishes a request and waits for the answer of the handler that settles it.
    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>>;
}

/// Who reads events.
pub trait Subscriber: Send + Sync + 'static {
    /// What this bus gives, natively or emulated.
    fn guarantees(&self) -> Guarantees;

    /// Joins a group. Every group gets every event of its topics; the members of one group share
    /// them.
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>>;

    /// Reads a partition by offset, outside of any group.
    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>>;

    /// The topics there are, sorted by name, and what is kept of their partitions. A bus that
    /// cannot list them says so with an error, as this default does.
    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        Box::pin(std::future::ready(Err(unlisted())))
    }

    /// Begins to watch every partition, also those of topics that come later. What became
    /// durable before this call is not reported.
    ///
    /// # Errors
    /// A bus that cannot watch its partitions says so, as this default does.
    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        Err(unlisted())
    }
}

fn unlisted() -> FetchError {
    FetchError::Other("this bus does not list its topics; name a topic and a partition".into())
}

/// Tells which partitions have new durable events. Keeps one entry a partition at most, however
/// slow its holder is.
pub trait Watch: Send {
    /// Waits until a partition has durable events that this watch has not told of, then tells
    /// of all such partitions, each once, with its newest end. Events may be there to read a
    /// moment before they are told of.
    ///
    /// Cancel safe: dropped before it resolves, nothing was taken.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Advanced>, FetchError>>;
}

/// A partition that has new durable events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advanced {
    /// The topic.
    pub topic: TopicName,
    /// Which topic of that name, where the bus knows: one made again has another identity.
    pub id: Option<TopicId>,
    /// Its part.
    pub partition: Partition,
    /// Where what may be read ends: the offset that the next durable event gets, or where an
    /// open transaction begins.
    pub end: Offset,
}

/// A topic and what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicBounds {
    /// The topic.
    pub topic: TopicName,
    /// Which topic of that name, where the bus knows: one made again has another identity.
    pub id: Option<TopicId>,
    /// Its partitions, ascending.
    pub partitions: Vec<PartitionBounds>,
}

/// A partition and what is kept of it: the offsets from `earliest` until before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBounds {
    /// Which one.
    pub partition: Partition,
    /// The first offset kept.
    pub earliest: Offset,
    /// Where what may be read ends: the offset that the next durable event gets, or where an
    /// open transaction begins.
    pub end: Offset,
}

/// One member of a group. Dropping it leaves the group: what it holds and has not settled goes
/// to others.
pub trait GroupMember: Send {
    /// Waits for at least one event and takes at most `credit` of them. Within a key (or a
    /// partition, as the subscription's order says) they come in the order of their offsets.
    ///
    /// Cancel safe: dropped before it resolves, nothing was taken.
    fn pull(
        &mut self,
        credit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Delivery, Settlement)>, PullError>>;

    /// Tells the bus what the program does with the events of this member, for those who look at
    /// the bus; it is forgotten with the member, and said again it takes the place of what was
    /// said before. Events come whatever becomes of it. A bus that keeps no catalogues does
    /// nothing, as this default does.
    ///
    /// # Errors
    /// [`CatalogueError`], where the bus keeps no more of them.
    fn describe(&mut self, catalogue: Arc<Catalogue>) -> Result<(), CatalogueError> {
        drop(catalogue);
        Ok(())
    }

    /// Says that what this member gives is handled in this very process, so that an event whose
    /// handler ends the process can end it. A bus that lives in the process can tell such an event
    /// from others when it is opened again, and gives it up after a number of times. The number of
    /// an attempt does not count those that ended so: an event that was only beside the culprit
    /// keeps all of its retries. To be called before the first pull. A bus that does
    /// not share the process of its handlers does nothing, as this default does.
    fn handled_here(&mut self) {}
}

/// Which order a subscription keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// One event of a key in flight; different keys in parallel, whatever the number of
    /// partitions.
    #[default]
    PerKey,
    /// One event of a partition in flight.
    PerPartition,
    /// Any event at any time.
    None,
}

/// Where a new group begins. A group that exists goes on where it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest event kept.
    #[default]
    Beginning,
    /// With the first event published after the subscription.
    End,
    /// At this offset in every partition; one that has fewer events begins with its next one, and
    /// one that keeps only later ones with the oldest of them. At least one partition must have it.
    At(Offset),
}

/// What a member of a group asks for.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topics to read, at least one.
    pub topics: Vec<TopicName>,
    /// The group to be a member of.
    pub group: GroupName,
    /// The order to keep.
    pub order: Order,
    /// Where a new group begins.
    pub start: Start,
}

/// A read by offset.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The topic.
    pub topic: TopicName,
    /// Its part.
    pub partition: Partition,
    /// The first offset wanted.
    pub offset: Offset,
    /// Most events to return.
    pub max_events: usize,
    /// Most bytes to return; at least one event is returned where there is one.
    pub max_bytes: usize,
    /// How long to wait for the first event when there is none yet.
    pub wait: Duration,
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The events with their offsets, ascending.
    pub events: Vec<(Offset, Arc<Event>)>,
    /// Where to read on.
    pub next: Offset,
    /// The offset that the next durable event gets (the high watermark).
    pub end: Offset,
}

/// How a bus gives something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// By itself.
    Native,
    /// Tidemill adds it.
    Emulated,
    /// Not at all; asking for it is refused at start.
    Refused,
}

/// What a bus gives. Asked for more, it refuses at start with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarantees {
    /// Every acknowledged event reaches every group at least once.
    pub at_least_once: Support,
    /// One event of a key in flight while other keys go on.
    pub order_per_key: Support,
    /// A handler's settlement and returned events are one commit.
    pub atomic_handler_commit: Support,
    /// Reading again from any position kept.
    pub replay: Support,
}

/// What [`Bus`] erases: anything that both publishes and subscribes.
trait Engine: Publisher + Subscriber {}
impl<T: Publisher + Subscriber> Engine for T {}

/// The handle on a bus, whichever it is. Clones share it.
#[derive(Clone)]
pub struct Bus {
    engine: Arc<dyn Engine>,
}

impl Bus {
    /// Wraps an implementation.
    pub fn new(engine: impl Publisher + Subscriber) -> Self {
        Self {
            engine: Arc::new(engine),
        }
    }

    /// See [`Publisher::publish`].
    ///
    /// # Errors
    /// As the bus says; see [`PublishError`].
    pub async fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> Result<Vec<Position>, PublishError> {
        self.engine.publish(topic, events).await
    }

    /// See [`Publisher::request`].
    ///
    /// # Errors
    /// As the bus says; see [`RequestError`].
    pub async fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> Result<Event, RequestError> {
        self.engine.request(topic, event, timeout).await
    }

    /// See [`Subscriber::subscribe`].
    ///
    /// # Errors
    /// As the bus says; see [`SubscribeError`].
    pub async fn subscribe(
        &self,
        subscription: Subscription,
    ) -> Result<Box<dyn GroupMember>, SubscribeError> {
        self.engine.subscribe(subscription).await
    }

    /// See [`Subscriber::fetch`].
    ///
    /// # Errors
    /// As the bus says; see [`FetchError`].
    pub async fn fetch(&self, fetch: Fetch) -> Result<Fetched, FetchError> {
        self.engine.fetch(fetch).await
    }

    /// See [`Subscriber::topics`].
    ///
    /// # Errors
    /// As the bus says; see [`FetchError`].
    pub async fn topics(&self) -> Result<Vec<TopicBounds>, FetchError> {
        self.engine.topics().await
    }

    /// See [`Subscriber::watch`].
    ///
    /// # Errors
    /// As the bus says; see [`FetchError`].
    pub fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        self.engine.watch()
    }

    /// See [`Subscriber::guarantees`].
    #[must_use]
    pub fn guarantees(&self) -> Guarantees {
        self.engine.guarantees()
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("guarantees", &self.guarantees())
            .finish()
    }
}
