//! The small machine that the simulator gives to the log: counters by key, settled ranges by
//! partition, and a chain over everything that was sealed, so that what survives a crash can be
//! compared with a model down to the last bit. May not know: the disk, the checker's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tidemill_core::{Offset, Partition, TopicId};
use tidemill_log::{
    Batch, BatchBuilder, CompressionType, Demand, Draft, Dump, Effect, LoadError, Lsn, Machine,
    Now, PartitionId, PartitionSettings,
};
use uuid::Uuid;

use crate::sim::random::{Random, mix};

/// Partitions of one topic, so that some share a topic's folder.
const PARTITIONS_OF_A_TOPIC: u64 = 3;

/// The partition with the number `number`.
#[must_use]
pub fn partition_id(number: u64) -> PartitionId {
    let topic = u128::from(mix(number / PARTITIONS_OF_A_TOPIC));
    PartitionId {
        topic: TopicId(Uuid::from_u128((topic << 64) | topic)),
        partition: Partition((number % PARTITIONS_OF_A_TOPIC) as u32),
    }
}

/// One thing that an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Makes a partition that never was before.
    Create(u64),
    /// Deletes a partition.
    Delete(u64),
    /// Appends `count` records of about `size` bytes; refused where the partition is not there.
    Publish {
        /// The partition's number.
        partition: u64,
        /// How many records, 1 or more.
        count: u32,
        /// Bytes of each record's value, 16 or more.
        size: u32,
    },
    /// Settles the offsets `from..to`; refused where they do not exist.
    Settle {
        /// The partition's number.
        partition: u64,
        /// The first offset.
        from: u64,
        /// The offset after the last.
        to: u64,
    },
    /// Deletes the events below an offset; refused where it lies beyond the end.
    Trim {
        /// The partition's number.
        partition: u64,
        /// The first offset to be kept.
        before: u64,
    },
    /// Bounds what is kept; refused where the partition is not there.
    Retain {
        /// The partition's number.
        partition: u64,
        /// For so long after an event's timestamp.
        retention_ms: Option<u64>,
        /// So many bytes at least.
        retention_bytes: Option<u64>,
    },
    /// Adds to a counter.
    Add {
        /// The counter.
        key: u64,
        /// How much.
        by: u64,
    },
}

/// One operation: all of its parts, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number, unique in a run.
    pub number: u64,
    /// What it does.
    pub parts: Vec<Part>,
}

/// One event, as the model knows it: enough to make its bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef {
    /// The operation that published it.
    pub operation: u64,
    /// Which of its parts.
    pub part: u32,
    /// Which record of that part.
    pub record: u32,
    /// Bytes of its value.
    pub size: u32,
}

impl EventRef {
    /// The bytes of the value: its name in front, then noise that follows from the name.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.size as usize + 8);
        value.extend(self.operation.to_le_bytes());
        value.extend(self.part.to_le_bytes());
        value.extend(self.record.to_le_bytes());
        let mut noise = Random::new(self.operation ^ u64::from(self.part) << 40);
        while value.len() < self.size as usize {
            value.extend(noise.bits().to_le_bytes());
        }
        value.truncate((self.size as usize).max(16));
        value
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> [u8; 1] {
        [(self.operation % 7) as u8]
    }

    /// The record's timestamp in milliseconds.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        (self.operation * 10 + u64::from(self.record)) as i64
    }
}

/// The events of one publishing part.
pub fn events_of(
    operation: u64,
    part: u32,
    count: u32,
    size: u32,
) -> impl Iterator<Item = EventRef> {
    (0..count).map(move |record| EventRef {
        operation,
        part,
        record,
        size,
    })
}

/// How a partition is set: one in three is packed with each codec.
fn settings_of(partition: u64) -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.compression = match partition % 3 {
        0 => CompressionType::None,
        1 => CompressionType::Lz4,
        _ => CompressionType::Zstd,
    };
    settings
}

