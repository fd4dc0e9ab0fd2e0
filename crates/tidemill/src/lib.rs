//! Events in, handlers out: the crate that programs add.
//!
//! This crate may not know: a concrete outside client, a wire format, or files.
//!
#![doc = include_str!("docs/quick_start.md")]

extern crate self as tidemill;

mod app;
mod boxed;
mod bus;
pub mod dispatcher;
pub mod extract;
pub mod guide;
pub mod handler;
pub mod layer;
pub mod limits;
mod message;
mod open;
pub mod outcome;
mod policy;
pub mod router;
mod serve;
mod service;

pub use app::{App, CallFuture, RetryAdvice, Verdict, VerdictKind};
pub use boxed::{Route, RouteFuture};
pub use bus::{AskError, BusExt, Publish, SendError};
pub use dispatcher::{Dispatcher, DispatcherInfo, ServeError, Served};
pub use extract::{Attributes, Data, FromEvent, FromEventParts, FromRef, Json, State};
pub use handler::{Handler, Retry};
pub use message::{BoxError, CodecError, Message, MessageError, Outgoing};
pub use open::{OpenError, open};
pub use outcome::{Emission, Emit, Fail, FailClass, FailError, IntoOutcome, Reply};
pub use policy::{ByClass, Decision, FailedAttempt, FailurePolicy};
pub use router::{BuildError, HandlerInfo, IntoApp, Router};
pub use serve::{Serve, serve};
pub use tidemill_macros::{Emission, Message, handler};

pub use bytes::Bytes;
#[cfg(feature = "broker")]
pub use tidemill_broker as broker;
pub use tidemill_core as core;
pub use tidemill_core::{Attempt, Bus, Commit, Delivery, Effects, Event, EventId, EventType};
pub use tidemill_core::{ExtensionValue, GroupName, InvalidEvent, InvalidName, Key, Order};
pub use tidemill_core::{Offset, Outcome, Partition, Position, Source, Start, Subject, TopicName};

#[doc(hidden)]
pub use message::private as __private;
