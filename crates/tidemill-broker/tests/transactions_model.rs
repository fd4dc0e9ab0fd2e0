//! Transactions on the simulated disk: the power goes at every step, and producers do anything in
//! any order. A transaction is there whole or not at all, the last stable offset never moves
//! back, and what was aborted is never read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{event, group, id, join, topic};
use tidemill_broker::{
    Broker, CreateTopic, FetchBatches, FetchedBatches, Isolation, ProducerError, Transactional,
    TransactionalId,
};
use tidemill_core::{Fetch, GroupMember, Offset, Order, Partition};
use tidemill_testkit::sim::SimDisk;

const MINUTE: Duration = Duration::from_secs(60);
const TOPICS: [&str; 2] = ["a", "b"];

async fn open(disk: &SimDisk) -> Broker {
    let builder = Broker::builder().disk(Arc::new(disk.clone()));
    let opened = tokio::task::spawn_blocking(move || builder.open_blocking());
    opened.await.unwrap().unwrap()
}

async fn create(broker: &Broker) {
    for name in TOPICS {
        let how = CreateTopic::default();
        broker.create_topic(topic(name), how).await.unwrap();
    }
}

async fn take_over(broker: &Broker, id: &str) -> Result<Transactional, ProducerError> {
    let id = TransactionalId::new(id).unwrap();
    broker.transactional(id, MINUTE).await
}

/// The ids of the events that a topic shows.
async fn shown(broker: &Broker, of: &str) -> Vec<String> {
    let fetch = Fetch {
        topic: topic(of),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10_000,
        max_bytes: 1 << 24,
        wait: Duration::ZERO,
    };
    let fetched = broker.bus().fetch(fetch).await.unwrap();
    let ids = fetched.events.iter().map(|(_, event)| event.id());
    ids.map(ToString::to_string).collect()
}

/// The same, as a client of Kafka's protocol finds them: fetch after fetch, by the lists of
/// aborted transactions.
async fn decoded(broker: &Broker, of: &str) -> Vec<String> {
    let (mut ids, mut offset) = (Vec::new(), Offset(0));
    loop {
        let fetch = FetchBatches {
            topic: topic(of),
            partition: Partition(0),
            offset,
            max_bytes: 2_000,
            isolation: Isolation::ReadCommitted,
            wait: Duration::ZERO,
        };
        let fetched = broker.fetch_batches(fetch).await.unwrap();
        let Some(last) = fetched.batches.last() else {
            assert_eq!(offset, fetched.stable_end);
            return ids;
        };
        offset = last.next_offset();
        count(fetched, &mut ids);
    }
}

/// The ids of the records that count.
fn count(mut fetched: FetchedBatches, ids: &mut Vec<String>) {
    fetched.aborted.sort_by_key(|aborted| aborted.first);
    let mut coming = fetched.aborted.into_iter().peekable();
    let mut aborting = Vec::new();
    for batch in fetched.batches {
        while let Some(begun) = coming.next_if(|next| next.first <= batch.last_offset()) {
            aborting.push(begun.producer.0);
        }
        let producer = batch.producer().map(|producer| producer.id);
        if batch.is_control() {
            aborting.retain(|id| Some(*id) != producer);
            continue;
        }
        let is_aborted = aborting.iter().any(|id| Some(*id) == producer);
        if batch.is_transactional() && is_aborted {
            continue;
        }
        for record in batch.records() {
            let record = record.unwrap();
            let is_id = |name: &[u8]| name == b"ce_id";
            let id = record.headers.iter().find(|h| is_id(h.name.as_ref()));
            let id = id.unwrap().value.unwrap();
            ids.push(String::from_utf8(id.to_vec()).unwrap());
        }
    }
}

fn stable_ends(broker: &Broker) -> Vec<u64> {
    let topics = broker.topics();
    topics
        .iter()
        .map(|topic| topic.partitions[0].end.0)
        .collect()
}

fn is_decided(broker: &Broker) -> bool {
    let topics = broker.topics();
    let mut partitions = topics.iter().map(|topic| &topic.partitions[0]);
    partitions.all(|partition| partition.end == partition.high_watermark)
}

/// What became of a transaction, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    /// The end has no answer.
    Unsure,
    /// It was never asked to end.
    Open,
}

