//! The changes of what is known of producers, as journal and snapshots hold them: numbers and
//! byte layout, as in [`super::effect`]. This room decides nothing.

use tidemill_core::{Offset, varint};
use tidemill_log::PartitionId;

use super::effect::{Reader, put_partition};
use crate::limits::PRODUCER_BATCHES_MAX;
use crate::producer::{Entry, ProducerEpoch, ProducerId, Sequence, Written};
use crate::transaction::AbortedRange;

const STATE: u16 = 0x0020;
const FORGOTTEN: u16 = 0x0022;
const ABORTED: u16 = 0x0026;

/// One absolute change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProducerChange {
    /// Exactly this is known of a producer in a partition. Only in snapshots: otherwise it
    /// follows from the batches.
    State {
        producer: ProducerId,
        partition: PartitionId,
        entry: Entry,
    },
    /// Nothing is known of a producer in a partition any longer.
    Forgotten {
        producer: ProducerId,
        partition: PartitionId,
    },
    /// A transaction was aborted in a partition. Only in snapshots, in the order of their ends:
    /// otherwise it follows from the batches.
    Aborted {
        partition: PartitionId,
        range: AbortedRange,
    },
}

pub(super) fn put_producer(out: &mut Vec<u8>, id: ProducerId) {
    // Never negative: such ids are refused.
    varint::put(out, id.0.unsigned_abs());
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    varint::put(out, u64::from(entry.epoch.0.unsigned_abs()));
    varint::put(out, entry.open.map_or(0, |first| first.next().0));
    varint::put(out, entry.written.len() as u64);
    for written in &entry.written {
        varint::put(out, u64::from(written.first.number().unsigned_abs()));
        varint::put(out, u64::from(written.last.number().unsigned_abs()));
        varint::put(out, written.base.0);
    }
}

impl ProducerChange {
    /// Appends the change's bytes to `out` and answers its kind.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        match self {
            Self::State {
                producer,
                partition,
                entry,
            } => {
                put_producer(out, *producer);
                put_partition(out, *partition);
                put_entry(out, entry);
                STATE
            }
            Self::Forgotten {
                producer,
                partition,
            } => {
                put_producer(out, *producer);
                put_partition(out, *partition);
                FORGOTTEN
            }
            Self::Aborted { partition, range } => {
                put_producer(out, range.producer);
                put_partition(out, *partition);
                for offset in [range.first, range.last, range.stable] {
                    varint::put(out, offset.0);
                }
                ABORTED
            }
        }
    }

    /// Reads a change back; `None` where the kind is none of these.
    pub(super) fn decode(kind: u16, reader: &mut Reader<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match kind {
            STATE => Self::State {
                producer: reader.producer()?,
                partition: reader.partition()?,
                entry: reader.entry()?,
            },
            FORGOTTEN => Self::Forgotten {
                producer: reader.producer()?,
                partition: reader.partition()?,
            },
            ABORTED => {
                let producer = reader.producer()?;
                Self::Aborted {
                    partition: reader.partition()?,
                    range: AbortedRange {
                        producer,
                        first: Offset(reader.number()?),
                        last: Offset(reader.number()?),
                        stable: Offset(reader.number()?),
                    },
                }
            }
            _ => return Ok(None),
        }))
    }
}

impl Reader<'_> {
    pub(super) fn producer(&mut self) -> Result<ProducerId, String> {
        let id = i64::try_from(self.number()?).map_err(|e| e.to_string())?;
        Ok(ProducerId(id))
    }

    pub(super) fn epoch(&mut self) -> Result<ProducerEpoch, String> {
        let epoch = i16::try_from(self.number()?).map_err(|e| e.to_string())?;
        Ok(ProducerEpoch(epoch))
    }

    fn sequence(&mut self) -> Result<Sequence, String> {
        let number = i32::try_from(self.number()?).map_err(|e| e.to_string())?;
        Sequence::new(number).ok_or_else(|| "a sequence is negative".into())
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let epoch = self.epoch()?;
        let open = self.number()?.checked_sub(1).map(Offset);
        let count = self.number()?;
        if count > PRODUCER_BATCHES_MAX as u64 {
            return Err("a producer has too many batches".into());
        }
        let written = (0..count).map(|_| {
            Ok(Written {
                first: self.sequence()?,
                last: self.sequence()?,
                base: Offset(self.number()?),
            })
        });
        Ok(Entry {
            written: written.collect::<Result<_, String>>()?,
            epoch,
            open,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::effect_tests::{PARTITION, PRODUCER, check};
    use super::*;

    #[test]
    fn every_change_comes_back_and_cut_ones_are_refused() {
        let (partition, producer) = (PARTITION, PRODUCER);
        let written = Written {
            first: Sequence::new(i32::MAX).unwrap(),
            last: Sequence::default(),
            base: Offset(77),
        };
        let entry = Entry {
            epoch: ProducerEpoch(i16::MAX),
            written: vec![written; PRODUCER_BATCHES_MAX],
            open: Some(Offset(0)),
        };
        let all = [
            ProducerChange::State {
                producer,
                partition,
                entry,
            },
            ProducerChange::Forgotten {
                producer,
                partition,
            },
            ProducerChange::Aborted {
                partition,
                range: AbortedRange {
                    producer,
                    first: Offset(4),
                    last: Offset(400),
                    stable: Offset(u64::MAX),
                },
            },
        ];
        check(all, ProducerChange::encode, ProducerChange::decode);
    }
}
