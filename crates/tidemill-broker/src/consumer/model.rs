//! The coordinator against clients that do everything in every order, from a seed, with answers
//! that are lost: no partition ever has two members, epochs only rise, what is to be given back
//! is given back or its member goes, and in the end everything is somebody's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use proptest::prelude::*;

use super::state::Coordinator;
use super::tests::{BOUNDS, at, catalog, join, name, play};
use super::types::*;
use crate::catalog::Catalog;

const CLIENTS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Says that it lives, and its answer is lost or not.
    Beat {
        who: usize,
        lost: bool,
    },
    /// Gives back what it was told to.
    GiveBack(usize),
    Leave(usize),
    /// Its process is gone, and another one comes in its place.
    Restart(usize),
    /// It reads something else from now on.
    Reads(usize, usize),
    /// Topics come, go and grow.
    Topics(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..CLIENTS;
    prop_oneof![
        12 => (who(), prop::bool::weighted(0.15)).prop_map(|(who, lost)| Step::Beat { who, lost }),
        5 => who().prop_map(Step::GiveBack),
        1 => who().prop_map(Step::Leave),
        1 => who().prop_map(Step::Restart),
        1 => (who(), 0..4usize).prop_map(|(who, what)| Step::Reads(who, what)),
        1 => (0..4usize).prop_map(Step::Topics),
        3 => (1..20u64).prop_map(Step::Wait),
    ]
}

fn topics(which: usize) -> Arc<Catalog> {
    match which {
        0 => catalog(&[("t", 1, 5)]),
        1 => catalog(&[("t", 1, 5), ("u", 2, 3)]),
        2 => catalog(&[("t", 1, 7), ("u", 3, 2), ("v", 4, 1)]),
        _ => catalog(&[("u", 3, 4)]),
    }
}

/// A client: what it knows of the group, as Kafka's keep it.
#[derive(Default)]
struct Client {
    member: ByteString,
    instance: Option<ByteString>,
    reads: usize,
    epoch: i32,
    /// What it reads from at the moment.
    owned: ConsumerParts,
    /// What it was told last that it is to have.
    target: ConsumerParts,
    /// Its last answer was lost, or it says everything for another reason.
    says_all: bool,
    joined: bool,
}

impl Client {
    fn says(&self) -> ConsumerHeartbeat {
        let whole = join(&self.member);
        let (topics, pattern) = match self.reads {
            0 => (vec!["t"], ""),
            1 => (vec!["t", "u"], ""),
            2 => (vec![], "[uv]"),
            _ => (vec!["v"], "t"),
        };
        ConsumerHeartbeat {
            epoch: self.epoch,
            instance: self.instance.clone(),
            rebalance_timeout: whole.rebalance_timeout.filter(|_| self.says_all),
            topics: self
                .says_all
                .then(|| topics.into_iter().map(name).collect()),
            pattern: self.says_all.then(|| pattern.into()),
            owned: Some(self.owned.clone()),
            ..whole
        }
    }

    /// It has lost everything, and begins anew.
    fn begin_anew(&mut self) {
        self.epoch = EPOCH_JOIN;
        self.owned.clear();
        self.target.clear();
        self.says_all = true;
        self.joined = false;
    }

    /// Takes what it was told that it did not have.
    fn take(&mut self) {
        let more: Vec<_> = self.target.difference(&self.owned).copied().collect();
        self.owned.extend(more);
    }
}

struct World {
    group: Coordinator,
    catalog: Arc<Catalog>,
    clients: Vec<Client>,
    now: u64,
    ids: usize,
    epochs: BTreeMap<ByteString, i32>,
    epoch: i32,
}

impl World {
    fn new() -> Self {
        let client = |n: usize| Client {
            member: format!("m{n}").into(),
            instance: (n < 2).then(|| format!("i{n}").into()),
            says_all: true,
            ..Client::default()
        };
        Self {
            group: Coordinator::new(BOUNDS),
            catalog: topics(1),
            clients: (0..CLIENTS).map(client).collect(),
            now: 0,
            ids: CLIENTS,
            epochs: BTreeMap::new(),
            epoch: 0,
        }
    }

    fn now(&self) -> Duration {
        at(self.now)
    }

