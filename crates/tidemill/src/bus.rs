//! Messages straight to a bus: publish one, or ask and wait for the answer.
//!
//! This file may not know handlers or which bus it is.

use std::future::Future;
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tidemill_core::error::{PublishError, RequestError};
use tidemill_core::{Bus, Event, EventId, InvalidName, Position, Source, TopicName};
use uuid::Uuid;

use crate::message::{CodecError, Defaults, Envelope, Message, MessageError, Outgoing};

/// The CloudEvents `source` where neither message nor [`Publish`] names one.
const DEFAULT_SOURCE: &str = "/tidemill";

/// Why a message was not published.
#[derive(Debug, Error)]
pub enum SendError {
    /// It could not become an event.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The bus did not acknowledge it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why a question got no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// It could not become an event.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The bus brought no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer is not of the expected type.
    #[error("cannot read the answer: {0}")]
    Answer(CodecError),
}

/// Messages on a [`Bus`], or on a [`Publish`] that names their source.
///
/// New events get a UUID version 7 as their id and the time of the call.
pub trait BusExt: Sync {
    /// The bus.
    fn bus(&self) -> &Bus;

    /// The source of messages that name none.
    fn default_source(&self) -> Source {
        Source::new(ByteString::from_static(DEFAULT_SOURCE)).expect("it is a legal source")
    }

    /// Publishes one message. Resolves with its position when it is as durable as the bus's
    /// flush policy says.
    ///
    /// # Errors
    /// [`SendError`] says whether message or bus stood in the way.
    fn send<M: Message>(
        &self,
        message: &M,
    ) -> impl Future<Output = Result<Position, SendError>> + Send {
        let event = event(message, Envelope::default(), &self.default_source());
        async move {
            let (topic, event) = event?;
            publish_one(self.bus(), topic, event).await
        }
    }

    /// Publishes one message under an id, a subject or whatever else [`Outgoing`] says.
    ///
    /// # Errors
    /// As [`BusExt::send`].
    fn send_with<M: Message>(
        &self,
        outgoing: Outgoing<M>,
    ) -> impl Future<Output = Result<Position, SendError>> + Send {
        let Outgoing { message, envelope } = outgoing;
        let event = event(&message, envelope, &self.default_source());
        async move {
            let (topic, event) = event?;
            publish_one(self.bus(), topic, event).await
        }
    }

    /// Publishes several messages, all of them or none. Resolves with their positions in their
    /// order.
    ///
    /// # Errors
    /// As [`BusExt::send`].
    fn send_all<M: Message>(
        &self,
        messages: &[M],
    ) -> impl Future<Output = Result<Vec<Position>, SendError>> + Send {
        let source = self.default_source();
        let events: Result<Vec<_>, _> = messages
            .iter()
            .map(|message| event(message, Envelope::default(), &source))
            .collect();
        async move {
            let events = events?;
            let Some(topic) = events.first().map(|(topic, _)| topic.clone()) else {
                return Ok(Vec::new());
            };
            let events = events.into_iter().map(|(_, event)| event).collect();
            Ok(self.bus().publish(topic, events).await?)
        }
    }

    /// Publishes a message and waits at most `timeout` for the [`Reply`](crate::Reply) of the
    /// handler that takes it.
    ///
    /// # Errors
    /// [`AskError`]; after a timeout the message may still be handled.
    fn ask<M: Message, R: DeserializeOwned>(
        &self,
        message: &M,
        timeout: Duration,
    ) -> impl Future<Output = Result<R, AskError>> + Send {
        let event = event(message, Envelope::default(), &self.default_source());
        async move { ask_one(self.bus(), event?, timeout).await }
    }

    /// As [`BusExt::ask`], under an id, a subject or whatever else [`Outgoing`] says: a handler
    /// that remembers the ids of its inputs is asked once, however often this is sent.
    ///
    /// # Errors
    /// As [`BusExt::ask`].
    fn ask_with<M: Message, R: DeserializeOwned>(
        &self,
        outgoing: Outgoing<M>,
        timeout: Duration,
    ) -> impl Future<Output = Result<R, AskError>> + Send {
        let Outgoing { message, envelope } = outgoing;
        let event = event(&message, envelope, &self.default_source());
        async move { ask_one(self.bus(), event?, timeout).await }
    }
}

impl BusExt for Bus {
    fn bus(&self) -> &Bus {
        self
    }
}

/// A [`Bus`] for one sender: its messages come from `source` where they name no other.
#[derive(Clone, Debug)]
pub struct Publish {
    bus: Bus,
    source: Source,
}

impl Publish {
    /// Publishes to `bus` from `source`.
    #[must_use]
    pub fn new(bus: Bus, source: Source) -> Self {
        Self { bus, source }
    }
}

impl BusExt for Publish {
    fn bus(&self) -> &Bus {
        &self.bus
    }

    fn default_source(&self) -> Source {
        self.source.clone()
    }
}

fn event<M: Message>(
    message: &M,
    envelope: Envelope,
    source: &Source,
) -> Result<(TopicName, Event), MessageError> {
    let defaults = Defaults {
        source,
        extensions: &[],
        now: Timestamp::now(),
    };
    envelope.into_event(message, &defaults, new_id)
}

/// A UUID version 7 (RFC 9562): ids of one sender ascend with time.
fn new_id() -> Result<EventId, InvalidName> {
    EventId::new(Uuid::now_v7().to_string())
}

async fn ask_one<R: DeserializeOwned>(
    bus: &Bus,
    (topic, event): (TopicName, Event),
    timeout: Duration,
) -> Result<R, AskError> {
    let answer = bus.request(topic, event, timeout).await?;
    let data = answer.data().map(AsRef::as_ref).unwrap_or_default();
    serde_json::from_slice(data).map_err(|error| AskError::Answer(error.into()))
}

async fn publish_one(bus: &Bus, topic: TopicName, event: Event) -> Result<Position, SendError> {
    let positions = bus.publish(topic, vec![event]).await?;
    let nothing = || PublishError::Other("the bus acknowledged no position".into());
    Ok(positions.into_iter().next().ok_or_else(nothing)?)
}
