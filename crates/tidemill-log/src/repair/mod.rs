//! Repairs a log that has damage, as far as that is possible without inventing anything: the
//! journal ends before its damage, and damaged batches of segments become empty ones over the
//! same offsets.
//!
//! First a [`Plan`] is made, which changes nothing and says what is lost. Carrying it out writes
//! new files beside the old ones; the superblock that names them is the moment of the change.
//! What is replaced is moved to `aside/`, never deleted. This room may not know what an effect
//! says: who asks brings a [`Mend`].

mod apply;
mod plan;
mod reach;
mod segment;

use std::io;
use std::ops::Range;

use thiserror::Error;
use tidemill_core::Offset;

use crate::error::OpenError;
use crate::inspect::{InspectError, Meaning};
use crate::machine::{Lsn, PartitionId};

pub use apply::apply;
pub use plan::{Plan, plan};

/// What the machine's bytes mean, as far as a repair needs it.
pub trait Mend: Meaning {
    /// The offsets of partitions that the machine's state speaks of, as the one after the last:
    /// none of them may be given out again.
    fn reach(&self) -> Vec<(PartitionId, Offset)>;
}

/// Speaks of no offset.
impl Mend for () {
    fn reach(&self) -> Vec<(PartitionId, Offset)> {
        Vec::new()
    }
}

/// What the journal loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalCut {
    /// The file with the first unreadable commit.
    pub file: String,
    /// Where in it, in bytes.
    pub byte: u64,
    /// The entries that are lost: settlements, topics and records that they held.
    pub entries: Range<Lsn>,
}

/// Records that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The partition.
    pub id: PartitionId,
    /// Their offsets. They stay without records, and are not given out again.
    pub offsets: Range<Offset>,
    /// The file that held them.
    pub file: String,
}

/// A segment that is written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMend {
    /// The partition.
    pub id: PartitionId,
    /// Its file.
    pub file: String,
    /// Whether it loses records; else its sidecar alone is made again.
    pub loses: bool,
}

/// Why a log is not repaired. Nothing was changed, unless it says so.
#[derive(Debug, Error)]
pub enum RepairError {
    /// What is damaged cannot be done without.
    #[error(
        "{file} is damaged ({why}), and nothing else says what it held; restore the folder from a \
         backup"
    )]
    Hopeless {
        /// The file.
        file: String,
        /// What the check said.
        why: String,
    },
    /// A whole entry holds something that this program does not understand.
    #[error(
        "the journal's entry {lsn} cannot be used ({why}); use the program's version that wrote it"
    )]
    Entry {
        /// The entry.
        lsn: Lsn,
        /// What it is.
        why: String,
    },
    /// A compaction wrote this segment since the newest snapshot.
    #[error(
        "{0} is damaged and was compacted just now; let a server open the folder and close it, \
         then repair again"
    )]
    NotYet(String),
    /// There is nothing to repair.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It is in use, of another version, or the disk said no.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk said no. The log is as it was, but for new files that nothing names, or, where
    /// it was a move to `aside/`, repaired.
    #[error("cannot {what}: {source}; free the way, then repair again")]
    Io {
        /// What was tried.
        what: String,
        /// What the disk said.
        source: io::Error,
    },
}

impl RepairError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
