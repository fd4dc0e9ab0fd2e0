//! The coordinator of consumer groups, transition by transition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::{Partition, TopicId, TopicName};
use uuid::Uuid;

use super::patterns::Pattern;
use super::state::{Coordinator, With};
use super::types::*;
use crate::catalog::Catalog;
use crate::limits::{CONSUMER_PATTERNS_MAX, MEMBER_TEXT_MAX_BYTES};
use crate::machine::Topic;

pub(super) const BOUNDS: ConsumerBounds = ConsumerBounds {
    members_max: 8,
    bytes_max: 1024 * 1024,
    heartbeat_interval: Duration::from_secs(5),
    session_timeout: Duration::from_secs(45),
    free_from: Duration::ZERO,
};

pub(super) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

pub(super) fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

/// Topics with their numbers and how many partitions they have.
pub(super) fn catalog(topics: &[(&str, u128, u32)]) -> Arc<Catalog> {
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

pub(super) fn parts(numbers: &[u32]) -> ConsumerParts {
    numbers.iter().map(|n| (id(1), Partition(*n))).collect()
}

pub(super) fn join(member: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        rebalance_timeout: Some(at(60)),
        topics: Some(BTreeSet::from([name("t")])),
        owned: Some(ConsumerParts::new()),
        ..ConsumerHeartbeat::default()
    }
}

fn instance(member: &str, instance: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        instance: Some(instance.into()),
        ..join(member)
    }
}

fn beat(member: &str, epoch: i32, owned: Option<&[u32]>) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        epoch,
        owned: owned.map(parts),
        ..ConsumerHeartbeat::default()
    }
}

/// A heartbeat with what the broker gives to it; `room` says whether there is room.
pub(super) fn play(
    (group, catalog): (&mut Coordinator, &Arc<Catalog>),
    now: Duration,
    beat: ConsumerHeartbeat,
    mut room: impl FnMut(usize) -> Result<(), ConsumerError>,
) -> Result<ConsumerPlace, ConsumerError> {
    let text = beat.pattern.as_ref().filter(|text| !text.is_empty());
    let pattern = text.map(|text| Pattern::of(text, catalog)).transpose()?;
    let with = With {
        fresh: "fresh".into(),
        pattern: pattern.map(Arc::new),
        room: &mut room,
    };
    group.heartbeat(now, catalog, beat, with)
}

struct Played {
    group: Coordinator,
    catalog: Arc<Catalog>,
    now: u64,
}

impl Played {
    fn new(partitions: u32) -> Self {
        Self {
            group: Coordinator::new(BOUNDS),
            catalog: catalog(&[("t", 1, partitions)]),
            now: 0,
        }
    }

    fn say(&mut self, beat: ConsumerHeartbeat) -> Result<ConsumerPlace, ConsumerError> {
        let on = (&mut self.group, &self.catalog);
        play(on, at(self.now), beat, |_| Ok(()))
    }

    /// The epoch and the partitions that are told.
    fn told(&mut self, beat: ConsumerHeartbeat) -> (i32, Option<Vec<u32>>) {
        let place = self.say(beat).unwrap();
        let numbers = |parts: ConsumerParts| parts.iter().map(|(_, part)| part.0).collect();
        (place.epoch, place.assignment.map(numbers))
    }

    fn refused(&mut self, beat: ConsumerHeartbeat) -> ConsumerError {
        self.say(beat).unwrap_err()
    }

    fn state(&self) -> ConsumerState {
        self.group.describe().state
    }
}

#[test]
fn what_is_given_back_first_is_another_members_then() {
    let mut played = Played::new(4);
    assert_eq!(played.told(join("a")), (1, Some(vec![0, 1, 2, 3])));
    assert_eq!(played.state(), ConsumerState::Stable);
    // The second has nothing until the first has given two back.
    assert_eq!(played.told(join("b")), (2, Some(vec![])));
    assert_eq!(played.state(), ConsumerState::Reconciling);
    assert_eq!(played.told(beat("b", 2, None)), (2, None));
    assert_eq!(
        played.told(beat("a", 1, None)),
        (1, Some(vec![0, 1])),
        "it keeps its epoch until it has given back"
    );
    assert_eq!(played.told(beat("b", 2, None)), (2, None));
    assert_eq!(played.told(beat("a", 1, Some(&[0, 1, 3]))), (1, None));
    assert_eq!(played.told(beat("a", 1, Some(&[0, 1]))), (2, None));
    assert_eq!(played.told(beat("b", 2, None)), (2, Some(vec![2, 3])));
    assert_eq!(played.state(), ConsumerState::Stable);
    // Who leaves leaves everything at once.
    let leaves = played.told(beat("b", EPOCH_LEAVE, None));
    assert_eq!(leaves, (EPOCH_LEAVE, None));
    assert_eq!(played.told(beat("a", 2, None)), (3, Some(vec![0, 1, 2, 3])));
}

