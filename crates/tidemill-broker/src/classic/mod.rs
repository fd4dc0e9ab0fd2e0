//! Classic consumer groups, as Apache Kafka's clients make them: the members share the
//! partitions among themselves, and commit offsets.
//!
//! ```text
//! types.rs      what is asked and answered
//! state.rs      the coordinator of one group, pure: heartbeats, parts, who may commit
//! rebalance.rs  ... who joins and leaves, and how the next generation comes about
//! live.rs       a coordinator with those who wait, and the time
//! kinds.rs      of which kind the members of each group are
//! offsets.rs    positions, and what clients keep beside them
//! retention.rs  positions of groups that nobody uses any longer
//! ```
//!
//! Members are in memory alone: a restart ends them all, and they join again. This room may not
//! know the types of a wire protocol, nor what members say to each other.

mod kinds;
mod live;
mod member;
#[cfg(test)]
mod model;
mod offsets;
mod rebalance;
mod retention;
#[cfg(test)]
mod retention_tests;
mod state;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tidemill_core::GroupName;
use tokio::sync::oneshot;
use uuid::Uuid;

pub(crate) use self::kinds::{KindHold, Kinds};
use self::live::{Live, Waiter};
pub(crate) use self::offsets::refused;
pub use self::offsets::{ClassicCommit, CommitRefused, CommittedOffset, TransactionalCommitError};
use self::types::ClassicBounds;
pub use self::types::{
    ClassicCaller, ClassicDescription, ClassicError, ClassicJoin, ClassicJoined, ClassicMember,
    ClassicProtocol, ClassicState, ClassicSync, ClassicSynced, JoinedMember,
};
use crate::broker::{Broker, Inner};
use crate::error::GroupError;
use crate::info::MemberInfo;
use crate::limits::{
    CLASSIC_GROUP_MAX_BYTES, CLASSIC_GROUPS_MAX_BYTES, CLASSIC_SESSION_MAX, GROUP_MEMBERS_MAX,
};
use crate::machine::{GroupId, GroupKind, Operation, Positions};

/// The classic groups that were used since the broker was opened.
#[derive(Debug, Default)]
pub(crate) struct Classics {
    /// Locked for a look-up.
    groups: Mutex<HashMap<GroupName, Arc<Live>>>,
    pub(crate) kinds: Arc<Kinds>,
    /// Bytes of all members.
    bytes: Arc<AtomicUsize>,
    /// When transactions last set positions of groups, since the broker was opened; as long as
    /// positions are kept.
    ended: Mutex<HashMap<GroupId, Duration>>,
    /// A task looks after positions that are not kept any longer.
    retained: AtomicBool,
}

impl Classics {
    fn groups(&self) -> MutexGuard<'_, HashMap<GroupName, Arc<Live>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &GroupName) -> Option<Arc<Live>> {
        self.groups().get(name).cloned()
    }

    /// The group; made in memory where there is none.
    fn live(&self, inner: &Arc<Inner>, name: &GroupName) -> Arc<Live> {
        self.look_after_positions(inner);
        let mut groups = self.groups();
        let new = || {
            let bounds = ClassicBounds {
                members_max: GROUP_MEMBERS_MAX,
                bytes_max: CLASSIC_GROUP_MAX_BYTES,
                session_min: inner.settings.classic_session_min,
                session_max: CLASSIC_SESSION_MAX,
                initial_delay: inner.settings.classic_initial_delay,
            };
            Arc::new(Live::new(bounds, Arc::clone(&self.bytes)))
        };
        Arc::clone(groups.entry(name.clone()).or_insert_with(new))
    }

    /// Room for what a group's members say or are given, until that is counted with the group.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reserved, ClassicError> {
        let more = |have: usize| {
            let sum = have.checked_add(bytes)?;
            (sum <= CLASSIC_GROUPS_MAX_BYTES || bytes == 0).then_some(sum)
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        match self.bytes.fetch_update(set, get, more) {
            Ok(_) => Ok(Reserved {
                total: Arc::clone(&self.bytes),
                bytes,
            }),
            Err(_) => Err(ClassicError::Full(
                "the members of all groups say too much, or are given too much",
            )),
        }
    }

    /// Where the bytes of all members are counted.
    pub(crate) fn counted(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.bytes)
    }

    /// How many members the group has.
    pub(crate) fn member_count(&self, name: &GroupName) -> usize {
        let live = self.get(name);
        live.map_or(0, |live| live.locked().coordinator.member_count())
    }

    /// The group as it is, where it was used since the broker was opened.
    pub(crate) fn describe(&self, name: &GroupName) -> Option<ClassicDescription> {
        Some(self.get(name)?.locked().coordinator.describe())
    }

    /// The group was deleted: its members are told.
    pub(crate) fn group_gone(&self, name: &GroupName) {
        let gone = self.groups().remove(name);
        if let Some(gone) = gone {
            gone.end(&ClassicError::UnknownMember);
        }
    }

    /// The broker is closing: whoever waits is told.
    pub(crate) fn close(&self) {
        let all: Vec<_> = self.groups().drain().map(|(_, live)| live).collect();
        for live in all {
            live.end(&ClassicError::Unavailable);
        }
    }
}

