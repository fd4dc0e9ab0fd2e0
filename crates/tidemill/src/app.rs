//! A finished router: turns each delivery into a [`Verdict`]. Nothing escapes: failures, panics,
//! timeouts and the errors of layers are verdicts too.
//!
//! This file may not know buses, subscriptions or how deliveries come.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::{Commit, Delivery, Effects, Failure, Order, Outcome, Source, TopicName};

use crate::boxed::{Oneshot, SharedRoute};
use crate::handler::Retry;
use crate::limits::ERROR_TEXT_MAX_BYTES;
use crate::outcome::{Fail, FailClass};
use crate::policy::{Decision, FailedAttempt, FailurePolicy};
use crate::router::table::Table;
use crate::router::{HandlerInfo, Identity};

/// One handler, ready to be called.
pub(crate) struct Handled {
    pub(crate) route: SharedRoute,
    pub(crate) identity: Arc<Identity>,
    pub(crate) retry: Retry,
    pub(crate) policy: Arc<dyn FailurePolicy>,
}

/// What an [`App`] is made of.
pub(crate) struct Parts {
    pub(crate) table: Arc<Table>,
    pub(crate) handled: Vec<Handled>,
    pub(crate) infos: Vec<HandlerInfo>,
}

struct Inner {
    parts: Parts,
    topics: Vec<TopicName>,
    unhandled: AtomicU64,
}

/// A finished router. Clones share it.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

/// What becomes of one attempt.
#[derive(Clone, Debug)]
#[must_use = "the event is settled with the verdict's commit"]
pub struct Verdict {
    /// What to settle the event with, if it is not tried again in place.
    pub commit: Commit,
    /// How to try again in place; none when the verdict is final.
    pub retry: Option<RetryAdvice>,
    /// How it came to this.
    pub kind: VerdictKind,
    /// The place of the handler in [`App::describe`]; none when there is none for the event.
    pub handler: Option<usize>,
}

/// How to try again in place. The attempts that count are numbered by whoever tries again: the
/// next call gets a [`Delivery`] whose attempt is one higher, if `counted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAdvice {
    /// Not before this has passed.
    pub after: Duration,
    /// Whether the failed attempt counts.
    pub counted: bool,
}

/// How a verdict came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// The handler said so.
    Handled,
    /// No handler is for the event; it is acknowledged.
    Unhandled,
    /// The handler, or a layer, failed.
    Failed(FailClass),
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        let topics = parts.table.topics().cloned().collect();
        let unhandled = AtomicU64::new(0);
        Self {
            inner: Arc::new(Inner {
                parts,
                topics,
                unhandled,
            }),
        }
    }

    /// The topics to subscribe to, sorted by name.
    #[must_use]
    pub fn topics(&self) -> &[TopicName] {
        &self.inner.topics
    }

    /// The handlers; see [`Router::describe`](crate::Router::describe).
    #[must_use]
    pub fn describe(&self) -> &[HandlerInfo] {
        &self.inner.parts.infos
    }

    /// The handlers, each with the source of the events that it emits.
    pub(crate) fn describe_with_sources(&self) -> impl Iterator<Item = (&HandlerInfo, &Source)> {
        let parts = &self.inner.parts;
        let sources = parts.handled.iter().map(|handled| &handled.identity.source);
        parts.infos.iter().zip(sources)
    }

    /// How many events had no handler so far.
    #[must_use]
    pub fn unhandled(&self) -> u64 {
        self.inner.unhandled.load(Ordering::Relaxed)
    }

    /// The first handler that relies on more order than `given`, if there is one.
    #[must_use]
    pub fn needs_more_than(&self, given: Order) -> Option<&HandlerInfo> {
        let rank = |order| match order {
            Order::None => 0,
            Order::PerKey => 1,
            Order::PerPartition => 2,
        };
        let more = |info: &&HandlerInfo| info.needs.is_some_and(|n| rank(n) > rank(given));
        self.describe().iter().find(more)
    }

    /// Calls the handler for `delivery` once. Never fails and never panics.
    #[must_use = "nothing is called until the future is polled"]
    pub fn call(&self, delivery: Delivery) -> CallFuture {
        let inner = Arc::clone(&self.inner);
        let attempt = delivery.attempt.0;
        let parts = &inner.parts;
        let place = parts.table.find(&delivery.position.topic, &delivery.event);
        let handled = place.and_then(|place| Some((place, parts.handled.get(place)?)));
        let calling = handled.map(|(place, handled)| Calling {
            place,
            attempt,
            called: handled.route.oneshot(delivery),
        });
        CallFuture { inner, calling }
    }
}

