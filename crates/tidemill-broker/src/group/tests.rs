//! The delivery state against a model: whatever members do, nothing is lost, doubled, given to
//! two at once, or out of order in its key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill_core::cursor::Cursor;
use tidemill_core::slots::{MemberId, slot_of};
use tidemill_core::{
    Delivery, Event, EventId, EventType, Generation, GroupName, Key, Offset, Order, Partition,
    Source, Ticket, TopicId, TopicName,
};
use tidemill_log::PartitionId;
use uuid::Uuid;

use super::core::Core;
use super::settle::Ended;
use super::suspects::Guard;
use super::work::{Loaded, Passed, Taken};
use crate::limits::{CRASHES_MAX, GROUP_MEMORY_MAX_BYTES, READ_AHEAD_EVENTS, SUSPECT_ALONE_MAX};
use crate::machine::{Mark, Marked, Topic};

pub(super) const TOPIC: Topic = Topic {
    id: TopicId(Uuid::from_u128(1)),
    partitions: 2,
};

fn name() -> TopicName {
    TopicName::new("t").unwrap()
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

pub(super) fn id(partition: u32) -> PartitionId {
    PartitionId {
        topic: TOPIC.id,
        partition: Partition(partition),
    }
}

fn event(key: Option<u8>) -> Arc<Event> {
    let id = EventId::new("1").unwrap();
    let builder = Event::builder(id, Source::new("/t").unwrap(), EventType::new("t").unwrap());
    let event = match key {
        Some(key) => builder.key(&Key::new(format!("k{key}")).unwrap()).build(),
        None => builder.build(),
    };
    Arc::new(event.unwrap())
}

/// Which members handle in the process that died before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    Nobody,
    /// Every second one.
    Half,
    All,
}

/// The log beside the state, and everything that was seen of it.
pub(super) struct World {
    pub(super) core: Core,
    /// The keys of the events of each partition.
    pub(super) log: [Vec<Option<u8>>; 2],
    pub(super) members: Vec<MemberId>,
    pub(super) held: Vec<(Delivery, Ticket, MemberId)>,
    pub(super) guarded: Guarded,
    /// How often events were given out before the process died.
    pub(super) marks: BTreeMap<(u32, u64), u32>,
    /// What was marked in this life.
    pub(super) marked: BTreeMap<(u32, u64), u32>,
    /// What was given up because it ended the process.
    pub(super) over: BTreeSet<(u32, u64)>,
    settling: Vec<Ticket>,
    stale: Vec<Ticket>,
    pub(super) settled: BTreeSet<(u32, u64)>,
    attempts: BTreeMap<(u32, u64), u32>,
    not_before: BTreeMap<(u32, u64), Duration>,
    /// When each was given out last.
    since: BTreeMap<(u32, u64), Duration>,
    /// Members that found nothing and were not woken by a publish since, and when each was told to
    /// look again.
    waiting: BTreeMap<MemberId, Option<Duration>>,
    pub(super) now: Duration,
}

fn place(ticket: &Ticket) -> (u32, u64) {
    (ticket.position.partition.0, ticket.position.offset.0)
}

