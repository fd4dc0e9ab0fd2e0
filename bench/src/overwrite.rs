//! The disk itself: blocks of a file that was written before are written again, each followed
//! by `fdatasync`, one at a time.
//!
//! A module of every binary that sets what it measures beside the disk; it may not know which.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::run::Run;

/// The file, filled with zeros and synced; removed at the end.
pub(crate) struct Raw {
    file: File,
    path: PathBuf,
    bytes: u64,
    at: u64,
}

impl Raw {
    /// Makes a file of `bytes` in a folder, which must not have one of its name.
    pub(crate) fn new(dir: &Path, bytes: u64) -> io::Result<Self> {
        let path = dir.join("tidemill-raw.tmp");
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = made.map_err(|error| {
            let why = format!("cannot make {}: {error}", path.display());
            io::Error::new(error.kind(), why)
        })?;
        let at = 0;
        let raw = Self {
            file,
            path,
            bytes,
            at,
        };
        let zeros = vec![0; 1024 * 1024];
        for at in (0..bytes).step_by(zeros.len()) {
            raw.file.write_all_at(&zeros, at)?;
        }
        raw.file.sync_all()?;
        Ok(raw)
    }

    /// Writes and syncs blocks of `bytes` for this long, and one at least.
    pub(crate) fn run(&mut self, bytes: usize, time: Duration) -> io::Result<Run> {
        let block = vec![0x5a; bytes];
        let mut run = Run::default();
        let begun = Instant::now();
        while begun.elapsed() < time || run.took.is_empty() {
            let start = Instant::now();
            self.file.write_all_at(&block, self.at)?;
            self.file.sync_data()?;
            run.took.push(start.elapsed());
            self.at = (self.at + bytes as u64) % self.bytes;
        }
        run.whole = begun.elapsed();
        Ok(run)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
