//! A disk in memory whose syncs can be held up or fail, so that a test decides what is durable
//! when.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Disk, DiskFile, DiskLock};

/// Whether syncs may go on.
#[derive(Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    fails: AtomicBool,
}

impl Gate {
    /// A disk of this size behind an open gate.
    pub(crate) fn new(max_bytes: u64) -> (Arc<Self>, Arc<dyn Disk>) {
        Self::before(MemoryDisk::new(max_bytes))
    }

    /// This disk behind an open gate.
    pub(crate) fn before(disk: MemoryDisk) -> (Arc<Self>, Arc<dyn Disk>) {
        let gate = Arc::new(Self::default());
        let behind = GatedDisk {
            disk,
            gate: Arc::clone(&gate),
        };
        (gate, Arc::new(behind))
    }

    /// From now on every sync fails.
    pub(crate) fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    /// From now on every sync waits.
    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
        match self.fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the cable is loose")),
            false => Ok(()),
        }
    }
}

struct GatedDisk {
    disk: MemoryDisk,
    gate: Arc<Gate>,
}

struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl GatedDisk {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gate = Arc::clone(&self.gate);
        Arc::new(GatedFile { file, gate })
    }
}

impl Disk for GatedDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.disk.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.disk.open(path)?))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.make_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self) -> io::Result<DiskLock> {
        self.disk.lock()
    }
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buf)
    }
    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        self.file.write_at(position, pieces)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass()?;
        self.file.sync_data()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
