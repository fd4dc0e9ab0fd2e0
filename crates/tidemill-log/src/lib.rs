//! The log: one journal with group commit, per-partition segments, snapshots and recovery, on
//! a [`Disk`] that is a trait.
//!
//! This crate may not know: the meaning of a payload, an async runtime, the wall clock, or,
//! outside of [`driver`], threads and files.

#![allow(dead_code)] // recovery and the driver use the rest, and follow next

pub mod batch;
pub mod disk;
mod draft;
pub mod error;
mod journal;
pub mod limits;
pub mod machine;

pub use batch::{Batch, BatchBuilder, BatchError};
pub use disk::{Disk, DiskFile, DiskLock};
pub use draft::Draft;
pub use error::{CommitError, OpenError, ReadError};
pub use machine::{Demand, Effect, LoadError, Lsn, Machine, Now, PartitionId};
