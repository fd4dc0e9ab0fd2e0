//! Every bound of the broker, in one place. What a user may change is in [`crate::Builder`],
//! whose defaults are here.

use std::time::Duration;

/// Most topics of one broker.
pub const TOPICS_MAX: usize = 16 * 1024;

/// Most partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 1024;

/// Most partitions of all topics together.
pub const PARTITIONS_MAX: usize = 64 * 1024;

/// Most consumer groups of one broker.
pub const GROUPS_MAX: usize = 16 * 1024;

/// Most topics of one subscription.
pub const SUBSCRIPTION_TOPICS_MAX: usize = 1024;

/// Most bytes of durable state that one group may need: its positions and settled ranges.
pub const GROUP_STATE_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Most members of one group at a time.
pub const GROUP_MEMBERS_MAX: usize = 1024;

/// Key slots of a group in a topic; the work of a topic is shared in this many parts.
pub const GROUP_SLOTS: u32 = 256;

/// Events of one partition that a group reads ahead of what its members take.
pub const READ_AHEAD_EVENTS: usize = 2048;

/// Most bytes that one read of the log asks for.
pub const READ_MAX_BYTES: usize = 1024 * 1024;

/// Bytes that a read needs at least for its batches and what comes out of them.
pub const READ_LEAST_BYTES: usize = 32 * 1024;

/// Bytes that an event counts for in memory beside its own.
pub const EVENT_MEMORY_BYTES: usize = 512;

/// How long until memory is asked for again that was not free. What gives some back wakes
/// those who wait for it within their own group; others look by themselves.
pub const MEMORY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Most bytes of events that a group makes of one read (one event may be larger): packed batches
/// unpack to more than was read.
pub const READ_EVENTS_MAX_BYTES: usize = 4 * READ_MAX_BYTES;

/// Most bytes of events that a group holds in memory, waiting and in flight; one event is held
/// however large it is.
pub const GROUP_MEMORY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most events that one pull takes.
pub const PULL_MAX_EVENTS: usize = 4096;

/// Most events of one publish.
pub const PUBLISH_MAX_EVENTS: usize = 64 * 1024;

/// Most bytes of the events of one publish: one batch must hold them.
pub const PUBLISH_MAX_BYTES: usize = 24 * 1024 * 1024;

/// Most events that a handler may stage with one settlement.
pub const EFFECTS_MAX_EVENTS: usize = 4096;

/// Batches of a producer that a partition remembers, to recognise one that is sent again; as
/// many as Kafka's clients have under way.
pub const PRODUCER_BATCHES_MAX: usize = 5;

/// Most pairs of a producer and a partition that are remembered. At this bound the one that was
/// not heard of for the longest time is forgotten, if that is at least
/// [`PRODUCER_SPARED_FOR`]; else the new one is refused.
pub const PRODUCERS_MAX: usize = 64 * 1024;

/// A producer that was heard of within this time is not forgotten to make room: Kafka's clients
/// give a batch up after 2 minutes.
pub const PRODUCER_SPARED_FOR: Duration = Duration::from_secs(600);

/// After how long without a batch a producer is forgotten in a partition, unless configured
/// otherwise.
pub const PRODUCER_ID_EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Producers that one operation forgets at most, because their time is over.
pub const PRODUCERS_FORGOTTEN_AT_ONCE: usize = 8;

/// Longest transactional id in bytes.
pub const TRANSACTIONAL_ID_MAX_BYTES: usize = 1024;

/// Most transactional ids that are remembered. At this bound the one that was not used for the
/// longest time is forgotten, if that is at least [`PRODUCER_SPARED_FOR`] and it has no open
/// transaction; else the new one is refused.
pub const TRANSACTIONAL_IDS_MAX: usize = 16 * 1024;

/// After how long a transactional id that nobody uses is forgotten, as with Kafka. Who had it is
/// refused then.
pub const TRANSACTIONAL_ID_EXPIRATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Transactional ids that one operation forgets at most, because their time is over.
pub const TRANSACTIONAL_IDS_FORGOTTEN_AT_ONCE: usize = 4;

/// Longest time that a transaction may be open; the same as Kafka's default.
pub const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// Most transactions that are open at a time.
pub const TRANSACTIONS_OPEN_MAX: usize = 4096;

/// Most partitions and positions that one transaction holds.
pub const TRANSACTION_PARTS_MAX: usize = 2048;

/// Most partitions and positions that all open transactions hold together.
pub const TRANSACTIONS_PARTS_MAX: usize = 256 * 1024;

/// While transactions are open, how often it is looked for those whose time is over.
pub const OVERDUE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Transactions that one look finds at most.
pub const OVERDUE_AT_ONCE: usize = 64;

/// Most aborted transactions of one partition that are remembered, so that their records are
/// passed over, open ones counted as if they were aborted. More of them can begin when the first
/// ones' records were deleted.
pub const ABORTED_MAX: usize = 64 * 1024;

