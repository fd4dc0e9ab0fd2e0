//! The handle on an open broker, and what its parts share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tidemill_core::budget::Budget;
use tidemill_core::partition::partition_of;
use tidemill_core::{Bus, Event, GroupName, Partition, Position, PublishError, TopicId, TopicName};
use tidemill_log::driver::Handle;
use tidemill_log::{Batch, BatchBuilder, CommitError, OpenError, PartitionId};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::builder::{Builder, Settings};
use crate::catalog::Catalog;
use crate::classic::Classics;
use crate::consumer::Consumers;
use crate::encode::{Bounds, Places, Sorted, sort};
use crate::group::{DEAD_LETTER_MAX_BYTES, Group};
use crate::handlers::Registry;
use crate::inbox::Inboxes;
use crate::info::Health;
use crate::machine::{
    Append, BrokerMachine, Client, Durable, Marks, Operation, Receipt, Refusal, Topic,
};
use crate::metrics::{Counters, Metrics};
use crate::original::{Letter, Originals, Written};
use crate::producer::Ids;
use crate::queue::Queues;
use crate::seen::Seen;
use crate::share::Shares;
use crate::transaction::{Alarm, Stable};
use crate::watch::{Closed, Listening};

/// An embedded broker. Clones share it; when the last one is gone it closes by itself, in the
/// background. It is a [`Publisher`](tidemill_core::Publisher) and a
/// [`Subscriber`](tidemill_core::Subscriber).
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
    /// Who publishes with this handle.
    pub(crate) client: Client,
}

/// What the parts of a broker share. Members and settlements hold it too: a broker is open as
/// long as somebody uses it.
pub(crate) struct Inner {
    pub(crate) handle: Handle<BrokerMachine>,
    pub(crate) durable: Arc<Durable>,
    pub(crate) listening: Arc<Listening>,
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) producer_ids: Ids,
    /// What members say they handle.
    pub(crate) handlers: Arc<Registry>,
    /// Who published what where.
    pub(crate) seen: Seen,
    pub(crate) closed: Closed,
    /// The groups that had members since the broker was opened. Locked for a look-up.
    groups: Mutex<HashMap<GroupName, Arc<Group>>>,
    /// The classic groups that were used since the broker was opened.
    pub(crate) classics: Classics,
    /// The consumer groups that were used since the broker was opened.
    pub(crate) consumers: Consumers,
    /// The share groups that were used since the broker was opened.
    pub(crate) shares: Shares,
    /// The queues that are in use, and all that are in memory alone.
    pub(crate) queues: Queues,
    /// Reads records again that are given up.
    pub(crate) originals: Arc<Originals>,
    /// Where the next event without a key goes.
    round: AtomicU32,
    opened: Instant,
}

impl Inner {
    pub(crate) fn new(
        handle: Handle<BrokerMachine>,
        durable: Arc<Durable>,
        listening: Arc<Listening>,
        settings: Settings,
    ) -> Self {
        // Names made by an older process, or another broker, are never met again.
        let inboxes = Inboxes::new(&Uuid::now_v7().simple().to_string());
        Self {
            producer_ids: Ids::new(handle.epoch()),
            handle,
            durable,
            listening,
            settings,
            counters: Counters::default(),
            inboxes: Arc::new(inboxes),
            handlers: Arc::default(),
            seen: Seen::default(),
            closed: Arc::new(AtomicBool::new(false)),
            groups: Mutex::default(),
            classics: Classics::default(),
            consumers: Consumers::default(),
            shares: Shares::default(),
            queues: Queues::default(),
            originals: Arc::default(),
            round: AtomicU32::new(0),
            opened: Instant::now(),
        }
    }

    /// The time since the broker was opened; for waiting.
    pub(crate) fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, HashMap<GroupName, Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many members a group has that are clients of Kafka.
    pub(crate) fn kafka_members(&self, group: &GroupName) -> usize {
        let partitions = self.classics.member_count(group) + self.consumers.member_count(group);
        partitions + self.shares.member_count(self, group)
    }

