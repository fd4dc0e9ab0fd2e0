//! What may have ended the process, against the model of the delivery state: marked before it is
//! handled, isolated once it is suspect, given up in the end; and nothing is lost for that.

use std::time::Duration;

use proptest::prelude::*;
use tidemill_core::cursor::Cursor;
use tidemill_core::limits::CURSOR_RANGES_MAX;
use tidemill_core::{Offset, Order};

use super::settle::Ended;
use super::suspects::{letter_again_after, perhaps_read};
use super::tests::{Guarded, World, order, step};
use crate::limits::{CRASHES_MAX, MARKED_AT_ONCE, MARKS_MAX, SUSPECT_ALONE_MAX};

/// A life after a bad end with events without keys, all handled here.
fn after_bad_end(events: usize, marks: &[(u64, u32)]) -> World {
    let mut world = World::new(Order::None);
    world.guarded = Guarded::All;
    world.log[0] = vec![None; events];
    let marks = marks
        .iter()
        .map(|(offset, attempts)| ((0, *offset), *attempts));
    world.marks = marks.collect();
    world.join();
    world
}

fn settle_all(world: &mut World) {
    while !world.held.is_empty() {
        world.begin(0);
        world.end(0, Ended::Settled);
    }
}

fn marks() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0..20u64, 1..=CRASHES_MAX), 0..8)
}

