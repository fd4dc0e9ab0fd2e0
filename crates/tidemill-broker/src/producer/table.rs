//! The producers of all partitions, as far as they are known: part of the machine's state. It
//! changes by the headers of batches that were appended, which the journal holds anyway, so
//! that no batch needs an effect beside it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::{Offset, TopicId};
use tidemill_log::batch::Marker;
use tidemill_log::{Batch, PartitionId};

use super::entry::{Entry, Offered};
use super::ids::{ProducerEpoch, ProducerId, Sequence};
use crate::machine::ProducerChange;
use crate::transaction::{Aborted, AbortedRange, Decided};

/// What a batch of a producer says by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) producer: ProducerId,
    pub(crate) what: What,
}

/// What sort of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Records.
    Records(Offered),
    /// The end of a transaction.
    Marker {
        epoch: ProducerEpoch,
        marker: Marker,
    },
}

impl Header {
    /// `None` for a batch without a producer, and for one with a sequence that cannot be.
    pub(crate) fn of(batch: &Batch) -> Option<Self> {
        let header = batch.producer()?;
        let epoch = ProducerEpoch(header.epoch);
        let what = if batch.is_control() {
            let marker = Marker::of(batch).ok()??;
            What::Marker { epoch, marker }
        } else {
            let first = Sequence::new(header.base_sequence)?;
            let more = batch.last_offset().0 - batch.base_offset().0;
            What::Records(Offered {
                epoch,
                first,
                last: first.plus(u32::try_from(more).ok()?),
                transactional: batch.is_transactional(),
            })
        };
        Some(Self {
            producer: ProducerId(header.id),
            what,
        })
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    partitions: BTreeMap<PartitionId, BTreeMap<ProducerId, Entry>>,
    /// How many entries there are, over all partitions.
    count: usize,
    /// The open transactions of a partition by their first offsets.
    open: BTreeMap<PartitionId, BTreeSet<(Offset, ProducerId)>>,
    /// The aborted ones.
    aborted: BTreeMap<PartitionId, Aborted>,
}

impl Producers {
    pub(crate) fn get(&self, partition: PartitionId, producer: ProducerId) -> Option<&Entry> {
        self.partitions.get(&partition)?.get(&producer)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The producers that are known in a partition.
    pub(crate) fn of(&self, id: PartitionId) -> impl Iterator<Item = (ProducerId, &Entry)> {
        let of = self.partitions.get(&id);
        of.into_iter().flatten().map(|(id, entry)| (*id, entry))
    }

    /// All of them and the aborted transactions, by value.
    pub(crate) fn into_changes(self) -> impl Iterator<Item = ProducerChange> {
        let aborted = self.aborted.into_iter();
        let aborted = aborted.flat_map(|(partition, aborted)| {
            let ranges = aborted.into_ranges();
            ranges.map(move |range| ProducerChange::Aborted { partition, range })
        });
        let producers = self.partitions.into_iter();
        let producers = producers.flat_map(|(partition, producers)| {
            let of = producers.into_iter();
            of.map(move |(producer, entry)| ProducerChange::State {
                producer,
                partition,
                entry,
            })
        });
        producers.chain(aborted)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartitionId, ProducerId, &Entry)> {
        self.partitions.iter().flat_map(|(partition, producers)| {
            let of = producers.iter();
            of.map(|(producer, entry)| (*partition, *producer, entry))
        })
    }

    /// What is known of the transactions of a partition.
    pub(crate) fn decided(&self, id: PartitionId) -> Decided {
        Decided {
            first_open: self.first_open(id),
            aborted: self.aborted.get(&id).cloned().unwrap_or_default(),
        }
    }

    /// The partitions of which there is something to tell to readers.
    pub(crate) fn with_transactions(&self) -> BTreeSet<PartitionId> {
        self.open
            .keys()
            .chain(self.aborted.keys())
            .copied()
            .collect()
    }

    /// The first offset of an open transaction: what lies below is decided.
    pub(crate) fn first_open(&self, id: PartitionId) -> Option<Offset> {
        self.open.get(&id)?.first().map(|(first, _)| *first)
    }

    /// How many transactions are open in a partition.
    pub(crate) fn open_count(&self, id: PartitionId) -> usize {
        self.open.get(&id).map_or(0, BTreeSet::len)
    }

    /// How many aborted transactions of a partition are remembered.
    pub(crate) fn aborted_count(&self, id: PartitionId) -> usize {
        self.aborted.get(&id).map_or(0, Aborted::len)
    }

    /// Takes an aborted transaction out of a snapshot.
    pub(crate) fn add_aborted(&mut self, id: PartitionId, range: AbortedRange) {
        self.aborted.entry(id).or_default().push(range);
    }

    /// Forgets the aborted transactions that ended below the first offset that is kept. Answers
    /// whether there were any.
    pub(crate) fn forget_aborted(&mut self, id: PartitionId, below: Offset) -> bool {
        let aborted = self.aborted.get_mut(&id);
        aborted.is_some_and(|aborted| aborted.forget(below))
    }

    /// A batch of a producer was appended at this base offset. Answers whether a transaction
    /// began or ended with it.
    pub(crate) fn appended(
        &mut self,
        partition: PartitionId,
        header: Header,
        base: Offset,
    ) -> bool {
        let producers = self.partitions.entry(partition).or_default();
        let entry = producers.entry(header.producer).or_insert_with(|| {
            self.count += 1;
            Entry::default()
        });
        let before = entry.open;
        match header.what {
            What::Records(offered) => {
                entry.wrote(offered, base);
                let begun = entry.open.filter(|_| before.is_none());
                if let Some(first) = begun {
                    let open = self.open.entry(partition).or_default();
                    open.insert((first, header.producer));
                }
                begun.is_some()
            }
            What::Marker { epoch, marker } => {
                let Some(first) = entry.ended(epoch) else {
                    return false;
                };
                self.closed(partition, header.producer, first);
                if marker == Marker::Abort {
                    let range = AbortedRange {
                        producer: header.producer,
                        first,
                        last: base,
                        stable: self.first_open(partition).unwrap_or(base.next()),
                    };
                    self.add_aborted(partition, range);
                }
                true
            }
        }
    }

    fn closed(&mut self, partition: PartitionId, producer: ProducerId, first: Offset) {
        if let Some(open) = self.open.get_mut(&partition) {
            open.remove(&(first, producer));
            if open.is_empty() {
                self.open.remove(&partition);
            }
        }
    }

    /// Takes an entry out of a snapshot.
    pub(crate) fn set(&mut self, partition: PartitionId, producer: ProducerId, entry: Entry) {
        self.forget(partition, producer);
        if let Some(first) = entry.open {
            let open = self.open.entry(partition).or_default();
            open.insert((first, producer));
        }
        let producers = self.partitions.entry(partition).or_default();
        producers.insert(producer, entry);
        self.count += 1;
    }

    /// Nothing is known of the producer in this partition any longer.
    pub(crate) fn forget(&mut self, partition: PartitionId, producer: ProducerId) {
        let Some(producers) = self.partitions.get_mut(&partition) else {
            return;
        };
        let gone = producers.remove(&producer);
        if producers.is_empty() {
            self.partitions.remove(&partition);
        }
        self.count -= usize::from(gone.is_some());
        if let Some(first) = gone.and_then(|entry| entry.open) {
            self.closed(partition, producer, first);
        }
    }

    /// The topic is gone.
    pub(crate) fn forget_topic(&mut self, topic: TopicId) {
        let of = |id: &PartitionId| id.topic == topic;
        self.open.retain(|id, _| !of(id));
        self.aborted.retain(|id, _| !of(id));
        let gone = self.partitions.extract_if(.., |id, _| of(id));
        self.count -= gone.map(|(_, producers)| producers.len()).sum::<usize>();
    }
}
