//! The tower layers that events need and tower does not have. Everything else is tower's own:
//! any layer around a `Service<Delivery, Response = Commit>` fits.
//!
//! This room may not know handlers, routers or buses.
//!
#![doc = include_str!("../docs/layers.md")]

mod catch_panic;
mod retry;
mod trace;

pub use catch_panic::{CatchPanic, CatchPanicFuture, CatchPanicLayer};
pub use retry::RetryInPlace;
pub use trace::{Trace, TraceFuture, TraceLayer};
