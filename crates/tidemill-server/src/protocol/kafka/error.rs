//! Our errors as Kafka's codes: one table. Which codes clients try again is theirs to know
//! ([`Code::is_retriable`]), and not the same for every key: where a key differs, its room says so.
//!
//! What a client may try again with success is told with a code that is retriable. Codes for
//! what was certainly not written (`NotEnoughReplicas`) are told apart from
//! those for what may have been (`RequestTimedOut`), as clients do.

pub(super) use kafka_protocol::error::ResponseError as Code;
use tidemill_broker::{
    BatchError, ClassicError, CommitRefused, ConsumerError, ProducerError, TopicError,
};
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, PublishError};

/// No error.
pub(super) const NONE: i16 = 0;

/// The code of a result.
pub(super) fn code_of<T>(result: &Result<T, Code>) -> i16 {
    result.as_ref().err().map_or(NONE, Code::code)
}

/// A code, and what it is about where that helps.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) why: Option<String>,
}

impl Refused {
    pub(super) fn new(code: Code, why: impl ToString) -> Self {
        Self {
            code,
            why: Some(why.to_string()),
        }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self { code, why: None }
    }
}

/// Nothing was written.
pub(super) fn unavailable(why: &Unavailable) -> Code {
    match why {
        // Reads go on; a client finds out that writes do not.
        Unavailable::SyncFailed(_) | Unavailable::Full(_) => Code::KafkaStorageError,
        Unavailable::Overloaded => Code::NotEnoughReplicas,
        // The client looks for us again.
        Unavailable::Closed => Code::NotLeaderOrFollower,
    }
}

/// Why a producer's call was not done.
pub(super) fn producer(error: &ProducerError) -> Code {
    match error {
        ProducerError::UnknownTopic(_)
        | ProducerError::UnknownPartition { .. }
        | ProducerError::Changed(_) => Code::UnknownTopicOrPartition,
        ProducerError::InvalidBatch(_) => Code::InvalidRecord,
        ProducerError::Event(error) => publish(error),
        ProducerError::UnknownProducer(_) => Code::UnknownProducerId,
        ProducerError::Fenced { .. } => Code::InvalidProducerEpoch,
        ProducerError::OutOfOrder { .. } => Code::OutOfOrderSequenceNumber,
        ProducerError::UnknownTransaction(_) | ProducerError::NotTransactional(_) => {
            Code::InvalidProducerIdMapping
        }
        ProducerError::Transaction { .. } => Code::InvalidTxnState,
        ProducerError::Timeout { .. } => Code::InvalidTransactionTimeout,
        ProducerError::TooMany { .. } => Code::NotEnoughReplicas,
        ProducerError::Unavailable(why) => unavailable(why),
        ProducerError::Indeterminate(_) => Code::RequestTimedOut,
        _ => Code::UnknownServerError,
    }
}

/// Why a member of a group is refused.
pub(super) fn classic(error: &ClassicError) -> Code {
    match error {
        ClassicError::UnknownMember => Code::UnknownMemberId,
        ClassicError::IdRequired(_) => Code::MemberIdRequired,
        ClassicError::Generation => Code::IllegalGeneration,
        ClassicError::Rebalancing => Code::RebalanceInProgress,
        ClassicError::Fenced => Code::FencedInstanceId,
        ClassicError::Protocol(_) => Code::InconsistentGroupProtocol,
        ClassicError::SessionTimeout { .. } => Code::InvalidSessionTimeout,
        ClassicError::Full(_) => Code::GroupMaxSizeReached,
        ClassicError::UnknownGroup => Code::GroupIdNotFound,
        ClassicError::NotEmpty => Code::NonEmptyGroup,
        ClassicError::Unavailable => Code::CoordinatorNotAvailable,
        ClassicError::Indeterminate(_) => Code::RequestTimedOut,
        ClassicError::Other(_) => Code::UnknownServerError,
    }
}

/// Why a member of a consumer group is refused.
pub(super) fn consumer(error: &ConsumerError) -> Code {
    match error {
        ConsumerError::UnknownMember => Code::UnknownMemberId,
        ConsumerError::FencedEpoch => Code::FencedMemberEpoch,
        ConsumerError::StaleEpoch => Code::StaleMemberEpoch,
        ConsumerError::UnreleasedInstance => Code::UnreleasedInstanceId,
        ConsumerError::FencedInstance => Code::FencedInstanceId,
        ConsumerError::UnknownAssignor(_) => Code::UnsupportedAssignor,
        ConsumerError::Pattern(_) => Code::InvalidRegularExpression,
        ConsumerError::Full(_) => Code::GroupMaxSizeReached,
        ConsumerError::Invalid(_) => Code::InvalidRequest,
        ConsumerError::OtherKind(_) => Code::GroupIdNotFound,
        // Whoever joins is the same for having joined before, and commits come again anyhow.
        ConsumerError::Unavailable | ConsumerError::Indeterminate(_) => {
            Code::CoordinatorNotAvailable
        }
        ConsumerError::Other(_) => Code::UnknownServerError,
    }
}

