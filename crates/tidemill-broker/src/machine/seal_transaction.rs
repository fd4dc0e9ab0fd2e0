//! The decisions about transactions, against the sealed state. Ending one is one entry: control
//! records in every partition that it wrote to, groups' positions, and the producer's state.

use std::time::Duration;

use tidemill_core::GroupName;
use tidemill_core::cursor::Cursor;
use tidemill_log::PartitionId;
use tidemill_log::batch::Marker;

use super::effect::Change;
use super::operation::{Receipt, Refusal};
use super::seal::Decision;
use super::seal_commit::more_bytes;
use super::state::{GroupId, GroupKind, GroupState};
use super::transaction_effect::TransactionChange;
use crate::limits::{
    ABORTED_MAX, GROUP_STATE_MAX_BYTES, TRANSACTION_PARTS_MAX, TRANSACTION_TIMEOUT_MAX,
    TRANSACTIONAL_IDS_FORGOTTEN_AT_ONCE, TRANSACTIONAL_IDS_MAX, TRANSACTIONS_OPEN_MAX,
    TRANSACTIONS_PARTS_MAX,
};
use crate::producer::{Header, ProducerEpoch, ProducerError, ProducerId, ProducerIdentity};
use crate::transaction::{
    Ask, Caller, Done, Given, Head, Transaction, TransactionOperation, TransactionStatus,
    TransactionalId, end_bytes,
};

fn refused(error: ProducerError) -> Refusal {
    Refusal::Producer(Box::new(error))
}

/// How a transaction is to end.
#[derive(Clone, Copy)]
struct Ending {
    marker: Marker,
    /// The epoch of the markers.
    epoch: ProducerEpoch,
    /// What the producer is afterwards.
    head: Head,
}

impl Decision<'_, '_> {
    pub(super) fn transaction(&mut self, asked: TransactionOperation) -> Result<Receipt, Refusal> {
        let (fresh, bytes_max) = (asked.fresh, asked.bytes_max);
        let done = match asked.ask {
            Ask::Init {
                id,
                timeout,
                expected,
            } => {
                self.has_room(&id, bytes_max)?;
                Done::Identity(self.init(id, timeout, expected, fresh)?, Vec::new())
            }
            Ask::Add { caller, partitions } => {
                let head = self.caller(&caller)?.head;
                self.begin(&caller.id, head)?;
                for partition in partitions {
                    self.add(&caller, partition)?;
                }
                Done::Added
            }
            Ask::Offsets {
                caller,
                begins,
                group,
                offsets,
                kind,
            } => {
                let head = self.caller(&caller)?.head;
                if !begins && !head.is_open() {
                    return Err(status(&caller.id, head, "take positions"));
                }
                self.begin(&caller.id, head)?;
                self.offsets(&caller, (group, kind), offsets)?;
                Done::Added
            }
            Ask::End {
                caller,
                commit,
                renew,
            } => {
                self.has_room(&caller.id, bytes_max)?;
                self.end(&caller, commit, renew, fresh)?
            }
            Ask::Abort { id, overdue } => {
                self.has_room(&id, bytes_max)?;
                self.abort(&id, overdue, fresh)?
            }
            Ask::Overdue => {
                let (over, next) = self.heard.overdue(self.now.monotonic);
                Done::Overdue(over, next)
            }
        };
        Ok(Receipt::Transaction(done))
    }

    fn get(&self, id: &TransactionalId) -> Result<&Transaction, Refusal> {
        let have = self.state.transactions.get(id);
        have.ok_or_else(|| refused(ProducerError::UnknownTransaction(id.clone())))
    }

    /// The caller's transaction, if nobody has shut the caller out.
    fn caller(&self, caller: &Caller) -> Result<&Transaction, Refusal> {
        let have = self.get(&caller.id)?;
        if have.head.identity == caller.identity {
            return Ok(have);
        }
        Err(fenced(caller.identity, have.head))
    }

    /// Refuses where ending the transaction needs more than was asked for.
    fn has_room(&self, id: &TransactionalId, bytes_max: usize) -> Result<(), Refusal> {
        match self.state.transactions.get(id) {
            Some(have) if end_bytes(have) > bytes_max => Err(Refusal::Room),
            _ => Ok(()),
        }
    }

    fn set(&mut self, id: TransactionalId, head: Head) {
        let change = TransactionChange::State { id, head };
        self.changes.push(Change::Transaction(change));
    }