impl World {
    pub(super) fn new(order: Order) -> Self {
        Self {
            guarded: Guarded::Nobody,
            marks: BTreeMap::new(),
            marked: BTreeMap::new(),
            over: BTreeSet::new(),
            core: Core::new(order, Generation(7)),
            log: [Vec::new(), Vec::new()],
            members: Vec::new(),
            held: Vec::new(),
            settling: Vec::new(),
            stale: Vec::new(),
            settled: BTreeSet::new(),
            attempts: BTreeMap::new(),
            not_before: BTreeMap::new(),
            since: BTreeMap::new(),
            waiting: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    pub(super) fn join(&mut self) {
        self.join_as(self.core.order);
    }

    /// Where others are there, the order stays theirs.
    fn join_as(&mut self, order: Order) {
        if self.members.len() < 4 {
            let topics = vec![(name(), TOPIC, vec![Cursor::default(), Cursor::default()])];
            let order = self.core.order_in_use().unwrap_or(order);
            self.members.push(self.core.join(order, topics));
            self.watch();
        }
    }

    fn is_guarded(&self, member: MemberId) -> bool {
        match self.guarded {
            Guarded::Nobody => false,
            Guarded::Half => member.0 % 2 == 1,
            Guarded::All => true,
        }
    }

    /// The member that has just joined says that it handles here.
    fn watch(&mut self) {
        if !self
            .members
            .last()
            .is_some_and(|last| self.is_guarded(*last))
        {
            return;
        }
        for partition in 0..2 {
            let marks = self.marks.range((partition, 0)..(partition + 1, 0));
            let mark = |((_, offset), attempts): (&(u32, u64), &u32)| {
                let mark = Mark {
                    attempts: *attempts,
                    epoch: 1,
                    first_ms: 1000,
                    last_ms: 2000,
                };
                (Offset(*offset), mark)
            };
            let end = Offset(self.log[partition as usize].len() as u64);
            let marks: Vec<_> = marks.map(mark).collect();
            self.core.watch(id(partition), end, marks);
        }
    }

    /// Does as a guard says, and checks it.
    fn heed(&mut self, guard: Guard) {
        for Marked {
            partition,
            offset,
            attempts,
        } in guard.marks
        {
            let at = (partition.partition.0, offset.0);
            let before = self.marks.get(&at).copied().unwrap_or_default();
            assert_eq!(attempts, before + 1, "{at:?}");
            assert_eq!(
                self.marked.insert(at, attempts),
                None,
                "{at:?} is marked once"
            );
        }
        for (ticket, failure) in guard.over {
            let at = place(&ticket);
            assert_eq!(failure.attempts, CRASHES_MAX);
            assert!(self.marks[&at] >= CRASHES_MAX && self.over.insert(at));
            self.given(&ticket);
            self.core.begin_settle(&ticket).unwrap();
            self.settling.push(ticket);
            self.end(self.settling.len() - 1, Ended::Settled);
        }
    }

    /// Suspects that members who handle here have, and that others wait for.
    fn suspects_held(&self) -> usize {
        let held = self.held.iter().filter(|(_, _, of)| self.is_guarded(*of));
        let at = held.map(|(_, ticket, _)| place(ticket));
        let suspects = at.filter(|at| self.marks.contains_key(at));
        let waits = |at: &(u32, u64)| self.now < self.since[at] + SUSPECT_ALONE_MAX;
        suspects.filter(waits).count()
    }

    pub(super) fn leave(&mut self, at: usize) {
        if self.members.is_empty() {
            return;
        }
        let member = self.members.remove(at % self.members.len());
        self.core.leave(member);
        let gone = self.held.extract_if(.., |(_, _, of)| *of == member);
        self.stale.extend(gone.map(|(_, ticket, _)| ticket));
    }

    /// Reads everything that the state wants read for a member.
    fn read(&mut self, member: MemberId) {
        let ends = [self.log[0].len(), self.log[1].len()];
        let end = |id: PartitionId| Some(Offset(ends[id.partition.0 as usize] as u64));
        while let Some(plan) = self.core.plan_read(member, end) {
            let of = &self.log[plan.id.partition.0 as usize];
            let from = plan.offset.0 as usize;
            let until = of.len().min(from + plan.events_max.min(5));
            let events = (from..until).map(|at| (Offset(at as u64), event(of[at])));
            let loaded = Loaded {
                events: events.collect(),
                next: Offset(until as u64),
                ..Loaded::default()
            };
            let passed = self.core.loaded(&plan, loaded);
            assert_eq!(passed, Passed::default(), "nothing is passed");
        }
    }

    pub(super) fn take(&mut self, at: usize, credit: usize) -> usize {
        if self.members.is_empty() {
            return 0;
        }
        let member = self.members[at % self.members.len()];
        let woken = self.core.wake.remove(&member);
        let waits = self.waiting.remove(&member);
        let looks = |due: Option<Duration>| due.is_some_and(|due| due <= self.now);
        let asleep = waits.is_some_and(|due| !looks(due)) && !woken;
        self.read(member);
        let mut guard = Guard::new(CRASHES_MAX);
        let with = self.is_guarded(member).then_some(&mut guard);
        let taken = self
            .core
            .take_where(&group(), member, credit, None, with, self.now);
        let over = guard.over.len();
        assert!(over == 0 || !asleep, "{member:?} should have been woken");
        self.heed(guard);
        let given = match taken {
            Taken::Given(given) => given,
            Taken::Nothing { .. } if over > 0 => return over,
            Taken::Nothing { due, .. } => {
                self.core.wake.remove(&member);
                self.waiting.insert(member, due);
                return 0;
            }
            Taken::Gone => panic!("the member is there"),
        };
        assert!(!asleep, "{member:?} should have been woken");
        assert!(given.len() <= credit);
        let count = given.len();
        for (delivery, ticket) in given {
            self.given(&ticket);
            self.held.push((delivery, ticket, member));
        }
        assert!(self.suspects_held() <= 1, "suspects come one by one");
        count + over
    }

    fn given(&mut self, ticket: &Ticket) {
        let at = place(ticket);
        assert!(!self.settled.contains(&at), "{at:?} was settled");
        let flying = self.held.iter().map(|(_, ticket, _)| place(ticket));
        let flying: Vec<_> = flying.chain(self.settling.iter().map(place)).collect();
        assert!(!flying.contains(&at), "{at:?} is in flight");
        self.since.insert(at, self.now);
        let attempt = self.attempts.entry(at).or_default();
        *attempt += 1;
        assert_eq!(ticket.attempt.0, *attempt, "{at:?}");
        let due = self.not_before.remove(&at).unwrap_or_default();
        assert!(due <= self.now, "{at:?} is due at {due:?}");
        let same_lane = |other: u64| match self.core.order {
            Order::None => false,
            Order::PerPartition => true,
            Order::PerKey => {
                let of = &self.log[at.0 as usize];
                of[at.1 as usize].is_some() && of[other as usize] == of[at.1 as usize]
            }
        };
        for before in (0..at.1).filter(|other| same_lane(*other)) {
            let before = (at.0, before);
            assert!(
                self.settled.contains(&before),
                "{at:?} overtakes {before:?}"
            );
        }
    }

    pub(super) fn begin(&mut self, at: usize) {
        if self.held.is_empty() {
            return;
        }
        let (_, ticket, _) = self.held.remove(at % self.held.len());
        self.core.begin_settle(&ticket).unwrap();
        assert!(
            self.core.begin_settle(&ticket).is_err(),
            "settling began already"
        );
        self.settling.push(ticket);
    }

    pub(super) fn end(&mut self, at: usize, ended: Ended) {
        if self.settling.is_empty() {
            return;
        }
        let ticket = self.settling.remove(at % self.settling.len());
        let partition = id(ticket.position.partition.0);
        self.core.end_settle(partition, &ticket, ended);
        if ended == Ended::Settled {
            self.settled.insert(place(&ticket));
        } else {
            // The holder lets go.
            self.core.retry(partition, &ticket, None);
        }
        self.stale.push(ticket);
    }

    fn give_back(&mut self, at: usize, after: Option<u64>) {
        if self.held.is_empty() {
            return;
        }
        let (_, ticket, _) = self.held.remove(at % self.held.len());
        let due = after.map(|after| self.now + Duration::from_secs(after));
        let partition = id(ticket.position.partition.0);
        assert!(self.core.retry(partition, &ticket, due));
        self.not_before.extend(due.map(|due| (place(&ticket), due)));
        self.stale.push(ticket);
    }

    fn check(&mut self) {
        for ticket in &self.stale {
            let partition = id(ticket.position.partition.0);
            assert!(
                self.core.begin_settle(ticket).is_err(),
                "{ticket:?} is stale"
            );
            assert!(
                !self.core.retry(partition, ticket, None),
                "{ticket:?} is stale"
            );
        }
        for flow in &self.core.flows {
            assert!(flow.waiting <= READ_AHEAD_EVENTS);
            let settled = self.settled.iter().filter(|at| at.0 == flow.id.partition.0);
            let cursor = &flow.cursor;
            assert_eq!(
                cursor.position().0 + cursor.settled_above(),
                settled.count() as u64
            );
        }
    }

    /// Walks, and takes what is left.
    pub(super) fn go(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Publish(partition, key) => {
                    self.log[partition].push(key);
                    self.waiting.clear();
                }
                Step::Join(order) => self.join_as(order),
                Step::Leave(at) => self.leave(at),
                Step::Take(at, credit) => drop(self.take(at, credit)),
                Step::Begin(at) => self.begin(at),
                Step::End(at, true) => self.end(at, Ended::Settled),
                Step::End(at, false) => self.end(at, Ended::Refused),
                Step::GiveBack(at, after) => self.give_back(at, after),
                Step::Wait(secs) => {
                    self.now += Duration::from_secs(secs);
                }
                Step::Shed => {
                    self.core.shed();
                    assert_eq!(self.core.waiting(), 0);
                }
            }
            self.check();
        }
        self.finish();
    }

