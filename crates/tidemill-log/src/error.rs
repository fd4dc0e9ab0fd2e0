//! One error type an operation, each text saying what happened and what to do next.

use std::io;

use thiserror::Error;
use tidemill_core::Offset;
use tidemill_core::error::Unavailable;

use crate::machine::{LoadError, Lsn, PartitionId};

/// Why an operation has no receipt.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError<R> {
    /// The machine said no. Nothing was written.
    #[error("refused")]
    Refused(R),
    /// The log takes no writes, or not this one now. Nothing was written.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// The write began but failed: it may or may not be there after a restart.
    #[error("it is not known whether the write was kept ({0}); check after a restart")]
    Indeterminate(String),
}

/// Why a log was not opened. Nothing was changed, unless it says so.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("the data folder is in use: {0}; close the other one, or use another folder")]
    Locked(String),
    /// It lies in another data folder, whose next opening would put it aside.
    #[error(
        "it lies in the data folder {0}, which puts aside what is not its own; name a folder \
         outside of that one, and if this has data, move it out while neither is open"
    )]
    Inside(String),
    /// There is no log, and something else is there: the next opening would put it aside.
    #[error(
        "there is no log in this folder, but {0} is; name the folder of a log, or one that is new \
         or empty"
    )]
    Occupied(String),
    /// A newer version of the program wrote it.
    #[error(
        "the data has format version {found}, newer than {supported}, the newest this program \
         reads; use the program's newer version"
    )]
    NewerFormat {
        /// What the superblock says.
        found: u32,
        /// What this program knows.
        supported: u32,
    },
    /// An older version of the program wrote it, in a format that is no longer read.
    #[error(
        "the data has format version {found}, older than {supported}, the oldest this program \
         reads; nothing was changed: read it out with the version that wrote it (`tidemill \
         subscribe TOPIC --from beginning`) and publish it into a new folder"
    )]
    OlderFormat {
        /// What the superblock says.
        found: u32,
        /// The oldest that this program knows.
        supported: u32,
    },
    /// Both superblocks are unreadable.
    #[error("no superblock is readable ({0}); restore the folder from a backup")]
    Superblock(String),
    /// The snapshot that the superblock names is unreadable.
    #[error("the snapshot {path} is damaged ({why}); restore the folder from a backup")]
    Snapshot {
        /// The file.
        path: String,
        /// What the check said.
        why: String,
    },
    /// The journal has a hole in front of commits that were known to be durable.
    #[error(
        "the journal is damaged at entry {lsn} ({file} from byte {offset}), and entries up to \
         {durable} behind it were acknowledged; nothing was changed: restore it from a backup, \
         or see what `tidemill log repair` saves"
    )]
    JournalDamaged {
        /// The first entry that is not readable.
        lsn: Lsn,
        /// An entry behind it that was durable.
        durable: Lsn,
        /// The file.
        file: String,
        /// The place in the file, in bytes.
        offset: u64,
    },
    /// A journal file is shorter than it was when its commits were written.
    #[error(
        "the journal file {file} has {found} bytes instead of {expected}, so its end is lost; \
         nothing was changed: restore it from a backup, or see what `tidemill log repair` saves"
    )]
    JournalCut {
        /// The file.
        file: String,
        /// Its length in bytes.
        found: u64,
        /// What its commits say, in bytes.
        expected: u64,
    },
    /// The journal file that the superblock names is not there.
    #[error("the journal file {0} is missing; restore the folder from a backup")]
    JournalMissing(String),
    /// A whole commit holds something that this program does not understand.
    #[error("the journal's entry {lsn} cannot be used: {why}")]
    Entry {
        /// The entry.
        lsn: Lsn,
        /// What it is.
        why: String,
    },
    /// The machine does not know its own snapshot.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An option is out of its range.
    #[error("the option {name} cannot be {value}: {why}")]
    Option {
        /// Which.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Its range.
        why: &'static str,
    },
    /// There is no space for what an opening has to write. Nothing that was kept is lost.
    #[error("no space left to {what} ({source}); free some, then start again")]
    Full {
        /// What was tried.
        what: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The disk said no.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the disk said.
        source: io::Error,
    },
}

impl OpenError {
    /// An error of the disk's, with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { what, source }
            }
            _ => Self::Io { what, source },
        }
    }
}

/// Why records could not be read from disk.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The bytes are not those that were written. They are left as they are.
    #[error("partition {id} is damaged from offset {offset} on: {why}; read on from {resume}")]
    Damaged {
        /// The partition.
        id: PartitionId,
        /// The first unreadable offset.
        offset: Offset,
        /// Where reading may go on.
        resume: Offset,
        /// What the check said.
        why: String,
    },
    /// The partition, or this part of it, was deleted meanwhile.
    #[error("this part of partition {0} was deleted meanwhile; look where it begins now")]
    Gone(PartitionId),
    /// The disk said no.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the disk said.
        source: io::Error,
    },
}
