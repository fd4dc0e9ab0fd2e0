//! Functions and closures as handlers.

use std::future::Future;

use tidemill_core::Delivery;

use super::Handler;
use crate::extract::{AnyInput, FromEvent, FromEventParts};
use crate::outcome::{Fail, IntoOutcome};

impl<F, Fut, Res, S> Handler<((),), S> for F
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Res> + Send,
    Res: IntoOutcome + Send,
    S: Sync,
{
    type Input = AnyInput;
    type Output = Res;

    async fn call(&self, _: Delivery, _: &S) -> Result<Res, Fail> {
        Ok(self().await)
    }
}

macro_rules! function {
    ([$($part:ident),*], $last:ident) => {
        #[allow(non_snake_case)]
        impl<F, Fut, Res, S, M, $($part,)* $last> Handler<(M, $($part,)* $last,), S> for F
        where
            F: Fn($($part,)* $last,) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Res> + Send,
            Res: IntoOutcome + Send,
            S: Sync,
            $($part: FromEventParts<S> + Send,)*
            $last: FromEvent<S, M> + Send,
        {
            type Input = $last::Input;
            type Output = Res;

            async fn call(&self, delivery: Delivery, state: &S) -> Result<Res, Fail> {
                $(
                    let $part = $part::from_event_parts(&delivery, state)
                        .await
                        .map_err(Into::into)?;
                )*
                let $last = $last::from_event(delivery, state)
                    .await
                    .map_err(Into::into)?;
                Ok(self($($part,)* $last).await)
            }
        }
    };
}

function!([], T1);
function!([T1], T2);
function!([T1, T2], T3);
function!([T1, T2, T3], T4);
function!([T1, T2, T3, T4], T5);
function!([T1, T2, T3, T4, T5], T6);
function!([T1, T2, T3, T4, T5, T6], T7);
function!([T1, T2, T3, T4, T5, T6, T7], T8);