    /// One member takes and settles all that is left.
    pub(super) fn finish(&mut self) {
        while !self.settling.is_empty() {
            self.end(0, Ended::Settled);
        }
        while !self.members.is_empty() {
            self.leave(0);
        }
        self.join();
        self.now += Duration::from_secs(1000);
        while self.take(0, 7) > 0 {
            while !self.held.is_empty() {
                self.begin(0);
                self.end(0, Ended::Settled);
            }
        }
        let all = self.log.iter().map(Vec::len).sum::<usize>();
        assert_eq!(self.settled.len(), all, "everything was delivered");
        assert_eq!(self.core.held_bytes, 0);
        assert!(self.core.seen.is_empty());
        assert!(
            self.core
                .flows
                .iter()
                .all(|flow| flow.waiting == 0 && flow.in_flight.is_empty())
        );
        self.check();
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Publish(usize, Option<u8>),
    Join(Order),
    Leave(usize),
    Take(usize, usize),
    Begin(usize),
    End(usize, bool),
    GiveBack(usize, Option<u64>),
    Wait(u64),
    /// What waits gives its memory back, and is read again.
    Shed,
}

pub(super) fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::PerKey),
        Just(Order::PerPartition),
        Just(Order::None)
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize, prop::option::of(0..3u8)).prop_map(|(p, key)| Step::Publish(p, key)),
        1 => order().prop_map(Step::Join),
        1 => (0..4usize).prop_map(Step::Leave),
        4 => (0..4usize, 1..5usize).prop_map(|(at, credit)| Step::Take(at, credit)),
        3 => (0..9usize).prop_map(Step::Begin),
        3 => (0..9usize, prop::bool::weighted(0.8)).prop_map(|(at, ok)| Step::End(at, ok)),
        1 => (0..9usize, prop::option::of(1..9u64)).prop_map(|(at, s)| Step::GiveBack(at, s)),
        1 => prop_oneof![4 => 0..5u64, 1 => Just(70)].prop_map(Step::Wait),
        1 => Just(Step::Shed),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(
        order in order(),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut world = World::new(order);
        world.join();
        world.go(steps);
    }
}

