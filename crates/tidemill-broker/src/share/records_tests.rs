//! What a share group gives out of a partition, transition by transition and against a model.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use tidemill_core::Offset;
use tidemill_core::cursor::{Cursor, CursorBounds};

use super::records::{Dead, Death, Given, Plan, Records, Span, Wrong};
use super::types::{ShareAcknowledgement, ShareVerdict};
use crate::limits::{SHARE_DELIVERIES_MAX, SHARE_WINDOW};

const LOCK: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn offsets(range: Range<u64>) -> Range<Offset> {
    Offset(range.start)..Offset(range.end)
}

fn data(range: Range<u64>) -> Span {
    let range = offsets(range);
    Span {
        range,
        counts: true,
    }
}

fn gap(range: Range<u64>) -> Span {
    let range = offsets(range);
    Span {
        range,
        counts: false,
    }
}

fn fresh() -> Records {
    Records::new(Cursor::at(Offset(0)))
}

fn take(records: &mut Records, who: &str, now: Duration, wanted: usize, spans: &[Span]) -> Given {
    let given = records.acquire(&who.into(), now + LOCK, (wanted, usize::MAX), spans);
    records.hold();
    given
}

/// The offsets that were given out, each with how often.
fn told(given: &Given) -> Vec<(u64, u64, u16)> {
    let one = |one: &super::ShareAcquired| (one.first.0, one.last.0, one.deliveries);
    given.acquired.iter().map(one).collect()
}

fn says(first: u64, last: u64, verdicts: &[ShareVerdict]) -> ShareAcknowledgement {
    ShareAcknowledgement {
        first: Offset(first),
        last: Offset(last),
        verdicts: verdicts.to_vec(),
    }
}

use ShareVerdict::{Accept, Gap, Reject, Release};

#[test]
fn two_members_share_what_is_there_and_nothing_twice() {
    let mut records = fresh();
    let batches = [data(0..3), data(3..6), data(6..9)];
    let first = take(&mut records, "a", at(0), 4, &batches);
    // Whole batches.
    assert_eq!(told(&first), [(0, 5, 1)]);
    let second = take(&mut records, "b", at(0), 100, &batches);
    assert_eq!(told(&second), [(6, 8, 1)]);
    assert!(
        take(&mut records, "a", at(0), 9, &batches)
            .acquired
            .is_empty()
    );
    assert_eq!((records.next(), records.in_flight()), (Some(Offset(9)), 9));
}

#[test]
fn verdicts_settle_release_and_end_in_dead_letters() {
    let mut records = fresh();
    take(&mut records, "a", at(0), 10, &[data(0..10)]);
    let plan = records.acknowledge(
        &"a".into(),
        &[
            says(0, 1, &[Accept]),
            says(2, 5, &[Accept, Release, Reject, Gap]),
        ],
    );
    let plan = plan.unwrap();
    assert_eq!(plan.settle, [offsets(0..3), offsets(5..6)]);
    let dead = Dead {
        offset: Offset(4),
        deliveries: 1,
        death: Death::Rejected,
        tries: 0,
    };
    assert_eq!(plan.dead, [dead]);
    records.hold();
    assert_eq!(records.position(), Offset(0), "not before it is durable");
    for range in plan.settle {
        records.settled(range);
    }
    records.settled(offsets(4..5));
    records.hold();
    assert_eq!(records.position(), Offset(3));
    assert_eq!(records.next(), Some(Offset(3)));
    let again = take(&mut records, "b", at(1), 10, &[data(0..10)]);
    assert_eq!(told(&again), [(3, 3, 2)]);
}

#[test]
fn who_speaks_of_what_is_not_his_changes_nothing() {
    let mut records = fresh();
    take(&mut records, "a", at(0), 3, &[data(0..3)]);
    take(&mut records, "b", at(0), 3, &[data(3..6)]);
    let mut refused = |who: &str, all: &[ShareAcknowledgement]| {
        let refused = records.acknowledge(&who.into(), all).unwrap_err();
        records.hold();
        assert_eq!(records.in_flight(), 6);
        refused
    };
    let his = says(0, 1, &[Accept]);
    let others = [his.clone(), says(2, 3, &[Accept])];
    assert_eq!(refused("a", &others), Wrong::NotAcquired);
    assert_eq!(refused("c", std::slice::from_ref(&his)), Wrong::NotAcquired);
    assert_eq!(refused("b", &[says(5, 6, &[Accept])]), Wrong::NotAcquired);
    let far = [says(0, u64::MAX, &[Accept])];
    assert_eq!(refused("a", &far), Wrong::NotAcquired);
    assert_eq!(refused("a", &[says(1, 0, &[Accept])]), Wrong::Invalid);
    assert_eq!(refused("a", &[says(0, 1, &[])]), Wrong::Invalid);
    let three = [says(0, 1, &[Accept, Accept, Accept])];
    assert_eq!(refused("a", &three), Wrong::Invalid);
    let twice = [his.clone(), says(1, 2, &[Accept])];
    assert_eq!(refused("a", &twice), Wrong::Invalid);
    let first = records.acknowledge(&"a".into(), std::slice::from_ref(&his));
    first.unwrap();
    let again = records.acknowledge(&"a".into(), &[his]);
    assert_eq!(again, Err(Wrong::NotAcquired), "it is being settled");
}

