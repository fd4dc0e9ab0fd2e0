//! The broker's calls about transactions, as a wire protocol's door needs them: each names the
//! transactional id and who calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_core::cursor::Cursor;
use tidemill_core::error::Unavailable;
use tidemill_core::{GroupName, Offset, Partition, TopicName};
use tidemill_log::{CommitError, PartitionId};

use super::ask::{Ask, Caller, Done, TransactionOperation};
use super::id::TransactionalId;
use super::state::Given;
use super::{end_bytes, notes_bytes, parts_bytes};
use crate::broker::{Broker, Inner};
use crate::limits::REROUTES_MAX;
use crate::machine::{GroupId, GroupKind, Operation, Receipt, Refusal};
use crate::producer::{ProducerError, ProducerIdentity};

/// Who is to have a transactional id.
#[derive(Clone, Debug)]
pub struct InitTransactional {
    /// The id.
    pub id: TransactionalId,
    /// How long a transaction may be open before it is aborted, at most
    /// [`TRANSACTION_TIMEOUT_MAX`](crate::limits::TRANSACTION_TIMEOUT_MAX).
    pub timeout: Duration,
    /// Who the caller is already, where it asks for another epoch: it is refused if somebody
    /// else has taken the id over since. `None` takes the id over from whoever has it.
    pub expected: Option<ProducerIdentity>,
}

/// Whether a call begins a transaction where none is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begins {
    /// It does, and adds the partition.
    #[default]
    Yes,
    /// It does not: the partition must have been added.
    No,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Whether what it wrote counts.
    pub commit: bool,
    /// Whether the producer goes on under another epoch, with its sequences from 0: then nothing
    /// of this transaction that comes late can become part of the next.
    pub renew: bool,
}

impl Broker {
    /// Gives a transactional id to the caller, and aborts the open transaction of whoever had
    /// it. That one is shut out from now on. One entry of the journal.
    ///
    /// # Errors
    /// [`ProducerError::Fenced`] where the caller is not who it thinks it is, and
    /// [`ProducerError::Timeout`].
    pub async fn init_transactional(
        &self,
        init: InitTransactional,
    ) -> Result<ProducerIdentity, ProducerError> {
        let ask = Ask::Init {
            id: init.id,
            timeout: init.timeout,
            expected: init.expected,
        };
        self.inner.ask_identity(ask).await
    }

    /// Adds partitions to the caller's transaction, which begins where none is open.
    ///
    /// # Errors
    /// [`ProducerError::Fenced`], [`ProducerError::UnknownTransaction`], and what is unknown of
    /// the partitions.
    pub async fn add_to_transaction(
        &self,
        id: &TransactionalId,
        identity: ProducerIdentity,
        partitions: &[(TopicName, Partition)],
    ) -> Result<(), ProducerError> {
        let ids = partitions
            .iter()
            .map(|(topic, partition)| self.inner.partition_id(topic, *partition));
        let ask = Ask::Add {
            caller: caller(id, identity),
            partitions: ids.collect::<Result<_, _>>()?,
        };
        self.inner.ask(ask).await.map(|_| ())
    }

    /// Has the positions of a group set when the caller's transaction is committed: everything
    /// before each offset is settled then, nothing else. The group is made where there is none;
    /// whether the caller may speak for its members is the caller's to check.
    ///
    /// # Errors
    /// [`ProducerError::Fenced`], [`ProducerError::Transaction`] where none is open and none is
    /// to begin, and what is unknown of the partitions.
    pub async fn commit_offsets_in_transaction(
        &self,
        id: &TransactionalId,
        identity: ProducerIdentity,
        begins: Begins,
        group: &GroupName,
        offsets: &[(TopicName, Partition, Offset)],
    ) -> Result<(), ProducerError> {
        let one = |(topic, partition, offset): &(TopicName, Partition, Offset)| {
            let given = Given {
                offset: *offset,
                note: None,
            };
            Ok((self.inner.partition_id(topic, *partition)?, given))
        };
        let ask = Ask::Offsets {
            caller: caller(id, identity),
            begins: begins == Begins::Yes,
            group: group.clone(),
            kind: GroupKind::Native,
            offsets: offsets
                .iter()
                .map(one)
                .collect::<Result<_, ProducerError>>()?,
        };
        self.inner.ask(ask).await.map(|_| ())
    }

