//! Backups: a copy of a log at one moment that opens as a log, and the way back.
//!
//! A backup holds the newest snapshot, the journal from its head up to a synced entry, written
//! anew into one file, and the segments that the snapshot names up to where it says that they
//! were synced. It has its manifest last: what was broken off has none, and is refused.
//!
//! This room reads and writes through [`Disk`] alone. What keeps the files where they are while
//! a log is open is a [`Pinned`] moment of it, see [`crate::Log::pin`].

mod copy;
mod manifest;
mod restore;
mod take;

use std::io;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;
use uuid::Uuid;

use crate::disk::{Disk, DiskLock};
use crate::error::OpenError;
use crate::inspect::{InspectError, journal, no_log, superblocks};
use crate::journal::scan::Scan;
use crate::journal::writer::JOURNAL_DIR;
use crate::machine::Lsn;
use crate::segment::TOPICS_DIR;
use crate::snapshot::SNAPSHOTS_DIR;
use crate::superblock::Superblock;

pub use manifest::MANIFEST;
pub use restore::{Restored, restore};
pub use take::{BackedUp, Taking, take};

/// A moment of a log: what its newest superblock names, and how far its journal is durable.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    pub(crate) superblock: Superblock,
    /// Every entry up to here is in the journal for good.
    pub(crate) through: Lsn,
}

impl Pinned {
    /// The moment at which a log stopped. Whoever calls keeps others from opening it, as by
    /// [`Disk::lock`].
    ///
    /// # Errors
    /// [`BackupError`], where there is no log, or its journal has damage.
    pub fn at_rest(disk: &dyn Disk) -> Result<Self, BackupError> {
        let roots = superblocks::roots(disk);
        let superblock = superblocks::newest(&roots);
        let mut unreadable = Vec::new();
        for (path, root) in roots {
            match root {
                superblocks::Root::Refused(refusal) => return Err(refusal.into()),
                superblocks::Root::Unreadable(_) => unreadable.push(path),
                superblocks::Root::Missing | superblocks::Root::Good(_) => {}
            }
        }
        let Some(superblock) = superblock else {
            return Err(match unreadable.is_empty() {
                true => no_log(disk).into(),
                false => OpenError::Superblock(unreadable.join(" and ")).into(),
            });
        };
        let files = journal::files(disk)?;
        let scan = Scan {
            files: &files,
            journal: superblock.journal,
        };
        let scanned = scan.run(&superblock)?;
        Ok(Self {
            superblock,
            through: Lsn(scanned.next.0 - 1),
        })
    }

    /// The log's identity.
    #[must_use]
    pub fn log(&self) -> Uuid {
        self.superblock.log
    }

    /// The last entry that a backup of this moment holds.
    #[must_use]
    pub fn through(&self) -> Lsn {
        self.through
    }
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The target is in use by something else.
    #[error("{0} is in the target already; name a folder that is new or empty")]
    NotEmpty(String),
    /// The target lies in the folder that is copied: the next opening of a data folder would put
    /// it aside, and a backup would hold what is none of it.
    #[error("the target lies in the folder that is copied; name one outside of it")]
    Inside,
    /// The source is no backup, or not a whole one.
    #[error("this is no whole backup: {0}; use another one")]
    NotWhole(String),
    /// A file is not as the manifest, or the log, says.
    #[error("{file} is damaged: {why}")]
    Damaged {
        /// The file, relative to its folder.
        file: String,
        /// What the check said, and what to do.
        why: String,
    },
    /// The log ended before the backup was taken.
    #[error("the log is closed; take the backup of its folder")]
    Closed,
    /// There is nothing to take a backup of.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// Everything was copied, and what was made of it could not be looked at.
    #[error(
        "everything was copied, but it could not be verified: {0}; do so before you rely on it"
    )]
    Unverified(#[source] InspectError),
    /// The log cannot be opened, so it cannot be copied.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A disk said no.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the disk said.
        source: io::Error,
    },
}

impl BackupError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Checks that one folder is not the other and does not lie in it, whatever their paths are.
fn is_outside(disk: &dyn Disk, of: &dyn Disk) -> Result<(), BackupError> {
    let real = |disk: &dyn Disk| disk.folder().and_then(real_path);
    match (real(disk), real(of)) {
        (Some(inner), Some(outer)) if inner.starts_with(&outer) => Err(BackupError::Inside),
        _ => Ok(()),
    }
}

/// The path without links and detours. The folder, and those above it, need not be there yet: what
/// is missing will be made as a folder, so a `..` behind it leads back to where it is made.
pub(crate) fn real_path(dir: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    for part in std::path::absolute(dir).ok()?.components() {
        if part == Component::ParentDir {
            real.pop();
            continue;
        }
        real.push(part);
        if let Ok(found) = real.canonicalize() {
            real = found;
        }
    }
    Some(real)
}

/// Whether one folder is the other or lies in it, whatever their paths are. Neither need be there
/// yet.
#[must_use]
pub fn lies_in(inner: &Path, outer: &Path) -> bool {
    match (real_path(inner), real_path(outer)) {
        (Some(inner), Some(outer)) => inner.starts_with(outer),
        _ => false,
    }
}

/// Checks that nothing is in a folder but what a lock leaves.
fn is_empty(disk: &dyn Disk) -> Result<(), BackupError> {
    let mut names = crate::recovery::list(disk, "")?;
    names.retain(|name| name != crate::recovery::LOCK_FILE);
    names.sort_unstable();
    match names.into_iter().next() {
        Some(name) => Err(BackupError::NotEmpty(name)),
        None => Ok(()),
    }
}

/// Makes both superblocks, empty: as long as they are, an opening is refused. Answers what keeps
/// others out.
fn begin(disk: &dyn Disk) -> Result<DiskLock, BackupError> {
    is_empty(disk)?;
    if let Some(outer) = disk.folder().and_then(crate::driver::outer) {
        return Err(OpenError::Inside(outer.display().to_string()).into());
    }
    let lock = disk
        .lock()
        .map_err(BackupError::io("lock the target folder"))?;
    let make = || -> io::Result<()> {
        for dir in [JOURNAL_DIR, SNAPSHOTS_DIR, TOPICS_DIR] {
            disk.make_dir(dir)?;
        }
        for path in crate::superblock::PATHS {
            disk.create(path)?.sync_data()?;
        }
        disk.sync_dir("")
    };
    make().map_err(BackupError::io("begin the target folder"))?;
    Ok(lock)
}

/// Writes both superblocks, which are there already; answers their bytes by path.
fn root(
    disk: &dyn Disk,
    mut superblock: Superblock,
) -> Result<Vec<(&'static str, bytes::Bytes)>, BackupError> {
    let mut written = Vec::new();
    superblock.sequence = 0;
    for _ in crate::superblock::PATHS {
        superblock.sequence += 1;
        let path = crate::superblock::path_of(superblock.sequence);
        let bytes = superblock.encode();
        let write = || -> io::Result<()> {
            let file = disk.open(path)?;
            file.write_at(0, std::slice::from_ref(&bytes))?;
            file.sync_data()
        };
        write().map_err(BackupError::io(format!("write {path}")))?;
        written.push((path, bytes));
    }
    Ok(written)
}
