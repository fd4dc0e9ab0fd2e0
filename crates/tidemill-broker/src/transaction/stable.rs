//! How far a partition is decided, and which transactions in it were aborted, as readers see it.
//! The log's thread writes; readers keep what they looked at while it goes on.
//!
//! The order matters. Before readers see the end of a partition move over a transaction's first
//! batch, its beginning is here; that a transaction has ended and that it was aborted come here
//! together, before its control record is seen. So whoever looks at the end of a partition first
//! and then here never takes undecided or aborted records for committed ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidemill_core::{Offset, TopicId};
use tidemill_log::reader::Bounds;
use tidemill_log::{Batch, PartitionId};

use super::aborted::{Aborted, AbortedRange};
use crate::producer::ProducerId;

/// What is known of the transactions of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    /// The first offset of an open transaction.
    pub(crate) first_open: Option<Offset>,
    pub(crate) aborted: Aborted,
}

type Partitions = HashMap<PartitionId, Arc<Decided>>;

/// All partitions with something to tell.
#[derive(Debug, Default)]
pub(crate) struct Stability {
    /// Locked for a look-up.
    partitions: RwLock<Partitions>,
    /// How many partitions there are, so that the usual case of none costs nothing.
    count: AtomicUsize,
}

impl Stability {
    fn read(&self) -> RwLockReadGuard<'_, Partitions> {
        let read = self.partitions.read();
        read.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Partitions> {
        let write = self.partitions.write();
        write.unwrap_or_else(PoisonError::into_inner)
    }

    /// This is known of a partition now.
    pub(crate) fn publish(&self, id: PartitionId, decided: Decided) {
        let mut partitions = self.write();
        if decided == Decided::default() {
            partitions.remove(&id);
        } else {
            partitions.insert(id, Arc::new(decided));
        }
        self.count.store(partitions.len(), Ordering::Release);
    }

    pub(crate) fn forget_topic(&self, topic: TopicId) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut partitions = self.write();
        partitions.retain(|id, _| id.topic != topic);
        self.count.store(partitions.len(), Ordering::Release);
    }

    fn get(&self, id: PartitionId) -> Option<Arc<Decided>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.read().get(&id).cloned()
    }

    /// What may be read of a partition that reaches so far. The bounds must have been looked at
    /// before.
    pub(crate) fn stable(&self, id: PartitionId, bounds: Bounds) -> Stable {
        let decided = self.get(id).unwrap_or_default();
        let earliest = bounds.earliest.max(decided.aborted.from());
        let open = decided.first_open.unwrap_or(bounds.end);
        Stable {
            earliest,
            // Where the beginning of an open transaction was deleted, nothing that is kept is
            // decided.
            end: open.max(earliest).min(bounds.end),
            decided,
        }
    }

    /// Where what is decided ends, of a partition that ends at `end`, which must have been
    /// looked at before.
    pub(crate) fn end(&self, id: PartitionId, end: Offset) -> Offset {
        let open = self.get(id).and_then(|decided| decided.first_open);
        open.map_or(end, |first| first.min(end))
    }
}

/// What of a partition may be read by those who want only what is decided.
#[derive(Clone, Debug)]
pub(crate) struct Stable {
    /// The first offset that is kept.
    pub(crate) earliest: Offset,
    /// The last stable offset: every transaction below has ended.
    pub(crate) end: Offset,
    decided: Arc<Decided>,
}

impl Stable {
    /// The aborted transactions with something in `from..until`, by ascending ends.
    pub(crate) fn aborted(&self, from: Offset, until: Offset) -> Vec<AbortedRange> {
        self.decided.aborted.within(from, until.min(self.end))
    }

    /// For batches that were read.
    pub(crate) fn passing(&self, batches: &[Batch]) -> Passing {
        let from = batches.first().map_or(Offset(0), Batch::base_offset);
        let until = batches.last().map_or(Offset(0), Batch::next_offset);
        let aborted = self.aborted(from, until).into_iter();
        let mut aborted: Vec<_> = aborted.map(|r| (r.producer, r.first, r.last)).collect();
        aborted.sort_unstable();
        Passing {
            end: self.end,
            aborted,
        }
    }
}

/// Which batches are passed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passing {
    end: Offset,
    /// Sorted; the transactions of one producer follow each other.
    aborted: Vec<(ProducerId, Offset, Offset)>,
}

impl Passing {
    /// Whether the batch is not decided yet. One that begins below the last stable offset lies
    /// below it as a whole: transactions' batches stay as they are, and plain ones are merged
    /// among themselves.
    pub(crate) fn is_undecided(&self, batch: &Batch) -> bool {
        batch.base_offset() >= self.end
    }