/// Bytes that are counted until it is dropped.
pub(crate) struct Reserved {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The calls of classic members, as a wire protocol's door needs them. Clones share the broker.
#[derive(Clone, Debug)]
pub struct ClassicGroups {
    inner: Arc<Inner>,
}

impl Broker {
    /// Groups whose members share the partitions among themselves, as Apache Kafka's classic
    /// protocol has it.
    #[must_use]
    pub fn classic_groups(&self) -> ClassicGroups {
        let inner = Arc::clone(&self.inner);
        ClassicGroups { inner }
    }
}

impl ClassicGroups {
    fn open(&self) -> Result<&Classics, ClassicError> {
        match self.inner.closed.load(Ordering::Acquire) {
            true => Err(ClassicError::Unavailable),
            false => Ok(&self.inner.classics),
        }
    }

    fn hold(&self, group: &GroupName) -> Result<KindHold, ClassicError> {
        let hold = self.open()?.kinds.hold(group, GroupKind::Classic);
        hold.map_err(ClassicError::Protocol)
    }

    /// The group is one in the log, of this kind, before it has members.
    async fn keep(&self, group: &GroupName) -> Result<(), ClassicError> {
        if self.inner.group_kind(group) == Some(GroupKind::Classic) {
            return Ok(());
        }
        let operation = Operation::Positions {
            group: group.clone(),
            ask: Positions::Commit(GroupKind::Classic, Vec::new()),
        };
        let kept = self.inner.submit(operation).await;
        kept.map(|_| ()).map_err(offsets::refused)
    }

    /// The group for somebody who commits, which may be nobody's member.
    async fn for_commit(
        &self,
        group: &GroupName,
        caller: &ClassicCaller,
    ) -> Result<Arc<Live>, ClassicError> {
        if let Some(live) = self.open()?.get(group) {
            return Ok(live);
        }
        if caller.generation >= 0 || !caller.member.is_empty() {
            return Err(ClassicError::Generation);
        }
        self.keep(group).await?;
        Ok(self.open()?.live(&self.inner, group))
    }

    /// Joins a group, which is made where there is none. Resolves when the next generation
    /// begins, in the end always. Dropped before, the member stays until its time is over.
    ///
    /// # Errors
    /// See [`ClassicError`].
    pub async fn join(
        &self,
        group: &GroupName,
        join: ClassicJoin,
    ) -> Result<ClassicJoined, ClassicError> {
        let hold = self.hold(group)?;
        self.keep(group).await?;
        let classics = self.open()?;
        // Until it is counted with its group.
        let reserved = classics.reserve(member::join_bytes(&join))?;
        let called = join.instance.as_ref().unwrap_or(&join.client_id);
        let fresh = ByteString::from(format!("{called}-{}", Uuid::now_v7().simple()));
        let (sender, receiver) = oneshot::channel();
        let live = classics.live(&self.inner, group);
        live.change(&self.inner, Some(hold), |locked, now| {
            let token = locked.wait(Waiter::Join(sender));
            locked.coordinator.join(now, token, join, fresh);
        });
        drop(reserved);
        receiver.await.unwrap_or(Err(ClassicError::Unavailable))
    }

    /// Asks for a member's part of the work, and brings everybody's where the leader asks.
    ///
    /// # Errors
    /// See [`ClassicError`].
    pub async fn sync(
        &self,
        group: &GroupName,
        sync: ClassicSync,
    ) -> Result<ClassicSynced, ClassicError> {
        let live = self.open()?.get(group);
        let live = live.ok_or(ClassicError::UnknownMember)?;
        let (sender, receiver) = oneshot::channel();
        let shared = state::parts_bytes(&sync.assignments);
        let classics = self.open()?;
        let reserved = live.change(&self.inner, None, |locked, now| {
            let keeps = locked.coordinator.takes_parts(&sync.caller.member);
            let reserved = classics.reserve(if keeps { shared } else { 0 })?;
            let token = locked.wait(Waiter::Sync(sender));
            locked.coordinator.sync(now, token, sync);
            Ok(reserved)
        });
        // By now it is counted with its group.
        drop(reserved?);
        receiver.await.unwrap_or(Err(ClassicError::Unavailable))
    }

