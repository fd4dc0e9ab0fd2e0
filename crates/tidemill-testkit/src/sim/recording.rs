//! A disk that writes down every change that is made to it, and when something was promised: the
//! recording is what [`crate::sim::crash`] makes crash images of. May not know: what the files
//! mean, which disk is below.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidemill_log::{Disk, DiskFile, DiskLock};

/// The number of a file, whatever its name.
pub type FileNumber = u64;

/// One change, in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new file.
    Create(String, FileNumber),
    /// A folder and those above it.
    MakeDir(String),
    /// A file or folder has another path.
    Rename(String, String),
    /// A file or folder is gone.
    Remove(String),
    /// Bytes, from a position on.
    Write(FileNumber, u64, Bytes),
    /// A length in bytes.
    Truncate(FileNumber, u64),
    /// What was written to a file is durable.
    Sync(FileNumber),
    /// The names in a folder are durable.
    SyncDir(String),
    /// So many operations were handed in.
    Submitted(usize),
    /// The first so many operations were acknowledged.
    Acknowledged(usize),
}

#[derive(Default)]
struct Tape {
    events: Vec<Event>,
    files: FileNumber,
    names: BTreeMap<String, FileNumber>,
}

/// Records what is done to a disk. Clones share the recording. Every change waits for the one
/// before it to end, so that the order written down is the order on the disk.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<dyn Disk>,
    tape: Arc<Mutex<Tape>>,
}

struct RecordedFile {
    inner: Arc<dyn DiskFile>,
    number: FileNumber,
    tape: Arc<Mutex<Tape>>,
}

fn enter(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    // The tape is whole between any two statements that change it.
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Records what is done to a disk that is empty.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            tape: Arc::default(),
        }
    }

    /// Writes down that something was handed in or promised.
    pub fn note(&self, event: Event) {
        enter(&self.tape).events.push(event);
    }

    /// The recording so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        enter(&self.tape).events.clone()
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>, number: FileNumber) -> Arc<dyn DiskFile> {
        Arc::new(RecordedFile {
            inner,
            number,
            tape: self.tape.clone(),
        })
    }
}

impl Tape {
    /// Does a change and writes it down, unless it failed.
    fn run<T>(&mut self, change: impl FnOnce() -> io::Result<T>, event: Event) -> io::Result<T> {
        let done = change()?;
        self.events.push(event);
        Ok(done)
    }
}

impl Disk for Recorder {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut tape = enter(&self.tape);
        tape.files += 1;
        let number = tape.files;
        let event = Event::Create(path.to_owned(), number);
        let file = tape.run(|| self.inner.create(path), event)?;
        tape.names.insert(path.to_owned(), number);
        drop(tape);
        Ok(self.wrap(file, number))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.inner.open(path)?;
        let number = enter(&self.tape).names.get(path).copied();
        let number = number.ok_or_else(|| io::Error::other("a file from before the recording"))?;
        Ok(self.wrap(file, number))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let event = Event::MakeDir(dir.to_owned());
        enter(&self.tape).run(|| self.inner.make_dir(dir), event)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tape = enter(&self.tape);
        let event = Event::Rename(from.to_owned(), to.to_owned());
        tape.run(|| self.inner.rename(from, to), event)?;
        let inside = format!("{from}/");
        let names = std::mem::take(&mut tape.names).into_iter();
        tape.names = names
            .map(|(path, number)| match path.strip_prefix(&inside) {
                Some(rest) => (format!("{to}/{rest}"), number),
                None if path == from => (to.to_owned(), number),
                None => (path, number),
            })
            .collect();
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut tape = enter(&self.tape);
        tape.run(|| self.inner.remove(path), Event::Remove(path.to_owned()))?;
        tape.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let event = Event::SyncDir(dir.to_owned());
        enter(&self.tape).run(|| self.inner.sync_dir(dir), event)
    }

    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.inner.lock()
    }
}

impl DiskFile for RecordedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(position, buf)
    }

    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        let event = Event::Write(self.number, position, Bytes::from(pieces.concat()));
        enter(&self.tape).run(|| self.inner.write_at(position, pieces), event)
    }

    fn sync_data(&self) -> io::Result<()> {
        let event = Event::Sync(self.number);
        enter(&self.tape).run(|| self.inner.sync_data(), event)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let event = Event::Truncate(self.number, len);
        enter(&self.tape).run(|| self.inner.truncate(len), event)
    }
}
