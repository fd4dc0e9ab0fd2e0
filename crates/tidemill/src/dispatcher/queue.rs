//! The dispatcher's queue: what was taken in, in which order it may run, and what has to wait.
//!
//! A pure machine: it is told what happens and what time it is. It may not know tasks, locks,
//! handlers, or what an item is.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::event::PARTITION_KEY;
use tidemill_core::{Delivery, ExtensionValue, Order, Partition, TopicName};

/// What one event at a time may run of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LaneKey {
    /// The events of one key.
    Key(ByteString),
    /// The events of one partition.
    Partition(TopicName, Partition),
}

impl LaneKey {
    /// The lane of `delivery` under `order`; none where it may run at any time.
    pub(super) fn of(order: Order, delivery: &Delivery) -> Option<Self> {
        match order {
            Order::None => None,
            Order::PerPartition => {
                let position = &delivery.position;
                Some(Self::Partition(position.topic.clone(), position.partition))
            }
            Order::PerKey => match delivery.event.extension(PARTITION_KEY)? {
                ExtensionValue::String(key) => Some(Self::Key(key.clone())),
                _ => None,
            },
        }
    }
}

/// The place of a lane in the queue's list.
type LaneIndex = usize;

/// The right to run one item: its lane is busy until [`Queue::done`] or [`Queue::put_back`].
#[derive(Debug)]
pub(super) struct Taken<T> {
    /// The item.
    pub(super) item: T,
    lane: LaneIndex,
    number: u64,
}

#[derive(Debug)]
struct Lane<T> {
    key: Option<LaneKey>,
    /// What waits in this lane, the oldest first, each with its number of arrival.
    items: VecDeque<(u64, T)>,
}

/// First in, first out, except that a lane runs one item at a time: what runs next is the oldest
/// item whose lane is free.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lanes: Vec<Lane<T>>,
    /// Places in `lanes` that are not in use.
    free: Vec<LaneIndex>,
    by_key: HashMap<LaneKey, LaneIndex>,
    /// Free lanes that have items, by the number of their oldest one.
    ready: BinaryHeap<Reverse<(u64, LaneIndex)>>,
    /// Lanes whose oldest item is not to run before a time.
    delayed: BinaryHeap<Reverse<(Duration, LaneIndex)>>,
    next_number: u64,
    waiting: usize,
    running: usize,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            ready: BinaryHeap::new(),
            delayed: BinaryHeap::new(),
            next_number: 0,
            waiting: 0,
            running: 0,
            closed: false,
        }
    }
}

