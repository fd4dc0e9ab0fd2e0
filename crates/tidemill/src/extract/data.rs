//! Extractors that consume the event: its data, decoded or not, or all of it.
//!
//! None is recommended in a compiler's message: the traits' notes name them in better order.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::{Delivery, Event};

use super::{AnyInput, FromEvent};
use crate::message::{Message, private};
use crate::outcome::Fail;

/// The event's data as the message `T`. The last argument of a handler.
///
/// Data that is not a `T` makes the event a dead letter at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data<T>(pub T);

/// The event's data as any type that serde reads from JSON: the way without a schema and
/// without an event type of its own. In [`Reply`](crate::Reply) it answers without a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Json<T>(pub T);

impl<T> JsonSchema for Json<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyJson".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

fn undecodable(event: &Event, why: impl std::fmt::Display) -> Fail {
    Fail::undecodable(format!("the data of type {:?}: {why}", event.ty().as_str()))
}

#[diagnostic::do_not_recommend]
impl<S: Sync, T: Message> FromEvent<S> for Data<T> {
    type Rejection = Fail;
    type Input = T;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Fail> {
        decode_message(&delivery.event).map(Self)
    }
}

fn decode_message<T: Message>(event: &Event) -> Result<T, Fail> {
    let data = event.data().ok_or_else(|| undecodable(event, "missing"))?;
    T::decode(data).map_err(|error| undecodable(event, error))
}

#[diagnostic::do_not_recommend]
impl<S: Sync, T: Message> FromEvent<S> for Option<Data<T>> {
    type Rejection = Fail;
    type Input = T;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Fail> {
        match delivery.event.data() {
            None => Ok(None),
            Some(_) => decode_message(&delivery.event).map(|data| Some(Data(data))),
        }
    }
}

fn decode_json<T: DeserializeOwned>(event: &Event, data: &[u8]) -> Result<T, Fail> {
    if !event.is_json() {
        let have = event.datacontenttype().unwrap_or_default();
        return Err(undecodable(event, format_args!("{have} is not JSON")));
    }
    private::decode_json(data).map_err(|error| undecodable(event, error))
}

#[diagnostic::do_not_recommend]
impl<S: Sync, T: DeserializeOwned> FromEvent<S> for Json<T> {
    type Rejection = Fail;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Fail> {
        let event = &delivery.event;
        let data = event.data().ok_or_else(|| undecodable(event, "missing"))?;
        decode_json(event, data).map(Self)
    }
}

#[diagnostic::do_not_recommend]
impl<S: Sync, T: DeserializeOwned> FromEvent<S> for Option<Json<T>> {
    type Rejection = Fail;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Fail> {
        let event = &delivery.event;
        let Some(data) = event.data() else {
            return Ok(None);
        };
        decode_json(event, data).map(|json| Some(Json(json)))
    }
}

#[diagnostic::do_not_recommend]
impl<S: Sync> FromEvent<S> for Delivery {
    type Rejection = Infallible;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Infallible> {
        Ok(delivery)
    }
}

#[diagnostic::do_not_recommend]
impl<S: Sync> FromEvent<S> for Arc<Event> {
    type Rejection = Infallible;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Infallible> {
        Ok(delivery.event)
    }
}

#[diagnostic::do_not_recommend]
impl<S: Sync> FromEvent<S> for Event {
    type Rejection = Infallible;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Infallible> {
        Ok(Arc::unwrap_or_clone(delivery.event))
    }
}

/// The data as it is; empty when there is none.
#[diagnostic::do_not_recommend]
impl<S: Sync> FromEvent<S> for Bytes {
    type Rejection = Infallible;
    type Input = AnyInput;

    async fn from_event(delivery: Delivery, _: &S) -> Result<Self, Infallible> {
        Ok(delivery.event.data().cloned().unwrap_or_default())
    }
}
