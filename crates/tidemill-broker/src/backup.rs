//! Backups of a broker's data, of an open broker and of a folder that nobody has open, and the way
//! back. What a backup is: FORMAT.md of the log.
//!
//! Each backup is read again and verified before it is answered.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use tidemill_log::backup as log;
pub use tidemill_log::backup::{BackupError, lies_in};
use tidemill_log::driver::FileDisk;
use tidemill_log::inspect::Progress;
use uuid::Uuid;

use crate::broker::Broker;
use crate::inspect::{self, Report};

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Backup {
    /// Files, its manifest not counted.
    pub files: u64,
    /// How many of them share their bytes with the data folder's: these never change again.
    pub linked_files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The last entry of the journal that is in it.
    pub through: u64,
    /// What a verification of it has found. Damage of the data is in its backup too.
    pub report: Report,
}

/// Data that was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Restored {
    /// Files that were copied.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// When the backup was taken, in milliseconds since 1970.
    pub taken_ms: i64,
    /// The last entry of the journal that is in it.
    pub through: u64,
    /// What a verification of the new folder has found. Damage is what the data had when its backup
    /// was taken.
    pub report: Report,
}

/// Whether a folder is a backup. One that is opened as a log is none any more.
#[must_use]
pub fn is_backup(dir: &Path) -> bool {
    dir.join(log::MANIFEST).is_file()
}

/// Takes a backup of the data in a folder that nobody has open. `link`: files that never change
/// again share their bytes with the folder's, where both are on one file system. Blocks: not for
/// an async worker.
///
/// # Errors
/// [`BackupError`]; what is in `to` then is refused by [`restore()`], but for
/// [`BackupError::Unverified`]: then all of it is there.
pub fn backup(
    folder: &Path,
    to: &Path,
    link: bool,
    mut watch: impl FnMut(Progress<'_>),
) -> Result<Backup, BackupError> {
    let disk = FileDisk::read_only(folder);
    let _lock = inspect::lock(&disk)?;
    let pinned = log::Pinned::at_rest(&disk);
    disk.permitted()?;
    let pinned = pinned?;
    let how = log::Taking {
        taken: Timestamp::now(),
        seed: Uuid::now_v7(),
        link,
        watch: &mut watch,
    };
    let done = log::take(&disk, &pinned, &FileDisk::new(to), how, &mut || {});
    disk.permitted()?;
    verified(done?, to, watch)
}

/// Copies a backup into an empty folder, after every file of it was compared with its manifest, and
/// verifies what it made. Nothing is linked. Blocks: not for an async worker.
///
/// # Errors
/// [`BackupError`]; what is in `folder` then cannot be opened, but for
/// [`BackupError::Unverified`]: then all of it is there.
pub fn restore(
    from: &Path,
    folder: &Path,
    mut watch: impl FnMut(Progress<'_>),
) -> Result<Restored, BackupError> {
    let disk = FileDisk::read_only(from);
    let _lock = inspect::lock(&disk)?;
    let done = log::restore(&disk, &FileDisk::new(folder), &mut watch);
    disk.permitted()?;
    let done = done?;
    Ok(Restored {
        files: done.files,
        bytes: done.bytes,
        taken_ms: done.taken.as_millisecond(),
        through: done.through.0,
        report: report_of(folder, watch)?,
    })
}

fn verified(
    done: log::BackedUp,
    at: &Path,
    watch: impl FnMut(Progress<'_>),
) -> Result<Backup, BackupError> {
    Ok(Backup {
        files: done.files,
        linked_files: done.linked_files,
        bytes: done.bytes,
        through: done.through.0,
        report: report_of(at, watch)?,
    })
}

/// Verifies what was made.
fn report_of(folder: &Path, watch: impl FnMut(Progress<'_>)) -> Result<Report, BackupError> {
    inspect::verify(folder, watch).map_err(BackupError::Unverified)
}

impl Broker {
    /// Takes a backup of what is durable now into a folder that is new or empty, while publishes
    /// and groups go on. It opens as a broker, and [`restore()`] makes a data folder of it. Files
    /// that never change again share their bytes with the data folder's, where both are on one
    /// file system: what must outlive the disk has to be copied on.
    ///
    /// Until the journal is copied its head stays, so a journal that is full meanwhile lets
    /// publishes wait.
    ///
    /// # Errors
    /// [`BackupError`]; what is in the folder then is refused by [`restore()`], but for
    /// [`BackupError::Unverified`]: then all of it is there.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> Result<Backup, BackupError> {
        let (handle, to) = (self.inner.handle.clone(), to.into());
        let taken = tokio::task::spawn_blocking(move || {
            let done = handle.backup(&FileDisk::new(&to), true, &mut |_| {})?;
            verified(done, &to, |_| {})
        });
        match taken.await {
            Ok(taken) => taken,
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => Err(BackupError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_and_cannot_be_verified_says_that_it_was_made() {
        let folder = std::env::temp_dir().join("tidemill-no-such-folder");
        let error = report_of(&folder, |_| {}).unwrap_err();
        assert!(matches!(error, BackupError::Unverified(_)), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("everything was copied"), "{text}");
    }
}
