//! Why a producer's call was not done, one variant each, and whether it helps to try again.

use std::time::Duration;

use thiserror::Error;
use tidemill_core::error::Unavailable;
use tidemill_core::{Partition, PublishError, TopicName};
use tidemill_log::CommitError;

use super::entry::Wrong;
use super::ids::{ProducerEpoch, ProducerId, Sequence};
use super::init::ProducerIdentity;
use crate::machine::Refusal;
use crate::transaction::{TransactionStatus, TransactionalId};

/// Why a producer's call was not done. Nothing of it is kept, except after
/// [`ProducerError::Indeterminate`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProducerError {
    /// The topic does not exist.
    #[error("unknown topic {0}; create it first")]
    UnknownTopic(TopicName),
    /// The topic does not have this partition.
    #[error("topic {topic} has no partition {partition}; it has {count}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: Partition,
        /// How many there are.
        count: u32,
    },
    /// The batch is not one that a producer may write.
    #[error("the record batch is refused: {0}")]
    InvalidBatch(&'static str),
    /// An event could not be made into a record.
    #[error(transparent)]
    Event(PublishError),
    /// The id was never given out.
    #[error("the producer id {0} was never given out here; ask for one first")]
    UnknownProducer(ProducerId),
    /// A newer life of the producer is known, or another has its transactional id.
    #[error(
        "producer {producer} was shut out: its epoch {epoch} is over, producer {} goes on with \
         epoch {}; end this one",
        current.id,
        current.epoch
    )]
    Fenced {
        /// The producer.
        producer: ProducerId,
        /// The epoch that it came with.
        epoch: ProducerEpoch,
        /// Who counts.
        current: ProducerIdentity,
    },
    /// A batch before this one is missing, or it is too old to be known as a duplicate.
    #[error(
        "producer {producer} sent sequence {found}, but {expected} is the next one; begin anew \
         with another epoch"
    )]
    OutOfOrder {
        /// The producer.
        producer: ProducerId,
        /// The first sequence of the batch.
        found: Sequence,
        /// The one that was expected.
        expected: Sequence,
    },
    /// Nobody has this transactional id.
    #[error("nobody has the transactional id {0}; ask for a producer id with it first")]
    UnknownTransaction(TransactionalId),
    /// A transactional batch of a producer without a transactional id.
    #[error("producer {0} has no transactional id (any longer); ask for a producer id with one")]
    NotTransactional(ProducerId),
    /// The transaction is not in a state for this.
    #[error("the transaction of {id:?} is {status:?} and cannot {what}")]
    Transaction {
        /// The transactional id.
        id: TransactionalId,
        /// How far it is.
        status: TransactionStatus,
        /// What was asked for.
        what: &'static str,
    },
    /// The time-out of a transaction is none that is allowed.
    #[error("a transaction's time-out of {asked:?} is not within 1 ms and {max:?}; ask for less")]
    Timeout {
        /// What was asked for.
        asked: Duration,
        /// What is allowed.
        max: Duration,
    },
    /// A bound is reached.
    #[error("there are {max} {what} already, all in use; try again later")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The topic was deleted and made again meanwhile.
    #[error("the topic {0} has changed meanwhile; try again")]
    Changed(TopicName),
    /// The broker said no for another reason.
    #[error("{0}")]
    Other(String),
    /// Nothing was written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write began but its sync failed. What is sent again with the same producer id, epoch
    /// and sequences after a restart is written once, whether it was kept or not.
    #[error("it is not known whether this was kept ({0}); send it again after a restart")]
    Indeterminate(String),
}

impl ProducerError {
    /// Whether the same call, unchanged, may succeed later; it is kept once, whatever became of
    /// the first: a batch with its producer id, epoch and sequence, or
    /// [`Producer::publish`](crate::Producer::publish) of the same events by the same producer.
    /// After [`ProducerError::Indeterminate`] the broker must be opened again before: then send
    /// the same batch, or publish by a new producer, which cannot know what the old one did.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::UnknownTopic(_)
            | Self::TooMany { .. }
            | Self::Changed(_)
            | Self::Indeterminate(_) => true,
            Self::Unavailable(why) => {
                matches!(why, Unavailable::Full(_) | Unavailable::Overloaded)
            }
            Self::UnknownPartition { .. }
            | Self::InvalidBatch(_)
            | Self::Event(_)
            | Self::UnknownProducer(_)
            | Self::Fenced { .. }
            | Self::OutOfOrder { .. }
            | Self::UnknownTransaction(_)
            | Self::NotTransactional(_)
            | Self::Transaction { .. }
            | Self::Other(_)
            | Self::Timeout { .. } => false,
        }
    }

    /// Every id of this opening was given out.
    pub(crate) fn no_ids() -> Self {
        Self::TooMany {
            what: "producer ids of one opening",
            max: u32::MAX as usize,
        }
    }

    pub(crate) fn wrong(producer: ProducerId, wrong: Wrong) -> Self {
        match wrong {
            Wrong::Epoch { epoch, current } => Self::Fenced {
                producer,
                epoch,
                current: ProducerIdentity {
                    id: producer,
                    epoch: current,
                },
            },
            Wrong::Sequence { found, expected } => Self::OutOfOrder {
                producer,
                found,
                expected,
            },
        }
    }
}

impl From<CommitError<Refusal>> for ProducerError {
    fn from(error: CommitError<Refusal>) -> Self {
        match error {
            CommitError::Unavailable(why) => Self::Unavailable(why),
            CommitError::Indeterminate(why) => Self::Indeterminate(why),
            CommitError::Refused(refusal) => match refusal {
                Refusal::UnknownTopic(topic) | Refusal::TopicExists(topic) => {
                    Self::UnknownTopic(topic)
                }
                Refusal::IsQueue(name) => Self::Event(PublishError::IsQueue(name)),
                Refusal::Rerouted { topic, .. } => Self::Changed(topic),
                Refusal::Producer(error) => *error,
                other => Self::Other(other.to_string()),
            },
        }
    }
}
