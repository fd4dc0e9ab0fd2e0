//! What a machine may put into the entry that it is sealing.
//!
//! This room keeps the partitions' next offsets as sealed so far. It may not know the disk or
//! what is durable.

use std::collections::HashMap;

use tidemill_core::Offset;

use crate::batch::Batch;
use crate::journal::group::GroupBuilder;
use crate::machine::PartitionId;

/// The next offset of every partition, as sealed so far.
pub(crate) type Ends = HashMap<PartitionId, Offset>;

/// One entry while it is sealed: partitions made and deleted, records, effects. It becomes one
/// journal entry, whole or not at all, when [`crate::Machine::seal`] answers `Ok`.
#[derive(Debug)]
pub struct Draft<'a> {
    group: &'a mut GroupBuilder,
    ends: &'a mut Ends,
    /// The incarnation, which is the records' leader epoch.
    epoch: i32,
    /// What `ends` said before, to be put back in reverse.
    undo: Vec<(PartitionId, Option<Offset>)>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(group: &'a mut GroupBuilder, ends: &'a mut Ends, epoch: i32) -> Self {
        group.begin();
        Self {
            group,
            ends,
            epoch,
            undo: Vec::new(),
        }
    }

    pub(crate) fn keep(self) {
        self.group.keep();
    }

    pub(crate) fn forget(self) {
        for (id, end) in self.undo.into_iter().rev() {
            match end {
                Some(end) => self.ends.insert(id, end),
                None => self.ends.remove(&id),
            };
        }
        self.group.forget();
    }

    /// Makes a partition, empty, at offset 0. Does nothing where there is one.
    pub fn create_partition(&mut self, id: PartitionId) {
        if self.ends.contains_key(&id) {
            return;
        }
        self.undo.push((id, None));
        self.ends.insert(id, Offset(0));
        self.group.create(id);
    }

    /// Deletes a partition with everything in it. Does nothing where there is none.
    pub fn delete_partition(&mut self, id: PartitionId) {
        if let Some(end) = self.ends.remove(&id) {
            self.undo.push((id, Some(end)));
            self.group.delete(id);
        }
    }

    /// Appends records, whatever base offset the batch has, and answers the offset that the
    /// first of them gets. `None` where there is no such partition.
    pub fn append(&mut self, id: PartitionId, batch: Batch) -> Option<Offset> {
        let end = self.ends.get_mut(&id)?;
        let base = *end;
        let batch = batch.with_base_offset(base).with_leader_epoch(self.epoch);
        *end = batch.next_offset();
        self.undo.push((id, Some(base)));
        self.group.records(id, batch);
        Some(base)
    }

    /// The offset that the next record gets, everything sealed so far counted. `None` where
    /// there is no such partition.
    #[must_use]
    pub fn end(&self, id: PartitionId) -> Option<Offset> {
        self.ends.get(&id).copied()
    }

    /// Adds a change of the machine's own state. See [`crate::Machine::apply`].
    pub fn effect(&mut self, kind: u16, bytes: &[u8]) {
        self.group.effect(kind, bytes);
    }
}
