//! Every bound of the server, in one place. What a user may set is in `config.rs`; these are its
//! defaults and the bounds that nobody needs to set.

use std::time::Duration;

/// Most connections at once, when nothing else is configured. The bound in force is lower where
/// the process may not open so many files.
pub const CONNECTIONS_MAX: usize = 16_000;

/// Open files that connections leave to the log and to everything else.
pub const FILES_RESERVED: usize = 256;

/// Largest head of a request (request line and headers) in bytes; more is answered with 431.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;

/// Most headers of a request; more is answered with 431.
pub const HEADERS_MAX: usize = 100;

/// Bytes that a connection buffers while it reads a request.
pub const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;

/// How long a connection may take to send the head of its next request, and so also how long it
/// may idle between two requests.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request may take to send its body; later it is answered with 408.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may take none of the bytes that wait for it; then it is closed.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a request may take as a whole, a long poll's waiting included; later it is answered
/// with 504.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a backup's name, which is a folder's.
pub const BACKUP_NAME_MAX_BYTES: usize = 128;

/// Largest body of a request in bytes, when nothing else is configured: one event of the largest
/// size and its envelope.
pub const BODY_MAX_BYTES: usize = tidemill_core::limits::EVENT_DATA_MAX_BYTES + ENVELOPE_MAX_BYTES;

/// Bytes of a body that are not the data of its event.
pub const ENVELOPE_MAX_BYTES: usize = 64 * 1024;

/// Bytes that are read of a body that is refused for its size, before its answer is sent.
pub const DISCARD_MAX_BYTES: usize = 256 * 1024 * 1024;

/// How long such a body is read.
pub const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for memory before it is answered with 503.
pub const MEMORY_WAIT: Duration = Duration::from_secs(5);

/// How often it looks.
pub const MEMORY_LOOK_EVERY: Duration = Duration::from_millis(10);

/// What an answer of events has in memory while it is made, as so many times the events' bytes:
/// the events themselves, and their text.
pub const ANSWER_COST: usize = 3;

/// An answer takes at most what is free divided by this: those whose clients do not read leave
/// room for others.
pub const ANSWER_PART: usize = 8;

/// Bytes of an answer that a connection takes at once.
pub const ANSWER_PIECE_BYTES: usize = 16 * 1024;

/// Bytes that an answer's event counts for beside its own.
pub const ANSWER_EVENT_BYTES: usize = 512;

/// Least bytes of events that a fetch asks for where memory is short.
pub const FETCH_LEAST_BYTES: usize = 16 * 1024;

/// Bytes that each partition of a long poll gives at once, but for one event that is larger.
pub const FETCH_WAIT_BYTES: usize = 64 * 1024;

/// Events that one fetch returns when it does not say how many.
pub const FETCH_EVENTS_DEFAULT: usize = 100;

/// Most events that one fetch may ask for.
pub const FETCH_EVENTS_MAX: usize = 10_000;

/// Bytes of events after which a fetch stops; at least one event is returned where there is one.
pub const FETCH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Longest wait of a long poll.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(30);

/// Most partitions that a fetch without `partition` reads at once.
pub const FETCH_PARTITIONS_MAX: usize = 1_024;

/// Queues that the metrics tell of, the first ones by their names.
pub const METRIC_QUEUES_MAX: usize = 1_000;

/// Partitions of topics, and of groups, that the metrics under the names of `kafka_exporter` tell
/// of, the first ones by their names.
pub const METRIC_KAFKA_PARTITIONS_MAX: usize = 10_000;

/// Most nodes of the flow graph.
pub const GRAPH_NODES_MAX: usize = 500;

/// Most edges of it.
pub const GRAPH_EDGES_MAX: usize = 2_000;

/// Most types that an edge of it names.
pub const GRAPH_TYPES_MAX: usize = 32;

/// How often the counters are looked at for the throughput of the last minutes.
pub const THROUGHPUT_EVERY: Duration = Duration::from_secs(5);

