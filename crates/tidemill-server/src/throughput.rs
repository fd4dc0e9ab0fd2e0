//! What passed in the last minutes: the broker's counters, looked at again and again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tidemill_broker::Broker;
use tokio::time::{MissedTickBehavior, interval};

use crate::limits::{THROUGHPUT_EVERY, THROUGHPUT_KEPT};

/// The broker's counters at a time; they rise from the broker's opening on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Sample {
    at_ms: i64,
    published: u64,
    delivered: u64,
    settled: u64,
    dead_lettered: u64,
    enqueued: u64,
    dequeued: u64,
}

/// The newest samples, in their order.
#[derive(Debug, Default)]
pub(crate) struct Throughput(Mutex<VecDeque<Sample>>);

impl Throughput {
    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the counters until it is dropped.
    pub(crate) async fn run(&self, broker: Broker) {
        let mut ticks = interval(THROUGHPUT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&broker);
        }
    }

    fn look(&self, broker: &Broker) {
        let now = broker.metrics();
        let mut samples = self.samples();
        if samples.len() >= THROUGHPUT_KEPT {
            samples.pop_front();
        }
        samples.push_back(Sample {
            at_ms: Timestamp::now().as_millisecond(),
            published: now.published_events,
            delivered: now.delivered,
            settled: now.settled,
            dead_lettered: now.dead_lettered,
            enqueued: now.enqueued,
            dequeued: now.dequeued,
        });
    }

    /// What was seen, the newest last.
    pub(crate) fn list(&self) -> Vec<Sample> {
        self.samples().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_samples_are_kept_the_newest_last() {
        let broker = Broker::builder().in_memory(64 << 20).open().await.unwrap();
        let throughput = Throughput::default();
        for _ in 0..THROUGHPUT_KEPT + 5 {
            throughput.look(&broker);
        }
        let listed = throughput.list();
        assert_eq!(listed.len(), THROUGHPUT_KEPT);
        assert!(listed.is_sorted_by_key(|sample| sample.at_ms));
    }
}
