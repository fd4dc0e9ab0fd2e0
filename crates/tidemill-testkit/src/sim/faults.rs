//! Which faults the simulated disk injects, and what it has done so far. May not know: how.

use crate::sim::inode::Fate;

/// Which faults are injected while the simulated machine runs; chances are parts per million.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A `sync_data` fails.
    pub sync_failure: u32,
    /// A `write_at` fails without effect.
    pub write_failure: u32,
    /// A `write_at` fails after a part of its bytes.
    pub short_write: u32,
    /// An un-synced sector that survives a loss of power has one wrong bit.
    pub flip_unsynced: u32,
    /// Most bytes that all files together may have.
    pub space_max_bytes: Option<u64>,
}

/// What a disk did so far. Counts, for tests that show that each fault happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that succeeded.
    pub writes: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Writes that failed without effect.
    pub writes_failed: u64,
    /// Writes that failed after a part.
    pub writes_short: u64,
    /// Writes refused for want of space.
    pub writes_full: u64,
    /// Changes of names taken back by losses of power.
    pub names_vanished: u64,
    /// What became of un-synced sectors at losses of power.
    pub fate: Fate,
}

impl Counts {
    /// Counts another disk's.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.syncs += other.syncs;
        self.syncs_failed += other.syncs_failed;
        self.writes_failed += other.writes_failed;
        self.writes_short += other.writes_short;
        self.writes_full += other.writes_full;
        self.names_vanished += other.names_vanished;
        self.fate.add(other.fate);
    }

    /// How often a call failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.syncs_failed + self.writes_failed + self.writes_short + self.writes_full
    }
}
