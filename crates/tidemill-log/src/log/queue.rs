//! What waits to be sealed, in lanes that take turns: whoever hands in much waits behind itself,
//! not the others behind it.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995): each turn a lane may take
//! [`LANE_TURN_BYTES`], and what it did not use for want of a whole operation it has the next time.
//! Within a lane the order stays what it was.

use std::collections::{HashMap, VecDeque};

use crate::limits::LANE_TURN_BYTES;
use crate::machine::Demand;

/// One operation that waits.
#[derive(Debug)]
pub(super) struct Waiting<O, T> {
    pub(super) operation: O,
    pub(super) demand: Demand,
    pub(super) token: T,
}

#[derive(Debug)]
struct Lane<O, T> {
    waiting: VecDeque<Waiting<O, T>>,
    /// Bytes that it may still take.
    credit: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<O, T> {
    /// Those with something that waits.
    lanes: HashMap<u64, Lane<O, T>>,
    /// Whose turn it is, and who comes then.
    turns: VecDeque<u64>,
    count: usize,
    bytes: usize,
}

impl<O, T> Queue<O, T> {
    pub(super) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            count: 0,
            bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What all operations demand, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, waiting: Waiting<O, T>) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(waiting.demand.bytes);
        let number = waiting.demand.lane;
        let lane = self.lanes.entry(number).or_insert_with(|| {
            self.turns.push_back(number);
            Lane {
                waiting: VecDeque::new(),
                credit: LANE_TURN_BYTES,
            }
        });
        lane.waiting.push_back(waiting);
    }

    /// What the next one demands. The same until [`Queue::pop`], unless
    /// more is pushed.
    pub(super) fn next(&mut self) -> Option<Demand> {
        loop {
            let number = *self.turns.front()?;
            let alone = self.turns.len() == 1;
            let lane = self.lanes.get_mut(&number)?;
            let demand = lane.waiting.front()?.demand;
            if alone || demand.bytes <= lane.credit {
                return Some(demand);
            }
            lane.credit = lane.credit.saturating_add(LANE_TURN_BYTES);
            self.turns.rotate_left(1);
        }
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<Waiting<O, T>> {
        self.next()?;
        let number = *self.turns.front()?;
        let lane = self.lanes.get_mut(&number)?;
        let waiting = lane.waiting.pop_front()?;
        lane.credit = lane.credit.saturating_sub(waiting.demand.bytes);
        if lane.waiting.is_empty() {
            self.lanes.remove(&number);
            self.turns.pop_front();
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(waiting.demand.bytes);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(operations: &[(u64, usize)]) -> Queue<usize, ()> {
        let mut queue = Queue::new();
        for (number, (lane, bytes)) in operations.iter().enumerate() {
            let demand = Demand {
                bytes: *bytes,
                lane: *lane,
                ..Demand::default()
            };
            queue.push(Waiting {
                operation: number,
                demand,
                token: (),
            });
        }
        queue
    }

    fn order(mut queue: Queue<usize, ()>) -> Vec<usize> {
        let order = std::iter::from_fn(|| queue.pop().map(|waiting| waiting.operation)).collect();
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        assert!(queue.is_empty() && queue.lanes.is_empty() && queue.turns.is_empty());
        order
    }

    #[test]
    fn one_lane_keeps_its_order_whatever_the_sizes() {
        let sizes = [0, 10 * LANE_TURN_BYTES, 1, LANE_TURN_BYTES];
        let operations: Vec<_> = sizes.iter().map(|bytes| (7, *bytes)).collect();
        assert_eq!(order(queue(&operations)), [0, 1, 2, 3]);
    }

    #[test]
    fn a_small_one_passes_a_long_queue_of_another_lane() {
        let turn = LANE_TURN_BYTES;
        let mut operations = vec![(1, turn); 100];
        operations.push((2, 100));
        operations.extend([(1, turn); 10]);
        let order = order(queue(&operations));
        let at = order.iter().position(|number| *number == 100).unwrap();
        assert_eq!(at, 1);
        let rest: Vec<_> = order.into_iter().filter(|number| *number != 100).collect();
        assert!(rest.is_sorted());
    }

    #[test]
    fn lanes_get_the_same_bytes_whatever_their_operations_sizes() {
        let turn = LANE_TURN_BYTES;
        // One of each three turns' size against many small ones.
        let mut operations: Vec<_> = (0..20).map(|_| (1, 3 * turn)).collect();
        operations.extend((0..600).map(|_| (2, turn / 10)));
        let mut queue = queue(&operations);
        let (mut large, mut small) = (0_usize, 0_usize);
        for _ in 0..300 {
            let waiting = queue.pop().unwrap();
            match waiting.demand.lane {
                1 => large += waiting.demand.bytes,
                _ => small += waiting.demand.bytes,
            }
        }
        assert!(large.abs_diff(small) <= 4 * turn, "{large} and {small}");
        assert!(large > 20 * turn);
    }

    #[test]
    fn what_is_next_stays_next() {
        let turn = LANE_TURN_BYTES;
        let mut queue = queue(&[(1, 5 * turn), (2, 3 * turn), (3, 10)]);
        while let Some(next) = queue.next() {
            assert_eq!(queue.next(), Some(next));
            assert_eq!(queue.pop().unwrap().demand, next);
        }
    }
}
