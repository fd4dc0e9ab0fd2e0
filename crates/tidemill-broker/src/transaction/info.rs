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
    /// The transactional producers, sorted by their ids.
    #[must_use]
    pub fn transactions(&self) -> Vec<TransactionInfo> {
        let catalog = self.inner.durable.catalog();
        let state = self.inner.durable.state();
        let all = state.transactions.iter();
        all.map(|(id, one)| info(id, one, &state, &catalog))
            .collect()
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

fn info(
    id: &TransactionalId,
    transaction: &Transaction,
    state: &State,
    catalog: &Catalog,
) -> TransactionInfo {
    let head = transaction.head;
    let open = head.status == TransactionStatus::Ongoing;
    let started = Timestamp::from_millisecond(head.started_ms).ok();
    let started = started.filter(|_| open);
    let age = started.map(|at| Timestamp::now().duration_since(at));
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
        age: age.map(|age| Duration::try_from(age).unwrap_or_default()),
        partitions,
        groups,
    }
}
