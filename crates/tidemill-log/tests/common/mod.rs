//! A small machine for the log's tests, and ways to drive a log and look into it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod dying;
pub(crate) mod faulty;
pub(crate) mod sample;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use tidemill_core::{Offset, Partition, TopicId};
use tidemill_log::driver::{self, Handle};
use tidemill_log::{
    Batch, BatchBuilder, CommitError, Demand, Disk, Draft, Dump, Effect, LoadError, Lsn, Machine,
    Now, OpenError, Options, Outcome, PartitionId, PartitionSettings, Read, Reader,
};
use uuid::Uuid;

/// A record: timestamp in milliseconds, key, value.
pub(crate) type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// What the tests ask for.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Create(PartitionId),
    Delete(PartitionId),
    Configure(PartitionId, PartitionSettings),
    /// Publishes one batch of records: timestamp, key, value.
    Records(PartitionId, Vec<Row>),
    /// Deletes everything below an offset.
    Trim(PartitionId, u64),
    /// Publishes one batch of these values.
    Publish(PartitionId, Vec<Vec<u8>>),
    /// Appends this batch.
    Append(PartitionId, Batch),
    /// Sets a register.
    Set(u64, u64),
    /// Publishes and sets as one entry.
    Both(PartitionId, Vec<u8>, u64, u64),
    /// Does a little, then refuses.
    Refuse(PartitionId),
    /// Answers what a register is sealed as.
    Get(u64),
}

/// Registers, and whatever partitions are asked for.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    sealed: BTreeMap<u64, u64>,
    pub durable: BTreeMap<u64, u64>,
    pub applied: Lsn,
}

fn batch(values: &[Vec<u8>]) -> Batch {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder
            .push(1, None, Some(value), std::iter::empty())
            .unwrap();
    }
    builder.finish().unwrap()
}

impl Registers {
    fn set(&mut self, key: u64, value: u64, draft: &mut Draft<'_>) {
        self.sealed.insert(key, value);
        let bytes: Vec<u8> = [key.to_le_bytes(), value.to_le_bytes()].concat();
        draft.effect(7, &bytes);
    }
}

/// A register with this number and a first offset more holds the offset after the last one that is
/// settled from there on, of any partition.
pub(crate) const SETTLED: u64 = 1 << 40;

/// The register that holds the highest offset below which records were deleted.
pub(crate) const TRIMMED: u64 = u64::MAX;

impl Machine for Registers {
    type Operation = Operation;
    /// The base offset of what was published, or a register.
    type Receipt = u64;
    type Refusal = &'static str;

    fn demand(operation: &Operation) -> Demand {
        let (bytes, appends) = match operation {
            Operation::Publish(_, values) => (
                values.iter().map(|value| value.len() + 32).sum::<usize>() + 256,
                true,
            ),
            Operation::Append(_, batch) => (batch.size_bytes() + 256, true),
            Operation::Records(_, rows) => {
                let size = |row: &Row| {
                    let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
                    bytes(&row.1) + bytes(&row.2) + 64
                };
                (rows.iter().map(size).sum::<usize>() + 256, true)
            }
            Operation::Both(_, value, ..) => (value.len() + 256, true),
            _ => (256, false),
        };
        let lane = match operation {
            Operation::Create(id) | Operation::Publish(id, _) => id.topic.0.as_u64_pair().1,
            _ => 0,
        };
        Demand {
            bytes,
            records: if appends { bytes } else { 0 },
            appends,
            lane,
        }
    }

