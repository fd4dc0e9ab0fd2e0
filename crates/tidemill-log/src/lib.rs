//! The log: one journal with group commit, per-partition segments, snapshots and recovery, on
//! a [`Disk`] that is a trait.
//!
//! This crate may not know: the meaning of a payload, an async runtime, the wall clock, or,
//! outside of [`driver`], threads and files.

pub mod backup;
pub mod batch;
pub mod disk;
mod draft;
pub mod driver;
pub mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inspect;
pub mod io;
mod journal;
pub mod limits;
pub mod log;
pub mod machine;
pub mod options;
pub mod reader;
mod recovery;
pub mod repair;
pub mod scrub;
mod segment;
mod settings;
mod snapshot;
pub mod stats;
mod superblock;
mod tail;
mod view;

pub use batch::{Batch, BatchBuilder, BatchError, CompressionType};
pub use disk::{Disk, DiskFile, DiskLock, LockGuard};
pub use draft::Draft;
pub use error::{CommitError, OpenError, ReadError};
pub use io::{Action, Files, Io, IoFailure, IoId, Lane};
pub use log::{Health, Log, Outcome, PinId, Step};
pub use machine::{Demand, Dump, Effect, LoadError, Lsn, Machine, Now, PartitionId};
pub use options::{FlushPolicy, Options};
pub use reader::{Bounds, DiskRead, Read, Reader, TimeSearch};
pub use recovery::PRIVATE_DIR;
pub use settings::{Cleanup, PartitionSettings};
pub use stats::Stats;
pub use superblock::FORMAT_VERSION;
