//! What a handler may take: extractors that read parts of a delivery, in any order, and one that
//! consumes it, last.
//!
//! This room may not know how handlers are found or called.
//!
#![doc = include_str!("../docs/extractors.md")]

use std::future::Future;

use tidemill_core::Delivery;

use crate::outcome::Fail;

mod data;
mod input;
mod parts;
mod state;

pub use data::{Data, Json};
pub use input::{AnyInput, Input, InputInfo};
pub use parts::Attributes;
pub use state::{FromRef, State};

#[doc(hidden)]
pub mod private {
    //! Tells the two ways apart by which a type is an extractor, so that both may exist.

    #[derive(Clone, Copy, Debug)]
    pub enum ViaEvent {}
    #[derive(Clone, Copy, Debug)]
    pub enum ViaParts {}
}

/// Reads a part of a delivery: any argument of a handler but the last must do so.
///
/// Of this crate: [`State`], [`Subject`](crate::Subject), [`Key`](crate::Key),
/// [`EventId`](crate::EventId), [`EventType`](crate::EventType), [`Source`](crate::Source),
/// [`TopicName`](crate::TopicName), [`GroupName`](crate::GroupName),
/// [`Position`](crate::Position), [`Attempt`](crate::Attempt), [`Attributes`], and `Option` of
/// what may be missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a delivery without consuming it",
    label = "this argument reads no part of a delivery",
    note = "every argument but the last must implement `FromEventParts`: `State<S>`, `Subject`, \
            `Key`, `Attributes`, `Attempt`, `Position`, ...",
    note = "an argument that takes the whole event, such as `Data<T>`, must be the last one"
)]
pub trait FromEventParts<S>: Sized {
    /// Why it could not be read; an undecodable or a transient [`Fail`].
    type Rejection: Into<Fail>;

    /// Reads it.
    fn from_event_parts(
        delivery: &Delivery,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;
}

/// Consumes a delivery: the last argument of a handler.
///
/// Of this crate: [`Data<T>`], [`Json<T>`], [`Event`](crate::Event), `Arc<Event>`, [`Delivery`],
/// [`Bytes`](crate::Bytes), `Option` of the first two, and every type that reads parts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no argument of a handler",
    label = "this argument takes nothing from a delivery",
    note = "the last argument must implement `FromEvent`: `Data<T>` with `T: Message`, `Json<T>`, \
            `Event`, `Delivery`, `Bytes`, or anything that reads parts"
)]
pub trait FromEvent<S, M = private::ViaEvent>: Sized {
    /// Why it could not be made; an undecodable or a transient [`Fail`].
    type Rejection: Into<Fail>;

    /// What kind of event it expects.
    type Input: Input;

    /// Makes it.
    fn from_event(
        delivery: Delivery,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send;
}

impl<S, T> FromEvent<S, private::ViaParts> for T
where
    T: FromEventParts<S>,
    S: Sync,
{
    type Rejection = T::Rejection;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, state: &S) -> Result<Self, Self::Rejection> {
        T::from_event_parts(&delivery, state).await
    }
}
