//! What a queue tells of itself and of its messages.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tidemill_core::{Event, Offset, TopicName};

use super::leases::LeaseId;
use super::settings::QueueSettings;

/// How a queue is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateQueue {
    /// Whether it is kept in memory alone: it never touches the disk, and is gone with the
    /// process, itself and its messages. What goes to its dead letters is kept as usual.
    pub transient: bool,
    /// What may be set for it.
    pub settings: QueueSettings,
}

/// A queue as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: TopicName,
    /// Whether it is kept in memory alone.
    pub transient: bool,
    /// What is set for it.
    #[serde(flatten)]
    pub settings: QueueSettings,
    /// Messages that are not settled, those in flight included.
    pub length: u64,
    /// How many of them somebody has.
    pub in_flight: u64,
    /// How many messages have expired since the broker was opened.
    pub expired: u64,
    /// For how many milliseconds the oldest message has been there; `None` where there is none,
    /// or it cannot be read.
    pub oldest_age_ms: Option<u64>,
    /// Bytes of what is kept, what is settled and not deleted yet included.
    pub size_bytes: u64,
    /// The topic of its dead letters; made by the first one.
    pub dead_letters: TopicName,
    /// Why nothing more is given out although there is something, until something is settled.
    pub paused: Option<String>,
    /// What was passed because it could not be read, or what cannot be read now; the newest.
    pub damage: Option<String>,
}

/// A message of a queue.
#[derive(Clone, Debug)]
pub struct QueueMessage {
    /// The message's number in the queue: ascends, and stays what it is when the message is given
    /// back.
    pub offset: Offset,
    /// The message.
    pub event: Arc<Event>,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Dequeued {
    /// The message.
    pub message: QueueMessage,
    /// How many times it was given out since the broker was opened, this time included.
    pub deliveries: u32,
    /// What `ack` and `give_back` name; `None` where it was removed at once.
    pub lease: Option<LeaseId>,
    /// How long the lease is.
    pub lease_for: Duration,
}
