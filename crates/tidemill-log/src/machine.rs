//! The seam to whoever gives the log its meaning: the log knows bytes and partitions, a
//! [`Machine`] decides what goes into them and keeps state beside them.
//!
//! This room may not know topics' names, groups, events, or what an effect says.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tidemill_core::{Offset, Partition, TopicId};

use crate::batch::Batch;
use crate::draft::Draft;

/// The number of a journal entry, ascending by one. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The number of the entry after this one.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, for good: a topic's id is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// Its part.
    pub partition: Partition,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What time it is, for both purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For dates; may jump.
    pub wall: Timestamp,
    /// For waiting: the time since the driver began; never goes back.
    pub monotonic: Duration,
}

/// What one operation will need of the journal, asked before it is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// An upper bound of what the operation's entry has, in bytes: the batches' sizes, the
    /// effects' sizes, and 64 for each of them. Too low a bound can turn a full disk into a
    /// failed log.
    pub bytes: usize,
    /// Bytes of records that it brings along, an upper bound: so much memory it has, where it
    /// waits and in the tails.
    pub records: usize,
    /// Whether it appends records. Those that do not are still taken from a reserve of space
    /// when the others are refused.
    pub appends: bool,
    /// Operations of one lane keep their order; lanes take turns by bytes where much waits. What
    /// belongs to nobody in particular has lane 0.
    pub lane: u64,
}

/// One absolute change of the machine's state, as the journal holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect<'a> {
    /// What sort of change, numbered by the machine; see `FORMAT.md`.
    pub kind: u16,
    /// The change.
    pub bytes: &'a [u8],
}

/// Gives the log its meaning. It holds its state twice: *sealed* (everything that was decided,
/// durable or not; [`Machine::seal`] reads and writes it) and *durable* (what
/// [`Machine::apply`] was told; readers see it and snapshots hold it).
///
/// It is pure: no clock, no randomness, no input or output of its own.
pub trait Machine: Send + 'static {
    /// What is asked of it.
    type Operation: Send + 'static;
    /// The answer when an operation is durable.
    type Receipt: Send + 'static;
    /// The answer when an operation is not to be done.
    type Refusal: Send + 'static;

    /// What the operation will need at most. Also counts for the bounds on what waits.
    fn demand(operation: &Self::Operation) -> Demand;

    /// Decides. Changes the sealed state only where it answers `Ok`. All that the draft got is
    /// one journal entry with one LSN: it happens whole or not at all. On `Err` the draft is
    /// forgotten. An `Ok` without anything in the draft makes no entry; its receipt, too, is
    /// handed out once everything sealed before is durable.
    ///
    /// # Errors
    /// The machine's own reasons. They are handed out once everything sealed before is
    /// durable.
    fn seal(
        &mut self,
        operation: Self::Operation,
        now: Now,
        draft: &mut Draft<'_>,
    ) -> Result<Self::Receipt, Self::Refusal>;

    /// An effect is durable (in LSN order, before the receipts of its group are handed out), or
    /// is replayed at recovery. Effects are absolute: applying one twice is applying it once.
    fn apply(&mut self, lsn: Lsn, effect: Effect<'_>);

    /// Records are durable (before the effects and records that follow them in their entry, and
    /// before readers see them), or are replayed at recovery. The batch has its final base
    /// offset. For state that follows from the headers of batches and needs no effect of its
    /// own: like an effect it is only taken in, nothing is decided.
    fn appended(&mut self, lsn: Lsn, id: PartitionId, batch: &Batch) {
        let _ = (lsn, id, batch);
    }

    /// The records of a partition below `earliest` were deleted, which is durable (in LSN order,
    /// before readers see it), or is replayed at recovery. For state that goes with its records;
    /// nothing is decided by it.
    fn trimmed(&mut self, lsn: Lsn, id: PartitionId, earliest: Offset) {
        let _ = (lsn, id, earliest);
    }

    /// Whether every one of these offsets is settled, durably: nobody will ever ask for them
    /// again. Asked for the segments of partitions with [`crate::Cleanup::Settled`], again and
    /// again, so it should be quick.
    fn is_settled(&self, id: PartitionId, offsets: Range<Offset>) -> bool {
        let _ = (id, offsets);
        false
    }

    /// The durable state as it is now, to be taken chunk by chunk while more is applied: what
    /// comes out of the answer does not follow that. Commits wait for this call and for each
    /// chunk, so both should be quick, and a chunk should have less than 1 MiB; it has at most
    /// [`crate::limits::SNAPSHOT_CHUNK_MAX_BYTES`].
    fn dump(&self) -> Dump;

    /// Takes one chunk back, in the order in which they were dumped.
    ///
    /// # Errors
    /// [`LoadError`] where the chunk is not one of this machine's.
    fn load(&mut self, chunk: &[u8]) -> Result<(), LoadError>;

    /// Recovery has ended: the sealed state begins as a copy of the durable one.
    fn recovered(&mut self);
}

/// The chunks of a machine's state at one moment.
pub type Dump = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// A snapshot's chunk that its machine does not know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the machine cannot read its snapshot: {0}")]
pub struct LoadError(pub String);
