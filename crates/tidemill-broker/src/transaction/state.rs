//! Transactional producers and what their transactions hold: part of the machine's state. Where
//! a transaction begins in a partition is not here: it follows from its batches. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tidemill_core::{Offset, Partition, TopicId};
use tidemill_log::PartitionId;
use uuid::Uuid;

use super::id::TransactionalId;
use crate::machine::{CommitNote, GroupId, TransactionChange};
use crate::producer::{ProducerId, ProducerIdentity};

/// How far a transactional producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStatus {
    /// It has begun none yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The last one was committed.
    Committed,
    /// The last one was aborted.
    Aborted,
}

impl TransactionStatus {
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::Committed => 2,
            Self::Aborted => 3,
        }
    }

    pub(crate) fn from_number(number: u64) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Empty),
            1 => Ok(Self::Ongoing),
            2 => Ok(Self::Committed),
            3 => Ok(Self::Aborted),
            _ => Err(format!("the transaction status {number} is unknown")),
        }
    }
}

/// A transactional producer, without what its transaction holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) identity: ProducerIdentity,
    /// Who it was before, where that one may ask again for what made it this one.
    pub(crate) previous: Option<ProducerIdentity>,
    /// How long a transaction may be open.
    pub(crate) timeout: Duration,
    pub(crate) status: TransactionStatus,
    /// When the transaction began, in milliseconds since 1970; for people.
    pub(crate) started_ms: i64,
}

impl Head {
    /// Whether a transaction is open.
    pub(crate) fn is_open(&self) -> bool {
        self.status == TransactionStatus::Ongoing
    }
}

/// A position that a group gets when the transaction is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) offset: Offset,
    /// What a client keeps beside it, where it may.
    pub(crate) note: Option<CommitNote>,
}

/// A transactional producer and what its open transaction holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) head: Head,
    /// Where it writes.
    pub(crate) partitions: BTreeSet<PartitionId>,
    /// Positions of groups that are set when it is committed.
    pub(crate) offsets: BTreeMap<(GroupId, PartitionId), Given>,
}

impl Transaction {
    /// How many partitions and positions it holds.
    fn held(&self) -> usize {
        self.partitions.len() + self.offsets.len()
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// Copied one by one when they change, so that a clone of the state is quick.
    ids: BTreeMap<TransactionalId, Arc<Transaction>>,
    owners: HashMap<ProducerId, TransactionalId>,
    /// How many are open.
    open: usize,
    /// How many partitions and positions the open ones hold.
    held: usize,
}

impl Transactions {
    pub(crate) fn get(&self, id: &TransactionalId) -> Option<&Transaction> {
        self.ids.get(id).map(Arc::as_ref)
    }

    /// Whose producer id this is.
    pub(crate) fn owner(&self, producer: ProducerId) -> Option<(&TransactionalId, &Transaction)> {
        let (id, of) = self.ids.get_key_value(self.owners.get(&producer)?)?;
        Some((id, of))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TransactionalId, &Transaction)> {
        self.ids.iter().map(|(id, of)| (id, of.as_ref()))
    }

    /// Those behind an id, or all, in the order of their ids.
    pub(crate) fn after(
        &self,
        id: Option<&TransactionalId>,
    ) -> impl Iterator<Item = (&TransactionalId, &Transaction)> {
        let first = id.map_or(Bound::Unbounded, Bound::Excluded);
        let there = self
            .ids
            .range::<TransactionalId, _>((first, Bound::Unbounded));
        there.map(|(id, of)| (id, of.as_ref()))
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many transactions are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// How many partitions and positions the open ones hold together.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The partitions in which a group is to get a position, over all open transactions.
    pub(crate) fn positions_of(
        &self,
        group: GroupId,
    ) -> impl Iterator<Item = PartitionId> + use<'_> {
        self.given_to(group).map(|(partition, _)| partition)
    }

    /// The positions that a group is to get, over all open transactions.
    pub(crate) fn given_to(
        &self,
        group: GroupId,
    ) -> impl Iterator<Item = (PartitionId, &Given)> + use<'_> {
        let first = PartitionId {
            topic: TopicId(Uuid::nil()),
            partition: Partition(0),
        };
        let open = self.ids.values().filter(|of| !of.offsets.is_empty());
        open.flat_map(move |of| {
            let of_group = of.offsets.range((group, first)..);
            let of_group = of_group.take_while(move |((id, _), _)| *id == group);
            of_group.map(|((_, partition), given)| (*partition, given))
        })
    }

