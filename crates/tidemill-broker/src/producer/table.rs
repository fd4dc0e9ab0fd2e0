//! The producers of all partitions, as far as they are known: part of the machine's state. It
//! changes by the headers of batches that were appended, which the journal holds anyway, so
//! that no batch needs an effect beside it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::{Offset, TopicId};
use tidemill_log::batch::Marker;
use tidemill_log::{Batch, PartitionId};

use super::entry::{Entry, Offered};
use super::ids::{ProducerEpoch, ProducerId, Sequence};

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

/// A transaction has ended in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Where it had begun.
    pub(crate) first: Offset,
    pub(crate) marker: Marker,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    partitions: BTreeMap<PartitionId, BTreeMap<ProducerId, Entry>>,
    /// How many entries there are, over all partitions.
    count: usize,
    /// The open transactions of a partition by their first offsets.
    open: BTreeMap<PartitionId, BTreeSet<(Offset, ProducerId)>>,
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

    /// All of them, by value.
    pub(crate) fn into_all(self) -> impl Iterator<Item = (PartitionId, ProducerId, Entry)> {
        self.partitions
            .into_iter()
            .flat_map(|(partition, producers)| {
                let of = producers.into_iter();
                of.map(move |(producer, entry)| (partition, producer, entry))
            })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartitionId, ProducerId, &Entry)> {
        self.partitions.iter().flat_map(|(partition, producers)| {
            let of = producers.iter();
            of.map(|(producer, entry)| (*partition, *producer, entry))
        })
    }

    /// A batch of a producer was appended at this base offset.
    pub(crate) fn appended(
        &mut self,
        partition: PartitionId,
        header: Header,
        base: Offset,
    ) -> Option<Ended> {
        let producers = self.partitions.entry(partition).or_default();
        let entry = producers.entry(header.producer).or_insert_with(|| {
            self.count += 1;
            Entry::default()
        });
        let before = entry.open;
        match header.what {
            What::Records(offered) => {
                entry.wrote(offered, base);
                if let Some(first) = entry.open.filter(|_| before.is_none()) {
                    let open = self.open.entry(partition).or_default();
                    open.insert((first, header.producer));
                }
                None
            }
            What::Marker { epoch, marker } => {
                let first = entry.ended(epoch)?;
                self.closed(partition, header.producer, first);
                Some(Ended { first, marker })
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
        let gone = self.partitions.extract_if(.., |id, _| of(id));
        self.count -= gone.map(|(_, producers)| producers.len()).sum::<usize>();
    }
}
