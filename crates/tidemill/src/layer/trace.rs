//! A span around each call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;
use tidemill_core::{Commit, Delivery, Outcome};
use tower::{Layer, Service};
use tracing::{Span, debug, field, info_span, warn};

/// Puts a span `event` around each call, with the event's id, type, position, attempt and group,
/// and its `traceparent` where it has one; reports how the call ended and how long it took, at
/// debug level, a failure as a warning.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Trace<S> {
    inner: S,
}

impl<S> Service<Delivery> for Trace<S>
where
    S: Service<Delivery, Response = Commit>,
    S::Error: fmt::Display,
{
    type Response = Commit;
    type Error = S::Error;
    type Future = TraceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> TraceFuture<S::Future> {
        let span = span(&delivery);
        // A filtered span costs no look at the clock.
        let begun = (!span.is_disabled()).then(Instant::now);
        let inner = span.in_scope(|| self.inner.call(delivery));
        TraceFuture { inner, span, begun }
    }
}

fn span(delivery: &Delivery) -> Span {
    let event = &*delivery.event;
    let span = info_span!(
        "event",
        id = event.id().as_str(),
        r#type = event.ty().as_str(),
        position = %delivery.position,
        attempt = delivery.attempt.0,
        group = delivery.group.as_str(),
        traceparent = field::Empty,
    );
    if let Some(parent) = event.extension_str(tidemill_core::event::TRACE_PARENT) {
        span.record("traceparent", parent);
    }
    span
}

pin_project! {
    /// The future of [`Trace`].
    #[derive(Debug)]
    pub struct TraceFuture<F> {
        #[pin]
        inner: F,
        span: Span,
        begun: Option<Instant>,
    }
}

impl<F, E> Future for TraceFuture<F>
where
    F: Future<Output = Result<Commit, E>>,
    E: fmt::Display,
{
    type Output = Result<Commit, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        let Poll::Ready(result) = this.inner.poll(cx) else {
            return Poll::Pending;
        };
        let took_us = this.begun.map(|begun| begun.elapsed().as_micros() as u64);
        match &result {
            Ok(commit) => {
                let outcome = outcome_in_a_word(&commit.outcome);
                let published = commit.effects.events.len();
                debug!(outcome, published, took_us, "handled");
            }
            Err(error) => warn!(%error, took_us, "failed"),
        }
        Poll::Ready(result)
    }
}

fn outcome_in_a_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ack => "ack",
        Outcome::Retry { .. } => "retry",
        Outcome::DeadLetter { .. } => "dead_letter",
    }
}