    /// Changes the transaction of this producer, and keeps what is counted.
    fn change(&mut self, id: &TransactionalId, change: impl FnOnce(&mut Transaction)) {
        let Some(of) = self.ids.get_mut(id) else {
            return;
        };
        let of = Arc::make_mut(of);
        self.held -= of.held();
        self.open -= usize::from(of.head.is_open());
        change(of);
        self.held += of.held();
        self.open += usize::from(of.head.is_open());
    }

    fn change_owned(&mut self, producer: ProducerId, change: impl FnOnce(&mut Transaction)) {
        if let Some(id) = self.owners.get(&producer).cloned() {
            self.change(&id, change);
        }
    }

    /// The producer is exactly this. One without an open transaction holds nothing.
    pub(crate) fn set(&mut self, id: TransactionalId, head: Head) {
        let empty = || Transaction {
            head: Head {
                status: TransactionStatus::Empty,
                ..head
            },
            partitions: BTreeSet::new(),
            offsets: BTreeMap::new(),
        };
        let have = self.ids.entry(id.clone());
        let have = have.or_insert_with(|| Arc::new(empty()));
        self.owners.remove(&have.head.identity.id);
        self.owners.insert(head.identity.id, id.clone());
        self.change(&id, |have| {
            have.head = head;
            if !head.is_open() {
                have.partitions.clear();
                have.offsets.clear();
            }
        });
    }

    /// The open transaction of this producer writes to a partition.
    pub(crate) fn join(&mut self, producer: ProducerId, partition: PartitionId) {
        self.change_owned(producer, |of| {
            of.partitions.insert(partition);
        });
    }

    /// The open transaction of this producer is to set a group's position.
    pub(crate) fn offset(
        &mut self,
        producer: ProducerId,
        group: GroupId,
        partition: PartitionId,
        given: Given,
    ) {
        self.change_owned(producer, |of| {
            of.offsets.insert((group, partition), given);
        });
    }

    /// The name is free.
    pub(crate) fn forget(&mut self, id: &TransactionalId) {
        if let Some(gone) = self.ids.remove(id) {
            self.owners.remove(&gone.head.identity.id);
            self.held -= gone.held();
            self.open -= usize::from(gone.head.is_open());
        }
    }

    /// The topic is gone, and with it what transactions hold of it.
    pub(crate) fn forget_topic(&mut self, topic: TopicId) {
        self.retain(|of| of.topic != topic, |_| true);
    }

    /// The group is gone.
    pub(crate) fn forget_group(&mut self, group: GroupId) {
        self.retain(|_| true, |of| of != group);
    }

    fn retain(&mut self, keep: impl Fn(PartitionId) -> bool, reads: impl Fn(GroupId) -> bool) {
        let stays = |(group, id): &(GroupId, PartitionId)| keep(*id) && reads(*group);
        let hit = |of: &Transaction| {
            !of.partitions.iter().all(|id| keep(*id)) || !of.offsets.keys().all(stays)
        };
        let hit: Vec<_> = self.iter().filter(|(_, of)| hit(of)).collect();
        for id in hit
            .into_iter()
            .map(|(id, _)| id.clone())
            .collect::<Vec<_>>()
        {
            self.change(&id, |of| {
                of.partitions.retain(|id| keep(*id));
                of.offsets.retain(|key, _| stays(key));
            });
        }
    }

