//! Who a producer is: ids are given out here.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::error::ProducerError;
use super::ids::{ProducerEpoch, ProducerId};
use crate::broker::Broker;

/// A producer's id and epoch, which its batches carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProducerIdentity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// Gives out ids. They begin with the broker's incarnation, which is durable before anything is
/// served and never comes again: so no id is given out twice, and none needs a write.
#[derive(Debug)]
pub(crate) struct Ids {
    incarnation: u64,
    given: AtomicU64,
}

impl Ids {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            given: AtomicU64::new(0),
        }
    }

    /// The next id; `None` after 2^32 of one incarnation.
    pub(crate) fn next(&self) -> Option<ProducerId> {
        let count = self.given.fetch_add(1, Ordering::Relaxed);
        ProducerId::new(self.incarnation, count)
    }

    /// Whether this id may have been given out, now or by an earlier incarnation.
    pub(crate) fn knows(&self, id: ProducerId) -> bool {
        let begin = ProducerId::new(self.incarnation, 0);
        let end = ProducerId::new(self.incarnation, self.given.load(Ordering::Relaxed));
        let (Some(begin), Some(end)) = (begin, end) else {
            return true;
        };
        // The first incarnation is 1.
        id < end && (id >= begin || id.0 >> 32 >= 1)
    }
}

impl Broker {
    /// A new identity for an idempotent producer. Durable at once, and never given out again,
    /// without a write of its own.
    ///
    /// # Errors
    /// [`ProducerError::TooMany`] after 2^32 ids since the broker was opened.
    pub fn init_producer(&self) -> Result<ProducerIdentity, ProducerError> {
        let id = self.inner.producer_ids.next();
        let id = id.ok_or_else(ProducerError::no_ids)?;
        Ok(ProducerIdentity {
            id,
            epoch: ProducerEpoch::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_were_given_out_are_known() {
        let old = Ids::new(3).next().unwrap();
        let ids = Ids::new(4);
        assert!(ids.knows(old), "by an earlier incarnation");
        let next = ProducerId::new(4, 0).unwrap();
        assert!(!ids.knows(next));
        assert_eq!(ids.next(), Some(next));
        assert!(ids.knows(next));
        for never in [0, -1, 77, i64::MAX] {
            assert!(!ids.knows(ProducerId(never)), "{never}");
        }
    }
}
