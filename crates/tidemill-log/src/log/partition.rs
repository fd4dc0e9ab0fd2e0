//! One partition: its tail, what waits to be written to its segments, and how far these are
//! written and synced.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::Offset;

use crate::batch::{Batch, CompressionType};
use crate::io::Action;
use crate::limits::PACKING_COST;
use crate::machine::{Lsn, PartitionId};
use crate::segment::merge;
use crate::segment::sidecar::{LINE_BYTES, Line};
use crate::segment::{Extent, Segment, TOPICS_DIR, partition_dir, topic_dir};
use crate::settings::PartitionSettings;
use crate::snapshot::TableEntry;
use crate::tail::TailWriter;
use crate::view::View;

/// Incarnations that a partition remembers.
const EPOCHS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) id: PartitionId,
    pub(crate) view: Arc<View>,
    tail: TailWriter,
    /// The offset after the last record in the tail.
    pub(crate) end: Offset,
    /// Committed batches that are not in a segment.
    pub(crate) pending: VecDeque<(Lsn, Batch)>,
    pub(crate) pending_bytes: usize,
    pub(crate) segments: Vec<Segment>,
    /// How far its segments are in the snapshot that the superblock names.
    pub(crate) named: Offset,
    /// How far they are in the snapshot that is being written.
    pub(crate) naming: Offset,
    /// How far it is compacted.
    pub(crate) cleaned: Offset,
    pub(crate) settings: PartitionSettings,
    /// The first entry whose records are not in a synced segment.
    pub(crate) dirty_from: Option<Lsn>,
    /// The first entry whose records are in no segment, as the store knows it.
    pub(super) waits_from: Option<Lsn>,
    /// A new segment was asked for and is not journaled yet.
    pub(crate) wished: bool,
    /// Segments of it are to be deleted or swapped, and that is not journaled yet.
    pub(crate) changing: bool,
    /// Something of it could not be read: it is not compacted any more.
    pub(crate) unreadable: bool,
    /// It is among those with enough to write.
    pub(crate) queued: bool,
    /// It has records that readers do not see yet.
    pub(crate) unseen: bool,
    /// It has records and no file yet.
    pub(crate) unmade: bool,
    /// The folders' names were synced since the last segment was made.
    names_synced: bool,
    epochs: Vec<(u64, Offset)>,
}

/// What one partition has to be written, and how far it reaches then.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) id: PartitionId,
    base: Offset,
    batches: usize,
    to: Extent,
}

/// What a partition can write now.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing: all is written, or waits for a sync of the journal.
    Nothing,
    /// A new segment must be journaled first.
    NeedsSegment { base: Offset, roll: bool },
    /// This, which costs so much of the budget.
    Write(Written, Vec<Action>, usize),
}

impl PartitionState {
    /// An empty partition.
    pub(crate) fn new(id: PartitionId) -> Self {
        Self::from_table(&TableEntry {
            id,
            earliest: Offset(0),
            cleaned: Offset(0),
            settings: PartitionSettings::default(),
            epochs: Vec::new(),
            segments: Vec::new(),
        })
    }

    /// A partition as a snapshot has it.
    pub(crate) fn from_table(entry: &TableEntry) -> Self {
        let (writer, tail) = TailWriter::new();
        let end = entry
            .segments
            .last()
            .map_or(entry.earliest, |kept| kept.at.end);
        let view = View::new(entry.id, tail, entry.earliest, end, entry.settings);
        let view = Arc::new(view);
        let segments: Vec<_> = entry
            .segments
            .iter()
            .map(|kept| Segment::kept(entry.id, kept))
            .collect();
        view.grow(segments.iter().map(|segment| segment.written.bytes).sum());
        view.publish(&segments);
        Self {
            id: entry.id,
            view,
            tail: writer,
            end,
            pending: VecDeque::new(),
            pending_bytes: 0,
            segments,
            named: end,
            naming: end,
            cleaned: entry.cleaned,
            settings: entry.settings,
            dirty_from: None,
            waits_from: None,
            wished: false,
            changing: false,
            unreadable: false,
            queued: false,
            unseen: false,
            unmade: false,
            names_synced: true,
            epochs: entry.epochs.clone(),
        }
    }