/// How many of these looks are kept: ten minutes of them.
pub const THROUGHPUT_KEPT: usize = 121;

/// How long open requests get at shutdown to come to an end.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Most Socket.IO clients at once, when nothing else is configured.
pub const SOCKETIO_CLIENTS_MAX: usize = 12_000;

/// Most rooms of one Socket.IO client.
pub const ROOMS_PER_CLIENT_MAX: usize = 256;

/// Largest message that a Socket.IO client may send, in bytes.
pub const SOCKETIO_MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// Most events that wait for one Socket.IO client; beyond, the client is given
/// [`OUTBOX_PATIENCE`] and is then disconnected.
pub const OUTBOX_MAX_EVENTS: usize = 8_192;

/// Most bytes of events that wait for one Socket.IO client, one event always being allowed.
pub const OUTBOX_MAX_BYTES: usize = 8 * 1024 * 1024;

/// How long the others wait in all for one Socket.IO client whose outbox is full, until the
/// outbox has been emptied by half.
pub const OUTBOX_PATIENCE: Duration = Duration::from_secs(2);

/// Packets that the Socket.IO library holds for one client, behind our outbox.
pub const ENGINE_BUFFER_PACKETS: usize = 16;

/// First and longest wait before a packet is offered again to a client whose buffer is full.
pub const ENGINE_RETRY: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(50));

/// How often the server asks whether a Socket.IO client is still there.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);

/// How long the client may take to answer that.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Events that the Socket.IO feed reads from the log at once.
pub const FEED_FETCH_EVENTS: usize = 1_024;

/// Bytes of events that the Socket.IO feed reads from the log at once.
pub const FEED_FETCH_BYTES: usize = 4 * 1024 * 1024;

/// How long the feed waits after an error before it reads again.
pub const FEED_RETRY: Duration = Duration::from_millis(500);

/// How often the feed tries to read the same events again before it passes them over.
pub const FEED_RETRIES: u32 = 10;

/// How long accepting pauses after an error such as too many open files.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Most WebSocket connections at once.
pub const WS_CONNECTIONS_MAX: usize = 12_000;

/// Most sessions of WebSocket clients, with those whose connection is gone for the moment.
pub const WS_SESSIONS_MAX: usize = 2 * WS_CONNECTIONS_MAX;

/// Largest frame of a WebSocket client in bytes.
pub const WS_FRAME_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long a WebSocket client may take to say hello.
pub const WS_HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a WebSocket client is asked whether it is still there.
pub const WS_PING_EVERY: Duration = Duration::from_secs(15);

/// After how long without anything from it a WebSocket client is taken for gone.
pub const WS_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a client is asked to wait before it comes back to a server that closes.
pub const WS_RETRY_MS: u64 = 500;

/// How long a connection whose session goes on over another one may take what is left for it.
pub const WS_REPLACED_PATIENCE: Duration = Duration::from_secs(1);

/// Frames that wait for one WebSocket client; who has more to say waits.
pub const WS_OUTBOX_FRAMES: usize = 1_024;

/// Bytes that wait for one WebSocket client; a larger frame waits alone.
pub const WS_OUTBOX_BYTES: usize = 1024 * 1024;

/// Bytes of events after which a frame of deliveries ends.
pub const WS_DELIVER_BYTES: usize = 64 * 1024;

/// Most events that a subscription takes from its group at once.
pub const WS_PULL_MAX: usize = 1_024;

/// Most deliveries of one subscription that are not settled, whatever credit there is.
pub const WS_CREDIT_MAX: usize = 4_096;

/// How long a request of a WebSocket client waits for its reply at most, whatever it asks for.
pub const WS_REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Most subscriptions of one session, with those that are joining their groups.
pub const WS_SUBSCRIPTIONS_MAX: usize = 256;