    /// Whether the batch holds no records that count.
    pub(crate) fn is_passed(&self, batch: &Batch) -> bool {
        if batch.is_control() {
            return true;
        }
        let Some(producer) = batch.producer().filter(|_| batch.is_transactional()) else {
            return false;
        };
        let (producer, base) = (ProducerId(producer.id), batch.base_offset());
        let begun =
            |(of, first, _): &(ProducerId, Offset, Offset)| (*of, *first) <= (producer, base);
        let behind = self.aborted.partition_point(begun);
        let last = behind.checked_sub(1).and_then(|at| self.aborted.get(at));
        last.is_some_and(|(of, _, last)| *of == producer && base < *last)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::Partition;
    use tidemill_log::BatchBuilder;
    use tidemill_log::batch::{Marker, Producer};
    use uuid::Uuid;

    use super::*;

    const ID: PartitionId = PartitionId {
        topic: TopicId(Uuid::nil()),
        partition: Partition(3),
    };

    fn decided(first_open: Option<u64>, aborted: &[(i64, u64, u64)]) -> Decided {
        let mut decided = Decided {
            first_open: first_open.map(Offset),
            aborted: Aborted::default(),
        };
        for (producer, first, last) in aborted {
            decided.aborted.push(AbortedRange {
                producer: ProducerId(*producer),
                first: Offset(*first),
                last: Offset(*last),
                stable: Offset(0),
            });
        }
        decided
    }

    fn bounds(earliest: u64, end: u64) -> Bounds {
        Bounds {
            earliest: Offset(earliest),
            end: Offset(end),
            size_bytes: 0,
        }
    }

    #[test]
    fn what_is_decided_ends_where_a_transaction_is_open() {
        let stability = Stability::default();
        let end = |earliest, end| stability.stable(ID, bounds(earliest, end)).end.0;
        assert_eq!(end(0, 9), 9);
        stability.publish(ID, decided(Some(4), &[]));
        assert_eq!(end(0, 9), 4);
        assert_eq!(end(0, 3), 3, "an older end");
        assert_eq!(end(6, 9), 6, "its beginning was deleted");
        assert_eq!(stability.end(ID, Offset(9)), Offset(4));
        stability.publish(ID, decided(None, &[(1, 4, 8)]));
        assert_eq!(end(0, 9), 9);
        let stable = stability.stable(ID, bounds(0, 9));
        assert_eq!(stable.aborted(Offset(0), Offset(9)).len(), 1);
        let mut gone = decided(None, &[(1, 2, 3)]);
        assert!(gone.aborted.forget(Offset(5)));
        stability.publish(ID, gone);
        assert_eq!(stability.stable(ID, bounds(0, 9)).earliest, Offset(5));
        stability.forget_topic(ID.topic);
        assert_eq!(stability.stable(ID, bounds(0, 9)).earliest, Offset(0));
    }

    #[test]
    fn aborted_batches_and_markers_are_passed_and_others_of_the_same_producer_are_not() {
        let batch = |producer: i64, base: u64, transactional: bool| {
            let header = Producer {
                id: producer,
                epoch: 0,
                base_sequence: 0,
            };
            let builder = BatchBuilder::new().producer(header);
            let mut builder = if transactional {
                builder.transactional()
            } else {
                builder
            };
            builder.push(0, None, None, std::iter::empty()).unwrap();
            builder.finish().unwrap().with_base_offset(Offset(base))
        };
        let stability = Stability::default();
        let aborted = [(1, 10, 14), (2, 8, 16), (1, 18, 22)];
        stability.publish(ID, decided(Some(30), &aborted));
        let all: Vec<_> = (0..40).map(|base| batch(1, base, true)).collect();
        let passing = stability.stable(ID, bounds(0, 40)).passing(&all);
        let passed = |producer| -> Vec<u64> {
            let passed = |base: &u64| passing.is_passed(&batch(producer, *base, true));
            (0..40).filter(passed).collect()
        };
        assert_eq!(passed(1), [10, 11, 12, 13, 18, 19, 20, 21]);
        assert_eq!(passed(2), (8..16).collect::<Vec<_>>());
        assert_eq!(passed(3), Vec::<u64>::new());
        assert!(!passing.is_passed(&batch(1, 11, false)), "no transaction's");
        let marker = Marker::Commit.batch(7, 0, 0, 0);
        assert!(passing.is_passed(&marker.with_base_offset(Offset(3))));
        let undecided = all.iter().filter(|batch| passing.is_undecided(batch));
        assert_eq!(undecided.count(), 10);
    }
}
