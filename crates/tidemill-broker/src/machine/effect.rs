//! The changes of the broker's state, as the journal and snapshots hold them: numbers and byte
//! layout. The layout is written down in the log's `FORMAT.md`.
//!
//! Numbers are unsigned LEB128 varints, a topic's id is its 16 bytes, a text is its length and
//! its UTF-8 bytes. This room decides nothing.

use std::ops::Range;

use bytestring::ByteString;
use tidemill_core::cursor::Cursor;
use tidemill_core::{GroupName, Offset, Partition, TopicId, TopicName, varint};
use tidemill_log::PartitionId;
use uuid::Uuid;

use super::commit_effect::CommitChange;
use super::mark_effect::MarkChange;
use super::producer_effect::ProducerChange;
use super::state::{GroupId, GroupKind};
use super::transaction_effect::TransactionChange;
use crate::queue::QueueSettings;

const TOPIC_CREATED: u16 = 0x0001;
const TOPIC_DELETED: u16 = 0x0002;
const GROUP_CREATED: u16 = 0x0010;
const GROUP_DELETED: u16 = 0x0011;
const CURSOR_SET: u16 = 0x0012;
const SETTLED: u16 = 0x0013;
const NEXT_GROUP: u16 = 0x0014;
const QUEUE_SET: u16 = 0x0060;

/// One absolute change of the broker's state. Applying one twice is applying it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A topic with this many partitions exists.
    TopicCreated {
        id: TopicId,
        partitions: u32,
        name: TopicName,
    },
    /// The topic and every group's position in it are gone.
    TopicDeleted { id: TopicId },
    /// A group exists, and is of this kind from now on.
    GroupCreated {
        id: GroupId,
        kind: GroupKind,
        name: GroupName,
    },
    /// The group and its positions are gone.
    GroupDeleted { id: GroupId },
    /// The group's position in a partition is exactly this.
    CursorSet {
        group: GroupId,
        partition: PartitionId,
        cursor: Cursor,
    },
    /// These offsets of a partition are settled for the group, whatever was before.
    Settled {
        group: GroupId,
        partition: PartitionId,
        range: Range<Offset>,
    },
    /// The topic is a queue, which this group reads.
    QueueSet {
        id: TopicId,
        group: GroupId,
        settings: QueueSettings,
    },
    /// The id of the next group is at least this. Only in snapshots.
    NextGroup { id: GroupId },
    /// Of what clients keep beside groups' positions.
    Commit(CommitChange),
    /// Of what was given out since the process died.
    Mark(MarkChange),
    /// Of what is known of producers in partitions.
    Producer(ProducerChange),
    /// Of transactional producers and their transactions.
    Transaction(TransactionChange),
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    varint::put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_partition(out: &mut Vec<u8>, id: PartitionId) {
    out.extend_from_slice(id.topic.0.as_bytes());
    varint::put(out, u64::from(id.partition.0));
}

impl Change {
    /// Appends the change's bytes to `out` and answers its kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        match self {
            Self::TopicCreated {
                id,
                partitions,
                name,
            } => {
                out.extend_from_slice(id.0.as_bytes());
                varint::put(out, u64::from(*partitions));
                put_text(out, name.as_str());
                TOPIC_CREATED
            }
            Self::TopicDeleted { id } => {
                out.extend_from_slice(id.0.as_bytes());
                TOPIC_DELETED
            }
            Self::GroupCreated { id, kind, name } => {
                varint::put(out, id.0);
                varint::put(out, kind.number());
                put_text(out, name.as_str());
                GROUP_CREATED
            }
            Self::GroupDeleted { id } => {
                varint::put(out, id.0);
                GROUP_DELETED
            }
            Self::CursorSet {
                group,
                partition,
                cursor,
            } => {
                varint::put(out, group.0);
                put_partition(out, *partition);
                cursor.encode(out);
                CURSOR_SET
            }
            Self::Settled {
                group,
                partition,
                range,
            } => {
                varint::put(out, group.0);
                put_partition(out, *partition);
                varint::put(out, range.start.0);
                varint::put(out, range.end.0.saturating_sub(range.start.0));
                SETTLED
            }
            Self::QueueSet {
                id,
                group,
                settings,
            } => {
                out.extend_from_slice(id.0.as_bytes());
                varint::put(out, group.0);
                settings.encode(out);
                QUEUE_SET
            }
            Self::NextGroup { id } => {
                varint::put(out, id.0);
                NEXT_GROUP
            }
            Self::Commit(change) => change.encode(out),
            Self::Mark(change) => change.encode(out),
            Self::Producer(change) => change.encode(out),
            Self::Transaction(change) => change.encode(out),
        }
    }

    /// Reads a change back.
    ///
    /// # Errors
    /// Says which kind is unknown or which part of it is wrong.
    pub(crate) fn decode(kind: u16, bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader(bytes);
        let change = match kind {
            TOPIC_CREATED => Self::TopicCreated {
                id: reader.topic()?,
                partitions: reader.number_32()?,
                name: TopicName::new(reader.text()?).map_err(|e| e.to_string())?,
            },
            TOPIC_DELETED => Self::TopicDeleted {
                id: reader.topic()?,
            },
            GROUP_CREATED => Self::GroupCreated {
                id: GroupId(reader.number()?),
                kind: GroupKind::from_number(reader.number()?)?,
                name: GroupName::new(reader.text()?).map_err(|e| e.to_string())?,
            },
            GROUP_DELETED => Self::GroupDeleted {
                id: GroupId(reader.number()?),
            },
            CURSOR_SET => Self::CursorSet {
                group: GroupId(reader.number()?),
                partition: reader.partition()?,
                cursor: reader.cursor()?,
            },
            SETTLED => {
                let group = GroupId(reader.number()?);
                let partition = reader.partition()?;
                let start = Offset(reader.number()?);
                let range = start..start.plus(reader.number()?);
                Self::Settled {
                    group,
                    partition,
                    range,
                }
            }
            QUEUE_SET => Self::QueueSet {
                id: reader.topic()?,
                group: GroupId(reader.number()?),
                settings: reader.queue_settings()?,
            },
            NEXT_GROUP => Self::NextGroup {
                id: GroupId(reader.number()?),
            },
            _ => reader.other(kind)?,
        };
        if reader.0.is_empty() {
            Ok(change)
        } else {
            Err(format!("bytes follow an effect of kind {kind:#06x}"))
        }
    }
}

