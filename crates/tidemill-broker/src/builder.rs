//! How a broker is opened.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::budget::Budget;
use tidemill_core::limits::EVENT_DATA_MAX_BYTES;
use tidemill_log::driver::{self, FileDisk, MemoryDisk};
use tidemill_log::{Disk, FlushPolicy, OpenError, Options};

use crate::broker::{Broker, Inner};
use crate::limits::{
    CLASSIC_INITIAL_DELAY, CLASSIC_SESSION_MAX, CLASSIC_SESSION_MIN, COMMITS_RETENTION,
    CONSUMER_HEARTBEAT_INTERVAL, CONSUMER_HEARTBEAT_INTERVAL_MIN, CONSUMER_SESSION_TIMEOUT,
    CRASHES_MAX, IN_MEMORY_MAX_BYTES, PRODUCER_ID_EXPIRATION, PUBLISH_MAX_BYTES,
    TOPIC_PARTITIONS_MAX,
};
use crate::machine::{BrokerMachine, UnknownEffect};
use crate::watch::Listening;

/// Where the data is.
#[derive(Clone)]
enum Place {
    Path(PathBuf),
    Memory { max_bytes: u64 },
    Disk(Arc<dyn Disk>),
}

/// What the broker does by itself.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) auto_create_topics: bool,
    pub(crate) default_partitions: u32,
    pub(crate) event_max_bytes: usize,
    /// Most bytes of the events of one publish.
    pub(crate) publish_max_bytes: usize,
    /// The memory of everything that is on its way.
    pub(crate) memory: Budget,
    pub(crate) producer_id_expiration: Duration,
    /// How long an empty classic group waits for more than its first member.
    pub(crate) classic_initial_delay: Duration,
    /// Shortest session timeout of a member of a classic group.
    pub(crate) classic_session_min: Duration,
    /// How often members of consumer groups are to be heard of.
    pub(crate) consumer_heartbeat_interval: Duration,
    /// How long a member of a consumer group may be silent.
    pub(crate) consumer_session_timeout: Duration,
    /// How long positions of classic groups without members are kept.
    pub(crate) commits_retention: Duration,
    /// How often an event may end the process before it is given up.
    pub(crate) crashes_max: u32,
}

