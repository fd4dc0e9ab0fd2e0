//! What is kept of a topic, and how: the settings that a topic is made with, and changes of them.
//!
//! This room may not know how the log carries them out.

use std::ops::RangeInclusive;

use serde::{Serialize, Serializer};
use tidemill_log::limits::{
    BATCH_MAX_BYTES, DELETE_RETENTION_MS, SEGMENT_BYTES_MIN, SEGMENT_MAX_BYTES,
};
use tidemill_log::{Cleanup, CompressionType, PartitionSettings};

use crate::error::TopicError;
use crate::limits::COMPACTED_SEGMENT_BYTES;

/// What is kept of each partition of a topic, and how. The default keeps everything, unpacked.
///
/// Whole segments go, never the one that is written to: a partition keeps at least what was asked
/// for, and up to a segment more. A segment is closed after a quarter of the retention at the
/// latest, whichever of age and bytes comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TopicSettings {
    /// Events are deleted this many milliseconds after their time; 0: as soon as may be, which is
    /// seconds after they were appended; `None`: never.
    pub retention_ms: Option<u64>,
    /// Old events are deleted once a partition has this many bytes without them; 0: as soon as
    /// their segment is closed; `None`: never.
    pub retention_bytes: Option<u64>,
    /// Only the latest event of each key stays, in the end; an event without data deletes its
    /// key's, and goes itself after [`TopicSettings::tombstone_retention_ms`]. Events without a
    /// key stay, and so do those of transactions. Retentions hold beside it.
    pub compact: bool,
    /// How batches are packed on their way into segments.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub compression: CompressionType,
    /// A segment is closed so many milliseconds after it was begun, at least 1, at the next look
    /// of the log; `None`: as the retentions and compaction have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_ms: Option<u64>,
    /// A segment is closed at so many bytes, within [`TopicSettings::SEGMENT_BYTES`]; `None`: as
    /// the retentions and compaction have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<u64>,
    /// Where the topic is compacted, events younger than so many milliseconds are not; `None`: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_after_ms: Option<u64>,
    /// Where the topic is compacted, an event is so after so many milliseconds at the latest, and
    /// the time that the log takes for it; at least 1, and not less than
    /// [`TopicSettings::compact_after_ms`]. `None`: it waits until it is worth it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact_within_ms: Option<u64>,
    /// Where the topic is compacted, how many milliseconds an event without data stays after what
    /// it deletes is gone; it goes with the next compaction after. `None`: a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone_retention_ms: Option<u64>,
    /// The time of a record is that of its appending, by the broker's clock, whatever its producer
    /// says; retention and searches go by it.
    pub append_time: bool,
    /// The largest record batch that a producer may send, in bytes, within
    /// [`TopicSettings::BATCH_MAX_BYTES`]; an event that is published in another way is refused
    /// where it alone would make a larger one. `None`: as everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_max_bytes: Option<u64>,
    /// By how many milliseconds the time of a producer's record may lie before the broker's clock,
    /// unless it gets the time of its appending; `None`: by any. What is published as events has
    /// the broker's time anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_before_max_ms: Option<u64>,
    /// By how many it may lie behind it; `None`: by any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_after_max_ms: Option<u64>,
}

fn as_text<S: Serializer>(compression: &CompressionType, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(compression)
}

impl TopicSettings {
    /// How many bytes a segment may be closed at.
    pub const SEGMENT_BYTES: RangeInclusive<u64> = SEGMENT_BYTES_MIN..=SEGMENT_MAX_BYTES;

    /// What any time or number of bytes may be at most: as much as clients of Kafka can read.
    pub const NUMBER_MAX: u64 = i64::MAX as u64;

    /// What a topic's largest record batch may be, in bytes.
    pub const BATCH_MAX_BYTES: RangeInclusive<u64> = 1..=BATCH_MAX_BYTES as u64;

    /// What the log says of a partition.
    pub(crate) fn of(settings: &PartitionSettings) -> Self {
        let mut of = Self {
            retention_ms: settings.retention_ms,
            retention_bytes: settings.retention_bytes,
            compact: settings.cleanup.compacts(),
            compression: settings.compression,
            segment_ms: settings.segment_ms,
            segment_bytes: None,
            compact_after_ms: unless(settings.compaction_lag_min_ms, 0),
            compact_within_ms: settings.compaction_lag_max_ms,
            tombstone_retention_ms: unless(settings.delete_retention_ms, DELETE_RETENTION_MS),
            append_time: settings.append_time,
            batch_max_bytes: settings.batch_max_bytes,
            time_before_max_ms: settings.time_before_max_ms,
            time_after_max_ms: settings.time_after_max_ms,
        };
        // What a topic has without being asked is not told as a setting of it.
        of.segment_bytes = settings
            .segment_bytes
            .filter(|bytes| Some(*bytes) != of.own_segment_bytes());
        of
    }

