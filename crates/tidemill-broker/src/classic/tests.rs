//! The coordinator, transition by transition.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::member::Token;
use super::state::{Answer, Coordinator};
use super::types::*;
use crate::limits::CLASSIC_PROTOCOLS_MAX;

pub(super) const BOUNDS: ClassicBounds = ClassicBounds {
    members_max: 8,
    bytes_max: 64 * 1024,
    session_min: Duration::from_secs(6),
    session_max: Duration::from_secs(1800),
    initial_delay: Duration::from_secs(3),
};

pub(super) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn join_as(member: &str) -> ClassicJoin {
    ClassicJoin {
        member: member.into(),
        instance: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: at(10),
        rebalance_timeout: at(60),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", "says")],
        asks_twice: false,
        may_skip: false,
    }
}

fn instance(name: &str) -> ClassicJoin {
    ClassicJoin {
        instance: Some(name.into()),
        ..join_as("")
    }
}

pub(super) fn protocol(name: &str, metadata: &str) -> ClassicProtocol {
    ClassicProtocol {
        name: name.into(),
        metadata: Bytes::from(metadata.to_owned()),
    }
}

fn caller(member: &str, generation: i32) -> ClassicCaller {
    ClassicCaller {
        member: member.into(),
        instance: None,
        generation,
    }
}

fn sync_as(member: &str, generation: i32, parts: &[(&str, &str)]) -> ClassicSync {
    let part = |(id, part): &(&str, &str)| ((*id).into(), Bytes::from(part.to_string()));
    ClassicSync {
        caller: caller(member, generation),
        assignments: parts.iter().map(part).collect(),
        ..ClassicSync::default()
    }
}

/// A group and the answers that it gave.
struct Played {
    group: Coordinator,
    tokens: u64,
}

