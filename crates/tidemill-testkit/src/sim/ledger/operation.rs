//! What the simulator asks of the log, and the events that come of it: enough of each to make its
//! bytes again. May not know: the log's state, the disk.

use tidemill_core::{Partition, TopicId};
use tidemill_log::batch::{Marker, Producer, Record};
use tidemill_log::{Batch, BatchBuilder, Cleanup, CompressionType, PartitionId, PartitionSettings};
use uuid::Uuid;

use crate::sim::random::{Random, mix};

/// Partitions of one topic, so that some share a topic's folder.
const PARTITIONS_OF_A_TOPIC: u64 = 3;

/// Different keys of events.
const KEYS: u64 = 11;

/// The incarnation that markers of transactions name.
const COORDINATOR_EPOCH: i32 = 1;

/// The partition with the number `number`.
#[must_use]
pub fn partition_id(number: u64) -> PartitionId {
    let topic = u128::from(mix(number / PARTITIONS_OF_A_TOPIC));
    PartitionId {
        topic: TopicId(Uuid::from_u128((topic << 64) | topic)),
        partition: Partition((number % PARTITIONS_OF_A_TOPIC) as u32),
    }
}

/// Partitions that small workloads stay within. Records of these have their own times, so that
/// whoever looks at them knows each byte.
const FIRST_PARTITIONS: u64 = 15;

/// How a partition is set: one in three is packed with each codec, half of them are compacted, of
/// one in eight what is settled goes, and of those behind the first ones one in five has the times
/// of appending.
#[must_use]
pub fn settings_of(partition: u64) -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.compression = match partition % 3 {
        0 => CompressionType::None,
        1 => CompressionType::Lz4,
        _ => CompressionType::Zstd,
    };
    settings.cleanup = match partition % 8 {
        0..=2 => Cleanup::Delete,
        3 => Cleanup::Settled,
        4 | 5 => Cleanup::Compact,
        6 => Cleanup::CompactAndDelete,
        _ => Cleanup::Compact,
    };
    settings.append_time = partition > FIRST_PARTITIONS && partition % 5 == 1;
    if settings.cleanup == Cleanup::Settled {
        settings.segment_bytes = Some(2048);
    }
    if settings.cleanup.compacts() {
        settings.segment_bytes = Some(2048);
        settings.segment_ms = partition.is_multiple_of(2).then_some(100);
        settings.compaction_lag_max_ms = (partition % 8 != 7).then_some(0);
        if partition.is_multiple_of(2) {
            settings.delete_retention_ms = 50;
        }
    }
    settings
}

/// One thing that an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Makes a partition that never was before.
    Create(u64),
    /// Deletes a partition.
    Delete(u64),
    /// Appends `count` records of about `size` bytes; refused where the partition is not there.
    Publish {
        /// The partition's number.
        partition: u64,
        /// How many records, 1 or more.
        count: u32,
        /// Bytes of each record's value, 16 or more.
        size: u32,
    },
    /// The same as part of a transaction, which begins where it is not open yet.
    Join {
        /// The transaction's number.
        transaction: u64,
        /// The partition's number.
        partition: u64,
        /// How many records, 1 or more.
        count: u32,
        /// Bytes of each record's value, 16 or more.
        size: u32,
    },
    /// Ends a transaction in every partition that it reached; refused where it is not open.
    End {
        /// The transaction's number.
        transaction: u64,
        /// Whether its records count.
        commits: bool,
    },
    /// Settles the offsets `from..to`; refused where they do not exist.
    Settle {
        /// The partition's number.
        partition: u64,
        /// The first offset.
        from: u64,
        /// The offset after the last.
        to: u64,
    },
    /// Deletes the events below an offset; refused where it lies beyond the end.
    Trim {
        /// The partition's number.
        partition: u64,
        /// The first offset to be kept.
        before: u64,
    },
    /// Bounds what is kept; refused where the partition is not there.
    Retain {
        /// The partition's number.
        partition: u64,
        /// For so long after an event's timestamp.
        retention_ms: Option<u64>,
        /// So many bytes at least.
        retention_bytes: Option<u64>,
    },
    /// Adds to a counter.
    Add {
        /// The counter.
        key: u64,
        /// How much.
        by: u64,
    },
}

/// One operation: all of its parts, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number, unique in a run.
    pub number: u64,
    /// What it does.
    pub parts: Vec<Part>,
}

/// What an event is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but itself.
    Plain,
    /// The transaction with this number.
    Of(u64),
    /// It ends a transaction.
    Marker {
        /// Which one.
        transaction: u64,
        /// Whether its records count.
        commits: bool,
    },
}

/// One event, as the model knows it: enough to make its bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef {
    /// The operation that published it.
    pub operation: u64,
    /// Which of its parts.
    pub part: u32,
    /// Which record of that part.
    pub record: u32,
    /// Bytes of its value.
    pub size: u32,
    /// What it is part of.
    pub kind: Kind,
}

