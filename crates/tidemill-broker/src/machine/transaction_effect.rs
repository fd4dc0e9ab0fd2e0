//! The changes of transactional producers and their transactions, as journal and snapshots hold
//! them: numbers and byte layout, as in [`super::effect`]. This room decides nothing.

use std::time::Duration;

use tidemill_core::{Offset, varint};
use tidemill_log::PartitionId;

use super::effect::{Reader, put_partition, put_text};
use super::producer_effect::put_producer;
use super::state::GroupId;
use crate::producer::{ProducerId, ProducerIdentity};
use crate::transaction::{Given, Head, TransactionStatus, TransactionalId};

const STATE: u16 = 0x0021;
const PARTITION: u16 = 0x0023;
const OFFSET: u16 = 0x0024;
const FORGOTTEN: u16 = 0x0025;
const NOTED_OFFSET: u16 = 0x0027;

/// One absolute change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransactionChange {
    /// A transactional producer is exactly this; without an open transaction it holds nothing.
    State { id: TransactionalId, head: Head },
    /// The open transaction of this producer writes to a partition.
    Partition {
        producer: ProducerId,
        partition: PartitionId,
    },
    /// The open transaction of this producer sets a group's position when it is committed.
    Offset {
        producer: ProducerId,
        group: GroupId,
        partition: PartitionId,
        given: Given,
    },
    /// The transactional id is free.
    Forgotten { id: TransactionalId },
}

fn put_identity(out: &mut Vec<u8>, identity: ProducerIdentity) {
    put_producer(out, identity.id);
    varint::put(out, u64::from(identity.epoch.0.unsigned_abs()));
}

fn put_head(out: &mut Vec<u8>, head: &Head) {
    put_identity(out, head.identity);
    varint::put(out, u64::from(head.previous.is_some()));
    if let Some(previous) = head.previous {
        put_identity(out, previous);
    }
    varint::put(out, head.status.number());
    varint::put(
        out,
        u64::try_from(head.timeout.as_millis()).unwrap_or(u64::MAX),
    );
    varint::put(out, head.started_ms.unsigned_abs());
}

impl TransactionChange {
    /// Appends the change's bytes to `out` and answers its kind.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        match self {
            Self::State { id, head } => {
                put_text(out, id.as_str());
                put_head(out, head);
                STATE
            }
            Self::Partition {
                producer,
                partition,
            } => {
                put_producer(out, *producer);
                put_partition(out, *partition);
                PARTITION
            }
            Self::Offset {
                producer,
                group,
                partition,
                given,
            } => {
                put_producer(out, *producer);
                varint::put(out, group.0);
                put_partition(out, *partition);
                varint::put(out, given.offset.0);
                match &given.note {
                    Some(note) => {
                        note.encode(out);
                        NOTED_OFFSET
                    }
                    None => OFFSET,
                }
            }
            Self::Forgotten { id } => {
                put_text(out, id.as_str());
                FORGOTTEN
            }
        }
    }

    /// Reads a change back; `None` where the kind is none of these.
    pub(super) fn decode(kind: u16, reader: &mut Reader<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match kind {
            STATE => Self::State {
                id: reader.transactional_id()?,
                head: reader.head()?,
            },
            PARTITION => Self::Partition {
                producer: reader.producer()?,
                partition: reader.partition()?,
            },
            OFFSET | NOTED_OFFSET => Self::Offset {
                producer: reader.producer()?,
                group: GroupId(reader.number()?),
                partition: reader.partition()?,
                given: Given {
                    offset: Offset(reader.number()?),
                    note: match kind {
                        NOTED_OFFSET => Some(reader.note()?),
                        _ => None,
                    },
                },
            },
            FORGOTTEN => Self::Forgotten {
                id: reader.transactional_id()?,
            },
            _ => return Ok(None),
        }))
    }
}

impl Reader<'_> {
    fn transactional_id(&mut self) -> Result<TransactionalId, String> {
        TransactionalId::new(self.text()?).map_err(|error| error.to_string())
    }

    fn identity(&mut self) -> Result<ProducerIdentity, String> {
        Ok(ProducerIdentity {
            id: self.producer()?,
            epoch: self.epoch()?,
        })
    }

    fn head(&mut self) -> Result<Head, String> {
        let identity = self.identity()?;
        let previous = match self.number()? {
            0 => None,
            1 => Some(self.identity()?),
            other => return Err(format!("{other} is not whether there is one")),
        };
        Ok(Head {
            identity,
            previous,
            status: TransactionStatus::from_number(self.number()?)?,
            timeout: Duration::from_millis(self.number()?),
            started_ms: i64::try_from(self.number()?).map_err(|e| e.to_string())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect_tests::{PARTITION, PRODUCER, check};
    use super::*;
    use crate::machine::CommitNote;
    use crate::producer::ProducerEpoch;

    #[test]
    fn every_change_comes_back_and_cut_ones_are_refused() {
        let (partition, producer) = (PARTITION, PRODUCER);
        let id = TransactionalId::new("überweisung").unwrap();
        let identity = |epoch| ProducerIdentity {
            id: producer,
            epoch: ProducerEpoch(epoch),
        };
        let head = |previous, status| Head {
            identity: identity(i16::MAX),
            previous,
            timeout: Duration::from_millis(60_000),
            status,
            started_ms: 1_700_000_000_000,
        };
        let state = |previous, status| TransactionChange::State {
            id: id.clone(),
            head: head(previous, status),
        };
        let all = [
            state(None, TransactionStatus::Empty),
            state(Some(identity(3)), TransactionStatus::Ongoing),
            state(None, TransactionStatus::Committed),
            state(None, TransactionStatus::Aborted),
            TransactionChange::Partition {
                producer,
                partition,
            },
            TransactionChange::Offset {
                producer,
                group: GroupId(300),
                partition,
                given: Given {
                    offset: Offset(u64::MAX),
                    note: None,
                },
            },
            TransactionChange::Offset {
                producer,
                group: GroupId(300),
                partition,
                given: Given {
                    offset: Offset(7),
                    note: Some(CommitNote {
                        leader_epoch: Some(0),
                        metadata: "überwiesen".into(),
                    }),
                },
            },
            TransactionChange::Forgotten { id: id.clone() },
        ];
        check(all, TransactionChange::encode, TransactionChange::decode);
    }
}