#[test]
fn what_is_had_for_too_long_comes_to_others_until_it_is_given_up() {
    let mut records = fresh();
    let mut now = at(0);
    for deliveries in 1..=SHARE_DELIVERIES_MAX {
        let given = take(&mut records, "a", now, 1, &[data(0..1)]);
        assert_eq!(told(&given), [(0, 0, deliveries)]);
        assert_eq!(records.deadline(), Some(now + LOCK));
        assert_eq!(records.tick(now + LOCK - at(1)), Plan::default());
        now += LOCK;
        let plan = records.tick(now);
        records.hold();
        let last = deliveries == SHARE_DELIVERIES_MAX;
        assert_eq!(plan.is_empty(), !last);
        assert_eq!(records.has_free(), !last);
        if last {
            let dead = Dead {
                offset: Offset(0),
                deliveries,
                death: Death::GaveUp,
                tries: 0,
            };
            assert_eq!(plan.dead, [dead]);
        }
    }
    // It could not be written down: it is tried again, each time later.
    for (tries, pause) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
        .iter()
        .enumerate()
    {
        records.put_off(offsets(0..1), now);
        records.hold();
        now += at(*pause);
        assert_eq!(records.deadline(), Some(now));
        assert_eq!(records.tick(now - at(1)), Plan::default());
        let again = records.tick(now).dead;
        assert_eq!((again.len(), again[0].tries), (1, tries as u8 + 1));
    }
    records.settled(offsets(0..1));
    assert_eq!((records.position(), records.len()), (Offset(1), 0));
}

#[test]
fn what_never_came_to_its_member_is_as_if_it_had_not_been_given_out() {
    let mut records = fresh();
    let lost = take(&mut records, "a", at(0), 4, &[data(0..4)]);
    let (who, until) = ("a".into(), at(0) + LOCK);
    // One is settled meanwhile, one was released and is another member's.
    let said = [says(0, 1, &[Accept, Release])];
    records.acknowledge(&who, &said).unwrap();
    let other = take(&mut records, "b", at(1), 1, &[data(0..4)]);
    assert_eq!(told(&other), [(1, 1, 2)]);
    records.not_sent((&who, until), lost.acquired[0]);
    records.hold();
    assert_eq!(records.in_flight(), 2);
    let again = take(&mut records, "c", at(1), 4, &[data(0..4)]);
    assert_eq!(told(&again), [(2, 3, 1)]);
    // What is said late of what others have changes nothing.
    records.not_sent((&who, until), lost.acquired[0]);
    records.hold();
    assert_eq!(records.in_flight(), 4);
}

#[test]
fn what_a_member_has_is_released_with_it_and_what_was_not_kept_is_still_his() {
    let mut records = fresh();
    take(&mut records, "a", at(0), 2, &[data(0..2)]);
    take(&mut records, "b", at(0), 2, &[data(2..4)]);
    let plan = records.acknowledge(&"a".into(), &[says(0, 0, &[Accept])]);
    assert_eq!(plan.unwrap().settle, [offsets(0..1)]);
    assert!(records.release(&"a".into()).is_empty());
    records.hold();
    let again = take(&mut records, "b", at(0), 9, &[data(0..4)]);
    assert_eq!(
        told(&again),
        [(1, 1, 2)],
        "what is being settled is not back"
    );
    records.unsettled(offsets(0..1), &"a".into(), at(60));
    records.hold();
    assert!(
        records
            .acknowledge(&"a".into(), &[says(0, 0, &[Accept])])
            .is_ok()
    );
}

