//! Every bound of the handlers' side, in one place.

use std::time::Duration;

/// How often a handler's failure is tried again before the event becomes a dead letter, when the
/// handler does not say.
pub const RETRIES_DEFAULT: u32 = 3;

/// Wait before the first retry; each further wait is twice as long.
pub const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Longest wait between two tries.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// Wait before a delivery that a limit turned away is tried again; it does not count as a try.
pub const OVERLOAD_WAIT: Duration = Duration::from_millis(20);

/// Most idle calls that one erased service keeps for re-use.
pub const IDLE_CALLS_MAX: usize = 256;

/// Longest event id that is kept readable in the ids of the events it causes, in bytes. Of a
/// longer one the hash is taken, so that ids do not grow without end along a chain.
pub const CAUSE_ID_MAX_BYTES: usize = 256;

/// Most characters of an error's text that go into a dead letter.
pub const ERROR_TEXT_MAX_BYTES: usize = 1024;

const _: () = assert!(ERROR_TEXT_MAX_BYTES <= tidemill_core::limits::ATTRIBUTE_MAX_BYTES);
const _: () = assert!(CAUSE_ID_MAX_BYTES * 4 <= tidemill_core::limits::ATTRIBUTE_MAX_BYTES);