    /// A member says that it lives.
    ///
    /// # Errors
    /// [`ClassicError::Rebalancing`] where it is to join again; others see there.
    pub fn heartbeat(&self, group: &GroupName, caller: &ClassicCaller) -> Result<(), ClassicError> {
        let live = self.open()?.get(group);
        let live = live.ok_or(ClassicError::UnknownMember)?;
        live.change(&self.inner, None, |locked, now| {
            locked.coordinator.heartbeat(now, caller)
        })
    }

    /// A member leaves: by its id, or by its instance's name with an empty id.
    ///
    /// # Errors
    /// [`ClassicError::UnknownMember`] and [`ClassicError::Fenced`].
    pub fn leave(
        &self,
        group: &GroupName,
        member: &ByteString,
        instance: Option<&ByteString>,
    ) -> Result<(), ClassicError> {
        let live = self.open()?.get(group);
        let live = live.ok_or(ClassicError::UnknownMember)?;
        live.change(&self.inner, None, |locked, now| {
            locked.coordinator.leave(now, member, instance)
        })
    }

    /// A group as it is now. One whose members are native ones is stable, of the type
    /// `tidemill`, and its members have nothing but their ids. `None` where there is no such
    /// group, or it is one of [`Broker::consumer_groups`].
    #[must_use]
    pub fn describe(&self, group: &GroupName) -> Option<ClassicDescription> {
        let kind = self.inner.group_kind(group)?;
        if matches!(
            kind,
            GroupKind::Queue | GroupKind::Consumer | GroupKind::Share
        ) {
            return None;
        }
        let native = self.inner.classics.kinds.of(group) == Some(GroupKind::Native);
        // What is left of classic members says nothing of those that are there now.
        if let Some(live) = self.inner.classics.describe(group).filter(|_| !native) {
            return Some(live);
        }
        let live = self.inner.groups().get(group).cloned();
        let members = live.filter(|_| native).map(|live| live.overview().members);
        let member = |member: MemberInfo| ClassicMember {
            member: format!("tidemill-{}", member.id).into(),
            instance: None,
            client_id: ByteString::new(),
            client_host: ByteString::new(),
            metadata: Bytes::new(),
            assignment: Bytes::new(),
        };
        let members = members.into_iter().flatten().map(member);
        Some(ClassicDescription {
            state: match native {
                true => ClassicState::Stable,
                false => ClassicState::Empty,
            },
            protocol_type: match native {
                true => "tidemill".into(),
                false => ByteString::new(),
            },
            protocol: ByteString::new(),
            generation: 0,
            leader: None,
            members: members.collect(),
        })
    }

    /// The names of all groups but those of queues, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<GroupName> {
        let state = self.inner.durable.state();
        let kind = |id| state.group(id).map(|group| group.kind);
        let names = state.group_names();
        let names = names.filter(|(_, id)| kind(*id) != Some(GroupKind::Queue));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Deletes a group without members, with its positions. Resolves when that is durable.
    ///
    /// # Errors
    /// [`ClassicError::NotEmpty`] and [`ClassicError::UnknownGroup`].
    pub async fn delete(&self, group: &GroupName) -> Result<(), ClassicError> {
        let classics = self.open()?;
        if classics.kinds.of(group).is_some() {
            return Err(ClassicError::NotEmpty);
        }
        let broker = Broker::with(&self.inner);
        match broker.delete_group(group).await {
            Ok(()) => Ok(()),
            Err(GroupError::Unknown(_) | GroupError::OfQueue(_)) => Err(ClassicError::UnknownGroup),
            // Whoever is done with letters has it, though nobody is connected.
            Err(GroupError::OfDeadLetters(_)) => Err(ClassicError::NotEmpty),
            Err(GroupError::Unavailable(_)) => Err(ClassicError::Unavailable),
            Err(GroupError::Indeterminate(why)) => Err(ClassicError::Indeterminate(why)),
            Err(other) => Err(ClassicError::Other(other.to_string())),
        }
    }
}
