//! Random publishes, settlements, staged events and restarts against a model of what a log and
//! its groups are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use support::{Folder, ack_with, event, group, id, join, topic};
use tidemill_broker::Broker;
use tidemill_core::{Delivery, Fetch, GroupMember, Offset, Order, Partition, Position, Settlement};

const PARTITIONS: u32 = 2;
const GROUPS: [&str; 2] = ["g", "h"];

#[derive(Clone, Debug)]
enum Step {
    /// Events with these keys, in one publish.
    Publish(Vec<Option<u8>>),
    /// The group takes up to so many, and keeps them.
    Take(usize, usize),
    /// The group settles one that it has, with so many staged events.
    Settle(usize, usize, usize),
    /// The group lets go of one that it has.
    Drop(usize, usize),
    /// The group leaves, and joins again.
    Rejoin(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(prop::option::of(0..3u8), 1..6);
    prop_oneof![
        4 => keys.prop_map(Step::Publish),
        4 => (0..2usize, 1..5usize).prop_map(|(g, credit)| Step::Take(g, credit)),
        5 => (0..2usize, 0..9usize, 0..3usize).prop_map(|(g, at, n)| Step::Settle(g, at, n)),
        1 => (0..2usize, 0..9usize).prop_map(|(g, at)| Step::Drop(g, at)),
        1 => (0..2usize).prop_map(Step::Rejoin),
        1 => Just(Step::Reopen),
    ]
}

type Place = (u32, u64);

struct World {
    folder: Folder,
    broker: Broker,
    members: Vec<Box<dyn GroupMember>>,
    held: [Vec<(Delivery, Settlement)>; 2],
    /// What is in the log: id and key by place.
    log: BTreeMap<Place, (String, Option<String>)>,
    settled: [BTreeSet<Place>; 2],
    next: usize,
}

fn place(position: &Position) -> Place {
    (position.partition.0, position.offset.0)
}

impl World {
    async fn new() -> Self {
        let folder = Folder::new();
        let broker = open(&folder).await;
        let mut world = Self {
            folder,
            broker,
            members: Vec::new(),
            held: Default::default(),
            log: BTreeMap::new(),
            settled: Default::default(),
            next: 0,
        };
        world.join_all().await;
        world
    }

    async fn join_all(&mut self) {
        for name in GROUPS {
            self.members
                .push(join(&self.broker, name, "t", Order::PerKey).await);
        }
    }

    fn events(&mut self, keys: &[Option<u8>]) -> Vec<tidemill_core::Event> {
        let made = keys
            .iter()
            .enumerate()
            .map(|(n, key)| event(self.next + n, key.map(|key| format!("k{key}")).as_deref()));
        let made = made.collect();
        self.next += keys.len();
        made
    }

    fn keep(&mut self, events: &[tidemill_core::Event], positions: &[Position]) {
        assert_eq!(events.len(), positions.len());
        for (event, position) in events.iter().zip(positions) {
            let what = (event.id().to_string(), event.key().map(str::to_owned));
            let before = self.log.insert(place(position), what);
            assert_eq!(before, None, "{position} is given out once");
        }
    }

    async fn publish(&mut self, keys: &[Option<u8>]) {
        let events = self.events(keys);
        let bus = self.broker.bus();
        let positions = bus.publish(topic("t"), events.clone()).await.unwrap();
        self.keep(&events, &positions);
    }

    /// The events that the group may be given now: of each key the first unsettled one.
    fn due(&self, of: usize) -> BTreeSet<Place> {
        let held: BTreeSet<_> = self.held[of]
            .iter()
            .map(|(d, _)| place(&d.position))
            .collect();
        let mut keys = BTreeSet::new();
        let mut due = BTreeSet::new();
        for (at, (_, key)) in &self.log {
            let first = key
                .as_ref()
                .is_none_or(|key| self.settled[of].contains(at) || keys.insert(key.clone()));
            if first && !self.settled[of].contains(at) && !held.contains(at) {
                due.insert(*at);
            }
        }
        due
    }