impl Played {
    fn new() -> Self {
        let group = Coordinator::new(BOUNDS);
        Self { group, tokens: 0 }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// The answers since, by their tokens' numbers.
    fn joined(&mut self) -> Vec<(u64, Result<ClassicJoined, ClassicError>)> {
        let answers = self.group.take_answers().into_iter();
        let joined = answers.map(|answer| match answer {
            Answer::Joined(token, answer) => (token.0, answer),
            Answer::Synced(..) => panic!("{answer:?}"),
        });
        joined.collect()
    }

    fn synced(&mut self) -> Vec<(u64, Result<String, ClassicError>)> {
        let text = |part: ClassicSynced| String::from_utf8(part.assignment.to_vec()).unwrap();
        let answers = self.group.take_answers().into_iter();
        let synced = answers.map(|answer| match answer {
            Answer::Synced(token, answer) => (token.0, answer.map(text)),
            Answer::Joined(..) => panic!("{answer:?}"),
        });
        synced.collect()
    }

    fn join(&mut self, now: u64, join: ClassicJoin, fresh: &str) -> u64 {
        let token = self.token();
        self.group.join(at(now), token, join, fresh.into());
        token.0
    }

    fn sync(&mut self, now: u64, sync: ClassicSync) -> u64 {
        let token = self.token();
        self.group.sync(at(now), token, sync);
        token.0
    }

    fn beat(&mut self, now: u64, member: &str, generation: i32) -> Result<(), ClassicError> {
        self.group.heartbeat(at(now), &caller(member, generation))
    }

    /// A stable group of the members "a" and "b" in generation 1, "a" leads.
    fn of_two() -> Self {
        let mut played = Self::new();
        played.join(0, join_as(""), "a");
        played.join(1, join_as(""), "b");
        assert_eq!(played.joined(), []);
        played.group.tick(at(3));
        assert_eq!(played.joined(), [], "another one came: it waits once more");
        played.group.tick(at(6));
        assert_eq!(played.joined().len(), 2);
        played.sync(6, sync_as("b", 1, &[]));
        assert_eq!(played.synced(), []);
        played.sync(6, sync_as("a", 1, &[("a", "x"), ("b", "y")]));
        let synced = played.synced();
        assert_eq!(synced, [(4, Ok("x".into())), (3, Ok("y".into()))]);
        assert_eq!(played.group.state(), ClassicState::Stable);
        played
    }

    fn leave(&mut self, now: u64, member: &str) -> Result<(), ClassicError> {
        self.group.leave(at(now), &member.into(), None)
    }
}

#[test]
fn members_that_come_together_are_one_generation_and_the_first_leads() {
    let mut played = Played::new();
    let first = played.join(0, join_as(""), "a");
    let second = played.join(1, join_as(""), "b");
    assert_eq!(played.group.deadline(), Some(at(3)));
    played.group.tick(at(3));
    played.group.tick(at(6));
    let joined = played.joined();
    let [(one, Ok(leader)), (two, Ok(other))] = &joined[..] else {
        panic!("{joined:?}");
    };
    assert_eq!((*one, *two), (first, second));
    assert_eq!((leader.generation, other.generation), (1, 1));
    assert_eq!((&*leader.leader, &*other.leader), ("a", "a"));
    assert_eq!((leader.members.len(), other.members.len()), (2, 0));
    assert_eq!(&*leader.protocol, "range");
    assert_eq!(played.group.state(), ClassicState::CompletingRebalance);
}

#[test]
fn a_new_member_may_have_to_come_again_with_its_id() {
    let mut played = Played::new();
    let ask = || ClassicJoin {
        asks_twice: true,
        ..join_as("")
    };
    let token = played.join(0, ask(), "a");
    let id = ByteString::from("a");
    let required = Err(ClassicError::IdRequired(id.clone()));
    assert_eq!(played.joined(), [(token, required)]);
    assert!(!played.group.is_idle() && played.group.member_count() == 0);
    // An id that nobody uses is void after the session timeout.
    played.group.tick(at(10));
    assert!(played.group.is_idle());
    played.join(10, ask(), "b");
    let mut again = ask();
    again.member = "b".into();
    played.joined();
    let token = played.join(11, again.clone(), "unused");
    played.group.tick(at(14));
    assert!(matches!(&played.joined()[..], [(t, Ok(j))] if *t == token && j.member == "b"));
    again.member = id;
    let token = played.join(15, again, "unused");
    assert_eq!(played.joined(), [(token, Err(ClassicError::UnknownMember))]);
}

#[test]
fn an_instance_gets_its_id_at_once_even_where_others_come_twice() {
    let mut played = Played::new();
    let ask = ClassicJoin {
        asks_twice: true,
        ..instance("i")
    };
    played.join(0, ask, "a");
    assert_eq!((played.joined(), played.group.member_count()), (vec![], 1));
}

#[test]
fn a_rebalance_waits_for_all_members_and_tells_them_by_their_heartbeats() {
    let mut played = Played::of_two();
    assert_eq!(played.beat(7, "a", 1), Ok(()));
    assert_eq!(played.beat(7, "a", 2), Err(ClassicError::Generation));
    assert_eq!(played.beat(7, "z", 1), Err(ClassicError::UnknownMember));
    let third = played.join(8, join_as(""), "c");
    assert_eq!(played.group.state(), ClassicState::PreparingRebalance);
    assert_eq!(played.beat(9, "a", 1), Err(ClassicError::Rebalancing));
    assert_eq!(played.beat(9, "b", 1), Err(ClassicError::Rebalancing));
    let one = played.join(10, join_as("a"), "");
    assert_eq!(played.joined(), []);
    let two = played.join(10, join_as("b"), "");
    let joined = played.joined();
    let tokens: Vec<_> = joined.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [one, two, third]);
    assert!(
        joined
            .iter()
            .all(|(_, joined)| joined.as_ref().unwrap().generation == 2)
    );
    assert_eq!(
        played.beat(11, "c", 2),
        Ok(()),
        "before the parts are there"
    );
}

#[test]
fn who_does_not_join_in_time_is_taken_out() {
    let mut played = Played::of_two();
    played.join(8, join_as("a"), "");
    for now in [14, 22, 30, 38, 46, 54, 62] {
        // It lives, and does nothing else.
        assert_eq!(played.beat(now, "b", 1), Err(ClassicError::Rebalancing));
        played.group.tick(at(now));
    }
    assert_eq!(played.joined(), []);
    assert_eq!(played.group.deadline(), Some(at(68)));
    played.group.tick(at(68));
    let joined = played.joined();
    assert!(
        matches!(&joined[..], [(_, Ok(one))] if one.members.len() == 1),
        "{joined:?}"
    );
    assert_eq!(played.beat(69, "b", 1), Err(ClassicError::UnknownMember));
}

#[test]
fn who_is_silent_is_taken_out_and_the_others_share_its_part() {
    let mut played = Played::of_two();
    assert_eq!(played.group.deadline(), Some(at(16)));
    assert_eq!(played.beat(12, "a", 1), Ok(()));
    played.group.tick(at(16));
    assert_eq!(played.group.member_count(), 1);
    assert_eq!(played.beat(16, "a", 1), Err(ClassicError::Rebalancing));
    let token = played.join(17, join_as("a"), "");
    assert!(matches!(&played.joined()[..], [(t, Ok(_))] if *t == token));
}

