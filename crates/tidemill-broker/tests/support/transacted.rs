//! Transactions of a history: each writes to two topics and sets a group's position, and is there
//! whole or not at all, whenever the broker dies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use tidemill_broker::{Broker, CreateTopic, ProducerError, Transactional, TransactionalId};
use tidemill_core::{Fetch, Offset, Order, Partition};
use tidemill_testkit::sim::{Random, SimDisk};

use super::{event, events, group, join, topic};

const TOPICS: [&str; 2] = ["x", "y"];
/// What the group's position lies in: it is the number of the transaction that set it.
const NUMBERS: &str = "n";
const NUMBERS_MAX: usize = 1_000;
const GROUP: &str = "w";

/// One transaction: its number, and what it writes to each topic.
#[derive(Clone, Debug, Default)]
struct Transaction {
    number: u64,
    wrote: [Vec<String>; 2],
}

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) committed: u64,
    pub(crate) aborted: u64,
    pub(crate) left_open: u64,
    pub(crate) unsure: u64,
    pub(crate) unsure_kept: u64,
}

/// What is known of them.
#[derive(Debug, Default)]
pub(crate) struct Transacted {
    committed: Vec<Transaction>,
    /// Its commit had no answer.
    unsure: Option<Transaction>,
    numbers: u64,
    pub(crate) counts: Counts,
}

/// What everybody sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    read: [Vec<String>; 2],
    position: u64,
}

fn seen(transactions: &[Transaction]) -> Seen {
    let of = |at: usize| {
        let wrote = transactions.iter().flat_map(|one| one.wrote[at].clone());
        wrote.collect()
    };
    Seen {
        read: [of(0), of(1)],
        position: transactions.last().map_or(0, |last| last.number),
    }
}

async fn look(broker: &Broker) -> Seen {
    let mut read = [Vec::new(), Vec::new()];
    for (of, read) in TOPICS.iter().zip(&mut read) {
        let fetch = Fetch {
            topic: topic(of),
            partition: Partition(0),
            offset: Offset(0),
            max_events: 10_000,
            max_bytes: 1 << 24,
            wait: Duration::ZERO,
        };
        let fetched = broker.bus().fetch(fetch).await.unwrap();
        read.extend(
            fetched
                .events
                .iter()
                .map(|(_, event)| event.id().to_string()),
        );
    }
    let position = broker.group(&group(GROUP)).unwrap().partitions[0]
        .position
        .0;
    Seen { read, position }
}

/// What the transactions need, durably.
pub(crate) async fn prepare(broker: &Broker) {
    for name in [NUMBERS, TOPICS[0], TOPICS[1]] {
        let how = CreateTopic::default();
        broker.create_topic(topic(name), how).await.unwrap();
    }
    let numbers = events(0, NUMBERS_MAX);
    broker.bus().publish(topic(NUMBERS), numbers).await.unwrap();
    drop(join(broker, GROUP, NUMBERS, Order::None).await);
}

/// The one that transacts; what it left open before is aborted by this.
pub(crate) async fn producer(broker: &Broker) -> Transactional {
    let id = TransactionalId::new("history").unwrap();
    broker
        .transactional(id, Duration::from_secs(600))
        .await
        .unwrap()
}

impl Transacted {
    /// While nobody has died: exactly what was committed is there.
    pub(crate) async fn look(&self, broker: &Broker) {
        if self.unsure.is_none() {
            assert_eq!(look(broker).await, seen(&self.committed));
        }
    }

    /// After a death: what had no answer is there whole or not at all, for good.
    pub(crate) async fn recovered(&mut self, broker: &Broker) {
        let now = look(broker).await;
        if let Some(unsure) = self.unsure.take() {
            let mut with = self.committed.clone();
            with.push(unsure);
            if now == seen(&with) {
                self.counts.unsure_kept += 1;
                self.committed = with;
            }
        }
        assert_eq!(
            now,
            seen(&self.committed),
            "a transaction is there in part, or lost"
        );
    }

    /// A whole one, an aborted one, or one that is left open. Answers whether nothing failed.
    /// Now and then the disk fails while one is committed.
    pub(crate) async fn step(
        &mut self,
        who: &mut Transactional,
        disk: &SimDisk,
        random: &mut Random,
    ) -> bool {
        self.numbers += 1;
        let number = self.numbers;
        assert!((number as usize) < NUMBERS_MAX);
        let mut one = Transaction {
            number,
            ..Transaction::default()
        };
        let mut made = 0;
        for _ in 0..random.between(1, 4) {
            let at = random.index(2);
            let count = random.between(1, 3);
            let ids: Vec<_> = (made..made + count)
                .map(|n| format!("{number}-{n}"))
                .collect();
            made += count;
            let events: Vec<_> = ids.iter().map(|id| event(id, None)).collect();
            match who.publish(&topic(TOPICS[at]), &events).await {
                Ok(_) => one.wrote[at].extend(ids),
                Err(error) => return failed(&error),
            }
        }
        let offsets = [(topic(NUMBERS), Partition(0), Offset(number))];
        if let Err(error) = who.settle(&group(GROUP), &offsets).await {
            return failed(&error);
        }
        if random.chance(200_000) {
            disk.fail_after(Some(random.below(4)));
        }
        match random.below(8) {
            0 => {
                self.counts.left_open += 1;
                // The next life aborts it.
                false
            }
            1 | 2 => match who.abort().await {
                Ok(()) => {
                    self.counts.aborted += 1;
                    true
                }
                Err(error) => failed(&error),
            },
            _ => match who.commit().await {
                Ok(()) => {
                    self.counts.committed += 1;
                    self.committed.push(one);
                    true
                }
                Err(error) => {
                    self.counts.unsure += 1;
                    self.unsure = Some(one);
                    failed(&error)
                }
            },
        }
    }

    /// As if the last one had been acknowledged and lost.
    pub(crate) fn invent(&mut self) {
        self.numbers += 1;
        self.committed.push(Transaction {
            number: self.numbers,
            wrote: [vec![format!("{}-0", self.numbers)], Vec::new()],
        });
    }
}

fn failed(error: &ProducerError) -> bool {
    let dead = matches!(
        error,
        ProducerError::Indeterminate(_) | ProducerError::Unavailable(_)
    );
    assert!(dead, "{error}");
    false
}
