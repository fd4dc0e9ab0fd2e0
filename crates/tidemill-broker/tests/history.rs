//! The broker on the simulated disk as one history: publishes, settlements with staged events, a
//! producer that sends again, and fetches, through lives that end when the power goes, the
//! process is killed, or a sync fails, at any step of the disk. What was acknowledged or shown
//! stays where it is; what had no answer is there whole or not at all, and then stays so; what is
//! settled is not handed out again. A transaction that writes to two topics and sets a position is
//! there whole or not at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use support::transacted::{self, Transacted};
use support::{ack_with, event, group, id, join, topic};
use tidemill_broker::batch::Producer as Header;
use tidemill_broker::{
    BatchBuilder, Begins, Broker, CreateTopic, Produce, ProducerError, ProducerIdentity,
    Transactional,
};
use tidemill_core::{
    Delivery, Event, Fetch, GroupMember, Offset, Order, Partition, Position, PublishError,
    SettleError, Settlement,
};
use tidemill_testkit::sim::{Random, SimDisk};

const SEEDS: u64 = 30;
const LIVES: u64 = 5;
const STEPS: u64 = 40;
const PARTITIONS: u32 = 2;
const GROUPS: [&str; 2] = ["g", "h"];

type Place = (u32, u64);

/// What had no answer: all of these events are there, or none.
struct Unsure {
    events: Vec<String>,
    /// The event that it settles for a group.
    settles: Option<(usize, String)>,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Met {
    deaths: u64,
    unsure: u64,
    unsure_kept: u64,
    settled: u64,
    unsure_settlements: u64,
    sent_again: u64,
    transactions: transacted::Counts,
}

/// What is known.
#[derive(Default)]
struct History {
    /// What was acknowledged or shown.
    log: BTreeMap<Place, String>,
    unsure: Vec<Unsure>,
    /// Events that each group has settled, as acknowledged, or as what is staged with it shows.
    settled: [BTreeSet<String>; 2],
    /// Events whose settlement had no answer, and nothing else tells.
    maybe: [BTreeSet<String>; 2],
    /// Sequences that the producer was answered for.
    sequences: i32,
    /// The one behind them had no answer.
    sequence_unsure: bool,
    next: usize,
    transacted: Transacted,
    met: Met,
}

struct Life {
    broker: Broker,
    members: Vec<Box<dyn GroupMember>>,
    held: [Vec<(Delivery, Settlement)>; 2],
    transacting: Transactional,
    disk: SimDisk,
}

async fn open(disk: &SimDisk) -> Broker {
    let builder = Broker::builder()
        .disk(Arc::new(disk.clone()))
        .default_partitions(PARTITIONS);
    let opened = tokio::task::spawn_blocking(move || builder.open_blocking());
    opened.await.unwrap().unwrap()
}

fn place(position: &Position) -> Place {
    (position.partition.0, position.offset.0)
}

fn fetch(of: &str, partition: u32) -> Fetch {
    Fetch {
        topic: topic(of),
        partition: Partition(partition),
        offset: Offset(0),
        max_events: 10_000,
        max_bytes: 1 << 24,
        wait: Duration::ZERO,
    }
}

impl History {
    fn events(&mut self, count: u64) -> Vec<Event> {
        let made: Vec<_> = (0..count as usize)
            .map(|n| event(self.next + n, None))
            .collect();
        self.next += made.len();
        made
    }

    fn keep(&mut self, events: &[Event], positions: &[Position]) {
        assert_eq!(events.len(), positions.len());
        for (event, position) in events.iter().zip(positions) {
            let before = self.log.insert(place(position), event.id().to_string());
            assert_eq!(before, None, "{position} is given out once");
        }
    }

    fn unsure(&mut self, events: &[Event], settles: Option<(usize, String)>) {
        let events = events.iter().map(|event| event.id().to_string()).collect();
        self.met.unsure += 1;
        self.unsure.push(Unsure { events, settles });
    }

