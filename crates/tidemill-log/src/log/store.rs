//! All partitions, and which of them have something to write or to sync.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidemill_core::Offset;

use super::partition::{PartitionState, Plan, Written};
use super::retention::Expiry;
use crate::batch::Batch;
use crate::draft::{Outlines, Span};
use crate::io::Action;
use crate::limits::{SEGMENT_STEP_BYTES, WRITTEN_OUT_AT_ONCE};
use crate::machine::{Lsn, PartitionId};
use crate::options::Options;
use crate::segment::Segment;
use crate::settings::PartitionSettings;
use crate::snapshot::TableEntry;
use crate::view::Registry;

/// Partitions that are looked at for one write when the tails are long.
const OLDEST_AT_ONCE: usize = 1024;

/// A segment that is to be journaled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) id: PartitionId,
    pub(crate) base: Offset,
    pub(crate) roll: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) registry: Arc<Registry>,
    /// In order, so that the same operations always give the same files.
    pub(crate) partitions: BTreeMap<PartitionId, PartitionState>,
    /// Partitions with records that are in no synced segment, by the oldest such entry.
    dirty: BTreeSet<(Lsn, PartitionId)>,
    /// Partitions with records that are in no segment at all, by the oldest such entry.
    waiting: BTreeSet<(Lsn, PartitionId)>,
    /// Partitions that are to be written, in most cases because there is enough.
    pub(super) ready: VecDeque<PartitionId>,
    /// Partitions with records that readers do not see yet.
    unseen: Vec<PartitionId>,
    /// Segments to be journaled.
    pub(crate) wishes: VecDeque<Wish>,
    /// Segments to be deleted, to be journaled.
    pub(crate) expiries: VecDeque<Expiry>,
    /// Partitions that are worth a compaction.
    pub(crate) compactions: VecDeque<PartitionId>,
    /// Partitions that are looked at from time to time.
    pub(crate) watched: BTreeSet<PartitionId>,
    /// The look at them that is under way found something.
    pub(super) found: bool,
    /// Something is to be compacted by now, and waits for a checkpoint to name it.
    pub(super) names_wanted: bool,
    /// Bytes of all tails.
    pub(crate) tail_bytes: usize,
    /// Partitions with records and no file yet.
    pub(crate) unmade: usize,
    epoch: u64,
    write_after_bytes: usize,
    pub(super) segment_max_bytes: u64,
}

/// Which partitions a write is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// Those with enough to write.
    Ready,
    /// Those that have waited longest to be written.
    Oldest,
    /// These.
    Only(&'a [PartitionId]),
}

impl Store {
    pub(crate) fn new(options: &Options, epoch: u64) -> Self {
        Self {
            registry: Arc::new(Registry::new()),
            partitions: BTreeMap::new(),
            dirty: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ready: VecDeque::new(),
            unseen: Vec::new(),
            wishes: VecDeque::new(),
            expiries: VecDeque::new(),
            compactions: VecDeque::new(),
            watched: BTreeSet::new(),
            found: false,
            names_wanted: false,
            tail_bytes: 0,
            unmade: 0,
            epoch,
            write_after_bytes: options.segment_write_after_bytes,
            segment_max_bytes: options.segment_max_bytes,
        }
    }

    pub(crate) fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// What is sealed of every partition.
    pub(crate) fn outlines(&self) -> Outlines {
        let partitions = self.partitions.iter();
        Outlines::of(partitions.map(|(id, partition)| {
            let span = Span {
                earliest: partition.view.earliest(),
                end: partition.end,
            };
            (*id, span, partition.settings)
        }))
    }

    /// Takes the partitions of a snapshot.
    pub(crate) fn load(&mut self, table: &[TableEntry]) {
        let loaded = table.iter().map(PartitionState::from_table);
        self.partitions
            .extend(loaded.map(|partition| (partition.id, partition)));
        let views = self
            .partitions
            .values()
            .map(|partition| partition.view.clone());
        self.registry.extend(views);
        for entry in table {
            self.watch(entry.id);
        }
    }

    /// Makes an empty partition, unless it is there.
    pub(crate) fn create(&mut self, id: PartitionId) {
        if !self.partitions.contains_key(&id) {
            self.insert(PartitionState::new(id));
        }
    }

    fn insert(&mut self, partition: PartitionState) {
        self.registry.insert(partition.view.clone());
        self.partitions.insert(partition.id, partition);
    }

