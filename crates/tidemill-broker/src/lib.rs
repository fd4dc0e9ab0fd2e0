//! The embedded broker: topics, publish, fetch, request and reply, and consumer groups, all on
//! one journal.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = tidemill_broker::Broker::open("./data").await?;
//! let bus = broker.bus();
//! # let _ = bus;
//! broker.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! This crate may not know: HTTP, the types of any wire protocol, or what is in an event's data.

mod admin;
mod alter;
pub mod backup;
mod broker;
mod builder;
mod catalog;
mod classic;
mod consumer;
mod dead_letters;
mod decode;
mod encode;
mod error;
mod fetch;
mod fetch_batches;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod handlers;
mod inbox;
mod info;
pub mod inspect;
pub mod limits;
mod machine;
mod metrics;
mod original;
mod producer;
mod publish;
mod queue;
mod scrub;
mod seen;
mod share;
mod since;
mod subscribe;
mod topic_settings;
mod transaction;
mod watch;

pub use broker::Broker;
pub use builder::Builder;
pub use classic::{
    ClassicCaller, ClassicCommit, ClassicDescription, ClassicError, ClassicGroups, ClassicJoin,
    ClassicJoined, ClassicMember, ClassicProtocol, ClassicState, ClassicSync, ClassicSynced,
    CommitRefused, CommittedOffset, JoinedMember, TransactionalCommitError,
};
pub use consumer::{
    ConsumerCaller, ConsumerDescription, ConsumerError, ConsumerGroups, ConsumerHeartbeat,
    ConsumerMember, ConsumerParts, ConsumerPlace, ConsumerSight, ConsumerState, ConsumerTopicParts,
    ConsumerTransactionError, EPOCH_JOIN, EPOCH_LEAVE, EPOCH_LEAVE_FOR_A_WHILE, NamePattern,
};
pub use dead_letters::{
    DeadLetterError, DeadLettersInfo, ParkedLetter, ParkedLetters, RecordHeader,
};
pub use error::{GroupError, OpenError, TopicError};
pub use fetch_batches::{FetchBatches, FetchedBatches, Isolation};
pub use handlers::ServedHandlers;
pub use info::{GroupInfo, GroupPartitionInfo, Health, MemberInfo, PartitionInfo, TopicInfo};
pub use machine::{CommitNote, GroupKind, SeekTo};
pub use metrics::Metrics;
pub use producer::{
    Numbered, Produce, Producer, ProducerBatch, ProducerEpoch, ProducerError, ProducerId,
    ProducerIdentity, ProducerInfo, Sequence,
};
pub use queue::{
    CreateQueue, Dequeue, Dequeued, EXPIRY, InvalidLease, LeaseId, Queue, QueueError, QueueInfo,
    QueueMessage, QueueSettings,
};
pub use scrub::{DamageInfo, ScrubInfo, VerifiedInfo};
pub use seen::SeenTraffic;
pub use share::{
    ShareAcknowledgement, ShareAcquired, ShareBounds, ShareError, ShareGroups, ShareHeartbeat,
    ShareHold, ShareOffsetsError, SharePart, ShareRecords, ShareSettings, ShareVerdict,
};
pub use tidemill_log::{
    Batch, BatchBuilder, BatchError, CompressionType, FlushPolicy, PRIVATE_DIR, batch,
};
pub use transaction::{
    AbortedRange, Begins, InitTransactional, TransactionEnd, TransactionInfo, TransactionPartition,
    TransactionStatus, TransactionSummary, Transactional, TransactionalId,
};

pub use admin::CreateTopic;
pub use topic_settings::{AlterTopic, TopicSettings};
