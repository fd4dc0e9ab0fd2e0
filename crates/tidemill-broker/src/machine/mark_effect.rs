//! Attempt markers: which events were given out since the process last died, and how often, as
//! journal and snapshots hold them: numbers and byte layout, as in [`super::effect`]. This room
//! decides nothing.

use tidemill_core::{Offset, varint};
use tidemill_log::PartitionId;

use super::effect::{Change, Reader, put_partition};
use super::state::GroupId;

const MARKED: u16 = 0x0018;

/// What is known of an event that was given out in a life of the process that began after a bad
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// In how many such lives it was given out; 0: nothing is known of it any more.
    pub(crate) attempts: u32,
    /// The incarnation of the last of them.
    pub(crate) epoch: u64,
    /// When that was in the first of them, in milliseconds since 1970.
    pub(crate) first_ms: u64,
    /// When it was in the last of them.
    pub(crate) last_ms: u64,
}

/// One absolute change: what is known of an event is this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MarkChange {
    pub(crate) group: GroupId,
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
    pub(crate) mark: Mark,
}

impl MarkChange {
    /// Appends the change's bytes to `out` and answers its kind.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        varint::put(out, self.group.0);
        put_partition(out, self.partition);
        varint::put(out, self.offset.0);
        varint::put(out, u64::from(self.mark.attempts));
        varint::put(out, self.mark.epoch);
        varint::put(out, self.mark.first_ms);
        varint::put(out, self.mark.last_ms);
        MARKED
    }

    /// Reads a change back; `None` where the kind is another one.
    pub(super) fn decode(kind: u16, reader: &mut Reader<'_>) -> Result<Option<Self>, String> {
        if kind != MARKED {
            return Ok(None);
        }
        Ok(Some(Self {
            group: GroupId(reader.number()?),
            partition: reader.partition()?,
            offset: Offset(reader.number()?),
            mark: Mark {
                attempts: reader.number_32()?,
                epoch: reader.number()?,
                first_ms: reader.number()?,
                last_ms: reader.number()?,
            },
        }))
    }
}

impl From<MarkChange> for Change {
    fn from(change: MarkChange) -> Self {
        Self::Mark(change)
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect_tests::{PARTITION, check};
    use super::*;

    #[test]
    fn every_marker_comes_back_and_cut_ones_are_refused() {
        let marked = |attempts| MarkChange {
            group: GroupId(300),
            partition: PARTITION,
            offset: Offset(u64::MAX),
            mark: Mark {
                attempts,
                epoch: 700,
                first_ms: 1_700_000_000_000,
                last_ms: 1_700_000_000_001,
            },
        };
        let all = [marked(0), marked(3), marked(u32::MAX)];
        check(all, MarkChange::encode, MarkChange::decode);
    }
}
