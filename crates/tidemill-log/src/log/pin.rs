//! Pins: while a backup is taken of a moment, the journal's head stays where it is and nothing is
//! removed. Commits, segments and the writing of snapshots go on.

use std::collections::BTreeSet;

use super::Log;
use super::background::BackgroundJob;
use super::checkpoint::CheckpointJob;
use crate::backup::Pinned;
use crate::machine::Machine;
use crate::options::Fault;

/// Names a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinId(u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pins {
    last: u64,
    /// These need the journal from its head on, and the snapshot.
    heads: BTreeSet<PinId>,
    /// These need every file that was there.
    files: BTreeSet<PinId>,
}

impl Pins {
    /// Whether a new snapshot may not be named yet.
    pub(super) fn hold_the_head(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Whether nothing may be removed yet.
    pub(super) fn hold_files(&self) -> bool {
        !self.files.is_empty()
    }
}

impl<M: Machine, T> Log<M, T> {
    /// Holds this moment: everything that its newest superblock names stays as it is until
    /// [`Log::release`], and the journal's head with it until [`Log::loosen`]. While the head is
    /// held the journal grows up to its bound, and then publishes wait. `None` while a superblock
    /// is being written: to be asked again when a background step has ended.
    pub fn pin(&mut self) -> Option<(PinId, Pinned)> {
        let naming = |job: &BackgroundJob| {
            matches!(job, BackgroundJob::Checkpoint(CheckpointJob::Superblock(_)))
        };
        if self
            .background_io
            .as_ref()
            .is_some_and(|(_, job)| naming(job))
        {
            return None;
        }
        self.pins.last += 1;
        let id = PinId(self.pins.last);
        if !self.options.has(Fault::SkipPin) {
            self.pins.heads.insert(id);
            self.pins.files.insert(id);
        }
        let pinned = Pinned {
            superblock: self.superblock,
            through: self.synced,
        };
        Some((id, pinned))
    }

    /// The journal's head may move again; files still stay.
    pub fn loosen(&mut self, id: PinId) {
        self.pins.heads.remove(&id);
    }

    /// Ends a pin.
    pub fn release(&mut self, id: PinId) {
        self.pins.heads.remove(&id);
        self.pins.files.remove(&id);
    }
}
