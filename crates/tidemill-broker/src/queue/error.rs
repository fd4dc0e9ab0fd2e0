//! Why something about a queue was not done: what happened, and what to do next.

use thiserror::Error;
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, GroupName, PublishError, SettleError, TopicName};
use tidemill_log::CommitError;

use super::leases::LeaseId;
use crate::machine::Refusal;

/// Why something about a queue was not done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueueError {
    /// There is none of this name.
    #[error("unknown queue {0}; create it first")]
    Unknown(TopicName),
    /// There is a queue or a topic of this name.
    #[error("a queue or a topic has the name {0} already; delete it first, or use another name")]
    Exists(TopicName),
    /// It is a topic.
    #[error("{0} is a topic, no queue; publish to it and subscribe to it instead")]
    IsTopic(TopicName),
    /// The queue's own group would have the name of one that is there.
    #[error("the group {0} has the name that the queue's own needs; use another name")]
    GroupExists(GroupName),
    /// These leases are over, or never were: nothing was done about any of the ones named with
    /// them.
    #[error("{}; dequeue again", over(.0))]
    Stale(Vec<LeaseId>),
    /// A value is none that this takes.
    #[error("{0}")]
    Limit(String),
    /// A message was refused.
    #[error(transparent)]
    Publish(PublishError),
    /// There is no room for what is kept in memory, or in flight.
    #[error("{0}")]
    Full(String),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write began but its sync failed.
    #[error("it is not known whether the change was kept ({0}); check after a restart")]
    Indeterminate(String),
    /// Records that cannot be read, or another reason.
    #[error("{0}")]
    Other(String),
}

fn over(leases: &[LeaseId]) -> String {
    let names: Vec<String> = leases.iter().map(LeaseId::to_string).collect();
    let names = names.join(", ");
    match leases.len() {
        1 => format!("the lease {names} is over: its message was settled, or given to another"),
        _ => {
            format!("the leases {names} are over: their messages were settled, or given to others")
        }
    }
}

impl From<CommitError<Refusal>> for QueueError {
    fn from(error: CommitError<Refusal>) -> Self {
        match error {
            CommitError::Unavailable(why) => Self::Unavailable(why),
            CommitError::Indeterminate(why) => Self::Indeterminate(why),
            CommitError::Refused(Refusal::TopicExists(name)) => Self::Exists(name),
            CommitError::Refused(Refusal::UnknownQueue(name)) => Self::Unknown(name),
            CommitError::Refused(Refusal::GroupExists(name)) => Self::GroupExists(name),
            CommitError::Refused(other) => Self::Limit(other.to_string()),
        }
    }
}

impl From<PublishError> for QueueError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unavailable(why) => Self::Unavailable(why),
            PublishError::Indeterminate(why) => Self::Indeterminate(why),
            other => Self::Publish(other),
        }
    }
}

impl From<SettleError> for QueueError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Unavailable(why) => Self::Unavailable(why),
            SettleError::Indeterminate(why) => Self::Indeterminate(why),
            SettleError::Effect(why) => Self::Publish(why),
            SettleError::Stale | SettleError::Other(_) => Self::Other(error.to_string()),
        }
    }
}

impl From<FetchError> for QueueError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Unavailable(why) => Self::Unavailable(why),
            FetchError::UnknownTopic(name) => Self::Unknown(name),
            other => Self::Other(other.to_string()),
        }
    }
}