/// Answers of a session that are kept for a client that asks again: those it cannot have got are
/// among the last that it may have waited for.
pub const WS_ANSWERS_KEPT: usize = tidemill_core::wire::CALLS_MAX + WS_CALLS_SPARE;

/// Bytes that the number of such a call counts for, with or without its answer.
pub const WS_ANSWER_ID_BYTES: usize = 64;

/// Calls beyond the bound that a client is told, as it may not know yet which are answered.
pub const WS_CALLS_SPARE: usize = 64;

/// Most watches of one connection.
pub const WS_WATCHES_MAX: usize = 16;

/// Most partitions that one stream of server-sent events reads: each event carries a place in all.
pub const STREAM_PARTITIONS_MAX: usize = 256;

/// Bytes of events of one piece of such a stream; one event may be larger.
pub const STREAM_PIECE_BYTES: usize = 64 * 1024;

/// Bytes of text after which such a piece ends; the memory for it is taken before it is read.
pub const STREAM_TEXT_BYTES: usize = ANSWER_COST * STREAM_PIECE_BYTES;

/// How long such a stream is silent at most.
pub const STREAM_SILENCE: Duration = Duration::from_secs(15);

/// How long its client is asked to wait before it comes back.
pub const STREAM_RETRY_MS: u64 = 1_000;

/// Deliveries that one pull over HTTP gives when it does not say how many.
pub const PULL_DEFAULT: usize = 10;

/// Most deliveries that one pull over HTTP may ask for.
pub const PULL_MAX: usize = 1_000;

/// Bytes of events after which a pull's answer ends; it has one event at least.
pub const PULL_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long a pull waits that is not to wait: its member joins its group, and what is on the disk
/// alone is read.
pub const PULL_LEAST_WAIT: Duration = Duration::from_millis(50);

/// How long a group keeps a member without a connection that nobody pulls for, and that holds
/// nothing.
pub const PULL_IDLE: Duration = Duration::from_secs(10);

/// Most members without a connection.
pub const PULL_MEMBERS_MAX: usize = 1_024;

/// Most deliveries that one of them holds under leases.
pub const PULL_MEMBER_HELD_MAX: usize = 4_096;

/// Most deliveries that all of them hold.
pub const PULL_HELD_MAX: usize = 65_536;

/// Tokens of which it is remembered that they were settled, the last ones.
pub const PULL_SETTLED_KEPT: usize = 65_536;

/// Most deliveries that one call settles.
pub const SETTLE_MAX: usize = 1_000;

/// Longest id of a request that is taken from its client, in bytes.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// How long a browser may remember which pages may use the doors.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(3600);

/// Client addresses whose requests are counted each by themselves; others share one count.
pub const RATE_ADDRESSES_MAX: usize = 65_536;

/// Largest request of the Kafka protocol in bytes; less where the memory is small. A larger one
/// ends its connection.
pub const KAFKA_REQUEST_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Elements of all arrays of one such request.
pub const KAFKA_ELEMENTS_MAX: usize = 64 * 1024;

/// Bytes that each of them counts for beside its own.
pub const KAFKA_ELEMENT_BYTES: usize = 160;

/// Bytes that a connection of the Kafka protocol reads at once while nothing larger comes.
pub const KAFKA_BUFFER_BYTES: usize = 16 * 1024;

/// Bytes that a topic counts for in an answer that tells of it, with its text.
pub const KAFKA_TOPIC_BYTES: usize = 1024;

/// Bytes that each of its partitions counts for.
pub const KAFKA_PARTITION_BYTES: usize = 320;

/// Partitions that one answer to `DescribeTopicPartitions` tells of, as Apache Kafka has it.
pub const KAFKA_PARTITIONS_PAGE_MAX: usize = 2000;

/// Records that the answer to one `Produce` blames by their numbers.
pub const KAFKA_RECORD_ERRORS_MAX: usize = 1000;

