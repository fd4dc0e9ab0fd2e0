//! What the broker tells about transactions, so that one that hangs is seen.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tidemill_core::{GroupName, Offset, Partition, TopicName};

use super::id::TransactionalId;
use super::state::{Transaction, TransactionStatus};
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::machine::State;
use crate::producer::{ProducerEpoch, ProducerId};

/// A transactional producer and its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TransactionInfo {
    /// Its transactional id.
    pub id: TransactionalId,
    /// The producer who has it.
    pub producer: ProducerId,
    /// That one's epoch.
    pub epoch: ProducerEpoch,
    /// How far it is.
    pub status: TransactionStatus,
    /// How long a transaction may be open.
    pub timeout: Duration,
    /// When the open transaction began.
    pub started: Option<Timestamp>,
    /// How long it has been open, by the wall clock.
    pub age: Option<Duration>,
    /// Where it writes, sorted.
    pub partitions: Vec<TransactionPartition>,
    /// The groups whose positions it is to set, sorted.
    pub groups: Vec<GroupName>,
}

/// A transactional producer, without what its transaction holds: of a bounded size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSummary {
    /// Its transactional id.
    pub id: TransactionalId,
    /// The producer who has it.
    pub producer: ProducerId,
    /// That one's epoch.
    pub epoch: ProducerEpoch,
    /// How far it is.
    pub status: TransactionStatus,
    /// How long the open transaction has been, by the wall clock.
    pub age: Option<Duration>,
}

/// A partition that a transaction writes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TransactionPartition {
    /// The topic.
    pub topic: TopicName,
    /// The part of it.
    pub partition: Partition,
    /// Its first offset there; `None` where it was added and nothing was written yet.
    pub start: Option<Offset>,
}

impl Broker {
    /// The transactional producers behind one, or all, so many at most, sorted by their ids. What
    /// one of them holds, [`Broker::transaction`] says.
    #[must_use]
    pub fn transactions(
        &self,
        after: Option<&TransactionalId>,
        most: usize,
    ) -> Vec<TransactionSummary> {
        let state = self.inner.durable.state();
        let page = state.transactions.after(after).take(most);
        let summary = |(id, one): (&TransactionalId, &Transaction)| TransactionSummary {
            id: id.clone(),
            producer: one.head.identity.id,
            epoch: one.head.identity.epoch,
            status: one.head.status,
            age: open_since(one).and_then(age),
        };
        page.map(summary).collect()
    }

    /// One transactional producer.
    #[must_use]
    pub fn transaction(&self, id: &TransactionalId) -> Option<TransactionInfo> {
        let catalog = self.inner.durable.catalog();
        let state = self.inner.durable.state();
        let one = state.transactions.get(id)?;
        Some(info(id, one, &state, &catalog))
    }
}

/// When an open transaction began.
fn open_since(transaction: &Transaction) -> Option<Timestamp> {
    let head = transaction.head;
    let started = Timestamp::from_millisecond(head.started_ms).ok();
    started.filter(|_| head.status == TransactionStatus::Ongoing)
}

fn age(since: Timestamp) -> Option<Duration> {
    let age = Timestamp::now().duration_since(since);
    Some(Duration::try_from(age).unwrap_or_default())
}

fn info(
    id: &TransactionalId,
    transaction: &Transaction,
    state: &State,
    catalog: &Catalog,
) -> TransactionInfo {
    let head = transaction.head;
    let started = open_since(transaction);
    let partitions = transaction.partitions.iter().filter_map(|partition| {
        let entry = state.producers.get(*partition, head.identity.id);
        Some(TransactionPartition {
            topic: catalog.name(partition.topic)?.clone(),
            partition: partition.partition,
            start: entry.and_then(|entry| entry.open),
        })
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_unstable();
    let groups = transaction.offsets.keys();
    let groups = groups.filter_map(|(group, _)| Some(state.group(*group)?.name.clone()));
    let mut groups: Vec<_> = groups.collect();
    groups.sort_unstable();
    groups.dedup();
    TransactionInfo {
        id: id.clone(),
        producer: head.identity.id,
        epoch: head.identity.epoch,
        status: head.status,
        timeout: head.timeout,
        started,
        age: started.and_then(age),
        partitions,
        groups,
    }
}