    /// Everything that a fetch shows is known or had no answer, and nothing known is missing.
    async fn look(&mut self, broker: &Broker) {
        let mut found = BTreeMap::new();
        if broker.topic(&topic("t")).is_some() {
            for partition in 0..PARTITIONS {
                let fetched = broker.bus().fetch(fetch("t", partition)).await.unwrap();
                for (at, event) in fetched.events {
                    found.insert((partition, at.0), event.id().to_string());
                }
            }
        }
        for (at, id) in &self.log {
            assert_eq!(found.get(at), Some(id), "{at:?} has changed or is gone");
        }
        let new: Vec<_> = found
            .iter()
            .filter(|(at, _)| !self.log.contains_key(at))
            .collect();
        let unsure: BTreeSet<&String> = self.unsure.iter().flat_map(|u| &u.events).collect();
        for (at, id) in new {
            assert!(unsure.contains(id), "{id} at {at:?} was invented");
        }
        let ids: BTreeSet<&String> = found.values().collect();
        assert_eq!(ids.len(), found.len(), "an event is there twice");
        self.log = found;
    }

    /// After a death: what had no answer is there whole or not at all, for good.
    async fn recovered(&mut self, broker: &Broker) {
        self.look(broker).await;
        let there: BTreeSet<&String> = self.log.values().collect();
        for unsure in std::mem::take(&mut self.unsure) {
            let kept = unsure.events.iter().filter(|id| there.contains(id)).count();
            let count = unsure.events.len();
            assert!(kept == 0 || kept == count, "{kept} of {:?}", unsure.events);
            self.met.unsure_kept += u64::from(kept > 0);
            match unsure.settles {
                // Whether it was settled is told by what was staged with it.
                Some((of, id)) if kept > 0 => drop(self.settled[of].insert(id)),
                Some((of, id)) if count == 0 => drop(self.maybe[of].insert(id)),
                _ => {}
            }
        }
        for (of, name) in GROUPS.iter().enumerate() {
            let Some(info) = broker.group(&group(name)) else {
                assert!(self.settled[of].is_empty(), "the group {name} is gone");
                continue;
            };
            let least = self.settled[of].len() as u64;
            let most = least + self.maybe[of].len() as u64;
            let settled = self.log.len() as u64 - info.lag();
            assert!(
                (least..=most).contains(&settled),
                "group {name} has {settled} of {least}..={most} settled"
            );
        }
        self.producer_recovered(broker).await;
        self.transacted.recovered(broker).await;
    }

    async fn producer_recovered(&mut self, broker: &Broker) {
        let fetched = broker.bus().fetch(fetch("p", 0)).await.unwrap();
        let found = fetched.events.len() as i32;
        let most = self.sequences + i32::from(self.sequence_unsure);
        assert!(
            (self.sequences..=most).contains(&found),
            "{found} of {}..={most} sequences are there",
            self.sequences
        );
    }

    async fn publish(&mut self, broker: &Broker, random: &mut Random) -> bool {
        let count = random.between(1, 3);
        let batches: Vec<_> = (0..count)
            .map(|_| self.events(random.between(1, 4)))
            .collect();
        // All at once, so that one commit may have several of them.
        let publish = |events: Vec<Event>| {
            let bus = broker.bus();
            tokio::spawn(async move { bus.publish(topic("t"), events).await })
        };
        let answers: Vec<_> = batches.iter().cloned().map(publish).collect();
        let mut fine = true;
        for (events, answer) in batches.iter().zip(answers) {
            let answer = answer.await.unwrap();
            match answer {
                Ok(positions) => self.keep(events, &positions),
                Err(PublishError::Indeterminate(_)) => self.unsure(events, None),
                Err(PublishError::Unavailable(_)) => fine = false,
                Err(error) => panic!("{error}"),
            }
            fine &= self.unsure.is_empty();
        }
        fine
    }

