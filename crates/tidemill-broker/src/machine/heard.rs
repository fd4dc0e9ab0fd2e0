//! When producers were last heard of, and which of them are forgotten for it. In memory only, by
//! monotonic time; what is forgotten is decided when an operation is sealed, and is an effect.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill_core::TopicId;
use tidemill_log::PartitionId;

use super::producer_effect::ProducerChange;
use crate::limits::{
    PRODUCER_ID_EXPIRATION, PRODUCER_SPARED_FOR, PRODUCERS_FORGOTTEN_AT_ONCE, PRODUCERS_MAX,
};
use crate::producer::{Idle, ProducerError, ProducerId, Producers};

/// See the module.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) expiration: Duration,
    producers: Idle<(PartitionId, ProducerId)>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            expiration: PRODUCER_ID_EXPIRATION,
            producers: Idle::default(),
        }
    }
}

impl Heard {
    /// After recovery every producer counts as heard of at the driver's beginning.
    pub(super) fn begin(&mut self, producers: &Producers) {
        for (partition, producer, _) in producers.iter() {
            self.producers.touch(&(partition, producer), Duration::ZERO);
        }
    }

    pub(super) fn heard(&mut self, id: PartitionId, producer: ProducerId, now: Duration) {
        self.producers.touch(&(id, producer), now);
    }

    pub(super) fn forget(&mut self, id: PartitionId, producer: ProducerId) {
        self.producers.forget(&(id, producer));
    }

    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        self.producers.retain(|(id, _)| id.topic != topic);
    }

    /// Those whose time is over and, where there is no room to remember those of `now_heard`
    /// that are new, the ones that make some. None of `now_heard`, and none with an open
    /// transaction.
    pub(super) fn over(
        &self,
        now: Duration,
        known: &Producers,
        now_heard: &BTreeSet<(PartitionId, ProducerId)>,
    ) -> Result<Vec<ProducerChange>, ProducerError> {
        let idle = |key: &&(PartitionId, ProducerId)| {
            let entry = known.get(key.0, key.1);
            entry.is_some_and(|entry| entry.open.is_none()) && !now_heard.contains(*key)
        };
        let new = |key: &&(PartitionId, ProducerId)| known.get(key.0, key.1).is_none();
        let more = now_heard.iter().filter(new).count();
        let over = self.producers.since(now, self.expiration);
        let mut over: Vec<_> = over
            .filter(idle)
            .take(PRODUCERS_FORGOTTEN_AT_ONCE)
            .collect();
        let needed = (known.len() + more).saturating_sub(PRODUCERS_MAX);
        if over.len() < needed {
            let spare = self.producers.since(now, PRODUCER_SPARED_FOR);
            over = spare.filter(idle).take(needed).collect();
        }
        if over.len() < needed {
            return Err(ProducerError::TooMany {
                what: "producers",
                max: PRODUCERS_MAX,
            });
        }
        let forgotten = over.into_iter().map(|key| ProducerChange::Forgotten {
            partition: key.0,
            producer: key.1,
        });
        Ok(forgotten.collect())
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::{Offset, Partition};
    use uuid::Uuid;

    use super::*;
    use crate::producer::{Entry, ProducerEpoch};

    const ID: PartitionId = PartitionId {
        topic: TopicId(Uuid::nil()),
        partition: Partition(0),
    };

    fn entry(open: Option<Offset>) -> Entry {
        Entry {
            epoch: ProducerEpoch(0),
            written: Vec::new(),
            open,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What is forgotten where so many new ones are heard of.
    fn over(heard: &Heard, known: &Producers, now: Duration, more: usize) -> Option<Vec<i64>> {
        let new = PRODUCERS_MAX as i64..(PRODUCERS_MAX + more) as i64;
        over_for(heard, known, now, new.collect())
    }

    fn over_for(
        heard: &Heard,
        known: &Producers,
        now: Duration,
        now_heard: Vec<i64>,
    ) -> Option<Vec<i64>> {
        let now_heard = now_heard.into_iter().map(|n| (ID, ProducerId(n))).collect();
        let over = heard.over(now, known, &now_heard).ok()?;
        let id = |change| match change {
            ProducerChange::Forgotten { producer, .. } => producer.0,
            other => panic!("{other:?}"),
        };
        Some(over.into_iter().map(id).collect())
    }

    #[test]
    fn who_was_not_heard_of_for_long_is_forgotten_but_not_in_a_transaction() {
        let (mut heard, mut known) = (Heard::default(), Producers::default());
        heard.expiration = at(100);
        for n in 0..4 {
            known.set(ID, ProducerId(n), entry((n == 1).then_some(Offset(5))));
        }
        heard.begin(&known);
        heard.heard(ID, ProducerId(2), at(50));
        assert_eq!(over(&heard, &known, at(99), 1), Some(vec![]));
        assert_eq!(over(&heard, &known, at(100), 1), Some(vec![0, 3]));
        assert_eq!(over(&heard, &known, at(150), 1), Some(vec![0, 3, 2]));
        heard.forget_topic(ID.topic);
        assert_eq!(over(&heard, &known, at(150), 1), Some(vec![]));
    }

    #[test]
    fn at_the_bound_the_longest_unheard_makes_room_and_the_busy_are_spared() {
        let (mut heard, mut known) = (Heard::default(), Producers::default());
        for n in 0..PRODUCERS_MAX as i64 {
            known.set(ID, ProducerId(n), entry(None));
            heard.heard(ID, ProducerId(n), at(if n == 7 { 0 } else { 10 }));
        }
        assert_eq!(over(&heard, &known, at(10), 0), Some(vec![]));
        assert_eq!(over(&heard, &known, PRODUCER_SPARED_FOR, 1), Some(vec![7]));
        assert_eq!(over(&heard, &known, PRODUCER_SPARED_FOR, 2), None);
        let later = PRODUCER_SPARED_FOR + at(10);
        let made = over(&heard, &known, later, 2).unwrap();
        assert_eq!((made.len(), made[0]), (2, 7));
    }

    /// Once the producer that was to make room was the very one that was heard of: it stayed, and
    /// nobody else went.
    #[test]
    fn whoever_is_heard_of_now_makes_no_room_and_another_does() {
        let (mut heard, mut known) = (Heard::default(), Producers::default());
        for n in 0..PRODUCERS_MAX as i64 {
            known.set(ID, ProducerId(n), entry(None));
            let seconds = if n == 7 { 0 } else { 10 + n as u64 };
            heard.heard(ID, ProducerId(n), at(seconds));
        }
        let new = PRODUCERS_MAX as i64;
        let both = || vec![7, new];
        assert_eq!(over_for(&heard, &known, PRODUCER_SPARED_FOR, both()), None);
        let later = PRODUCER_SPARED_FOR + at(10);
        let made = over_for(&heard, &known, later, both());
        assert_eq!(made, Some(vec![0]));
        let all = heard.expiration + at(1_000_000);
        let made = over_for(&heard, &known, all, both()).unwrap();
        assert!(!made.contains(&7) && !made.is_empty(), "{made:?}");
    }
}