#[test]
fn what_is_not_given_back_in_time_costs_the_membership() {
    let mut played = Played::new(2);
    let quick = ConsumerHeartbeat {
        rebalance_timeout: Some(at(10)),
        ..join("a")
    };
    played.told(quick);
    played.told(join("b"));
    assert_eq!(played.told(beat("a", 1, None)), (1, Some(vec![0])));
    played.now = 9;
    assert_eq!(played.told(beat("a", 1, Some(&[0, 1]))), (1, None));
    assert!(played.group.tick(at(9)).is_empty());
    assert_eq!(played.group.tick(at(10)), ["a"]);
    assert_eq!(
        played.refused(beat("a", 1, Some(&[0, 1]))),
        ConsumerError::UnknownMember
    );
    assert_eq!(played.told(beat("b", 2, None)), (3, Some(vec![0, 1])));
}

#[test]
fn who_is_silent_goes_and_who_speaks_stays() {
    let mut played = Played::new(2);
    played.told(join("a"));
    played.told(join("b"));
    played.now = 40;
    played.told(beat("a", 1, None));
    assert!(played.group.tick(at(44)).is_empty());
    assert_eq!(played.group.deadline(), Some(at(45)));
    assert_eq!(played.group.tick(at(45)), ["b"]);
    let lost = played.refused(beat("b", 2, None));
    assert_eq!(lost, ConsumerError::UnknownMember);
    assert_eq!(played.group.tick(at(200)), ["a"]);
    assert_eq!(played.state(), ConsumerState::Empty);
    assert_eq!(played.group.deadline(), None);
}

#[test]
fn a_member_in_another_epoch_is_fenced_unless_its_answer_was_lost() {
    let mut played = Played::new(4);
    played.told(join("a"));
    let fenced = ConsumerError::FencedEpoch;
    assert_eq!(played.refused(beat("a", 2, Some(&[]))), fenced);
    played.told(join("b"));
    played.told(beat("a", 1, None));
    assert_eq!(played.told(beat("a", 1, Some(&[0, 1]))).0, 2);
    // As if that answer had been lost.
    assert_eq!(played.told(beat("a", 1, Some(&[0, 1]))).0, 2);
    assert_eq!(played.refused(beat("a", 1, Some(&[0, 2]))), fenced);
    assert_eq!(played.refused(beat("a", 1, None)), fenced);
    // It gives all up and joins again: what is its is there for it.
    assert_eq!(played.told(join("a")), (2, Some(vec![0, 1])));
    let unknown = played.refused(beat("x", 1, None));
    assert_eq!(unknown, ConsumerError::UnknownMember);
}

#[test]
fn a_whole_heartbeat_is_told_everything() {
    let mut played = Played::new(2);
    played.told(join("a"));
    let whole = ConsumerHeartbeat {
        epoch: 1,
        owned: Some(parts(&[0, 1])),
        ..join("a")
    };
    assert_eq!(played.told(whole), (1, Some(vec![0, 1])));
}

#[test]
fn only_who_is_in_its_epoch_commits() {
    let mut played = Played::new(2);
    let caller = |member: &str, epoch| ConsumerCaller {
        member: member.into(),
        epoch,
    };
    let nobody = caller("", -1);
    assert_eq!(played.group.may_commit(&nobody), Ok(()));
    played.told(join("a"));
    let unknown = Err(ConsumerError::UnknownMember);
    assert_eq!(played.group.may_commit(&nobody), unknown);
    assert_eq!(played.group.may_commit(&caller("b", 1)), unknown);
    assert_eq!(played.group.may_commit(&caller("a", 1)), Ok(()));
    for epoch in [0, 2] {
        let stale = played.group.may_commit(&caller("a", epoch));
        assert_eq!(stale, Err(ConsumerError::StaleEpoch));
    }
}

