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
use super::settler::Settler;
use super::work::Taken;
use crate::broker::Inner;
use crate::classic::KindHold;
use crate::handlers::Registered;
use crate::limits::PULL_MAX_EVENTS;
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
            loop {
                if self.inner.closed.load(Ordering::Acquire) {
                    return Err(Unavailable::Closed.into());
                }
                // Nothing is awaited between the look and the return: dropped while it waits,
                // this has taken nothing.
                match self.group.take(&self.inner, self.id, credit) {
                    Taken::Given(given) => return Ok(self.hand_out(given)),
                    Taken::Gone => return Err(PullError::Gone),
                    Taken::Nothing { due: None } => self.notify.notified().await,
                    Taken::Nothing { due: Some(due) } => {
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
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave(&self.inner, self.id);
    }
}
