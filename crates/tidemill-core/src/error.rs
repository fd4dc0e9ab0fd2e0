//! One error type an operation, each text saying what happened and what to do next.

use std::time::Duration;

use thiserror::Error;

use crate::event::InvalidEvent;
use crate::name::{GroupName, TopicName};
use crate::position::{Offset, Partition};

/// Why a bus takes no writes now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// A sync failed: what is durable is still served, and only a restart helps.
    #[error("the log takes no more writes because a sync failed ({0}); restart the broker")]
    SyncFailed(String),
    /// The disk, or the bound of an in-memory broker, is full.
    #[error("no space left for new events ({0}); free space, then try again")]
    Full(String),
    /// Too much is waiting already.
    #[error("too much is waiting already; try again later")]
    Overloaded,
    /// The bus was closed or the connection to it is gone.
    #[error("the bus is closed")]
    Closed,
}

/// Why a publish was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The topic does not exist and is not created by its first use.
    #[error("unknown topic {0}; create it first")]
    UnknownTopic(TopicName),
    /// It is a queue, and this is a door for topics.
    #[error("{0} is a queue, no topic; enqueue the message instead")]
    IsQueue(TopicName),
    /// The event is not a valid one.
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
    /// The event or the batch is larger than the bus takes.
    #[error("{size_bytes} bytes are more than the allowed {max_bytes}; send less at once")]
    TooLarge {
        /// What was sent.
        size_bytes: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write began but its sync failed: the events may or may not be there after a restart.
    #[error("it is not known whether the events were kept ({0}); check after a restart")]
    Indeterminate(String),
    /// The engine behind the bus said no for a reason of its own.
    #[error("{0}")]
    Other(String),
}

impl PublishError {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(Unavailable::Full(_) | Unavailable::Overloaded)
        )
    }
}

/// A group cannot go on there: nothing is kept below the first offset, and behind the next one
/// there may never be anything.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "offset {offset} is outside of {topic}/{partition}: its first offset is {earliest}, its next \
     one {end}; take one from {earliest} to {end}"
)]
pub struct OutOfRange {
    /// The topic.
    pub topic: TopicName,
    /// Its part.
    pub partition: Partition,
    /// What was asked for.
    pub offset: Offset,
    /// The first offset kept.
    pub earliest: Offset,
    /// The offset that the next event gets.
    pub end: Offset,
}

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// The topic does not exist and is not created by its first use.
    #[error("unknown topic {0}; create it first")]
    UnknownTopic(TopicName),
    /// It is a queue, and this is a door for topics.
    #[error("{0} is a queue, no topic; dequeue from it instead")]
    IsQueue(TopicName),
    /// The bus cannot give what the subscription needs.
    #[error("this bus cannot give {need}: {why}")]
    Unsupported {
        /// The missing guarantee.
        need: &'static str,
        /// The reason, and what to use instead.
        why: String,
    },
    /// The group has members of another kind or with other settings.
    #[error("group {group} is already used otherwise: {why}")]
    GroupConflict {
        /// The group.
        group: GroupName,
        /// Both settings.
        why: String,
    },
    /// The group is new, and was to begin with an offset that is not kept.
    #[error(transparent)]
    OutOfRange(Box<OutOfRange>),
    /// The bus takes no writes, or none at all.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The engine behind the bus said no for a reason of its own.
    #[error("{0}")]
    Other(String),
}

/// Why a member got no deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PullError {
    /// The group, or one of its topics, was deleted.
    #[error("the group or its topic was deleted; subscribe again")]
    Gone,
    /// Records that cannot be read; named, fenced off, never deleted by themselves.
    #[error("partition {partition} of {topic} is damaged at offset {offset}: {why}")]
    Damaged {
        /// The topic.
        topic: TopicName,
        /// Its part.
        partition: Partition,
        /// The first unreadable offset.
        offset: Offset,
        /// What the check said.
        why: String,
    },
    /// The bus was closed or the connection to it is gone.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The engine behind the bus said no for a reason of its own.
    #[error("{0}")]
    Other(String),
}

/// Why a settlement and its effects were not committed. Nothing of them is kept, except after
/// [`SettleError::Indeterminate`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettleError {
    /// The attempt is no longer this holder's: it was settled, or given to another.
    #[error("this attempt is stale: the event was settled or given to another member")]
    Stale,
    /// One of the staged events was refused.
    #[error("a staged event was refused: {0}")]
    Effect(PublishError),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write began but its sync failed.
    #[error("it is not known whether the commit was kept ({0}); check after a restart")]
    Indeterminate(String),
    /// The engine behind the bus said no for a reason of its own.
    #[error("{0}")]
    Other(String),
}

/// Why events could not be read by offset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// It is a queue, and this is a door for topics.
    #[error("{0} is a queue, no topic; peek into it, or dequeue from it, instead")]
    IsQueue(TopicName),
    /// No such topic.
    #[error("unknown topic {0}")]
    UnknownTopic(TopicName),
    /// No such partition.
    #[error("topic {topic} has no partition {partition}; it has {count}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: Partition,
        /// How many there are.
        count: u32,
    },
    /// The offset lies outside of what is kept.
    #[error("offset {offset} is outside of {earliest}..={end}; read from one of these")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset kept.
        earliest: Offset,
        /// The offset that the next event gets.
        end: Offset,
    },
    /// Records that cannot be read; named, fenced off, never deleted by themselves.
    #[error("the log is damaged at offset {offset}: {why}; read on from {resume}")]
    Damaged {
        /// The first unreadable offset.
        offset: Offset,
        /// Where reading may go on.
        resume: Offset,
        /// What the check said.
        why: String,
    },
    /// The bus was closed or the connection to it is gone.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The engine behind the bus said no for a reason of its own.
    #[error("{0}")]
    Other(String),
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The request could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No answer came in time; the request may still be handled.
    #[error("no reply within {0:?}; the request may still be handled")]
    Timeout(Duration),
    /// The request ended in the dead letters.
    #[error("the handler gave the request up: {0}")]
    DeadLettered(String),
    /// Too many requests wait for their answers.
    #[error("too many requests wait for a reply; try again later")]
    TooMany,
}
