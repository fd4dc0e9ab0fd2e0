//! Queues: a message is enqueued once, dequeued by one taker at a time under a lease, and
//! acknowledged or given back.
//!
//! A queue on disk is a topic with one group, whose one member is the broker itself; a queue in
//! memory is a map. Leases are the same for both, and end with the process.
//!
//! This room may not know tokens' meaning to a door, HTTP, or files.

mod admin;
mod dead;
mod error;
mod expiry;
mod handle;
mod info;
mod leases;
mod live;
mod memory;
mod peek;
mod redrive;
mod settings;
mod store;

pub use self::error::QueueError;
pub use self::expiry::EXPIRY;
pub use self::handle::{Dequeue, Queue};
pub use self::info::{CreateQueue, Dequeued, QueueInfo, QueueMessage};
pub use self::leases::{InvalidLease, LeaseId};
pub(crate) use self::live::Queues;
pub(crate) use self::redrive::{NotGiven, Parked};
pub use self::settings::QueueSettings;

/// The guide, so that its program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/QUEUES.md")]
struct Guide;
