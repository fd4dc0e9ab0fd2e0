//! The broker as the log's [`Machine`]: gives the journal its meaning.
//!
//! Seal decides on the sealed state, so that a second settlement is refused while the first is
//! still being synced; apply changes the durable state, which readers see. Pure: no clock, no
//! randomness, no tokio; ids come in with the operations. It may not know members, tickets or
//! deliveries: those end with the process, and belong to `group`.

mod commit_effect;
mod effect;
#[cfg(test)]
mod effect_tests;
mod heard;
mod mark_effect;
#[cfg(test)]
mod mark_tests;
mod operation;
mod producer_effect;
#[cfg(test)]
mod queue_tests;
mod seal;
mod seal_commit;
mod seal_mark;
mod seal_producer;
mod seal_queue;
mod seal_topic;
mod seal_transaction;
mod state;
#[cfg(test)]
mod tests;
mod transaction_effect;
#[cfg(test)]
mod transaction_tests;

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidemill_core::{Offset, varint};
use tidemill_log::{Batch, Demand, Draft, Dump, Effect, LoadError, Lsn, Machine, Now, PartitionId};

pub(crate) use self::commit_effect::CommitChange;
pub use self::commit_effect::CommitNote;
pub use self::operation::SeekTo;
pub(crate) use self::operation::{
    Append, Client, CommitOffset, JoinTopic, Marked, Marks, Operation, Positions, Receipt, Refusal,
    Settled,
};
pub use self::state::GroupKind;
pub(crate) use self::state::{GroupId, GroupState, State, Topic};

pub(crate) use self::effect::Change;
use self::heard::Heard;
pub(crate) use self::mark_effect::{Mark, MarkChange};
pub(crate) use self::producer_effect::ProducerChange;
pub(crate) use self::transaction_effect::TransactionChange;
use crate::catalog::Catalog;
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::producer::Header;
use crate::transaction::{Alarm, Stability};

/// The durable state as the rest of the broker reads it.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    /// Everything, for the rare questions about groups. The log's thread takes this lock for
    /// each effect; whoever else does keeps it no longer than a copy of one group takes.
    state: Mutex<State>,
    /// The topics alone, replaced when one comes or goes: every publish and fetch reads it, so
    /// nobody waits for it.
    catalog: ArcSwap<Catalog>,
    /// How far each partition may be read.
    pub(crate) stability: Stability,
    /// How many times a topic has got more partitions; counted once the catalog knows it.
    growths: AtomicU64,
    /// Rung when a transaction begins.
    pub(crate) alarm: Arc<Alarm>,
}

impl Durable {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed in a way that a restart would not have.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// How many times topics have got more partitions since the opening.
    pub(crate) fn growths(&self) -> u64 {
        self.growths.load(Ordering::Acquire)
    }

    fn publish_catalog(&self) {
        let catalog = Catalog::of(&self.state());
        self.catalog.store(Arc::new(catalog));
    }
}

/// What recovery ends with when the journal has an effect that this version does not know.
#[derive(Debug)]
pub(crate) struct UnknownEffect {
    pub(crate) lsn: Lsn,
    pub(crate) why: String,
}

/// The machine that the log drives.
#[derive(Debug)]
pub(crate) struct BrokerMachine {
    sealed: State,
    durable: Arc<Durable>,
    /// When producers were last heard of, and when they are forgotten.
    heard: Heard,
    /// Recovery has ended: the catalog is kept up to date from now on.
    live: bool,
}

impl BrokerMachine {
    /// An empty machine and the durable state that it will show.
    pub(crate) fn new() -> (Self, Arc<Durable>) {
        let durable = Arc::new(Durable::default());
        let machine = Self {
            sealed: State::default(),
            durable: Arc::clone(&durable),
            heard: Heard::default(),
            live: false,
        };
        (machine, durable)
    }

    /// Forgets producers after this time without a batch.
    pub(crate) fn with_producer_expiration(mut self, after: Duration) -> Self {
        self.heard.expiration = after;
        self
    }

