//! One error type an operation, each text saying what happened and what to do next.

use thiserror::Error;
use tidemill_core::error::{OutOfRange, Unavailable};
use tidemill_core::{GroupName, Offset, Partition, TopicName};
use tidemill_log::CommitError;
pub use tidemill_log::OpenError;

use crate::machine::Refusal;

/// Why a topic was not made, changed, deleted or trimmed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// There is one of this name.
    #[error("the topic {0} exists already; delete it first, or use another name")]
    Exists(TopicName),
    /// There is none of this name.
    #[error("unknown topic {0}; create it first")]
    Unknown(TopicName),
    /// It is a queue, and this is a door for topics.
    #[error("{0} is a queue, no topic; see the commands and doors of queues")]
    IsQueue(TopicName),
    /// There is no such partition.
    #[error("there is no such partition; the topic has {count}, numbered from 0")]
    UnknownPartition {
        /// How many it has.
        count: u32,
    },
    /// The offset is behind the end: what is not there yet cannot be deleted.
    #[error("the partition ends at {end}; give an offset up to that")]
    BeyondEnd {
        /// The offset that the next event gets.
        end: Offset,
    },
    /// A bound would be passed.
    #[error("{0}")]
    Limit(String),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write began but its sync failed.
    #[error("it is not known whether the change was kept ({0}); check after a restart")]
    Indeterminate(String),
}

/// Why a group was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// There is none of this name.
    #[error("unknown group {0}; it is made by the first subscription")]
    Unknown(GroupName),
    /// It has members, and was to be deleted only without any.
    #[error("group {group} has {}; stop them first", counted(*members))]
    InUse {
        /// The group.
        group: GroupName,
        /// How many members it has.
        members: usize,
    },
    /// It is the group of the queue of this name.
    #[error("{0} is the group of the queue of this name; delete the queue instead")]
    OfQueue(GroupName),
    /// Its position says which dead letters of the topic of this name are done with.
    #[error(
        "a group that is called as a topic of dead letters, as {0} is, says which of them were \
         redriven or deleted, and goes with that topic; take another group to read them"
    )]
    OfDeadLetters(GroupName),
    /// The group does not read this partition.
    #[error("group {group} has no position in partition {partition} of {topic}; subscribe first")]
    NotRead {
        /// The group.
        group: GroupName,
        /// The topic.
        topic: TopicName,
        /// The part of it.
        partition: Partition,
    },
    /// It was to go on with an offset that is not kept.
    #[error(transparent)]
    OutOfRange(Box<OutOfRange>),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write began but its sync failed.
    #[error("it is not known whether the change was kept ({0}); check after a restart")]
    Indeterminate(String),
    /// The broker said no for another reason.
    #[error("{0}")]
    Other(String),
}

fn counted(members: usize) -> String {
    match members {
        1 => "1 member".to_owned(),
        many => format!("{many} members"),
    }
}

impl From<CommitError<Refusal>> for TopicError {
    fn from(error: CommitError<Refusal>) -> Self {
        match error {
            CommitError::Unavailable(why) => Self::Unavailable(why),
            CommitError::Indeterminate(why) => Self::Indeterminate(why),
            CommitError::Refused(Refusal::TopicExists(name)) => Self::Exists(name),
            CommitError::Refused(Refusal::UnknownTopic(name)) => Self::Unknown(name),
            CommitError::Refused(Refusal::IsQueue(name)) => Self::IsQueue(name),
            CommitError::Refused(Refusal::NoPartition { count }) => {
                Self::UnknownPartition { count }
            }
            CommitError::Refused(Refusal::BeyondEnd { end }) => Self::BeyondEnd { end },
            CommitError::Refused(other) => Self::Limit(other.to_string()),
        }
    }
}

impl From<CommitError<Refusal>> for GroupError {
    fn from(error: CommitError<Refusal>) -> Self {
        match error {
            CommitError::Unavailable(why) => Self::Unavailable(why),
            CommitError::Indeterminate(why) => Self::Indeterminate(why),
            CommitError::Refused(Refusal::GroupOfQueue(group)) => Self::OfQueue(group),
            CommitError::Refused(Refusal::OutOfRange(outside)) => Self::OutOfRange(outside),
            CommitError::Refused(other) => Self::Other(other.to_string()),
        }
    }
}
