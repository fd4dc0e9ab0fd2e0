//! Looks into a log that nobody has open: checks every byte that has a meaning, and shows what
//! is there. It reads, and changes nothing.
//!
//! This room may not know what an effect says: who asks brings a [`Meaning`].

mod dump;
pub(crate) mod journal;
mod report;
mod segments;
pub(crate) mod snapshot;
mod strays;
pub(crate) mod superblocks;
pub(crate) mod verify;

use thiserror::Error;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::machine::Effect;
use crate::recovery::rootless;
use crate::superblock;

pub use dump::{Dump, Line, Value, dump};
pub use report::{Counts, Finding, Report, Severity};
pub use verify::{learn, verify};

/// What the machine's bytes mean, as far as an inspection needs it.
pub trait Meaning {
    /// One effect of a journal's entry, or of a snapshot, in their order.
    ///
    /// # Errors
    /// What is wrong with it.
    fn effect(&mut self, effect: Effect<'_>) -> Result<(), String>;

    /// One chunk of the machine's snapshot.
    ///
    /// # Errors
    /// What is wrong with it.
    fn chunk(&mut self, chunk: &[u8]) -> Result<(), String>;
}

/// Believes every effect and every chunk.
impl Meaning for () {
    fn effect(&mut self, _: Effect<'_>) -> Result<(), String> {
        Ok(())
    }

    fn chunk(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// How far an inspection is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The file that is read now.
    pub file: &'a str,
    /// Bytes read so far.
    pub done_bytes: u64,
    /// Bytes that will be read, as far as is known by now.
    pub total_bytes: u64,
}

/// Whether there is a log on a disk, in whatever state: whether it has a superblock.
#[must_use]
pub fn is_there(disk: &dyn Disk) -> bool {
    superblock::any(disk)
}

/// Whether both superblocks are missing where data of a log is. What cannot be looked at is not
/// known to be so.
#[must_use]
pub fn lacks_superblocks(disk: &dyn Disk) -> bool {
    !is_there(disk) && matches!(rootless(disk), Ok(Some(_)))
}

/// The error of a disk without superblocks.
pub(crate) fn no_log(disk: &dyn Disk) -> InspectError {
    match rootless(disk) {
        Ok(None) => InspectError::NoLog,
        Ok(Some(error)) | Err(error) => error.into(),
    }
}

/// Why nothing could be inspected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no superblock, so there is no log.
    #[error("there is no log in this folder: it has no superblock; name a data folder")]
    NoLog,
    /// The file that was asked for is none of a log.
    #[error(
        "{0} is no file of a log; name a superblock, a .journal, a .snapshot, a .log or a .sum, \
         as a path inside of the data folder"
    )]
    NoSuchFile(String),
    /// There is no file of the name that was asked for.
    #[error("there is no file {0} in this folder; `tidemill log verify` names those of the log")]
    Missing(String),
    /// A file is there, and this process may not read it: it is not known whether it is damaged.
    #[error("cannot open {path}: permission denied; run as {owner}")]
    Denied {
        /// The file or folder.
        path: String,
        /// Whom it belongs to.
        owner: String,
    },
    /// It is in use, of another version, or the disk said no.
    #[error(transparent)]
    Open(#[from] OpenError),
}