    /// The transaction is open, from now on where it was not.
    fn begin(&mut self, id: &TransactionalId, head: Head) -> Result<(), Refusal> {
        if head.is_open() || self.begun {
            return Ok(());
        }
        let open = self.state.transactions.open();
        bounded(open, TRANSACTIONS_OPEN_MAX, "open transactions")?;
        self.begun = true;
        let head = Head {
            status: TransactionStatus::Ongoing,
            previous: None,
            started_ms: self.now.wall.as_millisecond().max(0),
            ..head
        };
        self.set(id.clone(), head);
        Ok(())
    }

    /// One more partition or position of the transaction is held, within the bounds.
    fn hold(
        &mut self,
        caller: &Caller,
        part: (Option<GroupId>, PartitionId),
    ) -> Result<bool, Refusal> {
        let (have, all) = (self.caller(caller)?, self.state.transactions.held());
        let is_held = match part {
            (Some(group), partition) => have.offsets.contains_key(&(group, partition)),
            (None, partition) => have.partitions.contains(&partition),
        };
        if is_held || self.joined.contains(&part) {
            return Ok(false);
        }
        let (own, more) = (
            have.partitions.len() + have.offsets.len(),
            self.joined.len(),
        );
        let what = "partitions and positions of the transaction";
        bounded(own + more, TRANSACTION_PARTS_MAX, what)?;
        let what = "partitions and positions of all transactions";
        bounded(all + more, TRANSACTIONS_PARTS_MAX, what)?;
        self.joined.insert(part);
        Ok(true)
    }

    fn add(&mut self, caller: &Caller, partition: PartitionId) -> Result<(), Refusal> {
        if self.draft.end(partition).is_none() {
            return Err(Refusal::UnknownPartition(partition));
        }
        if !self.hold(caller, (None, partition))? {
            return Ok(());
        }
        let producer = caller.identity.id;
        let change = TransactionChange::Partition {
            producer,
            partition,
        };
        self.changes.push(Change::Transaction(change));
        Ok(())
    }