    /// Ends the caller's transaction and answers who the caller is from now on: markers in all
    /// partitions, the positions of groups and the producer's state are one entry of the
    /// journal. The same call again, because its answer was lost, is answered the same.
    ///
    /// # Errors
    /// [`ProducerError::Fenced`], also where the transaction was aborted because its time was
    /// over, and [`ProducerError::Transaction`] where there is nothing to end.
    pub async fn end_transaction(
        &self,
        id: &TransactionalId,
        identity: ProducerIdentity,
        end: TransactionEnd,
    ) -> Result<ProducerIdentity, ProducerError> {
        let ask = Ask::End {
            caller: caller(id, identity),
            commit: end.commit,
            renew: end.renew,
        };
        self.inner.ask_identity(ask).await
    }

    /// Aborts an open transaction whatever its producer thinks of it, and shuts that one out.
    ///
    /// # Errors
    /// [`ProducerError::UnknownTransaction`], and [`ProducerError::Transaction`] where none is
    /// open.
    pub async fn abort_transaction(&self, id: &TransactionalId) -> Result<(), ProducerError> {
        let abort = Ask::Abort {
            id: id.clone(),
            overdue: false,
        };
        self.inner.ask_identity(abort).await.map(|_| ())
    }
}

fn caller(id: &TransactionalId, identity: ProducerIdentity) -> Caller {
    Caller {
        id: id.clone(),
        identity,
    }
}

impl Inner {
    /// The partition of this name.
    pub(crate) fn partition_id(
        &self,
        topic: &TopicName,
        partition: Partition,
    ) -> Result<PartitionId, ProducerError> {
        let topic = self.topic_with(topic, partition)?.id;
        Ok(PartitionId { topic, partition })
    }

    /// A question with as much room as it needs by what is durable now.
    pub(crate) fn transaction_operation(&self, ask: Ask) -> TransactionOperation {
        let (bytes_max, ends) = match &ask {
            Ask::Init { id, .. } | Ask::Abort { id, .. } => (self.end_bytes(id), true),
            Ask::End { caller, .. } => (self.end_bytes(&caller.id), true),
            Ask::Add { partitions, .. } => (parts_bytes(partitions.len()), false),
            Ask::Offsets { offsets, .. } => {
                let notes = notes_bytes(offsets.iter().map(|(_, given)| given));
                (parts_bytes(offsets.len()) + notes, false)
            }
            Ask::Overdue => (0, false),
        };
        TransactionOperation {
            ask,
            bytes_max,
            fresh: ends.then(|| self.producer_ids.next()).flatten(),
        }
    }

    /// Tells groups of positions that were set for them.
    pub(crate) fn follow(&self, moved: &[(GroupId, PartitionId, Cursor)]) {
        for (group, partition, cursor) in moved {
            let groups = self.groups();
            let live = groups.values().find(|live| live.id == *group).cloned();
            drop(groups);
            if let Some(live) = live {
                live.follow([(*partition, cursor.clone())]);
            }
        }
    }

    fn end_bytes(&self, id: &TransactionalId) -> usize {
        let state = self.durable.state();
        state.transactions.get(id).map_or(0, end_bytes)
    }

    pub(crate) async fn ask(self: &Arc<Self>, ask: Ask) -> Result<Done, ProducerError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Unavailable::Closed.into());
        }
        if let Ask::Offsets { kind, .. } = &ask
            && *kind != GroupKind::Native
        {
            self.classics.look_after_positions(self);
        }
        for _ in 0..REROUTES_MAX {
            let operation = self.transaction_operation(ask.clone());
            let operation = Operation::Transaction(Box::new(operation));
            let inner = Arc::clone(self);
            let asked = self.submit_then(operation, move |answer| {
                if let Ok(Receipt::Transaction(Done::Identity(_, moved))) = answer {
                    inner.follow(moved);
                    inner.classics.set_by_transaction(inner.now(), moved);
                }
            });
            match asked.await {
                Ok(Receipt::Transaction(done)) => return Ok(done),
                Ok(_) => break,
                // The transaction grew meanwhile, and what it holds now is durable.
                Err(CommitError::Refused(Refusal::Room)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let why = "the transaction keeps growing; end it when its calls are answered";
        Err(ProducerError::Other(why.into()))
    }

    async fn ask_identity(self: &Arc<Self>, ask: Ask) -> Result<ProducerIdentity, ProducerError> {
        match self.ask(ask).await? {
            Done::Identity(identity, _) => Ok(identity),
            other => Err(ProducerError::Other(format!(
                "the broker answered {other:?}"
            ))),
        }
    }
}