pub(crate) fn batch_of(operation: u64, part: u32, count: u32, size: u32) -> Batch {
    let mut builder = BatchBuilder::new();
    for event in events_of(operation, part, count, size) {
        let (key, value) = (event.key(), event.value());
        let header = [("n", Some(&key[..]))];
        builder
            .push(
                event.timestamp_ms(),
                Some(&key),
                Some(&value),
                header.into_iter(),
            )
            .expect("the simulator's batches are small");
    }
    builder
        .finish()
        .expect("a part publishes at least one record")
}

/// Settled offsets: half-open ranges, ascending, not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `from..to`.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|(a, b)| {
            let apart = *b < from || to < *a;
            if !apart {
                (from, to) = (from.min(*a), to.max(*b));
            }
            apart
        });
        self.0.push((from, to));
        self.0.sort_unstable();
    }
}

/// What may be gone of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Everything below this offset must be.
    pub trimmed: u64,
    /// The shortest time that an event was to be kept for, in milliseconds.
    pub retention_ms: Option<u64>,
    /// The fewest bytes that were to be kept.
    pub retention_bytes: Option<u64>,
}

/// The lesser of both, where there are two.
fn least(have: Option<u64>, new: Option<u64>) -> Option<u64> {
    have.into_iter().chain(new).min()
}

/// What the machine keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How many operations were sealed.
    pub applied: u64,
    /// A hash over their numbers, in their order.
    pub chain: u64,
    /// The counters.
    pub counters: BTreeMap<u64, u64>,
    /// What is settled of each partition.
    pub settled: BTreeMap<u64, Ranges>,
    /// The partitions that there are.
    pub partitions: BTreeSet<u64>,
    /// What may be gone of them.
    pub limits: BTreeMap<u64, Limits>,
}

/// One absolute change of the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Change {
    Sealed { applied: u64, chain: u64 },
    Created(u64),
    Deleted(u64),
    Settled { partition: u64, from: u64, to: u64 },
    Counter { key: u64, value: u64 },
    Limited { partition: u64, limits: Limits },
}

impl State {
    fn apply(&mut self, change: &Change) {
        match *change {
            Change::Sealed { applied, chain } => (self.applied, self.chain) = (applied, chain),
            Change::Created(partition) => {
                self.partitions.insert(partition);
            }
            Change::Deleted(partition) => {
                self.partitions.remove(&partition);
                self.settled.remove(&partition);
                self.limits.remove(&partition);
            }
            Change::Settled {
                partition,
                from,
                to,
            } => {
                self.settled.entry(partition).or_default().insert(from, to);
            }
            Change::Counter { key, value } => {
                self.counters.insert(key, value);
            }
            Change::Limited { partition, limits } => {
                self.limits.insert(partition, limits);
            }
        }
    }

    /// What may be gone of a partition.
    #[must_use]
    pub fn limits_of(&self, partition: u64) -> Limits {
        self.limits.get(&partition).copied().unwrap_or_default()
    }

    fn change_of(&self, part: &Part) -> Option<Change> {
        Some(match *part {
            Part::Create(partition) => Change::Created(partition),
            Part::Delete(partition) => Change::Deleted(partition),
            Part::Publish { .. } => return None,
            Part::Settle {
                partition,
                from,
                to,
            } => Change::Settled {
                partition,
                from,
                to,
            },
            Part::Trim { partition, before } => {
                let mut limits = self.limits_of(partition);
                limits.trimmed = limits.trimmed.max(before);
                Change::Limited { partition, limits }
            }
            Part::Retain {
                partition,
                retention_ms,
                retention_bytes,
            } => {
                let mut limits = self.limits_of(partition);
                limits.retention_ms = least(limits.retention_ms, retention_ms);
                limits.retention_bytes = least(limits.retention_bytes, retention_bytes);
                Change::Limited { partition, limits }
            }
            Part::Add { key, by } => {
                let old = self.counters.get(&key).copied().unwrap_or(0);
                Change::Counter {
                    key,
                    value: old.wrapping_add(by),
                }
            }
        })
    }

    /// Applies an operation as the model does it: in order, every part.
    pub fn perform(&mut self, operation: &Operation) {
        for part in &operation.parts {
            if let Some(change) = self.change_of(part) {
                self.apply(&change);
            }
        }
        self.apply(&self.sealing(operation));
    }

