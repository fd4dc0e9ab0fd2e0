//! The numbers of idempotent producers: identity, epoch, sequence. Arithmetic alone.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a producer. Never given out twice: its upper half is the broker's incarnation,
/// its lower half counts within it. Also what record batches carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// Number `count` of this incarnation; `None` where one of both has no room in an id.
    pub(crate) fn new(incarnation: u64, count: u64) -> Option<Self> {
        let incarnation = i64::from(i32::try_from(incarnation).ok()?);
        let count = i64::from(u32::try_from(count).ok()?);
        Some(Self((incarnation << 32) | count))
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of a producer: a batch of an older one is refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// The next one; `None` after the last that is given to a producer. One more is left, for
    /// the marker that shuts the last one out.
    pub(crate) fn next(self) -> Option<Self> {
        let next = self.fence();
        (next.0 < i16::MAX).then_some(next)
    }

    /// The epoch that shuts this one out.
    pub(crate) fn fence(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a record among those that one producer wrote to one partition, from 0; after
/// 2,147,483,647 comes 0 again.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(i32);

impl Sequence {
    /// `None` for a negative number.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// The sequence `count` records further on.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        let sum = (i64::from(self.0) + i64::from(count)) & i64::from(i32::MAX);
        Self(i32::try_from(sum).expect("it was cut to 31 bits"))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_largest_sequence_comes_zero() {
        let last = Sequence::new(i32::MAX).unwrap();
        assert_eq!(last.plus(1), Sequence(0));
        assert_eq!(last.plus(5), Sequence(4));
        assert_eq!(Sequence(3).plus(0), Sequence(3));
        assert_eq!(Sequence::new(-1), None);
    }

    #[test]
    fn ids_of_two_incarnations_are_never_the_same() {
        let id = |incarnation, count| ProducerId::new(incarnation, count);
        assert!(id(1, u64::from(u32::MAX)) < id(2, 0));
        assert_eq!(id(1, 1 << 32), None);
        assert_eq!(id(1 << 31, 0), None);
    }

    #[test]
    fn the_last_epoch_is_kept_for_the_fence() {
        let last = ProducerEpoch(i16::MAX - 1);
        assert_eq!(ProducerEpoch(i16::MAX - 2).next(), Some(last));
        assert_eq!(last.next(), None);
        assert_eq!(last.fence(), ProducerEpoch(i16::MAX));
    }
}
