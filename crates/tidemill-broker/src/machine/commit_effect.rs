//! What clients keep beside a group's position, and the changes about it, as journal and
//! snapshots hold them: numbers and byte layout, as in [`super::effect`]. This room decides
//! nothing.

use bytestring::ByteString;
use tidemill_core::{Offset, varint};
use tidemill_log::PartitionId;

use super::effect::{Reader, put_partition, put_text};
use super::state::GroupId;
use crate::share::ShareSettings;

const COMMITTED: u16 = 0x0015;
const POSITION_REMOVED: u16 = 0x0016;
const SHARE_SET: u16 = 0x0017;

/// What a client keeps beside a position that it commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitNote {
    /// The leader epoch of the last record before it, where the client knows that.
    pub leader_epoch: Option<u32>,
    /// Whatever the client likes.
    pub metadata: ByteString,
}

impl CommitNote {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::put(
            out,
            self.leader_epoch.map_or(0, |epoch| u64::from(epoch) + 1),
        );
        put_text(out, &self.metadata);
    }
}

/// The last commit of a client for a partition. It says something of the group's position for as
/// long as that is its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: Offset,
    /// When, in milliseconds since 1970; for people.
    pub(crate) at_ms: u64,
    pub(crate) note: CommitNote,
}

impl Committed {
    /// Bytes that this needs in memory, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<PartitionId>() + size_of::<Self>() + self.note.metadata.len()
    }
}

/// One absolute change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommitChange {
    /// A client has committed this.
    Committed {
        group: GroupId,
        partition: PartitionId,
        committed: Committed,
    },
    /// The group has no position in this partition.
    Removed {
        group: GroupId,
        partition: PartitionId,
    },
    /// This is set for the group as a share group.
    Share {
        group: GroupId,
        settings: ShareSettings,
    },
}

impl CommitChange {
    /// Appends the change's bytes to `out` and answers its kind.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        match self {
            Self::Committed {
                group,
                partition,
                committed,
            } => {
                varint::put(out, group.0);
                put_partition(out, *partition);
                varint::put(out, committed.offset.0);
                varint::put(out, committed.at_ms);
                committed.note.encode(out);
                COMMITTED
            }
            Self::Removed { group, partition } => {
                varint::put(out, group.0);
                put_partition(out, *partition);
                POSITION_REMOVED
            }
            Self::Share { group, settings } => {
                varint::put(out, group.0);
                settings.encode(out);
                SHARE_SET
            }
        }
    }

    /// Reads a change back; `None` where the kind is none of these.
    pub(super) fn decode(kind: u16, reader: &mut Reader<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match kind {
            COMMITTED => Self::Committed {
                group: GroupId(reader.number()?),
                partition: reader.partition()?,
                committed: Committed {
                    offset: Offset(reader.number()?),
                    at_ms: reader.number()?,
                    note: reader.note()?,
                },
            },
            POSITION_REMOVED => Self::Removed {
                group: GroupId(reader.number()?),
                partition: reader.partition()?,
            },
            SHARE_SET => Self::Share {
                group: GroupId(reader.number()?),
                settings: ShareSettings::of([
                    reader.number()?,
                    reader.number()?,
                    reader.number()?,
                ])?,
            },
            _ => return Ok(None),
        }))
    }
}

impl Reader<'_> {
    pub(super) fn note(&mut self) -> Result<CommitNote, String> {
        let epoch = self.number()?.checked_sub(1).map(u32::try_from);
        Ok(CommitNote {
            leader_epoch: epoch.transpose().map_err(|error| error.to_string())?,
            metadata: self.text()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect_tests::{PARTITION, check};
    use super::*;

    #[test]
    fn every_change_comes_back_and_cut_ones_are_refused() {
        let (group, partition) = (GroupId(300), PARTITION);
        let committed = |leader_epoch, metadata: &'static str| CommitChange::Committed {
            group,
            partition,
            committed: Committed {
                offset: Offset(u64::MAX),
                at_ms: 1_700_000_000_000,
                note: CommitNote {
                    leader_epoch,
                    metadata: ByteString::from_static(metadata),
                },
            },
        };
        let all = [
            committed(None, ""),
            committed(Some(u32::MAX), "bis hierhin, für später"),
            CommitChange::Removed { group, partition },
            CommitChange::Share {
                group,
                settings: ShareSettings {
                    from_beginning: Some(true),
                    lock_ms: Some(300),
                    read_committed: Some(false),
                },
            },
        ];
        check(all, CommitChange::encode, CommitChange::decode);
    }
}
