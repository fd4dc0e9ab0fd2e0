//! Every bound of the remote bus, in one place.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Publishes at once; more wait for one of these to end.
pub const PUBLISHES_MAX: usize = 32;

/// Other calls at once that end soon, such as settlements.
pub const CALLS_MAX: usize = 512;

/// Calls at once that wait for something: requests, and reads of what is not there yet.
pub const WAITING_CALLS_MAX: usize = 256;

/// How long one try to connect may take, unless told otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// First and longest wait before another try to connect; each is cut by up to a half at random.
pub const RECONNECT_WAIT: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));

/// How often the server is asked whether it is still there.
pub const PING_EVERY: Duration = Duration::from_secs(10);

/// After how long without anything from it the connection is taken for gone, unless told
/// otherwise.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What an address may say of both, in milliseconds.
pub const SETTING_MS: RangeInclusive<u64> = 100..=600_000;

/// How long a server that closes is left alone at most, however long it asks for.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// Largest message of the server in bytes.
pub const MESSAGE_MAX_BYTES: usize = 256 * 1024 * 1024;

/// What a request waits longer here than at the server, which says best what became of it.
pub const REQUEST_SLACK: Duration = Duration::from_millis(500);

/// How often a publish is numbered anew because the topic changed.
pub const RENUMBERS_MAX: usize = 8;

const _: () =
    assert!(PUBLISHES_MAX + CALLS_MAX + WAITING_CALLS_MAX <= tidemill_core::wire::CALLS_MAX);
