//! The disk as the log sees it: a small public trait, so that crash tests need no feature flag.
//!
//! This room may not know what a file holds. The real disk and the one in memory are in
//! [`crate::driver`]; a simulated one that loses power is in the test kit.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// A folder of files. Paths are relative to it, separated by `/`, without `.` and `..`.
///
/// What a power cut leaves is what these promise and nothing more: the bytes of a file are
/// durable after [`DiskFile::sync_data`] of it, a file's name after [`Disk::sync_dir`] of the
/// folder that it is in.
pub trait Disk: Send + Sync + 'static {
    /// Makes a new, empty file.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a folder (`""` is the top one), of files and folders, in any order.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a folder and those above it; it may be there already.
    ///
    /// # Errors
    /// As the disk has them.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// Gives a file or folder another path; what had that path before is gone.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, or a folder that is empty.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the disk has them; after one nothing about the folder's names is certain.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes that may still be written, where that is known.
    fn available_bytes(&self) -> Option<u64> {
        None
    }

    /// The folder of the operating system that this disk is, where it is one.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Whether somebody may hold the lock of another disk that lies at this path or below it, so
    /// that nothing there may be moved.
    fn is_held(&self, path: &str) -> bool {
        let _ = path;
        false
    }

    /// Gives a file of another disk a name here too, at the same path: both names share the
    /// bytes, which nobody may change from then on.
    ///
    /// # Errors
    /// `Unsupported` where these two disks cannot share a file; nothing is there then.
    fn link_from(&self, path: &str, source: &dyn Disk) -> io::Result<()> {
        let _ = (path, source);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Keeps every other opener out until the answer is dropped, this process included.
    ///
    /// # Errors
    /// `WouldBlock` where somebody else holds it; the error's text says who, where that is
    /// known.
    fn lock(&self) -> io::Result<DiskLock>;
}

/// An open file of a [`Disk`]. It stays readable and writable when it is renamed or removed.
pub trait DiskFile: Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    /// As the disk has them.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As the disk has them.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `position` on and answers how many bytes there were: fewer than asked
    /// for only at the end of the file.
    ///
    /// # Errors
    /// As the disk has them.
    fn read_at(&self, position: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Up to `len` bytes from `position` on, in memory of their own: fewer only at the end of the
    /// file. A disk that can fills it without clearing it first.
    ///
    /// # Errors
    /// As the disk has them.
    fn read(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let count = self.read_at(position, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Writes the pieces one after the other, all of them or an error. A gap between the end
    /// of the file and `position` reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` where there is no space; any part may have been written.
    fn write_at(&self, position: u64, pieces: &[Bytes]) -> io::Result<()>;

    /// Begins to make these bytes durable and does not wait for it: a hint. What cannot be written
    /// is told by [`DiskFile::sync_data`].
    fn write_out(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Makes everything written so far durable, and the length with it.
    ///
    /// # Errors
    /// As the disk has them; after one nothing about what was written is certain, and a
    /// second call that succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Sets the length in bytes.
    ///
    /// # Errors
    /// As the disk has them.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// What holds a disk's lock and lets go of it when it is dropped, and knows how the one before
/// ended.
pub trait LockGuard: Send + Sync {
    /// Whether the last one who wrote did not end well: its process died.
    fn after_bad_end(&self) -> bool;

    /// Everything is written and nothing more will be, of a life that counts. Dropped without
    /// this, the lock is let go of, and the end that was found stays the last one: who looks into
    /// a folder, or fails to open it, or did nothing there, has not ended well in the place of
    /// the one before.
    fn ended_well(&mut self);
}

/// A guard that knows of no end before.
struct Plain<T>(T);

impl<T: Send + Sync> LockGuard for Plain<T> {
    fn after_bad_end(&self) -> bool {
        false
    }

    fn ended_well(&mut self) {}
}

/// Keeps others out of a disk until it is dropped.
pub struct DiskLock(Box<dyn LockGuard>);

impl DiskLock {
    /// A lock that is released by dropping `guard`, on a disk that does not know how the one who
    /// held it before ended: that counts as a good end.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(Plain(guard)))
    }

    /// A lock that is released by dropping `guard`, which knows how the one before ended.
    pub fn knowing(guard: impl LockGuard + 'static) -> Self {
        Self(Box::new(guard))
    }

    /// See [`LockGuard::after_bad_end`].
    pub(crate) fn after_bad_end(&self) -> bool {
        self.0.after_bad_end()
    }

    /// Lets go of it after a good end.
    pub(crate) fn end_well(mut self) {
        self.0.ended_well();
    }
}

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLock")
    }
}

/// Reads exactly `len` bytes from `position` on.
pub(crate) fn read_exact_at(file: &dyn DiskFile, position: u64, len: usize) -> io::Result<Bytes> {
    let bytes = file.read(position, len)?;
    if bytes.len() == len {
        return Ok(Bytes::from(bytes));
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the file ends {} bytes too early", len - bytes.len()),
    ))
}