    /// Gives a partition its settings.
    pub(crate) fn configure(&mut self, id: PartitionId, settings: PartitionSettings) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.configure(settings);
        }
        self.watch(id);
    }

    /// Forgets a partition; answers whether it was there.
    pub(crate) fn delete(&mut self, id: PartitionId) -> bool {
        let Some(partition) = self.partitions.remove(&id) else {
            return false;
        };
        self.registry.remove(id);
        self.watched.remove(&id);
        self.tail_bytes -= partition.pending_bytes;
        self.unmade -= usize::from(partition.unmade);
        if let Some(lsn) = partition.dirty_from {
            self.dirty.remove(&(lsn, id));
        }
        if let Some(lsn) = partition.waits_from {
            self.waiting.remove(&(lsn, id));
        }
        true
    }

    /// Appends committed records. Those that are there already, and those of a partition that
    /// is not, are passed over: at recovery both are known from a snapshot.
    pub(crate) fn append(&mut self, lsn: Lsn, id: PartitionId, batch: &Batch) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let known = batch.next_offset() <= partition.end;
        // Where everything below an offset was deleted, a batch may reach across it.
        let across = partition.segments.is_empty() && partition.pending.is_empty();
        if known || (batch.base_offset() < partition.end && !across) {
            return;
        }
        partition.push(lsn, batch, self.epoch);
        self.tail_bytes += batch.size_bytes();
        if !partition.unmade && !partition.has_file() {
            partition.unmade = true;
            self.unmade += 1;
        }
        if partition.dirty_from.is_none() {
            partition.dirty_from = Some(lsn);
            self.dirty.insert((lsn, id));
        }
        if partition.waits_from.is_none() {
            partition.waits_from = Some(lsn);
            self.waiting.insert((lsn, id));
        }
        if !partition.unseen {
            partition.unseen = true;
            self.unseen.push(id);
        }
        self.queue(id);
    }

    fn queue(&mut self, id: PartitionId) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            let enough = partition.pending_bytes >= self.write_after_bytes;
            if enough && !partition.queued && !partition.wished {
                partition.queued = true;
                self.ready.push_back(id);
            }
        }
    }

    /// Shows readers what was appended; answers the partitions and their ends.
    pub(crate) fn show(&mut self) -> Vec<(PartitionId, Offset)> {
        let mut shown = Vec::with_capacity(self.unseen.len());
        for id in self.unseen.drain(..) {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.unseen = false;
                partition.view.set_end(partition.end);
                shown.push((id, partition.end));
            }
        }
        shown
    }

    /// A segment was journaled: its files may be made.
    pub(crate) fn add_segment(&mut self, id: PartitionId, base: Offset) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.wished = false;
            let end = partition.segments.last().map(|segment| segment.written.end);
            if end.is_none_or(|end| end <= base) {
                partition.segments.push(Segment::new(id, base));
            }
        }
        self.queue(id);
    }

    /// The next write of segments, of as many partitions as one step takes. Wishes for new
    /// segments are noted on the way.
    pub(crate) fn next_write(
        &mut self,
        synced: Lsn,
        scope: Scope<'_>,
    ) -> Option<(Vec<Written>, Vec<Action>)> {
        let candidates: Vec<PartitionId> = match scope {
            Scope::Ready => {
                for id in &self.ready {
                    if let Some(partition) = self.partitions.get_mut(id) {
                        partition.queued = false;
                    }
                }
                self.ready.drain(..).collect()
            }
            Scope::Oldest => self.unwritten(),
            Scope::Only(ids) => ids.to_vec(),
        };
        let mut parts = Vec::new();
        let mut actions = Vec::new();
        let mut budget = SEGMENT_STEP_BYTES;
        for id in candidates {
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            if budget > 0 {
                match partition.plan(synced, budget, self.segment_max_bytes) {
                    Plan::Nothing => {}
                    Plan::NeedsSegment { base, roll } => {
                        if !partition.wished {
                            partition.wished = true;
                            self.wishes.push_back(Wish { id, base, roll });
                        }
                    }
                    Plan::Write(written, more, bytes) => {
                        budget = budget.saturating_sub(bytes);
                        parts.push(written);
                        actions.extend(more);
                        continue;
                    }
                }
            }
            if matches!(scope, Scope::Ready) && budget == 0 {
                self.queue(id);
            }
        }
        (!parts.is_empty()).then_some((parts, actions))
    }

    /// What was planned is written; answers the bytes that left the tails.
    pub(crate) fn wrote(&mut self, parts: &[Written], wall_ms: i64) -> u64 {
        let before = self.tail_bytes;
        for written in parts {
            if let Some(partition) = self.partitions.get_mut(&written.id) {
                self.tail_bytes -= partition.wrote(written, wall_ms);
                self.unmade -= usize::from(std::mem::take(&mut partition.unmade));
            }
            self.wait(written.id);
            self.queue(written.id);
        }
        (before - self.tail_bytes) as u64
    }

    /// The generation of a segment; 0 where there is none.
    pub(crate) fn generation(&self, id: PartitionId, base: Offset) -> u32 {
        let partition = self.partitions.get(&id);
        let segments = partition.map(|partition| &partition.segments);
        let segment = segments.and_then(|all| all.iter().find(|segment| segment.base == base));
        segment.map_or(0, |segment| segment.generation)
    }

    /// Whether this is one of a partition's segments.
    pub(crate) fn has_segment(&self, id: PartitionId, base: Offset, generation: u32) -> bool {
        let same = |segment: &Segment| segment.base == base && segment.generation == generation;
        let partition = self.partitions.get(&id);
        partition.is_some_and(|partition| partition.segments.iter().any(same))
    }

    /// Takes note that what waits of a partition begins elsewhere now.
    pub(super) fn soil(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        if let Some(lsn) = partition.dirty_from {
            self.dirty.remove(&(lsn, id));
        }
        partition.dirty_from = partition.pending.front().map(|(lsn, _)| *lsn);
        if let Some(lsn) = partition.dirty_from {
            self.dirty.insert((lsn, id));
        }
        self.wait(id);
    }

    /// Takes note of where that which waits to be written begins.
    fn wait(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let from = partition.pending.front().map(|(lsn, _)| *lsn);
        let before = std::mem::replace(&mut partition.waits_from, from);
        if before == from {
            return;
        }
        if let Some(lsn) = before {
            self.waiting.remove(&(lsn, id));
        }
        if let Some(lsn) = from {
            self.waiting.insert((lsn, id));
        }
    }

    /// What was planned could not be written: it waits again.
    pub(crate) fn requeue(&mut self, parts: &[Written]) {
        for written in parts {
            self.queue(written.id);
        }
    }

    /// The first entry with records that are in no synced segment.
    pub(crate) fn oldest_dirty(&self) -> Option<Lsn> {
        self.dirty.first().map(|(lsn, _)| *lsn)
    }

    /// Up to `max` partitions with such records up to `through`, oldest first.
    pub(crate) fn dirty(&self, through: Lsn, max: usize) -> Vec<PartitionId> {
        let old = self.dirty.iter().take_while(|(lsn, _)| *lsn <= through);
        old.take(max).map(|(_, id)| *id).collect()
    }

    /// The partitions with something that is not written, oldest first, as many as one write
    /// looks at. By what is not synced, those that were just written would come first again and
    /// be written a record at a time, and the others' tails would stay long.
    fn unwritten(&self) -> Vec<PartitionId> {
        let oldest = self.waiting.iter().take(OLDEST_AT_ONCE);
        oldest.map(|(_, id)| *id).collect()
    }

    /// Whether one of these has something up to `through` that is not written.
    pub(crate) fn has_unwritten(&self, ids: &[PartitionId], through: Lsn) -> bool {
        ids.iter()
            .filter_map(|id| self.partitions.get(id))
            .any(|partition| {
                partition
                    .pending
                    .front()
                    .is_some_and(|(lsn, _)| *lsn <= through)
            })
    }

    /// What makes the written segments of these durable: files first, then each folder once.
    pub(crate) fn sync(&self, ids: &[PartitionId], careless: bool) -> Vec<Action> {
        let mut files = Vec::new();
        let mut dirs = BTreeSet::new();
        for partition in ids.iter().filter_map(|id| self.partitions.get(id)) {
            partition.sync(&mut files, &mut dirs, careless);
        }
        let mut actions = Vec::with_capacity(2 * files.len() + dirs.len());
        for some in files.chunks(WRITTEN_OUT_AT_ONCE) {
            // One by one each would wait for the file system's journal.
            if some.len() > 2 {
                actions.extend(some.iter().map(|(path, range)| Action::WriteOut {
                    path: path.clone(),
                    range: range.clone(),
                }));
            }
            actions.extend(some.iter().map(|(path, _)| Action::Sync(path.clone())));
        }
        actions.extend(dirs.into_iter().map(Action::SyncDir));
        actions
    }

    /// The written segments of these are durable.
    pub(crate) fn synced(&mut self, ids: &[PartitionId]) {
        for id in ids {
            let Some(partition) = self.partitions.get_mut(id) else {
                continue;
            };
            if let Some(lsn) = partition.dirty_from {
                self.dirty.remove(&(lsn, *id));
            }
            partition.was_synced();
            if let Some(lsn) = partition.dirty_from {
                self.dirty.insert((lsn, *id));
            }
        }
    }
}