impl<T> Queue<T> {
    /// Adds `item` behind all others. A closed queue gives it back.
    pub(super) fn push(&mut self, key: Option<LaneKey>, item: T) -> Result<(), T> {
        if self.closed {
            return Err(item);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.waiting += 1;
        let lane = match key {
            None => self.open(None),
            Some(key) => match self.by_key.entry(key) {
                Entry::Occupied(lane) => {
                    let lane = *lane.get();
                    self.lane(lane).items.push_back((number, item));
                    return Ok(());
                }
                Entry::Vacant(vacant) => {
                    let key = vacant.key().clone();
                    let lane = open(&mut self.lanes, &mut self.free, Some(key));
                    *vacant.insert(lane)
                }
            },
        };
        self.lane(lane).items.push_back((number, item));
        self.ready.push(Reverse((number, lane)));
        Ok(())
    }

    /// Takes the oldest item whose lane is free.
    pub(super) fn take(&mut self) -> Option<Taken<T>> {
        let Reverse((_, lane)) = self.ready.pop()?;
        let (number, item) = self.lane(lane).items.pop_front()?;
        self.waiting -= 1;
        self.running += 1;
        Some(Taken { item, lane, number })
    }

    /// The item that was taken from `lane` needs nothing more: the lane is free.
    pub(super) fn done(&mut self, lane: LaneOf) {
        let lane = lane.0;
        self.running -= 1;
        let state = self.lane(lane);
        match state.items.front() {
            Some((number, _)) => {
                let number = *number;
                self.ready.push(Reverse((number, lane)));
            }
            None => {
                if let Some(key) = state.key.take() {
                    self.by_key.remove(&key);
                }
                self.free.push(lane);
            }
        }
    }

    /// The item is to run again, not before `due`; until then its lane waits, others go on. A
    /// closed queue gives it back.
    pub(super) fn put_back(&mut self, taken: Taken<T>, due: Duration) -> Result<(), T> {
        let Taken { item, lane, number } = taken;
        if self.closed {
            self.done(LaneOf(lane));
            return Err(item);
        }
        self.running -= 1;
        self.waiting += 1;
        self.lane(lane).items.push_front((number, item));
        self.delayed.push(Reverse((due, lane)));
        Ok(())
    }

    /// Frees the lanes whose time has come; answers when the next one does.
    pub(super) fn wake(&mut self, now: Duration) -> Option<Duration> {
        while let Some(Reverse((due, lane))) = self.delayed.peek().copied() {
            if due > now {
                return Some(due);
            }
            self.delayed.pop();
            if let Some((number, _)) = self.lane(lane).items.front() {
                let number = *number;
                self.ready.push(Reverse((number, lane)));
            }
        }
        None
    }

    /// Takes nothing more in and gives back all that waits.
    pub(super) fn close(&mut self) -> Vec<T> {
        self.closed = true;
        self.ready.clear();
        self.delayed.clear();
        let all = self.lanes.iter_mut().flat_map(|lane| lane.items.drain(..));
        let all: Vec<T> = all.map(|(_, item)| item).collect();
        self.waiting = 0;
        all
    }

    /// How many lanes could run an item now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many items wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many items were taken and are not done.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// How many items there are, waiting or running.
    pub(super) fn held(&self) -> usize {
        self.waiting + self.running
    }

    /// Whether nothing is taken in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn open(&mut self, key: Option<LaneKey>) -> LaneIndex {
        open(&mut self.lanes, &mut self.free, key)
    }

    fn lane(&mut self, lane: LaneIndex) -> &mut Lane<T> {
        let known = "lanes are never removed from the list, and only the queue makes their places";
        self.lanes.get_mut(lane).expect(known)
    }
}

fn open<T>(lanes: &mut Vec<Lane<T>>, free: &mut Vec<LaneIndex>, key: Option<LaneKey>) -> LaneIndex {
    if let Some(lane) = free.pop()
        && let Some(state) = lanes.get_mut(lane)
    {
        state.key = key;
        return lane;
    }
    lanes.push(Lane {
        key,
        items: VecDeque::new(),
    });
    lanes.len() - 1
}

/// A busy lane, by what was taken from it.
#[derive(Debug)]
pub(super) struct LaneOf(LaneIndex);