#[test]
fn who_waits_for_the_next_generation_is_not_silent() {
    let mut played = Played::of_two();
    played.join(8, join_as("a"), "");
    for now in [15, 24, 33, 42] {
        assert_eq!(played.beat(now, "b", 1), Err(ClassicError::Rebalancing));
        played.group.tick(at(now));
    }
    assert_eq!(played.group.member_count(), 2);
}

#[test]
fn who_leaves_makes_the_others_join_again_and_the_last_one_leaves_it_empty() {
    let mut played = Played::of_two();
    assert_eq!(played.leave(7, "z"), Err(ClassicError::UnknownMember));
    assert_eq!(played.leave(7, "a"), Ok(()));
    assert_eq!(played.beat(8, "b", 1), Err(ClassicError::Rebalancing));
    let token = played.join(8, join_as("b"), "");
    let joined = played.joined();
    assert!(
        matches!(&joined[..], [(t, Ok(j))] if *t == token && j.leader == "b"),
        "{joined:?}"
    );
    assert_eq!(played.leave(9, "b"), Ok(()));
    assert_eq!(played.group.state(), ClassicState::Empty);
    let generation = played.group.describe().generation;
    assert_eq!((generation, played.group.describe().leader), (3, None));
}

#[test]
fn who_leaves_while_it_waits_is_answered_and_the_others_go_on() {
    let mut played = Played::of_two();
    let waits = played.join(8, join_as("a"), "");
    assert_eq!(played.leave(9, "a"), Ok(()));
    let unknown = Err(ClassicError::UnknownMember);
    assert_eq!(played.joined(), [(waits, unknown)]);
    played.join(9, join_as("b"), "");
    assert_eq!(played.joined().len(), 1);
}

#[test]
fn a_leader_that_never_syncs_is_taken_out_and_those_who_wait_are_told() {
    let mut played = Played::of_two();
    played.join(7, join_as("a"), "");
    played.join(7, join_as("b"), "");
    played.joined();
    let waits = played.sync(8, sync_as("b", 2, &[]));
    for now in [15, 24, 33, 42, 51, 60] {
        assert_eq!(played.beat(now, "a", 2), Ok(()));
        played.group.tick(at(now));
    }
    played.group.tick(at(67));
    assert_eq!(played.synced(), [(waits, Err(ClassicError::Rebalancing))]);
    assert_eq!(played.beat(67, "a", 2), Err(ClassicError::UnknownMember));
    played.join(68, join_as("b"), "");
    assert!(matches!(&played.joined()[..], [(_, Ok(j))] if j.leader == "b"));
}

#[test]
fn a_member_that_joins_while_parts_are_shared_out_begins_anew() {
    let mut played = Played::of_two();
    played.join(7, join_as("a"), "");
    played.join(7, join_as("b"), "");
    played.joined();
    let waits = played.sync(8, sync_as("b", 2, &[]));
    played.join(8, join_as(""), "c");
    assert_eq!(played.synced(), [(waits, Err(ClassicError::Rebalancing))]);
    let late = played.sync(8, sync_as("a", 2, &[("a", "x")]));
    assert_eq!(played.synced(), [(late, Err(ClassicError::Rebalancing))]);
}

#[test]
fn a_lost_answer_is_given_again_and_a_leader_that_joins_again_rebalances() {
    let mut played = Played::of_two();
    let again = played.join(7, join_as("b"), "");
    let joined = played.joined();
    assert!(matches!(&joined[..], [(t, Ok(j))] if *t == again && j.generation == 1));
    let again = played.sync(7, sync_as("b", 1, &[]));
    assert_eq!(played.synced(), [(again, Ok("y".into()))]);
    played.join(8, join_as("a"), "");
    assert_eq!(played.group.state(), ClassicState::PreparingRebalance);
}

#[test]
fn a_member_that_reads_something_else_rebalances() {
    let mut played = Played::of_two();
    let mut changed = join_as("b");
    changed.protocols = vec![protocol("range", "other topics")];
    played.join(7, changed, "");
    assert_eq!(played.group.state(), ClassicState::PreparingRebalance);
}