/// Two events in `a`, one in `b`, and a group's position, in one transaction.
async fn life(mine: &mut Transactional, n: u64) -> Fate {
    let three = [(0, "a"), (1, "a"), (2, "b")];
    for (which, of) in three {
        let events = [event(format!("{n}.{which}"), None)];
        if mine.publish(&topic(of), &events).await.is_err() {
            return Fate::Open;
        }
    }
    let position = [(topic("a"), Partition(0), Offset(n + 1))];
    if mine.settle(&group("g"), &position).await.is_err() {
        return Fate::Open;
    }
    let commits = n % 3 != 2;
    let ended = match commits {
        true => mine.commit().await,
        false => mine.abort().await,
    };
    match (ended, commits) {
        (Ok(()), true) => Fate::Committed,
        (Ok(()), false) => Fate::Aborted,
        (Err(_), true) => Fate::Unsure,
        (Err(_), false) => Fate::Open,
    }
}

/// Holds what is read to the fates: answers which transactions are there.
async fn whole_or_not(broker: &Broker, fates: &[Fate], cut: u64) -> Vec<u64> {
    let (a, b) = (shown(broker, "a").await, shown(broker, "b").await);
    assert_eq!(
        (&decoded(broker, "a").await, &decoded(broker, "b").await),
        (&a, &b)
    );
    let there = |n: &u64| b.contains(&format!("{n}.2"));
    let count = fates.len() as u64;
    let committed: Vec<u64> = (0..count).filter(there).collect();
    let in_a = committed
        .iter()
        .flat_map(|n| [format!("{n}.0"), format!("{n}.1")]);
    assert_eq!(a, in_a.collect::<Vec<_>>(), "cut {cut}: {fates:?}");
    assert_eq!(b.len(), committed.len(), "cut {cut}");
    for (n, fate) in fates.iter().enumerate() {
        let there = committed.contains(&(n as u64));
        match fate {
            Fate::Committed => assert!(there, "cut {cut}: {n} was acknowledged"),
            Fate::Aborted | Fate::Open => assert!(!there, "cut {cut}: {n} was not committed"),
            Fate::Unsure => {}
        }
    }
    let info = broker.group(&group("g"));
    let position = info.and_then(|info| Some(info.partitions.first()?.position.0));
    let last = committed.last().map(|last| last + 1);
    assert_eq!(position, last, "cut {cut}: the position is part of it");
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_at_any_step_a_transaction_is_there_whole_or_not_at_all() {
    const TRANSACTIONS: u64 = 3;
    for cut in 0.. {
        let disk = SimDisk::new(cut);
        let broker = open(&disk).await;
        create(&broker).await;
        disk.fail_after(Some(cut));
        let mut fates = Vec::new();
        let mut ends = stable_ends(&broker);
        if let Ok(mut mine) = take_over(&broker, "mine").await {
            for n in 0..TRANSACTIONS {
                fates.push(life(&mut mine, n).await);
                let now = stable_ends(&broker);
                assert!(now.iter().zip(&ends).all(|(now, before)| now >= before));
                ends = now;
                if matches!(fates.last(), Some(Fate::Unsure | Fate::Open)) {
                    break;
                }
            }
        }
        let disk = disk.lose_power();
        drop(broker);
        let broker = open(&disk).await;
        let after = stable_ends(&broker);
        assert!(
            after.iter().zip(&ends).all(|(now, before)| now >= before),
            "cut {cut}"
        );
        let there = whole_or_not(&broker, &fates, cut).await;
        // From the snapshot it is the same, and an open one is still open.
        broker.close().await;
        drop(broker);
        let broker = open(&disk).await;
        assert_eq!(stable_ends(&broker), after, "cut {cut}");
        assert_eq!(whole_or_not(&broker, &fates, cut).await, there, "cut {cut}");
        let mut mine = take_over(&broker, "mine").await.unwrap();
        assert!(is_decided(&broker), "cut {cut}: what was open is aborted");
        assert_eq!(whole_or_not(&broker, &fates, cut).await, there, "cut {cut}");
        assert_eq!(life(&mut mine, 9).await, Fate::Committed);
        assert_eq!(
            shown(&broker, "b").await.len(),
            there.len() + 1,
            "cut {cut}"
        );
        broker.close().await;
        if fates.len() as u64 == TRANSACTIONS && fates.iter().all(|f| !matches!(f, Fate::Open)) {
            assert!(cut > 10, "{cut} steps are too few to have been cut at");
            break;
        }
    }
}

/// A record as it was acknowledged: whose transaction it is part of, and its id.
struct Record {
    of: Option<usize>,
    id: String,
}

/// What was done so far.
#[derive(Default)]
struct Model {
    /// For each topic.
    records: [Vec<Record>; 2],
    /// For each transaction: `None` while it is open, then whether it was committed.
    ends: Vec<Option<bool>>,
    /// For each producer the number of its open transaction.
    open: [Option<usize>; 3],
}

impl Model {
    /// What a topic shows: everything before the first open transaction, but what was aborted.
    fn shown(&self, of: usize) -> Vec<String> {
        let end = |record: &Record| record.of.map_or(Some(true), |number| self.ends[number]);
        let decided = self.records[of]
            .iter()
            .take_while(|record| end(record).is_some());
        let counts = decided.filter(|record| end(record) == Some(true));
        counts.map(|record| record.id.clone()).collect()
    }

    fn end(&mut self, producer: usize, committed: bool) {
        if let Some(number) = self.open[producer].take() {
            self.ends[number] = Some(committed);
        }
    }

    fn publish(&mut self, producer: Option<usize>, of: usize, id: String) {
        let of_transaction = producer.map(|producer| {
            *self.open[producer].get_or_insert_with(|| {
                self.ends.push(None);
                self.ends.len() - 1
            })
        });
        self.records[of].push(Record {
            of: of_transaction,
            id,
        });
    }
}

struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides) as usize
    }
}

