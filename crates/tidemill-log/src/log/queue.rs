//! What waits to be sealed, in lanes that take turns: whoever hands in much waits behind itself,
//! not the others behind it.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995): each turn a lane may take
//! [`LANE_TURN_BYTES`], and what it did not use for want of a whole operation it has the next time.
//! Within a lane the order stays what it was.
//!
//! Lanes whose first operation appends records take turns with each other, and so do the rest:
//! where records wait for room the rest goes on. While both go on they get the same bytes.

use std::collections::{HashMap, VecDeque};

use super::entrance::Place;
use crate::limits::LANE_TURN_BYTES;
use crate::machine::Demand;

/// One operation that waits.
#[derive(Debug)]
pub(super) struct Waiting<O, T> {
    pub(super) operation: O,
    pub(super) demand: Demand,
    pub(super) token: T,
    /// The memory that it has.
    pub(super) place: Place,
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
    /// Those with something that waits; each is in one of the rings.
    lanes: HashMap<u64, Lane<O, T>>,
    /// Whose turn it is, and who comes then, of those whose first operation appends records.
    records: VecDeque<u64>,
    /// The same of the rest.
    others: VecDeque<u64>,
    /// Bytes that the rest may take before records have their turn.
    others_credit: usize,
    count: usize,
    bytes: usize,
}

impl<O, T> Queue<O, T> {
    pub(super) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            records: VecDeque::new(),
            others: VecDeque::new(),
            others_credit: 0,
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
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, waiting: Waiting<O, T>) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(waiting.demand.bytes);
        let number = waiting.demand.lane;
        let appends = waiting.demand.appends;
        let lane = self.lanes.entry(number).or_insert_with(|| {
            let ring = if appends {
                &mut self.records
            } else {
                &mut self.others
            };
            ring.push_back(number);
            Lane {
                waiting: VecDeque::new(),
                credit: LANE_TURN_BYTES,
            }
        });
        lane.waiting.push_back(waiting);
    }

    /// A new group begins: records have the first turn, while nothing else takes the group's
    /// room.
    pub(super) fn begin(&mut self) {
        self.others_credit = 0;
    }

    /// Whose turn it is, where `records` may have it too, with all lanes.
    fn turn(&mut self, records: bool) -> (&mut VecDeque<u64>, &mut HashMap<u64, Lane<O, T>>) {
        let others = !self.others.is_empty() && self.others_credit > 0;
        let ring = match records && !self.records.is_empty() && !others {
            true => &mut self.records,
            false => &mut self.others,
        };
        (ring, &mut self.lanes)
    }

    /// What the next one demands; without `records`, the next one that appends none. The same
    /// until [`Queue::pop`], unless more is pushed.
    pub(super) fn next(&mut self, records: bool) -> Option<Demand> {
        let (ring, lanes) = self.turn(records);
        loop {
            let number = *ring.front()?;
            let lane = lanes.get_mut(&number)?;
            let demand = lane.waiting.front()?.demand;
            if ring.len() == 1 || demand.bytes <= lane.credit {
                return Some(demand);
            }
            lane.credit = lane.credit.saturating_add(LANE_TURN_BYTES);
            ring.rotate_left(1);
        }
    }

    /// Takes the next one; see [`Queue::next`].
    pub(super) fn pop(&mut self, records: bool) -> Option<Waiting<O, T>> {
        let appends = self.next(records)?.appends;
        let (ring, lanes) = self.turn(records);
        let number = *ring.front()?;
        let lane = lanes.get_mut(&number)?;
        let waiting = lane.waiting.pop_front()?;
        let bytes = waiting.demand.bytes;
        lane.credit = lane.credit.saturating_sub(bytes);
        let next = lane.waiting.front().map(|next| next.demand.appends);
        if next != Some(appends) {
            ring.pop_front();
            match next {
                Some(true) => self.records.push_back(number),
                Some(false) => self.others.push_back(number),
                None => drop(self.lanes.remove(&number)),
            }
        }
        self.others_credit = match appends {
            true => (self.others_credit + bytes).min(LANE_TURN_BYTES),
            false => self.others_credit.saturating_sub(bytes),
        };
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill_core::budget::Budget;

    use super::super::entrance::Entrance;
    use super::*;

    fn queue(operations: &[(u64, usize)]) -> Queue<usize, ()> {
        let operations = operations
            .iter()
            .map(|(lane, bytes)| (*lane, *bytes, false));
        mixed(operations)
    }

    /// Each a lane, bytes, and whether it appends records.
    fn mixed(operations: impl IntoIterator<Item = (u64, usize, bool)>) -> Queue<usize, ()> {
        let entrance = Entrance::new(&Budget::default());
        let mut queue = Queue::new();
        for (number, (lane, bytes, appends)) in operations.into_iter().enumerate() {
            let demand = Demand {
                bytes,
                lane,
                appends,
                ..Demand::default()
            };
            let place = entrance.enter(&demand, || Duration::ZERO).unwrap();
            queue.push(Waiting {
                operation: number,
                demand,
                token: (),
                place,
            });
        }
        queue
    }

    fn order(mut queue: Queue<usize, ()>) -> Vec<usize> {
        let order =
            std::iter::from_fn(|| queue.pop(true).map(|waiting| waiting.operation)).collect();
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        assert!(queue.is_empty() && queue.lanes.is_empty());
        assert!(queue.records.is_empty() && queue.others.is_empty());
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
            let waiting = queue.pop(true).unwrap();
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
        while let Some(next) = queue.next(true) {
            assert_eq!(queue.next(true), Some(next));
            assert_eq!(queue.pop(true).unwrap().demand, next);
        }
    }

    #[test]
    fn what_appends_nothing_passes_records_that_wait_and_lanes_keep_their_order() {
        let mut queue = mixed([
            (1, 10, true),
            (1, 10, false),
            (2, 10, false),
            (2, 10, true),
            (2, 10, false),
            (3, 10, false),
        ]);
        let without: Vec<_> =
            std::iter::from_fn(|| queue.pop(false).map(|w| w.operation)).collect();
        assert_eq!(without, [2, 5]);
        assert_eq!(queue.next(false), None);
        assert_eq!(order(queue), [0, 1, 3, 4]);
    }

    #[test]
    fn records_and_the_rest_get_the_same_bytes_and_records_begin() {
        let records = (0..1_000).map(|n| (n % 7, 1_000, true));
        let others = (0..10_000).map(|n| (100 + n % 3, 100, false));
        let mut queue = mixed(others.chain(records));
        queue.begin();
        assert!(queue.next(true).unwrap().appends);
        let mut bytes = [0_usize; 2];
        for _ in 0..5_000 {
            let demand = queue.pop(true).unwrap().demand;
            bytes[usize::from(demand.appends)] += demand.bytes;
        }
        assert!(bytes[0].abs_diff(bytes[1]) <= 2_000, "{bytes:?}");
    }
}
