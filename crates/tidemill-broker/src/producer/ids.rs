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
}