/// Longest time for which a `Produce` waits for room in the log, whatever it asks for: well below
/// the 30 s after which clients take a request for lost and send it again.
pub const KAFKA_PRODUCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Steps that one `ListTransactions` may take to compare ids with an expression: bytes of the ids
/// times those of the compiled expression. With 1 KiB, 1 MiB of ids.
pub const KAFKA_PATTERN_WORK_MAX: usize = 1024 * 1024 * 1024;

/// Producers whose last times one `DescribeProducers` looks up; each takes a read.
pub const KAFKA_PRODUCER_TIMES_MAX: usize = 1024;

/// How soon it looks again at the latest where nothing is given back: others may have given up
/// waiting. Within the time for which its turn is kept (the log's `CLAIM_FOR`).
pub const KAFKA_ROOM_LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Requests of one connection of the Kafka protocol that are under way at once.
pub const KAFKA_IN_FLIGHT_MAX: usize = 64;

/// How long a connection of the Kafka protocol may be silent between two requests.
pub const KAFKA_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a request may take to come, once it has begun.
pub const KAFKA_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest record batch that a producer may send, when nothing else is configured: as Apache
/// Kafka has it.
pub const KAFKA_MESSAGE_MAX_BYTES: usize = 1024 * 1024 + 12;

/// Longest wait of a fetch over the Kafka protocol, whatever it asks for.
pub const KAFKA_FETCH_WAIT_MAX: Duration = Duration::from_secs(300);

/// Bytes of batches that one answer to such a fetch has at most, but for one batch that is larger.
pub const KAFKA_FETCH_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Clients that one call lists when it does not say how many.
pub const CLIENTS_LISTED_DEFAULT: usize = 1_000;

/// Most clients that one call lists.
pub const CLIENTS_LISTED_MAX: usize = 16_000;

/// Bytes that are kept of what a client calls itself.
pub const CLIENT_NAME_MAX_BYTES: usize = 256;

/// Groups of one connection that are told.
pub const CLIENT_GROUPS_MAX: usize = 16;

/// Client ids that the metrics tell of by themselves, the first ones that come; the others share
/// one label.
pub const METRIC_CLIENT_IDS_MAX: usize = 100;

/// Sessions of fetches that are kept, as Apache Kafka has it.
pub const KAFKA_FETCH_SESSIONS_MAX: usize = 1_000;

/// Sessions of members of share groups that are kept, as Apache Kafka has it.
pub const KAFKA_SHARE_SESSIONS_MAX: usize = 2_000;

/// Longest id of a member of a share group, in bytes; clients choose UUIDs of 22 bytes. With the
/// name of its group it is what a session needs beside its partitions.
pub const KAFKA_SHARE_MEMBER_ID_MAX_BYTES: usize = 256;

/// Partitions of all of these; each needs some 100 bytes.
pub const KAFKA_SHARE_SESSION_PARTS_MAX: usize = 100_000;

/// After how long a session of a share group that was not used makes way for others.
pub const KAFKA_SHARE_SESSION_IDLE: Duration = Duration::from_secs(120);

/// Partitions of all of them; fewer where the memory is small.
pub const KAFKA_FETCH_SESSION_PARTITIONS_MAX: usize = 262_144;

/// Bytes that each of them counts for, beside its topic's name.
pub const KAFKA_FETCH_SESSION_PARTITION_BYTES: usize = 256;

/// How often a fetch takes what a session counts for a partition until its answer is sent: for
/// what is wanted, where it is read, and what is said of it.
pub const KAFKA_FETCH_COST: usize = 3;

/// Bytes that each partition counts for while a fetch waits for it, beside that.
pub const KAFKA_FETCH_WAIT_PARTITION_BYTES: usize = 1536;

/// Fetches that wait leave so many parts of the memory for answers to those that do not.
pub const KAFKA_FETCH_WAIT_PART: usize = 2;

/// What one part of the memory for requests is for the partitions of sessions, the rest being for
/// requests.
pub const KAFKA_FETCH_SESSIONS_PART: usize = 8;