    fn seal(
        &mut self,
        operation: Operation,
        _: Now,
        draft: &mut Draft<'_>,
    ) -> Result<u64, &'static str> {
        match operation {
            Operation::Create(id) => draft.create_partition(id),
            Operation::Delete(id) => draft.delete_partition(id),
            Operation::Configure(id, settings) => {
                if !draft.configure(id, settings) {
                    return Err("unknown partition");
                }
                assert_eq!(draft.settings(id), settings);
            }
            Operation::Publish(id, values) => {
                let base = draft
                    .append(id, batch(&values))
                    .ok_or("unknown partition")?;
                return Ok(base.0);
            }
            Operation::Append(id, batch) => {
                return Ok(draft.append(id, batch).ok_or("unknown partition")?.0);
            }
            Operation::Records(id, rows) => {
                let mut builder = BatchBuilder::new();
                for (timestamp_ms, key, value) in &rows {
                    let (key, value) = (key.as_deref(), value.as_deref());
                    builder
                        .push(*timestamp_ms, key, value, std::iter::empty())
                        .unwrap();
                }
                let batch = builder.finish().unwrap();
                return Ok(draft.append(id, batch).ok_or("unknown partition")?.0);
            }
            Operation::Trim(id, before) => {
                let earliest = draft.trim(id, Offset(before));
                return Ok(earliest.ok_or("beyond the end")?.0);
            }
            Operation::Set(key, value) => self.set(key, value, draft),
            Operation::Both(id, bytes, key, value) => {
                let base = draft
                    .append(id, batch(&[bytes]))
                    .ok_or("unknown partition")?;
                self.set(key, value, draft);
                return Ok(base.0);
            }
            Operation::Refuse(id) => {
                draft.append(id, batch(&[vec![1]]));
                draft.effect(7, &[0; 16]);
                draft.create_partition(partition(999, 9));
                return Err("refused as asked");
            }
            Operation::Get(key) => return Ok(self.sealed.get(&key).copied().unwrap_or_default()),
        }
        Ok(0)
    }

    fn apply(&mut self, lsn: Lsn, effect: Effect<'_>) {
        assert_eq!(effect.kind, 7);
        assert!(
            lsn >= self.applied,
            "effects come in the order of their entries"
        );
        self.applied = lsn;
        let (key, value) = effect.bytes.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        self.durable.insert(number(key), number(value));
    }

    fn trimmed(&mut self, _: Lsn, _: PartitionId, earliest: Offset) {
        for state in [&mut self.sealed, &mut self.durable] {
            let have = state.entry(TRIMMED).or_default();
            *have = earliest.0.max(*have);
        }
    }

    fn is_settled(&self, _: PartitionId, offsets: Range<Offset>) -> bool {
        let settled = self.durable.range(SETTLED..SETTLED << 1);
        let mut from = offsets.start.0;
        for (key, to) in settled {
            if (*key - SETTLED..*to).contains(&from) {
                from = *to;
            }
        }
        from >= offsets.end.0
    }

    fn dump(&self) -> Dump {
        let words = self.durable.iter().map(|(key, value)| [*key, *value]);
        let bytes: Vec<u8> = words.flatten().flat_map(u64::to_le_bytes).collect();
        let chunks: Vec<_> = bytes.chunks(10 * 16).map(<[u8]>::to_vec).collect();
        Box::new(chunks.into_iter())
    }

    fn load(&mut self, chunk: &[u8]) -> Result<(), LoadError> {
        for pair in chunk.chunks(16) {
            let (key, value) = pair.split_at_checked(8).ok_or(LoadError("cut".into()))?;
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
            self.durable.insert(number(key), number(value));
        }
        Ok(())
    }

    fn recovered(&mut self) {
        self.sealed = self.durable.clone();
    }
}

/// A partition of a topic with this number.
pub(crate) fn partition(topic: u128, number: u32) -> PartitionId {
    PartitionId {
        topic: TopicId(Uuid::from_u128(topic)),
        partition: Partition(number),
    }
}

pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    options: &Options,
) -> Result<Handle<Registers>, OpenError> {
    driver::open(
        disk.clone(),
        options.clone(),
        Registers::default(),
        Arc::new(()),
    )
}

/// Submits; the outcome comes through the receiver.
pub(crate) fn submit(
    log: &Handle<Registers>,
    operation: Operation,
) -> Receiver<Outcome<Registers>> {
    let (sender, receiver) = mpsc::channel();
    log.submit(operation, move |outcome| sender.send(outcome).unwrap());
    receiver
}

/// Submits and waits.
pub(crate) fn run(log: &Handle<Registers>, operation: Operation) -> Outcome<Registers> {
    submit(log, operation).recv().unwrap()
}

pub(crate) fn ok(log: &Handle<Registers>, operation: Operation) -> u64 {
    run(log, operation).unwrap()
}