/// Most requests that wait for their replies at a time.
pub const INBOXES_MAX: usize = 64 * 1024;

/// Most events of one fetch.
pub const FETCH_MAX_EVENTS: usize = 64 * 1024;

/// Most bytes of one fetch.
pub const FETCH_MAX_BYTES: usize = 64 * 1024 * 1024;

/// How many times a read is tried that finds its segment deleted: each time the log says anew
/// where the offset is, if it is kept.
pub const READ_TRIES_MAX: usize = 3;

/// Most bytes of one chunk of a snapshot, but for a single entry that is larger.
pub const SNAPSHOT_CHUNK_BYTES: usize = 512 * 1024;

/// Size of `Broker::in_memory()` in bytes, after which it refuses writes.
pub const IN_MEMORY_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// How long a group waits before it asks again for its positions in partitions that were added,
/// where the log took nothing.
pub const WIDEN_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Events of a group that are given out at a time to handlers of this process, of those that may
/// have been in flight when it died before: each has an attempt marker. As many as a dispatcher
/// with the usual settings holds.
pub const MARKED_AT_ONCE: usize = 256;

/// Most attempt markers of one group, those of earlier lives of the process included.
pub const MARKS_MAX: usize = 512;

/// How many times an event is given out to handlers of this process, each time with an attempt
/// marker, before it becomes a dead letter because the process died each time, unless configured
/// otherwise. The first end of a process marks nothing: it is the fourth in a row that tells.
pub const CRASHES_MAX: u32 = 3;

/// How long an event that may have ended the process before is in flight alone, where no handler
/// has returned from it: others that may have wait no longer for what has gone on for so long.
pub const SUSPECT_ALONE_MAX: Duration = Duration::from_secs(60);

/// How long until the dead letter of such an event is tried again that could not be kept; twice as
/// long each time after.
pub const CRASH_LETTER_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The most that it becomes.
pub const CRASH_LETTER_AGAIN_MAX: Duration = Duration::from_secs(60);

/// How long a fetch waits for memory that others have before it is refused.
pub const FETCH_MEMORY_WAIT: Duration = Duration::from_secs(5);

/// How long batches are kept, in the memory of reads, that were read for records that are given up:
/// others that follow may lie in the same ones.
pub const ORIGINALS_KEPT: Duration = Duration::from_secs(1);

/// How many times a publish is sorted into partitions anew, or a subscription asks anew, because
/// a topic changed meanwhile.
pub const REROUTES_MAX: usize = 8;

const _: () = assert!(MARKED_AT_ONCE <= MARKS_MAX);
const _: () = assert!(READ_AHEAD_EVENTS < tidemill_core::limits::CURSOR_RANGES_MAX);
const _: () = assert!(TRANSACTION_PARTS_MAX <= TRANSACTIONS_PARTS_MAX);
const _: () = assert!(PUBLISH_MAX_BYTES < tidemill_log::limits::BATCH_MAX_BYTES);

/// Bytes at which a compacted topic's segments are closed at most.
pub const COMPACTED_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes at which a queue's segments are closed: one message that nobody settles pins so much.
pub const QUEUE_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// How long a message is its taker's, unless the queue or the taker says otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest that messages of a queue can be good for by its settings.
pub const QUEUE_TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// When a queue's timer looks again at the latest, since dates may jump.
pub const EXPIRY_LOOK_MAX: Duration = Duration::from_secs(60);

/// When it does where there is something to look at that could not be read yet.
pub const EXPIRY_LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Most messages that one dequeue gives.
pub const DEQUEUE_MAX_MESSAGES: usize = 1000;

/// A dequeue takes no further message once it has so many bytes of them.
pub const DEQUEUE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long a dequeue that does not wait for messages waits for the disk to give those it has.
pub const DISK_WAIT: Duration = Duration::from_secs(5);

/// Expired messages of one queue that are on the way to its dead letters at a time. The others
/// wait aside.
pub const EXPIRED_UNDER_WAY_MAX: usize = 64;

/// How long it takes until a dead letter of a queue that could not be kept is tried again: this
/// long at first, then twice as long each time, up to [`BURY_WAIT_MAX`].
pub const BURY_WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest time between two such tries.
pub const BURY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Most messages that one peek gives.
pub const PEEK_MAX_MESSAGES: usize = 100;

/// Most bytes of the messages that one peek gives (one may be larger).
pub const PEEK_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Reads of the log that one peek makes at most: what is in flight is read and passed over.
pub const PEEK_READS_MAX: usize = 64;

/// Leases that one call names at most.
pub const LEASES_AT_ONCE: usize = 1000;

/// Most messages of a queue that are leased at a time, and for which a queue in memory waits.
pub const QUEUE_IN_FLIGHT_MAX: usize = 4096;

/// Most queues that are kept in memory alone.
pub const TRANSIENT_QUEUES_MAX: usize = 4096;

/// Most bytes of all catalogues of handlers that members told, equal ones counted once.
pub const CATALOGUES_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Topics and queues of which is known who published to them.
pub const SEEN_TOPICS_MAX: usize = 256;