#[test]
fn the_protocol_is_the_one_that_most_prefer_of_those_that_all_know() {
    let mut played = Played::new();
    let knows = |names: &[&str]| ClassicJoin {
        protocols: names.iter().map(|name| protocol(name, name)).collect(),
        ..join_as("")
    };
    played.join(0, knows(&["sticky", "range", "own"]), "a");
    played.join(0, knows(&["range", "sticky"]), "b");
    played.join(0, knows(&["range", "sticky"]), "c");
    let alone = played.join(0, knows(&["own"]), "d");
    assert!(matches!(&played.joined()[..], [(t, Err(ClassicError::Protocol(_)))] if *t == alone));
    let mut other = knows(&["range"]);
    other.protocol_type = "connect".into();
    played.join(0, other, "e");
    assert!(matches!(
        &played.joined()[..],
        [(_, Err(ClassicError::Protocol(_)))]
    ));
    played.group.tick(at(3));
    played.group.tick(at(6));
    let joined = played.joined();
    let leader = joined[0].1.as_ref().unwrap();
    assert_eq!(&*leader.protocol, "range");
    assert!(
        leader
            .members
            .iter()
            .all(|member| member.metadata == "range")
    );
    let mut sync = sync_as("a", 1, &[]);
    sync.protocol = Some("sticky".into());
    played.sync(6, sync);
    assert!(matches!(
        &played.synced()[..],
        [(_, Err(ClassicError::Protocol(_)))]
    ));
}

#[test]
fn an_instance_that_comes_back_takes_its_part_over_and_the_old_process_is_fenced() {
    let mut played = Played::new();
    played.join(0, instance("i"), "a");
    played.join(0, instance("j"), "b");
    played.group.tick(at(3));
    played.group.tick(at(6));
    played.joined();
    played.sync(6, sync_as("a", 1, &[("a", "x"), ("b", "y")]));
    played.synced();
    let token = played.join(8, instance("j"), "b2");
    let joined = played.joined();
    assert!(
        matches!(&joined[..], [(t, Ok(j))] if *t == token && j.member == "b2"),
        "{joined:?}"
    );
    assert_eq!(
        played.group.state(),
        ClassicState::Stable,
        "nobody else noticed"
    );
    let again = played.sync(8, sync_as("b2", 1, &[]));
    assert_eq!(played.synced(), [(again, Ok("y".into()))]);
    let old = ClassicCaller {
        instance: Some("j".into()),
        ..caller("b", 1)
    };
    let fenced = Err(ClassicError::Fenced);
    assert_eq!(played.group.heartbeat(at(9), &old), fenced);
    assert_eq!(played.group.may_commit(at(9), &old, false), fenced);
    let token = played.join(
        9,
        ClassicJoin {
            member: "b".into(),
            ..instance("j")
        },
        "",
    );
    assert_eq!(played.joined(), [(token, Err(ClassicError::Fenced))]);
    // The leader comes back, and is not made to share out anew.
    let plain = played.join(10, instance("i"), "a2");
    let joined = played.joined();
    assert!(matches!(&joined[..], [(t, Ok(j))] if *t == plain && j.leader == "a"));
    let skips = ClassicJoin {
        may_skip: true,
        ..instance("i")
    };
    played.join(11, skips, "a3");
    let joined = played.joined();
    assert!(matches!(&joined[..], [(_, Ok(j))] if j.skip_assignment && j.members.len() == 2));
}

#[test]
fn an_instance_that_comes_back_while_its_old_process_waits_fences_that() {
    let mut played = Played::new();
    let old = played.join(0, instance("i"), "a");
    played.join(1, instance("i"), "b");
    assert_eq!(played.joined(), [(old, Err(ClassicError::Fenced))]);
    played.group.tick(at(3));
    played.group.tick(at(6));
    assert!(matches!(&played.joined()[..], [(_, Ok(j))] if j.member == "b" && j.leader == "b"));
}

