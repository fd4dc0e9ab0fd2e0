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

/// Longest id of a handler in bytes; it is part of the ids of the events that it emits.
pub const HANDLER_ID_MAX_BYTES: usize = 1024;

/// Most characters of an error's text that go into a dead letter.
pub const ERROR_TEXT_MAX_BYTES: usize = 1024;

/// Handlers of one dispatcher that may run at once, when nothing else is set.
pub const CONCURRENCY_DEFAULT: usize = 64;

/// Most handlers of one dispatcher that may run at once; each has a task of its own.
pub const CONCURRENCY_MAX: usize = 16_384;

/// Events that a dispatcher holds for each handler that may run at once, when nothing else is
/// set: so many that workers find the next one without waiting for the bus.
pub const QUEUE_PER_HANDLER: usize = 4;

/// Most events that one dispatcher holds, waiting and running.
pub const QUEUE_MAX: usize = 1 << 18;

/// How long running handlers may take at shutdown, when nothing else is set.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// First wait after the bus could not take a settlement; each further one is twice as long, and
/// each is up to a quarter longer by chance.
pub const SETTLE_WAIT_FIRST: Duration = Duration::from_millis(20);

/// Longest wait before a settlement is tried again.
pub const SETTLE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Shortest time between two warnings that settling is delayed; what begins within it is counted
/// and told with the next one.
pub const SETTLE_TELL_GAP: Duration = Duration::from_secs(10);

/// First wait after the bus gave no events but an error; each further one is twice as long.
pub const PULL_WAIT_FIRST: Duration = Duration::from_millis(50);

/// Longest wait before events are asked for again.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(CONCURRENCY_MAX * QUEUE_PER_HANDLER <= QUEUE_MAX);
const _: () = assert!(ERROR_TEXT_MAX_BYTES <= tidemill_core::limits::ATTRIBUTE_MAX_BYTES);
const _: () = assert!(
    CAUSE_ID_MAX_BYTES + HANDLER_ID_MAX_BYTES + 64 <= tidemill_core::limits::ATTRIBUTE_MAX_BYTES
);