#[test]
fn an_instance_comes_back_to_its_partitions_and_nobody_notices() {
    let mut played = Played::new(4);
    played.told(instance("a", "one"));
    played.told(instance("b", "two"));
    played.told(beat("a", 1, None));
    played.told(beat("a", 1, Some(&[0, 1])));
    assert_eq!(played.told(beat("b", 2, None)), (2, Some(vec![2, 3])));
    // While it lives, nobody else has its name.
    let taken = played.refused(instance("c", "two"));
    assert_eq!(taken, ConsumerError::UnreleasedInstance);
    let leaves = ConsumerHeartbeat {
        instance: Some("two".into()),
        ..beat("b", EPOCH_LEAVE_FOR_A_WHILE, None)
    };
    assert_eq!(played.told(leaves).0, EPOCH_LEAVE_FOR_A_WHILE);
    assert_eq!(played.told(beat("a", 2, None)), (2, None));
    assert_eq!(played.told(instance("c", "two")), (2, Some(vec![2, 3])));
    assert_eq!(played.told(beat("a", 2, None)), (2, None));
    let older = ConsumerHeartbeat {
        instance: Some("two".into()),
        ..beat("b", 2, None)
    };
    assert_eq!(played.refused(older), ConsumerError::FencedInstance);
    // One that does not come back in time is gone as any other.
    let leaves = ConsumerHeartbeat {
        instance: Some("two".into()),
        ..beat("c", EPOCH_LEAVE_FOR_A_WHILE, None)
    };
    played.told(leaves);
    played.now = 40;
    played.told(beat("a", 2, None));
    assert_eq!(played.group.tick(at(45)), ["c"]);
    assert_eq!(played.told(beat("a", 2, None)), (3, Some(vec![0, 1, 2, 3])));
    let no_name = played.refused(beat("a", EPOCH_LEAVE_FOR_A_WHILE, None));
    assert!(matches!(no_name, ConsumerError::Invalid(_)));
}

#[test]
fn topics_that_come_go_and_grow_are_noticed() {
    let mut played = Played::new(1);
    let reads = ConsumerHeartbeat {
        topics: Some(BTreeSet::from([name("t"), name("later")])),
        pattern: Some("x-.*".into()),
        ..join("a")
    };
    assert_eq!(played.told(reads), (1, Some(vec![0])));
    assert_eq!(played.told(beat("a", 1, None)), (1, None));
    // Other topics come: nobody cares.
    played.catalog = catalog(&[("t", 1, 1), ("other", 9, 3)]);
    assert_eq!(played.told(beat("a", 1, None)), (1, None));
    played.catalog = catalog(&[("t", 1, 3)]);
    assert_eq!(played.told(beat("a", 1, None)), (2, Some(vec![0, 1, 2])));
    played.catalog = catalog(&[("t", 1, 3), ("x-1", 2, 1), ("later", 3, 1)]);
    let place = played.say(beat("a", 2, None)).unwrap();
    assert_eq!((place.epoch, place.assignment.unwrap().len()), (3, 5));
    // One that is made anew is another one.
    played.catalog = catalog(&[("t", 4, 1), ("x-1", 2, 1)]);
    let place = played.say(beat("a", 3, None)).unwrap();
    let left = ConsumerParts::from([(id(2), Partition(0))]);
    assert_eq!(
        place.assignment,
        Some(left.clone()),
        "the rest is to be given back"
    );
    let given = ConsumerHeartbeat {
        owned: Some(left.clone()),
        ..beat("a", 3, None)
    };
    let place = played.say(given).unwrap();
    let mut now = left;
    now.insert((id(4), Partition(0)));
    assert_eq!((place.epoch, place.assignment), (4, Some(now)));
}

#[test]
fn what_a_member_reads_can_change() {
    let mut played = Played::new(2);
    played.catalog = catalog(&[("t", 1, 2), ("u", 2, 1)]);
    played.told(join("a"));
    let other = ConsumerHeartbeat {
        topics: Some(BTreeSet::new()),
        pattern: Some("u|v".into()),
        ..beat("a", 1, None)
    };
    let place = played.say(other).unwrap();
    assert_eq!((place.epoch, place.assignment.unwrap().len()), (1, 0));
    let place = played.say(beat("a", 1, Some(&[]))).unwrap();
    let u = ConsumerParts::from([(id(2), Partition(0))]);
    assert_eq!((place.epoch, place.assignment), (2, Some(u)));
    let described = played.group.describe();
    assert_eq!(described.members[0].pattern.as_deref(), Some("u|v"));
    assert_eq!(described.members[0].target[0].name, name("u"));
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut played = Played::new(2);
    let invalid = |error| matches!(error, ConsumerError::Invalid(_));
    let silent = ConsumerHeartbeat {
        topics: None,
        ..join("a")
    };
    assert!(invalid(played.refused(silent)));
    let has = ConsumerHeartbeat {
        owned: Some(parts(&[0])),
        ..join("a")
    };
    assert!(invalid(played.refused(has)));
    assert!(invalid(played.refused(beat("a", -3, None))));
    assert!(invalid(played.refused(beat("", 3, None))));
    let unknown = ConsumerHeartbeat {
        assignor: Some("best".into()),
        ..join("a")
    };
    let error = played.refused(unknown);
    assert_eq!(error, ConsumerError::UnknownAssignor("best".into()));
    let wrong = ConsumerHeartbeat {
        pattern: Some("(".into()),
        ..join("a")
    };
    assert!(matches!(played.refused(wrong), ConsumerError::Pattern(_)));
    assert_eq!(played.state(), ConsumerState::Empty);
    assert_eq!(played.say(join("")).unwrap().member, "fresh");
}