#[test]
fn gaps_markers_and_what_was_deleted_are_passed() {
    let mut records = fresh();
    let spans = [gap(0..2), data(2..4), gap(4..7), data(7..8)];
    let given = take(&mut records, "a", at(0), 10, &spans);
    assert_eq!(told(&given), [(2, 3, 1), (7, 7, 1)]);
    assert_eq!(given.passed, [offsets(0..2), offsets(4..7)]);
    assert_eq!(records.position(), Offset(2));
    let plan = records.acknowledge(&"a".into(), &[says(3, 3, &[Release])]);
    assert!(plan.unwrap().is_empty());
    // What somebody has stays his, also where it is not kept any more.
    assert_eq!(records.trim(Offset(20)), [offsets(3..7), offsets(8..20)]);
    records.hold();
    assert_eq!((records.len(), records.position()), (2, Offset(2)));
    assert_eq!(records.next(), Some(Offset(20)));
    // A read that begins behind what is known says nothing of what is in between.
    assert!(
        take(&mut records, "a", at(0), 9, &[data(25..26)])
            .acquired
            .is_empty()
    );
    assert_eq!(records.next(), Some(Offset(20)));
    assert_eq!(records.skip(offsets(20..25)), [offsets(20..25)]);
    records.hold();
}

#[test]
fn no_more_is_out_than_may_be() {
    let mut records = fresh();
    let all = [data(0..3 * SHARE_WINDOW)];
    let few = records.acquire(&"a".into(), LOCK, (10_000, 7), &all);
    assert_eq!(told(&few), [(0, 6, 1)]);
    let given = take(&mut records, "a", at(0), 10_000, &all);
    assert_eq!(told(&given), [(7, SHARE_WINDOW - 1, 1)]);
    assert_eq!(records.next(), None);
    let last = says(SHARE_WINDOW - 1, SHARE_WINDOW - 1, &[Release]);
    records.acknowledge(&"a".into(), &[last]).unwrap();
    assert_eq!(records.next(), Some(Offset(SHARE_WINDOW - 1)));
    take(&mut records, "b", at(0), 10, &[data(1990..2100)]);
    records
        .acknowledge(&"a".into(), &[says(0, 9, &[Accept])])
        .unwrap();
    records.settled(offsets(0..10));
    assert_eq!(records.next(), Some(Offset(SHARE_WINDOW)));
}

#[test]
fn what_cannot_be_read_is_passed_behind_what_was_settled_before() {
    let mut cursor = Cursor::at(Offset(0));
    cursor
        .settle(offsets(1..3), CursorBounds::default())
        .unwrap();
    let mut records = Records::new(cursor);
    assert_eq!(
        told(&take(&mut records, "a", at(0), 1, &[data(0..1)])),
        [(0, 0, 1)]
    );
    assert_eq!(records.next(), Some(Offset(3)));
    assert_eq!(
        records.skip(offsets(5..6)),
        [],
        "what lies before was not looked at"
    );
    assert_eq!(records.skip(offsets(3..4)), [offsets(3..4)]);
    records.hold();
    assert_eq!(records.next(), Some(Offset(4)));
}

#[derive(Clone, Debug)]
enum Step {
    Take(usize, usize),
    /// Says something of the records from here on that it has.
    Say(usize, u64, usize, usize),
    Leave(usize),
    Wait(u64),
    /// What is being settled is, or is not.
    Written(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..3usize;
    prop_oneof![
        4 => (who(), 1..8usize).prop_map(|(who, count)| Step::Take(who, count)),
        6 => (who(), 0..60u64, 1..6usize, 0..4usize)
            .prop_map(|(who, from, count, verdict)| Step::Say(who, from, count, verdict)),
        1 => who().prop_map(Step::Leave),
        2 => (1..25u64).prop_map(Step::Wait),
        4 => prop::bool::weighted(0.8).prop_map(Step::Written),
    ]
}

const WHO: [&str; 3] = ["a", "b", "c"];

/// The partition, and what is known of it from outside.
struct World {
    records: Records,
    now: Duration,
    /// Who has what until when, as the clients see it.
    held: BTreeMap<u64, (usize, Duration)>,
    deliveries: BTreeMap<u64, u16>,
    settled: Vec<u64>,
    writing: Vec<(Plan, usize)>,
}

impl World {
    fn spans() -> Vec<Span> {
        let batch = |n: u64| match n % 5 {
            4 => gap(n * 4..n * 4 + 4),
            _ => data(n * 4..n * 4 + 4),
        };
        (0..15).map(batch).collect()
    }

