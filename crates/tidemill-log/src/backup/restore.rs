//! Makes a log of a backup: every file is checked against the manifest and copied.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::manifest::{MANIFEST, Manifest};
use super::{BackupError, begin, copy, is_outside, root};
use crate::disk::{Disk, read_exact_at};
use crate::inspect::{Progress, superblocks};
use crate::limits::RESTORE_EPOCHS;
use crate::machine::Lsn;
use crate::recovery::shown;
use crate::superblock::{Superblock, is_superblock};

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Files that were copied.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// When the backup was taken.
    pub taken: Timestamp,
    /// The last entry of the journal that is in it.
    pub through: Lsn,
}

/// Copies the backup on `from` into the empty disk `to`, which is a log then. Nothing is linked.
/// The log's epochs go on [`RESTORE_EPOCHS`] above the backup's: those that it had after the
/// backup was taken are not met again, so offsets that are given out anew can be told from the
/// ones that they had been.
///
/// # Errors
/// [`BackupError`]; what is in `to` then is refused by an opening.
pub fn restore(
    from: &dyn Disk,
    to: &dyn Disk,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Restored, BackupError> {
    is_outside(to, from)?;
    let manifest = read(from)?;
    let superblock = newest(from)?;
    let _lock = begin(to)?;
    let total_bytes = manifest.entries.iter().map(|entry| entry.size_bytes).sum();
    let mut done_bytes = 0;
    let mut dirs = BTreeSet::from([String::new()]);
    for entry in &manifest.entries {
        let path = entry.path.as_str();
        let mut show = |bytes| {
            done_bytes += bytes;
            watch(Progress {
                file: path,
                done_bytes,
                total_bytes,
            });
        };
        let found = if is_superblock(path) {
            let found = copy::read(from, path, entry.size_bytes, |_| Ok(()));
            show(entry.size_bytes);
            found
        } else {
            make_dirs(to, path, &mut dirs)?;
            copy::copy(from, to, path, entry.size_bytes, show)
        };
        let found = found.map_err(BackupError::io(format!("copy {path}")))?;
        if found != *entry {
            return Err(BackupError::Damaged {
                file: path.to_owned(),
                why: format!(
                    "it is not as {MANIFEST} says; take away what is in the target, and use \
                     another backup"
                ),
            });
        }
    }
    for dir in dirs.iter().rev() {
        let what = format!("make the names in {} durable", shown(to, dir));
        to.sync_dir(dir).map_err(BackupError::io(what))?;
    }
    root(
        to,
        Superblock {
            epoch: superblock.epoch.saturating_add(RESTORE_EPOCHS),
            ..superblock
        },
    )?;
    Ok(Restored {
        files: manifest.entries.len() as u64,
        bytes: total_bytes,
        taken: manifest.taken,
        through: manifest.through,
    })
}

fn read(from: &dyn Disk) -> Result<Manifest, BackupError> {
    let file = match from.open(MANIFEST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = format!(
                "it has no {MANIFEST}, as a backup that was broken off, or was opened as a log"
            );
            return Err(BackupError::NotWhole(why));
        }
        other => other.map_err(BackupError::io(format!("open {MANIFEST}")))?,
    };
    let whole = || {
        let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        read_exact_at(file.as_ref(), 0, length)
    };
    let bytes = whole().map_err(BackupError::io(format!("read {MANIFEST}")))?;
    Manifest::decode(&String::from_utf8_lossy(&bytes))
}

/// The backup's superblock, of a version that this program reads.
fn newest(from: &dyn Disk) -> Result<Superblock, BackupError> {
    let roots = superblocks::roots(from);
    let newest = superblocks::newest(&roots);
    for (_, root) in roots {
        if let superblocks::Root::Refused(refusal) = root {
            return Err(refusal.into());
        }
    }
    newest.ok_or_else(|| BackupError::NotWhole("it has no readable superblock".to_owned()))
}

/// Makes the folders of a path; the ones that are new are to be synced.
fn make_dirs(to: &dyn Disk, path: &str, dirs: &mut BTreeSet<String>) -> Result<(), BackupError> {
    let mut dir = path;
    let mut made = false;
    while let Some((parent, _)) = dir.rsplit_once('/') {
        if !made && !dirs.contains(parent) {
            to.make_dir(parent)
                .map_err(BackupError::io(format!("make {parent}/")))?;
            made = true;
        }
        dirs.insert(parent.to_owned());
        dir = parent;
    }
    Ok(())
}
