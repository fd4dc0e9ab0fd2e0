//! Brings the folder in line with what was recovered: segments are cut to what was synced of
//! them, what is ours and no longer needed is removed, what is unknown is put aside.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::replay::Replayed;
use super::{Opening, list};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::io::{Action, run_all};
use crate::journal::writer::{JOURNAL_DIR, journal_number};
use crate::log::Store;
use crate::log::removal::Gone;
use crate::segment::sidecar::LINE_BYTES;
use crate::segment::{Segment, TOPICS_DIR, is_rewritten, partition_dir};
use crate::snapshot::{SNAPSHOTS_DIR, snapshot_number, snapshot_path};
use crate::superblock::is_superblock;

/// Where unknown files go.
pub(crate) const ASIDE_DIR: &str = "aside";
/// The file that carries the lock of a disk that has one.
pub(crate) const LOCK_FILE: &str = "lock";
/// The folder of what a server keeps for itself beside its log, and no backup holds: a log knows
/// its name, and never looks into it.
pub const PRIVATE_DIR: &str = "private";

/// What a file system itself puts into a folder that it is mounted on.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

/// Whether a log may have this in its top folder.
pub(crate) fn is_ours(name: &str) -> bool {
    let dirs = [JOURNAL_DIR, SNAPSHOTS_DIR, TOPICS_DIR, ASIDE_DIR];
    let others = [LOCK_FILE, PRIVATE_DIR, OF_THE_FILE_SYSTEM];
    dirs.contains(&name) || others.contains(&name) || is_superblock(name)
}

/// Checks that a log may begin here: where nothing is that it would put aside later.
///
/// # Errors
/// [`OpenError::Occupied`], and where the folder cannot be listed.
pub(crate) fn is_vacant(disk: &dyn Disk) -> Result<(), OpenError> {
    let mut names = list(disk, "")?;
    names.sort_unstable();
    match names.into_iter().find(|name| !is_ours(name)) {
        Some(name) => Err(OpenError::Occupied(name)),
        None => Ok(()),
    }
}

pub(super) struct Folder<'a> {
    pub(super) opening: &'a Opening<'a>,
}