    /// For each partition, once they are checked.
    ///
    /// # Errors
    /// [`TopicError::Limit`] where one of them is out of its bounds, or this build cannot pack so.
    pub(crate) fn checked(self) -> Result<PartitionSettings, TopicError> {
        let checked = self.check().and_then(|()| packs(self.compression));
        checked.map_err(TopicError::Limit)?;
        Ok(self.over(PartitionSettings::default()))
    }

    /// These with a change of them.
    #[must_use]
    pub fn with(mut self, change: &AlterTopic) -> Self {
        fn take<T: Copy>(of: &mut T, change: Option<T>) {
            *of = change.unwrap_or(*of);
        }
        take(&mut self.retention_ms, change.retention_ms);
        take(&mut self.retention_bytes, change.retention_bytes);
        take(&mut self.compact, change.compact);
        take(&mut self.compression, change.compression);
        take(&mut self.segment_ms, change.segment_ms);
        take(&mut self.segment_bytes, change.segment_bytes);
        take(&mut self.compact_after_ms, change.compact_after_ms);
        take(&mut self.compact_within_ms, change.compact_within_ms);
        take(
            &mut self.tombstone_retention_ms,
            change.tombstone_retention_ms,
        );
        take(&mut self.append_time, change.append_time);
        take(&mut self.batch_max_bytes, change.batch_max_bytes);
        take(&mut self.time_before_max_ms, change.time_before_max_ms);
        take(&mut self.time_after_max_ms, change.time_after_max_ms);
        self
    }

    /// After how many milliseconds a segment is closed, whoever says so; `None`: age has no part
    /// in it.
    #[must_use]
    pub fn closes_after_ms(&self) -> Option<u64> {
        self.over(PartitionSettings::default()).roll_after_ms()
    }

    /// At how many bytes a segment is closed, whoever says so, where the log was opened with its
    /// usual options.
    #[must_use]
    pub fn closes_at_bytes(&self) -> u64 {
        let settings = self.over(PartitionSettings::default());
        settings.roll_at_bytes(SEGMENT_MAX_BYTES)
    }

    /// At how many bytes a segment is closed where nobody says so, if not as the log has it.
    fn own_segment_bytes(&self) -> Option<u64> {
        // Only closed segments are compacted.
        let quarter = self.retention_bytes.map_or(u64::MAX, |bytes| bytes / 4);
        let bytes = quarter.clamp(SEGMENT_BYTES_MIN, COMPACTED_SEGMENT_BYTES);
        self.compact.then_some(bytes)
    }

    /// What a partition has of `settings`, with these in their place.
    fn over(self, mut settings: PartitionSettings) -> PartitionSettings {
        settings.retention_ms = self.retention_ms;
        settings.retention_bytes = self.retention_bytes;
        settings.compression = self.compression;
        settings.segment_ms = self.segment_ms;
        settings.segment_bytes = self.segment_bytes.or(self.own_segment_bytes());
        settings.compaction_lag_min_ms = self.compact_after_ms.unwrap_or(0);
        settings.compaction_lag_max_ms = self.compact_within_ms;
        settings.delete_retention_ms = self.tombstone_retention_ms.unwrap_or(DELETE_RETENTION_MS);
        settings.append_time = self.append_time;
        settings.batch_max_bytes = self.batch_max_bytes;
        settings.time_before_max_ms = self.time_before_max_ms;
        settings.time_after_max_ms = self.time_after_max_ms;
        settings.cleanup = match (self.compact, self.retention_ms, self.retention_bytes) {
            (false, ..) => Cleanup::Delete,
            (true, None, None) => Cleanup::Compact,
            (true, ..) => Cleanup::CompactAndDelete,
        };
        settings
    }

