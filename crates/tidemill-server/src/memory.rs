//! Waiting for memory of the budget that all doors share with the broker. Knows nothing of what is
//! kept in it.

use tidemill_core::budget::{Budget, Class, Share};
use tokio::time::{Instant, sleep};

use crate::http::problem::{Kind, Problem};
use crate::limits::MEMORY_LOOK_EVERY;

/// Takes so many bytes, waiting for them no longer than `until`.
///
/// # Errors
/// 503, to try again later.
pub(crate) async fn take(
    memory: &Budget,
    class: Class,
    bytes: usize,
    until: Instant,
) -> Result<Share, Problem> {
    loop {
        if let Some(share) = memory.take(class, bytes) {
            return Ok(share);
        }
        wait(until).await?;
    }
}

/// Waits a little before memory is looked for again, but not beyond `until`.
///
/// # Errors
/// 503, to try again later.
pub(crate) async fn wait(until: Instant) -> Result<(), Problem> {
    if Instant::now() >= until {
        return Err(none_is_free());
    }
    sleep(MEMORY_LOOK_EVERY).await;
    Ok(())
}

/// 503, to try again later.
pub(crate) fn none_is_free() -> Problem {
    let detail = "the memory for what is on its way is taken; try again later";
    Problem::new(Kind::Overloaded, detail).retry_later()
}
