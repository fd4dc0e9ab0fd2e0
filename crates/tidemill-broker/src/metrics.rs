//! Counters of what the broker did since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_log::Stats;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters while they count.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// What the broker did since it was opened. Counters only rise, but for
        /// `scrub_damaged`, `tail_bytes` and `replay_bytes`, which say how things stand.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Commits of the journal: groups of operations that were written together.
            pub commits: u64,
            /// Operations in them.
            pub entries: u64,
            /// Bytes that they took in the journal.
            pub journal_bytes: u64,
            /// Syncs of the journal.
            pub syncs: u64,
            /// Bytes of record batches that were written to segments.
            pub segment_bytes: u64,
            /// Checkpoints.
            pub checkpoints: u64,
            /// Bytes of closed segments that were read again and checked.
            pub scrubbed_bytes: u64,
            /// Passes of that over all closed segments.
            pub scrub_passes: u64,
            /// Damaged places in closed segments that are known now.
            pub scrub_damaged: u64,
            /// Segments that were deleted by a topic's retention or for lying below where it was
            /// trimmed.
            pub expired_segments: u64,
            /// Bytes of record batches in memory now, because they are not in segments yet.
            pub tail_bytes: u64,
            /// Bytes of the journal that the next opening would read now.
            pub replay_bytes: u64,
        }

        impl Counters {
            pub(crate) fn snapshot(&self, log: Stats) -> Metrics {
                Metrics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    commits: log.commits,
                    entries: log.entries,
                    journal_bytes: log.journal_bytes,
                    syncs: log.syncs,
                    segment_bytes: log.segment_bytes,
                    checkpoints: log.checkpoints,
                    scrubbed_bytes: log.scrubbed_bytes,
                    scrub_passes: log.scrub_passes,
                    scrub_damaged: log.scrub_damaged,
                    expired_segments: log.expired_segments,
                    tail_bytes: log.tail_bytes,
                    replay_bytes: log.replay_bytes,
                }
            }
        }
    };
}

counters! {
    /// Events that were published or staged by a handler, and are durable.
    published_events,
    /// Roughly their bytes.
    published_bytes,
    /// Events that a producer sent again and that were kept before: not counted as published.
    repeated_events,
    /// Publishes that were refused or not kept.
    publish_errors,
    /// Deliveries that were given to members, every attempt counted.
    delivered,
    /// Deliveries of an event that had been given out before.
    redelivered,
    /// Events that were settled, dead letters included.
    settled,
    /// Attempts that ended with a retry.
    retried,
    /// Attempts whose holder went away without settling.
    abandoned,
    /// Events that went to a dead letter topic.
    dead_lettered,
    /// Events that nobody is given any more and whose dead letters can never be kept: they are
    /// settled without one, and the log says which.
    unwritable_letters,
    /// Settlements that came too late.
    stale_settlements,
    /// Settlements that were not kept for another reason.
    settle_errors,
    /// Offsets that groups passed because they hold no event that can be delivered.
    passed,
    /// Offsets that groups passed because they were deleted before they were settled.
    missed,
    /// Reads that found damage.
    damaged_reads,
    /// Events that were read by offset.
    fetched_events,
    /// Reads that had to go to the disk.
    disk_reads,
    /// Messages that were put into queues.
    enqueued,
    /// Messages that were taken from queues, every time counted.
    dequeued,
    /// Leases that ended before their message was settled or given back.
    leases_ended,
    /// Messages of queues that expired and were put away.
    expired,
    /// Requests that were begun.
    requests,
    /// Requests that got their reply.
    replies,
}

/// Counts on.
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