    /// The times and bytes that have no other upper bound, by their names.
    fn numbers(&self) -> [(&'static str, Option<u64>); 8] {
        [
            ("retention_ms", self.retention_ms),
            ("retention_bytes", self.retention_bytes),
            ("segment_ms", self.segment_ms),
            ("compact_after_ms", self.compact_after_ms),
            ("compact_within_ms", self.compact_within_ms),
            ("tombstone_retention_ms", self.tombstone_retention_ms),
            ("time_before_max_ms", self.time_before_max_ms),
            ("time_after_max_ms", self.time_after_max_ms),
        ]
    }

    /// Whether each is within its bounds; else what is not.
    fn check(&self) -> Result<(), String> {
        if self.segment_ms == Some(0) || self.compact_within_ms == Some(0) {
            let why = "segment_ms and compact_within_ms are at least 1; leave them out for what is \
                       usual";
            return Err(why.to_owned());
        }
        let mut numbers = self.numbers().into_iter();
        let too_large = numbers.find(|(_, number)| *number > Some(Self::NUMBER_MAX));
        if let Some((name, _)) = too_large {
            return Err(format!("{name} is at most {}", Self::NUMBER_MAX));
        }
        let (least, most) = Self::SEGMENT_BYTES.into_inner();
        let bytes = self.segment_bytes.unwrap_or(least);
        if !Self::SEGMENT_BYTES.contains(&bytes) {
            return Err(format!("segment_bytes is {least} to {most}, not {bytes}"));
        }
        let (least, most) = Self::BATCH_MAX_BYTES.into_inner();
        let bytes = self.batch_max_bytes.unwrap_or(least);
        if !Self::BATCH_MAX_BYTES.contains(&bytes) {
            return Err(format!("batch_max_bytes is {least} to {most}, not {bytes}"));
        }
        if self.compact_within_ms.unwrap_or(u64::MAX) < self.compact_after_ms.unwrap_or(0) {
            let why = "compact_within_ms is at least compact_after_ms; raise it, or leave it out";
            return Err(why.to_owned());
        }
        Ok(())
    }
}

/// Whether this program can pack so; else what to do.
fn packs(compression: CompressionType) -> Result<(), String> {
    if compression.is_built() {
        return Ok(());
    }
    Err(format!(
        "this program cannot pack with {compression}; use lz4, or build it with the feature \
         {compression}"
    ))
}

/// The value, unless it is the usual one.
fn unless(value: u64, usual: u64) -> Option<u64> {
    (value != usual).then_some(value)
}

/// A change of a topic: what is `None` stays as it is. See
/// [`Broker::alter_topic`](crate::Broker::alter_topic).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlterTopic {
    /// How many partitions it has from now on: as many as it has, or more, up to
    /// [`TOPIC_PARTITIONS_MAX`](crate::limits::TOPIC_PARTITIONS_MAX).
    pub partitions: Option<u32>,
    /// As [`TopicSettings::retention_ms`]; `Some(None)`: never by their age.
    pub retention_ms: Option<Option<u64>>,
    /// As [`TopicSettings::retention_bytes`]; `Some(None)`: however many there are.
    pub retention_bytes: Option<Option<u64>>,
    /// As [`TopicSettings::compact`]. What a compaction has left out does not come back.
    pub compact: Option<bool>,
    /// As [`TopicSettings::compression`], for what is written into segments from now on.
    pub compression: Option<CompressionType>,
    /// As [`TopicSettings::segment_ms`]; `Some(None)`: what is usual, as with those below.
    pub segment_ms: Option<Option<u64>>,
    /// As [`TopicSettings::segment_bytes`], for segments that are written to from now on.
    pub segment_bytes: Option<Option<u64>>,
    /// As [`TopicSettings::compact_after_ms`].
    pub compact_after_ms: Option<Option<u64>>,
    /// As [`TopicSettings::compact_within_ms`].
    pub compact_within_ms: Option<Option<u64>>,
    /// As [`TopicSettings::tombstone_retention_ms`].
    pub tombstone_retention_ms: Option<Option<u64>>,
    /// As [`TopicSettings::append_time`], for what is appended from now on.
    pub append_time: Option<bool>,
    /// As [`TopicSettings::batch_max_bytes`].
    pub batch_max_bytes: Option<Option<u64>>,
    /// As [`TopicSettings::time_before_max_ms`].
    pub time_before_max_ms: Option<Option<u64>>,
    /// As [`TopicSettings::time_after_max_ms`].
    pub time_after_max_ms: Option<Option<u64>>,
}

/// The change that gives a topic these settings, whatever it has.
impl From<TopicSettings> for AlterTopic {
    fn from(settings: TopicSettings) -> Self {
        Self {
            partitions: None,
            retention_ms: Some(settings.retention_ms),
            retention_bytes: Some(settings.retention_bytes),
            compact: Some(settings.compact),
            compression: Some(settings.compression),
            segment_ms: Some(settings.segment_ms),
            segment_bytes: Some(settings.segment_bytes),
            compact_after_ms: Some(settings.compact_after_ms),
            compact_within_ms: Some(settings.compact_within_ms),
            tombstone_retention_ms: Some(settings.tombstone_retention_ms),
            append_time: Some(settings.append_time),
            batch_max_bytes: Some(settings.batch_max_bytes),
            time_before_max_ms: Some(settings.time_before_max_ms),
            time_after_max_ms: Some(settings.time_after_max_ms),
        }
    }
}

impl AlterTopic {
    /// Whether it names anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a partition that has these settings has from now on.
    ///
    /// # Errors
    /// What is out of its bounds then, or that this build cannot pack so.
    pub(crate) fn over(&self, have: PartitionSettings) -> Result<PartitionSettings, String> {
        let settings = Self {
            partitions: None,
            ..*self
        };
        if settings.is_empty() {
            return Ok(have);
        }
        packs(self.compression.unwrap_or_default())?;
        let settings = TopicSettings::of(&have).with(&settings);
        settings.check()?;
        Ok(settings.over(have))
    }
}
