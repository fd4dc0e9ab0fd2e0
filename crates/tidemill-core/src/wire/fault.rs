//! What went wrong, as the native protocol says it: one table of codes, which of them may pass by
//! themselves, and the way to and from the errors of the bus traits.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{
    FetchError, OutOfRange, PublishError, PullError, RequestError, SettleError, SubscribeError,
    Unavailable,
};
use crate::event::InvalidEvent;
use crate::name::{GroupName, TopicName};
use crate::position::{Offset, Partition};

/// Why something was not done. Its code is the variant's name in lower case with `_`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the members are named as in the errors that they stand for"
)]
pub enum Fault {
    /// The frame cannot be read.
    Malformed { why: String },
    /// The frame has no place here: nothing was done.
    Unexpected { why: String },
    /// More than the connection, the session or the server may have.
    Limit { why: String },
    /// The topic is not there, and is not made by its first use.
    UnknownTopic { topic: TopicName },
    /// It is a queue, and frames are about topics.
    IsQueue { topic: TopicName },
    /// The topic has fewer partitions.
    UnknownPartition {
        topic: TopicName,
        partition: Partition,
        count: u32,
    },
    /// The event is none.
    InvalidEvent { why: String },
    /// Event or batch are larger than the bus takes.
    TooLarge { size_bytes: u64, max_bytes: u64 },
    /// The log takes no writes until the server is started again.
    ReadOnly { why: String },
    /// There is no space for new events.
    Full { why: String },
    /// Too much waits already.
    Overloaded,
    /// The server is closing.
    Closed,
    /// It may or may not have been kept.
    Indeterminate { why: String },
    /// A staged event was refused, and so the commit.
    Staged { fault: Box<Fault> },
    /// The bus cannot give that.
    Unsupported { need: String, why: String },
    /// The group is used otherwise.
    GroupConflict { group: GroupName, why: String },
    /// The group or its topic was deleted.
    Gone,
    /// Records that cannot be read.
    Damaged {
        topic: TopicName,
        partition: Partition,
        offset: Offset,
        resume: Offset,
        why: String,
    },
    /// The offset is not kept. A subscription is also told of which partition.
    OutOfRange {
        offset: Offset,
        earliest: Offset,
        end: Offset,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<TopicName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partition: Option<Partition>,
    },
    /// The attempt is not this session's any longer, and nothing of the commit is kept.
    Stale,
    /// No reply came in time.
    Timeout { timeout_ms: u64 },
    /// The request ended in the dead letters.
    DeadLettered { why: String },
    /// The numbers of a publish do not follow those that the broker knows: nothing was kept.
    Numbers { why: String },
    /// The topic is not the one that the publish was numbered for: nothing was kept.
    Changed { topic: TopicName },
    /// The bus said no for a reason of its own.
    Other { why: String },
    /// A code that this side does not know.
    #[serde(other)]
    Unknown,
}