async fn take_all(member: &mut dyn GroupMember, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        for (delivery, settlement) in member.pull(100).await.unwrap() {
            taken.push(id(&delivery));
            settlement
                .settle(tidemill_core::Commit::ack())
                .await
                .unwrap();
        }
    }
    taken
}

/// Opens again, after a power cut or a close; the producers begin anew and abort what was open.
async fn restart(
    broker: &mut Broker,
    disk: &mut SimDisk,
    model: &mut Model,
    producers: &mut Vec<Transactional>,
    by_close: bool,
) {
    producers.clear();
    if by_close {
        broker.close().await;
    }
    *disk = disk.lose_power();
    *broker = open(disk).await;
    for (which, of) in TOPICS.iter().enumerate() {
        assert_eq!(shown(broker, of).await, model.shown(which), "as before");
    }
    for producer in 0..3 {
        let taken = take_over(broker, &format!("p{producer}")).await.unwrap();
        producers.push(taken);
        model.end(producer, false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_producers_do_readers_get_what_was_committed() {
    for seed in 1..=8u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut disk = SimDisk::new(seed);
        let mut broker = open(&disk).await;
        create(&broker).await;
        let (mut model, mut producers) = (Model::default(), Vec::new());
        restart(&mut broker, &mut disk, &mut model, &mut producers, false).await;
        let mut ends = stable_ends(&broker);
        for step in 0..120 {
            let (producer, of) = (dice.throw(3), dice.throw(2));
            let (name, id) = (topic(TOPICS[of]), step.to_string());
            match dice.throw(24) {
                0..=11 => {
                    let events = [event(&id, None)];
                    producers[producer].publish(&name, &events).await.unwrap();
                    model.publish(Some(producer), of, id);
                }
                12..=14 => {
                    let events = vec![event(&id, None)];
                    broker.bus().publish(name, events).await.unwrap();
                    model.publish(None, of, id);
                }
                15..=18 => {
                    producers[producer].commit().await.unwrap();
                    model.end(producer, true);
                }
                19..=20 => {
                    producers[producer].abort().await.unwrap();
                    model.end(producer, false);
                }
                21..=22 => {
                    let id = format!("p{producer}");
                    producers[producer] = take_over(&broker, &id).await.unwrap();
                    model.end(producer, false);
                }
                _ => {
                    let by_close = dice.throw(2) == 0;
                    let (broker, disk) = (&mut broker, &mut disk);
                    restart(broker, disk, &mut model, &mut producers, by_close).await;
                }
            }
            let now = stable_ends(&broker);
            assert!(
                now.iter().zip(&ends).all(|(now, before)| now >= before),
                "{seed}"
            );
            ends = now;
            for (which, of) in TOPICS.iter().enumerate() {
                assert_eq!(
                    shown(&broker, of).await,
                    model.shown(which),
                    "{seed}: {step}"
                );
                assert_eq!(
                    decoded(&broker, of).await,
                    model.shown(which),
                    "{seed}: {step}"
                );
            }
        }
        for (producer, mine) in producers.iter_mut().enumerate() {
            mine.abort().await.unwrap();
            model.end(producer, false);
        }
        assert!(is_decided(&broker));
        let mut member = join(&broker, "all", "a", Order::None).await;
        let all = model.shown(0);
        assert_eq!(take_all(&mut *member, all.len()).await, all, "{seed}");
        broker.close().await;
    }
}
