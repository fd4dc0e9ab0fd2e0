//! What the machine is asked, and what it answers.

use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;
use tidemill_core::cursor::{Cursor, Full};
use tidemill_core::error::OutOfRange;
use tidemill_core::{GroupName, Offset, Partition, Start, TopicId, TopicName};
use tidemill_log::{Batch, PartitionId, PartitionSettings};

use super::commit_effect::CommitNote;
use super::state::{GroupId, GroupKind, GroupState, Topic};
use crate::producer::ProducerError;
use crate::queue::QueueSettings;
use crate::share::ShareSettings;
use crate::topic_settings::AlterTopic;
use crate::transaction::{Done, TransactionOperation};

/// Who publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Nobody in particular.
    #[default]
    Any,
    /// The publisher of this number.
    Numbered(u64),
    /// The producer of this id.
    Producer(i64),
}

/// Records for one topic, sorted into partitions already.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    /// Where to.
    pub(crate) topic: TopicName,
    /// Who publishes: those of one topic take turns, and each one's publishes keep their order.
    pub(crate) client: Client,
    /// The topic as the batches were sorted for, or as it is to be made.
    pub(crate) route: Topic,
    /// Whether the topic is made where there is none.
    pub(crate) create: bool,
    /// The records, at most one batch a partition.
    pub(crate) batches: Vec<(Partition, Batch)>,
}

impl Append {
    /// Bytes of its batches.
    pub(crate) fn records_bytes(&self) -> usize {
        let batches = self.batches.iter();
        batches.map(|(_, batch)| batch.as_bytes().len()).sum()
    }
}

/// A topic that a group joins.
#[derive(Clone, Debug)]
pub(crate) struct JoinTopic {
    pub(crate) name: TopicName,
    /// How many partitions it may have: so much room of the journal is asked for.
    pub(crate) partitions_max: u32,
    /// The topic as it is to be made where there is none; `None`: it is not made.
    pub(crate) create: Option<Topic>,
}

/// Offsets that a group settles.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) partition: PartitionId,
    /// The epoch of the cursor in which they were given out.
    pub(crate) epoch: u64,
    pub(crate) range: Range<Offset>,
}

/// An event that is given out, as its marker is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
    /// In how many lives after a bad end it was given out, this one included; 0 where nothing
    /// is to be known of it.
    pub(crate) attempts: u32,
}

/// Events of a group that are given out in this incarnation.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    pub(crate) group: GroupId,
    pub(crate) epoch: u64,
    pub(crate) marks: Vec<Marked>,
}

/// A position that a client commits for its group.
#[derive(Clone, Debug)]
pub(crate) struct CommitOffset {
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
    pub(crate) note: CommitNote,
}

/// What is asked of the positions of a group.
#[derive(Debug)]
pub(crate) enum Positions {
    /// Sets some. The group is made where there is none, and is of this kind from then on.
    Commit(GroupKind, Vec<CommitOffset>),
    /// Takes some away.
    Remove(Vec<PartitionId>),
    /// Deletes the group if its members are clients of Kafka, it is as it was seen, and no open
    /// transaction is to set a position of it.
    Expire(Arc<GroupState>),
    /// Sets this for the group as a share group. It is made where there is none.
    Share(ShareSettings),
}

/// Where a group's position is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The oldest offset that is kept.
    Beginning,
    /// After the newest event; where transactions are open, before the first of theirs.
    End,
    /// This offset, or the oldest that is kept if that is above it.
    Offset(Offset),
}

