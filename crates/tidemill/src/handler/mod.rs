//! What a handler is: an async function whose arguments are extractors and whose return value is
//! an outcome; and how one is named and bounded.
//!
//! This room may not know how handlers are found.
//!
#![doc = include_str!("../docs/handlers.md")]

use std::future::Future;

use tidemill_core::{Delivery, Order};

use crate::boxed::Route;
use crate::extract::Input;
use crate::message::BoxError;
use crate::outcome::{Fail, IntoOutcome};

mod configured;
mod functions;
mod retry;

pub use configured::{Configured, Settings};
pub use retry::Retry;
pub(crate) use retry::in_milliseconds;

/// An async function that handles events.
///
/// Implemented for functions and closures of up to eight arguments: every argument but the last
/// implements [`FromEventParts`](crate::FromEventParts), the last one
/// [`FromEvent`](crate::FromEvent), the return value [`IntoOutcome`]; arguments and future are
/// [`Send`].
///
/// Where the compiler says "is not a handler", put [`#[tidemill::handler]`](macro@crate::handler)
/// on the function to learn why.
///
/// The methods of this trait name and bound a handler where it is added:
///
/// ```
/// # use tidemill::{Handler as _, Router, Json, Order};
/// async fn track(Json(order): Json<serde_json::Value>) {}
///
/// let router: Router = Router::new()
///     .on_pattern("orders", "order_*", track.id("track").version("2").retry(5));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is an `async fn` of at most 8 arguments: every argument but the last reads \
            parts (`State<S>`, `Subject`, `Key`, ...), the last one may consume the event \
            (`Data<T>`, `Json<T>`, `Event`, ...), and it returns an outcome: `()`, `Emit<M>`, \
            `Reply<T>`, or a `Result` of one with `Fail` or any error",
    note = "put `#[tidemill::handler]` on the function: the compiler then says which argument or \
            return value is wrong"
)]
pub trait Handler<T, S>: Clone + Send + Sync + Sized + 'static {
    /// What kind of event it expects.
    type Input: Input;

    /// What it returns.
    type Output: IntoOutcome + Send;

    /// Takes the arguments from `delivery` and calls the function.
    ///
    /// # Errors
    /// The [`Fail`] of an extractor; the function's own failure is in the output.
    fn call(
        &self,
        delivery: Delivery,
        state: &S,
    ) -> impl Future<Output = Result<Self::Output, Fail>> + Send;

    /// How it is named and bounded.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// The function's path; its id where none is given.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Names it: the id stands in dead letters and in the ids of the events that it emits, so it
    /// must stay when the function is moved. Unique in its router.
    fn id(self, id: impl Into<String>) -> Configured<Self, T, S> {
        Configured::new(self).id(id)
    }

    /// Says which version of it this is; `1` where none is given.
    fn version(self, version: impl Into<String>) -> Configured<Self, T, S> {
        Configured::new(self).version(version)
    }

    /// How often, and after which waits, a failure is tried again before the event becomes a
    /// dead letter: a number, or a [`Retry`].
    fn retry(self, retry: impl Into<Retry>) -> Configured<Self, T, S> {
        Configured::new(self).retry(retry)
    }

    /// Which order it relies on; a subscription that gives less is refused at start.
    fn needs(self, order: Order) -> Configured<Self, T, S> {
        Configured::new(self).needs(order)
    }

    /// How long one call may take, its extractors included.
    fn timeout(self, timeout: std::time::Duration) -> Configured<Self, T, S> {
        Configured::new(self).timeout(timeout)
    }

    /// Wraps this handler alone in a tower layer; the one added last is outermost.
    fn layer<L>(self, layer: L) -> Configured<Self, T, S>
    where
        L: tower::Layer<Route> + Send + Sync + 'static,
        L::Service:
            tower::Service<Delivery, Response = tidemill_core::Commit> + Clone + Send + 'static,
        <L::Service as tower::Service<Delivery>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Delivery>>::Future: Send + 'static,
    {
        Configured::new(self).layer(layer)
    }
}
