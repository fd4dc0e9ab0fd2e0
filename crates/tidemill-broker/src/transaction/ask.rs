//! What the machine is asked about transactions, and what it answers.

use std::time::Duration;

use tidemill_core::GroupName;
use tidemill_core::cursor::Cursor;
use tidemill_log::PartitionId;

use super::id::TransactionalId;
use super::state::Given;
use crate::machine::{GroupId, GroupKind};
use crate::producer::{ProducerId, ProducerIdentity};

/// A producer that comes with its transactional id.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) id: TransactionalId,
    pub(crate) identity: ProducerIdentity,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Who has this transactional id from now on. An open transaction is aborted.
    Init {
        id: TransactionalId,
        timeout: Duration,
        /// Who it is by its own account, where it had the id before.
        expected: Option<ProducerIdentity>,
    },
    /// The transaction writes to these partitions; it begins where none is open.
    Add {
        caller: Caller,
        partitions: Vec<PartitionId>,
    },
    /// A group's positions are to be set when the transaction is committed.
    Offsets {
        caller: Caller,
        /// Whether the transaction begins where none is open.
        begins: bool,
        group: GroupName,
        offsets: Vec<(PartitionId, Given)>,
        /// What a group is that is made for them.
        kind: GroupKind,
    },
    /// The transaction ends.
    End {
        caller: Caller,
        commit: bool,
        /// Whether the producer goes on under another epoch, so that nothing late of this
        /// transaction can become part of the next.
        renew: bool,
    },
    /// The transaction is aborted whatever its producer thinks of it, who is shut out.
    Abort {
        id: TransactionalId,
        /// Only where its time is over.
        overdue: bool,
    },
    /// Which transactions' time is over.
    Overdue,
}

/// A question with what it needs.
#[derive(Clone, Debug)]
pub(crate) struct TransactionOperation {
    pub(crate) ask: Ask,
    /// Bytes of the journal that it may take at most; it is refused where it needs more.
    pub(crate) bytes_max: usize,
    /// For a producer whose epochs are used up.
    pub(crate) fresh: Option<ProducerId>,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// The producer goes on as this one; these positions of groups were set.
    Identity(ProducerIdentity, Vec<(GroupId, PartitionId, Cursor)>),
    /// It is part of the transaction.
    Added,
    /// These transactions' time is over; the next one's is in so long.
    Overdue(Vec<TransactionalId>, Option<Duration>),
}