pub(crate) fn publish(log: &Handle<Registers>, id: PartitionId, value: &[u8]) -> u64 {
    ok(log, Operation::Publish(id, vec![value.to_vec()]))
}

pub(crate) type Refused = CommitError<&'static str>;

/// Everything in a partition, by offset, read in pieces of `max_bytes`.
pub(crate) fn read_all(reader: &Reader, id: PartitionId, max_bytes: usize) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    let mut offset = reader.bounds(id).unwrap().earliest;
    loop {
        let batches = match reader.read(id, offset, max_bytes) {
            Read::Batches(batches) => batches,
            Read::Disk(read) => read.run().unwrap(),
            Read::AtEnd => return records,
            other => panic!("read at {offset} answered {other:?}"),
        };
        assert!(!batches.is_empty(), "a read below the end gives something");
        for batch in batches {
            for record in batch.records() {
                let record = record.unwrap();
                if record.offset >= offset {
                    records.push((record.offset.0, record.value.unwrap().to_vec()));
                }
            }
            offset = batch.next_offset();
        }
    }
}

pub(crate) fn end(log: &Handle<Registers>, id: PartitionId) -> Option<Offset> {
    log.reader().bounds(id).map(|bounds| bounds.end)
}

/// A log without threads: its steps are run one after the other, and its time is what it is
/// told.
pub(crate) struct ByHand {
    pub(crate) log: tidemill_log::Log<Registers, u64>,
    pub(crate) files: Arc<tidemill_log::Files>,
    pub(crate) ended: BTreeMap<u64, Outcome<Registers>>,
    pub(crate) failed: bool,
    pub(crate) wake_at: Option<std::time::Duration>,
    token: u64,
}

pub(crate) fn at(millis: u64) -> Now {
    Now {
        wall: jiff::Timestamp::UNIX_EPOCH,
        monotonic: std::time::Duration::from_millis(millis),
    }
}

impl ByHand {
    pub(crate) fn open(disk: &Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        Self::open_with(disk, options, Registers::default())
    }

    pub(crate) fn open_with(
        disk: &Arc<dyn Disk>,
        options: &Options,
        machine: Registers,
    ) -> Result<Self, OpenError> {
        Self::open_at(disk, options, machine, at(0))
    }

    pub(crate) fn open_at(
        disk: &Arc<dyn Disk>,
        options: &Options,
        machine: Registers,
        now: Now,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(tidemill_log::Files::new(disk.clone(), 8));
        let seed = Uuid::now_v7();
        let mut log = tidemill_log::Log::recover(&files, options.clone(), machine, now, seed)?;
        log.space(disk.available_bytes());
        Ok(Self {
            log,
            files,
            ended: BTreeMap::new(),
            failed: false,
            wake_at: None,
            token: 0,
        })
    }

    /// Submits and answers the token.
    pub(crate) fn submit(&mut self, operation: Operation) -> u64 {
        self.token += 1;
        self.log.submit(operation, self.token);
        self.token
    }

    /// Runs every step until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            match self.log.poll() {
                tidemill_log::Step::Io(io) => {
                    let result = io.run(&self.files);
                    self.log.finish(io.id, result);
                    self.log.space(self.files.disk().available_bytes());
                }
                tidemill_log::Step::Done { token, outcome } => {
                    assert!(self.ended.insert(token, outcome).is_none(), "one end each");
                }
                tidemill_log::Step::Advanced { .. } => {}
                tidemill_log::Step::Failed(_) => self.failed = true,
                tidemill_log::Step::Idle { wake_at } => {
                    self.wake_at = wake_at;
                    return;
                }
                tidemill_log::Step::Closed => return,
            }
        }
    }

    /// Submits, runs, answers the outcome.
    pub(crate) fn run(&mut self, operation: Operation) -> Outcome<Registers> {
        let token = self.submit(operation);
        self.settle();
        self.ended.remove(&token).unwrap()
    }

    pub(crate) fn publish(&mut self, id: PartitionId, value: &[u8]) -> u64 {
        self.run(Operation::Publish(id, vec![value.to_vec()]))
            .unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.log.reader(self.files.clone())
    }
}
