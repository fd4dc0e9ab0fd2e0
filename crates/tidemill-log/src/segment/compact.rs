//! Writes a partition's segments anew with only the latest record of each key.
//!
//! Two passes, in pieces: the first notes the latest offset of every key in what was never
//! compacted, the second writes the segments anew, one or a few at a time, without the records
//! that a later one replaces. Offsets stay what they are, and a segment covers the same offsets
//! as before: what is left out is a gap inside of a batch.
//!
//! Records without a key, control records and those of transactions are kept as they are: who
//! reads only what was committed must find the same as before.
//!
//! This room may not know the journal, or when it is worth it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tidemill_core::Offset;

use super::read::SegmentRead;
use super::sidecar::{LINE_BYTES, Line};
use super::{Extent, Kept, Segment, SegmentView, Times, paths};
use crate::batch::{Batch, BatchBuilder, BatchError, Compression, CompressionType, Record};
use crate::error::ReadError;
use crate::io::{Action, Files, IoFailure, Work, run_all};
use crate::limits::{
    COMPACTION_KEYS_MAX, COMPACTION_STEP_BYTES, MERGED_BATCH_BYTES, SEGMENT_GROWN_MAX_BYTES,
};
use crate::machine::PartitionId;

/// The latest offset of each key, by a hash of 128 bits under keys of this process's own.
#[derive(Debug, Default)]
struct Latest {
    hashers: [RandomState; 2],
    offsets: HashMap<[u64; 2], Offset>,
}

impl Latest {
    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.hashers.each_ref().map(|hasher| hasher.hash_one(key))
    }

    /// Notes a key; answers whether there was room for it.
    fn note(&mut self, key: &[u8], offset: Offset, keys_max: usize) -> bool {
        let hash = self.hash(key);
        if self.offsets.len() >= keys_max && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, offset);
        true
    }

    fn is_replaced(&self, key: &[u8], offset: Offset, by_itself: bool) -> bool {
        let latest = self.offsets.get(&self.hash(key));
        latest.is_some_and(|latest| offset < *latest || (by_itself && offset == *latest))
    }
}

/// Segments that are written anew as one.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// One or more, that follow each other.
    pub(crate) segments: Vec<SegmentView>,
    pub(crate) generation: u32,
    /// What the new one keeps of the old ones' times.
    pub(crate) times: Times,
    /// Whether the latest record of a key is left out too where it has no value: all those
    /// before it are gone for long enough.
    pub(crate) without_tombstones: bool,
}

/// What is to be done with a partition.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: PartitionId,
    /// All of what may be compacted, in order.
    pub(crate) groups: Vec<Group>,
    /// Everything before was compacted.
    pub(crate) cleaned: Offset,
    pub(crate) compression: CompressionType,
    /// What the segments are noted to be compacted at.
    pub(crate) now_ms: i64,
    /// A planted fault: the latest record of a key is left out too.
    pub(crate) drops_latest: bool,
}

/// A segment that was written anew.
#[derive(Clone, Debug)]
pub(crate) struct Rewritten {
    /// First offset and generation of each that it replaces.
    pub(crate) old: Vec<(Offset, u32)>,
    /// `None` where nothing would be left out: the old one stays.
    pub(crate) new: Option<Segment>,
    /// How many records were left out.
    pub(crate) removed: u64,
}

/// How far a compaction has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// There is more to do.
    Working,
    /// The next group is written, and nothing of it is synced.
    Rewritten(Rewritten),
    /// Everything below this offset is compacted.
    Done { cleaned: Offset },
    /// It cannot go on: something is unreadable.
    Stuck(String),
}

/// A compaction under way. One thread works on it at a time.
#[derive(Debug)]
pub(crate) struct Compaction(Mutex<Worker>);

#[derive(Debug)]
struct Worker {
    plan: Plan,
    keys_max: usize,
    latest: Latest,
    /// Keys below this offset are noted.
    mapped: Offset,
    /// Records of a transaction were taken over: any key may have a value among them.
    has_transactions: bool,
    stage: Stage,
    progress: Option<Progress>,
}

#[derive(Debug)]
enum Stage {
    Mapping,
    /// The group with this number is being written.
    Writing(usize, Box<Output>),
    Ended,
}