#[test]
fn instances_stay_over_a_rebalance_that_they_miss_and_leave_by_name() {
    let mut played = Played::new();
    played.join(0, instance("i"), "a");
    played.join(0, join_as(""), "b");
    played.group.tick(at(3));
    played.group.tick(at(6));
    played.joined();
    played.sync(6, sync_as("b", 1, &[]));
    played.sync(6, sync_as("a", 1, &[]));
    played.synced();
    played.join(8, join_as(""), "c");
    played.join(8, join_as("b"), "");
    for now in [14, 22, 30, 38, 46, 54, 62] {
        let caller = ClassicCaller {
            instance: Some("i".into()),
            ..caller("a", 1)
        };
        assert!(played.group.heartbeat(at(now), &caller).is_err());
        played.group.tick(at(now));
    }
    played.group.tick(at(68));
    let joined = played.joined();
    let led = joined
        .iter()
        .find_map(|(_, j)| j.as_ref().ok().filter(|j| !j.members.is_empty()));
    let led = led.unwrap();
    assert_eq!(
        (led.members.len(), &*led.leader),
        (3, "b"),
        "the instance keeps its place"
    );
    let (none, name) = (ByteString::new(), ByteString::from("i"));
    assert_eq!(played.group.leave(at(69), &none, Some(&name)), Ok(()));
    assert_eq!(played.group.member_count(), 2);
    let again = played.group.leave(at(69), &none, Some(&name));
    assert_eq!(again, Err(ClassicError::UnknownMember));
}

#[test]
fn positions_are_set_by_members_of_the_generation_or_while_there_are_none() {
    let mut played = Played::new();
    let nobody = ClassicCaller {
        generation: -1,
        ..ClassicCaller::default()
    };
    assert_eq!(played.group.may_commit(at(0), &nobody, false), Ok(()));
    let mut played = Played::of_two();
    let may = |played: &mut Played, who: &ClassicCaller| played.group.may_commit(at(7), who, false);
    assert_eq!(may(&mut played, &nobody), Err(ClassicError::UnknownMember));
    assert_eq!(may(&mut played, &caller("a", 1)), Ok(()));
    assert_eq!(
        may(&mut played, &caller("a", 0)),
        Err(ClassicError::Generation)
    );
    assert_eq!(
        may(&mut played, &caller("z", 1)),
        Err(ClassicError::UnknownMember)
    );
    assert_eq!(
        played.group.may_commit(at(7), &nobody, true),
        Ok(()),
        "a producer without one"
    );
    played.join(8, join_as("a"), "");
    assert_eq!(
        may(&mut played, &caller("b", 1)),
        Ok(()),
        "before it joins again"
    );
    played.join(8, join_as("b"), "");
    assert_eq!(
        may(&mut played, &caller("b", 2)),
        Err(ClassicError::Rebalancing)
    );
}

#[test]
fn bounds_are_kept_and_refusals_leave_nothing() {
    let mut played = Played::new();
    for n in 0..8 {
        played.join(0, join_as(""), &format!("m{n}"));
    }
    played.joined();
    played.join(0, join_as(""), "ninth");
    let mut large = join_as("m0");
    large.protocols = vec![protocol("range", &"x".repeat(65 * 1024))];
    played.join(0, large, "");
    let mut hasty = join_as("");
    hasty.session_timeout = at(5);
    played.join(0, hasty, "hasty");
    let refused: Vec<_> = played
        .joined()
        .into_iter()
        .map(|(_, answer)| answer.unwrap_err())
        .collect();
    assert!(
        matches!(
            &refused[..],
            [
                ClassicError::Full(_),
                ClassicError::Full(_),
                ClassicError::SessionTimeout { .. },
            ]
        ),
        "{refused:?}"
    );
    assert_eq!(played.group.member_count(), 8);
}

#[test]
fn whoever_waits_is_told_when_the_group_ends() {
    let mut played = Played::of_two();
    let waits = played.join(7, join_as("a"), "");
    played.group.end(&ClassicError::Unavailable);
    let told = Err(ClassicError::Unavailable);
    assert_eq!(played.joined(), [(waits, told.clone())]);
    let late = played.join(8, join_as(""), "c");
    assert_eq!(played.joined(), [(late, told)]);
    assert_eq!(played.beat(8, "b", 1), Err(ClassicError::Unavailable));
    assert_eq!(played.leave(8, "b"), Err(ClassicError::Unavailable));
    assert_eq!(played.group.deadline(), None);
}

#[test]
fn a_member_that_knows_too_many_ways_of_sharing_is_refused() {
    let many = |count: usize| ClassicJoin {
        protocols: (0..count).map(|n| protocol(&n.to_string(), "")).collect(),
        ..join_as("")
    };
    let mut played = Played::new();
    let token = played.join(0, many(CLASSIC_PROTOCOLS_MAX + 1), "a");
    let refused = played.joined();
    assert!(
        matches!(&refused[..], [(n, Err(ClassicError::Protocol(_)))] if *n == token),
        "{refused:?}"
    );
    assert_eq!(played.group.member_count(), 0);
    played.join(0, many(CLASSIC_PROTOCOLS_MAX), "a");
    assert_eq!(played.group.member_count(), 1);
}
