//! Waiting for memory of the budget that all doors share with the broker. Knows nothing of what is
//! kept in it.

use tidemill_core::budget::{Budget, Class, Share};
use tokio::time::{Instant, sleep};

use crate::http::problem::{Kind, Problem};
use crate::limits::{MEMORY_LOOK_EVERY, MEMORY_WAIT};

/// Takes so many bytes, waiting for them no longer than [`MEMORY_WAIT`].
///
/// # Errors
/// 503, to try again later.
pub(crate) async fn take(memory: &Budget, class: Class, bytes: usize) -> Result<Share, Problem> {
    let until = Instant::now() + MEMORY_WAIT;
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
        let detail = "the memory for what is on its way is taken; try again later";
        return Err(Problem::new(Kind::Unavailable, detail).retry_later());
    }
    sleep(MEMORY_LOOK_EVERY).await;
    Ok(())
}