impl Folder<'_> {
    pub(super) fn tidy(
        &self,
        store: &Store,
        replayed: &Replayed,
        snapshot: u64,
        epoch: u64,
    ) -> Result<Vec<Gone>, OpenError> {
        self.top(epoch)?;
        self.journal(epoch)?;
        self.snapshots(snapshot, epoch)?;
        let stuck = self.deleted(store, replayed)?;
        self.topics(store, epoch)?;
        self.segments(store, replayed, epoch)?;
        Ok(stuck)
    }

    fn top(&self, epoch: u64) -> Result<(), OpenError> {
        for name in list(self.opening.disk(), "")? {
            if !is_ours(&name) {
                self.aside(&name, epoch)?;
            }
        }
        let dirs = [JOURNAL_DIR, SNAPSHOTS_DIR, TOPICS_DIR];
        let actions: Vec<_> = dirs
            .iter()
            .map(|dir| Action::MakeDir((*dir).into()))
            .collect();
        self.opening.run("make the data folder", &actions)
    }

    fn journal(&self, epoch: u64) -> Result<(), OpenError> {
        for name in list(self.opening.disk(), JOURNAL_DIR)? {
            if journal_number(&name).is_none() {
                self.aside(&format!("{JOURNAL_DIR}/{name}"), epoch)?;
            }
        }
        Ok(())
    }

    fn snapshots(&self, current: u64, epoch: u64) -> Result<(), OpenError> {
        for name in list(self.opening.disk(), SNAPSHOTS_DIR)? {
            match snapshot_number(&name) {
                Some(number) if number == current => {}
                Some(number) => {
                    let path = snapshot_path(number);
                    self.opening
                        .run(&format!("remove {path}"), &[Action::Remove(path.clone())])?;
                }
                None => self.aside(&format!("{SNAPSHOTS_DIR}/{name}"), epoch)?,
            }
        }
        Ok(())
    }

    /// Removes what the journal has deleted, for good: once its folders are synced nothing has
    /// to remember it. Answers what would not go.
    fn deleted(&self, store: &Store, replayed: &Replayed) -> Result<Vec<Gone>, OpenError> {
        let mut stuck = Vec::new();
        let mut folders = BTreeSet::new();
        for gone in &replayed.gone {
            let lives = match gone {
                Gone::Partition(id) => store.partitions.contains_key(id),
                Gone::Segment {
                    id,
                    base,
                    generation,
                } => store.has_segment(*id, *base, *generation),
            };
            if lives {
                continue;
            }
            match run_all(&gone.actions(), self.opening.files) {
                Err(failure) if failure.error.kind() == ErrorKind::DirectoryNotEmpty => {
                    let dir = partition_dir(gone.id());
                    tracing::warn!(%dir, "a strange folder in a deleted partition stays");
                    stuck.push(*gone);
                }
                other => {
                    let what = format!("remove {}", partition_dir(gone.id()));
                    other.map_err(|failure| OpenError::io(what)(failure.error))?;
                    folders.insert(gone.folder());
                }
            }
        }
        for folder in folders {
            match self.opening.disk().sync_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.map_err(OpenError::io(format!("sync {folder}")))?,
            }
        }
        Ok(stuck)
    }

    fn topics(&self, store: &Store, epoch: u64) -> Result<(), OpenError> {
        let known: HashSet<String> = store
            .partitions
            .keys()
            .map(|id| id.topic.to_string())
            .collect();
        for name in list(self.opening.disk(), TOPICS_DIR)? {
            if known.contains(&name) {
                continue;
            }
            let path = format!("{TOPICS_DIR}/{name}");
            // An empty folder is what the last deleted partition of a topic leaves.
            let is_empty = self
                .opening
                .disk()
                .list(&path)
                .is_ok_and(|names| names.is_empty());
            if is_empty {
                self.opening
                    .run(&format!("remove {path}"), &[Action::RemoveDir(path.into())])?;
            } else {
                self.aside(&path, epoch)?;
            }
        }
        Ok(())
    }

    /// Only partitions with records in the journal's tail can have more in their segments than
    /// was synced.
    fn segments(&self, store: &Store, replayed: &Replayed, epoch: u64) -> Result<(), OpenError> {
        let dirty = store
            .partitions
            .values()
            .filter(|partition| partition.dirty_from.is_some());
        for partition in dirty {
            let dir = partition_dir(partition.id);
            let mut known = HashSet::new();
            for segment in &partition.segments {
                known.insert(segment.log_path.to_string());
                known.insert(segment.sum_path.to_string());
            }
            if let Some(last) = partition.segments.last() {
                self.cut(&last.log_path, last.synced.bytes)?;
                self.cut(
                    &last.sum_path,
                    u64::from(last.synced.lines) * LINE_BYTES as u64,
                )?;
            }
            let begun = replayed.begun.iter().filter(|(id, _)| *id == partition.id);
            let ours: HashSet<Arc<str>> = begun
                .map(|(id, base)| Segment::new(*id, *base))
                .flat_map(|segment| [segment.log_path, segment.sum_path])
                .collect();
            for name in list(self.opening.disk(), &dir)? {
                let path = format!("{dir}/{name}");
                if known.contains(&path) {
                    continue;
                }
                // A compaction that did not end leaves what it wrote.
                if ours.contains(path.as_str()) || is_rewritten(&name) {
                    let what = format!("remove {path}");
                    self.opening.run(&what, &[Action::Remove(path.into())])?;
                } else {
                    self.aside(&path, epoch)?;
                }
            }
        }
        Ok(())
    }

    /// Cuts a file to the length that was synced. A shorter one has lost something: that shows
    /// when it is read.
    fn cut(&self, path: &Arc<str>, length: u64) -> Result<(), OpenError> {
        let cut = || -> io::Result<()> {
            let file = self.opening.files.get(path)?;
            let found = file.len()?;
            if found > length {
                file.truncate(length)?;
            } else if found < length {
                tracing::error!(%path, found, length, "a segment is shorter than it was");
            }
            Ok(())
        };
        match cut() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::error!(%path, length, "a segment is missing");
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                let actions = [Action::MakeDir(dir.into()), Action::Create(path.clone())];
                self.opening.run(&format!("make {path}"), &actions)
            }
            other => other.map_err(OpenError::io(format!("cut {path}"))),
        }
    }

    fn aside(&self, path: &str, epoch: u64) -> Result<(), OpenError> {
        let to = format!("{ASIDE_DIR}/{epoch}-{}", path.replace('/', "_"));
        if self.opening.disk().is_held(path) {
            tracing::warn!(%path, "an open data folder lies in this one and stays; close it and \
                                   move it out");
            return Ok(());
        }
        tracing::warn!(%path, %to, "an unknown file is put aside");
        let disk = self.opening.disk();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        // Each step is durable before the next: a power cut finds the file at one of its two
        // places, and never after something else has taken its name.
        let move_it = || -> io::Result<()> {
            disk.make_dir(ASIDE_DIR)?;
            disk.sync_dir("")?;
            disk.rename(path, &to)?;
            disk.sync_dir(ASIDE_DIR)?;
            disk.sync_dir(parent)
        };
        move_it().map_err(OpenError::io(format!("put {path} aside")))
    }
}
