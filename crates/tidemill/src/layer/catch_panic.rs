//! Turns a panic into an error where the layers further out shall see it as one, to trace it or
//! to try again. Without this layer the [`App`](crate::App) still catches every panic.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tidemill_core::{Commit, Delivery};
use tower::{Layer, Service};

use crate::app::panicked;
use crate::message::BoxError;

/// Makes a failure of the class [`FailClass::Panic`](crate::FailClass::Panic) of each panic.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic { inner }
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Clone, Copy, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S> Service<Delivery> for CatchPanic<S>
where
    S: Service<Delivery, Response = Commit>,
    S::Error: Into<BoxError>,
{
    type Response = Commit;
    type Error = BoxError;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, delivery: Delivery) -> CatchPanicFuture<S::Future> {
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(delivery)));
        let (inner, panic) = match called {
            Ok(future) => (Some(future), None),
            Err(panic) => (None, Some(BoxError::from(panicked(&*panic)))),
        };
        CatchPanicFuture { inner, panic }
    }
}

pin_project! {
    /// The future of [`CatchPanic`].
    #[derive(Debug)]
    pub struct CatchPanicFuture<F> {
        #[pin]
        inner: Option<F>,
        panic: Option<BoxError>,
    }
}

impl<F, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Commit, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Commit, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(error) = this.panic.take() {
            return Poll::Ready(Err(error));
        }
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Pending;
        };
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(polled) => polled.map_err(Into::into),
            Err(panic) => Poll::Ready(Err(panicked(&*panic).into())),
        }
    }
}
