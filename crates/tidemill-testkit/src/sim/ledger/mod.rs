//! The small machine that the simulator gives to the log: counters by key, settled ranges by
//! partition, open transactions, and a chain over everything that was sealed, so that what
//! survives a crash can be compared with a model down to the last bit. May not know: the disk,
//! the checker's rules.

mod operation;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_core::Offset;
use tidemill_log::{Demand, Draft, Dump, Effect, LoadError, Lsn, Machine, Now, PartitionId};

pub(crate) use operation::batch_of;
use operation::marker_batch;
pub use operation::{
    EventRef, Kind, Operation, Part, events_of, marker, partition_id, settings_of,
};
use state::Change;
pub use state::{Limits, Ranges, State};

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
    /// The entries that were applied since the opening, with the number of operations then.
    pub entries: Vec<(Lsn, u64)>,
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

    /// How many operations are durable.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.durable.applied
    }

    fn accepts(next: &State, part: &Part, draft: &Draft<'_>) -> Result<(), &'static str> {
        let end = |partition: &u64| draft.end(partition_id(*partition));
        match part {
            Part::Create(partition) if end(partition).is_some() => Err("it exists"),
            Part::Trim { partition, before } => match end(partition) {
                Some(end) if *before <= end.0 => Ok(()),
                _ => Err("no such offset"),
            },
            Part::Delete(partition)
            | Part::Publish { partition, .. }
            | Part::Join { partition, .. }
            | Part::Retain { partition, .. } => {
                end(partition).map(|_| ()).ok_or("no such partition")
            }
            Part::Settle { partition, to, .. } => match end(partition) {
                Some(end) if *to <= end.0 => Ok(()),
                _ => Err("no such offsets"),
            },
            Part::End { transaction, .. } if !next.open.contains_key(transaction) => {
                Err("no such transaction")
            }
            Part::Create(_) | Part::Add { .. } | Part::End { .. } => Ok(()),
        }
    }

    /// Puts into the draft what a part does beside its effect; answers the base offsets that its
    /// records got.
    fn draw(
        next: &State,
        operation: u64,
        index: u32,
        part: &Part,
        draft: &mut Draft<'_>,
    ) -> Option<Vec<u64>> {
        let mut bases = Vec::new();
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
                let batch = batch_of(operation, index, count, size, Kind::Plain);
                bases.push(draft.append(partition_id(partition), batch)?);
            }
            Part::Join {
                transaction,
                partition,
                count,
                size,
            } => {
                let batch = batch_of(operation, index, count, size, Kind::Of(transaction));
                bases.push(draft.append(partition_id(partition), batch)?);
            }
            Part::End {
                transaction,
                commits,
            } => {
                for partition in next.open.get(&transaction).into_iter().flatten() {
                    let batch = marker_batch(&marker(operation, index, transaction, commits))?;
                    bases.push(draft.append(partition_id(*partition), batch)?);
                }
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
        Some(bases.into_iter().map(|Offset(base)| base).collect())
    }
}

impl Machine for Ledger {
    type Operation = Operation;
    /// The operation's number and the base offsets of its publishing parts.
    type Receipt = (u64, Vec<(u32, u64)>);
    type Refusal = (u64, &'static str);

    fn demand(operation: &Operation) -> Demand {
        let bytes = |part: &Part| match part {
            Part::Publish { count, size, .. } | Part::Join { count, size, .. } => {
                512 + *count as usize * (*size as usize + 64)
            }
            Part::End { .. } => 4096,
            _ => 256,
        };
        let mut parts = operation.parts.iter();
        let appends = parts.any(|part| {
            matches!(
                part,
                Part::Publish { .. } | Part::Join { .. } | Part::End { .. }
            )
        });
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
            Self::accepts(&next, part, draft).map_err(|why| (operation.number, why))?;
            let got = Self::draw(&next, operation.number, index, part, draft);
            let got = got.ok_or((operation.number, "no such partition"))?;
            bases.extend(got.into_iter().map(|base| (index, base)));
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
            Ok(change) if effect.kind == change.kind() => {
                self.durable.apply(&change);
                if matches!(change, Change::Sealed { .. }) {
                    history.entries.push((lsn, self.durable.applied));
                }
            }
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

    fn is_settled(&self, id: PartitionId, offsets: Range<Offset>) -> bool {
        let mut numbers = self.durable.partitions.iter();
        let number = numbers.find(|number| partition_id(**number) == id);
        let settled = |number| {
            let (from, to) = (offsets.start.0, offsets.end.0);
            self.durable.is_settled(number, from, to)
        };
        number.copied().is_some_and(settled)
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
            (state.counters, state.open) = (chunk.counters, chunk.open);
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
        history.entries = vec![(Lsn(0), self.durable.applied)];
    }
}

fn effect(draft: &mut Draft<'_>, change: &Change) {
    let bytes = serde_json::to_vec(change).expect("numbers alone");
    draft.effect(change.kind(), &bytes);
}