    /// After a good end no event that was given out before has ended the process: what was noted
    /// of such is forgotten.
    pub(crate) fn forget_marks(&self) {
        if self.handle.after_bad_end() {
            return;
        }
        let groups = self.durable.state().marked_groups();
        for (group, marks) in groups {
            let epoch = self.handle.epoch();
            let marks = Marks {
                group,
                epoch,
                marks,
            };
            // Where this is not kept, one life is counted that was none.
            self.handle.submit(Operation::Mark(marks), |_| {});
        }
    }

    /// A group has no memory and finds none: the one with the most events that wait gives theirs
    /// back.
    pub(crate) fn shed_for(&self, but: &Arc<Group>) {
        let others = self.groups().values().cloned().collect::<Vec<_>>();
        let others = others.into_iter().filter(|group| !Arc::ptr_eq(group, but));
        let most = others.max_by_key(|group| group.waiting());
        if let Some(group) = most.filter(|group| group.waiting() > 0) {
            group.shed();
        }
    }

    /// What of a partition may be read by those who want only what is decided. `None` where
    /// there is no such partition.
    pub(crate) fn stable(&self, id: PartitionId) -> Option<Stable> {
        let bounds = self.handle.reader().bounds(id)?;
        Some(self.durable.stability.stable(id, bounds))
    }

    /// A topic as it is to be made by its first use.
    pub(crate) fn fresh_topic(&self) -> Topic {
        Topic {
            id: TopicId(Uuid::now_v7()),
            partitions: self.settings.default_partitions,
        }
    }

    /// Has the log do something, and waits until it is durable. Dropped before that, it is done
    /// all the same.
    pub(crate) async fn submit(
        &self,
        operation: Operation,
    ) -> Result<Receipt, CommitError<Refusal>> {
        self.submit_then(operation, |_| {}).await
    }

    /// As [`Inner::submit`]; what follows from it happens before anything that is submitted
    /// later to the same lane (see [`tidemill_log::Demand::lane`]), and also when nobody waits
    /// for the answer any longer.
    pub(crate) async fn submit_then(
        &self,
        operation: Operation,
        then: impl FnOnce(&Result<Receipt, CommitError<Refusal>>) + Send + 'static,
    ) -> Result<Receipt, CommitError<Refusal>> {
        let (sender, receiver) = oneshot::channel();
        self.handle.submit(operation, move |answer| {
            then(&answer);
            // Nobody may wait any longer.
            let _ = sender.send(answer);
        });
        receiver.await.unwrap_or_else(|_| {
            let why = "the broker was dropped before it answered";
            Err(CommitError::Indeterminate(why.into()))
        })
    }

    /// Whether a queue has this name, in `catalog` or in memory alone.
    pub(crate) fn is_queue(&self, catalog: &Catalog, name: &TopicName) -> bool {
        match catalog.topic(name) {
            Some(topic) => catalog.is_queue(topic.id),
            None => self.queues.in_memory(name),
        }
    }

    /// Events for one topic as records: for the topic as it is, or (if `create`) as it is to be
    /// made.
    pub(crate) fn encode(
        &self,
        name: &TopicName,
        create: bool,
        events: &[Event],
    ) -> Result<(Append, Places), PublishError> {
        self.encode_within(name, create, events, self.publish_bounds())
    }

    /// What one publish may have: the data of an event, and all events together, in bytes.
    pub(crate) fn publish_bounds(&self) -> (usize, usize) {
        let settings = &self.settings;
        (settings.event_max_bytes, settings.publish_max_bytes)
    }