    /// The changes that make this out of nothing.
    pub(crate) fn into_changes(self) -> impl Iterator<Item = TransactionChange> {
        self.ids.into_iter().flat_map(|(id, of)| {
            let of = Arc::unwrap_or_clone(of);
            let producer = of.head.identity.id;
            let state = TransactionChange::State { id, head: of.head };
            let partitions = of.partitions.into_iter();
            let partitions = partitions.map(move |partition| TransactionChange::Partition {
                producer,
                partition,
            });
            let offsets = of.offsets.into_iter();
            let offsets =
                offsets.map(
                    move |((group, partition), given)| TransactionChange::Offset {
                        producer,
                        group,
                        partition,
                        given,
                    },
                );
            std::iter::once(state).chain(partitions).chain(offsets)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::producer::ProducerEpoch;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, bool),
        Join(u8, u8),
        Offset(u8, u8, u8),
        Forget(u8),
        ForgetTopic(u8),
        ForgetGroup(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let n = || 0..4u8;
        prop_oneof![
            4 => (n(), any::<bool>()).prop_map(|(id, open)| Step::Set(id, open)),
            6 => (n(), n()).prop_map(|(id, p)| Step::Join(id, p)),
            6 => (n(), n(), n()).prop_map(|(id, g, p)| Step::Offset(id, g, p)),
            1 => n().prop_map(Step::Forget),
            1 => n().prop_map(Step::ForgetTopic),
            1 => n().prop_map(Step::ForgetGroup),
        ]
    }

    fn partition(n: u8) -> PartitionId {
        PartitionId {
            topic: TopicId(Uuid::from_u128(u128::from(n % 2))),
            partition: Partition(n.into()),
        }
    }

    fn apply(all: &mut Transactions, change: TransactionChange) {
        match change {
            TransactionChange::State { id, head } => all.set(id, head),
            TransactionChange::Partition {
                producer,
                partition,
            } => all.join(producer, partition),
            TransactionChange::Offset {
                producer,
                group,
                partition,
                given,
            } => all.offset(producer, group, partition, given),
            TransactionChange::Forgotten { id } => all.forget(&id),
        }
    }

    proptest! {
        /// What is counted is what is there, and the changes that are dumped make it again.
        #[test]
        fn counts_are_exact_and_everything_comes_back(
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let mut all = Transactions::default();
            let name = |id: u8| TransactionalId::new(format!("t{id}")).unwrap();
            for (at, step) in steps.into_iter().enumerate() {
                let producer = |id: u8| ProducerId(i64::from(id) + 1);
                match step {
                    Step::Set(id, open) => {
                        let identity = ProducerIdentity {
                            id: producer(id),
                            epoch: ProducerEpoch(at as i16),
                        };
                        let status = if open {
                            TransactionStatus::Ongoing
                        } else {
                            TransactionStatus::Aborted
                        };
                        all.set(name(id), Head {
                            identity,
                            previous: None,
                            timeout: Duration::from_secs(1),
                            status,
                            started_ms: 0,
                        });
                    }
                    Step::Join(id, p) if all.get(&name(id)).is_some_and(|t| t.head.is_open()) => {
                        all.join(producer(id), partition(p));
                    }
                    Step::Offset(id, group, p)
                        if all.get(&name(id)).is_some_and(|t| t.head.is_open()) =>
                    {
                        let group = GroupId(group.into());
                        let note = (at % 2 == 0).then(CommitNote::default);
                        let given = Given { offset: Offset(at as u64), note };
                        all.offset(producer(id), group, partition(p), given);
                    }
                    Step::Forget(id) => all.forget(&name(id)),
                    Step::ForgetTopic(n) => all.forget_topic(partition(n).topic),
                    Step::ForgetGroup(n) => all.forget_group(GroupId(n.into())),
                    _ => {}
                }
                let open = all.iter().filter(|(_, of)| of.head.is_open());
                prop_assert_eq!(all.open(), open.count());
                prop_assert_eq!(all.held(), all.iter().map(|(_, of)| of.held()).sum::<usize>());
                for group in 0..4 {
                    let of = |(id, _): &&(GroupId, PartitionId)| *id == GroupId(group);
                    let found = all.positions_of(GroupId(group)).count();
                    let there = all.iter().flat_map(|(_, t)| t.offsets.keys()).filter(of);
                    prop_assert_eq!(found, there.count());
                }
                for (id, of) in all.iter() {
                    let owner = all.owner(of.head.identity.id).map(|(id, _)| id);
                    prop_assert_eq!(owner, Some(id));
                }
            }
            let mut again = Transactions::default();
            all.clone().into_changes().for_each(|change| apply(&mut again, change));
            prop_assert_eq!(again, all);
        }
    }
}
