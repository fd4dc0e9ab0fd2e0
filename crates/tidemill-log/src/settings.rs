//! What may be set for one partition: how long it is kept, whether it is compacted, how its
//! records are packed, when its segments are rolled. Settings are journaled, and the log itself
//! acts on them.
//!
//! This room may not know topics' names or who sets what; `FORMAT.md` has the layout.

use bytes::{Buf, BufMut, Bytes};

use crate::batch::CompressionType;
use crate::limits::{
    DELETE_RETENTION_MS, OWN_SEGMENTS_MAX, SEGMENT_AGE_MAX_MS, SEGMENT_AGE_MIN_MS,
    SEGMENT_BYTES_MIN,
};

/// What becomes of a partition's old records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cleanup {
    /// Whole segments are deleted by age and size; where neither is set, everything is kept.
    #[default]
    Delete,
    /// Records whose key has a later record are removed.
    Compact,
    /// Both.
    CompactAndDelete,
    /// Whole segments are deleted once all of their offsets are settled, wherever they lie:
    /// [`crate::Machine::is_settled`] says so. Age and size have no part in it.
    Settled,
}

impl Cleanup {
    /// Whether segments are deleted by age and size.
    #[must_use]
    pub fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }

    /// Whether only the latest record of each key is kept.
    #[must_use]
    pub fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }
}

/// The settings of one partition. Begin with [`PartitionSettings::default`] and change fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSettings {
    /// What becomes of old records.
    pub cleanup: Cleanup,
    /// A segment is deleted this many milliseconds after its latest record; `None`: never.
    pub retention_ms: Option<u64>,
    /// The oldest segments are deleted as long as the others have this many bytes; `None`:
    /// never.
    pub retention_bytes: Option<u64>,
    /// A segment is closed this many milliseconds after its first record was written; `None`:
    /// see [`PartitionSettings::roll_after_ms`].
    pub segment_ms: Option<u64>,
    /// A segment is closed at this many bytes; `None`: at a quarter of the retention's bytes, or
    /// as the log's options say, whichever is less.
    pub segment_bytes: Option<u64>,
    /// How long a compacted record without a value is kept, in milliseconds.
    pub delete_retention_ms: u64,
    /// Records younger than this many milliseconds are not compacted.
    pub compaction_lag_min_ms: u64,
    /// Records older than this many milliseconds are compacted however little there is to be
    /// compacted; `None`: they wait until it is worth it.
    pub compaction_lag_max_ms: Option<u64>,
    /// How batches are packed on their way into segments. What is in segments already stays as
    /// it is.
    pub compression: CompressionType,
    /// Records get the time at which they are appended, whatever they say: see
    /// [`crate::Draft::append`].
    pub append_time: bool,
    /// The largest batch that is taken, in bytes; `None`: whoever appends has no bound of the
    /// partition's own. As with the two below, whoever appends looks at it, not the log.
    pub batch_max_bytes: Option<u64>,
    /// By how many milliseconds the time of a record may lie before that of its appending;
    /// `None`: by any.
    pub time_before_max_ms: Option<u64>,
    /// By how many milliseconds it may lie behind that; `None`: by any.
    pub time_after_max_ms: Option<u64>,
}

impl Default for PartitionSettings {
    fn default() -> Self {
        Self {
            cleanup: Cleanup::Delete,
            retention_ms: None,
            retention_bytes: None,
            segment_ms: None,
            segment_bytes: None,
            delete_retention_ms: DELETE_RETENTION_MS,
            compaction_lag_min_ms: 0,
            compaction_lag_max_ms: None,
            compression: CompressionType::None,
            append_time: false,
            batch_max_bytes: None,
            time_before_max_ms: None,
            time_after_max_ms: None,
        }
    }
}

const CLEANUP: u32 = 1;
const RETENTION_MS: u32 = 2;
const RETENTION_BYTES: u32 = 3;
const SEGMENT_MS: u32 = 4;
const SEGMENT_BYTES: u32 = 5;
const DELETE_RETENTION: u32 = 6;
const COMPACTION_LAG_MIN: u32 = 7;
const COMPACTION_LAG_MAX: u32 = 8;
const COMPRESSION: u32 = 9;
const APPEND_TIME: u32 = 10;
const BATCH_MAX_BYTES: u32 = 11;
const TIME_BEFORE_MAX: u32 = 12;
const TIME_AFTER_MAX: u32 = 13;

/// Bytes of one setting: its number and its value.
const SETTING_BYTES: usize = 12;

