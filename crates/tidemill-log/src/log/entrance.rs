//! Who is let in to wait: each operation takes its memory from the budget, and no lane may take
//! so much that others find none.
//!
//! A lane may have as much as is still free after it (the dynamic threshold of Choudhury and
//! Hahne, 1998): one alone gets half of what may wait, two get a third each, and one that begins
//! to wait finds room, at once or where it needs more than that in its turn: see [`super::claims`].
//! Lanes are counted in so many places that two of them rarely share
//! one; where they do, they get a part together. What appends no records has a part of its own,
//! so that settlements wait however much is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidemill_core::budget::{Budget, Class, Share};

use super::claims::Claims;
use crate::limits::{LANES_COUNTED, OPERATION_BYTES};
use crate::machine::Demand;

/// Bytes that lanes have taken, by what their numbers leave.
#[derive(Debug)]
struct Lanes {
    bytes: Box<[AtomicUsize]>,
    claims: Claims,
}

impl Lanes {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes: (0..LANES_COUNTED).map(|_| AtomicUsize::new(0)).collect(),
            claims: Claims::default(),
        })
    }

    fn of(&self, lane: u64) -> Option<&AtomicUsize> {
        self.bytes.get(lane as usize % LANES_COUNTED)
    }
}

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    budget: Budget,
    records: Arc<Lanes>,
    others: Arc<Lanes>,
}

/// The memory of one operation that was let in; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    share: Share,
    lanes: Arc<Lanes>,
    lane: u64,
}