impl Compaction {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        Self::bounded(plan, COMPACTION_KEYS_MAX)
    }

    fn bounded(plan: Plan, keys_max: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Worker {
            keys_max,
            latest: Latest::default(),
            mapped: plan.cleaned.max(plan.begin()),
            has_transactions: false,
            stage: Stage::Mapping,
            progress: None,
            plan,
        })))
    }

    /// What the last piece of work has led to.
    pub(crate) fn progress(&self) -> Progress {
        let mut worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        worker.progress.take().unwrap_or(Progress::Working)
    }

    /// The files that are being written: of no use where the compaction does not go on.
    pub(crate) fn unfinished(&self) -> Vec<Arc<str>> {
        let worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &worker.stage {
            Stage::Writing(_, output) => output.paths().into(),
            _ => Vec::new(),
        }
    }
}

impl Work for Compaction {
    fn run(&self, files: &Files) -> Result<(), IoFailure> {
        let mut worker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match worker.step(files) {
            Ok(progress) => worker.progress = Some(progress),
            Err(Trouble::Read(why)) => worker.progress = Some(Progress::Stuck(why)),
            Err(Trouble::Write(failure)) => return Err(failure),
        }
        Ok(())
    }
}

enum Trouble {
    Read(String),
    Write(IoFailure),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error.to_string())
    }
}

impl From<BatchError> for Trouble {
    fn from(error: BatchError) -> Self {
        Self::Read(error.to_string())
    }
}

impl Plan {
    fn segments(&self) -> impl Iterator<Item = &SegmentView> {
        self.groups.iter().flat_map(|group| &group.segments)
    }

    fn begin(&self) -> Offset {
        let first = self.segments().next();
        first.map_or(Offset(0), |segment| segment.base)
    }

    /// Bytes of the largest group: the disk must have room for so much.
    pub(crate) fn largest_bytes(&self) -> u64 {
        let bytes = |group: &Group| group.segments.iter().map(|one| one.written.bytes).sum();
        self.groups.iter().map(bytes).max().unwrap_or(0)
    }
}

impl Worker {
    fn step(&mut self, files: &Files) -> Result<Progress, Trouble> {
        match &self.stage {
            Stage::Mapping => self.map(files),
            Stage::Writing(..) => self.write(files),
            Stage::Ended => Ok(Progress::Done {
                cleaned: self.mapped,
            }),
        }
    }

    /// Batches of a segment from `offset` on, as much as one step takes.
    fn read(
        &self,
        files: &Files,
        segment: &SegmentView,
        offset: Offset,
    ) -> Result<Vec<Batch>, Trouble> {
        let read = SegmentRead {
            id: self.plan.id,
            segment,
            files,
        };
        Ok(read.run(offset, COMPACTION_STEP_BYTES)?)
    }

    fn map(&mut self, files: &Files) -> Result<Progress, Trouble> {
        let holds =
            |segment: &&SegmentView| (segment.base..segment.written.end).contains(&self.mapped);
        let Some(segment) = self.plan.segments().find(holds).cloned() else {
            self.begin_group(0);
            return Ok(Progress::Working);
        };
        for batch in self.read(files, &segment, self.mapped)? {
            if !is_plain(&batch) {
                self.mapped = batch.next_offset();
                continue;
            }
            for record in batch.checked_records()? {
                let record = record?;
                if record.offset < self.mapped {
                    continue;
                }
                let noted = record
                    .key
                    .as_ref()
                    .is_none_or(|key| self.latest.note(key, record.offset, self.keys_max));
                if !noted {
                    // The rest comes with the next compaction.
                    self.mapped = record.offset;
                    self.begin_group(0);
                    return Ok(Progress::Working);
                }
            }
            self.mapped = batch.next_offset();
        }
        Ok(Progress::Working)
    }

    fn begin_group(&mut self, number: usize) {
        let group = self.plan.groups.get(number);
        let group = group.filter(|group| {
            let first = group.segments.first();
            first.is_some_and(|first| first.base < self.mapped)
        });
        self.stage = match group {
            Some(group) => Stage::Writing(number, Box::new(Output::new(&self.plan, group))),
            None => Stage::Ended,
        };
    }

