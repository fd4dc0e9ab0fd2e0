//! Positions of groups as clients commit and read them: everything below a committed offset is
//! settled, nothing else, forward or back.

use std::sync::Arc;

use thiserror::Error;
use tidemill_core::{GroupName, Offset, Partition, TopicName};
use tidemill_log::{CommitError, PartitionId};
use tokio::sync::oneshot;

use super::ClassicGroups;
use super::live::Locked;
use super::types::{ClassicCaller, ClassicError};
use crate::broker::Inner;
use crate::limits::COMMIT_METADATA_MAX_BYTES;
use crate::machine::{CommitNote, CommitOffset, GroupKind, Operation, Positions, Receipt, Refusal};
use crate::producer::{ProducerError, ProducerIdentity};
use crate::transaction::{Ask, Caller, Given, TransactionalId};

/// A position to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicCommit {
    /// The topic.
    pub topic: TopicName,
    /// The part of it.
    pub partition: Partition,
    /// Everything before this is settled.
    pub offset: Offset,
    /// What is kept beside it.
    pub note: CommitNote,
}

/// Why one position was not committed, while others of the same call were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommitRefused {
    /// There is no such partition.
    #[error("there is no such partition; create the topic first")]
    UnknownPartition,
    /// Too much is to be kept beside it.
    #[error("at most {max} bytes are kept beside a position")]
    Metadata {
        /// How many bytes there may be.
        max: usize,
    },
}

/// A group's position in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: TopicName,
    /// The part of it.
    pub partition: Partition,
    /// Everything before this is settled; `None` where only an open transaction sets one.
    pub offset: Option<Offset>,
    /// What was kept beside it; nothing where the position has moved since.
    pub note: CommitNote,
    /// Whether an open transaction may set another one.
    pub is_pending: bool,
}

/// What the log says, in words for a member.
pub(crate) fn refused(error: CommitError<Refusal>) -> ClassicError {
    match error {
        CommitError::Unavailable(_) => ClassicError::Unavailable,
        CommitError::Indeterminate(why) => ClassicError::Indeterminate(why),
        CommitError::Refused(Refusal::GroupOfQueue(group)) => {
            let why = format!("{group} is the group of the queue of this name");
            ClassicError::Protocol(why)
        }
        CommitError::Refused(Refusal::UnknownGroup) => ClassicError::UnknownGroup,
        CommitError::Refused(Refusal::TooMany { .. }) => {
            ClassicError::Full("there are too many groups already")
        }
        CommitError::Refused(Refusal::GroupState { .. }) => {
            ClassicError::Full("its positions need too much memory")
        }
        CommitError::Refused(other) => ClassicError::Other(other.to_string()),
    }
}

type Checked<T> = (Vec<T>, Vec<Result<(), CommitRefused>>);

impl Inner {
    /// Of what kind the group is in the log.
    pub(crate) fn group_kind(&self, name: &GroupName) -> Option<GroupKind> {
        let state = self.durable.state();
        let id = state.group_id(name)?;
        Some(state.group(id)?.kind)
    }

    fn partition(&self, topic: &TopicName, partition: Partition) -> Option<PartitionId> {
        let catalog = self.durable.catalog();
        let found = catalog.topic(topic)?;
        let there = partition.0 < found.partitions && !catalog.is_queue(found.id);
        there.then_some(PartitionId {
            topic: found.id,
            partition,
        })
    }

    /// Those that can be committed, and what is said of each.
    fn checked(&self, commits: Vec<ClassicCommit>) -> Checked<CommitOffset> {
        let mut good = Vec::with_capacity(commits.len());
        let one = |commit: ClassicCommit| {
            let max = COMMIT_METADATA_MAX_BYTES;
            if commit.note.metadata.len() > max {
                return Err(CommitRefused::Metadata { max });
            }
            let partition = self.partition(&commit.topic, commit.partition);
            good.push(CommitOffset {
                partition: partition.ok_or(CommitRefused::UnknownPartition)?,
                offset: commit.offset,
                note: commit.note,
            });
            Ok(())
        };
        let said = commits.into_iter().map(one).collect();
        (good, said)
    }

    /// Positions of a group that is of this kind from then on, ready to be set.
    pub(crate) fn setting(
        self: &Arc<Self>,
        group: &GroupName,
        kind: GroupKind,
        commits: Vec<ClassicCommit>,
    ) -> Setting {
        let (offsets, said) = self.checked(commits);
        let operation = Operation::Positions {
            group: group.clone(),
            ask: Positions::Commit(kind, offsets),
        };
        let inner = Arc::clone(self);
        Setting {
            inner,
            operation,
            said,
        }
    }

    /// Has positions of a group of this kind set with a transaction.
    pub(crate) async fn give_to_transaction(
        self: &Arc<Self>,
        producer: (&TransactionalId, ProducerIdentity),
        (group, kind): (&GroupName, GroupKind),
        commits: Vec<ClassicCommit>,
    ) -> Result<Vec<Result<(), CommitRefused>>, ProducerError> {
        let (offsets, said) = self.checked(commits);
        let given = offsets.into_iter().map(|commit| {
            let note = Some(commit.note);
            let given = Given {
                offset: commit.offset,
                note,
            };
            (commit.partition, given)
        });
        let ask = Ask::Offsets {
            caller: Caller {
                id: producer.0.clone(),
                identity: producer.1,
            },
            begins: false,
            group: group.clone(),
            kind,
            offsets: given.collect(),
        };
        self.ask(ask).await?;
        Ok(said)
    }
}

/// Positions that can be set, and what is said of each that was asked for.
pub(crate) struct Setting {
    inner: Arc<Inner>,
    operation: Operation,
    said: Vec<Result<(), CommitRefused>>,
}