impl Fault {
    /// Whether the same may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::Overloaded
            | Self::Closed
            | Self::Changed { .. }
            | Self::Limit { .. } => true,
            Self::Staged { fault } => fault.is_retriable(),
            _ => false,
        }
    }

    /// As an error of a publish.
    #[must_use]
    pub fn into_publish(self) -> PublishError {
        match self {
            Self::UnknownTopic { topic } => PublishError::UnknownTopic(topic),
            Self::IsQueue { topic } => PublishError::IsQueue(topic),
            Self::InvalidEvent { why } => PublishError::Invalid(InvalidEvent::Malformed(why)),
            Self::TooLarge {
                size_bytes,
                max_bytes,
            } => PublishError::TooLarge {
                size_bytes: size(size_bytes),
                max_bytes: size(max_bytes),
            },
            Self::Indeterminate { why } => PublishError::Indeterminate(why),
            other => match other.unavailable() {
                Ok(why) => PublishError::Unavailable(why),
                Err(other) => PublishError::Other(other.to_string()),
            },
        }
    }

    /// As an error of a request.
    #[must_use]
    pub fn into_request(self) -> RequestError {
        match self {
            Self::Timeout { timeout_ms } => {
                RequestError::Timeout(Duration::from_millis(timeout_ms))
            }
            Self::DeadLettered { why } => RequestError::DeadLettered(why),
            Self::Limit { .. } => RequestError::TooMany,
            other => RequestError::Publish(other.into_publish()),
        }
    }

    /// As an error of a subscription.
    #[must_use]
    pub fn into_subscribe(self) -> SubscribeError {
        match self {
            Self::UnknownTopic { topic } => SubscribeError::UnknownTopic(topic),
            Self::IsQueue { topic } => SubscribeError::IsQueue(topic),
            Self::GroupConflict { group, why } => SubscribeError::GroupConflict { group, why },
            Self::OutOfRange {
                offset,
                earliest,
                end,
                topic: Some(topic),
                partition: Some(partition),
            } => SubscribeError::OutOfRange(Box::new(OutOfRange {
                topic,
                partition,
                offset,
                earliest,
                end,
            })),
            other => match other.unavailable() {
                Ok(why) => SubscribeError::Unavailable(why),
                Err(other) => SubscribeError::Other(other.to_string()),
            },
        }
    }

    /// As an error of a pull.
    #[must_use]
    pub fn into_pull(self) -> PullError {
        match self {
            Self::Gone => PullError::Gone,
            Self::Damaged {
                topic,
                partition,
                offset,
                why,
                ..
            } => PullError::Damaged {
                topic,
                partition,
                offset,
                why,
            },
            other => match other.unavailable() {
                Ok(why) => PullError::Unavailable(why),
                Err(other) => PullError::Other(other.to_string()),
            },
        }
    }

    /// As an error of a settlement.
    #[must_use]
    pub fn into_settle(self) -> SettleError {
        match self {
            Self::Stale => SettleError::Stale,
            Self::Staged { fault } => SettleError::Effect(fault.into_publish()),
            Self::InvalidEvent { .. } => SettleError::Effect(self.into_publish()),
            Self::Indeterminate { why } => SettleError::Indeterminate(why),
            other => match other.unavailable() {
                Ok(why) => SettleError::Unavailable(why),
                Err(other) => SettleError::Other(other.to_string()),
            },
        }
    }

    /// As an error of a fetch.
    #[must_use]
    pub fn into_fetch(self) -> FetchError {
        match self {
            Self::UnknownTopic { topic } => FetchError::UnknownTopic(topic),
            Self::IsQueue { topic } => FetchError::IsQueue(topic),
            Self::UnknownPartition {
                topic,
                partition,
                count,
            } => FetchError::UnknownPartition {
                topic,
                partition,
                count,
            },
            Self::OutOfRange {
                offset,
                earliest,
                end,
                ..
            } => FetchError::OutOfRange {
                offset,
                earliest,
                end,
            },
            Self::Damaged {
                offset,
                resume,
                why,
                ..
            } => FetchError::Damaged {
                offset,
                resume,
                why,
            },
            other => match other.unavailable() {
                Ok(why) => FetchError::Unavailable(why),
                Err(other) => FetchError::Other(other.to_string()),
            },
        }
    }

    fn unavailable(self) -> Result<Unavailable, Self> {
        match self {
            Self::ReadOnly { why } => Ok(Unavailable::SyncFailed(why)),
            Self::Full { why } => Ok(Unavailable::Full(why)),
            Self::Overloaded | Self::Limit { .. } => Ok(Unavailable::Overloaded),
            Self::Closed => Ok(Unavailable::Closed),
            other => Err(other),
        }
    }

    /// What a fetch from a partition of `topic` said.
    #[must_use]
    pub fn of_fetch(topic: &TopicName, partition: Partition, error: FetchError) -> Self {
        match error {
            FetchError::UnknownTopic(topic) => Self::UnknownTopic { topic },
            FetchError::IsQueue(topic) => Self::IsQueue { topic },
            FetchError::UnknownPartition {
                topic,
                partition,
                count,
            } => Self::UnknownPartition {
                topic,
                partition,
                count,
            },
            FetchError::OutOfRange {
                offset,
                earliest,
                end,
            } => Self::OutOfRange {
                offset,
                earliest,
                end,
                topic: None,
                partition: None,
            },
            FetchError::Damaged {
                offset,
                resume,
                why,
            } => Self::Damaged {
                topic: topic.clone(),
                partition,
                offset,
                resume,
                why,
            },
            FetchError::Unavailable(why) => why.into(),
            FetchError::Other(why) => Self::Other { why },
        }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl From<Unavailable> for Fault {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::SyncFailed(why) => Self::ReadOnly { why },
            Unavailable::Full(why) => Self::Full { why },
            Unavailable::Overloaded => Self::Overloaded,
            Unavailable::Closed => Self::Closed,
        }
    }
}

