//! How far a group is in a partition: everything before a position is settled, and some ranges
//! above it.
//!
//! Pure and bounded. This room may not know which group or partition it is, what the offsets
//! hold, or how the bytes that it encodes to are stored.

use std::collections::VecDeque;
use std::ops::Range;

use thiserror::Error;

use crate::limits::{CURSOR_RANGES_MAX, CURSOR_WINDOW_MAX};
use crate::position::Offset;
use crate::varint;

/// How much a [`Cursor`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorBounds {
    /// Most settled ranges above the position.
    pub ranges_max: usize,
    /// Farthest distance in offsets of a settled offset above the position.
    pub window_max: u64,
}

impl Default for CursorBounds {
    fn default() -> Self {
        Self {
            ranges_max: CURSOR_RANGES_MAX,
            window_max: CURSOR_WINDOW_MAX,
        }
    }
}

/// Why a cursor cannot hold a settlement. Settling the offset at the position always helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// There are too many settled ranges already.
    #[error(
        "{ranges} settled ranges wait above offset {position}, which is not settled; \
         settle it first"
    )]
    Ranges {
        /// How many there are.
        ranges: usize,
        /// The lowest unsettled offset.
        position: Offset,
    },
    /// The offset is too far above the position.
    #[error(
        "offset {offset} is more than {window} above offset {position}, which is not settled; \
         settle it first"
    )]
    Window {
        /// The offset to be settled.
        offset: Offset,
        /// How far is allowed.
        window: u64,
        /// The lowest unsettled offset.
        position: Offset,
    },
}

/// Bytes that are not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes of a cursor are damaged: {0}")]
pub struct InvalidCursor(&'static str);

/// A group's position in a partition and the settled ranges above it.
///
/// The ranges ascend, do not touch each other and begin above the position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    epoch: u64,
    position: u64,
    above: VecDeque<Range<u64>>,
}

/// A settlement that a cursor can hold.
struct Plan {
    /// What is to be settled.
    range: Range<u64>,
    /// The ranges, by their places, that it touches or overlaps.
    touched: Range<usize>,
}

impl Cursor {
    /// Everything before `position` is settled, nothing else; it was never sought.
    #[must_use]
    pub fn at(position: Offset) -> Self {
        Self {
            epoch: 0,
            position: position.0,
            above: VecDeque::new(),
        }
    }

    /// How many times it was sought. What was begun in an earlier epoch says nothing about the
    /// offsets of this one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The lowest offset that is not settled.
    #[must_use]
    pub fn position(&self) -> Offset {
        Offset(self.position)
    }

