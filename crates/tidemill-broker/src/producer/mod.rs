//! Idempotent producers: who they are, what they wrote last, and what becomes of a batch that
//! one of them sends. The states are pure and belong to the machine; the rest is the broker's
//! interface, which a wire protocol's door uses as well as a program.
//!
//! This room may not know the types of a wire protocol.

mod batch;
mod entry;
mod error;
mod handle;
mod idle;
mod ids;
mod init;
mod numbered;
mod produce;
mod table;

pub use self::batch::ProducerBatch;
pub(crate) use self::entry::{Entry, Verdict, Written};
pub use self::error::ProducerError;
pub use self::handle::Producer;
pub(crate) use self::idle::Idle;
pub use self::ids::{ProducerEpoch, ProducerId, Sequence};
pub(crate) use self::init::Ids;
pub use self::init::ProducerIdentity;
pub use self::numbered::Numbered;
pub use self::produce::{Produce, ProducerInfo};
pub(crate) use self::table::{Header, Producers, What};