    fn say(&mut self, beat: ConsumerHeartbeat) -> Result<ConsumerPlace, ConsumerError> {
        let now = self.now();
        play((&mut self.group, &self.catalog), now, beat, |_| Ok(()))
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let says = self.clients[who].says();
        let joins = says.epoch == EPOCH_JOIN;
        let place = self.say(says);
        let client = &mut self.clients[who];
        let place = match place {
            Ok(place) => place,
            Err(ConsumerError::UnknownMember | ConsumerError::FencedEpoch) => {
                client.begin_anew();
                self.epochs.remove(&client.member);
                return;
            }
            // Its instance's name is not free yet, or those of before it are still members.
            Err(ConsumerError::UnreleasedInstance | ConsumerError::Full(_)) => return,
            Err(other) => panic!("{other:?}"),
        };
        let before = self.epochs.insert(client.member.clone(), place.epoch);
        let rises = before.is_none_or(|before| before <= place.epoch);
        assert!(joins || rises, "an epoch went back");
        if lost {
            client.says_all = true;
            return;
        }
        client.says_all = false;
        client.joined = true;
        client.epoch = place.epoch;
        if let Some(target) = place.assignment {
            client.target = target;
        }
        // It takes what is new once it has given back what is old, as Kafka's clients do.
        if client.owned.is_subset(&client.target) {
            client.take();
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Beat { who, lost } => self.beat(who, lost),
            Step::GiveBack(who) => {
                let client = &mut self.clients[who];
                let keeps = client.owned.intersection(&client.target).copied().collect();
                client.owned = keeps;
                client.take();
            }
            Step::Leave(who) => {
                let client = &mut self.clients[who];
                if !client.joined {
                    return;
                }
                let beat = ConsumerHeartbeat {
                    member: client.member.clone(),
                    instance: client.instance.clone(),
                    epoch: match client.instance.is_some() {
                        true => EPOCH_LEAVE_FOR_A_WHILE,
                        false => EPOCH_LEAVE,
                    },
                    ..ConsumerHeartbeat::default()
                };
                client.begin_anew();
                self.epochs.remove(&client.member);
                let _ = self.say(beat);
            }
            Step::Restart(who) => {
                self.ids += 1;
                let client = &mut self.clients[who];
                *client = Client {
                    member: format!("m{}", self.ids).into(),
                    instance: client.instance.clone(),
                    reads: client.reads,
                    says_all: true,
                    ..Client::default()
                };
            }
            Step::Reads(who, what) => {
                self.clients[who].reads = what;
                self.clients[who].says_all = true;
            }
            Step::Topics(which) => self.catalog = topics(which),
            Step::Wait(seconds) => {
                self.now += seconds;
                for gone in self.group.tick(self.now()) {
                    // It does not know yet; but who is no member commits nothing.
                    self.epochs.remove(&gone);
                }
            }
        }
        self.hold();
    }

    /// What holds at every moment.
    fn hold(&mut self) {
        assert!(
            self.group.epoch >= self.epoch,
            "the group's epoch went back"
        );
        self.epoch = self.group.epoch;
        assert!(self.group.target_epoch <= self.epoch);
        let mut held = BTreeSet::new();
        let mut count = 0;
        for (id, member) in &self.group.members {
            for part in member.assigned.iter().chain(&member.revoking) {
                assert!(held.insert(*part), "{part:?} is {id}'s and another's");
                count += 1;
            }
            assert!(member.epoch <= self.epoch);
            assert!(member.deadline() > self.now(), "{id} should be gone");
        }
        assert_eq!(
            self.group.owners.len(),
            count,
            "somebody has what is nobody's"
        );
        // As the clients see it: those that may commit read from different partitions.
        let mut read = BTreeMap::new();
        for client in &self.clients {
            let caller = ConsumerCaller {
                member: client.member.clone(),
                epoch: client.epoch,
            };
            if !client.joined || self.group.may_commit(&caller).is_err() {
                continue;
            }
            for part in &client.owned {
                let other = read.insert(*part, &client.member);
                assert!(other.is_none(), "{part:?}: {other:?} and {}", client.member);
            }
        }
    }

    /// Nothing changes any longer, and everybody goes on.
    fn come_to_rest(&mut self) {
        for _ in 0..30 {
            for who in 0..CLIENTS {
                self.step(&Step::Beat { who, lost: false });
                self.step(&Step::GiveBack(who));
            }
            self.step(&Step::Wait(5));
        }
    }
}

proptest! {
    #[test]
    fn whatever_members_do_no_partition_has_two_and_in_the_end_all_have_one(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.come_to_rest();
        let told = world.group.describe();
        prop_assert_eq!(told.state, ConsumerState::Stable);
        let mut has = ConsumerParts::new();
        for client in &world.clients {
            prop_assert_eq!(&client.owned, &client.target);
            has.extend(&client.owned);
        }
        let mut wanted = ConsumerParts::new();
        for member in &told.members {
            prop_assert_eq!(&member.assigned, &member.target);
            for topic in &member.target {
                wanted.extend(topic.partitions.iter().map(|part| (topic.id, *part)));
            }
        }
        prop_assert_eq!(has, wanted);
        // And all that somebody reads is somebody's.
        let read: u32 = world.group.topics().values().sum();
        prop_assert_eq!(world.clients.iter().map(|client| client.owned.len()).sum::<usize>(),
            read as usize);
    }
}