    /// The producer sends the next sequence, or the one that had no answer again.
    async fn produce(&mut self, broker: &Broker, who: ProducerIdentity) -> bool {
        let sequence = self.sequences;
        let again = self.sequence_unsure;
        match send(broker, who, sequence).await {
            Ok(offset) => {
                assert_eq!(offset, sequence as u64, "it is kept once, in its place");
                self.met.sent_again += u64::from(again);
                (self.sequences, self.sequence_unsure) = (sequence + 1, false);
                true
            }
            Err(ProducerError::Indeterminate(_)) => {
                self.sequence_unsure = true;
                false
            }
            Err(ProducerError::Unavailable(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn take(&mut self, life: &mut Life, of: usize, random: &mut Random) -> bool {
        let info = life.broker.group(&group(GROUPS[of])).unwrap();
        if info.lag() <= life.held[of].len() as u64 {
            return true;
        }
        let credit = random.between(1, 4) as usize;
        let Ok(given) = life.members[of].pull(credit).await else {
            return false;
        };
        for (delivery, _) in &given {
            let (at, id) = (place(&delivery.position), id(delivery));
            assert_eq!(self.log.get(&at), Some(&id), "{at:?} is handed out");
            assert!(!self.settled[of].contains(&id), "{id} was settled");
            self.maybe[of].remove(&id);
        }
        life.held[of].extend(given);
        true
    }

    async fn settle(&mut self, life: &mut Life, of: usize, staged: u64, at: usize) -> bool {
        if life.held[of].is_empty() {
            return true;
        }
        let at = at % life.held[of].len();
        let (delivery, settlement) = life.held[of].swap_remove(at);
        let events = self.events(staged);
        let of_topic = events.iter().map(|event| (topic("t"), event.clone()));
        let id = id(&delivery);
        match settlement.settle(ack_with(of_topic.collect())).await {
            Ok(positions) => {
                self.keep(&events, &positions);
                self.settled[of].insert(id);
                self.met.settled += 1;
                true
            }
            Err(SettleError::Indeterminate(_)) => {
                self.met.unsure_settlements += 1;
                self.unsure(&events, Some((of, id)));
                false
            }
            Err(SettleError::Unavailable(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Goes on until something fails, or for so many steps.
    async fn live(&mut self, life: &mut Life, who: ProducerIdentity, random: &mut Random) {
        for _ in 0..STEPS {
            let of = random.index(2);
            let fine = match random.below(12) {
                0..=2 => self.publish(&life.broker, random).await,
                3..=4 => self.take(life, of, random).await,
                5..=7 => {
                    let (staged, at) = (random.below(3), random.index(64));
                    self.settle(life, of, staged, at).await
                }
                8 => self.produce(&life.broker, who).await,
                9 | 10 => {
                    let (transacting, disk) = (&mut life.transacting, &life.disk);
                    self.transacted.step(transacting, disk, random).await
                }
                _ => true,
            };
            if random.chance(300_000) {
                self.look(&life.broker).await;
                self.transacted.look(&life.broker).await;
            }
            if !fine {
                break;
            }
        }
    }

    /// Everything is settled in the end, each event once.
    async fn drain(&mut self, life: &mut Life, random: &mut Random) {
        for (of, name) in GROUPS.iter().enumerate() {
            loop {
                while !life.held[of].is_empty() {
                    assert!(self.settle(life, of, 0, 0).await);
                }
                if life.broker.group(&group(name)).unwrap().lag() == 0 {
                    break;
                }
                assert!(self.take(life, of, random).await);
            }
            // What was not handed out again had been settled.
            let maybe = std::mem::take(&mut self.maybe[of]);
            self.settled[of].extend(maybe);
            let all: BTreeSet<_> = self.log.values().cloned().collect();
            let missing: Vec<_> = all.difference(&self.settled[of]).collect();
            assert!(missing.is_empty(), "group {name} never had {missing:?}");
        }
    }
}

async fn send(broker: &Broker, who: ProducerIdentity, first: i32) -> Result<u64, ProducerError> {
    let mut builder = BatchBuilder::new().producer(Header {
        id: who.id.0,
        epoch: who.epoch.0,
        base_sequence: first,
    });
    let value = first.to_string();
    builder
        .push(0, None, Some(value.as_bytes()), std::iter::empty())
        .unwrap();
    let produce = Produce {
        topic: topic("p"),
        partition: Partition(0),
        batch: builder.finish().unwrap().try_into().unwrap(),
        begins: Begins::default(),
    };
    broker.produce(produce).await.map(|offset| offset.0)
}

async fn begin(broker: Broker, disk: &SimDisk) -> Life {
    let mut members = Vec::new();
    for name in GROUPS {
        members.push(join(&broker, name, "t", Order::None).await);
    }
    let transacting = transacted::producer(&broker).await;
    Life {
        broker,
        members,
        held: Default::default(),
        transacting,
        disk: disk.clone(),
    }
}

async fn run(seed: u64) -> Met {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new(seed);
    let mut history = History::default();
    let broker = open(&disk).await;
    let how = || CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("t"), how()).await.unwrap();
    broker.create_topic(topic("p"), how()).await.unwrap();
    transacted::prepare(&broker).await;
    let who = broker.init_producer().unwrap();
    let mut life = begin(broker, &disk).await;
    for _ in 0..LIVES {
        match random.below(4) {
            0 => disk.fail_sync_after(random.below(20)),
            _ => disk.fail_after(Some(random.below(80))),
        }
        history.live(&mut life, who, &mut random).await;
        history.met.deaths += 1;
        disk = match random.below(3) {
            0 => disk.kill(),
            _ => disk.lose_power(),
        };
        drop(life);
        let broker = open(&disk).await;
        history.recovered(&broker).await;
        life = begin(broker, &disk).await;
        // What was not known is known now, and stays so.
        history.look(&life.broker).await;
        if history.sequence_unsure {
            assert!(history.produce(&life.broker, who).await);
        }
    }
    history.drain(&mut life, &mut random).await;
    life.broker.close().await;
    drop(life);
    let broker = open(&disk).await;
    history.recovered(&broker).await;
    broker.close().await;
    history.met.transactions = history.transacted.counts;
    history.met
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_fetch_and_settle_are_one_history_through_every_death() {
    let mut all = Met::default();
    for seed in 1..=SEEDS {
        let ended = tokio::time::timeout(Duration::from_secs(60), run(seed)).await;
        let met = ended.unwrap_or_else(|_| panic!("seed {seed} does not go on"));
        all.deaths += met.deaths;
        all.unsure += met.unsure;
        all.unsure_kept += met.unsure_kept;
        all.settled += met.settled;
        all.unsure_settlements += met.unsure_settlements;
        all.sent_again += met.sent_again;
        let (sum, counts) = (&mut all.transactions, met.transactions);
        sum.committed += counts.committed;
        sum.aborted += counts.aborted;
        sum.left_open += counts.left_open;
        sum.unsure += counts.unsure;
        sum.unsure_kept += counts.unsure_kept;
    }
    println!("{all:?}");
    let transactions = &all.transactions;
    assert!(
        transactions.committed > 0 && transactions.aborted > 0,
        "{all:?}"
    );
    assert!(transactions.left_open > 0, "{all:?}");
    assert!(transactions.unsure > 0, "{all:?}");
    assert!(all.settled > 0 && all.sent_again > 0, "{all:?}");
    assert!(
        all.unsure > all.unsure_kept && all.unsure_kept > 0,
        "{all:?}"
    );
    assert!(all.unsure_settlements > 0, "{all:?}");
}

/// A disk that has forgotten what came after some step, and what was known by then.
async fn forgetful(settles: bool) -> (SimDisk, History) {
    let (mut history, mut random) = (History::default(), Random::new(1));
    let disk = SimDisk::new(1);
    let broker = open(&disk).await;
    let how = CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("t"), how).await.unwrap();
    broker.create_topic(topic("p"), how).await.unwrap();
    transacted::prepare(&broker).await;
    let mut life = begin(broker, &disk).await;
    assert!(history.publish(&life.broker, &mut random).await);
    let forgotten = disk.copy(2);
    match settles {
        true => {
            assert!(history.take(&mut life, 0, &mut random).await);
            assert!(history.settle(&mut life, 0, 0, 0).await);
        }
        false => assert!(history.publish(&life.broker, &mut random).await),
    }
    life.broker.close().await;
    (forgotten.lose_power(), history)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "has changed or is gone")]
async fn a_publish_that_is_forgotten_is_noticed() {
    let (disk, mut history) = forgetful(false).await;
    history.recovered(&open(&disk).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "0 of 1..=1 settled")]
async fn a_settlement_that_is_forgotten_is_noticed() {
    let (disk, mut history) = forgetful(true).await;
    history.recovered(&open(&disk).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "a transaction is there in part, or lost")]
async fn a_transaction_that_is_forgotten_is_noticed() {
    let disk = SimDisk::new(1);
    let broker = open(&disk).await;
    transacted::prepare(&broker).await;
    let mut transacted = Transacted::default();
    transacted.recovered(&broker).await;
    transacted.invent();
    transacted.recovered(&broker).await;
}