#[test]
fn a_group_is_bounded() {
    let mut played = Played::new(2);
    for number in 0..BOUNDS.members_max {
        played.told(join(&format!("m{number}")));
    }
    let full = |error| matches!(error, ConsumerError::Full(_));
    assert!(full(played.refused(join("more"))));
    // One that is there may still join again.
    played.told(join("m0"));
    let mut played = Played::new(2);
    let long = ConsumerHeartbeat {
        client_id: "x".repeat(BOUNDS.bytes_max).into(),
        ..join("a")
    };
    assert!(full(played.refused(long)));
    let wide = catalog(&[("t", 1, 64 * 1024)]);
    let before = std::mem::replace(&mut played.catalog, wide);
    assert!(
        full(played.refused(join("a"))),
        "it would be given too much"
    );
    played.catalog = before;
    let reads = |number: usize| ConsumerHeartbeat {
        pattern: Some(format!("{number}").into()),
        ..join("a")
    };
    // Each takes the place of the one before.
    for number in 0..2 * CONSUMER_PATTERNS_MAX {
        played.told(reads(number));
    }
    let on = (&mut played.group, &played.catalog);
    let elsewhere = |_| Err(ConsumerError::Full("elsewhere"));
    let asked = play(on, at(0), join("b"), elsewhere);
    assert_eq!(asked, Err(ConsumerError::Full("elsewhere")));
    assert_eq!(played.group.member_count(), 1);
}

#[test]
fn most_members_say_how_the_partitions_are_shared() {
    let mut played = Played::new(4);
    let wants = |member: &str, assignor: &str| ConsumerHeartbeat {
        assignor: Some(assignor.into()),
        ..join(member)
    };
    played.told(join("a"));
    assert_eq!(played.group.describe().assignor, "uniform");
    played.told(wants("b", "range"));
    assert_eq!(played.group.describe().assignor, "range");
    played.told(wants("c", "uniform"));
    played.told(wants("d", "uniform"));
    assert_eq!(played.group.describe().assignor, "uniform");
}

#[test]
fn members_of_before_the_opening_find_out_before_others_get_what_they_had() {
    let mut played = Played::new(2);
    played.group = Coordinator::new(ConsumerBounds {
        free_from: at(7),
        ..BOUNDS
    });
    played.now = 1;
    let unknown = played.refused(beat("b", 9, None));
    assert_eq!(unknown, ConsumerError::UnknownMember);
    let place = played.say(join("a")).unwrap();
    assert_eq!((place.epoch, place.assignment), (1, Some(parts(&[]))));
    assert_eq!(place.heartbeat_interval, at(5));
    assert_eq!(played.state(), ConsumerState::Reconciling);
    played.now = 6;
    let place = played.say(beat("a", 1, None)).unwrap();
    assert_eq!((place.assignment, place.heartbeat_interval), (None, at(1)));
    played.now = 7;
    let place = played.say(beat("a", 1, None)).unwrap();
    assert_eq!(place.assignment, Some(parts(&[0, 1])));
    assert_eq!(place.heartbeat_interval, at(5));
}

#[test]
fn a_group_that_ends_serves_nobody() {
    let mut played = Played::new(1);
    played.told(join("a"));
    played.group.end();
    assert_eq!(
        played.refused(beat("a", 1, None)),
        ConsumerError::Unavailable
    );
    assert_eq!((played.group.member_count(), played.group.bytes()), (0, 0));
}