    fn write(&mut self, files: &Files) -> Result<Progress, Trouble> {
        let Stage::Writing(number, mut output) = std::mem::replace(&mut self.stage, Stage::Ended)
        else {
            return Ok(Progress::Working);
        };
        let group = self.plan.groups.get(number).cloned();
        let group = group.expect("only groups of the plan are begun");
        let holds =
            |segment: &&SegmentView| (segment.base..segment.written.end).contains(&output.next);
        let Some(segment) = group.segments.iter().find(holds) else {
            let rewritten = output.end(&group, self.mapped, self.plan.now_ms);
            let written = output.flush(self.plan.id, files);
            self.begin_group(number + 1);
            written.map_err(Trouble::Write)?;
            return Ok(Progress::Rewritten(rewritten));
        };
        let result = self.read(files, segment, output.next).and_then(|batches| {
            for batch in &batches {
                self.filter(&group, batch, &mut output)?;
            }
            if output.segment.written.bytes > SEGMENT_GROWN_MAX_BYTES {
                let why = "written anew it would pass the bounds of a segment";
                return Err(Trouble::Read(why.to_owned()));
            }
            output.flush(self.plan.id, files).map_err(Trouble::Write)
        });
        self.stage = Stage::Writing(number, output);
        result.map(|()| Progress::Working)
    }

    /// Takes over what stays of a batch.
    fn filter(&mut self, group: &Group, batch: &Batch, output: &mut Output) -> Result<(), Trouble> {
        if !is_plain(batch) {
            self.has_transactions |= !batch.is_control();
            output.verbatim(batch.clone());
            return Ok(());
        }
        let mut stay = Vec::new();
        for record in batch.checked_records()? {
            let record = record?;
            if self.stays(group, &record) {
                stay.push(record);
            } else {
                output.removed += 1;
            }
        }
        let whole = stay.len() == batch.record_count() as usize;
        if whole && (batch.producer().is_some() || batch.size_bytes() >= MERGED_BATCH_BYTES) {
            output.verbatim(batch.clone());
        } else {
            output.records(batch, &stay)?;
        }
        Ok(())
    }

    fn stays(&self, group: &Group, record: &Record) -> bool {
        let Some(key) = &record.key else {
            return true;
        };
        let replaced = self
            .latest
            .is_replaced(key, record.offset, self.plan.drops_latest);
        let is_old = record.offset < self.mapped;
        let may_go = group.without_tombstones && is_old && !self.has_transactions;
        !replaced && (record.value.is_some() || !may_go)
    }
}

/// Whether records of the batch may be left out.
fn is_plain(batch: &Batch) -> bool {
    !batch.is_transactional() && !batch.is_control()
}

/// A batch that records are being added to.
#[derive(Debug)]
struct Open {
    base: Offset,
    leader_epoch: i32,
    append_time_ms: Option<i64>,
    compression: CompressionType,
    builder: BatchBuilder,
}

/// The new segment of a group, as it is being written.
#[derive(Debug)]
struct Output {
    segment: Segment,
    compression: CompressionType,
    created: bool,
    /// Everything before it is covered by what the segment has.
    open: Option<Open>,
    /// Everything below was taken over or left out.
    next: Offset,
    pieces: Vec<Bytes>,
    lines: Vec<u8>,
    /// Bytes and lines that are written.
    flushed: (u64, u32),
    removed: u64,
}

impl Output {
    fn new(plan: &Plan, group: &Group) -> Self {
        let first = group.segments.first().map_or(Offset(0), |first| first.base);
        let kept = Kept {
            base: first,
            generation: group.generation,
            times: group.times,
            at: Extent::empty(first),
        };
        Self {
            segment: Segment::kept(plan.id, &kept),
            compression: plan.compression,
            created: false,
            open: None,
            next: first,
            pieces: Vec::new(),
            lines: Vec::new(),
            flushed: (0, 0),
            removed: 0,
        }
    }

    fn paths(&self) -> [Arc<str>; 2] {
        [self.segment.log_path.clone(), self.segment.sum_path.clone()]
    }

    /// Takes a batch over as it is.
    fn verbatim(&mut self, batch: Batch) {
        self.close_up_to(batch.base_offset());
        self.next = batch.next_offset();
        self.push(batch);
    }

    /// Takes over these records of a batch; what is between them is left out.
    fn records(&mut self, batch: &Batch, stay: &[Record]) -> Result<(), BatchError> {
        let own = batch.producer().is_some();
        let same = |open: &Open| {
            open.leader_epoch == batch.leader_epoch()
                && open.append_time_ms == batch.append_time_ms()
                && open.builder.size_bytes() < MERGED_BATCH_BYTES
        };
        // Offsets before the first record that stays are covered by what comes next.
        if !stay.is_empty() && self.open.as_ref().is_some_and(|open| own || !same(open)) {
            self.close_up_to(batch.base_offset());
        }
        for record in stay {
            if self.add(batch, record).is_err() {
                // It does not fit behind the others: too large, too late or too far away.
                self.close_up_to(record.offset);
                self.add(batch, record)?;
            }
        }
        self.next = batch.next_offset();
        if own && !stay.is_empty() {
            self.close_up_to(batch.next_offset());
        }
        Ok(())
    }