    /// As [`Inner::encode`], within other bounds than those of a publish.
    pub(crate) fn encode_within(
        &self,
        name: &TopicName,
        create: bool,
        events: &[Event],
        max_bytes: (usize, usize),
    ) -> Result<(Append, Places), PublishError> {
        let (route, create) = self.route(name, create)?;
        let bounds = match max_bytes == DEAD_LETTER_MAX_BYTES {
            // It is not lost for a bound of its topic.
            true => Bounds::BATCH,
            false => self.bounds(route, max_bytes),
        };
        let events = events.iter().map(|event| (event, None));
        let sorted = self.sort(route, events, bounds, |_, builder| builder)?;
        let (batches, places) = sorted.split(name.clone());
        Ok((appended(name, (route, create), batches), places))
    }

    /// Dead letters as records, for their topic, which is made where there is none.
    pub(crate) fn encode_letters(
        &self,
        name: &TopicName,
        letters: &[Letter],
    ) -> Result<(Append, Places), PublishError> {
        let (route, create) = self.route(name, true)?;
        let bounds = Bounds::BATCH;
        let letters = letters.iter();
        let events = letters.map(|letter| (&letter.event, letter.original.as_ref()));
        let sorted = self.sort(route, events, bounds, |_, builder| builder)?;
        let (batches, places) = sorted.split(name.clone());
        Ok((appended(name, (route, create), batches), places))
    }

    /// One record, as it was written, for a topic that is there. It goes to the partition that it
    /// came from where this is its topic, as whoever wrote it has chosen that.
    pub(crate) fn encode_record(
        &self,
        name: &TopicName,
        record: &Written,
        origin: &Position,
    ) -> Result<(Append, Partition), PublishError> {
        let (route, create) = self.route(name, false)?;
        let is_back = origin.topic == *name && origin.partition.0 < route.partitions;
        let partition = match &record.key {
            _ if is_back => origin.partition,
            Some(key) => partition_of(key, route.partitions),
            None => {
                let turn = self.round.fetch_add(1, Ordering::Relaxed);
                Partition(turn % route.partitions.max(1))
            }
        };
        let batch = record.to_batch(Timestamp::now().as_millisecond())?;
        let append = appended(name, (route, create), vec![(partition, batch)]);
        Ok((append, partition))
    }

    /// A topic as it is, or (if `create`) as it is to be made, and whether it is.
    fn route(&self, name: &TopicName, create: bool) -> Result<(Topic, bool), PublishError> {
        // Only under an id of its own: one that is deleted meanwhile never comes back.
        let catalog = self.durable.catalog();
        if self.is_queue(&catalog, name) {
            return Err(PublishError::IsQueue(name.clone()));
        }
        match catalog.topic(name) {
            Some(topic) => Ok((topic, false)),
            None if create => Ok((self.fresh_topic(), true)),
            None => Err(PublishError::UnknownTopic(name.clone())),
        }
    }

    /// Events as one batch a partition of `route`; `stamp` may mark the batches.
    pub(crate) fn encode_for(
        &self,
        name: &TopicName,
        route: Topic,
        events: &[Event],
        stamp: impl Fn(Partition, BatchBuilder) -> BatchBuilder,
    ) -> Result<(Vec<(Partition, Batch)>, Places), PublishError> {
        let bounds = self.bounds(route, self.publish_bounds());
        let events = events.iter().map(|event| (event, None));
        let sorted = self.sort(route, events, bounds, stamp)?;
        Ok(sorted.split(name.clone()))
    }

    /// These bounds, and the topic's own.
    pub(crate) fn bounds(
        &self,
        route: Topic,
        (event_bytes, publish_bytes): (usize, usize),
    ) -> Bounds {
        let reader = self.handle.reader();
        let first = route.partition_ids().next();
        let settings = first.and_then(|first| reader.settings(first));
        let batch_bytes = settings.and_then(|settings| settings.batch_max_bytes);
        let batch_bytes = batch_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Bounds {
            event_bytes,
            publish_bytes,
            batch_bytes: batch_bytes.unwrap_or(usize::MAX),
        }
    }

    fn sort<'a>(
        &self,
        route: Topic,
        events: impl Iterator<Item = (&'a Event, Option<&'a Bytes>)>,
        bounds: Bounds,
        stamp: impl Fn(Partition, BatchBuilder) -> BatchBuilder,
    ) -> Result<Sorted, PublishError> {
        let round = || self.round.fetch_add(1, Ordering::Relaxed);
        let now_ms = Timestamp::now().as_millisecond();
        sort(events, route, bounds, now_ms, round, stamp)
    }
}

