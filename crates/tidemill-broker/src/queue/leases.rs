//! Which messages are whose, and until when. Pure: it may not know what a message is, who holds
//! it, or the time but as an argument.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// The right to one message until a time: what `ack` and `give back` name. It is never the same
/// again, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// Of this opening of the broker.
    pub(super) opening: u64,
    /// Which lease of it.
    pub(super) number: u64,
}

/// A text that is no lease.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no lease; give one as a dequeue answered it")]
pub struct InvalidLease(String);

/// Hexadecimal digits of the opening.
const OPENING_DIGITS: usize = 16;

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:x}", self.opening, self.number)
    }
}

impl FromStr for LeaseId {
    type Err = InvalidLease;

    fn from_str(text: &str) -> Result<Self, InvalidLease> {
        let invalid = || InvalidLease(text.chars().take(64).collect());
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !plain {
            return Err(invalid());
        }
        let (opening, number) = text.split_at_checked(OPENING_DIGITS).ok_or_else(invalid)?;
        let parse = |digits| u64::from_str_radix(digits, 16).map_err(|_| invalid());
        Ok(Self {
            opening: parse(opening)?,
            number: parse(number)?,
        })
    }
}

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// One message that somebody has.
#[derive(Clone, Debug)]
pub(super) struct Lease<H> {
    /// Until when; on the broker's own clock.
    pub(super) ends: Duration,
    /// How many times the message was given out, this one included.
    pub(super) deliveries: u32,
    pub(super) held: H,
}

/// The leases of one queue.
#[derive(Debug)]
pub(super) struct Leases<H> {
    by_id: HashMap<LeaseId, Lease<H>>,
    /// Which ends when.
    ends: BTreeSet<(Duration, LeaseId)>,
}

impl<H> Default for Leases<H> {
    fn default() -> Self {
        Self {
            by_id: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }
}

impl<H> Leases<H> {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn insert(&mut self, id: LeaseId, lease: Lease<H>) {
        self.ends.insert((lease.ends, id));
        self.by_id.insert(id, lease);
    }

    fn remove(&mut self, id: LeaseId) -> Option<Lease<H>> {
        let lease = self.by_id.remove(&id)?;
        self.ends.remove(&(lease.ends, id));
        Some(lease)
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    /// Takes out those that are over.
    pub(super) fn over(&mut self, now: Duration) -> Vec<Lease<H>> {
        let mut over = Vec::new();
        while let Some((ends, id)) = self.ends.first().copied()
            && ends <= now
        {
            over.extend(self.remove(id));
        }
        over
    }

    /// Takes out all of these, or nothing.
    ///
    /// # Errors
    /// Those that are not there, or over.
    pub(super) fn take(
        &mut self,
        ids: &[LeaseId],
        now: Duration,
    ) -> Result<Vec<(LeaseId, Lease<H>)>, Vec<LeaseId>> {
        let is_good = |id: &LeaseId| self.by_id.get(id).is_some_and(|lease| now < lease.ends);
        let stale: Vec<LeaseId> = ids.iter().copied().filter(|id| !is_good(id)).collect();
        if !stale.is_empty() {
            return Err(stale);
        }
        let taken = ids.iter().filter_map(|id| Some((*id, self.remove(*id)?)));
        Ok(taken.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> LeaseId {
        LeaseId { opening: 7, number }
    }

    fn leases(ends_ms: &[u64]) -> Leases<u64> {
        let mut leases = Leases::default();
        for (number, ms) in (0..).zip(ends_ms) {
            let lease = Lease {
                ends: Duration::from_millis(*ms),
                deliveries: 1,
                held: number,
            };
            leases.insert(id(number), lease);
        }
        leases
    }

    #[test]
    fn a_lease_is_its_text_and_nothing_else_is_one() {
        for number in [0, 1, 0xabc, u64::MAX] {
            let id = LeaseId {
                opening: number.rotate_left(9),
                number,
            };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "0",
            "0000000000000007",
            "+000000000000007a",
            "00000000000000071123456789abcdef0",
            "G",
        ] {
            let refused = text.parse::<LeaseId>();
            assert!(refused.is_err(), "{text}");
        }
    }

    #[test]
    fn leases_end_in_the_order_of_their_time() {
        let mut leases = leases(&[30, 10, 20, 10]);
        assert_eq!(leases.next_end(), Some(Duration::from_millis(10)));
        let over = leases.over(Duration::from_millis(20));
        let held: Vec<u64> = over.iter().map(|lease| lease.held).collect();
        assert_eq!(held, [1, 3, 2]);
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn all_or_none_are_taken() {
        let mut leases = leases(&[30, 10, 20]);
        let now = Duration::from_millis(10);
        let ids = [id(0), id(1), id(5)];
        assert_eq!(leases.take(&ids, now).unwrap_err(), [id(1), id(5)]);
        assert_eq!(leases.len(), 3, "also those that are over stay");
        let taken = leases.take(&[id(2), id(0)], now).unwrap();
        assert_eq!(taken.len(), 2);
        assert!(leases.take(&[id(0)], now).is_err());
    }
}