impl From<InvalidEvent> for Fault {
    fn from(error: InvalidEvent) -> Self {
        Self::InvalidEvent {
            why: error.to_string(),
        }
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::UnknownTopic(topic) => Self::UnknownTopic { topic },
            PublishError::IsQueue(topic) => Self::IsQueue { topic },
            PublishError::Invalid(why) => why.into(),
            PublishError::TooLarge {
                size_bytes,
                max_bytes,
            } => Self::TooLarge {
                size_bytes: size_bytes as u64,
                max_bytes: max_bytes as u64,
            },
            PublishError::Unavailable(why) => why.into(),
            PublishError::Indeterminate(why) => Self::Indeterminate { why },
            PublishError::Other(why) => Self::Other { why },
        }
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Publish(error) => error.into(),
            RequestError::Timeout(timeout) => Self::Timeout {
                timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            },
            RequestError::DeadLettered(why) => Self::DeadLettered { why },
            RequestError::TooMany => Self::Limit {
                why: error.to_string(),
            },
        }
    }
}

impl From<SubscribeError> for Fault {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::UnknownTopic(topic) => Self::UnknownTopic { topic },
            SubscribeError::IsQueue(topic) => Self::IsQueue { topic },
            SubscribeError::Unsupported { need, why } => Self::Unsupported {
                need: need.to_owned(),
                why,
            },
            SubscribeError::GroupConflict { group, why } => Self::GroupConflict { group, why },
            SubscribeError::OutOfRange(outside) => Self::OutOfRange {
                offset: outside.offset,
                earliest: outside.earliest,
                end: outside.end,
                topic: Some(outside.topic),
                partition: Some(outside.partition),
            },
            SubscribeError::Unavailable(why) => why.into(),
            SubscribeError::Other(why) => Self::Other { why },
        }
    }
}

impl From<PullError> for Fault {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Gone => Self::Gone,
            PullError::Damaged {
                topic,
                partition,
                offset,
                why,
            } => Self::Damaged {
                topic,
                partition,
                offset,
                resume: offset,
                why,
            },
            PullError::Unavailable(why) => why.into(),
            PullError::Other(why) => Self::Other { why },
        }
    }
}

impl From<SettleError> for Fault {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Stale => Self::Stale,
            SettleError::Effect(error) => Self::Staged {
                fault: Box::new(error.into()),
            },
            SettleError::Unavailable(why) => why.into(),
            SettleError::Indeterminate(why) => Self::Indeterminate { why },
            SettleError::Other(why) => Self::Other { why },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.clone() {
            Self::Malformed { why } => format!("the frame cannot be read: {why}"),
            Self::Unexpected { why }
            | Self::Limit { why }
            | Self::InvalidEvent { why }
            | Self::Other { why }
            | Self::Numbers { why } => why,
            Self::Staged { fault } => format!("a staged event was refused: {fault}"),
            Self::Unsupported { need, why } => format!("this bus cannot give {need}: {why}"),
            Self::Changed { topic } => format!("the topic {topic} has changed; ask for it again"),
            Self::Unknown => {
                "the server said no with a code that is newer than this program".into()
            }
            Self::Timeout { .. } | Self::DeadLettered { .. } => {
                self.clone().into_request().to_string()
            }
            Self::Stale => SettleError::Stale.to_string(),
            Self::Gone => PullError::Gone.to_string(),
            Self::UnknownPartition { .. } | Self::OutOfRange { .. } | Self::Damaged { .. } => {
                self.clone().into_fetch().to_string()
            }
            Self::GroupConflict { .. } => self.clone().into_subscribe().to_string(),
            other => other.into_publish().to_string(),
        };
        f.write_str(&text)
    }
}