/// What is asked of the machine.
#[derive(Debug)]
pub(crate) enum Operation {
    CreateTopic {
        name: TopicName,
        topic: Topic,
        /// Of each of its partitions.
        settings: PartitionSettings,
    },
    /// Makes a queue and the group that reads it.
    CreateQueue {
        name: TopicName,
        group: GroupName,
        topic: Topic,
        /// Of each of its partitions.
        partitions: PartitionSettings,
        settings: QueueSettings,
    },
    /// Changes a topic's settings and adds partitions, as far as the change names them.
    AlterTopic {
        name: TopicName,
        change: AlterTopic,
    },
    /// Deletes a queue and its group.
    DeleteQueue {
        name: TopicName,
    },
    /// As `Publish`, to a queue and nothing else.
    Enqueue(Append),
    /// Deletes the events of a partition below an offset.
    Trim {
        topic: TopicName,
        partition: Partition,
        before: Offset,
    },
    DeleteTopic {
        name: TopicName,
    },
    Publish(Append),
    /// As `Publish`, but a transactional batch begins no transaction, and adds no partition.
    PublishAdded(Append),
    /// Something about a transaction.
    Transaction(Box<TransactionOperation>),
    /// Settles offsets of a group and appends what was staged, whole or not at all.
    Commit {
        group: GroupId,
        settled: Vec<Settled>,
        appends: Vec<Append>,
    },
    /// Settles a dead letter, and enqueues the message that it was, whole or not at all.
    GiveBack {
        reader: GroupId,
        settled: Settled,
        append: Append,
    },
    /// Settles what can never be delivered; settled twice is no error.
    Pass {
        group: GroupId,
        partition: PartitionId,
        range: Range<Offset>,
    },
    /// Notes events as given out in this incarnation.
    Mark(Marks),
    /// Makes the group where there is none, and its positions where they are missing.
    Join {
        group: GroupName,
        /// It is of this kind from then on.
        kind: GroupKind,
        topics: Vec<JoinTopic>,
        start: Start,
    },
    /// Gives a group a position in the partitions that a topic which it reads has got since.
    Widen {
        group: GroupId,
        /// The one that it reads: another one of this name is none of its.
        topic: (TopicName, TopicId),
        /// How many partitions it may have: so much room of the journal is asked for.
        partitions_max: u32,
    },
    DeleteGroup {
        group: GroupName,
    },
    /// Something about the positions that clients commit for a group by themselves.
    Positions {
        group: GroupName,
        ask: Positions,
    },
    Seek {
        group: GroupId,
        partition: PartitionId,
        to: SeekTo,
    },
}

/// The answer when an operation is durable.
#[derive(Debug)]
pub(crate) enum Receipt {
    /// Nothing more to say.
    Done,
    /// The topic that is there now.
    Topic(Topic),
    /// The base offsets of each append's batches, in their order.
    Appended(Vec<Vec<Offset>>),
    /// A producer sent the batches of one append again: the base offsets that they have.
    Repeated(Vec<Offset>),
    /// The group with its position in every partition of its topics.
    Joined {
        group: GroupId,
        topics: Vec<(TopicName, Topic, Vec<Cursor>)>,
    },
    /// The positions that were set.
    Moved(Vec<(GroupId, PartitionId, Cursor)>),
    /// The group's new position.
    Sought(Cursor),
    /// What was done about a transaction.
    Transaction(Done),
    /// Where the partition begins now.
    Trimmed(Offset),
}

/// The answer when an operation is not done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("unknown topic {0}; create it first")]
    UnknownTopic(TopicName),
    #[error("the topic {0} exists already")]
    TopicExists(TopicName),
    #[error("{0} is a queue; use what queues have")]
    IsQueue(TopicName),
    #[error("unknown queue {0}; create it first")]
    UnknownQueue(TopicName),
    #[error("the group {0} is the one of the queue of this name; use another group")]
    GroupOfQueue(GroupName),
    #[error("a group has the name {0}, and a queue needs it for its own; use another name")]
    GroupExists(GroupName),
    #[error("the topic has {count} partitions")]
    NoPartition { count: u32 },
    #[error("the topic has {have} partitions, and only more can be made of them, not {asked}")]
    FewerPartitions { asked: u32, have: u32 },
    #[error("the partition ends at {end}")]
    BeyondEnd { end: Offset },
    #[error(transparent)]
    OutOfRange(Box<OutOfRange>),
    /// The topic has another number of partitions by now: sort again.
    #[error("the topic {topic} has {} partitions by now; try again", .now.partitions)]
    Rerouted { topic: TopicName, now: Topic },
    #[error("there is no such group")]
    UnknownGroup,
    #[error("the group does not read partition {0}")]
    UnknownPartition(PartitionId),
    /// One of the offsets is settled already.
    #[error("it is settled already")]
    Stale,
    /// Its positions were set since they were seen, or are about to be.
    #[error("the group is used again")]
    Used,
    /// The group's position was set since the offsets were given out.
    #[error("the group's position was set meanwhile; take the events that it gives out now")]
    Sought,
    #[error("the group is at its bound: {0}")]
    Full(#[from] Full),
    #[error("there are {max} {what} already; delete one first")]
    TooMany { what: &'static str, max: usize },
    #[error("a topic has 1 to {max} partitions, not {asked}")]
    Partitions { asked: u32, max: u32 },
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Producer(Box<ProducerError>),
    /// It needs more room than it was given: ask again.
    #[error("the transaction has grown meanwhile; try again")]
    Room,
    #[error("the group's positions need more than {max_bytes} bytes; read fewer topics with it")]
    GroupState { max_bytes: usize },
}