proptest! {
    #[test]
    fn after_a_bad_end_nothing_is_lost_doubled_or_out_of_order_either(
        order in order(),
        keys in prop::collection::vec(prop::option::of(0..3u8), 0..20),
        marks in marks(),
        half in any::<bool>(),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(order);
        world.guarded = if half { Guarded::Half } else { Guarded::All };
        let there = keys.len() as u64;
        world.log[0] = keys;
        let marks = marks.into_iter().filter(|(offset, _)| *offset < there);
        world.marks = marks.map(|(offset, attempts)| ((0, offset), attempts)).collect();
        world.join();
        world.go(steps);
        if !half {
            let fatal = world.marks.iter().filter(|(_, n)| **n >= CRASHES_MAX);
            let fatal: Vec<_> = fatal.map(|(at, _)| *at).collect();
            let marked = world.marked.keys().filter(|at| at.0 == 0 && at.1 < there);
            prop_assert_eq!(marked.count() + fatal.len(), there as usize);
            prop_assert_eq!(fatal, world.over.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_came_after_the_bad_end_is_not_marked() {
    let mut world = after_bad_end(3, &[]);
    world.log[0].extend([None; 3]);
    assert_eq!(world.take(0, 9), 6);
    let marked: Vec<_> = world.marked.keys().map(|(_, offset)| *offset).collect();
    assert_eq!(marked, [0, 1, 2]);
}

#[test]
fn suspects_go_one_by_one_and_all_others_go_on() {
    let mut world = after_bad_end(6, &[(1, 1), (2, 2), (4, 1)]);
    let taken = |world: &mut World| {
        let count = world.held.len();
        world.take(0, 9);
        let new = world.held[count..].iter();
        new.map(|(of, _, _)| (of.position.offset.0, of.attempt.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(taken(&mut world), [(0, 1), (1, 1), (3, 1), (5, 1)]);
    world.log[0].push(None);
    assert_eq!(taken(&mut world), [(6, 1)]);
    assert_eq!(taken(&mut world), []);
    // It is tried again in this life: still alone, and marked once.
    let at = world
        .held
        .iter()
        .position(|(of, _, _)| of.position.offset == Offset(1));
    let (_, ticket, _) = world.held.remove(at.unwrap());
    assert!(world.core.retry(super::tests::id(0), &ticket, None));
    let first = taken(&mut world);
    assert!(first == [(2, 1)] || first == [(1, 2)], "{first:?}");
    settle_all(&mut world);
    world.take(0, 9);
    settle_all(&mut world);
    world.take(0, 9);
    settle_all(&mut world);
    assert_eq!(world.settled.len(), 7);
    assert_eq!(world.marked[&(0, 2)], 3);
}

#[test]
fn a_suspect_that_hangs_holds_others_up_for_a_bounded_time() {
    let mut world = after_bad_end(4, &[(0, 1), (1, 1), (2, 1)]);
    let begun = world.now;
    assert_eq!(world.take(0, 9), 2, "a suspect, and what is none");
    world.join();
    for _ in 0..2 {
        let until = world.now + SUSPECT_ALONE_MAX;
        assert_eq!(world.core.suspects.due(), Some(until));
        world.now = until - Duration::from_millis(1);
        assert_eq!((world.take(0, 9), world.take(1, 9)), (0, 0));
        // Nothing wakes anybody: each looks when it was told to.
        world.now = until;
        let count = world.take(1, 9) + world.take(0, 9);
        assert_eq!(count, 1, "one at a time still");
    }
    assert_eq!(world.now, begun + 2 * SUSPECT_ALONE_MAX);
    assert_eq!(world.core.suspects.due(), None, "nobody waits for the last");
    // Those that hang may come to an end after all.
    settle_all(&mut world);
    assert_eq!(world.settled.len(), 4);
}

#[test]
fn who_ended_the_process_too_often_is_given_up_and_its_key_goes_on() {
    let mut world = World::new(Order::PerKey);
    world.guarded = Guarded::All;
    world.log[0] = vec![Some(1), Some(1), Some(2)];
    world.marks.insert((0, 0), CRASHES_MAX);
    world.join();
    assert_eq!(
        world.take(0, 9),
        2,
        "the one that is given up, and another key"
    );
    assert_eq!(world.over.iter().collect::<Vec<_>>(), [&(0, 0)]);
    assert_eq!(world.take(0, 9), 1);
    settle_all(&mut world);
    assert_eq!(world.settled.len(), 3);
}

#[test]
fn so_many_are_marked_at_a_time_and_who_settles_makes_room() {
    let mut world = after_bad_end(MARKED_AT_ONCE + 9, &[(0, 1)]);
    // The suspect is one of the earlier life's.
    assert_eq!(world.take(0, 2 * MARKED_AT_ONCE), MARKED_AT_ONCE + 1);
    assert_eq!(world.take(0, 9), 0);
    world.begin(3);
    world.end(0, Ended::Settled);
    assert_eq!(world.take(0, 9), 1, "it was woken");
    settle_all(&mut world);
    assert_eq!(world.take(0, 9), 7);
}

#[test]
fn a_seek_ends_the_watching() {
    let mut world = after_bad_end(4, &[(1, 1), (2, 1)]);
    assert_eq!(world.take(0, 2), 2);
    let flow = world.core.flow_index(super::tests::id(0)).unwrap();
    world.core.begin_seek(flow);
    world.core.end_seek(flow, Some(Cursor::at(Offset(0))));
    let member = world.members[0];
    let end = |_| Some(Offset(4));
    let plan = world.core.plan_read(member, end).unwrap();
    assert_eq!(plan.offset, Offset(0));
    assert!(!world.core.suspects.has_aside());
}

#[test]
fn who_waits_for_a_suspect_is_woken_by_its_seek() {
    let mut world = World::new(Order::None);
    world.guarded = Guarded::All;
    world.log = [vec![None; 2], vec![None]];
    world.marks = [((0, 1), 1), ((1, 0), 1)].into();
    world.join();
    world.take(0, 9);
    assert!(world.core.suspects.has_aside());
    world.core.wake.clear();
    let flying = |of: &(tidemill_core::Delivery, tidemill_core::Ticket, _)| {
        let suspect = of.1.position.partition.0 == 1 || of.1.position.offset == Offset(1);
        suspect.then_some(of.1.position.partition.0)
    };
    let at = world.held.iter().find_map(flying).unwrap();
    let flow = world.core.flow_index(super::tests::id(at)).unwrap();
    world.core.begin_seek(flow);
    assert!(!world.core.wake.is_empty());
}

#[test]
fn what_is_given_back_until_later_leaves_its_room_to_others() {
    let mut world = after_bad_end(MARKED_AT_ONCE + 9, &[]);
    assert_eq!(world.take(0, 2 * MARKED_AT_ONCE), MARKED_AT_ONCE);
    assert_eq!(world.take(0, 9), 0);
    let later = Some(Duration::from_secs(3600));
    for (_, ticket, _) in std::mem::take(&mut world.held) {
        assert!(world.core.retry(super::tests::id(0), &ticket, later));
    }
    assert_eq!(world.take(0, 99), 9);
}

#[test]
fn markers_of_what_nobody_has_hold_nobody_up() {
    let marks: Vec<_> = (0..MARKS_MAX as u64).map(|offset| (offset, 1)).collect();
    let mut world = after_bad_end(MARKS_MAX + 3, &marks);
    for _ in 0..MARKS_MAX {
        // The suspect alone: what is behind waits for it.
        assert_eq!(world.take(0, 9), 1);
        let (_, ticket, _) = world.held.remove(0);
        let later = Some(Duration::from_secs(3600));
        assert!(world.core.retry(super::tests::id(0), &ticket, later));
    }
    assert_eq!(world.take(0, 9), 3);
    assert!(
        world
            .marked
            .keys()
            .all(|(_, offset)| *offset < MARKS_MAX as u64)
    );
}

#[test]
fn a_dead_letter_that_cannot_be_kept_is_tried_ever_more_rarely() {
    let waits = [1, 2, 3, 6, 7, u32::MAX].map(|times| letter_again_after(times).as_secs());
    assert_eq!(waits, [1, 2, 4, 32, 60, 60]);
    let mut world = after_bad_end(1, &[(0, 1)]);
    for times in 1..4 {
        assert_eq!(world.take(0, 1), 1);
        let (_, ticket, _) = world.held.remove(0);
        assert_eq!(world.core.letter_refused(&ticket, world.now), times);
        world.now += letter_again_after(times);
        assert_eq!(world.core.lanes.next_due(), Some(world.now));
    }
}

#[test]
fn what_can_have_been_in_flight_is_bounded_by_what_a_position_may_hold() {
    let mut cursor = Cursor::at(Offset(10));
    assert_eq!(perhaps_read(&cursor), Offset(10 + CURSOR_RANGES_MAX as u64));
    let bounds = tidemill_core::cursor::CursorBounds::default();
    cursor.settle(Offset(20)..Offset(50), bounds).unwrap();
    assert_eq!(perhaps_read(&cursor), Offset(40 + CURSOR_RANGES_MAX as u64));
    let far = Offset(10 + CURSOR_RANGES_MAX as u64 + 30);
    cursor.settle(far..far.plus(9), bounds).unwrap();
    assert_eq!(
        perhaps_read(&cursor),
        far,
        "nothing behind a range that is beyond"
    );
}
