//! Drives a [`crate::Log`] with threads, files and clocks: the only room of this crate that
//! has any.
//!
//! One thread seals, writes and syncs the journal; what is submitted while it does so becomes
//! the next group. A second one does the background's steps. Receipts are handed out on the
//! first one, so what they call must be short and must not block. Where a scrubbing is asked for
//! it has a third thread, which nobody waits for.

mod backup;
mod clock;
mod direct;
mod file_disk;
mod handle;
mod inbox;
mod memory_disk;
mod nested;
mod scrub;
mod threads;

use std::sync::Arc;

use tidemill_core::Offset;
use tidemill_core::error::Unavailable;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::io::Files;
use crate::limits::OPEN_FILES_MAX;
use crate::log::Log;
use crate::machine::{Machine, PartitionId};
use crate::options::Options;
use crate::recovery::is_vacant;
use crate::scrub::Scrubber;
use crate::superblock;

use clock::Clock;
pub use file_disk::FileDisk;
pub use handle::Handle;
pub use memory_disk::MemoryDisk;
pub use nested::outer;

/// Is told what happens. It is called on the log's own thread: be short, never block.
pub trait Observer: Send + Sync + 'static {
    /// Readers see a partition up to `end`.
    fn advanced(&self, id: PartitionId, end: Offset);
    /// The log takes no more writes.
    fn failed(&self, why: &Unavailable);
}

/// An observer that looks away.
impl Observer for () {
    fn advanced(&self, _: PartitionId, _: Offset) {}
    fn failed(&self, _: &Unavailable) {}
}

/// Opens the log on a disk, or makes one there, and starts its threads. Blocks until it is
/// recovered.
///
/// # Errors
/// [`OpenError`] says what is wrong and what to do.
pub fn open<M: Machine>(
    disk: Arc<dyn Disk>,
    options: Options,
    machine: M,
    observer: Arc<dyn Observer>,
) -> Result<Handle<M>, OpenError> {
    if let Some(outer) = disk.folder().and_then(outer) {
        return Err(OpenError::Inside(outer.display().to_string()));
    }
    // Before the lock's file is made. What else keeps it from being listed, the lock says better.
    if !superblock::any(disk.as_ref())
        && let Err(occupied @ OpenError::Occupied(_)) = is_vacant(disk.as_ref())
    {
        return Err(occupied);
    }
    let lock = disk.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked(error.to_string()),
        _ => OpenError::io("lock the data folder")(error),
    })?;
    let files = Arc::new(Files::new(disk.clone(), OPEN_FILES_MAX));
    let clock = Clock::start();
    let scrub_bytes = options.scrub_bytes_per_second;
    let log = Log::recover(&files, options, machine, clock.now(), uuid::Uuid::now_v7())?;
    let reader = log.reader(Arc::new(Files::new(disk, OPEN_FILES_MAX)));
    let scrubber = (scrub_bytes > 0).then(|| Scrubber::new(&reader, log.counters(), scrub_bytes));
    Handle::start(log, reader, files, clock, lock, observer, scrubber)
}