/// Batches for a topic as it is, or as it is to be made.
fn appended(
    name: &TopicName,
    (route, create): (Topic, bool),
    batches: Vec<(Partition, Batch)>,
) -> Append {
    Append {
        topic: name.clone(),
        client: Client::Any,
        route,
        create,
        batches,
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.durable.alarm.close();
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Closing waits for the disk, and this may be an async worker.
        let handle = self.handle.clone();
        let name = "tidemill-close".to_owned();
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || handle.close());
        if let Err(error) = spawned {
            tracing::warn!(%error, "could not close in the background; what is durable is kept");
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Broker {
    pub(crate) fn of(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        Alarm::watch_over(&inner);
        let client = Client::Any;
        Self { inner, client }
    }

    /// A handle on the same broker whose publishes take turns with those of other numbers, also
    /// where they go to the same topic: who publishes much waits behind itself. Publishes of one
    /// number to one topic keep the order in which they were begun; between two numbers there is
    /// none but that of what was acknowledged before the other began. Handles without a number
    /// are one publisher together.
    #[must_use]
    pub fn as_client(&self, number: u64) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            client: Client::Numbered(number),
        }
    }

    /// A handle on what is open already.
    pub(crate) fn with(inner: &Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(inner),
            client: Client::Any,
        }
    }

    /// Settings, then [`Builder::open`].
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Opens the broker whose data is in this folder, which is made where there is none.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the folder, and what to do.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder().path(path).open().await
    }

    /// A broker that keeps everything in memory and is gone with the process. It refuses writes
    /// when it has [`IN_MEMORY_MAX_BYTES`](crate::limits::IN_MEMORY_MAX_BYTES).
    ///
    /// # Panics
    /// Where the process can start no more threads.
    #[must_use]
    pub fn in_memory() -> Self {
        let opened = Self::builder().open_blocking();
        opened.expect("an empty disk in memory has nothing that could be wrong")
    }

    /// The handle that programs use.
    #[must_use]
    pub fn bus(&self) -> Bus {
        Bus::new(self.clone())
    }

    /// Whether it takes writes.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.inner.closed.load(Ordering::Acquire) {
            return Health::Closed;
        }
        match self.inner.handle.health() {
            tidemill_log::Health::Ready => Health::Ready,
            tidemill_log::Health::Full(why) => Health::Full(why),
            tidemill_log::Health::ReadOnly(why) => Health::ReadOnly(why.to_string()),
        }
    }

    /// How many times the data was opened, this time included; also the epoch of its leader.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.inner.handle.epoch()
    }

    /// The identity of its data: the same at every opening.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.inner.handle.id()
    }

    /// The memory of everything that is on its way, which doors may take theirs from: see
    /// [`Builder::memory`].
    #[must_use]
    pub fn memory(&self) -> &Budget {
        &self.inner.settings.memory
    }

    /// Most bytes of the events of one publish: 24 MiB, or less where the memory is small.
    #[must_use]
    pub fn publish_max_bytes(&self) -> usize {
        self.inner.settings.publish_max_bytes
    }

    /// What it did since it was opened.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.counters.snapshot(self.inner.handle.stats())
    }

    /// Takes nothing more in, waits until everything that was taken in is durable, writes a
    /// checkpoint and lets the data go. Members and long polls are told. Closing twice is
    /// closing once.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.durable.alarm.close();
        self.inner.listening.wake_all();
        self.inner.queues.wake_all();
        self.inner.classics.close();
        self.inner.consumers.close();
        self.inner.shares.close(&self.inner);
        let handle = self.inner.handle.clone();
        // It waits for the disk. A panic in it was told on its own thread.
        let _ = tokio::task::spawn_blocking(move || handle.close()).await;
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
