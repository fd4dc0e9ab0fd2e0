//! Where an event lies: topic identity, partition, offset; and which attempt at it this is.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::TopicName;

/// The identity of a topic: survives nothing but the topic itself, so a topic deleted and
/// created again under the same name has a new one. Used in paths and in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub struct TopicId(#[cfg_attr(feature = "schema", schemars(with = "String"))] pub Uuid);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({})", self.0)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize,
        )]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of one ordered part of a topic, from 0.
    Partition(u32)
}
number! {
    /// The position of an event in its partition, from 0. Offsets ascend and are never re-used
    /// for another durable event.
    Offset(u64)
}
number! {
    /// Counts the changes of a group's membership. A settlement of an older generation whose
    /// deliveries have moved on is refused.
    Generation(u64)
}
number! {
    /// Which try at an event this is, from 1.
    Attempt(u32)
}

impl Offset {
    /// The offset `count` places further on; saturates at the largest offset.
    #[must_use]
    pub fn plus(self, count: u64) -> Offset {
        Offset(self.0.saturating_add(count))
    }

    /// The next offset.
    #[must_use]
    pub fn next(self) -> Offset {
        self.plus(1)
    }
}

/// Where one event is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The topic's name.
    pub topic: TopicName,
    /// The part of the topic.
    pub partition: Partition,
    /// The place in that part.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}