    fn sealing(&self, operation: &Operation) -> Change {
        Change::Sealed {
            applied: self.applied + 1,
            chain: mix(self.chain ^ operation.number),
        }
    }
}

/// One sealed operation: what it did and where its records went.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The operation.
    pub operation: Operation,
    /// The base offset that each publishing part got, by the part's index.
    pub bases: Vec<(u32, u64)>,
    /// The chain after it.
    pub chain: u64,
}

/// What the machine was asked and told, seen by the checker.
#[derive(Debug, Default)]
pub struct History {
    /// Everything sealed, in its order. The checker cuts off what a crash took.
    pub sealed: Vec<Sealed>,
    /// How much of it the machine was told to be durable.
    pub applied: u64,
    /// The first broken rule seen by the machine itself.
    pub broken: Option<String>,
    /// The durable state as recovery left it, taken at its end.
    pub recovered: Option<State>,
}

/// The history, shared between machine and checker.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<History>>);

impl Shared {
    /// The history.
    pub fn enter(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine.
#[derive(Debug)]
pub struct Ledger {
    sealed: State,
    durable: State,
    running: bool,
    /// The newest entry that was applied.
    newest: Lsn,
    shared: Shared,
}

impl Ledger {
    /// An empty one that reports to `shared`.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self {
            sealed: State::default(),
            durable: State::default(),
            running: false,
            newest: Lsn(0),
            shared,
        }
    }

