//! Input and output as values: the log says what is to be done, a driver does it.
//!
//! An [`Io`] is a short list of actions, done in order and reported as one. The log has at most
//! one of each [`Lane`] under way; two of different lanes may end in any order.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};

/// Names one [`Io`], to report its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// What an [`Io`] is for. Those of one lane are independent of those of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A commit is written and synced: somebody waits for it.
    Journal,
    /// Segments, checkpoints, new journal files, removals: nobody waits, unless space is short.
    Background,
}

/// One thing to do with the disk.
#[derive(Clone, Debug)]
pub enum Action {
    /// Makes a folder and those above it.
    MakeDir(Arc<str>),
    /// Makes an empty file; what was there is emptied.
    Create(Arc<str>),
    /// Writes the pieces one after the other.
    Write {
        /// The file.
        path: Arc<str>,
        /// Where, in bytes.
        position: u64,
        /// What.
        pieces: Vec<Bytes>,
    },
    /// Has the disk begin with what a sync of these bytes of a file would wait for. It is a hint,
    /// for those who sync many files.
    WriteOut {
        /// The file.
        path: Arc<str>,
        /// The bytes.
        range: Range<u64>,
    },
    /// Makes a file's bytes durable.
    Sync(Arc<str>),
    /// Makes a folder's names durable.
    SyncDir(Arc<str>),
    /// Removes a file; it may be gone already.
    Remove(Arc<str>),
    /// Removes a folder and the files in it; it may be gone already.
    RemoveDir(Arc<str>),
    /// Does something that needs reading, and keeps the result for the log.
    Work(Arc<dyn Work>),
}

/// A piece of work that reads and writes, but syncs nothing. It ends within some tens of
/// milliseconds on a usual disk.
pub trait Work: fmt::Debug + Send + Sync {
    /// Does it; blocks as the disk does.
    ///
    /// # Errors
    /// A write that failed. What could not be read is part of the result.
    fn run(&self, files: &Files) -> Result<(), IoFailure>;
}

impl Action {
    /// Whether this makes something durable: its failure is final for the log.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Sync(_) | Self::SyncDir(_))
    }

    fn run(&self, files: &Files) -> Result<(), IoFailure> {
        if let Self::Work(work) = self {
            return work.run(files);
        }
        self.run_one(files).map_err(|error| IoFailure {
            sync: self.is_sync(),
            error,
        })
    }

    fn run_one(&self, files: &Files) -> io::Result<()> {
        match self {
            Self::MakeDir(dir) => files.disk.make_dir(dir),
            Self::Create(path) => files.create_empty(path),
            Self::Write {
                path,
                position,
                pieces,
            } => files.get(path)?.write_at(*position, pieces),
            Self::WriteOut { path, range } => {
                files.get(path)?.write_out(range.clone());
                Ok(())
            }
            Self::Sync(path) => files.get(path)?.sync_data(),
            Self::SyncDir(dir) => files.disk.sync_dir(dir),
            Self::Remove(path) => files.remove(path),
            Self::RemoveDir(dir) => files.remove_dir(dir),
            Self::Work(_) => Ok(()),
        }
    }
}

/// A step for a driver: run the actions in order, stop at the first error, report the end with
/// [`crate::Log::finish`].
#[derive(Clone, Debug)]
pub struct Io {
    /// Names it.
    pub id: IoId,
    /// What it is for.
    pub lane: Lane,
    /// What to do.
    pub actions: Vec<Action>,
}

impl Io {
    /// Runs the actions one after the other; blocks as the disk does.
    ///
    /// # Errors
    /// The first action that failed; none after it was run.
    pub fn run(&self, files: &Files) -> Result<(), IoFailure> {
        run_all(&self.actions, files)
    }
}

pub(crate) fn run_all(actions: &[Action], files: &Files) -> Result<(), IoFailure> {
    for action in actions {
        action.run(files)?;
    }
    Ok(())
}

/// How an [`Io`] failed.
#[derive(Debug)]
pub struct IoFailure {
    /// Whether a sync failed: then nothing that was written is certain any more.
    pub sync: bool,
    /// What the disk said.
    pub error: io::Error,
}

impl IoFailure {
    /// Whether trying again may help: there was no space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        !self.sync && matches!(self.error.kind(), StorageFull | QuotaExceeded)
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// A disk with a bounded number of files kept open.
pub struct Files {
    disk: Arc<dyn Disk>,
    max_open: usize,
    /// Held for a look-up, and while a file is opened; never while one is read or written.
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<Arc<str>, (Arc<dyn DiskFile>, u64)>,
    /// Counts look-ups; the file with the smallest number is closed first.
    uses: u64,
}

impl Files {
    /// Keeps up to `max_open` files of `disk` open.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, max_open: usize) -> Self {
        Self {
            disk,
            max_open,
            open: Mutex::default(),
        }
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // The map is whole between any two statements that change it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, path: &Arc<str>) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.lock();
        open.uses += 1;
        let uses = open.uses;
        if let Some((file, used)) = open.files.get_mut(path) {
            *used = uses;
            return Ok(file.clone());
        }
        let file = self.disk.open(path)?;
        self.keep(&mut open, path, &file);
        Ok(file)
    }

    fn keep(&self, open: &mut Open, path: &Arc<str>, file: &Arc<dyn DiskFile>) {
        if open.files.len() >= self.max_open {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                open.files.remove(&path);
            }
        }
        let uses = open.uses;
        open.files.insert(path.clone(), (file.clone(), uses));
    }

    fn create_empty(&self, path: &Arc<str>) -> io::Result<()> {
        let file = match self.disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open(path)?;
                file.truncate(0)?;
                file
            }
            other => other?,
        };
        self.keep(&mut self.lock(), path, &file);
        Ok(())
    }

    fn remove(&self, path: &Arc<str>) -> io::Result<()> {
        self.forget(path);
        missing_is_fine(self.disk.remove(path))
    }

    fn remove_dir(&self, dir: &Arc<str>) -> io::Result<()> {
        let names = match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for name in names {
            self.remove(&Arc::from(format!("{dir}/{name}")))?;
        }
        missing_is_fine(self.disk.remove(dir))
    }

    /// Closes the files that an [`Io`] has removed; done for files that others keep open.
    pub(crate) fn forget_removed(&self, io: &Io) {
        for action in &io.actions {
            match action {
                Action::Remove(path) => self.forget(path),
                Action::RemoveDir(dir) => {
                    let inside = |path: &str| {
                        path.strip_prefix(&**dir)
                            .is_some_and(|rest| rest.starts_with('/'))
                    };
                    self.lock().files.retain(|path, _| !inside(path));
                }
                _ => {}
            }
        }
    }

    /// Closes a file, if it is open.
    fn forget(&self, path: &str) {
        self.lock().files.remove(path);
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}