    /// Whether what comes next can go into a file that is there.
    pub(crate) fn has_file(&self) -> bool {
        let last = self.segments.last();
        last.is_some_and(|segment| segment.exists && segment.generation == 0)
    }

    /// How a snapshot has the partition: what is synced of it.
    pub(crate) fn table_entry(&self) -> TableEntry {
        let synced = |segment: &&Segment| segment.synced.bytes > 0;
        TableEntry {
            id: self.id,
            earliest: self.view.earliest(),
            cleaned: self.cleaned,
            settings: self.settings,
            epochs: self.epochs.clone(),
            segments: self
                .segments
                .iter()
                .take_while(synced)
                .map(Segment::as_kept)
                .collect(),
        }
    }

    /// Takes new settings.
    pub(crate) fn configure(&mut self, settings: PartitionSettings) {
        self.settings = settings;
        self.view.configure(settings);
    }

    /// Takes committed records. Readers see them after [`View::set_end`].
    pub(crate) fn push(&mut self, lsn: Lsn, batch: &Batch, epoch: u64) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            if self.epochs.len() == EPOCHS_MAX {
                self.epochs.remove(0);
            }
            self.epochs.push((epoch, batch.base_offset()));
        }
        self.end = batch.next_offset();
        self.tail.push(batch.clone());
        self.view.grow(batch.size_bytes() as u64);
        self.pending_bytes += batch.size_bytes();
        self.pending.push_back((lsn, batch.clone()));
    }

    /// What says when a segment is closed.
    pub(super) fn rolling(&self) -> PartitionSettings {
        self.settings.among(self.segments.len())
    }

    /// What is written next: entries up to `synced`, at most `budget_bytes` (or one batch), of
    /// which packing takes more than writing.
    pub(crate) fn plan(&self, synced: Lsn, budget_bytes: usize, segment_max_bytes: u64) -> Plan {
        let compression = self.settings.compression;
        let cost = match compression {
            CompressionType::None => 1,
            _ => PACKING_COST,
        };
        let segment_max_bytes = self.rolling().roll_at_bytes(segment_max_bytes);
        let ready = |(lsn, _): &&(Lsn, Batch)| *lsn <= synced;
        if self.wished {
            return Plan::Nothing;
        }
        let Some((_, first)) = self.pending.front().filter(ready) else {
            return Plan::Nothing;
        };
        let fits = |at: &Extent, batch: &Batch| {
            at.bytes == 0 || at.bytes + batch.size_bytes() as u64 <= segment_max_bytes
        };
        let Some(active) = self
            .segments
            .last()
            // What a compaction wrote is never changed.
            .filter(|last| last.generation == 0 && fits(&last.written, first))
        else {
            return Plan::NeedsSegment {
                base: first.base_offset(),
                roll: !self.segments.is_empty(),
            };
        };
        let mut to = active.written;
        let mut pieces = Vec::new();
        let mut lines = Vec::new();
        let (mut batches, mut bytes) = (0, 0);
        // The segment is nearly full: no more than one batch at a time fits.
        let mut full = false;
        while let Some((_, batch)) = self.pending.get(batches).filter(ready) {
            if bytes > 0 && (bytes + batch.size_bytes()) * cost > budget_bytes {
                break;
            }
            let alike = self.pending.range(batches..).take_while(ready);
            let alike = alike
                .map(|(_, batch)| batch)
                .take(if full { 1 } else { usize::MAX });
            let merged = merge::next(alike, compression).filter(|(_, batch)| fits(&to, batch));
            full |= merged.is_none();
            let (count, batch) = merged.unwrap_or((1, batch.clone()));
            if !fits(&to, &batch) {
                break;
            }
            let position = u32::try_from(to.bytes).expect("segments are bounded below 4 GiB");
            let line = Line::of(&batch, position, to.largest_ms);
            line.put(&mut lines);
            pieces.push(batch.as_bytes().clone());
            let merged = self.pending.range(batches..batches + count);
            bytes += merged.map(|(_, batch)| batch.size_bytes()).sum::<usize>();
            batches += count;
            to = Extent {
                end: batch.next_offset(),
                bytes: to.bytes + batch.size_bytes() as u64,
                lines: to.lines + 1,
                largest_ms: line.largest_ms,
            };
        }
        let written = Written {
            id: self.id,
            base: active.base,
            batches,
            to,
        };
        Plan::Write(written, write(active, self.id, pieces, lines), bytes * cost)
    }

    /// What [`PartitionState::plan`] said was done: readers find it in the segment, then the
    /// tail is freed. Answers the freed bytes.
    pub(crate) fn wrote(&mut self, written: &Written, wall_ms: i64) -> usize {
        let Some(active) = self
            .segments
            .last_mut()
            .filter(|last| last.base == written.base)
        else {
            return 0;
        };
        if !active.exists {
            active.exists = true;
            self.names_synced = false;
        }
        if active.times.begun_ms < 0 {
            active.times.begun_ms = wall_ms;
        }
        active.times.appended_ms = wall_ms;
        let in_segment = written.to.bytes - active.written.bytes;
        active.written = written.to;
        let freed = self
            .pending
            .drain(..written.batches.min(self.pending.len()));
        let freed: usize = freed.map(|(_, batch)| batch.size_bytes()).sum();
        self.pending_bytes -= freed;
        self.view.shrink((freed as u64).saturating_sub(in_segment));
        self.view.publish(&self.segments);
        self.tail.release(&self.view.tail, written.to.end);
        freed
    }

    /// Forgets what waits below an offset. Nothing of it may be on its way to a segment.
    /// Answers the freed bytes.
    pub(crate) fn forget_below(&mut self, offset: Offset) -> usize {
        let below = |(_, batch): &&(Lsn, Batch)| batch.next_offset() <= offset;
        let count = self.pending.iter().take_while(below).count();
        let freed: usize = self
            .pending
            .drain(..count)
            .map(|(_, batch)| batch.size_bytes())
            .sum();
        self.pending_bytes -= freed;
        self.view.shrink(freed as u64);
        self.tail.release(&self.view.tail, offset);
        freed
    }

    /// What makes everything written so far durable: files with what is not synced of them, and
    /// the folders whose names are to be synced.
    pub(crate) fn sync(
        &self,
        files: &mut Vec<(Arc<str>, Range<u64>)>,
        dirs: &mut BTreeSet<Arc<str>>,
        careless: bool,
    ) {
        let dirty = |segment: &&Segment| segment.written != segment.synced;
        // The last one may have been begun and not be written to yet.
        let begun = |segment: &&Segment| segment.written.bytes == 0 && !careless;
        let written = self.segments.iter().rev().skip_while(begun);
        for segment in written.take_while(dirty) {
            let (synced, written) = (segment.synced, segment.written);
            files.push((segment.log_path.clone(), synced.bytes..written.bytes));
            let [from, to] = [synced, written].map(|at| u64::from(at.lines) * LINE_BYTES as u64);
            files.push((segment.sum_path.clone(), from..to));
        }
        if !self.names_synced {
            dirs.extend([
                partition_dir(self.id),
                topic_dir(self.id),
                TOPICS_DIR.into(),
            ]);
        }
    }

    /// What [`PartitionState::sync`] said was done, and nothing was written meanwhile.
    pub(crate) fn was_synced(&mut self) {
        self.names_synced = true;
        for segment in &mut self.segments {
            segment.synced = segment.written;
        }
        self.dirty_from = self.pending.front().map(|(lsn, _)| *lsn);
    }
}

fn write(active: &Segment, id: PartitionId, pieces: Vec<Bytes>, lines: Vec<u8>) -> Vec<Action> {
    let mut actions = Vec::new();
    if !active.exists {
        actions.push(Action::MakeDir(partition_dir(id)));
        actions.push(Action::Create(active.log_path.clone()));
        actions.push(Action::Create(active.sum_path.clone()));
    }
    actions.push(Action::Write {
        path: active.log_path.clone(),
        position: active.written.bytes,
        pieces,
    });
    actions.push(Action::Write {
        path: active.sum_path.clone(),
        position: u64::from(active.written.lines) * LINE_BYTES as u64,
        pieces: vec![Bytes::from(lines)],
    });
    actions
}