/// Pairs of a source and a type that are known of each of them.
pub const SEEN_PAIRS_MAX: usize = 32;

/// Runs of like events that are counted of one publish.
pub const SEEN_RUNS_MAX: usize = 32;

/// Bytes of a source or type that are kept for that.
pub const SEEN_TEXT_MAX_BYTES: usize = 256;

const _: () = assert!(QUEUE_IN_FLIGHT_MAX <= tidemill_core::limits::CURSOR_RANGES_MAX);

/// Most bytes of what the members of one classic or consumer group say and are given.
pub const CLASSIC_GROUP_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of what the members of all classic and consumer groups say and are given.
pub const CLASSIC_GROUPS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most ways of sharing the work that one classic member may know: those of all members are
/// compared while their group is locked.
pub const CLASSIC_PROTOCOLS_MAX: usize = 64;

/// Shortest session timeout of a classic member, unless told otherwise; Kafka's default.
pub const CLASSIC_SESSION_MIN: Duration = Duration::from_secs(6);

/// Longest session timeout of a classic member; Kafka's default.
pub const CLASSIC_SESSION_MAX: Duration = Duration::from_secs(30 * 60);

/// How long a new member of a classic group may wait for its first generation.
pub const CLASSIC_NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a classic group that was empty waits for more than its first member: those that are
/// started together are in one generation, and a lone one hardly waits. Kafka's default is 3 s.
pub const CLASSIC_INITIAL_DELAY: Duration = Duration::from_millis(300);

/// How often members of consumer groups are to be heard of; Kafka's default.
pub const CONSUMER_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The most often that members of consumer groups can be told to be heard of.
pub const CONSUMER_HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// How long a member of a consumer group may be silent; Kafka's default.
pub const CONSUMER_SESSION_TIMEOUT: Duration = Duration::from_secs(45);

/// How long after the first heartbeat interval of an opened broker partitions of a group that was
/// there before are given out: its members connect again and find out that they are none within
/// that.
pub const CONSUMER_RETURN_MARGIN: Duration = Duration::from_secs(2);

/// Most regular expressions of the members of one consumer group, equal ones counted once.
pub const CONSUMER_PATTERNS_MAX: usize = 16;

/// Most bytes of such an expression.
pub const CONSUMER_PATTERN_MAX_BYTES: usize = 4096;

/// Most bytes of such an expression once it is compiled: each byte of a name may be compared with
/// all of them.
pub const CONSUMER_PATTERN_COMPILED_MAX_BYTES: usize = 8 * 1024;

/// As small as compiled ones are told apart.
pub(crate) const CONSUMER_PATTERN_COMPILED_MIN_BYTES: usize = 1024;

/// Most bytes of a compiled expression, rounded up to a power of two, times the bytes of the names
/// of all topics: what it may take to compare them. With 8 KiB, names of 512 KiB; with 1 KiB, of
/// 4 MiB.
pub const CONSUMER_PATTERN_WORK_MAX: usize = 4 * 1024 * 1024 * 1024;

/// Most bytes of what a member of a consumer or share group says of itself: a longer rack is
/// refused, of a longer name of its client only the beginning is kept.
pub const MEMBER_TEXT_MAX_BYTES: usize = 256;

/// How often a record is given out in a share group before it is given up; Kafka's default.
pub const SHARE_DELIVERIES_MAX: u16 = 5;

/// How far above a share group's position in a partition records are given out; Kafka's default.
pub const SHARE_WINDOW: u64 = 2000;

/// How long a member of a share group may have a record, where the group does not say; Kafka's
/// default.
pub const SHARE_LOCK: Duration = Duration::from_secs(30);

/// Bytes of a record that a member of a share group has, with all that is known of it.
pub(crate) const SHARE_RECORD_BYTES: usize = 160;

/// Most dead letters of a share group that are written with one commit.
pub(crate) const SHARE_LETTERS_MAX: usize = 64;

/// Most bytes of dead letters of a share group that are written with one commit; one letter may be
/// larger.
pub(crate) const SHARE_LETTERS_BYTES: usize = 1024 * 1024;

/// How long what could not be given up waits for the next try; twice as long after each.
pub(crate) const SHARE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The longest that it waits.
pub(crate) const SHARE_AGAIN_MAX: Duration = Duration::from_secs(300);

/// Most bytes of what a client keeps with a position; Kafka's default.
pub const COMMIT_METADATA_MAX_BYTES: usize = 4096;

/// How long the positions of a classic group without members are kept; Kafka's default.
pub const COMMITS_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often it is looked for classic groups whose positions are not kept any longer.
pub const COMMITS_RETENTION_LOOK_EVERY: Duration = Duration::from_secs(600);

/// Events that one look for dead letters reads at once.
pub const DEAD_LETTERS_READ_EVENTS: usize = 256;

/// Bytes of them; one may be larger.
pub const DEAD_LETTERS_READ_BYTES: usize = 1024 * 1024;