impl Entrance {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            records: Lanes::new(),
            others: Lanes::new(),
        }
    }

    /// Lets an operation in; `None` where too much waits. One that is larger than all that may
    /// wait is let in where nothing else does. What others have beyond the limit is none of it: it
    /// may be the very event whose settlement this is. `now` is a time that never goes back.
    pub(crate) fn enter(&self, demand: &Demand, now: impl Fn() -> Duration) -> Option<Place> {
        let (class, lanes) = match demand.appends {
            true => (Class::Writes, &self.records),
            false => (Class::Settlements, &self.others),
        };
        let bytes = demand.records.saturating_add(OPERATION_BYTES);
        let counter = lanes.of(demand.lane)?;
        let alone = counter.load(Ordering::Relaxed) == 0;
        let turn = lanes.claims.turn(demand.lane, bytes, &now);
        let claimed = turn.claimed && alone;
        let used = self.budget.used(class);
        let after = used.saturating_add(bytes);
        let left = self.budget.max(class).saturating_sub(after);
        let fits = |lane: usize| {
            let sum = lane.checked_add(bytes);
            sum.filter(|sum| claimed || *sum <= left)
        };
        let needs = bytes.saturating_add(turn.leaves);
        let has_room = turn.leaves == 0 || self.budget.free(class) >= needs;
        let mut place = Place {
            share: self.budget.empty(class),
            lanes: Arc::clone(lanes),
            lane: demand.lane,
        };
        let counted = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lane| {
            has_room.then(|| fits(lane)).flatten()
        });
        let mut entered = false;
        if counted.is_ok() {
            entered = place.share.grow(bytes);
            if !entered {
                counter.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        if !entered && turn.first && used == 0 && self.budget.over_in(class) == 0 {
            counter.fetch_add(bytes, Ordering::Relaxed);
            place.share.grow_anyway(bytes);
            entered = true;
        }
        if entered && turn.claimed {
            lanes.claims.done(demand.lane);
        } else if !entered && alone {
            lanes.claims.claim(demand.lane, bytes, now);
        }
        entered.then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let bytes = self.share.bytes();
        if let Some(counter) = self.lanes.of(self.lane).filter(|_| bytes > 0) {
            counter.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(lane: u64, records: usize) -> Demand {
        Demand {
            records,
            appends: records > 0,
            lane,
            ..Demand::default()
        }
    }

    fn enter(entrance: &Entrance, lane: u64, records: usize) -> Option<Place> {
        entrance.enter(&demand(lane, records), || Duration::ZERO)
    }

    #[test]
    fn one_lane_leaves_room_for_others_however_much_it_hands_in() {
        let entrance = Entrance::new(&Budget::new(16 << 20));
        let max = entrance.budget.max(Class::Writes);
        let fill =
            |lane: u64| std::iter::from_fn(|| enter(&entrance, lane, 4096)).collect::<Vec<_>>();
        let bytes = |places: &[Place]| places.iter().map(|place| place.share.bytes()).sum();
        let first = fill(1);
        let taken: usize = bytes(&first);
        assert!(
            taken <= max / 2 && taken > max / 2 - 8192,
            "{taken} of {max}"
        );
        // Each that follows gets a half of what the ones before left.
        for lane in 2..6 {
            let free = entrance.budget.free(Class::Writes);
            let next = fill(lane);
            assert!(!next.is_empty() && bytes(&next) <= free / 2);
            std::mem::forget(next);
        }
        assert!(enter(&entrance, 1, 4096).is_none());
        assert!(enter(&entrance, 9, 0).is_some(), "no records, another part");
        drop(first);
        assert!(enter(&entrance, 1, 4096).is_some());
    }

    #[test]
    fn one_that_is_too_large_is_let_in_alone() {
        let entrance = Entrance::new(&Budget::new(16 << 20));
        let large = enter(&entrance, 1, 100 << 20).unwrap();
        assert!(enter(&entrance, 1, 100 << 20).is_none());
        drop(large);
        assert_eq!((entrance.budget.over(), entrance.budget.total()), (0, 0));
        let small = enter(&entrance, 2, 100).unwrap();
        assert!(enter(&entrance, 1, 100 << 20).is_none());
        drop(small);
        let _large = enter(&entrance, 1, 100 << 20).unwrap();
    }

    /// Lanes that hand in as much as they may after everything that is done: in the order in which
    /// it was let in.
    struct Flood {
        entrance: Entrance,
        lanes: Vec<(u64, usize)>,
        waiting: std::collections::VecDeque<Place>,
        now: Duration,
    }

    impl Flood {
        fn of(lanes: Vec<(u64, usize)>) -> Self {
            Self {
                entrance: Entrance::new(&Budget::new(64 << 20)),
                lanes,
                waiting: std::collections::VecDeque::new(),
                now: Duration::ZERO,
            }
        }

        fn enter(&self, lane: u64, records: usize) -> Option<Place> {
            let entered = self.entrance.enter(&demand(lane, records), || self.now);
            let budget = &self.entrance.budget;
            assert!(budget.used(Class::Writes) <= budget.max(Class::Writes));
            assert!(budget.total() <= budget.limit() && budget.over() == 0);
            entered
        }

        /// One operation is done, and everybody hands in what they can.
        fn step(&mut self) {
            self.waiting.pop_front();
            for (lane, records) in self.lanes.clone() {
                while let Some(place) = self.enter(lane, records) {
                    self.waiting.push_back(place);
                }
            }
        }
    }

    /// Two lanes that take all that they may once kept a large operation out for ever: what was
    /// free was never as much as it needs.
    #[test]
    fn a_large_one_finds_room_between_floods_within_one_round_of_what_waits() {
        for records in [100, 4096, 100_000] {
            for floods in [2, 3, 10] {
                let lanes = (1..=floods).map(|lane| (lane, records));
                let mut flood = Flood::of(lanes.collect());
                flood.step();
                let large = flood.entrance.budget.max(Class::Writes) / 3 * 2;
                for _ in 0..3 {
                    let before = flood.waiting.len();
                    let mut steps = 0;
                    let place = loop {
                        if let Some(place) = flood.enter(99, large) {
                            break place;
                        }
                        assert!(steps <= before + 1, "{floods} floods of {records}");
                        flood.step();
                        steps += 1;
                    };
                    assert!(steps > 0, "it was to wait for its turn");
                    // The floods go on beside it, and while it waited.
                    flood.waiting.push_back(place);
                    for _ in 0..=flood.waiting.len() {
                        flood.step();
                    }
                    assert!(flood.waiting.len() > floods as usize);
                }
            }
        }
    }

    #[test]
    fn many_large_ones_have_their_turns_one_after_the_other() {
        let mut flood = Flood::of(vec![(1, 4096), (2, 4096)]);
        flood.step();
        let large = flood.entrance.budget.max(Class::Writes) / 2;
        let mut left: Vec<u64> = (100..110).collect();
        let mut entered = Vec::new();
        let mut steps = 0;
        while !left.is_empty() {
            // The last one asks first each time, and has no advantage of it.
            let now: Vec<_> = left.iter().rev().copied().collect();
            let now = if steps == 0 { left.clone() } else { now };
            for lane in now {
                if let Some(place) = flood.enter(lane, large) {
                    flood.waiting.push_back(place);
                    left.retain(|other| *other != lane);
                    entered.push(lane);
                }
            }
            flood.step();
            steps += 1;
            assert!(steps < 100_000, "{entered:?}");
        }
        assert_eq!(entered, (100..110).collect::<Vec<_>>());
    }

    #[test]
    fn who_does_not_come_again_holds_nobody_up_for_long() {
        let mut flood = Flood::of(vec![(1, 4096), (2, 4096)]);
        flood.step();
        let most = flood.entrance.budget.max(Class::Writes) - OPERATION_BYTES;
        for _ in 0..2 {
            assert!(flood.enter(99, most).is_none());
        }
        for _ in 0..flood.waiting.len() {
            flood.step();
        }
        assert!(flood.waiting.is_empty());
        flood.now += crate::limits::CLAIM_FOR - Duration::from_millis(1);
        flood.step();
        assert!(flood.waiting.is_empty());
        flood.now += Duration::from_millis(1);
        flood.step();
        assert!(flood.waiting.len() > 2);
        // And a small one needs no claim where there is room.
        let small = flood.enter(7, 10).unwrap();
        assert!(small.share.bytes() > 0);
    }

    /// Claims of connections that were refused once and are gone once shut out everybody after
    /// them, however empty it was, because each that was refused made one more.
    #[test]
    fn who_is_refused_once_and_goes_away_holds_nobody_up() {
        let mut flood = Flood::of(vec![(1, 4096), (2, 4096)]);
        flood.step();
        for gone in 1000..1200 {
            assert!(flood.enter(gone, 20 << 20).is_none());
        }
        let before = flood.waiting.len();
        for _ in 0..before {
            flood.step();
        }
        assert!(flood.waiting.len() > before / 2, "the floods go on");
        flood.waiting.clear();
        for stranger in 2000..2100 {
            let place = flood.enter(stranger, 4096).unwrap();
            flood.waiting.push_back(place);
        }
    }
}
