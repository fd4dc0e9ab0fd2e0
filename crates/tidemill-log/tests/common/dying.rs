//! A disk whose operations fail from a certain one on, as those of a process that was killed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidemill_log::{Disk, DiskFile, DiskLock};

pub(crate) struct Dying {
    inner: Arc<dyn Disk>,
    left: Arc<AtomicU64>,
}

struct DyingFile {
    inner: Arc<dyn DiskFile>,
    left: Arc<AtomicU64>,
}

fn alive(left: &AtomicU64) -> io::Result<()> {
    let less = |left: u64| left.checked_sub(1);
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::Error::other("killed")),
    }
}

impl Dying {
    /// This disk, which takes so many operations that change something.
    pub(crate) fn after(operations: u64, inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicU64::new(operations)),
        }
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let left = self.left.clone();
        Arc::new(DyingFile { inner, left })
    }
}

impl Disk for Dying {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        alive(&self.left)?;
        Ok(self.wrap(self.inner.create(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.open(path)?))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.make_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.inner.lock()
    }
}

impl DiskFile for DyingFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(position, buf)
    }

    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()> {
        if let Err(killed) = alive(&self.left) {
            // A part of it has reached the file.
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let some = all[..all.len() / 2].to_vec();
            self.inner.write_at(position, &[some.into()])?;
            return Err(killed);
        }
        self.inner.write_at(position, pieces)
    }

    fn sync_data(&self) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        alive(&self.left)?;
        self.inner.truncate(len)
    }
}
