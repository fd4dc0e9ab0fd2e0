//! How much space the disk has, against what the log has promised to write: records are refused
//! before the disk is full, so that what was taken can always leave the journal and settlements
//! go on.

use std::time::Duration;

use super::Log;
use super::background::BackgroundJob;
use crate::io::Action;
use crate::journal::writer::Making;
use crate::limits::{FULL_RETRY_AFTER, PARTITION_SPACE_BYTES};
use crate::machine::Machine;

/// What is known of the disk's space.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Bytes that may still be written, as last told; none where the disk does not say.
    available: Option<u64>,
    /// Bytes of the newest snapshot: the next one is written before that one goes.
    pub(super) snapshot_bytes: u64,
    /// Records are refused.
    pub(super) short: Option<Short>,
}

/// There is not enough space for more records.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) why: String,
    /// Bytes of records from which on they are refused: fewer may find room.
    from_bytes: u64,
    /// When to look at the disk again.
    look_at: Duration,
}

impl Space {
    /// Nothing is known but the newest snapshot's size.
    pub(super) fn new(snapshot_bytes: u64) -> Self {
        Self {
            snapshot_bytes,
            ..Self::default()
        }
    }

    /// When the disk is to be looked at again.
    pub(super) fn look_at(&self) -> Option<Duration> {
        self.short.as_ref().map(|short| short.look_at)
    }
}

impl<M: Machine, T> Log<M, T> {
    /// Says how many bytes the disk has left; to be told after the opening, and after
    /// [`Log::finish`] of each step of [`crate::Lane::Background`]. `None`: not known.
    pub fn space(&mut self, available: Option<u64>) {
        self.space.available = available;
        let kept = self.kept_bytes();
        let ended = |short: &mut Short| {
            available.is_none_or(|left| left >= kept.saturating_add(short.from_bytes))
        };
        self.space.short.take_if(ended);
    }

    /// Bytes of the disk that what was taken may need: the tails in segments, files that are
    /// being made, the next snapshot, and a reserve.
    fn kept_bytes(&self) -> u64 {
        let tails = self.store.tail_bytes as u64;
        let files = self.store.unmade as u64 * PARTITION_SPACE_BYTES;
        let making = self.journal.making.as_ref().map_or(0, Making::left_bytes);
        let snapshot = 2 * self.space.snapshot_bytes;
        tails + files + making + snapshot + self.options.space_reserve_bytes
    }

    /// Bytes that a new journal file may have without touching what is kept.
    pub(super) fn journal_budget_bytes(&self) -> u64 {
        let left = self.space.available;
        left.map_or(u64::MAX, |left| left.saturating_sub(self.kept_bytes()))
    }

    /// Whether records of `bytes` are to be refused, and why.
    pub(super) fn is_short_of(&mut self, bytes: usize) -> Option<String> {
        let bytes = bytes as u64;
        if let Some(short) = &self.space.short
            && bytes >= short.from_bytes
        {
            return Some(short.why.clone());
        }
        let kept = self.kept_bytes();
        let left = self.space.available.filter(|left| *left < kept + bytes)?;
        let why = format!("{left} bytes are left on the disk, {kept} are kept for what was taken");
        Some(self.run_short(why, if left < kept { 0 } else { bytes }))
    }

    /// Records of `from_bytes` and more are refused until the disk was looked at again.
    pub(super) fn run_short(&mut self, why: String, from_bytes: u64) -> String {
        let look_at = self.now.monotonic + FULL_RETRY_AFTER;
        self.want_sync |= self.synced < self.committed && !self.removals.is_empty();
        self.space.short = Some(Short {
            why: why.clone(),
            from_bytes,
            look_at,
        });
        why
    }

    /// A step that does nothing: its end tells how much space there is.
    pub(super) fn look(&mut self) -> Option<(BackgroundJob, Vec<Action>)> {
        let short = self.space.short.as_mut()?;
        if short.look_at > self.now.monotonic {
            return None;
        }
        short.look_at = self.now.monotonic + FULL_RETRY_AFTER;
        Some((BackgroundJob::Look, Vec::new()))
    }
}