#[test]
fn an_event_that_comes_back_after_everybody_left_is_not_doubled() {
    let mut world = World::new(Order::None);
    world.log[0] = vec![None; 3];
    world.join();
    assert_eq!(world.take(0, 3), 3);
    world.begin(0);
    world.leave(0);
    world.join();
    world.end(0, Ended::Refused);
    assert_eq!(world.take(0, 9), 3);
}

#[test]
fn what_is_being_settled_holds_its_key_back_from_a_newcomer_with_another_order() {
    let orders = [Order::PerKey, Order::PerPartition, Order::None];
    let changes = orders.map(|old| orders.map(|new| (old, new)));
    for (old, new) in changes.into_iter().flatten() {
        for ended in [Ended::Refused, Ended::Settled] {
            let mut world = World::new(old);
            world.log[0] = vec![Some(1); 3];
            world.join();
            assert!(world.take(0, 1) > 0);
            world.begin(0);
            world.leave(0);
            world.join_as(new);
            let free = if new == Order::None { 2 } else { 0 };
            assert_eq!(world.take(0, 9), free, "{old:?} to {new:?}");
            world.end(0, ended);
            // The model checks that the first one comes first.
            world.finish();
        }
    }
}

#[test]
fn a_slot_moves_when_its_events_are_settled() {
    let mut world = World::new(Order::PerKey);
    world.log[0] = (0..40).map(|n| Some(n % 20)).collect();
    world.join();
    assert_eq!(world.take(0, 100), 20, "one of each key");
    world.join();
    assert_eq!(
        world.take(1, 100),
        0,
        "all slots with events have one in flight"
    );
    for _ in 0..20 {
        world.begin(0);
        world.end(0, Ended::Settled);
    }
    let (first, second) = (world.take(0, 100), world.take(1, 100));
    assert_eq!(first + second, 20);
    assert!(second >= 3, "the second member has its share, not {second}");
}