impl EventRef {
    /// Whether it has a key and no value, so that a compaction forgets the key.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        let name = self.operation << 16 | u64::from(self.part) << 8 | u64::from(self.record);
        self.key().is_some() && mix(name).is_multiple_of(6)
    }

    /// The bytes of the value: its name in front, then noise that follows from the name.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        if self.is_tombstone() {
            return None;
        }
        let mut value = Vec::with_capacity(self.size as usize + 8);
        value.extend(self.operation.to_le_bytes());
        value.extend(self.part.to_le_bytes());
        value.extend(self.record.to_le_bytes());
        let mut noise = self.noise();
        while value.len() < self.size as usize {
            value.extend(noise.bits().to_le_bytes());
        }
        value.truncate((self.size as usize).max(16));
        Some(value)
    }

    fn noise(&self) -> Random {
        Random::new(self.operation ^ u64::from(self.part) << 40)
    }

    /// Whether these are the bytes of the value.
    fn has_value(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            return self.is_tombstone();
        };
        let Some((head, rest)) = value.split_at_checked(16) else {
            return false;
        };
        let named = head.starts_with(&self.operation.to_le_bytes())
            && head.get(8..12) == Some(&self.part.to_le_bytes())
            && head.get(12..) == Some(&self.record.to_le_bytes());
        let mut noise = self.noise();
        let mut words = rest.chunks(8);
        !self.is_tombstone()
            && named
            && value.len() == (self.size as usize).max(16)
            && words.all(|word| noise.bits().to_le_bytes().starts_with(word))
    }

    /// The key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 1]> {
        let key = (self.operation + u64::from(self.record)) % KEYS;
        (key != KEYS - 1).then_some([key as u8])
    }

    /// The record's timestamp in milliseconds.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        (self.operation * 10 + u64::from(self.record)) as i64
    }

    /// Whether a record is this event, with its own time.
    #[must_use]
    pub fn is(&self, record: &Record) -> bool {
        record.timestamp_ms == self.timestamp_ms() && self.is_but_for_its_time(record)
    }

    /// Whether a record is this event, whatever its time.
    #[must_use]
    pub fn is_but_for_its_time(&self, record: &Record) -> bool {
        let key = record.key.as_deref();
        if let Kind::Marker { commits, .. } = self.kind {
            return key == Some(&[0, 0, 0, u8::from(commits)])
                && record.value.as_deref() == Some(&[0, 0, 0, 0, 0, COORDINATOR_EPOCH as u8]);
        }
        let own = self.key();
        key == own.as_ref().map(|key| &key[..])
            && self.has_value(record.value.as_deref())
            && record.headers.len() == 1
    }
}

/// The events of one publishing part.
pub fn events_of(
    operation: u64,
    part: u32,
    count: u32,
    size: u32,
    kind: Kind,
) -> impl Iterator<Item = EventRef> {
    (0..count).map(move |record| EventRef {
        operation,
        part,
        record,
        size,
        kind,
    })
}

/// The event that ends a transaction in a partition.
#[must_use]
pub fn marker(operation: u64, part: u32, transaction: u64, commits: bool) -> EventRef {
    EventRef {
        operation,
        part,
        record: 0,
        size: 0,
        kind: Kind::Marker {
            transaction,
            commits,
        },
    }
}

pub(crate) fn marker_batch(event: &EventRef) -> Option<Batch> {
    let Kind::Marker {
        transaction,
        commits,
    } = event.kind
    else {
        return None;
    };
    let marker = if commits {
        Marker::Commit
    } else {
        Marker::Abort
    };
    let id = transaction as i64;
    Some(marker.batch(id, 0, COORDINATOR_EPOCH, event.timestamp_ms()))
}

pub(crate) fn batch_of(operation: u64, part: u32, count: u32, size: u32, kind: Kind) -> Batch {
    let mut builder = BatchBuilder::new();
    if let Kind::Of(transaction) = kind {
        let producer = Producer {
            id: transaction as i64,
            epoch: 0,
            base_sequence: (operation % 1_000_000) as i32,
        };
        builder = builder.producer(producer).transactional();
    }
    for event in events_of(operation, part, count, size, kind) {
        let (key, value) = (event.key(), event.value());
        let key = key.as_ref().map(|key| &key[..]);
        builder
            .push(
                event.timestamp_ms(),
                key,
                value.as_deref(),
                [("n", key)].into_iter(),
            )
            .expect("the simulator's batches are small");
    }
    builder
        .finish()
        .expect("a part publishes at least one record")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_knows_its_own_record_and_no_other() {
        let kinds = [Kind::Plain, Kind::Of(3)];
        let batches = kinds.map(|kind| (kind, batch_of(17, 1, 30, 70, kind)));
        for (kind, batch) in batches {
            let events: Vec<_> = events_of(17, 1, 30, 70, kind).collect();
            let with = |wanted: bool| events.iter().filter(|e| e.is_tombstone() == wanted).count();
            assert!(with(true) > 0 && with(false) > 0, "both sorts are there");
            for (at, record) in batch.records().enumerate() {
                let record = record.unwrap();
                for (other, event) in events.iter().enumerate() {
                    assert_eq!(event.is(&record), at == other, "{at} and {other}");
                }
                let longer = EventRef {
                    size: 71,
                    ..events[at]
                };
                assert_eq!(longer.is(&record), events[at].is_tombstone());
            }
        }
    }

    #[test]
    fn a_marker_knows_how_its_transaction_ended() {
        let (commit, abort) = (marker(5, 0, 9, true), marker(5, 0, 9, false));
        let batch = marker_batch(&commit).unwrap();
        let record = batch.records().next().unwrap().unwrap();
        assert!(commit.is(&record) && !abort.is(&record));
        assert!(marker_batch(&events_of(5, 0, 1, 16, Kind::Plain).next().unwrap()).is_none());
    }
}
