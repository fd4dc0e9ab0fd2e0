//! What is kept of a topic, and how: the settings that a topic is made with, and changes of them.
//!
//! This room may not know how the log carries them out.

use serde::{Serialize, Serializer};
use tidemill_log::limits::SEGMENT_BYTES_MIN;
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
    /// Events are deleted this many milliseconds after their time, at least 1; `None`: never.
    pub retention_ms: Option<u64>,
    /// Old events are deleted once a partition has this many bytes without them, at least 1;
    /// `None`: never.
    pub retention_bytes: Option<u64>,
    /// Only the latest event of each key stays, in the end; an event without data deletes its
    /// key's, and goes itself a day after. Events without a key stay, and so do those of
    /// transactions. Retentions hold beside it.
    pub compact: bool,
    /// How batches are packed on their way into segments.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub compression: CompressionType,
}

fn as_text<S: Serializer>(compression: &CompressionType, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(compression)
}

impl TopicSettings {
    /// What the log says of a partition.
    pub(crate) fn of(settings: &PartitionSettings) -> Self {
        Self {
            retention_ms: settings.retention_ms,
            retention_bytes: settings.retention_bytes,
            compact: settings.cleanup.compacts(),
            compression: settings.compression,
        }
    }

    /// For each partition, once they are checked.
    ///
    /// # Errors
    /// [`TopicError::Limit`] where a retention is 0, or this build cannot pack so.
    pub(crate) fn checked(self) -> Result<PartitionSettings, TopicError> {
        check(self.retention_ms, self.retention_bytes, self.compression)?;
        Ok(self.over(PartitionSettings::default()))
    }

    /// What a partition has of `settings`, with these in their place.
    fn over(self, mut settings: PartitionSettings) -> PartitionSettings {
        settings.retention_ms = self.retention_ms;
        settings.retention_bytes = self.retention_bytes;
        settings.compression = self.compression;
        (settings.cleanup, settings.segment_bytes) = (Cleanup::Delete, None);
        if self.compact {
            settings.cleanup = match (self.retention_ms, self.retention_bytes) {
                (None, None) => Cleanup::Compact,
                _ => Cleanup::CompactAndDelete,
            };
            // Only closed segments are compacted.
            let quarter = self.retention_bytes.map_or(u64::MAX, |bytes| bytes / 4);
            settings.segment_bytes =
                Some(quarter.clamp(SEGMENT_BYTES_MIN, COMPACTED_SEGMENT_BYTES));
        }
        settings
    }
}

fn check(
    retention_ms: Option<u64>,
    retention_bytes: Option<u64>,
    compression: CompressionType,
) -> Result<(), TopicError> {
    if retention_ms == Some(0) || retention_bytes == Some(0) {
        let why = "a retention is at least 1; delete the topic instead, or leave it out to keep \
                   everything";
        return Err(TopicError::Limit(why.to_owned()));
    }
    if !compression.is_built() {
        let why = format!(
            "this program cannot pack with {compression}; use lz4, or build it with the feature \
             {compression}"
        );
        return Err(TopicError::Limit(why));
    }
    Ok(())
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
}

impl AlterTopic {
    /// Whether it names anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As [`TopicSettings::checked`], of what is named.
    pub(crate) fn checked(self) -> Result<Self, TopicError> {
        let compression = self.compression.unwrap_or_default();
        check(
            self.retention_ms.flatten(),
            self.retention_bytes.flatten(),
            compression,
        )?;
        Ok(self)
    }

    /// What a partition that has these settings has from now on.
    pub(crate) fn over(&self, have: PartitionSettings) -> PartitionSettings {
        let mut settings = TopicSettings::of(&have);
        let named = self.retention_ms.is_some()
            || self.retention_bytes.is_some()
            || self.compact.is_some()
            || self.compression.is_some();
        if !named {
            return have;
        }
        settings.retention_ms = self.retention_ms.unwrap_or(settings.retention_ms);
        settings.retention_bytes = self.retention_bytes.unwrap_or(settings.retention_bytes);
        settings.compact = self.compact.unwrap_or(settings.compact);
        settings.compression = self.compression.unwrap_or(settings.compression);
        settings.over(have)
    }
}
