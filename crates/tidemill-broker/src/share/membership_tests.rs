//! Who is a member of a share group, transition by transition and from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use proptest::prelude::*;
use tidemill_core::{Partition, TopicId, TopicName};
use uuid::Uuid;

use super::membership::Membership;
use super::types::ShareHeartbeat;
use crate::catalog::Catalog;
use crate::consumer::{
    ConsumerBounds, ConsumerError, ConsumerParts, ConsumerPlace, ConsumerSight, ConsumerState,
};
use crate::limits::MEMBER_TEXT_MAX_BYTES;
use crate::machine::Topic;

const BOUNDS: ConsumerBounds = ConsumerBounds {
    members_max: 6,
    bytes_max: 64 * 1024,
    heartbeat_interval: Duration::from_secs(5),
    session_timeout: Duration::from_secs(45),
    free_from: Duration::ZERO,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn catalog(topics: &[(&str, u128, u32)]) -> Arc<Catalog> {
    let one = |(text, number, partitions): &(&str, u128, u32)| {
        let topic = Topic {
            id: id(*number),
            partitions: *partitions,
        };
        (name(text), topic)
    };
    let topics: Vec<_> = topics.iter().map(one).collect();
    Arc::new(Catalog::with(&topics))
}

fn join(member: &str, topics: &[&str]) -> ShareHeartbeat {
    ShareHeartbeat {
        member: member.into(),
        topics: Some(topics.iter().map(|text| name(text)).collect()),
        ..ShareHeartbeat::default()
    }
}

fn beat(member: &str, epoch: i32) -> ShareHeartbeat {
    ShareHeartbeat {
        member: member.into(),
        epoch,
        ..ShareHeartbeat::default()
    }
}

fn parts(topic: u128, numbers: &[u32]) -> ConsumerParts {
    let part = |number: &u32| (id(topic), Partition(*number));
    numbers.iter().map(part).collect()
}

struct Group {
    membership: Membership,
    catalog: Arc<Catalog>,
    now: Duration,
}

impl Group {
    fn of(topics: &[(&str, u128, u32)]) -> Self {
        Self {
            membership: Membership::new(BOUNDS),
            catalog: catalog(topics),
            now: Duration::ZERO,
        }
    }

    fn say(&mut self, beat: ShareHeartbeat) -> Result<ConsumerPlace, ConsumerError> {
        let room = &mut |_| Ok(());
        self.membership
            .heartbeat(self.now, &self.catalog, beat, room)
    }

    fn epoch(&mut self, beat: ShareHeartbeat) -> i32 {
        self.say(beat).unwrap().epoch
    }
}

#[test]
fn two_members_read_the_one_partition_and_are_told_once() {
    let mut group = Group::of(&[("t", 1, 1)]);
    let first = group.say(join("a", &["t"])).unwrap();
    assert_eq!((first.epoch, first.assignment), (1, Some(parts(1, &[0]))));
    let second = group.say(join("b", &["t"])).unwrap();
    assert_eq!((second.epoch, second.assignment), (2, Some(parts(1, &[0]))));
    // Nothing of what the first one reads has changed.
    let again = group.say(beat("a", 1)).unwrap();
    assert_eq!((again.epoch, again.assignment), (2, None));
    assert_eq!(group.say(beat("b", 2)).unwrap().assignment, None);
}

#[test]
fn partitions_move_when_members_come_and_go() {
    let mut group = Group::of(&[("t", 1, 3)]);
    let alone = group.say(join("a", &["t"])).unwrap();
    assert_eq!(alone.assignment, Some(parts(1, &[0, 1, 2])));
    let second = group.say(join("b", &["t"])).unwrap();
    assert_eq!(second.assignment, Some(parts(1, &[1])));
    let less = group.say(beat("a", 1)).unwrap();
    assert_eq!((less.epoch, less.assignment), (2, Some(parts(1, &[0, 2]))));
    let left = group.say(beat("b", -1)).unwrap();
    assert_eq!((left.epoch, left.assignment), (-1, None));
    let all = group.say(beat("a", 2)).unwrap();
    assert_eq!(all.assignment, Some(parts(1, &[0, 1, 2])));
    assert!(matches!(
        group.say(beat("b", -1)),
        Err(ConsumerError::UnknownMember)
    ));
}

#[test]
fn an_answer_that_was_lost_is_told_again_and_another_epoch_is_fenced() {
    let mut group = Group::of(&[("t", 1, 2)]);
    group.say(join("a", &["t"])).unwrap();
    group.say(join("b", &["t"])).unwrap();
    let lost = group.say(beat("a", 1)).unwrap();
    assert_eq!((lost.epoch, &lost.assignment), (2, &Some(parts(1, &[0]))));
    assert_eq!(group.say(beat("a", 1)).unwrap(), lost);
    for wrong in [3, 7] {
        let fenced = group.say(beat("a", wrong));
        assert!(matches!(fenced, Err(ConsumerError::FencedEpoch)), "{wrong}");
    }
    group.say(join("c", &["t"])).unwrap();
    assert_eq!(group.epoch(beat("a", 2)), 3);
    let stale = group.say(beat("a", 1));
    assert!(matches!(stale, Err(ConsumerError::FencedEpoch)));
    let unknown = group.say(beat("z", 1));
    assert!(matches!(unknown, Err(ConsumerError::UnknownMember)));
}

#[test]
fn who_is_silent_goes_and_may_come_back() {
    let mut group = Group::of(&[("t", 1, 2)]);
    group.say(join("a", &["t"])).unwrap();
    group.now = at(40);
    group.say(join("b", &["t"])).unwrap();
    assert_eq!(group.membership.deadline(), Some(at(45)));
    assert_eq!(group.membership.tick(at(44)), Vec::<ByteString>::new());
    assert_eq!(group.membership.tick(at(45)), ["a"]);
    let all = group.say(beat("b", 2)).unwrap();
    assert_eq!(all.assignment, Some(parts(1, &[0, 1])));
    let gone = group.say(beat("a", 1));
    assert!(matches!(gone, Err(ConsumerError::UnknownMember)));
    let back = group.say(join("a", &["t"])).unwrap();
    assert_eq!(back.assignment, Some(parts(1, &[1])));
}

#[test]
fn topics_come_grow_go_and_are_hidden() {
    let mut group = Group::of(&[("t", 1, 1)]);
    assert_eq!(group.epoch(join("a", &["t", "u"])), 1);
    group.catalog = catalog(&[("t", 1, 2), ("u", 2, 1)]);
    let more = group.say(beat("a", 1)).unwrap();
    let mut wanted = parts(1, &[0, 1]);
    wanted.extend(parts(2, &[0]));
    assert_eq!((more.epoch, more.assignment), (2, Some(wanted)));
    group.catalog = catalog(&[("u", 3, 1)]);
    let other = group.say(beat("a", 2)).unwrap();
    assert_eq!(other.assignment, Some(parts(3, &[0])));
    let hides = |topic: &TopicName| topic.as_str() != "u";
    let mut hidden = beat("a", 3);
    hidden.sight = Some(ConsumerSight::new("1", hides));
    let none = group.say(hidden).unwrap();
    assert_eq!(none.assignment, Some(ConsumerParts::new()));
}

#[test]
fn what_makes_no_sense_and_what_is_too_much_is_refused_and_leaves_nothing() {
    let mut group = Group::of(&[("t", 1, 1)]);
    let no_topics = ShareHeartbeat {
        topics: None,
        ..join("a", &["t"])
    };
    let racked = |bytes| ShareHeartbeat {
        rack: Some("r".repeat(bytes).into()),
        ..join("r", &["t"])
    };
    let far = racked(MEMBER_TEXT_MAX_BYTES + 1);
    for wrong in [
        join("", &["t"]),
        no_topics,
        join("a", &[]),
        beat("a", -2),
        far,
    ] {
        let refused = group.say(wrong.clone());
        assert!(
            matches!(refused, Err(ConsumerError::Invalid(_))),
            "{wrong:?}"
        );
    }
    for number in 0..BOUNDS.members_max {
        group.say(join(&format!("m{number}"), &["t"])).unwrap();
    }
    let full = group.say(join("more", &["t"]));
    assert!(matches!(full, Err(ConsumerError::Full(_))));
    assert_eq!(group.membership.count(), BOUNDS.members_max);
    // One that is a member already may join anew.
    assert!(group.say(join("m0", &["t"])).is_ok());
    let long: BTreeSet<_> = (0..900).map(|n| name(&format!("topic-{n}"))).collect();
    let mut much = beat("m0", 6);
    much.topics = Some(long);
    let full = group.say(much);
    assert!(matches!(full, Err(ConsumerError::Full(_))), "{full:?}");
    let no_room = &mut |_| Err(ConsumerError::Full("no room"));
    let (now, topics) = (group.now, Arc::clone(&group.catalog));
    let refused = group
        .membership
        .heartbeat(now, &topics, join("m1", &["t"]), no_room);
    assert!(matches!(refused, Err(ConsumerError::Full("no room"))));
    assert_eq!(group.membership.describe().state, ConsumerState::Stable);
    group.membership.end();
    assert!(matches!(
        group.say(join("m0", &["t"])),
        Err(ConsumerError::Unavailable)
    ));
}

#[derive(Clone, Debug)]
enum Step {
    /// Says that it lives; its answer may be lost.
    Beat(usize, bool),
    Leave(usize),
    Reads(usize, usize),
    Topics(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..4usize;
    prop_oneof![
        10 => (who(), prop::bool::weighted(0.2)).prop_map(|(who, lost)| Step::Beat(who, lost)),
        1 => who().prop_map(Step::Leave),
        2 => (who(), 0..3usize).prop_map(|(who, what)| Step::Reads(who, what)),
        1 => (0..3usize).prop_map(Step::Topics),
        3 => (1..20u64).prop_map(Step::Wait),
    ]
}

/// A client, as Kafka's keep it.
#[derive(Default)]
struct Client {
    epoch: i32,
    reads: usize,
    says_all: bool,
    has: ConsumerParts,
}

fn play(group: &mut Group, clients: &mut [Client], step: &Step) {
    const READS: [&[&str]; 3] = [&["t"], &["t", "u"], &["v", "u"]];
    match *step {
        Step::Beat(who, lost) => {
            let client = &mut clients[who];
            let mut says = beat(&format!("m{who}"), client.epoch);
            if client.epoch == 0 || client.says_all {
                says.topics = join("x", READS[client.reads]).topics;
            }
            match group.say(says) {
                Ok(_) if lost => client.says_all = true,
                Ok(place) => {
                    assert!(place.epoch >= client.epoch, "an epoch went back");
                    client.epoch = place.epoch;
                    client.says_all = false;
                    client.has = place.assignment.unwrap_or(std::mem::take(&mut client.has));
                }
                Err(ConsumerError::UnknownMember | ConsumerError::FencedEpoch) => {
                    client.epoch = 0;
                    client.has.clear();
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        Step::Leave(who) => {
            let _ = group.say(beat(&format!("m{who}"), -1));
            clients[who].epoch = 0;
            clients[who].has.clear();
        }
        Step::Reads(who, what) => {
            clients[who].reads = what;
            clients[who].says_all = true;
        }
        Step::Topics(which) => {
            group.catalog = match which {
                0 => catalog(&[("t", 1, 5)]),
                1 => catalog(&[("t", 1, 5), ("u", 2, 3)]),
                _ => catalog(&[("t", 1, 7), ("u", 3, 2), ("v", 4, 1)]),
            };
        }
        Step::Wait(seconds) => {
            group.now += at(seconds);
            group.membership.tick(group.now);
        }
    }
}

proptest! {
    #[test]
    fn whatever_members_do_in_the_end_each_partition_that_is_read_has_somebody(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut group = Group::of(&[("t", 1, 5), ("u", 2, 3)]);
        let mut clients: Vec<_> = (0..4).map(|_| Client::default()).collect();
        for step in &steps {
            play(&mut group, &mut clients, step);
            group.membership.hold();
        }
        for _ in 0..3 {
            for who in 0..clients.len() {
                play(&mut group, &mut clients, &Step::Beat(who, false));
            }
        }
        let told = group.membership.describe();
        let mut has = ConsumerParts::new();
        for (client, member) in clients.iter().zip(&told.members) {
            prop_assert_eq!(client.epoch, told.epoch);
            prop_assert_eq!(member.epoch, told.epoch);
            let assigned = member.assigned.iter().flat_map(|topic| {
                topic.partitions.iter().map(|part| (topic.id, *part))
            });
            prop_assert_eq!(&client.has, &assigned.collect::<ConsumerParts>());
            has.extend(&client.has);
        }
        group.membership.hold();
        let each = told.members.iter();
        let each = each.flat_map(|member| group.membership.read_by(&member.member));
        let read: BTreeMap<_, _> = each.collect();
        prop_assert_eq!(has.len(), read.values().copied().sum::<u32>() as usize);
    }
}
