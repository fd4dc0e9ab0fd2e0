//! Replays the journal's entries: it applies, it never decides.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidemill_core::Offset;

use crate::batch::Batch;
use crate::error::OpenError;
use crate::journal::commit::CommitHeader;
use crate::journal::entry::{EntryError, Part, decode};
use crate::log::Store;
use crate::log::removal::Gone;
use crate::machine::{Effect, Lsn, Machine, PartitionId};

/// See the module.
pub(super) struct Replay<'a, M> {
    machine: &'a mut M,
    store: &'a mut Store,
    /// The snapshot holds everything up to here, except records of segments.
    snapshot: Lsn,
    /// A planted fault: of an entry the first half of its parts is applied.
    pub(super) halves: bool,
    replayed: Replayed,
}

/// What a replay leaves to be tidied up.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Segments that were begun; those that are in no table hold nothing that the journal
    /// does not hold.
    pub(super) begun: BTreeSet<(PartitionId, Offset)>,
    /// What was deleted; some of its files may be there still.
    pub(super) gone: BTreeSet<Gone>,
    /// The oldest opening's wall time.
    pub(super) opened_ms: Option<i64>,
}

impl<'a, M: Machine> Replay<'a, M> {
    pub(super) fn new(machine: &'a mut M, store: &'a mut Store, snapshot: Lsn) -> Self {
        Self {
            machine,
            store,
            snapshot,
            halves: false,
            replayed: Replayed::default(),
        }
    }

    /// Replays one commit.
    pub(super) fn commit(
        &mut self,
        header: &CommitHeader,
        payload: Bytes,
    ) -> Result<(), OpenError> {
        self.store.set_epoch(header.epoch);
        decode(payload, header.count, header.first, |lsn, parts| {
            let count = parts.len().div_ceil(1 + usize::from(self.halves));
            let parts = parts.into_iter().take(count);
            parts.into_iter().try_for_each(|part| self.part(lsn, part))
        })
        .map_err(|(lsn, why)| OpenError::Entry { lsn, why })
    }

    pub(super) fn finish(self) -> Replayed {
        self.replayed
    }

    fn part(&mut self, lsn: Lsn, part: Part) -> Result<(), EntryError> {
        let in_snapshot = lsn <= self.snapshot;
        match part {
            Part::Epoch { wall_ms, .. } => {
                self.replayed.opened_ms.get_or_insert(wall_ms);
            }
            Part::Marker => {}
            Part::PartitionCreate(id) if !in_snapshot => self.store.create(id),
            Part::PartitionDelete(id) => {
                self.replayed.gone.insert(Gone::Partition(id));
                if !in_snapshot {
                    self.store.delete(id);
                }
            }
            Part::PartitionSettings { id, settings } if !in_snapshot => {
                self.store.configure(id, settings);
            }
            Part::SegmentCreate { id, base } => {
                self.replayed.begun.insert((id, base));
            }
            Part::SegmentDelete {
                id,
                bases,
                earliest,
            } => {
                // Those that no snapshot names were never written anew.
                let gone = bases.iter().map(|base| Gone::Segment {
                    id,
                    base: *base,
                    generation: self.store.generation(id, *base),
                });
                self.replayed.gone.extend(gone);
                if !in_snapshot {
                    self.store.trim_again(id, &bases, earliest);
                    self.machine.trimmed(lsn, id, earliest);
                }
            }
            Part::SegmentSwap { id, swap } => {
                let old = swap.old.iter().map(|(base, generation)| Gone::Segment {
                    id,
                    base: *base,
                    generation: *generation,
                });
                self.replayed.gone.extend(old);
                if !in_snapshot {
                    self.store.swap(id, &swap);
                }
            }
            Part::Records { id, batch } => {
                self.records(lsn, id, &batch)?;
            }
            Part::Effect { kind, bytes } if !in_snapshot => {
                let effect = Effect {
                    kind,
                    bytes: &bytes,
                };
                self.machine.apply(lsn, effect);
            }
            Part::PartitionCreate(_) | Part::PartitionSettings { .. } | Part::Effect { .. } => {}
        }
        Ok(())
    }

    fn records(&mut self, lsn: Lsn, id: PartitionId, batch: &Batch) -> Result<(), EntryError> {
        let partition = self.store.partitions.get(&id);
        let base = batch.base_offset();
        if partition.is_some_and(|partition| partition.end < base) {
            return Err(format!(
                "records of partition {id} begin at {base}, but those before are missing"
            ));
        }
        self.store.append(lsn, id, batch);
        if lsn > self.snapshot {
            self.machine.appended(lsn, id, batch);
        }
        Ok(())
    }
}
