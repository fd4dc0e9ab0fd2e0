//! All erasure of types: a handler, and each tower layer around it, becomes a [`Route`]. Calls
//! are pooled: a route keeps services that are not in a call, each with the memory of its future,
//! so that a call allocates nothing.
//!
//! This file may not know extractors, outcomes or how handlers are found.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tidemill_core::{Commit, Delivery};
use tower::{Layer, Service};

use crate::limits::IDLE_CALLS_MAX;
use crate::message::BoxError;

/// Wraps a route into another one.
pub(crate) type ErasedLayer = Arc<dyn Fn(Route) -> Route + Send + Sync>;

/// Erases a tower layer.
pub(crate) fn erase_layer<L>(layer: L) -> ErasedLayer
where
    L: Layer<Route> + Send + Sync + 'static,
    L::Service: Service<Delivery, Response = Commit> + Clone + Send + 'static,
    <L::Service as Service<Delivery>>::Error: Into<BoxError>,
    <L::Service as Service<Delivery>>::Future: Send + 'static,
{
    Arc::new(move |route| Route::new(layer.layer(route)))
}

/// A handler with its layers as a tower service, whatever their types: what a layer is given to
/// wrap. Clones share everything but their readiness.
pub struct Route {
    pool: Arc<dyn Pool>,
    /// The call that was made ready and not begun.
    ready: Option<Box<dyn Call>>,
}

impl Route {
    /// Erases `service`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Delivery, Response = Commit> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self {
            pool: Arc::new(Idle {
                shelf: Mutex::new(Shelf {
                    model: service,
                    idle: Vec::new(),
                }),
            }),
            ready: None,
        }
    }

    /// Calls for the last time.
    fn begin(mut self, delivery: Delivery) -> RouteFuture {
        let mut call = self.ready.take().unwrap_or_else(|| self.pool.take());
        call.begin(delivery);
        RouteFuture {
            call: Some(call),
            pool: self.pool,
            in_poll: false,
        }
    }

    /// The part of it that many tasks share.
    pub(crate) fn share(self) -> SharedRoute {
        SharedRoute { pool: self.pool }
    }
}

/// A [`Route`] that many tasks call at once; it has no readiness of its own.
#[derive(Clone)]
pub(crate) struct SharedRoute {
    pool: Arc<dyn Pool>,
}

impl SharedRoute {
    /// Waits until it is ready and calls.
    pub(crate) fn oneshot(&self, delivery: Delivery) -> Oneshot {
        let route = Route {
            pool: Arc::clone(&self.pool),
            ready: None,
        };
        Oneshot::Waiting(route, delivery)
    }
}

impl Clone for Route {
    fn clone(&self) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            ready: None,
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

impl Service<Delivery> for Route {
    type Response = Commit;
    type Error = BoxError;
    type Future = RouteFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let call = self.ready.get_or_insert_with(|| self.pool.take());
        call.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> RouteFuture {
        let mut call = self.ready.take().unwrap_or_else(|| self.pool.take());
        call.begin(delivery);
        RouteFuture {
            call: Some(call),
            pool: Arc::clone(&self.pool),
            in_poll: false,
        }
    }
}

/// The future of a [`Route`].
pub struct RouteFuture {
    call: Option<Box<dyn Call>>,
    pool: Arc<dyn Pool>,
    /// Stays set when a poll panicked: that call is not used again.
    in_poll: bool,
}

impl RouteFuture {
    fn give_back(&mut self) {
        if let Some(mut call) = self.call.take()
            && !self.in_poll
        {
            call.clear();
            self.pool.put(call);
        }
    }
}

impl Future for RouteFuture {
    type Output = Result<Commit, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.in_poll = true;
        let result = match &mut self.call {
            Some(call) => call.poll(cx),
            None => Poll::Pending,
        };
        self.in_poll = false;
        match &result {
            Poll::Pending => {}
            Poll::Ready(Ok(_)) => self.give_back(),
            // A layer that turned the call away may have left its service in line for a permit,
            // which nobody would ever take up: that service is not used again.
            Poll::Ready(Err(_)) => self.call = None,
        }
        result
    }
}

impl Drop for RouteFuture {
    /// A cancelled call is cleared and used again.
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for RouteFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteFuture").finish_non_exhaustive()
    }
}

/// The future of [`SharedRoute::oneshot`].
pub(crate) enum Oneshot {
    /// Not ready yet.
    Waiting(Route, Delivery),
    Running(RouteFuture),
    Done,
}

impl Future for Oneshot {
    type Output = Result<Commit, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Waiting(route, _) = &mut *self {
            match route.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            if let Self::Waiting(route, delivery) = std::mem::replace(&mut *self, Self::Done) {
                *self = Self::Running(route.begin(delivery));
            }
        }
        match &mut *self {
            Self::Running(future) => Pin::new(future).poll(cx),
            Self::Waiting(..) | Self::Done => Poll::Pending,
        }
    }
}

/// One service and the memory of its future.
trait Call: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
    fn begin(&mut self, delivery: Delivery);
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Commit, BoxError>>;
    fn clear(&mut self);
}

struct Slot<S, F> {
    service: S,
    /// Boxed once, then set again for each call.
    future: Pin<Box<Option<F>>>,
}

impl<S, F, E> Call for Slot<S, F>
where
    S: Service<Delivery, Response = Commit, Future = F, Error = E> + Send,
    F: Future<Output = Result<Commit, E>> + Send,
    E: Into<BoxError>,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn begin(&mut self, delivery: Delivery) {
        let future = self.service.call(delivery);
        self.future.set(Some(future));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Commit, BoxError>> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx).map_err(Into::into),
            None => Poll::Pending,
        }
    }

    fn clear(&mut self) {
        self.future.set(None);
    }
}

/// Gives out calls and takes them back.
trait Pool: Send + Sync {
    fn take(&self) -> Box<dyn Call>;
    fn put(&self, call: Box<dyn Call>);
}

struct Idle<S> {
    /// Held for a few instructions at a time, never while a handler runs.
    shelf: Mutex<Shelf<S>>,
}

struct Shelf<S> {
    /// What new calls are cloned from.
    model: S,
    /// At most [`IDLE_CALLS_MAX`].
    idle: Vec<Box<dyn Call>>,
}

impl<S> Idle<S> {
    /// A panic in the service's `clone` leaves nothing half done here.
    fn shelf(&self) -> MutexGuard<'_, Shelf<S>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Pool for Idle<S>
where
    S: Service<Delivery, Response = Commit> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn take(&self) -> Box<dyn Call> {
        let mut shelf = self.shelf();
        if let Some(call) = shelf.idle.pop() {
            return call;
        }
        let service = shelf.model.clone();
        drop(shelf);
        Box::new(Slot {
            service,
            future: Box::pin(None),
        })
    }

    fn put(&self, call: Box<dyn Call>) {
        let mut shelf = self.shelf();
        if shelf.idle.len() < IDLE_CALLS_MAX {
            shelf.idle.push(call);
        }
    }
}