/// Reads an effect's bytes from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    /// A change of a kind that another room knows.
    fn other(&mut self, kind: u16) -> Result<Change, String> {
        if let Some(change) = CommitChange::decode(kind, self)? {
            return Ok(Change::Commit(change));
        }
        if let Some(change) = MarkChange::decode(kind, self)? {
            return Ok(Change::Mark(change));
        }
        if let Some(change) = ProducerChange::decode(kind, self)? {
            return Ok(Change::Producer(change));
        }
        if let Some(change) = TransactionChange::decode(kind, self)? {
            return Ok(Change::Transaction(change));
        }
        Err(format!(
            "an effect of kind {kind:#06x} is not supported by this version; use a newer one"
        ))
    }

    pub(super) fn number(&mut self) -> Result<u64, String> {
        let (number, rest) = varint::take(self.0).ok_or("an effect's number does not end")?;
        self.0 = rest;
        Ok(number)
    }

    pub(super) fn number_32(&mut self) -> Result<u32, String> {
        u32::try_from(self.number()?).map_err(|_| "an effect's number is too large".into())
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&[u8], String> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or("an effect ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn topic(&mut self) -> Result<TopicId, String> {
        let id = Uuid::from_slice(self.bytes(16)?).map_err(|e| e.to_string())?;
        Ok(TopicId(id))
    }

    pub(super) fn partition(&mut self) -> Result<PartitionId, String> {
        Ok(PartitionId {
            topic: self.topic()?,
            partition: Partition(self.number_32()?),
        })
    }

    pub(super) fn text(&mut self) -> Result<ByteString, String> {
        let length = usize::try_from(self.number()?).map_err(|e| e.to_string())?;
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|e| e.to_string())?;
        Ok(ByteString::from(text))
    }

    fn queue_settings(&mut self) -> Result<QueueSettings, String> {
        let mut settings = QueueSettings::default();
        for _ in 0..self.number()? {
            let number = self.number()?;
            let length = usize::try_from(self.number()?).map_err(|e| e.to_string())?;
            settings.take(number, self.bytes(length)?)?;
        }
        Ok(settings)
    }

    pub(super) fn cursor(&mut self) -> Result<Cursor, String> {
        let (cursor, rest) = Cursor::decode(self.0).map_err(|e| e.to_string())?;
        self.0 = rest;
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill_core::cursor::CursorBounds;

    use super::*;
    use crate::producer::ProducerId;

    fn all() -> Vec<Change> {
        let id = TopicId(Uuid::from_u128(7));
        let partition = PartitionId {
            topic: id,
            partition: Partition(300),
        };
        let mut cursor = Cursor::at(Offset(5));
        let bounds = CursorBounds::default();
        cursor.settle(Offset(9)..Offset(12), bounds).unwrap();
        let group = GroupId(200);
        vec![
            Change::TopicCreated {
                id,
                partitions: 3,
                name: TopicName::new("orders").unwrap(),
            },
            Change::TopicDeleted { id },
            Change::GroupCreated {
                id: group,
                kind: GroupKind::Native,
                name: GroupName::new("büro").unwrap(),
            },
            Change::GroupDeleted { id: group },
            Change::CursorSet {
                group,
                partition,
                cursor,
            },
            Change::Settled {
                group,
                partition,
                range: Offset(7)..Offset(8),
            },
            Change::QueueSet {
                id,
                group,
                settings: QueueSettings {
                    lease: Duration::from_millis(300),
                    max_deliveries: Some(5),
                    ttl: Some(Duration::from_secs(90)),
                },
            },
            Change::GroupCreated {
                id: group,
                kind: GroupKind::Queue,
                name: GroupName::new("jobs").unwrap(),
            },
            Change::GroupCreated {
                id: group,
                kind: GroupKind::Classic,
                name: GroupName::new("readers").unwrap(),
            },
            Change::Commit(CommitChange::Removed { group, partition }),
            Change::NextGroup { id: group },
            Change::Producer(ProducerChange::Forgotten {
                producer: ProducerId(1),
                partition,
            }),
        ]
    }

    #[test]
    fn every_change_comes_back_and_cut_ones_are_refused() {
        for change in all() {
            let mut bytes = Vec::new();
            let kind = change.encode(&mut bytes);
            assert_eq!(Change::decode(kind, &bytes), Ok(change.clone()));
            for cut in 0..bytes.len() {
                assert!(
                    Change::decode(kind, &bytes[..cut]).is_err(),
                    "{change:?} at {cut}"
                );
            }
            bytes.push(0);
            assert!(Change::decode(kind, &bytes).is_err(), "{change:?} and more");
        }
        let unknown = Change::decode(0x7777, &[]).unwrap_err();
        assert!(unknown.contains("0x7777"), "{unknown}");
    }
}