/// After how long a session that was not used makes way for any other, and one that is not new
/// for a larger one: as Apache Kafka has it.
pub const KAFKA_FETCH_SESSION_KEEP: Duration = Duration::from_secs(120);

/// Dead letters that one call lists or gives back when it does not say how many.
pub const DEAD_LETTERS_DEFAULT: usize = 100;

/// Most dead letters that one call lists or gives back.
pub const DEAD_LETTERS_MAX: usize = 1_000;

/// How long a request waits for its reply when it does not say, in milliseconds.
pub const REQUEST_REPLY_DEFAULT_MS: u64 = 5_000;

/// How long a request may wait for its reply, in milliseconds; below [`REQUEST_TIMEOUT`].
pub const REQUEST_REPLY_MAX_MS: u64 = 50_000;

/// How long a change of one of the server's own small files waits for another one to end.
pub const PRIVATE_FILE_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it looks whether that has ended.
pub const PRIVATE_FILE_LOCK_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Most webhooks.
pub const WEBHOOKS_MAX: usize = 128;

/// Bytes of a webhook's name.
pub const WEBHOOK_NAME_MAX_BYTES: usize = 100;

/// Bytes of its URL.
pub const WEBHOOK_URL_MAX_BYTES: usize = 2048;

/// Most topics of one webhook.
pub const WEBHOOK_TOPICS_MAX: usize = 32;

/// Most event types, or patterns over them, of one webhook.
pub const WEBHOOK_TYPES_MAX: usize = 64;

/// Most headers of its own that a webhook sends.
pub const WEBHOOK_HEADERS_MAX: usize = 16;

/// Bytes of the value of one of them.
pub const WEBHOOK_HEADER_MAX_BYTES: usize = 4096;

/// Bytes of the file of all webhooks.
pub const WEBHOOKS_FILE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long an endpoint may take to answer, in milliseconds: the least, the usual and the longest
/// time, connecting included. Below [`REQUEST_TIMEOUT`], so that a test can be answered.
pub const WEBHOOK_TIMEOUT_MS: (u64, u64, u64) = (100, 15_000, 30_000);

/// How often an event is tried before it is a dead letter: at least, usually, at most.
pub const WEBHOOK_ATTEMPTS: (u32, u32, u32) = (1, 15, 100);

/// The wait behind the first failure, in milliseconds: the shortest, the usual, the longest. It
/// doubles with every failure.
pub const WEBHOOK_RETRY_FIRST_MS: (u64, u64, u64) = (10, 1_000, 600_000);

/// Where it ends to double, in milliseconds. The usual 15 attempts take about four hours.
pub const WEBHOOK_RETRY_MAX_MS: (u64, u64, u64) = (10, 3_600_000, 86_400_000);

/// How many events an endpoint is sent at once: at least, usually, at most.
pub const WEBHOOK_CONCURRENCY: (usize, usize, usize) = (1, 4, 16);

/// Longest time that an endpoint gets with `Retry-After`.
pub const WEBHOOK_RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Failures in a row, of whatever events, after which an endpoint gets a rest between attempts.
pub const WEBHOOK_REST_AFTER: u32 = 8;

/// The first such rest, which doubles with every failure, and the longest.
pub const WEBHOOK_REST: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(10));

/// Bytes of an endpoint's answer that are read.
pub const WEBHOOK_ANSWER_MAX_BYTES: usize = 4 * 1024;

/// How long they are read.
pub const WEBHOOK_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of the head of an endpoint's answer.
pub const WEBHOOK_HEAD_MAX_BYTES: usize = 16 * 1024;

/// Characters of an endpoint's answer that the text of a failure has.
pub const WEBHOOK_ANSWER_SHOWN: usize = 200;

/// How long a connection to an endpoint is kept for the next event: less than servers usually
/// keep theirs, so that an event is rarely sent into one that is being closed.
pub const WEBHOOK_IDLE: Duration = Duration::from_secs(4);

