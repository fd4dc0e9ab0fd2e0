//! Every bound of the command line's own, in one place. The broker's and the server's are theirs.

use std::time::Duration;

use tidemill::broker::TopicSettings;

/// Most events of one publishing call.
pub(crate) const PUBLISH_BATCH_EVENTS: usize = 256;

/// Most bytes of data that one publishing call carries, unless a single event is larger.
pub(crate) const PUBLISH_BATCH_BYTES: usize = 1024 * 1024;

/// Most bytes that are read as one event's data from a file or standard input.
pub(crate) const DATA_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Most events of one reading call.
pub(crate) const FETCH_MAX_EVENTS: usize = 500;

/// Most bytes that one reading call asks an embedded broker for.
pub(crate) const FETCH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long one reading call waits for an event.
pub(crate) const FETCH_WAIT: Duration = Duration::from_secs(10);

/// How long a call to a server may take beyond what it asked the server to wait.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the call under way is waited for after Ctrl-C.
pub(crate) const INTERRUPT_GRACE: Duration = Duration::from_secs(3);

/// Most partitions whose positions are told one by one.
pub(crate) const POSITIONS_TOLD_MAX: usize = 8;

/// Most bytes of one answer of a server.
pub(crate) const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Most keys of one bench run; each needs a few dozen bytes.
pub(crate) const BENCH_KEYS_MAX: u32 = 10_000_000;

/// Publishers of one bench run, unless it is said otherwise.
pub(crate) const BENCH_PUBLISHERS: u16 = 16;

/// Most publishers of one bench run.
pub(crate) const BENCH_PUBLISHERS_MAX: u16 = 4096;

/// Largest event data of a bench run in bytes.
pub(crate) const BENCH_SIZE_MAX_BYTES: usize = 8 * 1024 * 1024;

/// How long a bench run waits without any delivery before it calls the rest lost.
pub(crate) const BENCH_SILENCE: Duration = Duration::from_secs(10);

/// How long a bench run listens on after the last event that it waits for: what comes then is a
/// double.
pub(crate) const BENCH_LISTEN_ON: Duration = Duration::from_secs(1);

/// Most generated orders a second of a demo; no shop keeps up with it.
pub(crate) const DEMO_RATE_MAX: u32 = 100_000;

/// Least event data of a bench run in bytes: what number and time of an event take.
pub(crate) const BENCH_SIZE_MIN_BYTES: usize = 64;

/// Largest latency that a histogram tells apart, in microseconds; longer ones count as this.
pub(crate) const LATENCY_MAX_US: u64 = 600_000_000;

/// How long a broken-off `subscribe` waits for its last page to be taken.
pub(crate) const LAST_PAGE_WAIT: Duration = Duration::from_millis(500);

/// How often a command that waits for a server's backup looks whether it has ended.
pub(crate) const BACKUP_LOOK_EVERY: Duration = Duration::from_millis(100);

/// How much of a dead letter's error a table shows, in characters.
pub(crate) const ERROR_SHOWN_CHARS: usize = 60;

/// Most bytes of a file with the secret of a webhook.
pub(crate) const SECRET_FILE_MAX_BYTES: u64 = 512;

/// How long a server may take to send the test event of a webhook.
pub(crate) const WEBHOOK_TEST_MAX: Duration = Duration::from_secs(35);

/// The longest time that a topic can be told, in whole days; see [`TopicSettings::NUMBER_MAX`].
pub(crate) const TOPIC_TIME_MAX: Duration = Duration::from_secs(106_751_991_167 * 24 * 60 * 60);

/// The most bytes that a topic can be told to keep, in whole TiB; see as before.
pub(crate) const TOPIC_BYTES_MAX: u64 = 8_388_607 << 40;

const _: () = assert!(TOPIC_TIME_MAX.as_millis() <= TopicSettings::NUMBER_MAX as u128);
const _: () = assert!(TOPIC_BYTES_MAX <= TopicSettings::NUMBER_MAX);