    fn write(&mut self, plan: Plan, who: usize) {
        if !plan.is_empty() {
            self.writing.push((plan, who));
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        self.held.retain(|_, (_, until)| *until > now);
        let plan = self.records.tick(now);
        for dead in &plan.dead {
            assert_eq!(dead.death, Death::GaveUp);
            assert_eq!(self.deliveries[&dead.offset.0], SHARE_DELIVERIES_MAX);
        }
        self.write(plan, 0);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Take(who, count) => {
                let (now, spans) = (self.now, Self::spans());
                let given = take(&mut self.records, WHO[who], now, count, &spans);
                for one in &given.acquired {
                    for offset in one.first.0..=one.last.0 {
                        let had = self.held.insert(offset, (who, now + LOCK));
                        assert!(had.is_none(), "{offset} is {had:?}'s");
                        assert!(!self.settled.contains(&offset), "{offset} came again");
                        let deliveries = self.deliveries.entry(offset).or_default();
                        *deliveries += 1;
                        assert_eq!(*deliveries, one.deliveries);
                    }
                }
            }
            Step::Say(who, from, count, verdict) => {
                let verdict = [Accept, Release, Reject, Gap][verdict];
                let his = self
                    .held
                    .range(from..)
                    .take_while(|(_, (of, _))| *of == who);
                let mut his: Vec<u64> = his.map(|(at, _)| *at).take(count).collect();
                his.dedup_by(|next, have| *next != *have + 1);
                let Some((first, last)) = his.first().zip(his.last()) else {
                    return;
                };
                let run = (last - first) as usize + 1 == his.len();
                let said = says(*first, *last, &[verdict]);
                let plan = self.records.acknowledge(&WHO[who].into(), &[said]);
                if !run {
                    return;
                }
                let plan = plan.expect("it is his");
                self.held.retain(|at, _| !his.contains(at));
                self.write(plan, who);
            }
            Step::Leave(who) => {
                self.held.retain(|_, (of, _)| *of != who);
                let plan = self.records.release(&WHO[who].into());
                self.write(plan, 0);
            }
            Step::Wait(seconds) => {
                self.now += at(seconds);
                self.expire();
            }
            Step::Written(kept) => {
                let Some((plan, who)) = self.writing.pop() else {
                    return;
                };
                let dead = plan.dead.iter().map(|dead| dead.offset.0);
                let all = plan
                    .settle
                    .iter()
                    .flat_map(|range| range.start.0..range.end.0);
                for offset in all.chain(dead) {
                    let one = offsets(offset..offset + 1);
                    if kept {
                        self.settled.push(offset);
                        self.records.settled(one);
                    } else {
                        let until = self.now + LOCK;
                        self.records.unsettled(one, &WHO[who].into(), until);
                        self.held.insert(offset, (who, until));
                    }
                }
            }
        }
        self.records.hold();
    }
}

/// A position with these settled ranges, each with its first offset and length.
fn settled_before(ranges: &[(u64, u64)]) -> Cursor {
    let mut cursor = Cursor::at(Offset(0));
    for (first, count) in ranges {
        let range = offsets(*first..(first + count).min(60));
        cursor.settle(range, CursorBounds::default()).unwrap();
    }
    cursor
}

proptest! {
    #[test]
    fn what_is_read_bit_by_bit_never_stands_still(
        before in prop::collection::vec((0..60u64, 1..8u64), 0..5),
    ) {
        let mut records = Records::new(settled_before(&before));
        let mut looks = 0;
        while let Some(from) = records.next().filter(|from| from.0 < 60) {
            // One batch at a time, from where it is to be read.
            let spans = World::spans();
            let mut span = spans.into_iter().find(|span| from < span.range.end).unwrap();
            span.range.start = from;
            match span.counts {
                true => drop(take(&mut records, "a", at(0), 1, &[span])),
                false => drop(records.skip(span.range)),
            }
            records.hold();
            looks += 1;
            prop_assert!(looks <= 60, "it stands still at {}", from.0);
        }
    }

    #[test]
    fn whatever_members_do_a_record_is_one_members_and_in_the_end_each_is_settled_once(
        steps in prop::collection::vec(step(), 1..200),
        before in prop::collection::vec((0..60u64, 1..8u64), 0..5),
    ) {
        let cursor = settled_before(&before);
        let is_marker = |at: u64| at / 4 % 5 == 4;
        let settled: Vec<u64> =
            (0..60).filter(|at| cursor.is_settled(Offset(*at)) && !is_marker(*at)).collect();
        let mut world = World {
            records: Records::new(cursor),
            now: at(0),
            held: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            settled,
            writing: Vec::new(),
        };
        for step in &steps {
            world.step(step);
        }
        // Time ends everything.
        for _ in 0..2 * SHARE_DELIVERIES_MAX {
            world.step(&Step::Take(0, 100));
            world.step(&Step::Wait(31));
            while !world.writing.is_empty() {
                world.step(&Step::Written(true));
            }
        }
        prop_assert_eq!(world.records.position(), Offset(60));
        let mut once = world.settled.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), world.settled.len(), "settled twice");
        prop_assert_eq!(once.len(), 48, "markers are nobody's");
        prop_assert!((0..60).all(|at| world.records.is_settled(Offset(at))));
    }
}
