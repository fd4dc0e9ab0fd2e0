//! Retry in place, as a policy for tower's own [`RetryLayer`](tower::retry::RetryLayer).

use tidemill_core::{Attempt, Commit, Delivery};
use tower::retry::Policy;

use crate::handler::Retry;
use crate::message::BoxError;
use crate::outcome::FailClass;

/// Tries a transient failure, a timeout or a panic that a
/// [`CatchPanicLayer`](super::CatchPanicLayer) caught again, within one call. Each try begins
/// with nothing staged.
///
/// The dispatcher already retries as [`Handler::retry`](crate::Handler::retry) says; this is for
/// a retry *inside* of another layer, for example within one permit of a concurrency limit.
///
/// ```
/// # use tidemill::{Router, Retry, layer::RetryInPlace};
/// use tower::retry::RetryLayer;
///
/// # async fn handler() {}
/// let router: Router = Router::new()
///     .on_pattern("orders", "*", handler)
///     .layer(RetryLayer::new(RetryInPlace::new(Retry::times(2))));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RetryInPlace {
    retry: Retry,
    done: u32,
}

impl RetryInPlace {
    /// As often, and after such waits, as `retry` says.
    #[must_use]
    pub fn new(retry: impl Into<Retry>) -> Self {
        Self {
            retry: retry.into(),
            done: 0,
        }
    }
}

impl Policy<Delivery, Commit, BoxError> for RetryInPlace {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        delivery: &mut Delivery,
        result: &mut Result<Commit, BoxError>,
    ) -> Option<tokio::time::Sleep> {
        let class = FailClass::of(result.as_ref().err()?);
        if !matches!(
            class,
            FailClass::Transient | FailClass::Timeout | FailClass::Panic
        ) {
            return None;
        }
        let wait = self.retry.wait_after(self.done + 1)?;
        self.done += 1;
        delivery.attempt = Attempt(delivery.attempt.0.saturating_add(1));
        Some(tokio::time::sleep(wait))
    }

    fn clone_request(&mut self, delivery: &Delivery) -> Option<Delivery> {
        Some(delivery.clone())
    }
}
