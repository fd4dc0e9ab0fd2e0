//! What ties a Rust type to an event type, and how a message becomes an event.
//!
//! This file may not know handlers or buses.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use schemars::Schema;
use thiserror::Error;
use tidemill_core::{Event, EventId, EventType, InvalidEvent, InvalidName, Key, Source};
use tidemill_core::{ExtensionValue, Subject, TopicName};

/// An error of any kind, as tower has it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Data that could not be written or read.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CodecError(#[source] pub BoxError);

impl From<serde_json::Error> for CodecError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.into())
    }
}

/// A Rust type that is the data of one event type. Derive it with
/// [`#[derive(Message)]`](macro@crate::Message); by hand it can be any encoding.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message: it names no event type and no topic",
    label = "not a message",
    note = "add `#[derive(Message, Serialize, Deserialize, JsonSchema)]` and \
            `#[message(type = \"...\", topic = \"...\")]` to the type",
    note = "`Router::on` takes handlers whose last argument is `Data<T>`; a handler that takes \
            anything else goes to `Router::on_pattern(topic, pattern, handler)`"
)]
pub trait Message: Sized + Send + Sync + 'static {
    /// The CloudEvents `type`.
    const TYPE: &'static str;
    /// The topic that it is published to.
    const TOPIC: &'static str;
    /// The CloudEvents `source` where the publisher names none.
    const SOURCE: Option<&'static str> = None;
    /// The CloudEvents `datacontenttype`.
    const CONTENT_TYPE: &'static str = "application/json";

    /// The key that decides partition and order; none means any partition, no order.
    fn key(&self) -> Option<Cow<'_, str>>;

    /// Writes the data.
    ///
    /// # Errors
    /// [`CodecError`] when the value has no written form.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// Reads the data.
    ///
    /// # Errors
    /// [`CodecError`] when the data is not of this type.
    fn decode(data: &[u8]) -> Result<Self, CodecError>;

    /// The JSON Schema of the data.
    fn schema() -> Schema;
}

/// Why a message could not become an event.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The value has no written form.
    #[error("cannot write the data: {0}")]
    Codec(#[from] CodecError),
    /// Its type, topic, source or key is not a legal one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Another attribute is not a legal one.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
}

/// A message with what only its sender knows. Made from a message by [`Outgoing::new`], or by
/// `into()`.
///
/// ```
/// # use tidemill::{Message, Outgoing, EventId, Subject};
/// # use serde::{Serialize, Deserialize};
/// # use schemars::JsonSchema;
/// # #[derive(Message, Serialize, Deserialize, JsonSchema)]
/// # #[message(type = "order_paid", topic = "orders")]
/// # struct OrderPaid { order_id: u64 }
/// let paid = Outgoing::new(OrderPaid { order_id: 7 })
///     .id(EventId::new("payment-7")?)
///     .subject(Subject::new("order/7")?);
/// # Ok::<(), tidemill::InvalidName>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Outgoing<M> {
    pub(crate) message: M,
    pub(crate) envelope: Envelope,
}

/// What the sender of a message said about its event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Envelope {
    id: Option<EventId>,
    source: Option<Source>,
    subject: Option<Subject>,
    time: Option<Timestamp>,
    topic: Option<TopicName>,
    key: Option<Key>,
    extensions: Vec<(String, ExtensionValue)>,
}

impl<M> From<M> for Outgoing<M> {
    fn from(message: M) -> Self {
        Self::new(message)
    }
}

impl<M> Outgoing<M> {
    /// The message alone.
    pub fn new(message: M) -> Self {
        Self {
            message,
            envelope: Envelope::default(),
        }
    }

    /// Under this event id, instead of one that is made.
    pub fn id(mut self, id: EventId) -> Self {
        self.envelope.id = Some(id);
        self
    }

    /// From this source, instead of the message's or the sender's.
    pub fn source(mut self, source: Source) -> Self {
        self.envelope.source = Some(source);
        self
    }