    /// How many separate settled ranges there are above the position.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.above.len()
    }

    /// The settled ranges above the position, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = Range<Offset>> + '_ {
        let offsets = |range: &Range<u64>| Offset(range.start)..Offset(range.end);
        self.above.iter().map(offsets)
    }

    /// How many offsets above the position are settled.
    #[must_use]
    pub fn settled_above(&self) -> u64 {
        self.above.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether `offset` is settled.
    #[must_use]
    pub fn is_settled(&self, offset: Offset) -> bool {
        offset.0 < self.position || self.range_of(offset.0).is_some()
    }

    /// The lowest unsettled offset that is not before `from`.
    #[must_use]
    pub fn next_unsettled(&self, from: Offset) -> Offset {
        if from.0 < self.position {
            return self.position();
        }
        Offset(self.range_of(from.0).map_or(from.0, |range| range.end))
    }

    /// Settles the offsets of `range`; those that are settled already stay so. Answers whether
    /// anything changed.
    ///
    /// # Errors
    /// [`Full`] where `bounds` would be passed; nothing changed then. Never for a range that
    /// begins at the position or before it.
    pub fn settle(&mut self, range: Range<Offset>, bounds: CursorBounds) -> Result<bool, Full> {
        let Some(plan) = self.plan(range, bounds)? else {
            return Ok(false);
        };
        self.merge(plan.range, plan.touched);
        Ok(true)
    }

    /// What [`Cursor::settle`] would answer; changes nothing.
    ///
    /// # Errors
    /// As [`Cursor::settle`].
    pub fn check(&self, range: Range<Offset>, bounds: CursorBounds) -> Result<bool, Full> {
        Ok(self.plan(range, bounds)?.is_some())
    }

    /// What of `range` is to be settled, and which ranges it touches or overlaps.
    fn plan(&self, range: Range<Offset>, bounds: CursorBounds) -> Result<Option<Plan>, Full> {
        let start = range.start.0.max(self.position);
        let end = range.end.0;
        if start >= end {
            return Ok(None);
        }
        let first = self.above.partition_point(|have| have.end < start);
        let last = self.above.partition_point(|have| have.start <= end);
        if start > self.position {
            let holds = |have: &Range<u64>| have.start <= start && end <= have.end;
            if self.above.get(first).is_some_and(holds) {
                return Ok(None);
            }
            if end - self.position > bounds.window_max {
                return Err(Full::Window {
                    offset: Offset(end - 1),
                    window: bounds.window_max,
                    position: self.position(),
                });
            }
            if first == last && self.above.len() >= bounds.ranges_max {
                return Err(Full::Ranges {
                    ranges: self.above.len(),
                    position: self.position(),
                });
            }
        }
        Ok(Some(Plan {
            range: start..end,
            touched: first..last,
        }))
    }

    /// Puts `range` in the place of the `touched` ones, which it is joined with.
    fn merge(&mut self, range: Range<u64>, touched: Range<usize>) {
        let lowest = self
            .above
            .get(touched.start)
            .filter(|_| !touched.is_empty());
        let start = lowest.map_or(range.start, |have| have.start.min(range.start));
        let highest = touched.end.checked_sub(1).and_then(|at| self.above.get(at));
        let highest = highest.filter(|_| !touched.is_empty());
        let end = highest.map_or(range.end, |have| have.end.max(range.end));
        if start <= self.position {
            // Nothing lies between the position and a range that reaches down to it.
            self.above.drain(..touched.end);
            self.position = end;
        } else if let (Some(have), 1) = (self.above.get_mut(touched.start), touched.len()) {
            *have = start..end;
        } else {
            self.above.drain(touched.clone());
            self.above.insert(touched.start, start..end);
        }
    }

    /// Everything before `position` is settled, nothing else, forward or back; the next epoch
    /// begins.
    pub fn seek(&mut self, position: Offset) {
        *self = Self {
            epoch: self.epoch.saturating_add(1),
            ..Self::at(position)
        };
    }

    /// Roughly how many bytes this needs in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.above.len() * size_of::<Range<u64>>()
    }

    /// Appends the cursor's bytes to `out`: epoch, position, number of ranges, then for each its
    /// distance from the end of the one before (from the position for the first) and its
    /// length, all as unsigned LEB128 varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.epoch);
        varint::put(out, self.position);
        varint::put(out, self.above.len() as u64);
        let mut before = self.position;
        for range in &self.above {
            varint::put(out, range.start - before);
            varint::put(out, range.end - range.start);
            before = range.end;
        }
    }

    /// Takes a cursor from the front of `bytes` and answers it with the bytes that follow.
    ///
    /// # Errors
    /// [`InvalidCursor`] where the bytes end too early or their ranges overlap.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), InvalidCursor> {
        const SHORT: InvalidCursor = InvalidCursor("a number does not end");
        let (epoch, bytes) = varint::take(bytes).ok_or(SHORT)?;
        let (position, bytes) = varint::take(bytes).ok_or(SHORT)?;
        let (count, mut bytes) = varint::take(bytes).ok_or(SHORT)?;
        let mut above = VecDeque::new();
        let mut before = position;
        for _ in 0..count {
            let (gap, rest) = varint::take(bytes).ok_or(SHORT)?;
            let (length, rest) = varint::take(rest).ok_or(SHORT)?;
            bytes = rest;
            if gap == 0 || length == 0 {
                return Err(InvalidCursor("a range is empty or touches another"));
            }
            let start = before.checked_add(gap);
            let end = start.and_then(|start| start.checked_add(length));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(InvalidCursor("a range is past the largest offset"));
            };
            above.push_back(start..end);
            before = end;
        }
        let cursor = Self {
            epoch,
            position,
            above,
        };
        Ok((cursor, bytes))
    }

    fn range_of(&self, offset: u64) -> Option<&Range<u64>> {
        let at = self.above.partition_point(|have| have.end <= offset);
        self.above.get(at).filter(|have| have.start <= offset)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn settle(cursor: &mut Cursor, range: Range<u64>) -> Result<bool, Full> {
        let bounds = CursorBounds {
            ranges_max: 4,
            window_max: 40,
        };
        cursor.settle(Offset(range.start)..Offset(range.end), bounds)
    }

    #[test]
    fn the_position_follows_when_the_gap_closes() {
        let mut cursor = Cursor::at(Offset(5));
        assert_eq!(settle(&mut cursor, 7..8), Ok(true));
        assert_eq!(settle(&mut cursor, 6..7), Ok(true));
        assert_eq!(cursor.ranges().collect::<Vec<_>>(), [Offset(6)..Offset(8)]);
        assert_eq!(cursor.position(), Offset(5));
        assert_eq!(settle(&mut cursor, 5..6), Ok(true));
        assert_eq!((cursor.position(), cursor.range_count()), (Offset(8), 0));
    }

    #[test]
    fn a_full_cursor_says_why_and_takes_the_lowest_offset() {
        let mut cursor = Cursor::at(Offset(0));
        for offset in [1, 3, 5, 7] {
            assert_eq!(settle(&mut cursor, offset..offset + 1), Ok(true));
        }
        let full = settle(&mut cursor, 9..10).unwrap_err();
        assert_eq!(
            full.to_string(),
            "4 settled ranges wait above offset 0, which is not settled; settle it first"
        );
        assert!(matches!(
            settle(&mut cursor, 40..41),
            Err(Full::Window { .. })
        ));
        assert_eq!(settle(&mut cursor, 2..3), Ok(true), "it joins two ranges");
        assert_eq!(settle(&mut cursor, 0..1), Ok(true));
        assert_eq!(cursor.position(), Offset(4));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut bytes = Vec::new();
        let mut cursor = Cursor::at(Offset(300));
        settle(&mut cursor, 302..310).unwrap();
        cursor.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Cursor::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(
            Cursor::decode(&[0, 0, 1, 0, 1]).is_err(),
            "a range that touches the position"
        );
        assert!(Cursor::decode(&[0, 0, 1, 2, 0]).is_err(), "an empty range");
    }

    #[test]
    fn each_seek_begins_an_epoch_that_comes_back() {
        let mut cursor = Cursor::at(Offset(3));
        settle(&mut cursor, 3..9).unwrap();
        assert_eq!(cursor.epoch(), 0);
        for epoch in 1..=300 {
            cursor.seek(Offset(3));
            assert_eq!((cursor.epoch(), cursor.position()), (epoch, Offset(3)));
        }
        settle(&mut cursor, 5..6).unwrap();
        let mut bytes = Vec::new();
        cursor.encode(&mut bytes);
        let (again, _) = Cursor::decode(&bytes).unwrap();
        assert_eq!((again.epoch(), again), (300, cursor));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Settle(u64, u64),
        Seek(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => (0u64..60, 0u64..6).prop_map(|(start, len)| Step::Settle(start, len)),
            1 => (0u64..60).prop_map(Step::Seek),
        ]
    }

    fn groups_above(model: &BTreeSet<u64>, position: u64) -> usize {
        let starts = |o: &&u64| **o > position && !model.contains(&(**o - 1));
        model.iter().filter(starts).count()
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_offsets(steps in prop::collection::vec(step(), 0..80)) {
            let mut cursor = Cursor::default();
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Seek(to) => {
                        cursor.seek(Offset(to));
                        model = (0..to).collect();
                    }
                    Step::Settle(start, len) => {
                        let before = (cursor.clone(), model.clone());
                        let position = before.0.position().0;
                        model.extend(start..start + len);
                        match settle(&mut cursor, start..start + len) {
                            Ok(changed) => prop_assert_eq!(changed, model != before.1),
                            Err(Full::Ranges { .. }) => {
                                prop_assert!(groups_above(&model, position) > 4);
                                (cursor, model) = before;
                            }
                            Err(Full::Window { .. }) => {
                                prop_assert!(start + len - position > 40);
                                (cursor, model) = before;
                            }
                        }
                    }
                }
                let position = cursor.position().0;
                prop_assert!(cursor.range_count() <= 4);
                prop_assert_eq!(cursor.range_count(), groups_above(&model, position));
                for offset in 0..80 {
                    let settled = model.contains(&offset);
                    prop_assert_eq!(cursor.is_settled(Offset(offset)), settled, "{}", offset);
                    let next = (offset..).find(|o| !model.contains(o)).unwrap();
                    prop_assert_eq!(cursor.next_unsettled(Offset(offset)), Offset(next));
                }
                let mut bytes = Vec::new();
                cursor.encode(&mut bytes);
                bytes.push(9);
                prop_assert_eq!(Cursor::decode(&bytes), Ok((cursor.clone(), &[9u8][..])));
            }
        }
    }
}
