//! What members of share groups say, and what they are answered. Knows no wire.

use std::collections::BTreeSet;

use bytestring::ByteString;
use thiserror::Error;
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, Offset, Partition, TopicId, TopicName};
use tidemill_log::{Batch, PartitionId};

use super::hold::ShareHold;
use crate::consumer::ConsumerSight;

/// A member says that it lives, joins or leaves, and what of it has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareHeartbeat {
    /// The id that it chose.
    pub member: ByteString,
    /// The epoch that it is in; 0 to join, -1 to leave.
    pub epoch: i32,
    /// Where it is among racks.
    pub rack: Option<ByteString>,
    /// The topics that it reads, where that has changed.
    pub topics: Option<BTreeSet<TopicName>>,
    /// What the client calls itself.
    pub client_id: ByteString,
    /// Where it is.
    pub client_host: ByteString,
    /// The topics that it may see at this moment; `None` for all.
    pub sight: Option<ConsumerSight>,
}

impl ShareHeartbeat {
    /// Bytes that it may need in memory with its member, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let topics = self.topics.iter().flatten();
        let topics: usize = topics.map(|name| 64 + name.as_str().len()).sum();
        let rack = self.rack.as_ref().map_or(0, |rack| rack.len());
        512 + topics + rack + self.member.len() + self.client_id.len() + self.client_host.len()
    }
}

/// A partition of a topic by its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharePart {
    /// The topic.
    pub topic: TopicId,
    /// Its part.
    pub partition: Partition,
}

impl SharePart {
    pub(crate) fn id(&self) -> PartitionId {
        PartitionId {
            topic: self.topic,
            partition: self.partition,
        }
    }
}

/// What a member does with a record that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareVerdict {
    /// There is no record at this offset.
    Gap,
    /// It is done.
    Accept,
    /// It is to be given out again.
    Release,
    /// It can never be done.
    Reject,
}

/// Verdicts on neighbouring records of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAcknowledgement {
    /// The first record's offset.
    pub first: Offset,
    /// The last one's.
    pub last: Offset,
    /// One for each of them, or one for all.
    pub verdicts: Vec<ShareVerdict>,
}

/// Neighbouring records that were given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareAcquired {
    /// The first record's offset.
    pub first: Offset,
    /// The last one's.
    pub last: Offset,
    /// How many times each was given out, this time included.
    pub deliveries: u16,
}

/// How much one look may give.
#[derive(Clone, Copy, Debug)]
pub struct ShareBounds {
    /// Most records, but for those of the last batch.
    pub records_max: usize,
    /// Most bytes of batches, but for one that is larger.
    pub bytes_max: usize,
}

/// What a member was given of a partition: the batches in which its records are, as they are
/// stored, and which of their records are its.
#[derive(Debug, Default)]
pub struct ShareRecords {
    /// In the order of their offsets.
    pub batches: Vec<Batch>,
    /// Ascending.
    pub acquired: Vec<ShareAcquired>,
    /// To be told when they were sent.
    pub hold: ShareHold,
}

/// Why records were not given out, or not settled.
#[derive(Clone, Debug, Error)]
pub enum ShareError {
    /// The group is of another kind, or there is none.
    #[error("there is no such share group; join it first")]
    UnknownGroup,
    /// There is no such topic.
    #[error("there is no topic of this id")]
    UnknownTopic,
    /// It has no such partition.
    #[error("the topic has no such partition")]
    UnknownPartition,
    /// The member has not, or no longer, got what it speaks of.
    #[error("the member does not have these records, or not any longer; take them again")]
    NotAcquired,
    /// The request is none that makes sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The records cannot be read.
    #[error(transparent)]
    Read(#[from] FetchError),
    /// Nothing was kept.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It is not known whether it was kept.
    #[error("it is not known whether it was kept ({0}); check after a restart")]
    Indeterminate(String),
    /// The broker said no for another reason.
    #[error("{0}")]
    Other(String),
}
