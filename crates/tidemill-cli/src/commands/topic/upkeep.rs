//! Options that few topics need: when their segments are closed and compacted, whose clock their
//! records have, and how large batches may be.
//!
//! This room may not know which command has them.

use std::time::Duration;

use clap::Args;
use tidemill::broker::AlterTopic;

use super::millis;
use crate::values::{self, Bound};

/// What takes an option of these back.
const DEFAULT: &str = "default";

/// See the module.
#[derive(Args)]
pub(super) struct Upkeep {
    /// Close a segment so long after it was begun, as in 1h; or `default`
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, values::positive_duration))]
    segment_for: Option<Bound<Duration>>,
    /// Close a segment at so many bytes, 65536 to 268435456; or `default`
    #[arg(long, value_name = "BYTES",
          value_parser = values::or_word(DEFAULT, values::count::<u64>))]
    segment_bytes: Option<Bound<u64>>,
    /// Compact no event that is younger; or `default`, which is none
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, values::duration))]
    compact_after: Option<Bound<Duration>>,
    /// Compact every event by so long after it was published; or `default`, when it is worth it
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, values::positive_duration))]
    compact_within: Option<Bound<Duration>>,
    /// Keep an event without data so long after what it deletes is gone; or `default`, a day
    #[arg(long, value_name = "TIME",
          value_parser = values::or_word(DEFAULT, values::duration))]
    keep_tombstones: Option<Bound<Duration>>,
    /// Give records the time at which they are appended, whatever their producers say
    #[arg(long, conflicts_with = "no_append_time")]
    append_time: bool,
    /// Leave records the times that their producers give them
    #[arg(long)]
    no_append_time: bool,
    /// Refuse record batches, and events, of more bytes; or `default`
    #[arg(long, value_name = "BYTES",
          value_parser = values::or_word(DEFAULT, values::count::<u64>))]
    batch_max_bytes: Option<Bound<u64>>,
}

impl Upkeep {
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
            ..AlterTopic::default()
        }
    }
}