impl<T> Taken<T> {
    /// The item alone, and what frees its lane.
    pub(super) fn split(self) -> (T, LaneOf) {
        (self.item, LaneOf(self.lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Item = (u8, u32);

    fn key(key: u8) -> Option<LaneKey> {
        (key > 0).then(|| LaneKey::Key(ByteString::from(key.to_string())))
    }

    fn filled(items: &[Item]) -> Queue<Item> {
        let mut queue = Queue::default();
        for item in items {
            queue.push(key(item.0), *item).unwrap();
        }
        queue
    }

    fn take(queue: &mut Queue<Item>) -> Option<Item> {
        queue.take().map(|taken| taken.item)
    }

    #[test]
    fn the_oldest_whose_lane_is_free_is_next() {
        let mut queue = filled(&[(1, 0), (1, 1), (2, 2), (1, 3), (0, 4), (0, 5)]);
        let first = queue.take().unwrap();
        assert_eq!(first.item, (1, 0));
        assert_eq!(take(&mut queue), Some((2, 2)));
        queue.done(first.split().1);
        assert_eq!(take(&mut queue), Some((1, 1)), "older than what has no key");
        assert_eq!(take(&mut queue), Some((0, 4)));
        assert_eq!(take(&mut queue), Some((0, 5)));
        assert_eq!(take(&mut queue), None, "the lane of key 1 is busy");
        assert_eq!((queue.waiting(), queue.running()), (1, 4));
    }

    #[test]
    fn an_item_put_back_holds_its_lane_and_no_other() {
        let secs = Duration::from_secs;
        let mut queue = filled(&[(1, 0), (1, 1), (2, 2)]);
        let first = queue.take().unwrap();
        queue.put_back(first, secs(5)).unwrap();
        assert_eq!(take(&mut queue), Some((2, 2)));
        assert_eq!(take(&mut queue), None);
        assert_eq!(queue.wake(secs(4)), Some(secs(5)));
        assert_eq!(take(&mut queue), None);
        assert_eq!(queue.wake(secs(5)), None);
        assert_eq!(
            take(&mut queue),
            Some((1, 0)),
            "the same again, before later ones"
        );
    }

    #[test]
    fn a_closed_queue_gives_everything_back() {
        let mut queue = filled(&[(1, 0), (1, 1), (2, 2), (3, 3)]);
        let running = queue.take().unwrap();
        let delayed = queue.take().unwrap();
        assert_eq!(delayed.item, (2, 2));
        queue.put_back(delayed, Duration::MAX).unwrap();
        let mut rest = queue.close();
        rest.sort_unstable();
        assert_eq!(rest, [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(queue.push(None, (9, 9)), Err((9, 9)));
        assert_eq!(queue.put_back(running, Duration::ZERO), Err((1, 0)));
        assert_eq!((queue.held(), take(&mut queue)), (0, None));
    }

    #[test]
    fn lanes_are_used_again() {
        let mut queue = Queue::default();
        for n in 0..100_000u32 {
            queue.push(key((n % 250 + 1) as u8), (0, n)).unwrap();
            let (_, lane) = queue.take().unwrap().split();
            queue.done(lane);
        }
        assert_eq!(queue.lanes.len(), 1);
        assert!(queue.by_key.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Take,
        Done(usize),
        PutBack(usize, u64),
        Wake(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..5).prop_map(Step::Push),
            3 => Just(Step::Take),
            2 => any::<usize>().prop_map(Step::Done),
            1 => (any::<usize>(), 0u64..50).prop_map(|(n, due)| Step::PutBack(n, due)),
            1 => (0u64..50).prop_map(Step::Wake),
        ]
    }

    proptest! {
        /// Whatever happens: one item of a key at a time, in the order of arrival; nothing is
        /// lost, nothing runs twice; of the items that may run the oldest comes first.
        #[test]
        fn order_per_key_holds(steps in proptest::collection::vec(any_step(), 0..300)) {
            let mut queue = Queue::default();
            let mut running: Vec<Taken<Item>> = Vec::new();
            let (mut pushed, mut finished) = (0u32, Vec::new());
            let mut newest_done = [None; 5];
            let mut finish = |item: Item| {
                if item.0 > 0 {
                    let slot = &mut newest_done[item.0 as usize];
                    assert!(slot.is_none_or(|before| before < item.1), "order within the key");
                    *slot = Some(item.1);
                }
                finished.push(item.1);
            };
            for step in steps {
                match step {
                    Step::Push(k) => {
                        queue.push(key(k), (k, pushed)).unwrap();
                        pushed += 1;
                    }
                    Step::Take => {
                        if let Some(taken) = queue.take() {
                            let same = running.iter().any(|r| r.item.0 == taken.item.0);
                            prop_assert!(taken.item.0 == 0 || !same, "two of a key at once");
                            running.push(taken);
                        }
                    }
                    Step::Done(n) if !running.is_empty() => {
                        let taken = running.swap_remove(n % running.len());
                        finish(taken.item);
                        queue.done(taken.split().1);
                    }
                    Step::PutBack(n, due) if !running.is_empty() => {
                        let taken = running.swap_remove(n % running.len());
                        queue.put_back(taken, Duration::from_secs(due)).unwrap();
                    }
                    Step::Wake(now) => {
                        queue.wake(Duration::from_secs(now));
                    }
                    Step::Done(_) | Step::PutBack(..) => {}
                }
                prop_assert_eq!(queue.running(), running.len());
            }
            queue.wake(Duration::MAX);
            loop {
                for taken in running.drain(..) {
                    finish(taken.item);
                    queue.done(taken.split().1);
                }
                match queue.take() {
                    Some(taken) => running.push(taken),
                    None => break,
                }
            }
            finished.sort_unstable();
            prop_assert!(finished.into_iter().eq(0..pushed));
            prop_assert_eq!(queue.held(), 0);
        }
    }
}
