//! Every bound of the text messages, in one place. Knows no type of them.

use std::time::Duration;

/// Longest name of a sender or receiver in bytes.
pub const NAME_MAX_BYTES: usize = 128;

/// Longest text in bytes.
pub const TEXT_MAX_BYTES: usize = 16 * 1024;

/// Largest body of an HTTP request in bytes; any text fits, however it is escaped.
pub const HTTP_BODY_MAX_BYTES: usize = 128 * 1024;

/// Handlers that run at once.
pub const HANDLERS_MAX: usize = 64;

/// How long a message's result is waited for.
pub const RESULT_WAIT: Duration = Duration::from_secs(10);

/// Most messages in one answer.
pub const LIST_MAX: usize = 1000;

/// Most events that one answer looks at, most that are read at once, and their bytes.
pub const SCAN_MAX: usize = 100_000;
/// See [`SCAN_MAX`].
pub const FETCH_MAX_EVENTS: usize = 1000;
/// See [`SCAN_MAX`].
pub const FETCH_MAX_BYTES: usize = 4 * 1024 * 1024;

const _: () = assert!(TEXT_MAX_BYTES * 6 + 2 * NAME_MAX_BYTES * 6 < HTTP_BODY_MAX_BYTES);
