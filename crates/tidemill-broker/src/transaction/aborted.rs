//! The transactions of one partition that were aborted, as long as their records are kept. A
//! clone is quick, and stays what it is while the original goes on. Pure.

use std::sync::Arc;

use serde::Serialize;
use tidemill_core::Offset;

use crate::producer::ProducerId;

/// Transactions that are copied when another one comes.
const CHUNK: usize = 256;

/// A transaction that was aborted: the records of this producer from `first` until `last` do
/// not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AbortedRange {
    /// Whose records.
    pub producer: ProducerId,
    /// The transaction's first offset.
    pub first: Offset,
    /// The offset of its control record.
    pub last: Offset,
    /// Where what was decided ended when it was aborted: no transaction that ended later begins
    /// before.
    pub stable: Offset,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aborted {
    /// In chunks, by ascending `last`.
    chunks: Vec<Arc<Vec<AbortedRange>>>,
    count: usize,
    /// What ended below this offset was forgotten.
    from: Offset,
}

impl Aborted {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// What ended below this offset was forgotten: nothing below may be read any longer.
    pub(crate) fn from(&self) -> Offset {
        self.from
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &AbortedRange> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// All of them, by value.
    pub(crate) fn into_ranges(self) -> impl Iterator<Item = AbortedRange> {
        self.chunks.into_iter().flat_map(Arc::unwrap_or_clone)
    }

    /// Another one, that ends behind all others.
    pub(crate) fn push(&mut self, range: AbortedRange) {
        self.count += 1;
        match self.chunks.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => Arc::make_mut(last).push(range),
            None => self.chunks.push(Arc::new(vec![range])),
        }
    }

    /// Forgets what ended below the first offset that is kept. Answers whether there was any.
    pub(crate) fn forget(&mut self, below: Offset) -> bool {
        let gone = |range: &AbortedRange| range.last < below;
        let oldest = self.chunks.first().and_then(|chunk| chunk.first());
        if !oldest.is_some_and(gone) {
            return false;
        }
        self.from = self.from.max(below);
        self.chunks.retain(|chunk| !chunk.last().is_some_and(gone));
        if let Some(first) = self.chunks.first_mut()
            && first.first().is_some_and(gone)
        {
            Arc::make_mut(first).retain(|range| !gone(range));
        }
        self.count = self.chunks.iter().map(|chunk| chunk.len()).sum();
        true
    }

    /// Those that have something in `from..until`.
    pub(crate) fn within(&self, from: Offset, until: Offset) -> Vec<AbortedRange> {
        let before = |chunk: &Arc<Vec<AbortedRange>>| chunk.last().is_some_and(|r| r.last < from);
        let begin = self.chunks.partition_point(before);
        let mut found = Vec::new();
        for range in self
            .chunks
            .iter()
            .skip(begin)
            .flat_map(|chunk| chunk.iter())
        {
            if range.last >= from && range.first < until {
                found.push(*range);
            }
            if range.stable >= until {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, last: u64, stable: u64) -> AbortedRange {
        AbortedRange {
            producer: ProducerId(1),
            first: Offset(first),
            last: Offset(last),
            stable: Offset(stable),
        }
    }

    #[test]
    fn what_lies_below_the_kept_offsets_is_forgotten_and_nothing_else() {
        let mut aborted = Aborted::default();
        for n in 0..1_000 {
            aborted.push(range(n * 10, n * 10 + 5, n * 10 + 6));
        }
        let before = aborted.clone();
        for below in [5_003, 5_005, 5_006, 9_999, 20_000] {
            let forgot = aborted.forget(Offset(below));
            let kept: Vec<_> = before.iter().filter(|r| r.last.0 >= below).collect();
            assert_eq!(aborted.iter().collect::<Vec<_>>(), kept, "{below}");
            assert_eq!(aborted.len(), kept.len());
            assert_eq!(aborted.from() == Offset(below), forgot);
            assert!(!aborted.forget(Offset(below)), "nothing more");
        }
        assert_eq!(before.len(), 1_000, "a clone stays what it was");
    }

    proptest! {
        /// Transactions begin and are aborted in any order; asked for any part, the answer is
        /// that of a look at all of them.
        #[test]
        fn any_part_finds_what_a_look_at_all_finds(
            steps in prop::collection::vec((any::<bool>(), 0..8usize), 1..900),
            parts in prop::collection::vec((0..900u64, 0..300u64), 1..20),
        ) {
            let (mut open, mut aborted) = (Vec::<u64>::new(), Aborted::default());
            for (end, (begin, which)) in steps.into_iter().enumerate() {
                if begin || open.is_empty() {
                    open.push(end as u64);
                    continue;
                }
                let first = open.remove(which % open.len());
                let last = end as u64;
                let stable = open.first().copied().unwrap_or(last + 1);
                aborted.push(range(first, last, stable));
            }
            for (from, length) in parts {
                let (from, until) = (Offset(from), Offset(from + length));
                let inside = |r: &&AbortedRange| r.last >= from && r.first < until;
                let all: Vec<_> = aborted.iter().filter(inside).copied().collect();
                prop_assert_eq!(aborted.within(from, until), all);
            }
        }
    }
}
