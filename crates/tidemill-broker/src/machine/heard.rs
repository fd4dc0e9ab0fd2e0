//! When producers were last heard of and which of them are forgotten for it, and when the time of
//! open transactions is over. In memory only, by monotonic time: an opening begins anew. What is
//! forgotten or aborted is decided when an operation is sealed, and is in its entry.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tidemill_core::TopicId;
use tidemill_log::PartitionId;

use super::producer_effect::ProducerChange;
use super::state::State;
use crate::limits::{
    OVERDUE_AT_ONCE, PRODUCER_ID_EXPIRATION, PRODUCER_SPARED_FOR, PRODUCERS_FORGOTTEN_AT_ONCE,
    PRODUCERS_MAX, TRANSACTIONAL_ID_EXPIRATION,
};
use crate::producer::{Idle, ProducerError, ProducerId, Producers};
use crate::transaction::{Head, TransactionalId};

/// See the module.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) expiration: Duration,
    producers: Idle<(PartitionId, ProducerId)>,
    ids: Idle<TransactionalId>,
    /// When the time of each open transaction is over.
    ends: HashMap<TransactionalId, Duration>,
    by_end: BTreeSet<(Duration, TransactionalId)>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            expiration: PRODUCER_ID_EXPIRATION,
            producers: Idle::default(),
            ids: Idle::default(),
            ends: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }
}

impl Heard {
    /// After recovery every producer counts as heard of at the driver's beginning, and every
    /// open transaction as begun then.
    pub(super) fn begin(&mut self, state: &State) {
        for (partition, producer, _) in state.producers.iter() {
            self.producers.touch(&(partition, producer), Duration::ZERO);
        }
        for (id, transaction) in state.transactions.iter() {
            self.transaction(id, transaction.head, Duration::ZERO);
        }
    }

    /// A transactional producer is this from now on.
    pub(super) fn transaction(&mut self, id: &TransactionalId, head: Head, now: Duration) {
        self.ids.touch(id, now);
        if !head.is_open() {
            self.ended(id);
        } else if !self.ends.contains_key(id) {
            let end = now.saturating_add(head.timeout);
            self.ends.insert(id.clone(), end);
            self.by_end.insert((end, id.clone()));
        }
    }

    fn ended(&mut self, id: &TransactionalId) {
        if let Some(end) = self.ends.remove(id) {
            self.by_end.remove(&(end, id.clone()));
        }
    }

    pub(super) fn forget_id(&mut self, id: &TransactionalId) {
        self.ids.forget(id);
        self.ended(id);
    }

    /// The open transactions whose time is over, and how long it is until the next one's.
    pub(super) fn overdue(&self, now: Duration) -> (Vec<TransactionalId>, Option<Duration>) {
        let mut ends = self.by_end.iter().peekable();
        let mut over = Vec::new();
        while over.len() < OVERDUE_AT_ONCE
            && let Some((_, id)) = ends.next_if(|(end, _)| *end <= now)
        {
            over.push(id.clone());
        }
        let next = ends.next();
        (over, next.map(|(end, _)| end.saturating_sub(now)))
    }

    pub(super) fn is_overdue(&self, id: &TransactionalId, now: Duration) -> bool {
        self.ends.get(id).is_some_and(|end| *end <= now)
    }

    /// Transactional ids that nobody used for so long that they are forgotten.
    pub(super) fn unused_ids(&self, now: Duration) -> impl Iterator<Item = &TransactionalId> {
        self.ids.since(now, TRANSACTIONAL_ID_EXPIRATION)
    }

    /// Transactional ids that may be forgotten where others need their room.
    pub(super) fn spare_ids(&self, now: Duration) -> impl Iterator<Item = &TransactionalId> {
        self.ids.since(now, PRODUCER_SPARED_FOR)
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
    use crate::producer::{Entry, ProducerEpoch, ProducerIdentity};
    use crate::transaction::TransactionStatus;

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
    fn the_time_of_a_transaction_runs_from_its_begin_and_ends_with_it() {
        let mut heard = Heard::default();
        let id = |n: u64| TransactionalId::new(format!("t{n}")).unwrap();
        let head = |seconds, status| Head {
            identity: ProducerIdentity {
                id: ProducerId(1),
                epoch: ProducerEpoch(0),
            },
            previous: None,
            timeout: at(seconds),
            status,
            started_ms: 0,
        };
        let open = |seconds| head(seconds, TransactionStatus::Ongoing);
        heard.transaction(&id(1), open(10), at(5));
        heard.transaction(&id(2), open(3), at(5));
        // It goes on: its time began before.
        heard.transaction(&id(2), open(3), at(7));
        assert_eq!(heard.overdue(at(6)), (vec![], Some(at(2))));
        assert_eq!(heard.overdue(at(8)), (vec![id(2)], Some(at(7))));
        assert!(heard.is_overdue(&id(2), at(8)) && !heard.is_overdue(&id(1), at(8)));
        heard.transaction(&id(2), head(3, TransactionStatus::Committed), at(9));
        assert_eq!(heard.overdue(at(99)), (vec![id(1)], None));
        heard.forget_id(&id(1));
        assert_eq!(heard.overdue(at(99)), (vec![], None));
        for n in 0..100 {
            heard.transaction(&id(n), open(1), at(0));
        }
        let (over, next) = heard.overdue(at(9));
        assert_eq!((over.len(), next), (OVERDUE_AT_ONCE, Some(at(0))));
    }

    #[test]
    fn who_was_not_heard_of_for_long_is_forgotten_but_not_in_a_transaction() {
        let (mut heard, mut known) = (Heard::default(), Producers::default());
        heard.expiration = at(100);
        for n in 0..4 {
            known.set(ID, ProducerId(n), entry((n == 1).then_some(Offset(5))));
        }
        let mut state = State::default();
        state.producers = known.clone();
        heard.begin(&state);
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