    /// About this subject.
    pub fn subject(mut self, subject: Subject) -> Self {
        self.envelope.subject = Some(subject);
        self
    }

    /// Happened at this time, instead of now.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.envelope.time = Some(time);
        self
    }

    /// To this topic, instead of the message's.
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.envelope.topic = Some(topic);
        self
    }

    /// Under this key, instead of the message's.
    pub fn key(mut self, key: Key) -> Self {
        self.envelope.key = Some(key);
        self
    }

    /// With this extension attribute.
    pub fn extension(mut self, name: impl Into<String>, value: ExtensionValue) -> Self {
        let extensions = &mut self.envelope.extensions;
        extensions.push((name.into(), value));
        self
    }

    /// The message.
    pub fn message(&self) -> &M {
        &self.message
    }
}

/// What makes an event of a message when the sender did not say.
pub(crate) struct Defaults<'a> {
    pub(crate) source: &'a Source,
    /// Names the event that this one is a consequence of.
    pub(crate) extensions: &'a [(&'static str, ByteString)],
    pub(crate) now: Timestamp,
}

impl Envelope {
    /// The topic and the event of `message`; `new_id` gives the id where none is set.
    pub(crate) fn into_event<M: Message>(
        self,
        message: &M,
        defaults: &Defaults<'_>,
        new_id: impl FnOnce() -> Result<EventId, InvalidName>,
    ) -> Result<(TopicName, Event), MessageError> {
        let topic = match self.topic {
            Some(topic) => topic,
            None => TopicName::new(ByteString::from_static(M::TOPIC))?,
        };
        let key = match (self.key, message.key()) {
            (Some(key), _) => Some(key),
            (None, Some(text)) => Some(Key::new(text.into_owned())?),
            (None, None) => None,
        };
        let id = self.id.map_or_else(new_id, Ok)?;
        let source = source_or::<M>(self.source, defaults.source)?;
        let ty = EventType::new(ByteString::from_static(M::TYPE))?;
        let content_type = ByteString::from_static(M::CONTENT_TYPE);
        let mut event = Event::builder(id, source, ty)
            .time(self.time.unwrap_or(defaults.now))
            .data(content_type, message.encode()?);
        if let Some(key) = key {
            event = event.key(&key);
        }
        if let Some(subject) = self.subject {
            event = event.subject(subject);
        }
        for (name, value) in defaults.extensions {
            event = event.extension(name, ExtensionValue::String(value.clone()));
        }
        for (name, value) in self.extensions {
            event = event.extension(&name, value);
        }
        Ok((topic, event.build()?))
    }
}

fn source_or<M: Message>(given: Option<Source>, default: &Source) -> Result<Source, InvalidName> {
    match (given, M::SOURCE) {
        (Some(source), _) => Ok(source),
        (None, Some(source)) => Source::new(ByteString::from_static(source)),
        (None, None) => Ok(default.clone()),
    }
}

/// What the derive macro's output calls. No part of the interface.
#[doc(hidden)]
pub mod private {
    use std::fmt::Display;

    pub use std::borrow::Cow;

    pub use bytes::Bytes;
    pub use schemars::Schema;

    use super::CodecError;

    pub fn key_text(key: &impl Display) -> Cow<'static, str> {
        Cow::Owned(key.to_string())
    }

    pub fn encode_json<T: serde::Serialize>(value: &T) -> Result<Bytes, CodecError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    pub fn decode_json<T: serde::de::DeserializeOwned>(data: &[u8]) -> Result<T, CodecError> {
        // One check of the whole is cheaper than one for each text in it.
        Ok(match std::str::from_utf8(data) {
            Ok(text) => serde_json::from_str(text)?,
            Err(_) => serde_json::from_slice(data)?,
        })
    }

    pub fn schema_of<T: schemars::JsonSchema>() -> Schema {
        schemars::schema_for!(T)
    }
}
