//! Positions of groups of Kafka's clients, classic and consumer ones, that had no members, and no
//! commits, for so long that they are not kept any longer. Time counts from the opening of the
//! broker at the earliest: who comes back after a restart finds its positions.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tidemill_core::GroupName;

use super::Classics;
use super::types::{ClassicError, ClassicState};
use crate::broker::Inner;
use crate::limits::COMMITS_RETENTION_LOOK_EVERY;
use crate::machine::{GroupKind, Operation, Positions};

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
    /// `expire`, with all groups locked: what is committed by whoever comes back comes later. They
    /// take no members from then on; one of the same name is another one.
    fn take_unused(&self, inner: &Inner, now: Duration, mut expire: impl FnMut(GroupName)) {
        let keep = inner.settings.commits_retention;
        let state = inner.durable.state();
        let expires = |id| {
            let kind = state.group(id).map(|group| group.kind);
            matches!(kind, Some(GroupKind::Classic | GroupKind::Consumer))
        };
        let names = state.group_names().filter(|(_, id)| expires(*id));
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        drop(state);
        let mut groups = self.groups();
        for name in names {
            let live = groups.get(&name);
            let used = live.map_or(Duration::ZERO, |live| live.locked().used);
            let used = used.max(inner.consumers.used(&name));
            if now.saturating_sub(used) < keep || self.kinds.of(&name).is_some() {
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
            expire(name);
        }
    }
}

/// Deletes what is not kept any longer; false where the broker is gone.
fn look(inner: &Weak<Inner>) -> bool {
    let Some(inner) = inner.upgrade() else {
        return false;
    };
    if inner.closed.load(Ordering::Acquire) {
        return false;
    }
    inner.classics.take_unused(&inner, inner.now(), |group| {
        tracing::info!(group = %group, "forgot positions of a group that nobody used for long");
        let ask = Positions::Expire;
        // Where this is not kept, it is found again.
        inner
            .handle
            .submit(Operation::Positions { group, ask }, |_| {});
    });
    true
}

#[cfg(test)]
mod tests {
    use super::super::ClassicCaller;
    use crate::broker::Broker;

    use super::*;

    #[tokio::test]
    async fn nobody_comes_back_between_the_look_and_the_expiry() {
        let broker = Broker::in_memory();
        let groups = broker.classic_groups();
        let name = GroupName::new("g").unwrap();
        let caller = ClassicCaller {
            generation: -1,
            ..ClassicCaller::default()
        };
        groups.commit(&name, &caller, Vec::new()).await.unwrap();
        let inner = &broker.inner;
        let later = inner.now() + inner.settings.commits_retention + Duration::from_secs(1);
        let mut taken = Vec::new();
        inner.classics.take_unused(inner, later, |group| {
            // Who joins or commits now waits until it is handed in.
            assert!(inner.classics.groups.try_lock().is_err());
            taken.push(group);
        });
        assert_eq!(taken, [name]);
        assert!(inner.classics.groups.try_lock().is_ok());
    }
}
