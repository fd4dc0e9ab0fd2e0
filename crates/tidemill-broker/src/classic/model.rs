//! The coordinator against clients that do everything in every order, from a seed: no two members
//! have the same partition in a generation, a generation never goes back, and everybody is
//! answered.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use proptest::prelude::*;

use super::member::Token;
use super::state::{Answer, Coordinator};
use super::tests::{BOUNDS, at, join_as};
use super::types::*;

const PARTITIONS: u8 = 7;

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    /// Its process is gone, and another one comes in its place.
    Restart(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..6usize;
    prop_oneof![
        6 => who().prop_map(Step::Join),
        6 => who().prop_map(Step::Sync),
        3 => who().prop_map(Step::Beat),
        1 => who().prop_map(Step::Leave),
        1 => who().prop_map(Step::Restart),
        4 => (1..15u64).prop_map(Step::Wait),
    ]
}

/// A client: what it knows of the group.
#[derive(Default)]
struct Client {
    instance: Option<ByteString>,
    member: ByteString,
    generation: i32,
    /// Of the leader: all members of the generation.
    leads: Vec<ByteString>,
    waits: Option<Token>,
}

struct World {
    group: Coordinator,
    clients: Vec<Client>,
    now: u64,
    tokens: u64,
    asked: BTreeSet<Token>,
    /// Who has a partition in a generation.
    parts: BTreeMap<(i32, u8), ByteString>,
    generation: i32,
}

impl World {
    fn new() -> Self {
        let client = |n: usize| Client {
            instance: (n < 2).then(|| format!("i{n}").into()),
            ..Client::default()
        };
        Self {
            group: Coordinator::new(BOUNDS),
            clients: (0..6).map(client).collect(),
            now: 0,
            tokens: 0,
            asked: BTreeSet::new(),
            parts: BTreeMap::new(),
            generation: 0,
        }
    }

    fn ask(&mut self, who: usize) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.clients[who].waits = Some(token);
        self.asked.insert(token);
        token
    }

    fn step(&mut self, step: &Step) {
        let now = at(self.now);
        match step {
            Step::Join(who) => {
                let token = self.ask(*who);
                let client = &self.clients[*who];
                let join = ClassicJoin {
                    instance: client.instance.clone(),
                    asks_twice: who % 2 == 1,
                    ..join_as(&client.member)
                };
                self.group
                    .join(now, token, join, format!("m{}", token.0).into());
            }
            Step::Sync(who) => {
                let token = self.ask(*who);
                let client = &self.clients[*who];
                // A range each, as the clients' own assignor does it.
                let count = client.leads.len().max(1);
                let part = |(n, id): (usize, &ByteString)| {
                    let mine = (0..PARTITIONS).filter(|p| *p as usize % count == n);
                    (id.clone(), Bytes::from(mine.collect::<Vec<u8>>()))
                };
                let sync = ClassicSync {
                    caller: caller(client),
                    assignments: client.leads.iter().enumerate().map(part).collect(),
                    ..ClassicSync::default()
                };
                self.group.sync(now, token, sync);
            }
            Step::Beat(who) => {
                let caller = caller(&self.clients[*who]);
                let _ = self.group.heartbeat(now, &caller);
            }
            Step::Leave(who) => {
                let client = &self.clients[*who];
                let _ = self
                    .group
                    .leave(now, &client.member, client.instance.as_ref());
            }
            Step::Restart(who) => {
                let instance = self.clients[*who].instance.clone();
                self.clients[*who] = Client {
                    instance,
                    ..Client::default()
                };
            }
            Step::Wait(seconds) => {
                self.now += seconds;
                self.group.tick(at(self.now));
            }
        }
        self.hear();
    }

    fn hear(&mut self) {
        let generation = self.group.describe().generation;
        assert!(generation >= self.generation, "a generation went back");
        self.generation = generation;
        for answer in self.group.take_answers() {
            let token = match &answer {
                Answer::Joined(token, _) | Answer::Synced(token, _) => *token,
            };
            assert!(self.asked.remove(&token), "{token:?} was answered twice");
            let waits = |client: &&mut Client| client.waits == Some(token);
            let Some(client) = self.clients.iter_mut().find(waits) else {
                continue;
            };
            client.waits = None;
            match answer {
                Answer::Joined(_, Ok(joined)) => {
                    client.member = joined.member;
                    client.generation = joined.generation;
                    let ids = joined.members.into_iter().map(|member| member.member);
                    client.leads = ids.collect();
                }
                Answer::Joined(_, Err(ClassicError::IdRequired(id))) => client.member = id,
                Answer::Synced(_, Ok(synced)) => {
                    assert_eq!(
                        client.generation, generation,
                        "a part of another generation"
                    );
                    for part in synced.assignment {
                        let key = (client.generation, part);
                        let holder = self.parts.entry(key).or_insert(client.member.clone());
                        let taken_over = client.instance.is_some();
                        assert!(
                            *holder == client.member || taken_over,
                            "{key:?} is {holder}'s and {}'s",
                            client.member
                        );
                        *holder = client.member.clone();
                    }
                }
                Answer::Joined(_, Err(ClassicError::UnknownMember | ClassicError::Fenced)) => {
                    client.member = ByteString::new();
                }
                _ => {}
            }
        }
    }
}

fn caller(client: &Client) -> ClassicCaller {
    ClassicCaller {
        member: client.member.clone(),
        instance: client.instance.clone(),
        generation: client.generation,
    }
}

proptest! {
    #[test]
    fn whatever_members_do_parts_are_apart_and_everybody_is_answered(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            let describes = world.group.describe();
            let leads = describes.leader.as_ref();
            let members = &describes.members;
            prop_assert!(leads.is_none_or(|id| members.iter().any(|m| m.member == *id)));
            prop_assert!(members.len() <= BOUNDS.members_max);
            prop_assert_eq!(describes.state == ClassicState::Empty && !members.is_empty(), false);
        }
        // Nobody does anything any longer: time alone answers them all.
        let mut looks = 0;
        while let Some(due) = world.group.deadline() {
            world.now = world.now.max(due.as_secs() + 1);
            world.group.tick(at(world.now));
            world.hear();
            looks += 1;
            prop_assert!(looks < 200, "time leads nowhere");
        }
        prop_assert!(world.asked.is_empty(), "{:?} were never answered", world.asked);
        prop_assert_eq!(world.group.state(), ClassicState::Empty);
        prop_assert!(world.group.is_idle());
    }
}
