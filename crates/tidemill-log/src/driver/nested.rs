//! Data folders in data folders: an opening puts aside what is not its own, so none may lie in
//! another, and one that does and is open stays where it is.

use std::fs::{self, File, TryLockError};
use std::path::{Component, Path, PathBuf};

use crate::backup::real_path;
use crate::limits::HELD_LOOK_MAX;
use crate::recovery::LOCK_FILE;
use crate::superblock;

/// The data folder, or the backup, that this folder lies in, whatever its path is; the folder need
/// not be there yet. What this process may not look at is none.
#[must_use]
pub fn outer(folder: &Path) -> Option<PathBuf> {
    let holds_log = |dir: &&Path| {
        let found = superblock::PATHS.map(|name| dir.join(name));
        found.iter().any(|path| path.is_file())
    };
    let above = |path: PathBuf| {
        let found = path.ancestors().skip(1).find(holds_log);
        found.map(Path::to_path_buf)
    };
    // A link in a data folder is put aside like anything else.
    let named = std::path::absolute(folder).ok();
    let named = named.filter(|path| !path.components().any(|part| part == Component::ParentDir));
    let real = real_path(folder).and_then(above);
    real.or_else(|| named.and_then(above))
}

/// Whether the lock's file of a data folder at this path or below it is locked. Links are not
/// followed, as they may be moved; where too much is there to look at, it counts as locked.
pub(super) fn is_held(path: &Path) -> bool {
    let mut dirs = vec![path.to_path_buf()];
    let mut left = HELD_LOOK_MAX;
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            left -= 1;
            if left == 0 {
                return true;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.file_name() == LOCK_FILE => {
                    let locked = |file: File| {
                        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
                    };
                    if File::open(entry.path()).is_ok_and(locked) {
                        return true;
                    }
                }
                _ => {}
            }
        }
    }
    false
}
