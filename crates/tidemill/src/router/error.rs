//! Why a router cannot be served.

use thiserror::Error;
use tidemill_core::{InvalidName, InvalidPattern};

/// Why a router cannot be served. Each names what stands in the way of what.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// There is nothing to do.
    #[error("the router has no handlers; add one with `on` or `on_pattern`")]
    Empty,
    /// Two handlers have one id.
    #[error(
        "two handlers have the id {id:?}: {first} and {second}; give one another id with `.id(...)`"
    )]
    DoubleId {
        /// The id.
        id: String,
        /// The one added first, by the path of its function.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two handlers are for one event type.
    #[error(
        "the handlers {first:?} and {second:?} are both for the type {ty:?} of topic {topic:?}; \
         keep one, or serve the other one in a group of its own"
    )]
    DoubleType {
        /// The topic.
        topic: String,
        /// The type, or the pattern.
        ty: String,
        /// The id of the one added first.
        first: String,
        /// The id of the other one.
        second: String,
    },
    /// Two patterns match one type, and neither is more special.
    #[error(
        "the patterns {first_pattern:?} of handler {first:?} and {second_pattern:?} of handler \
         {second:?} match the same types of topic {topic:?}, and neither has the longer text \
         before its first '*'; make one of them longer"
    )]
    Tie {
        /// The topic.
        topic: String,
        /// The id of the one added first.
        first: String,
        /// Its pattern.
        first_pattern: String,
        /// The id of the other one.
        second: String,
        /// Its pattern.
        second_pattern: String,
    },
    /// A handler's topic, type or id is not a legal one.
    #[error("handler {handler:?}: {why}")]
    Name {
        /// The id of the handler.
        handler: String,
        /// What is wrong.
        why: InvalidName,
    },
    /// A handler's pattern is not a legal one.
    #[error("handler {handler:?}: the pattern {pattern:?}: {why}")]
    Pattern {
        /// The id of the handler.
        handler: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        why: InvalidPattern,
    },
}
