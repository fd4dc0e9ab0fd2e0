//! One member of a group, as core's trait has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidemill_core::delivery::{Settle, Settlement};
use tidemill_core::error::Unavailable;
use tidemill_core::slots::MemberId;
use tidemill_core::{
    BoxFuture, Catalogue, CatalogueError, Delivery, GroupMember, PullError, Ticket,
};
use tokio::sync::Notify;

use super::Group;
use super::guarded::{Marking, give_up};
use super::settler::Settler;
use super::suspects::Guard;
use super::work::Taken;
use crate::broker::Inner;
use crate::classic::KindHold;
use crate::handlers::Registered;
use crate::limits::PULL_MAX_EVENTS;
use crate::machine::Marked;
use crate::metrics::add;

/// A member; dropping it leaves the group.
pub(crate) struct Member {
    inner: Arc<Inner>,
    group: Arc<Group>,
    id: MemberId,
    notify: Arc<Notify>,
    settler: Arc<dyn Settle>,
    /// Dropped after it has left.
    _hold: KindHold,
    /// What it says it handles.
    described: Option<Registered>,
    /// What it gives is handled in this process, which died before this life.
    guarded: bool,
    /// What it was given and is being marked, or was and did not fit into a pull.
    marking: Option<Marking>,
}

impl Member {
    pub(crate) fn new(
        inner: Arc<Inner>,
        group: Arc<Group>,
        id: MemberId,
        notify: Arc<Notify>,
        hold: KindHold,
    ) -> Self {
        let settler = Settler::new(Arc::clone(&inner), Arc::clone(&group));
        Self {
            inner,
            group,
            id,
            notify,
            settler: Arc::new(settler),
            _hold: hold,
            described: None,
            guarded: false,
            marking: None,
        }
    }

    fn hand_out(&self, given: Vec<(Delivery, Ticket)>) -> Vec<(Delivery, Settlement)> {
        let counters = &self.inner.counters;
        add(&counters.delivered, given.len());
        let again = given.iter().filter(|(delivery, _)| delivery.attempt.0 > 1);
        add(&counters.redelivered, again.count());
        let settlement = |ticket| Settlement::new(Arc::clone(&self.settler), ticket);
        let given = given.into_iter();
        given
            .map(|(delivery, ticket)| (delivery, settlement(ticket)))
            .collect()
    }
}

impl GroupMember for Member {
    fn pull(
        &mut self,
        credit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Delivery, Settlement)>, PullError>> {
        Box::pin(async move {
            let credit = credit.min(PULL_MAX_EVENTS);
            if credit == 0 {
                return Ok(Vec::new());
            }
            let crashes_max = self.inner.settings.crashes_max;
            loop {
                if self.inner.closed.load(Ordering::Acquire) {
                    return Err(Unavailable::Closed.into());
                }
                if let Some(marking) = &mut self.marking {
                    // What was taken stays with the member while this waits, also for a pull after
                    // this one, which may want less.
                    marking.kept().await;
                    let (given, rest) = marking.take(credit);
                    if !rest {
                        self.marking = None;
                    }
                    return Ok(given);
                }
                // Nothing is awaited between the look and the return: dropped while it waits,
                // this has taken nothing.
                let mut guard = self.guarded.then(|| Guard::new(crashes_max));
                let taken = self
                    .group
                    .take(&self.inner, self.id, credit, guard.as_mut());
                let marks = guard.map_or_else(Vec::new, |guard| self.heed(guard));
                match taken {
                    Taken::Given(given) => {
                        let given = self.hand_out(given);
                        if marks.is_empty() {
                            return Ok(given);
                        }
                        self.marking = Some(Marking::begin(&self.inner, &self.group, marks, given));
                    }
                    Taken::Gone => return Err(PullError::Gone),
                    Taken::Nothing { due: None, .. } => self.notify.notified().await,
                    Taken::Nothing { due: Some(due), .. } => {
                        let wait = due.saturating_sub(self.inner.now());
                        // Either way there is something to look at.
                        let _ = tokio::time::timeout(wait, self.notify.notified()).await;
                    }
                }
            }
        })
    }

    fn describe(&mut self, catalogue: Arc<Catalogue>) -> Result<(), CatalogueError> {
        // What was said before makes room first.
        self.described = None;
        let (group, registry) = (self.group.name.clone(), &self.inner.handlers);
        self.described = Some(registry.add(group, self.id.0, catalogue)?);
        Ok(())
    }

    fn handled_here(&mut self) {
        self.inner.handle.handling();
        if self.inner.handle.after_bad_end() && self.inner.settings.crashes_max > 0 {
            self.group.watch(&self.inner);
            self.guarded = true;
        }
    }
}

impl Member {
    /// Has those given up that are not to be handled any more; answers what is to be marked.
    fn heed(&self, guard: Guard) -> Vec<Marked> {
        for (ticket, failure) in guard.over {
            let (inner, group) = (Arc::clone(&self.inner), Arc::clone(&self.group));
            let settler = Arc::clone(&self.settler);
            tokio::spawn(give_up(inner, group, settler, ticket, failure));
        }
        guard.marks
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave(&self.inner, self.id);
    }
}
