//! A closure as a tower service that is always ready.

use std::future::Future;
use std::task::{Context, Poll};

use tidemill_core::{Commit, Delivery};
use tower::Service;

use crate::message::BoxError;

#[derive(Clone)]
pub(crate) struct ServiceFn<F> {
    call: F,
}

impl<F> ServiceFn<F> {
    pub(crate) fn new<Fut>(call: F) -> Self
    where
        F: Fn(Delivery) -> Fut,
        Fut: Future<Output = Result<Commit, BoxError>>,
    {
        Self { call }
    }
}

impl<F, Fut> Service<Delivery> for ServiceFn<F>
where
    F: Fn(Delivery) -> Fut,
    Fut: Future<Output = Result<Commit, BoxError>>,
{
    type Response = Commit;
    type Error = BoxError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Fut {
        (self.call)(delivery)
    }
}
