//! What a scrubbing remembers: how far each partition is verified, and what damage it met.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use jiff::Timestamp;
use tidemill_core::Offset;

use crate::machine::PartitionId;

/// Bytes of a closed segment that are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The partition.
    pub id: PartitionId,
    /// The file, relative to the folder.
    pub file: String,
    /// Where in the file, in bytes.
    pub byte: u64,
    /// The offsets that cannot be read, as far as is known.
    pub offsets: Range<Offset>,
    /// What the check said.
    pub why: String,
}

/// How far one partition is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Everything before this offset was read in the pass that goes on, or in the last one.
    pub through: Offset,
    /// When the last pass that went through all of its closed segments has begun.
    pub passed_at: Option<Timestamp>,
}

/// How the scrubbing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Bytes that were read and checked since the log was opened.
    pub bytes: u64,
    /// Passes that have ended.
    pub passes: u64,
    /// The partition that was verified the longest time ago was verified at this time; `None`
    /// while one was not yet, or where no partition has a closed segment.
    pub oldest_pass: Option<Timestamp>,
    /// Every partition with closed segments that was begun.
    pub verified: BTreeMap<PartitionId, Verified>,
    /// How many damaged places there are, more than are kept where there are very many.
    pub damaged: u64,
    /// The damaged places by file and byte; what the newest pass over them did not meet again
    /// is gone.
    pub damage: Vec<Damage>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) bytes: u64,
    passes: u64,
    verified: BTreeMap<PartitionId, Verified>,
    /// By file and byte, with the number of the pass that met it last.
    damage: BTreeMap<(String, u64), (u64, Damage)>,
    /// Damage of this pass that was not kept for want of room.
    beyond: u64,
}

impl Record {
    /// A pass over these partitions begins: the others are no more.
    pub(super) fn begin(&mut self, ids: &VecDeque<PartitionId>) {
        self.beyond = 0;
        let known: std::collections::BTreeSet<_> = ids.iter().collect();
        self.verified.retain(|id, _| known.contains(id));
    }

    /// A pass has ended; answers how much damage there is.
    pub(super) fn end(&mut self) -> u64 {
        let pass = self.passes;
        self.damage.retain(|_, (seen, _)| *seen == pass);
        self.passes += 1;
        self.damaged()
    }

    pub(super) fn verified(&mut self, id: PartitionId, through: Offset) {
        self.verified.entry(id).or_default().through = through;
    }

    /// A partition was gone through in a pass that began then.
    pub(super) fn passed(&mut self, id: PartitionId, began: Timestamp) {
        self.verified.entry(id).or_default().passed_at = Some(began);
    }

    /// Adds damage, if there is room; answers whether it was not known before.
    pub(super) fn add(&mut self, damage: &Damage, max: usize) -> bool {
        let key = (damage.file.clone(), damage.byte);
        let is_new = !self.damage.contains_key(&key);
        if is_new && self.damage.len() >= max {
            self.beyond += 1;
        } else {
            self.damage.insert(key, (self.passes, damage.clone()));
        }
        is_new
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damage.len() as u64 + self.beyond
    }

    pub(super) fn report(&self) -> ScrubReport {
        let times = self.verified.values().map(|verified| verified.passed_at);
        ScrubReport {
            bytes: self.bytes,
            passes: self.passes,
            // `None` is less than any time.
            oldest_pass: times.min().flatten(),
            verified: self.verified.clone(),
            damaged: self.damaged(),
            damage: self
                .damage
                .values()
                .map(|(_, damage)| damage.clone())
                .collect(),
        }
    }
}