    fn apply_durable(&self, change: Change) {
        let topics = matches!(
            change,
            Change::TopicCreated { .. } | Change::TopicDeleted { .. } | Change::QueueSet { .. }
        );
        if !self.live {
            self.durable.state().apply(change);
            return;
        }
        let grows = match &change {
            Change::TopicCreated { name, .. } => self.durable.catalog().topic(name).is_some(),
            _ => false,
        };
        match &change {
            Change::TopicDeleted { id } => self.durable.stability.forget_topic(*id),
            Change::Transaction(TransactionChange::State { head, .. }) if head.is_open() => {
                self.durable.alarm.ring();
            }
            _ => {}
        }
        self.durable.state().apply(change);
        if topics {
            self.durable.publish_catalog();
        }
        if grows {
            self.durable.growths.fetch_add(1, Ordering::Release);
        }
    }

    /// Shows readers what is known of a partition's transactions.
    fn publish_decided(&self, id: PartitionId) {
        let decided = self.durable.state().producers.decided(id);
        self.durable.stability.publish(id, decided);
    }
}

impl Machine for BrokerMachine {
    type Operation = Operation;
    type Receipt = Receipt;
    type Refusal = Refusal;

    fn demand(operation: &Operation) -> Demand {
        seal::demand(operation)
    }

    fn seal(
        &mut self,
        operation: Operation,
        now: Now,
        draft: &mut Draft<'_>,
    ) -> Result<Receipt, Refusal> {
        seal::seal(&mut self.sealed, &mut self.heard, now, operation, draft)
    }

    fn appended(&mut self, _: Lsn, id: PartitionId, batch: &Batch) {
        if let Some(header) = Header::of(batch) {
            let base = batch.base_offset();
            let changed = self.durable.state().producers.appended(id, header, base);
            if changed && self.live {
                self.publish_decided(id);
            }
        }
    }

    fn apply(&mut self, lsn: Lsn, effect: Effect<'_>) {
        match Change::decode(effect.kind, effect.bytes) {
            Ok(change) => self.apply_durable(change),
            // The journal's checksum held, so this is an effect of another version. Going on
            // without it would lose it; whoever opens the log catches this.
            Err(why) => resume_unwind(Box::new(UnknownEffect { lsn, why })),
        }
    }

    fn trimmed(&mut self, _: Lsn, id: PartitionId, earliest: Offset) {
        let forgot = self.durable.state().producers.forget_aborted(id, earliest);
        if forgot && self.live {
            self.sealed.producers.forget_aborted(id, earliest);
            self.publish_decided(id);
        }
    }

    fn is_settled(&self, id: PartitionId, offsets: Range<Offset>) -> bool {
        let state = self.durable.state();
        let cursor = state.queue_cursor(id);
        cursor.is_some_and(|cursor| cursor.next_unsettled(offsets.start) >= offsets.end)
    }

    fn dump(&self) -> Dump {
        let state = self.durable.state().clone();
        Box::new(Chunks {
            changes: state.into_changes(),
        })
    }

    fn load(&mut self, chunk: &[u8]) -> Result<(), LoadError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (change, after) = take_change(rest).map_err(LoadError)?;
            self.apply_durable(change);
            rest = after;
        }
        Ok(())
    }

    fn recovered(&mut self) {
        self.sealed = self.durable.state().clone();
        self.heard.begin(&self.sealed);
        self.live = true;
        for id in self.sealed.producers.with_transactions() {
            self.publish_decided(id);
        }
        self.durable.publish_catalog();
    }
}

/// The chunks of a snapshot: changes that make the state out of an empty one, each as its kind,
/// its length (varints) and its bytes.
struct Chunks<I> {
    changes: I,
}

impl<I: Iterator<Item = Change>> Iterator for Chunks<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Vec::new();
        let mut bytes = Vec::new();
        while chunk.len() < SNAPSHOT_CHUNK_BYTES
            && let Some(change) = self.changes.next()
        {
            bytes.clear();
            let kind = change.encode(&mut bytes);
            varint::put(&mut chunk, u64::from(kind));
            varint::put(&mut chunk, bytes.len() as u64);
            chunk.extend_from_slice(&bytes);
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Takes the first change of a snapshot's chunk; answers it with what follows.
pub(crate) fn take_change(chunk: &[u8]) -> Result<(Change, &[u8]), String> {
    let short = || String::from("a change ends too early");
    let (kind, rest) = varint::take(chunk).ok_or_else(short)?;
    let (length, rest) = varint::take(rest).ok_or_else(short)?;
    let length = usize::try_from(length).map_err(|_| short())?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    let kind = u16::try_from(kind).map_err(|_| format!("the kind {kind} is unknown"))?;
    Ok((Change::decode(kind, bytes)?, rest))
}