#[test]
fn a_group_at_its_bound_pauses_and_says_why() {
    let mut world = World::new(Order::None);
    world.log[0] = vec![None; 20_000];
    world.join();
    let mut total = 0;
    loop {
        let count = world.take(0, 1000);
        if count == 0 {
            break;
        }
        total += count;
        // Every second one is settled, so that each makes a range of its own.
        let odd = |(_, ticket, _): &(Delivery, Ticket, MemberId)| place(ticket).1 % 2 == 1;
        while let Some(at) = world.held.iter().position(odd) {
            world.begin(at);
            world.end(0, Ended::Settled);
        }
    }
    let bound = tidemill_core::limits::CURSOR_RANGES_MAX;
    assert_eq!(
        total, bound,
        "every second one a range, the others in flight"
    );
    let why = world.core.flows[0].paused().unwrap();
    assert!(
        why.contains("above offset 0, which is not settled"),
        "{why}"
    );
    assert_eq!(world.core.partition_infos()[0].paused, Some(why));
    // The lowest one is what it waits for.
    let lowest = world
        .held
        .iter()
        .position(|(_, ticket, _)| place(ticket).1 == 0)
        .unwrap();
    world.begin(lowest);
    world.end(0, Ended::Settled);
    assert!(world.take(0, 1000) > 0, "it goes on");
}

#[test]
fn a_member_behind_anothers_backlog_is_woken_when_there_is_room() {
    let mut world = World::new(Order::PerKey);
    world.join();
    world.join();
    let (first, second) = (world.members[0], world.members[1]);
    let slots = &world.core.shares[0].slots;
    let owner = |key: u8| slots.owner(slot_of(format!("k{key}").as_bytes(), slots.count()));
    let of = |member| (0..).find(|key| owner(*key) == Some(member)).unwrap();
    let (of_first, of_second) = (of(first), of(second));
    world.log[0] = vec![Some(of_first); READ_AHEAD_EVENTS];
    world.log[0].push(Some(of_second));
    assert_eq!(
        world.take(1, 1),
        0,
        "the window is full of the first one's events"
    );
    world.core.wake.clear();
    assert_eq!(world.take(0, 1), 1);
    assert!(world.core.wake.contains(&second));
    assert_eq!(world.take(1, 1), 1);
}

#[test]
fn a_group_at_its_memory_bound_goes_on_when_something_is_settled() {
    let data = vec![b'1'; GROUP_MEMORY_MAX_BYTES / 4];
    let large = event(None).to_builder().untyped_data(data).build();
    let large = Arc::new(large.unwrap());
    let mut world = World::new(Order::None);
    world.join();
    let member = world.members[0];
    let end = |_| Some(Offset(8));
    let mut next = 0;
    while let Some(plan) = world.core.plan_read(member, end) {
        if plan.id != id(0) {
            continue;
        }
        assert_eq!(plan.offset.0, next);
        next += 1;
        let loaded = Loaded {
            events: vec![(plan.offset, Arc::clone(&large))],
            next: Offset(next),
            ..Loaded::default()
        };
        world.core.loaded(&plan, loaded);
    }
    assert_eq!(next, 4, "what is held and one more would be too much");
    let taken = world.core.take(&group(), member, 9, world.now);
    let Taken::Given(given) = taken else {
        panic!("{taken:?}");
    };
    world.core.wake.clear();
    assert!(world.core.plan_read(member, end).is_none());
    let ticket = &given[3].1;
    world.core.begin_settle(ticket).unwrap();
    world.core.end_settle(id(0), ticket, Ended::Settled);
    assert!(world.core.wake.contains(&member), "it may read again");
    assert!(world.core.plan_read(member, end).is_some());
}