/// Positions that are being set.
pub(crate) struct Begun {
    said: Vec<Result<(), CommitRefused>>,
    answer: oneshot::Receiver<Result<Receipt, CommitError<Refusal>>>,
}

impl Setting {
    /// Hands them to the log.
    pub(crate) fn begin(self) -> Begun {
        let (sender, answer) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        self.inner.handle.submit(self.operation, move |answer| {
            if let Ok(Receipt::Moved(moved)) = &answer {
                inner.follow(moved);
            }
            // Nobody may wait any longer.
            let _ = sender.send(answer);
        });
        let said = self.said;
        Begun { said, answer }
    }
}

impl Begun {
    /// Resolves when they are durable.
    pub(crate) async fn done(self) -> Result<Vec<Result<(), CommitRefused>>, ClassicError> {
        match self.answer.await {
            Ok(Ok(_)) => Ok(self.said),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(ClassicError::Unavailable),
        }
    }
}

impl ClassicGroups {
    /// Sets positions of a group, all that can be set in one entry of the log, and says of each
    /// whether it was. A member does that, or anybody while there are none. Resolves when it is
    /// durable.
    ///
    /// # Errors
    /// See [`ClassicError`]; nothing is set then.
    pub async fn commit(
        &self,
        group: &GroupName,
        caller: &ClassicCaller,
        commits: Vec<ClassicCommit>,
    ) -> Result<Vec<Result<(), CommitRefused>>, ClassicError> {
        let _hold = self.hold(group)?;
        let live = self.for_commit(group, caller).await?;
        let setting = self.inner.setting(group, GroupKind::Classic, commits);
        // Submitted under the group's lock: what a later generation commits comes later.
        let submit = |locked: &mut Locked, now| {
            let may = locked.coordinator.may_commit(now, caller, false);
            may.map(|()| setting.begin())
        };
        let setting = live.change(&self.inner, None, submit)?;
        setting.done().await
    }

    /// Has positions set when the caller's transaction is committed, which must be open. `caller`
    /// is the member for which the producer speaks; without an id and a generation it speaks for
    /// none.
    ///
    /// # Errors
    /// What the group says, or what the transaction says; nothing is set then.
    pub async fn commit_in_transaction(
        &self,
        producer: (&TransactionalId, ProducerIdentity),
        group: &GroupName,
        caller: &ClassicCaller,
        commits: Vec<ClassicCommit>,
    ) -> Result<Vec<Result<(), CommitRefused>>, TransactionalCommitError> {
        let _hold = self.hold(group)?;
        let live = self.for_commit(group, caller).await?;
        live.change(&self.inner, None, |locked, now| {
            locked.coordinator.may_commit(now, caller, true)
        })?;
        let kind = GroupKind::Classic;
        let given = self
            .inner
            .give_to_transaction(producer, (group, kind), commits);
        Ok(given.await?)
    }

    /// The group's positions, sorted by topic and partition; none where there is no such group.
    #[must_use]
    pub fn offsets(&self, group: &GroupName) -> Vec<CommittedOffset> {
        let catalog = self.inner.durable.catalog();
        let state = self.inner.durable.state();
        let id = state.group_id(group);
        let Some((id, kept)) = id.and_then(|id| Some((id, state.group(id)?))) else {
            return Vec::new();
        };
        if kept.kind == GroupKind::Queue {
            return Vec::new();
        }
        let mut pending: Vec<_> = state.transactions.positions_of(id).collect();
        pending.sort_unstable();
        pending.dedup();
        let without = pending.iter().filter(|id| !kept.cursors.contains_key(id));
        let all = kept.cursors.keys().chain(without);
        let one = |partition: &PartitionId| {
            let committed = kept.committed(*partition);
            Some(CommittedOffset {
                topic: catalog.name(partition.topic)?.clone(),
                partition: partition.partition,
                offset: kept.cursors.get(partition).map(|cursor| cursor.position()),
                note: committed.map_or_else(CommitNote::default, |of| of.note.clone()),
                is_pending: pending.binary_search(partition).is_ok(),
            })
        };
        let mut all: Vec<_> = all.filter_map(one).collect();
        drop(state);
        all.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        all
    }

    /// Takes positions of a group away; those that it does not have are passed over. Whether
    /// members read the topics is the caller's to look at. Resolves when it is durable.
    ///
    /// # Errors
    /// [`ClassicError::UnknownGroup`], and [`ClassicError::Protocol`] where its members are no
    /// clients of Kafka.
    pub async fn remove_offsets(
        &self,
        group: &GroupName,
        partitions: &[(TopicName, Partition)],
    ) -> Result<(), ClassicError> {
        let kinds = &self.open()?.kinds;
        let kind = kinds.of(group).filter(|kind| *kind == GroupKind::Consumer);
        let hold = kinds.hold(group, kind.unwrap_or(GroupKind::Classic));
        let _hold = hold.map_err(ClassicError::Protocol)?;
        let known = partitions.iter();
        let known = known.filter_map(|(topic, number)| self.inner.partition(topic, *number));
        let operation = Operation::Positions {
            group: group.clone(),
            ask: Positions::Remove(known.collect()),
        };
        self.inner.submit(operation).await.map_err(refused)?;
        // What it remembers of native members that are gone is not true any longer.
        let live = self.inner.groups().remove(group);
        if let Some(live) = live {
            live.group_gone();
        }
        Ok(())
    }
}

/// Why positions were not given to a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionalCommitError {
    /// The group says no.
    #[error(transparent)]
    Group(#[from] ClassicError),
    /// The transaction says no.
    #[error(transparent)]
    Producer(#[from] ProducerError),
}