/// What is said of one position of a commit.
pub(super) fn committed(said: &Result<(), CommitRefused>) -> i16 {
    match said {
        Ok(()) => NONE,
        Err(CommitRefused::UnknownPartition) => Code::UnknownTopicOrPartition.code(),
        Err(CommitRefused::Metadata { .. }) => Code::OffsetMetadataTooLarge.code(),
    }
}

/// Why a call about a transaction was not done; newer clients know `PRODUCER_FENCED`.
pub(super) fn transaction(error: &ProducerError, knows_fenced: bool) -> Code {
    match producer(error) {
        Code::InvalidProducerEpoch if knows_fenced => Code::ProducerFenced,
        // What is written to a partition says this; a coordinator is asked again.
        Code::NotLeaderOrFollower | Code::NotEnoughReplicas => Code::CoordinatorNotAvailable,
        code => code,
    }
}

/// Why events were not published.
pub(super) fn publish(error: &PublishError) -> Code {
    match error {
        PublishError::UnknownTopic(_) => Code::UnknownTopicOrPartition,
        PublishError::IsQueue(_) => Code::InvalidTopicException,
        PublishError::Invalid(_) => Code::InvalidRecord,
        PublishError::TooLarge { .. } => Code::MessageTooLarge,
        PublishError::Unavailable(why) => unavailable(why),
        PublishError::Indeterminate(_) => Code::RequestTimedOut,
        PublishError::Other(_) => Code::UnknownServerError,
    }
}

/// Why a record batch is none that is kept.
pub(super) fn batch(error: &BatchError) -> Code {
    match error {
        BatchError::Crc { .. } | BatchError::Truncated { .. } => Code::CorruptMessage,
        BatchError::Magic(_) => Code::UnsupportedForMessageFormat,
        BatchError::Bomb { .. } | BatchError::TooLarge { .. } => Code::MessageTooLarge,
        _ => Code::InvalidRecord,
    }
}

/// Why a read gave nothing.
pub(super) fn fetch(error: &FetchError) -> Code {
    match error {
        FetchError::UnknownTopic(_) | FetchError::UnknownPartition { .. } => {
            Code::UnknownTopicOrPartition
        }
        FetchError::IsQueue(_) => Code::InvalidTopicException,
        // Readers take what else says this for a mistake of theirs, and stop.
        FetchError::Unavailable(Unavailable::Overloaded) | FetchError::Other(_) => {
            Code::KafkaStorageError
        }
        FetchError::Unavailable(why) => unavailable(why),
        _ => Code::UnknownServerError,
    }
}

/// Why a topic was not changed.
pub(super) fn topic(error: &TopicError) -> Code {
    match error {
        TopicError::Exists(_) => Code::TopicAlreadyExists,
        TopicError::Unknown(_) | TopicError::UnknownPartition { .. } => {
            Code::UnknownTopicOrPartition
        }
        TopicError::IsQueue(_) => Code::InvalidTopicException,
        TopicError::BeyondEnd { .. } => Code::OffsetOutOfRange,
        TopicError::Limit(_) => Code::PolicyViolation,
        TopicError::Unavailable(why) => unavailable(why),
        TopicError::Indeterminate(_) => Code::RequestTimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        let passing = || {
            [
                Unavailable::Overloaded,
                Unavailable::Closed,
                Unavailable::Full("a disk".into()),
            ]
        };
        for why in passing() {
            assert!(publish(&PublishError::Unavailable(why)).is_retriable());
        }
        for why in passing() {
            assert!(producer(&ProducerError::Unavailable(why)).is_retriable());
        }
        for why in passing() {
            assert!(topic(&TopicError::Unavailable(why)).is_retriable());
        }
        for why in passing() {
            let code = fetch(&FetchError::Unavailable(why));
            // The others end a reader of Java.
            assert!(matches!(
                code,
                Code::KafkaStorageError | Code::NotLeaderOrFollower
            ));
        }
        assert!(classic(&ClassicError::Unavailable).is_retriable());
        assert!(publish(&PublishError::Indeterminate(String::new())).is_retriable());
    }
}