    async fn take(&mut self, of: usize, credit: usize) {
        let due = self.due(of);
        if due.is_empty() {
            return;
        }
        let given = self.members[of].pull(credit).await.unwrap();
        assert!((1..=credit).contains(&given.len()));
        for (delivery, _) in &given {
            let at = place(&delivery.position);
            assert!(due.contains(&at), "{at:?} is not due: {due:?}");
            assert_eq!(self.log[&at].0, id(delivery));
        }
        self.held[of].extend(given);
    }

    async fn settle(&mut self, of: usize, at: usize, staged: usize) {
        if self.held[of].is_empty() {
            return;
        }
        let at = at % self.held[of].len();
        let (delivery, settlement) = self.held[of].remove(at);
        let events = self.events(&vec![Some(2); staged]);
        let staged = events.iter().map(|event| (topic("t"), event.clone()));
        let positions = settlement.settle(ack_with(staged.collect())).await.unwrap();
        self.keep(&events, &positions);
        self.settled[of].insert(place(&delivery.position));
    }

    async fn reopen(&mut self) {
        self.held = Default::default();
        self.members.clear();
        self.broker.close().await;
        self.broker = open(&self.folder).await;
        self.check().await;
        self.join_all().await;
    }

    /// The log has exactly what was acknowledged, and the groups are where they were.
    async fn check(&self) {
        for partition in 0..PARTITIONS {
            let expected = self.log.range((partition, 0)..(partition + 1, 0));
            let expected: Vec<_> = expected.map(|(at, (id, _))| (at.1, id.clone())).collect();
            if self.broker.topic(&topic("t")).is_none() {
                assert!(expected.is_empty());
                continue;
            }
            let fetch = Fetch {
                topic: topic("t"),
                partition: Partition(partition),
                offset: Offset(0),
                max_events: 10_000,
                max_bytes: 1 << 24,
                wait: Duration::ZERO,
            };
            let fetched = self.broker.bus().fetch(fetch).await.unwrap();
            let events = fetched.events.iter();
            let found: Vec<_> = events.map(|(at, e)| (at.0, e.id().to_string())).collect();
            assert_eq!(found, expected, "partition {partition}");
        }
        for (of, name) in GROUPS.iter().enumerate() {
            let info = self.broker.group(&group(name)).unwrap();
            let unsettled = self.log.len() - self.settled[of].len();
            assert_eq!(info.lag(), unsettled as u64, "group {name}");
        }
    }

    async fn finish(&mut self) {
        self.reopen().await;
        for of in 0..GROUPS.len() {
            while self.settled[of].len() < self.log.len() {
                self.take(of, 5).await;
                while !self.held[of].is_empty() {
                    self.settle(of, 0, 0).await;
                }
            }
        }
        self.reopen().await;
        self.broker.close().await;
    }
}

async fn open(folder: &Folder) -> Broker {
    folder
        .builder()
        .default_partitions(PARTITIONS)
        .open()
        .await
        .unwrap()
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new().await;
    for step in steps {
        match step {
            Step::Publish(keys) => world.publish(&keys).await,
            Step::Take(of, credit) => world.take(of, credit).await,
            Step::Settle(of, at, staged) => world.settle(of, at, staged).await,
            Step::Drop(of, at) => {
                let count = world.held[of].len().max(1);
                let dropped = (at % count < world.held[of].len()).then(|| at % count);
                dropped.map(|at| world.held[of].remove(at));
            }
            Step::Rejoin(of) => {
                world.held[of].clear();
                world.members[of] = join(&world.broker, GROUPS[of], "t", Order::PerKey).await;
            }
            Step::Reopen => world.reopen().await,
        }
    }
    world.finish().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_happens_the_log_and_the_groups_are_as_acknowledged(
        steps in prop::collection::vec(step(), 0..50),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let ended = tokio::time::timeout(Duration::from_secs(60), run(steps)).await;
            ended.expect("it goes on");
        });
    }
}