impl PartitionSettings {
    /// After how many milliseconds the active segment is closed: as set, else a quarter of
    /// the retention, within bounds, so that nothing is kept much longer than asked for; and
    /// where records must be compacted after some time, by then. `None` where age has no part in
    /// it.
    #[must_use]
    pub fn roll_after_ms(&self) -> Option<u64> {
        let by_retention = self.retention_ms.filter(|_| self.cleanup.deletes());
        let least = by_retention.map(|ms| ms / 4);
        let least = least.or(self.cleanup.compacts().then_some(SEGMENT_AGE_MAX_MS));
        let bounded = least.map(|ms| ms.clamp(SEGMENT_AGE_MIN_MS, SEGMENT_AGE_MAX_MS));
        let own = self.segment_ms.or(bounded);
        // Only closed segments are compacted.
        let lag_ms = self
            .compaction_lag_max_ms
            .filter(|_| self.cleanup.compacts());
        match lag_ms.map(|ms| ms.max(SEGMENT_AGE_MIN_MS)) {
            Some(lag_ms) => Some(own.map_or(lag_ms, |own| own.min(lag_ms))),
            None => own,
        }
    }

    /// These settings for a partition of so many segments: where it has very many already,
    /// without what makes more of them.
    pub(crate) fn among(mut self, segments: usize) -> Self {
        if segments >= OWN_SEGMENTS_MAX {
            (self.segment_ms, self.segment_bytes) = (None, None);
            self.compaction_lag_max_ms = None;
        }
        self
    }

    /// Bytes at which a segment is closed, where the log's options say `otherwise`.
    #[must_use]
    pub fn roll_at_bytes(&self, otherwise: u64) -> u64 {
        let by_retention = self.retention_bytes.filter(|_| self.cleanup.deletes());
        let quarter = by_retention.map(|bytes| (bytes / 4).max(SEGMENT_BYTES_MIN));
        let own = self.segment_bytes.or(quarter);
        own.map_or(otherwise, |own| own.min(otherwise))
    }

    /// Whether time alone can make something of the partition go.
    pub(crate) fn needs_looks(&self) -> bool {
        let deletes = self.retention_ms.is_some() || self.retention_bytes.is_some();
        let settles = self.cleanup == Cleanup::Settled;
        self.cleanup.compacts() || settles || self.segment_ms.is_some() || deletes
    }

    /// The settings that are not as they are by default, with their numbers.
    fn numbers(&self) -> impl Iterator<Item = (u32, u64)> {
        let cleanup = match self.cleanup {
            Cleanup::Delete => None,
            Cleanup::Compact => Some(1),
            Cleanup::CompactAndDelete => Some(2),
            Cleanup::Settled => Some(3),
        };
        let compression = self.compression.codec() as u64;
        let unless = |value: u64, usual: u64| (value != usual).then_some(value);
        [
            (CLEANUP, cleanup),
            (RETENTION_MS, self.retention_ms),
            (RETENTION_BYTES, self.retention_bytes),
            (SEGMENT_MS, self.segment_ms),
            (SEGMENT_BYTES, self.segment_bytes),
            (
                DELETE_RETENTION,
                unless(self.delete_retention_ms, DELETE_RETENTION_MS),
            ),
            (COMPACTION_LAG_MIN, unless(self.compaction_lag_min_ms, 0)),
            (COMPACTION_LAG_MAX, self.compaction_lag_max_ms),
            (COMPRESSION, unless(compression, 0)),
            (APPEND_TIME, self.append_time.then_some(1)),
            (BATCH_MAX_BYTES, self.batch_max_bytes),
            (TIME_BEFORE_MAX, self.time_before_max_ms),
            (TIME_AFTER_MAX, self.time_after_max_ms),
        ]
        .into_iter()
        .filter_map(|(number, value)| Some((number, value?)))
    }

    /// How many settings are not as they are by default.
    pub(crate) fn count(&self) -> usize {
        self.numbers().count()
    }

