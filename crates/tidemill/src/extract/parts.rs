//! Extractors that read a part of the delivery.

use std::convert::Infallible;
use std::sync::Arc;

use jiff::Timestamp;
use tidemill_core::{Attempt, Delivery, Event, EventId, EventType, ExtensionValue, GroupName};
use tidemill_core::{Key, Position, Source, Subject, TopicName};

use super::FromEventParts;
use crate::outcome::Fail;

macro_rules! part {
    ($($ty:ty: |$delivery:ident| $read:expr;)+) => {$(
        // Else an error lists some of these at random, which the traits' notes do better.
        #[diagnostic::do_not_recommend]
        impl<S: Sync> FromEventParts<S> for $ty {
            type Rejection = Infallible;

            async fn from_event_parts($delivery: &Delivery, _: &S) -> Result<Self, Infallible> {
                Ok($read)
            }
        }
    )+};
}

part! {
    EventId: |delivery| delivery.event.id().clone();
    Source: |delivery| delivery.event.source().clone();
    EventType: |delivery| delivery.event.ty().clone();
    TopicName: |delivery| delivery.position.topic.clone();
    GroupName: |delivery| delivery.group.clone();
    Position: |delivery| delivery.position.clone();
    Attempt: |delivery| delivery.attempt;
    Option<Subject>: |delivery| delivery.event.subject().cloned();
    Option<Timestamp>: |delivery| delivery.event.time();
    Option<Key>: |delivery| key_of(&delivery.event);
    Attributes: |delivery| Attributes { event: Arc::clone(&delivery.event) };
}

fn key_of(event: &Event) -> Option<Key> {
    let key = event.key()?;
    Key::new(key).ok()
}

macro_rules! required {
    ($($ty:ty, $name:literal;)+) => {$(
        /// An event without it becomes a dead letter at once; take an `Option` to allow that.
        #[diagnostic::do_not_recommend]
        impl<S: Sync> FromEventParts<S> for $ty {
            type Rejection = Fail;

            async fn from_event_parts(delivery: &Delivery, state: &S) -> Result<Self, Fail> {
                match Option::<$ty>::from_event_parts(delivery, state).await {
                    Ok(Some(part)) => Ok(part),
                    Ok(None) => Err(Fail::undecodable(concat!("the event has no ", $name))),
                    Err(never) => match never {},
                }
            }
        }
    )+};
}

required! {
    Subject, "subject";
    Key, "key";
    Timestamp, "time";
}

/// The attributes of the event without its data.
#[derive(Clone, Debug)]
pub struct Attributes {
    event: Arc<Event>,
}

impl Attributes {
    /// One extension attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ExtensionValue> {
        self.event.extension(name)
    }

    /// One extension attribute, where it is a text.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.event.extension_str(name)
    }

    /// The extension attributes, sorted by name.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &ExtensionValue)> {
        self.event.extensions()
    }

    /// `datacontenttype`; where it is missing, the data is JSON.
    #[must_use]
    pub fn datacontenttype(&self) -> Option<&str> {
        self.event.datacontenttype()
    }

    /// `dataschema`.
    #[must_use]
    pub fn dataschema(&self) -> Option<&str> {
        self.event.dataschema()
    }
}
