//! The vocabulary of Tidemill, the few traits that outsiders implement, and the pure delivery
//! machines that the broker and the adapters share.
//!
//! This crate may not know: tokio, files, sockets, threads, or the wall clock. Time and
//! randomness arrive as arguments.

pub mod attributes;
pub mod binding;
pub mod budget;
pub mod bus;
pub mod catalogue;
pub mod cursor;
pub mod dead_letter;
pub mod delivery;
pub mod error;
pub mod event;
pub mod json;
pub mod limits;
pub mod name;
pub mod partition;
pub mod pattern;
pub mod position;
pub mod shown;
pub mod slots;
pub mod varint;
pub mod wire;

pub use bus::{Advanced, Fetch, Fetched, PartitionBounds, Subscription, TopicBounds, Watch};
pub use bus::{BoxFuture, Bus, GroupMember, Guarantees, Order, Publisher, Start, Subscriber};
pub use catalogue::{Catalogue, CatalogueError};
pub use delivery::{Commit, Delivery, Effects, Failure, Outcome, Settle, Settlement, Ticket};
pub use error::{FetchError, PublishError, PullError, RequestError, SettleError, SubscribeError};
pub use event::{Event, EventBuilder, ExtensionValue, InvalidEvent};
pub use name::{EventId, EventType, GroupName, InvalidName, Key, Source, Subject, TopicName};
pub use pattern::{InvalidPattern, Pattern};
pub use position::{Attempt, Generation, Offset, Partition, Position, TopicId};