    fn accepts(&self, part: &Part, draft: &Draft<'_>) -> Result<(), &'static str> {
        let end = |partition: &u64| draft.end(partition_id(*partition));
        match part {
            Part::Create(partition) if end(partition).is_some() => Err("it exists"),
            Part::Trim { partition, before } => match end(partition) {
                Some(end) if *before <= end.0 => Ok(()),
                _ => Err("no such offset"),
            },
            Part::Delete(partition)
            | Part::Publish { partition, .. }
            | Part::Retain { partition, .. } => {
                end(partition).map(|_| ()).ok_or("no such partition")
            }
            Part::Settle { partition, to, .. } => match end(partition) {
                Some(end) if *to <= end.0 => Ok(()),
                _ => Err("no such offsets"),
            },
            Part::Create(_) | Part::Add { .. } => Ok(()),
        }
    }
}

impl Machine for Ledger {
    type Operation = Operation;
    /// The operation's number and the base offsets of its publishing parts.
    type Receipt = (u64, Vec<(u32, u64)>);
    type Refusal = (u64, &'static str);

    fn demand(operation: &Operation) -> Demand {
        let bytes = |part: &Part| match part {
            Part::Publish { count, size, .. } => 256 + *count as usize * (*size as usize + 64),
            _ => 256,
        };
        let mut publishes = operation.parts.iter();
        let appends = publishes.any(|part| matches!(part, Part::Publish { .. }));
        let bytes = 256 + operation.parts.iter().map(bytes).sum::<usize>();
        Demand {
            bytes,
            records: if appends { bytes } else { 0 },
            appends,
            ..Demand::default()
        }
    }

    fn seal(
        &mut self,
        operation: Operation,
        _: Now,
        draft: &mut Draft<'_>,
    ) -> Result<Self::Receipt, Self::Refusal> {
        let mut next = self.sealed.clone();
        let mut bases = Vec::new();
        for (index, part) in (0u32..).zip(&operation.parts) {
            let accepted = self.accepts(part, draft);
            accepted.map_err(|why| (operation.number, why))?;
            match *part {
                Part::Create(partition) => {
                    let id = partition_id(partition);
                    draft.create_partition(id);
                    draft.configure(id, settings_of(partition));
                }
                Part::Delete(partition) => draft.delete_partition(partition_id(partition)),
                Part::Publish {
                    partition,
                    count,
                    size,
                } => {
                    let batch = batch_of(operation.number, index, count, size);
                    let base = draft.append(partition_id(partition), batch);
                    let Offset(base) = base.ok_or((operation.number, "no such partition"))?;
                    bases.push((index, base));
                }
                Part::Trim { partition, before } => {
                    draft.trim(partition_id(partition), Offset(before));
                }
                Part::Retain {
                    partition,
                    retention_ms,
                    retention_bytes,
                } => {
                    let mut settings = settings_of(partition);
                    settings.retention_ms = retention_ms;
                    settings.retention_bytes = retention_bytes;
                    draft.configure(partition_id(partition), settings);
                }
                Part::Settle { .. } | Part::Add { .. } => {}
            }
            if let Some(change) = next.change_of(part) {
                effect(draft, &change);
                next.apply(&change);
            }
        }
        let sealing = next.sealing(&operation);
        effect(draft, &sealing);
        next.apply(&sealing);
        self.shared.enter().sealed.push(Sealed {
            bases: bases.clone(),
            chain: next.chain,
            operation: operation.clone(),
        });
        self.sealed = next;
        Ok((operation.number, bases))
    }

    fn apply(&mut self, lsn: Lsn, effect: Effect<'_>) {
        let mut history = self.shared.enter();
        match serde_json::from_slice::<Change>(effect.bytes) {
            Ok(change) if effect.kind == kind(&change) => self.durable.apply(&change),
            other => history.broken = Some(format!("effect {effect:?} came as {other:?}")),
        }
        if lsn < self.newest {
            history.broken = Some(format!("entry {lsn} was applied after {}", self.newest));
        }
        self.newest = lsn;
        if self.running {
            history.applied = self.durable.applied;
        }
    }

    fn dump(&self) -> Dump {
        let state = self.durable.clone();
        // The counters and the totals first, then a chunk for each few partitions.
        let first = State {
            settled: BTreeMap::new(),
            limits: BTreeMap::new(),
            partitions: BTreeSet::new(),
            ..state.clone()
        };
        let partitions: Vec<u64> = state.partitions.iter().copied().collect();
        let pages: Vec<BTreeSet<u64>> = partitions
            .chunks(2)
            .map(|page| page.iter().copied().collect())
            .collect();
        let pages = pages.into_iter().map(move |page| {
            let settled = state.settled.iter().filter(|(p, _)| page.contains(p));
            let limits = state.limits.iter().filter(|(p, _)| page.contains(p));
            State {
                limits: limits.map(|(p, l)| (*p, *l)).collect(),
                settled: settled.map(|(p, r)| (*p, r.clone())).collect(),
                partitions: page,
                ..State::default()
            }
        });
        let chunks = std::iter::once(first).chain(pages);
        Box::new(chunks.map(|chunk| serde_json::to_vec(&chunk).expect("numbers alone")))
    }

    fn load(&mut self, chunk: &[u8]) -> Result<(), LoadError> {
        let chunk: State =
            serde_json::from_slice(chunk).map_err(|error| LoadError(error.to_string()))?;
        let state = &mut self.durable;
        if chunk.partitions.is_empty() {
            (state.applied, state.chain) = (chunk.applied, chunk.chain);
            state.counters = chunk.counters;
        }
        state.partitions.extend(chunk.partitions);
        state.settled.extend(chunk.settled);
        state.limits.extend(chunk.limits);
        Ok(())
    }

    fn recovered(&mut self) {
        self.sealed = self.durable.clone();
        self.running = true;
        let mut history = self.shared.enter();
        history.applied = self.durable.applied;
        history.recovered = Some(self.durable.clone());
    }
}

fn kind(change: &Change) -> u16 {
    match change {
        Change::Sealed { .. } => 1,
        Change::Created(_) => 2,
        Change::Deleted(_) => 3,
        Change::Settled { .. } => 4,
        Change::Counter { .. } => 5,
        Change::Limited { .. } => 6,
    }
}

fn effect(draft: &mut Draft<'_>, change: &Change) {
    let bytes = serde_json::to_vec(change).expect("numbers alone");
    draft.effect(kind(change), &bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_where_they_touch() {
        let mut ranges = Ranges::default();
        for (from, to) in [(5, 7), (1, 2), (9, 9), (2, 5), (10, 12)] {
            ranges.insert(from, to);
        }
        assert_eq!(ranges, Ranges(vec![(1, 7), (10, 12)]));
    }
}