/// How long deliveries under way get when a webhook is paused, changed or deleted, or the server
/// ends; then they are broken off, and their events are sent again later.
pub const WEBHOOK_STOP_GRACE: Duration = Duration::from_secs(2);

/// How long a webhook waits before it tries again to read its topics.
pub const WEBHOOK_REJOIN: Duration = Duration::from_secs(2);

/// How long the secret before signs, too, after a rotation, in milliseconds: usually, and at most.
pub const WEBHOOK_OVERLAP_MS: (u64, u64) = (86_400_000, 604_800_000);

/// Most secrets that sign at once.
pub const WEBHOOK_SECRETS_MAX: usize = 4;

/// Longest name of a user in bytes.
pub const USER_NAME_MAX_BYTES: usize = 255;

/// Longest password in bytes.
pub const PASSWORD_MAX_BYTES: usize = 1024;

/// Most users of one data folder.
pub const USERS_MAX: usize = 10_000;

/// Largest file of users in bytes: each takes about 600 beside his name.
pub const USERS_FILE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Most rules about who may do what.
pub const PERMISSIONS_MAX: usize = 10_000;

/// Largest file of such rules in bytes: each takes about 250 beside its names.
pub const PERMISSIONS_FILE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Longest name of a principal or a resource in a rule, in bytes.
pub const PERMISSION_TEXT_MAX_BYTES: usize = 512;

/// How often it is looked whether a command has changed them.
pub const PERMISSIONS_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most filters by which one request deletes rules.
pub const PERMISSION_FILTERS_MAX: usize = 1_000;

/// How often the hash of a password is taken, which makes guessing slow.
pub const SCRAM_ITERATIONS: u32 = 8_192;

/// Fewest iterations of a credential that somebody else made, as RFC 7677 has it.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;

/// Most iterations of such a credential, as Apache Kafka has it.
pub const SCRAM_ITERATIONS_MAX: u32 = 16_384;

/// Bytes of a salt.
pub const SCRAM_SALT_BYTES: usize = 16;

/// Longest nonce of a client of SCRAM in bytes.
pub const SCRAM_NONCE_MAX_BYTES: usize = 512;

/// Connections of the Kafka protocol that log in at once; more are refused.
pub const KAFKA_LOGINS_MAX: usize = 1_024;

/// Those of one client address; more wait.
pub const KAFKA_LOGINS_OF_ADDRESS: usize = 64;

/// Those of one client address with those that wait; more are refused.
pub const KAFKA_LOGINS_WAITING_OF_ADDRESS: usize = 256;

/// How long a connection may take to log in, with its TLS handshake.
pub const KAFKA_LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one that has to log in may be silent, once it is its turn.
pub const KAFKA_FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection of the Kafka protocol may take to say that it ends.
pub const KAFKA_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Largest request of somebody who is not logged in, in bytes.
pub const KAFKA_LOGIN_REQUEST_MAX_BYTES: usize = 16 * 1024;

/// How long a failure to log in is not answered from when it is tried, as Apache Kafka has it.
pub const KAFKA_LOGIN_DELAY: Duration = Duration::from_millis(100);

/// How long it is not where there were many.
pub const KAFKA_LOGIN_PENALTY: Duration = Duration::from_secs(1);

/// Failures of one address in [`KAFKA_LOGIN_FAILURES_PER`] that are not many.
pub const KAFKA_LOGIN_FAILURES: u32 = 10;

/// The time in which they are counted.
pub const KAFKA_LOGIN_FAILURES_PER: Duration = Duration::from_secs(10);

/// Passwords that are hashed at once.
pub const KAFKA_HASHES_AT_ONCE: usize = 1;

/// How often it is looked whether the files of a certificate have changed.
pub const KAFKA_TLS_LOOK_EVERY: Duration = Duration::from_secs(10);
