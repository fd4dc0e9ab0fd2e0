//! What a log has done since it was opened, counted for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the opening, and how things stand, each read by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits that ended well.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of the journal that they took, padding included.
    pub journal_bytes: u64,
    /// Syncs of the journal.
    pub syncs: u64,
    /// Bytes of batches that were written to segments, before small ones were merged.
    pub segment_bytes: u64,
    /// Checkpoints that ended well.
    pub checkpoints: u64,
    /// Bytes of closed segments that were read again and checked.
    pub scrubbed_bytes: u64,
    /// Passes of that over all closed segments.
    pub scrub_passes: u64,
    /// Damaged places in closed segments that are known now.
    pub scrub_damaged: u64,
    /// Segments that were deleted by retention, or for lying below an offset that was asked
    /// for.
    pub expired_segments: u64,
    /// Compactions that were done.
    pub compactions: u64,
    /// Records that compactions have left out.
    pub compacted_records: u64,
    /// Bytes in the in-memory tails now.
    pub tail_bytes: u64,
    /// Bytes of the journal that the next opening would read now.
    pub replay_bytes: u64,
}

/// The counters themselves: written by the log and its scrubbing, read by anybody.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) segment_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) scrubbed_bytes: AtomicU64,
    pub(crate) scrub_passes: AtomicU64,
    pub(crate) scrub_damaged: AtomicU64,
    pub(crate) expired_segments: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_records: AtomicU64,
    pub(crate) tail_bytes: AtomicU64,
    pub(crate) replay_bytes: AtomicU64,
}

impl Counters {
    /// What they say now.
    #[must_use]
    pub fn read(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: read(&self.commits),
            entries: read(&self.entries),
            journal_bytes: read(&self.journal_bytes),
            syncs: read(&self.syncs),
            segment_bytes: read(&self.segment_bytes),
            checkpoints: read(&self.checkpoints),
            scrubbed_bytes: read(&self.scrubbed_bytes),
            scrub_passes: read(&self.scrub_passes),
            scrub_damaged: read(&self.scrub_damaged),
            expired_segments: read(&self.expired_segments),
            compactions: read(&self.compactions),
            compacted_records: read(&self.compacted_records),
            tail_bytes: read(&self.tail_bytes),
            replay_bytes: read(&self.replay_bytes),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

pub(crate) fn set(counter: &AtomicU64, now: u64) {
    counter.store(now, Ordering::Relaxed);
}
