//! Writing a prepared record batch, and who writes to a partition.

use std::sync::atomic::Ordering;

use serde::Serialize;
use tidemill_core::error::Unavailable;
use tidemill_core::{Offset, Partition, TopicId, TopicName};
use tidemill_log::{Batch, PartitionId};

use super::batch::ProducerBatch;
use super::error::ProducerError;
use super::ids::{ProducerEpoch, ProducerId, Sequence};
use crate::broker::{Broker, Inner};
use crate::limits::REROUTES_MAX;
use crate::machine::{Append, Client, Operation, Receipt, Topic};
use crate::metrics::add;
use crate::transaction::Begins;

/// A prepared record batch and where it goes.
#[derive(Clone, Debug)]
pub struct Produce {
    /// The topic; it must be there.
    pub topic: TopicName,
    /// The part of it.
    pub partition: Partition,
    /// The records. Base offset and leader epoch are the broker's to set.
    pub batch: ProducerBatch,
    /// Whether a transactional batch begins a transaction where none is open.
    pub begins: Begins,
}

/// A producer as a partition knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProducerInfo {
    /// Its id.
    pub producer: ProducerId,
    /// Its newest epoch here.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record of this epoch.
    pub last_sequence: Option<Sequence>,
    /// The first offset of its last batch of this epoch.
    #[serde(skip)]
    pub last_offset: Option<Offset>,
    /// Where its open transaction begins here.
    pub transaction_start: Option<Offset>,
}

/// When a batch was kept.
#[derive(Clone, Copy)]
enum Kept {
    Now,
    /// It was sent again.
    Before,
}

impl Broker {
    /// Appends a prepared batch, and answers the offset of its first record when it is durable.
    ///
    /// Where the batch has a producer id, its sequence is checked: it must follow the one
    /// before; one of the last five batches sent again is answered with the offset that it has.
    /// A producer of which nothing is known in the partition may begin with any sequence, as
    /// Apache Kafka has it.
    ///
    /// # Errors
    /// [`ProducerError`].
    pub async fn produce(&self, produce: Produce) -> Result<Offset, ProducerError> {
        self.produce_where(produce, |_| true).await
    }

    /// As [`Broker::produce`], to the topic with this identity alone: one that was made anew
    /// under the name is another.
    ///
    /// # Errors
    /// [`ProducerError`].
    pub async fn produce_to(&self, id: TopicId, produce: Produce) -> Result<Offset, ProducerError> {
        self.produce_where(produce, |route| route == id).await
    }

    async fn produce_where(
        &self,
        produce: Produce,
        is_meant: impl Fn(TopicId) -> bool,
    ) -> Result<Offset, ProducerError> {
        let inner = &self.inner;
        let Produce {
            topic,
            partition,
            batch,
            begins,
        } = produce;
        let batch = batch.into_batch();
        check(inner, &batch)?;
        let (records, bytes) = (batch.record_count(), batch.size_bytes());
        let producer = batch.producer();
        let client = producer.map_or(self.client, |producer| Client::Producer(producer.id));
        let mut tries = 1;
        let produced = loop {
            let route = inner.topic_with(&topic, partition)?;
            if !is_meant(route.id) {
                return Err(ProducerError::UnknownTopic(topic));
            }
            let append = Append {
                topic: topic.clone(),
                client,
                route,
                create: false,
                batches: vec![(partition, batch.clone())],
            };
            let operation = match begins {
                Begins::Yes => Operation::Publish(append),
                Begins::No => Operation::PublishAdded(append),
            };
            match inner.produce_one(operation).await {
                // It has got more partitions, and this one stays where it is.
                Err(ProducerError::Changed(_)) if tries < REROUTES_MAX => tries += 1,
                produced => break produced,
            }
        };
        let counters = &inner.counters;
        match &produced {
            Ok((_, Kept::Now)) => {
                add(&counters.published_events, records as usize);
                add(&counters.published_bytes, bytes);
            }
            Ok((_, Kept::Before)) => add(&counters.repeated_events, records as usize),
            // Whoever is told so comes again with the same batch.
            Err(ProducerError::Unavailable(Unavailable::Overloaded)) => {}
            Err(_) => add(&counters.publish_errors, 1),
        }
        produced.map(|(base, _)| base)
    }

    /// The producers that a partition knows, by their ids.
    ///
    /// # Errors
    /// [`ProducerError::UnknownTopic`] and [`ProducerError::UnknownPartition`].
    pub fn producers(
        &self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<Vec<ProducerInfo>, ProducerError> {
        let id = self.inner.topic_with(topic, partition)?.id;
        let id = PartitionId {
            topic: id,
            partition,
        };
        let state = self.inner.durable.state();
        let infos = state
            .producers
            .of(id)
            .map(|(producer, entry)| ProducerInfo {
                producer,
                epoch: entry.epoch,
                last_sequence: entry.written.last().map(|written| written.last),
                last_offset: entry.written.last().map(|written| written.base),
                transaction_start: entry.open,
            });
        Ok(infos.collect())
    }
}

impl Inner {
    /// The topic, if it has this partition.
    pub(crate) fn topic_with(
        &self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<Topic, ProducerError> {
        let found = self.durable.catalog().topic(topic);
        let found = found.ok_or_else(|| ProducerError::UnknownTopic(topic.clone()))?;
        if partition.0 < found.partitions {
            return Ok(found);
        }
        Err(ProducerError::UnknownPartition {
            topic: topic.clone(),
            partition,
            count: found.partitions,
        })
    }

    async fn produce_one(&self, operation: Operation) -> Result<(Offset, Kept), ProducerError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Unavailable::Closed.into());
        }
        let receipt = self.submit(operation).await?;
        let (bases, kept) = match receipt {
            Receipt::Appended(bases) => (bases.into_iter().next().unwrap_or_default(), Kept::Now),
            Receipt::Repeated(bases) => (bases, Kept::Before),
            _ => (Vec::new(), Kept::Now),
        };
        let base = bases.first().copied();
        Ok((base.expect("one batch has one base offset"), kept))
    }
}

/// What the header of a producer's batch must keep beside what its type promises.
fn check(inner: &Inner, batch: &Batch) -> Result<(), ProducerError> {
    let wrong = |why| Err(ProducerError::InvalidBatch(why));
    let Some(producer) = batch.producer() else {
        return match batch.is_transactional() {
            true => wrong("a transaction needs a producer id"),
            false => Ok(()),
        };
    };
    if producer.epoch < 0 || producer.base_sequence < 0 {
        return wrong("a producer's batch needs an epoch and a sequence");
    }
    let id = ProducerId(producer.id);
    match inner.producer_ids.knows(id) {
        true => Ok(()),
        false => Err(ProducerError::UnknownProducer(id)),
    }
}
