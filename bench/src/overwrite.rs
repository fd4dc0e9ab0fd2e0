//! The disk itself: blocks of a file that was written before are written again, each followed
//! by `fdatasync`, one at a time.
//!
//! A module of every binary that sets what it measures beside the disk; it may not know which.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill::Bytes;
use tidemill_log::driver::FileDisk;
use tidemill_log::{Disk as _, DiskFile};

use crate::run::Run;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the page cache.
    Cached,
    /// Past it, as the log's own commits go.
    Direct,
}

/// The file, filled with zeros and synced; removed at the end.
pub(crate) struct Raw {
    disk: FileDisk,
    name: &'static str,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    at: u64,
}

impl Raw {
    /// Makes a file of `bytes` in a folder, which must not have one of its name.
    pub(crate) fn new(dir: &Path, bytes: u64, way: Way) -> io::Result<Self> {
        let (disk, name) = match way {
            Way::Cached => (FileDisk::new(dir).buffered(), "tidemill-raw-cached.tmp"),
            Way::Direct => (FileDisk::new(dir), "tidemill-raw-direct.tmp"),
        };
        let file = disk.create(name).map_err(|error| {
            let why = format!("cannot make {}: {error}", dir.join(name).display());
            io::Error::new(error.kind(), why)
        })?;
        let raw = Self {
            disk,
            name,
            file,
            bytes,
            at: 0,
        };
        let zeros = [Bytes::from(vec![0; 1024 * 1024])];
        for at in (0..bytes).step_by(1024 * 1024) {
            raw.file.write_at(at, &zeros)?;
        }
        raw.file.sync_data()?;
        Ok(raw)
    }

    /// Writes and syncs blocks of `bytes` for this long, and one at least.
    pub(crate) fn run(&mut self, bytes: usize, time: Duration) -> io::Result<Run> {
        let block = [Bytes::from(vec![0x5a; bytes])];
        let mut run = Run::default();
        let begun = Instant::now();
        while begun.elapsed() < time || run.took.is_empty() {
            run.took.push(self.one(&block)?);
        }
        run.whole = begun.elapsed();
        Ok(run)
    }

    /// Writes and syncs once; answers how long that took.
    pub(crate) fn one(&mut self, block: &[Bytes]) -> io::Result<Duration> {
        let start = Instant::now();
        self.file.write_at(self.at, block)?;
        self.file.sync_data()?;
        let bytes: usize = block.iter().map(Bytes::len).sum();
        self.at = (self.at + bytes as u64) % self.bytes;
        Ok(start.elapsed())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.disk.remove(self.name);
    }
}