#[test]
fn a_seek_that_ends_after_another_leaves_no_key_stuck() {
    let mut world = World::new(Order::PerKey);
    world.join();
    world.log[0] = vec![Some(1), Some(1)];
    let flow = world.core.flow_index(id(0)).unwrap();
    world.core.begin_seek(flow);
    world.core.begin_seek(flow);
    world.core.end_seek(flow, Some(Cursor::at(Offset(0))));
    assert_eq!(world.take(0, 10), 1, "one of a key at a time");
    world.core.end_seek(flow, Some(Cursor::at(Offset(0))));
    let gone = std::mem::take(&mut world.held);
    world.attempts.clear();
    assert_eq!(world.take(0, 10), 1, "the key is not in flight any longer");
    assert!(world.core.begin_settle(&gone[0].1).is_err(), "it is stale");
}

#[test]
fn a_seek_makes_what_is_in_flight_stale() {
    let mut world = World::new(Order::PerKey);
    world.log[0] = vec![Some(1); 3];
    world.join();
    world.take(0, 10);
    world.begin(0);
    world.end(0, Ended::Settled);
    world.take(0, 10);
    let (_, ticket, _) = world.held.pop().unwrap();
    let flow = world.core.flow_index(id(0)).unwrap();
    world.core.begin_seek(flow);
    assert!(world.core.begin_settle(&ticket).is_err());
    assert_eq!(world.take(0, 10), 0, "nothing while the position is set");
    world.core.end_seek(flow, Some(Cursor::at(Offset(0))));
    world.settled.clear();
    world.attempts.clear();
    assert_eq!(world.take(0, 10), 1);
    assert_eq!(place(&world.held[0].1), (0, 0));
}

#[test]
fn a_seek_that_was_missed_is_followed_once() {
    let mut world = World::new(Order::PerKey);
    world.log[0] = vec![Some(1); 3];
    world.join();
    world.take(0, 10);
    world.begin(0);
    world.end(0, Ended::Settled);
    world.take(0, 10);
    let mut sought = world.core.flows[0].cursor.clone();
    sought.seek(Offset(0));
    world.core.follow(id(0), &sought);
    let (_, ticket, _) = world.held.pop().unwrap();
    assert!(world.core.begin_settle(&ticket).is_err(), "it is stale");
    world.settled.clear();
    world.attempts.clear();
    assert_eq!(world.take(0, 10), 1);
    assert_eq!(place(&world.held[0].1), (0, 0));
    world.core.follow(id(0), &sought);
    let begun = world.core.begin_settle(&world.held[0].1).unwrap();
    assert_eq!(begun.epoch, 1, "the same seek again is no news");
}

#[test]
fn gaps_are_settled_when_they_are_passed() {
    let mut world = World::new(Order::PerKey);
    world.join();
    let plan = world
        .core
        .plan_read(world.members[0], |_| Some(Offset(10)))
        .unwrap();
    let loaded = Loaded {
        events: vec![(Offset(3), event(None)), (Offset(5), event(None))],
        next: Offset(9),
        damage: Some("a batch is damaged".into()),
        deleted: false,
        held: None,
    };
    let passed = world.core.loaded(&plan, loaded);
    assert_eq!(passed.offsets, 7);
    assert_eq!(
        passed.ranges,
        [
            Offset(0)..Offset(3),
            Offset(4)..Offset(5),
            Offset(6)..Offset(9)
        ]
    );
    let info = &world.core.partition_infos()[plan.flow.0];
    assert_eq!((info.position, info.settled_above), (Offset(3), 4));
    assert_eq!(info.damage.as_deref(), Some("a batch is damaged"));
}

#[test]
fn members_are_told_when_their_topic_or_group_is_gone() {
    let mut world = World::new(Order::PerKey);
    world.log[0] = vec![Some(1)];
    world.join();
    world.take(0, 1);
    world.core.topic_gone(TOPIC.id);
    let member = world.members[0];
    assert!(matches!(
        world.core.take(&group(), member, 1, world.now),
        Taken::Gone
    ));
    assert!(world.core.wake.contains(&member));
    assert!(world.core.begin_settle(&world.held[0].1).is_err());
    assert!(world.core.topics().is_empty());
}