/// Settings of a broker. Made by [`Broker::builder`]; without a place it is in memory.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    place: Place,
    settings: Settings,
    flush: FlushPolicy,
    scrub_bytes_per_second: u64,
    retention_look_every: Option<Duration>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            place: Place::Memory {
                max_bytes: IN_MEMORY_MAX_BYTES,
            },
            settings: Settings {
                auto_create_topics: true,
                default_partitions: 1,
                event_max_bytes: EVENT_DATA_MAX_BYTES,
                publish_max_bytes: PUBLISH_MAX_BYTES,
                memory: Budget::default(),
                producer_id_expiration: PRODUCER_ID_EXPIRATION,
                classic_initial_delay: CLASSIC_INITIAL_DELAY,
                classic_session_min: CLASSIC_SESSION_MIN,
                consumer_heartbeat_interval: CONSUMER_HEARTBEAT_INTERVAL,
                consumer_session_timeout: CONSUMER_SESSION_TIMEOUT,
                commits_retention: COMMITS_RETENTION,
                crashes_max: CRASHES_MAX,
            },
            flush: FlushPolicy::EveryCommit,
            scrub_bytes_per_second: 0,
            retention_look_every: None,
        }
    }

    /// Keeps the data in this folder, which is made where there is none.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Path(path.into());
        self
    }

    /// Keeps the data in memory; with this many bytes used, writes are refused.
    pub fn in_memory(mut self, max_bytes: u64) -> Self {
        self.place = Place::Memory { max_bytes };
        self
    }

    /// Keeps the data on this disk: for simulated and special ones.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.place = Place::Disk(disk);
        self
    }

    /// When a write is acknowledged; every commit is synced unless told otherwise.
    pub fn flush(mut self, policy: FlushPolicy) -> Self {
        self.flush = policy;
        self
    }

    /// How many bytes of closed segments are read again and checked each second, on the average,
    /// so that damage is known before it is met: none unless told otherwise. A pass begins once
    /// an hour at most. See [`Broker::scrub`].
    pub fn scrub_bytes_per_second(mut self, bytes: u64) -> Self {
        self.scrub_bytes_per_second = bytes;
        self
    }

    /// Whether a topic is made by its first use; it is unless told otherwise.
    pub fn auto_create_topics(mut self, on: bool) -> Self {
        self.settings.auto_create_topics = on;
        self
    }

    /// How many partitions a topic has that is made by its first use: 1 unless told otherwise,
    /// at most [`TOPIC_PARTITIONS_MAX`].
    pub fn default_partitions(mut self, count: u32) -> Self {
        self.settings.default_partitions = count.clamp(1, TOPIC_PARTITIONS_MAX);
        self
    }

    /// Largest data of one event in bytes: 16 MiB unless told otherwise, and no more than one
    /// publish may have.
    pub fn event_max_bytes(mut self, max: usize) -> Self {
        self.settings.event_max_bytes = max.min(PUBLISH_MAX_BYTES);
        self
    }

    /// Bytes of memory for all that is on its way: what is in no segment yet, what waits to be
    /// written, buffers of reads, events of groups that are not settled, and what doors of this
    /// broker hold. 512 MiB unless told otherwise, at least
    /// [`MEMORY_MIN_BYTES`](tidemill_core::limits::MEMORY_MIN_BYTES). One publish has at most
    /// three quarters of a sixteenth of it, so that it always fits: with the default that is
    /// more than a publish may have anyway. What an in-memory broker keeps is not part of it.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.settings.memory = Budget::new(bytes);
        self
    }

    /// After how long without a batch a producer is forgotten in a partition: 24 hours unless
    /// told otherwise. Each opening of the broker begins the waiting anew.
    pub fn producer_id_expiration(mut self, after: Duration) -> Self {
        self.settings.producer_id_expiration = after;
        self
    }

    /// How long a classic group that was empty waits for more members than its first one, so that
    /// those that are started together share one generation: 300 ms unless told otherwise.
    pub fn classic_initial_delay(mut self, delay: Duration) -> Self {
        self.settings.classic_initial_delay = delay;
        self
    }

    /// Shortest session timeout that a member of a classic group may ask for: 6 seconds unless
    /// told otherwise, at most [`CLASSIC_SESSION_MAX`].
    pub fn classic_session_min(mut self, min: Duration) -> Self {
        self.settings.classic_session_min = min.min(CLASSIC_SESSION_MAX);
        self
    }

    /// How often members of consumer groups are told to be heard of: every 5 seconds unless told
    /// otherwise, at least [`CONSUMER_HEARTBEAT_INTERVAL_MIN`]. A partition that one member gives
    /// back is another's after up to two of them.
    pub fn consumer_heartbeat_interval(mut self, every: Duration) -> Self {
        let every = every.max(CONSUMER_HEARTBEAT_INTERVAL_MIN);
        self.settings.consumer_heartbeat_interval = every;
        self
    }

    /// How long a member of a consumer group may be silent before it is taken out: 45 seconds
    /// unless told otherwise.
    pub fn consumer_session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.consumer_session_timeout = timeout;
        self
    }

    /// How long the positions of a classic group are kept that has no members and gets no
    /// commits: 7 days unless told otherwise. Each opening of the broker begins the waiting anew.
    pub fn commits_retention(mut self, keep: Duration) -> Self {
        self.settings.commits_retention = keep;
        self
    }

    /// How many times an event is given out to handlers of this process, each time noted before,
    /// until it becomes a dead letter because the process ended each time: 3 unless told
    /// otherwise, 0 for never. The end of the process after which the noting begins is not
    /// counted. It holds for members that [said](tidemill_core::GroupMember::handled_here) that
    /// they handle here, as those of the crate `tidemill` do.
    pub fn crashes_max(mut self, times: u32) -> Self {
        self.settings.crashes_max = times;
        self
    }

    /// How often is looked for events that a topic's retention does not keep any more: every 5
    /// seconds unless told otherwise.
    pub fn retention_look_every(mut self, every: Duration) -> Self {
        self.retention_look_every = Some(every);
        self
    }

    /// Opens the broker, and recovers what is there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(self) -> Result<Broker, OpenError> {
        // Recovery reads and writes: not on an async worker.
        let opened = tokio::task::spawn_blocking(move || self.open_blocking());
        match opened.await {
            Ok(Ok(broker)) => {
                broker.inner.open_queues_that_expire();
                Ok(broker)
            }
            Ok(refused) => refused,
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Err(cancelled) => Err(OpenError::Io {
                what: "open the broker".into(),
                source: std::io::Error::other(cancelled),
            }),
        }
    }

    /// Opens the broker on this thread, and blocks it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_blocking(self) -> Result<Broker, OpenError> {
        let mut settings = self.settings;
        let memory = settings.memory.clone();
        let fits = memory.operation_max() / 4 * 3;
        settings.publish_max_bytes = settings.publish_max_bytes.min(fits);
        settings.event_max_bytes = settings.event_max_bytes.min(fits);
        let mut options = Options::default();
        let disk: Arc<dyn Disk> = match self.place {
            Place::Path(path) => Arc::new(FileDisk::new(path)),
            Place::Disk(disk) => disk,
            Place::Memory { max_bytes } => {
                options = Options::in_memory(max_bytes);
                Arc::new(MemoryDisk::new(max_bytes))
            }
        };
        // What the next opening has to take in again fits, too.
        let at_most = (memory.limit() / 4) as u64;
        options.checkpoint_after_bytes = options.checkpoint_after_bytes.min(at_most);
        options.memory = memory;
        options.flush = self.flush;
        options.scrub_bytes_per_second = self.scrub_bytes_per_second;
        options.look_every = self.retention_look_every.unwrap_or(options.look_every);
        let (machine, durable) = BrokerMachine::new();
        let machine = machine.with_producer_expiration(settings.producer_id_expiration);
        let listening = Arc::new(Listening::default());
        let observer = Arc::clone(&listening);
        let open = || driver::open(disk, options, machine, observer);
        let handle = catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
            let UnknownEffect { lsn, why } = match panic.downcast() {
                Ok(unknown) => *unknown,
                Err(panic) => resume_unwind(panic),
            };
            Err(OpenError::Entry { lsn, why })
        })?;
        let inner = Inner::new(handle, durable, listening, settings);
        inner.forget_marks();
        Ok(Broker::of(inner))
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .field("flush", &self.flush)
            .finish_non_exhaustive()
    }
}
