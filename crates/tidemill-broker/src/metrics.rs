//! Counters of what the broker did since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters while they count.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// What the broker did since it was opened. Counters only rise.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Metrics {
                Metrics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
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
    /// Settlements that came too late.
    stale_settlements,
    /// Settlements that were not kept for another reason.
    settle_errors,
    /// Offsets that groups passed because they hold no event that can be delivered.
    passed,
    /// Reads that found damage.
    damaged_reads,
    /// Events that were read by offset.
    fetched_events,
    /// Reads that had to go to the disk.
    disk_reads,
    /// Requests that were begun.
    requests,
    /// Requests that got their reply.
    replies,
}

/// Counts on.
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
