//! Options that few topics need: when their segments are closed and compacted, whose clock their
//! records have and how far from the broker's, and how large batches may be; and how what was said
//! of a topic is shown.
//!
//! This room may not know which command has them.

use std::time::Duration;

use clap::Args;
use tidemill::broker::{AlterTopic, TopicSettings};

use super::millis;
use crate::failure::Failure;
use crate::limits::TOPIC_TIME_MAX;
use crate::listing::Lines;
use crate::values::{self, Bound};
use crate::wire;

/// What takes an option of these back.
const DEFAULT: &str = "default";

/// See the module.
#[derive(Args)]
pub(super) struct Upkeep {
    /// Close a segment so long after it was begun, as in 1h; or `default`
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, up_to_most(values::positive_duration)))]
    segment_for: Option<Bound<Duration>>,
    /// Close a segment at so many bytes, 64KiB to 256MiB; or `default`
    #[arg(long, value_name = "SIZE", value_parser =
          values::or_word(DEFAULT, values::size_within(TopicSettings::SEGMENT_BYTES)))]
    segment_bytes: Option<Bound<u64>>,
    /// Compact no event that is younger; or `default`, which is none
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, up_to_most(values::duration)))]
    compact_after: Option<Bound<Duration>>,
    /// Compact every event by so long after it was published; or `default`, when it is worth it
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, up_to_most(values::positive_duration)))]
    compact_within: Option<Bound<Duration>>,
    /// Keep an event without data so long after what it deletes is gone; or `default`, a day
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, up_to_most(values::duration)))]
    keep_tombstones: Option<Bound<Duration>>,
    /// Give records the time at which they are appended, whatever their producers say
    #[arg(long, conflicts_with = "no_append_time")]
    append_time: bool,
    /// Leave records the times that their producers give them
    #[arg(long)]
    no_append_time: bool,
    /// Refuse record batches, and events, of more bytes, as in 4MiB, up to 32MiB; or `default`
    #[arg(long, value_name = "SIZE", value_parser =
          values::or_word(DEFAULT, values::size_within(TopicSettings::BATCH_MAX_BYTES)))]
    batch_max_bytes: Option<Bound<u64>>,
    /// Refuse records of clients of Kafka whose time lies longer ago, as in 1h; or `default`, any
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, up_to_most(values::duration)))]
    time_before_max: Option<Bound<Duration>>,
    /// Refuse records of clients of Kafka whose time lies further ahead; or `default`, any
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, up_to_most(values::duration)))]
    time_after_max: Option<Bound<Duration>>,
}

/// A length of time as `length` reads it, which a topic can have.
fn up_to_most(
    length: fn(&str) -> Result<Duration, String>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    values::up_to(TOPIC_TIME_MAX, length)
}

impl Upkeep {
    /// Refuses times that contradict each other; of what was not typed the broker knows.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match (self.compact_within, self.compact_after) {
            (Some(Bound(Some(within))), Some(Bound(Some(after)))) if within < after => {
                Err(Failure::usage(
                    "--compact-within is less than --compact-after; raise it, or leave it out",
                ))
            }
            _ => Ok(()),
        }
    }

    /// The change of a topic that they are.
    pub(super) fn change(&self) -> AlterTopic {
        let time = |time: Option<Bound<Duration>>| time.map(|Bound(time)| time.map(millis));
        let exact = |time: Option<Bound<Duration>>| {
            time.map(|Bound(time)| time.map(|time| time.as_millis() as u64))
        };
        let append_time = self.append_time.then_some(true);
        AlterTopic {
            segment_ms: time(self.segment_for),
            segment_bytes: self.segment_bytes.map(|Bound(bytes)| bytes),
            compact_after_ms: exact(self.compact_after),
            compact_within_ms: time(self.compact_within),
            tombstone_retention_ms: exact(self.keep_tombstones),
            append_time: append_time.or(self.no_append_time.then_some(false)),
            batch_max_bytes: self.batch_max_bytes.map(|Bound(bytes)| bytes),
            time_before_max_ms: exact(self.time_before_max),
            time_after_max_ms: exact(self.time_after_max),
            ..AlterTopic::default()
        }
    }
}

/// What was said of a topic, by the names of the options that say it.
pub(super) fn settings(topic: &wire::Topic) -> Lines {
    let mut lines = Lines::default();
    let time = |ms: Option<u64>| ms.map(values::shown_ms);
    let size = |bytes: Option<u64>| bytes.map(values::shown_bytes);
    let is = |set: Option<bool>| set.filter(|set| *set).map(|_| "yes");
    lines.add_some("keep-for", time(topic.retention_ms));
    lines.add_some("keep-bytes", size(topic.retention_bytes));
    lines.add_some("compact", is(topic.compact));
    let packed = topic.compression.as_deref();
    lines.add_some("compression", packed.filter(|how| *how != "none"));
    lines.add_some("segment-for", time(topic.segment_ms));
    lines.add_some("segment-bytes", size(topic.segment_bytes));
    lines.add_some("compact-after", time(topic.compact_after_ms));
    lines.add_some("compact-within", time(topic.compact_within_ms));
    lines.add_some("keep-tombstones", time(topic.tombstone_retention_ms));
    lines.add_some("append-time", is(topic.append_time));
    lines.add_some("batch-max-bytes", size(topic.batch_max_bytes));
    lines.add_some("time-before-max", time(topic.time_before_max_ms));
    lines.add_some("time-after-max", time(topic.time_after_max_ms));
    lines
}
