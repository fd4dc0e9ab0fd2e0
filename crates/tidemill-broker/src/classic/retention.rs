//! Positions of groups of Kafka's clients, classic and consumer ones, that had no members, and no
//! commits, for so long that they are not kept any longer. Time counts from the opening of the
//! broker at the earliest: who comes back after a restart finds its positions.
//!
//! Whether a group is used is looked at here; that nothing was committed since, and no open
//! transaction holds a position for it, the machine decides, in the order of the log.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidemill_core::cursor::Cursor;
use tidemill_log::{CommitError, PartitionId};

use super::Classics;
use super::types::{ClassicError, ClassicState};
use crate::broker::Inner;
use crate::limits::COMMITS_RETENTION_LOOK_EVERY;
use crate::machine::{GroupId, GroupKind, GroupState, Operation, Positions, Receipt, Refusal};

impl Classics {
    /// Has a task look after the positions, if none does yet.
    pub(crate) fn look_after_positions(&self, inner: &Arc<Inner>) {
        if self.retained.swap(true, Ordering::Relaxed) {
            return;
        }
        let every = COMMITS_RETENTION_LOOK_EVERY.min(inner.settings.commits_retention);
        let inner = Arc::downgrade(inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                if !look(&inner) {
                    return;
                }
            }
        });
    }

    /// Hands groups that nobody uses any longer at `now`, time since the broker was opened, to
    /// `expire`, as they are seen, with the groups of both kinds locked. They take no members from
    /// then on; one of the same name is another one.
    pub(super) fn take_unused(
        &self,
        inner: &Inner,
        now: Duration,
        mut expire: impl FnMut(Arc<GroupState>),
    ) {
        let keep = inner.settings.commits_retention;
        let state = inner.durable.state();
        let seen = state.group_names().filter_map(|(_, id)| {
            let group = state.group(id)?;
            let expires = matches!(group.kind, GroupKind::Classic | GroupKind::Consumer);
            let seen = expires.then(|| state.group_now(id)).flatten();
            seen.map(|seen| (id, seen))
        });
        let seen: Vec<_> = seen.collect();
        drop(state);
        let ended = {
            let mut ended = self.ended();
            ended.retain(|_, at| now.saturating_sub(*at) < keep);
            ended.clone()
        };
        let mut groups = self.groups();
        let mut consumers = inner.consumers.groups();
        for (id, seen) in seen {
            let name = seen.name.clone();
            let live = groups.get(&name);
            let used = live.map_or(Duration::ZERO, |live| live.locked().used);
            let of_consumers = consumers.get(&name).map(|live| live.used());
            let used = used.max(of_consumers.unwrap_or_default());
            let in_use = now.saturating_sub(used) < keep || ended.contains_key(&id);
            if in_use || self.kinds.of(&name).is_some() {
                continue;
            }
            if let Some(live) = groups.remove(&name) {
                let empty = live.locked().coordinator.state() == ClassicState::Empty;
                match empty {
                    true => live.end(&ClassicError::Unavailable),
                    false => {
                        groups.insert(name, live);
                        continue;
                    }
                }
            }
            if let Some(live) = consumers.remove(&name) {
                live.end();
            }
            expire(seen);
        }
    }

    /// Positions of these groups were set at `now` by the end of a transaction, with which no
    /// member may have to do.
    pub(crate) fn set_by_transaction(
        &self,
        now: Duration,
        moved: &[(GroupId, PartitionId, Cursor)],
    ) {
        if !moved.is_empty() {
            let ids = moved.iter().map(|(id, ..)| (*id, now));
            self.ended().extend(ids);
        }
    }

    pub(super) fn ended(&self) -> MutexGuard<'_, HashMap<GroupId, Duration>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the log forget a group that was seen so.
pub(super) fn expire(inner: &Arc<Inner>, seen: Arc<GroupState>) {
    let group = seen.name.clone();
    let ask = Positions::Expire(seen);
    let (then, name) = (Arc::clone(inner), group.clone());
    let forgotten = move |answer: Result<Receipt, CommitError<Refusal>>| {
        // Where this is not kept, it is found again.
        if answer.is_err() {
            return;
        }
        tracing::info!(group = %name, "forgot positions of a group that nobody used for long");
        // Whoever joined meanwhile took it for one that the log has.
        if let Some(kind @ (GroupKind::Classic | GroupKind::Consumer)) =
            then.classics.kinds.of(&name)
        {
            let ask = Positions::Commit(kind, Vec::new());
            let again = Operation::Positions { group: name, ask };
            then.handle.submit(again, |_| {});
        }
    };
    let operation = Operation::Positions { group, ask };
    inner.handle.submit(operation, forgotten);
}

/// Deletes what is not kept any longer; false where the broker is gone.
fn look(inner: &Weak<Inner>) -> bool {
    let Some(inner) = inner.upgrade() else {
        return false;
    };
    if inner.closed.load(Ordering::Acquire) {
        return false;
    }
    let now = inner.now();
    let take = |seen| expire(&inner, seen);
    inner.classics.take_unused(&inner, now, take);
    true
}