    /// Who writes a transactional batch, if nobody has shut it out.
    pub(super) fn transactional(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<Caller, Refusal> {
        let Some((id, _)) = self.state.transactions.owner(producer) else {
            return Err(refused(ProducerError::NotTransactional(producer)));
        };
        let caller = Caller {
            id: id.clone(),
            identity: ProducerIdentity {
                id: producer,
                epoch,
            },
        };
        self.caller(&caller)?;
        Ok(caller)
    }

    /// A transactional batch is part of its producer's transaction, which begins with it where
    /// it may.
    pub(super) fn joins(&mut self, partition: PartitionId, caller: &Caller) -> Result<(), Refusal> {
        let have = self.caller(caller)?;
        let (head, joined) = (have.head, have.partitions.contains(&partition));
        if !(joined && head.is_open()) {
            if !self.begins {
                return Err(status(&caller.id, head, "take records for this partition"));
            }
            self.begin(&caller.id, head)?;
            self.add(caller, partition)?;
        }
        self.may_be_aborted(partition, caller.identity.id)
    }

    /// Every transaction that begins in a partition may be one more that is aborted there.
    fn may_be_aborted(&self, id: PartitionId, producer: ProducerId) -> Result<(), Refusal> {
        let known = &self.state.producers;
        if known
            .get(id, producer)
            .is_some_and(|have| have.open.is_some())
        {
            return Ok(());
        }
        let what = "aborted and open transactions in the partition";
        bounded(
            known.aborted_count(id) + known.open_count(id),
            ABORTED_MAX,
            what,
        )
    }

    fn offsets(
        &mut self,
        caller: &Caller,
        (group, kind): (GroupName, GroupKind),
        offsets: Vec<(PartitionId, Given)>,
    ) -> Result<(), Refusal> {
        let id = match self.state.group_id(&group) {
            Some(id) => self.of_no_queue(id)?,
            None => self.create_group(group, kind)?,
        };
        self.group_has_room(caller, id, &offsets)?;
        for (partition, given) in offsets {
            if self.draft.end(partition).is_none() {
                return Err(Refusal::UnknownPartition(partition));
            }
            self.hold(caller, (Some(id), partition))?;
            let change = TransactionChange::Offset {
                producer: caller.identity.id,
                group: id,
                partition,
                given,
            };
            self.changes.push(Change::Transaction(change));
        }
        Ok(())
    }

    /// Refuses where the positions that open transactions are to set need too much, with what
    /// is kept beside them, and with `offsets` in the place of what the caller gave before.
    fn group_has_room(
        &self,
        caller: &Caller,
        id: GroupId,
        offsets: &[(PartitionId, Given)],
    ) -> Result<(), Refusal> {
        let have = self.state.group(id);
        let bytes = |partition, given: &Given| more_bytes(have, partition, given.note.as_ref());
        let own = &self.get(&caller.id)?.offsets;
        let (mut these, mut before) = (0, 0);
        for (partition, given) in offsets {
            these += bytes(*partition, given);
            let replaced = own.get(&(id, *partition));
            before += replaced.map_or(0, |given| bytes(*partition, given));
        }
        let given = self.state.transactions.given_to(id);
        let pending: usize = given.map(|(id, given)| bytes(id, given)).sum();
        let more = pending.saturating_sub(before) + these;
        let size_bytes = have.map_or(0, GroupState::size_bytes);
        if these > before && size_bytes + more > GROUP_STATE_MAX_BYTES {
            let max_bytes = GROUP_STATE_MAX_BYTES;
            return Err(Refusal::GroupState { max_bytes });
        }
        Ok(())
    }

    fn init(
        &mut self,
        id: TransactionalId,
        timeout: Duration,
        expected: Option<ProducerIdentity>,
        fresh: Option<ProducerId>,
    ) -> Result<ProducerIdentity, Refusal> {
        if timeout < Duration::from_millis(1) || timeout > TRANSACTION_TIMEOUT_MAX {
            return Err(refused(ProducerError::Timeout {
                asked: timeout,
                max: TRANSACTION_TIMEOUT_MAX,
            }));
        }
        let have = self.state.transactions.get(&id).map(|have| have.head);
        let Some(have) = have else {
            self.forget_ids()?;
            let identity = begin_anew(fresh)?;
            let head = Head {
                identity,
                previous: None,
                timeout,
                status: TransactionStatus::Empty,
                started_ms: 0,
            };
            self.set(id, head);
            return Ok(identity);
        };
        let previous = match expected {
            Some(expected) if have.previous == Some(expected) => {
                // Asked for again: the answer was lost.
                return Ok(have.identity);
            }
            Some(expected) if expected != have.identity => return Err(fenced(expected, have)),
            other => other,
        };
        let identity = next(have.identity, fresh)?;
        let ongoing = have.is_open();
        let head = Head {
            identity,
            previous,
            timeout,
            status: match ongoing {
                true => TransactionStatus::Aborted,
                false => TransactionStatus::Empty,
            },
            ..have
        };
        let ending = Ending {
            marker: Marker::Abort,
            epoch: have.identity.epoch.fence(),
            head,
        };
        self.finish(&id, ending)?;
        Ok(identity)
    }

    fn end(
        &mut self,
        caller: &Caller,
        commit: bool,
        renew: bool,
        fresh: Option<ProducerId>,
    ) -> Result<Done, Refusal> {
        let have = self.get(&caller.id)?.head;
        let ended = match commit {
            true => TransactionStatus::Committed,
            false => TransactionStatus::Aborted,
        };
        if have.previous == Some(caller.identity) && have.status == ended && renew {
            // Asked for again: the answer was lost.
            return Ok(Done::Identity(have.identity, Vec::new()));
        }
        let have = self.caller(caller)?.head;
        let open = have.is_open();
        if !open && !renew && have.status == ended {
            return Ok(Done::Identity(have.identity, Vec::new()));
        }
        if !open && (commit || !renew) {
            let what = if commit { "be committed" } else { "be aborted" };
            return Err(status(&caller.id, have, what));
        }
        let identity = match renew {
            true => next(have.identity, fresh)?,
            false => have.identity,
        };
        let ending = Ending {
            marker: match commit {
                true => Marker::Commit,
                false => Marker::Abort,
            },
            epoch: match renew {
                true => have.identity.epoch.fence(),
                false => have.identity.epoch,
            },
            head: Head {
                identity,
                previous: renew.then_some(have.identity),
                status: ended,
                ..have
            },
        };
        let moved = self.finish(&caller.id, ending)?;
        Ok(Done::Identity(identity, moved))
    }

    fn abort(
        &mut self,
        id: &TransactionalId,
        overdue: bool,
        fresh: Option<ProducerId>,
    ) -> Result<Done, Refusal> {
        let have = self.get(id)?.head;
        if !have.is_open() {
            return Err(status(id, have, "be aborted"));
        }
        if overdue && !self.heard.is_overdue(id, self.now.monotonic) {
            return Ok(Done::Identity(have.identity, Vec::new()));
        }
        let identity = next(have.identity, fresh)?;
        let ending = Ending {
            marker: Marker::Abort,
            epoch: have.identity.epoch.fence(),
            head: Head {
                identity,
                previous: Some(have.identity),
                status: TransactionStatus::Aborted,
                ..have
            },
        };
        self.finish(id, ending)?;
        Ok(Done::Identity(identity, Vec::new()))
    }

    /// Ends what is open: markers, positions, state.
    fn finish(
        &mut self,
        id: &TransactionalId,
        ending: Ending,
    ) -> Result<Vec<(GroupId, PartitionId, Cursor)>, Refusal> {
        let have = self.get(id)?.clone();
        let producer = have.head.identity.id;
        for partition in &have.partitions {
            let entry = self.state.producers.get(*partition, producer);
            if entry.is_none_or(|entry| entry.open.is_none()) {
                // It was added, and nothing was written to it.
                continue;
            }
            let now_ms = self.now.wall.as_millisecond();
            let batch = ending.marker.batch(producer.0, ending.epoch.0, 0, now_ms);
            let header = Header::of(&batch);
            let base = self.draft.append(*partition, batch);
            let base = base.ok_or(Refusal::UnknownPartition(*partition))?;
            self.wrote
                .extend(header.map(|header| (*partition, header, base)));
        }
        let mut moved = Vec::new();
        if ending.marker == Marker::Commit {
            for ((group, partition), given) in have.offsets {
                if self.state.group(group).is_some() {
                    moved.extend(self.move_to(group, partition, given));
                }
            }
        }
        self.set(id.clone(), ending.head);
        Ok(moved)
    }

    /// Forgets transactional ids whose time is over, and makes room for one more.
    fn forget_ids(&mut self) -> Result<(), Refusal> {
        let known = &self.state.transactions;
        let idle = |id: &&TransactionalId| {
            let have = known.get(id);
            have.is_some_and(|have| !have.head.is_open())
        };
        let over = self.heard.unused_ids(self.now.monotonic).filter(idle);
        let mut over: Vec<_> = over.take(TRANSACTIONAL_IDS_FORGOTTEN_AT_ONCE).collect();
        if over.is_empty() && known.len() >= TRANSACTIONAL_IDS_MAX {
            over.extend(self.heard.spare_ids(self.now.monotonic).find(idle));
        }
        if over.is_empty() && known.len() >= TRANSACTIONAL_IDS_MAX {
            return Err(refused(ProducerError::TooMany {
                what: "transactional ids",
                max: TRANSACTIONAL_IDS_MAX,
            }));
        }
        let forgotten = over.into_iter().map(|id| {
            let id = id.clone();
            Change::Transaction(TransactionChange::Forgotten { id })
        });
        self.changes.extend(forgotten);
        Ok(())
    }
}

fn bounded(count: usize, max: usize, what: &'static str) -> Result<(), Refusal> {
    match count < max {
        true => Ok(()),
        false => Err(refused(ProducerError::TooMany { what, max })),
    }
}

fn begin_anew(fresh: Option<ProducerId>) -> Result<ProducerIdentity, Refusal> {
    let id = fresh.ok_or_else(|| refused(ProducerError::no_ids()))?;
    let epoch = ProducerEpoch::default();
    Ok(ProducerIdentity { id, epoch })
}

/// Who a producer is next.
fn next(
    identity: ProducerIdentity,
    fresh: Option<ProducerId>,
) -> Result<ProducerIdentity, Refusal> {
    match identity.epoch.next() {
        Some(epoch) => Ok(ProducerIdentity { epoch, ..identity }),
        None => begin_anew(fresh),
    }
}

fn fenced(caller: ProducerIdentity, have: Head) -> Refusal {
    refused(ProducerError::Fenced {
        producer: caller.id,
        epoch: caller.epoch,
        current: have.identity,
    })
}

fn status(id: &TransactionalId, have: Head, what: &'static str) -> Refusal {
    refused(ProducerError::Transaction {
        id: id.clone(),
        status: have.status,
        what,
    })
}