#[test]
fn a_member_has_only_topics_that_it_may_see_at_the_moment() {
    let mut played = Played::new(1);
    let sees = |only: &'static str| {
        let sees = move |topic: &TopicName| topic.as_str().starts_with(only);
        Some(ConsumerSight::new(only, sees))
    };
    let reads = ConsumerHeartbeat {
        pattern: Some(".*".into()),
        sight: sees("t"),
        ..join("a")
    };
    let with = |sight: Option<ConsumerSight>, beat| ConsumerHeartbeat { sight, ..beat };
    played.catalog = catalog(&[("t", 1, 1), ("secret", 2, 1)]);
    assert_eq!(played.say(reads).unwrap().assignment, Some(parts(&[0])));
    // What comes later is looked at, too, whoever is heard of first.
    played.catalog = catalog(&[("t", 1, 1), ("secret", 2, 1), ("more", 3, 1)]);
    let other = ConsumerHeartbeat {
        topics: Some(BTreeSet::from([name("secret")])),
        ..join("b")
    };
    played.say(other).unwrap();
    let told = played.say(with(sees("t"), beat("a", 1, None))).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, None));
    // It may see everything from now on, and nothing after that.
    let told = played.say(with(None, beat("a", 2, None))).unwrap();
    let more = ConsumerParts::from([(id(1), Partition(0)), (id(3), Partition(0))]);
    assert_eq!(told.assignment, Some(more));
    let epoch = told.epoch;
    let told = played.say(with(sees("?"), beat("a", epoch, None))).unwrap();
    assert_eq!(told.assignment, Some(parts(&[])));
}

#[test]
fn what_many_read_is_kept_and_counted_once() {
    let mut played = Played::new(1);
    let names: Vec<String> = (0..500).map(|number| format!("t{number}")).collect();
    let topics = names.iter().zip(1..);
    let topics: Vec<_> = topics.map(|(name, id)| (name.as_str(), id, 1)).collect();
    played.catalog = catalog(&topics);
    let reads = |member: &str, pattern: &str| ConsumerHeartbeat {
        pattern: Some(pattern.into()),
        topics: None,
        ..join(member)
    };
    played.say(reads("a", "t.*")).unwrap();
    let one = played.group.bytes();
    assert!(one > 500 * 48, "what it finds is counted");
    played.say(reads("b", "t.*")).unwrap();
    let found = |played: &Played, member: &str| {
        let member = &played.group.members[member];
        Arc::clone(&member.reads.found)
    };
    assert!(Arc::ptr_eq(&found(&played, "a"), &found(&played, "b")));
    let both = played.group.bytes();
    played.say(reads("b", "t[0-9]*")).unwrap();
    assert!(played.group.bytes() >= both + 500 * 48);
    // What nobody reads any longer is forgotten.
    played.say(reads("b", "t.*")).unwrap();
    assert_eq!(played.group.bytes(), both);
}

#[test]
fn to_ask_whether_somebody_would_be_taken_in_changes_nothing() {
    let mut played = Played::new(1);
    let catalog = Arc::clone(&played.catalog);
    let pattern = ByteString::from("x.*");
    let reads = ConsumerHeartbeat {
        pattern: Some(pattern.clone()),
        ..join("a")
    };
    let mut ask = |beat: &ConsumerHeartbeat| {
        let with = With {
            fresh: "fresh".into(),
            pattern: Some(Arc::new(Pattern::of(&pattern, &catalog).unwrap())),
            room: &mut |_| Ok(()),
        };
        played.group.would_take_in(&catalog, beat, with)
    };
    assert_eq!(ask(&reads), Ok(()));
    let unknown = ConsumerHeartbeat {
        assignor: Some("best".into()),
        ..reads
    };
    let error = ConsumerError::UnknownAssignor("best".into());
    assert_eq!(ask(&unknown), Err(error));
    assert_eq!((played.group.member_count(), played.group.bytes()), (0, 0));
    assert_eq!(played.group.epoch, 0);
}

#[test]
fn what_a_member_says_of_itself_has_a_bound() {
    let mut played = Played::new(2);
    let far = |bytes| ConsumerHeartbeat {
        rack: Some("r".repeat(bytes).into()),
        client_id: "\u{e9}".repeat(bytes).into(),
        client_host: "h".into(),
        ..join("a")
    };
    let refused = played.say(far(MEMBER_TEXT_MAX_BYTES + 1));
    assert!(matches!(refused, Err(ConsumerError::Invalid(_))));
    played.say(far(MEMBER_TEXT_MAX_BYTES)).unwrap();
    let member = played.group.describe().members.remove(0);
    assert_eq!(member.rack.unwrap().len(), MEMBER_TEXT_MAX_BYTES);
    assert_eq!(member.client_id, "\u{e9}".repeat(MEMBER_TEXT_MAX_BYTES / 2));
    assert_eq!(member.client_host, "h");
    // An odd place is within a letter.
    let text = format!("x{}", "\u{e9}".repeat(MEMBER_TEXT_MAX_BYTES));
    assert_eq!(brief(text.into()).len(), MEMBER_TEXT_MAX_BYTES - 1);
}