    fn add(&mut self, batch: &Batch, record: &Record) -> Result<(), BatchError> {
        let compression = match (self.compression, batch.compression()) {
            // What came packed does not grow.
            (CompressionType::None, Compression::None) => CompressionType::None,
            (CompressionType::None, _) => CompressionType::Lz4,
            (own, _) => own,
        };
        let base = self.segment.written.end;
        let open = self.open.get_or_insert_with(|| Open {
            base,
            leader_epoch: batch.leader_epoch(),
            append_time_ms: batch.append_time_ms(),
            compression,
            builder: match batch.producer() {
                Some(producer) => BatchBuilder::new().producer(producer),
                None => BatchBuilder::new(),
            },
        });
        if !open.builder.skip_to(record.offset.0 - open.base.0) {
            return Err(BatchError::Header("its offsets are too far apart"));
        }
        let headers: Vec<(&str, Option<Bytes>)> = record
            .headers
            .iter()
            .map(|header| (header.name, header.value))
            .collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_deref()));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        open.builder.push(record.timestamp_ms, key, value, headers)
    }

    /// Ends the open batch, and covers every offset below `offset`.
    fn close_up_to(&mut self, offset: Offset) {
        if let Some(mut open) = self.open.take() {
            // Where that is too far, empty batches follow.
            open.builder.skip_to(offset.0 - open.base.0);
            let batch = open.builder.finish_bare().with_base_offset(open.base);
            let mut batch = batch.with_leader_epoch(open.leader_epoch);
            if let Some(time_ms) = open.append_time_ms {
                batch = batch.with_append_time_ms(time_ms);
            }
            self.push(batch.compressed(open.compression));
        }
        self.cover(self.segment.written.end, offset);
    }

    /// Empty batches for offsets that have no record any more.
    fn cover(&mut self, mut from: Offset, to: Offset) {
        while from < to {
            let length = (to.0 - from.0).min(i32::MAX as u64 - 1);
            let mut builder = BatchBuilder::new();
            builder.skip_to(length);
            let batch = builder.finish_bare().with_base_offset(from);
            from = batch.next_offset();
            self.push(batch);
        }
    }

    fn push(&mut self, batch: Batch) {
        let at = &mut self.segment.written;
        let position = u32::try_from(at.bytes).expect("it is looked at after each step");
        let line = Line::of(&batch, position, at.largest_ms);
        line.put(&mut self.lines);
        *at = Extent {
            end: batch.next_offset(),
            bytes: at.bytes + batch.size_bytes() as u64,
            lines: at.lines + 1,
            largest_ms: line.largest_ms,
        };
        self.pieces.push(batch.as_bytes().clone());
    }

    /// Everything was taken over: says what the segment has become.
    fn end(&mut self, group: &Group, mapped: Offset, now_ms: i64) -> Rewritten {
        let end = group
            .segments
            .last()
            .map_or(self.next, |last| last.written.end);
        self.close_up_to(end);
        // Only now is everything gone that a record without a value in it replaces.
        if self.segment.times.compacted_ms < 0 && end <= mapped {
            self.segment.times.compacted_ms = now_ms;
        }
        self.segment.synced = self.segment.written;
        let old = group.segments.iter();
        let stays = self.removed == 0 && group.segments.len() == 1 && {
            // It has to be known from when on its records without a value may go.
            group.times.compacted_ms >= 0 || end > mapped
        };
        Rewritten {
            old: old.map(|one| (one.base, one.generation)).collect(),
            new: (!stays).then(|| self.segment.clone()),
            removed: self.removed,
        }
    }

    fn flush(&mut self, id: PartitionId, files: &Files) -> Result<(), IoFailure> {
        let [log_path, sum_path] = paths(id, self.segment.base, self.segment.generation);
        let mut actions = Vec::new();
        if !self.created {
            self.created = true;
            actions.push(Action::Create(log_path.clone()));
            actions.push(Action::Create(sum_path.clone()));
        }
        let (bytes, lines) = self.flushed;
        actions.push(Action::Write {
            path: log_path,
            position: bytes,
            pieces: std::mem::take(&mut self.pieces),
        });
        actions.push(Action::Write {
            path: sum_path,
            position: u64::from(lines) * LINE_BYTES as u64,
            pieces: vec![Bytes::from(std::mem::take(&mut self.lines))],
        });
        self.flushed = (self.segment.written.bytes, self.segment.written.lines);
        run_all(&actions, files)
    }
}
