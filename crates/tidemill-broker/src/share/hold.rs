//! What was given out and is on its way to its member.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::live::Live;
use super::settle::Place;
use super::types::ShareAcquired;
use crate::broker::Inner;
use crate::metrics::add;

/// Keeps records for the member that they were given to, while their answer is on its way. Dropped
/// without [`ShareHold::sent`], the member never heard of them: they come to others at once, and
/// do not count as given out.
#[derive(Debug, Default)]
pub struct ShareHold(Option<Out>);

#[derive(Debug)]
struct Out {
    inner: Arc<Inner>,
    live: Arc<Live>,
    place: Place,
    member: ByteString,
    /// Until when the member has them.
    until: Duration,
    acquired: Vec<ShareAcquired>,
}

impl ShareHold {
    /// Of what a member was given of a partition until then; none where that is nothing.
    pub(super) fn of(
        (inner, live): (&Arc<Inner>, &Arc<Live>),
        place: Place,
        (member, until): (&ByteString, Duration),
        acquired: &[ShareAcquired],
    ) -> Self {
        let out = || Out {
            inner: Arc::clone(inner),
            live: Arc::clone(live),
            place,
            member: member.clone(),
            until,
            acquired: acquired.to_vec(),
        };
        Self((!acquired.is_empty()).then(out))
    }

    /// The records were sent to the member, which has them from now on.
    pub fn sent(mut self) {
        let Some(out) = self.0.take() else {
            return;
        };
        let counters = &out.inner.counters;
        for of in &out.acquired {
            let count = (of.last.0 - of.first.0 + 1) as usize;
            add(&counters.delivered, count);
            if of.deliveries > 1 {
                add(&counters.redelivered, count);
            }
        }
    }
}

impl Drop for ShareHold {
    fn drop(&mut self) {
        if let Some(out) = self.0.take() {
            let whose = (&out.member, out.until);
            out.live
                .not_sent(&out.inner, out.place, whose, &out.acquired);
        }
    }
}