    /// Bytes that [`PartitionSettings::put`] writes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.count() * SETTING_BYTES
    }

    /// Writes them without their count.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for (number, value) in self.numbers() {
            out.put_u32_le(number);
            out.put_u64_le(value);
        }
    }

    /// Reads `count` settings; `None` where they end too early or one is unknown.
    pub(crate) fn get(bytes: &mut Bytes, count: usize) -> Option<Self> {
        let mut settings = Self::default();
        for _ in 0..count {
            if bytes.len() < SETTING_BYTES {
                return None;
            }
            let number = bytes.get_u32_le();
            let value = bytes.get_u64_le();
            match number {
                CLEANUP => {
                    settings.cleanup = match value {
                        0 => Cleanup::Delete,
                        1 => Cleanup::Compact,
                        2 => Cleanup::CompactAndDelete,
                        3 => Cleanup::Settled,
                        _ => return None,
                    }
                }
                RETENTION_MS => settings.retention_ms = Some(value),
                RETENTION_BYTES => settings.retention_bytes = Some(value),
                SEGMENT_MS => settings.segment_ms = Some(value),
                SEGMENT_BYTES => settings.segment_bytes = Some(value),
                DELETE_RETENTION => settings.delete_retention_ms = value,
                COMPACTION_LAG_MIN => settings.compaction_lag_min_ms = value,
                COMPACTION_LAG_MAX => settings.compaction_lag_max_ms = Some(value),
                COMPRESSION => {
                    settings.compression = match value {
                        0 => CompressionType::None,
                        3 => CompressionType::Lz4,
                        4 => CompressionType::Zstd,
                        _ => return None,
                    }
                }
                APPEND_TIME if value <= 1 => settings.append_time = value == 1,
                BATCH_MAX_BYTES => settings.batch_max_bytes = Some(value),
                TIME_BEFORE_MAX => settings.time_before_max_ms = Some(value),
                TIME_AFTER_MAX => settings.time_after_max_ms = Some(value),
                _ => return None,
            }
        }
        Some(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> PartitionSettings {
        PartitionSettings {
            cleanup: Cleanup::CompactAndDelete,
            retention_ms: Some(1),
            retention_bytes: Some(2),
            segment_ms: Some(3),
            segment_bytes: Some(4),
            delete_retention_ms: 5,
            compaction_lag_min_ms: 6,
            compaction_lag_max_ms: Some(7),
            compression: CompressionType::Zstd,
            append_time: true,
            batch_max_bytes: Some(8),
            time_before_max_ms: Some(9),
            time_after_max_ms: Some(10),
        }
    }

    #[test]
    fn settings_come_back_and_unknown_ones_are_refused() {
        let settled = PartitionSettings {
            cleanup: Cleanup::Settled,
            ..all()
        };
        for settings in [PartitionSettings::default(), all(), settled] {
            let mut out = Vec::new();
            settings.put(&mut out);
            assert_eq!(out.len(), settings.size_bytes());
            let count = settings.count();
            let read = PartitionSettings::get(&mut Bytes::from(out.clone()), count);
            assert_eq!(read, Some(settings));
            out.extend_from_slice(&[99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let unknown = PartitionSettings::get(&mut Bytes::from(out), count + 1);
            assert_eq!(unknown, None);
        }
    }

    #[test]
    fn a_segment_is_closed_early_enough_to_expire() {
        let day = 24 * 60 * 60 * 1000;
        let mut settings = PartitionSettings::default();
        assert_eq!(settings.roll_after_ms(), None);
        settings.retention_ms = Some(4 * day);
        assert_eq!(settings.roll_after_ms(), Some(day));
        settings.retention_ms = Some(1);
        assert_eq!(settings.roll_after_ms(), Some(SEGMENT_AGE_MIN_MS));
        settings.segment_ms = Some(9);
        assert_eq!(settings.roll_after_ms(), Some(9));
        settings.segment_ms = Some(day);
        settings.compaction_lag_max_ms = Some(5000);
        assert_eq!(settings.roll_after_ms(), Some(day), "nothing is compacted");
        settings.cleanup = Cleanup::Compact;
        assert_eq!(settings.roll_after_ms(), Some(5000));
        settings.compaction_lag_max_ms = Some(0);
        assert_eq!(settings.roll_after_ms(), Some(SEGMENT_AGE_MIN_MS));
    }

    #[test]
    fn a_partition_of_very_many_segments_makes_no_more_of_its_own() {
        let few = all().among(OWN_SEGMENTS_MAX - 1);
        assert_eq!(few, all());
        let many = all().among(OWN_SEGMENTS_MAX);
        assert_eq!(many.roll_at_bytes(1 << 30), SEGMENT_BYTES_MIN);
        let mut kept = all();
        kept.retention_bytes = None;
        assert_eq!(kept.roll_at_bytes(1 << 30), 4);
        assert_eq!(kept.among(OWN_SEGMENTS_MAX).roll_at_bytes(7), 7);
    }
}