/// The future of [`App::call`].
#[must_use = "nothing is called until the future is polled"]
pub struct CallFuture {
    inner: Arc<Inner>,
    /// None when no handler is for the event.
    calling: Option<Calling>,
}

struct Calling {
    /// Of the handler.
    place: usize,
    attempt: u32,
    called: Oneshot,
}

impl Future for CallFuture {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        let Self { inner, calling } = self.get_mut();
        let Some(calling) = calling else {
            return Poll::Ready(inner.pass_over());
        };
        // A call that panicked is not polled or used again: see the route's future.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut calling.called).poll(cx)));
        let fail = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(commit))) => {
                return Poll::Ready(Verdict {
                    commit,
                    retry: None,
                    kind: VerdictKind::Handled,
                    handler: Some(calling.place),
                });
            }
            Ok(Poll::Ready(Err(error))) => Fail::from_layer(error),
            Err(panic) => panicked(&*panic),
        };
        Poll::Ready(inner.failed(calling.place, calling.attempt, &fail))
    }
}

impl fmt::Debug for CallFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

impl Inner {
    fn pass_over(&self) -> Verdict {
        self.unhandled.fetch_add(1, Ordering::Relaxed);
        Verdict {
            commit: Commit::ack(),
            retry: None,
            kind: VerdictKind::Unhandled,
            handler: None,
        }
    }

    #[cold]
    fn failed(&self, place: usize, attempt: u32, fail: &Fail) -> Verdict {
        let handled = self.parts.handled.get(place);
        let handled = handled.expect("the handler was found at this place");
        // A policy is the program's own code; one that panics gives the event up.
        let decide = || {
            handled.policy.decide(&FailedAttempt {
                fail,
                attempt,
                handler: &handled.identity.id,
                retry: &handled.retry,
            })
        };
        let decision = catch_unwind(AssertUnwindSafe(decide)).unwrap_or(Decision::DeadLetter);
        let (outcome, retry) = match decision {
            Decision::Retry { after, counted } => {
                let advice = RetryAdvice { after, counted };
                (Outcome::Retry { after }, Some(advice))
            }
            Decision::DeadLetter => {
                let failure = Box::new(failure(&handled.identity, attempt, fail));
                (Outcome::DeadLetter { failure }, None)
            }
        };
        Verdict {
            commit: Commit {
                outcome,
                effects: Effects::default(),
            },
            retry,
            kind: VerdictKind::Failed(fail.class()),
            handler: Some(place),
        }
    }
}

fn failure(identity: &Identity, attempt: u32, fail: &Fail) -> Failure {
    // So is the `Display` of an error.
    let text = catch_unwind(AssertUnwindSafe(|| fail.text(ERROR_TEXT_MAX_BYTES)));
    Failure {
        reason: fail.class().reason().to_owned(),
        error: text.unwrap_or_else(|_| "an error whose text cannot be made: it panicked".into()),
        attempts: attempt,
        first: None,
        last: Some(Timestamp::now()),
        handler: Some(identity.id.clone()),
        version: Some(identity.version.clone()),
    }
}

/// The failure that a caught panic is.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Fail {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    Fail::new(FailClass::Panic, format!("the handler panicked: {text}"))
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("topics", &self.topics())
            .field("handlers", &self.describe().len())
            .field("unhandled", &self.unhandled())
            .finish()
    }
}
