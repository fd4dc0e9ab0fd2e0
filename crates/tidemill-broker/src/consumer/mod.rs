//! Consumer groups, as Apache Kafka's newer clients make them (KIP-848): the broker shares the
//! partitions among the members, and the members commit offsets.
//!
//! ```text
//! types.rs     what is said and answered
//! state.rs     the coordinator of one group, pure: who is a member, in which epoch
//! member.rs    ... a member's way from what it has to what it is to have
//! assign.rs    ... who is to have what: the assignors
//! patterns.rs  ... the topics that match a regular expression
//! reads.rs     ... what members read
//! live.rs      a coordinator with its time
//! offsets.rs   who may commit and read positions
//! ```
//!
//! Members are in memory alone: a restart ends them all, and they join again. This room may not
//! know the types of a wire protocol.

mod assign;
mod live;
mod member;
#[cfg(test)]
mod model;
mod offsets;
mod patterns;
mod reads;
mod state;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::GroupName;
use uuid::Uuid;

pub(crate) use self::assign::{Reader, spread};
use self::live::Live;
pub(crate) use self::member::PART_BYTES;
pub use self::offsets::ConsumerTransactionError;
pub use self::patterns::NamePattern;
use self::patterns::Pattern;
pub(crate) use self::state::named;
use self::state::{Coordinator, With};
pub(crate) use self::types::{ConsumerBounds, brief, racked};
pub use self::types::{
    ConsumerCaller, ConsumerDescription, ConsumerError, ConsumerHeartbeat, ConsumerMember,
    ConsumerParts, ConsumerPlace, ConsumerSight, ConsumerState, ConsumerTopicParts, EPOCH_JOIN,
    EPOCH_LEAVE, EPOCH_LEAVE_FOR_A_WHILE,
};
use crate::broker::{Broker, Inner};
use crate::classic::{ClassicError, KindHold};
use crate::limits::{CLASSIC_GROUP_MAX_BYTES, CONSUMER_RETURN_MARGIN, GROUP_MEMBERS_MAX};
use crate::machine::{GroupKind, Operation, Positions};

/// The consumer groups that were used since the broker was opened. Of what kinds groups are, and
/// the bytes of their members, they share with the classic ones.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// Locked for a look-up.
    groups: Mutex<HashMap<GroupName, Arc<Live>>>,
    /// Held while expressions are compared with many names: of all groups, one at a time.
    matching: Arc<tokio::sync::Mutex<()>>,
}

impl Consumers {
    pub(crate) fn groups(&self) -> MutexGuard<'_, HashMap<GroupName, Arc<Live>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &GroupName) -> Option<Arc<Live>> {
        self.groups().get(name).cloned()
    }

    /// The group; made in memory where there is none. `known` says that it was one of this kind
    /// before: it may have members of before the opening, who are to find out that they are none
    /// before others get what they have.
    fn live(&self, inner: &Arc<Inner>, name: &GroupName, known: bool) -> Arc<Live> {
        inner.classics.look_after_positions(inner);
        let new = || {
            let total = inner.classics.counted();
            Arc::new(Live::new(name.clone(), bounds(inner, known), total))
        };
        Arc::clone(self.groups().entry(name.clone()).or_insert_with(new))
    }

    /// Whether somebody looks a group up, or keeps them all from being looked up.
    #[cfg(test)]
    pub(crate) fn is_locked(&self) -> bool {
        self.groups.try_lock().is_err()
    }

    /// How many members the group has.
    pub(crate) fn member_count(&self, name: &GroupName) -> usize {
        let live = self.get(name);
        live.map_or(0, |live| live.locked().coordinator.member_count())
    }

    /// The group was deleted: its members are told.
    pub(crate) fn group_gone(&self, name: &GroupName) {
        let gone = self.groups().remove(name);
        if let Some(gone) = gone {
            gone.end();
        }
    }

    /// The broker is closing.
    pub(crate) fn close(&self) {
        let all: Vec<_> = self.groups().drain().map(|(_, live)| live).collect();
        all.iter().for_each(|live| live.end());
    }
}

/// The bounds of a group; `known` says that it may have members of before the opening.
fn bounds(inner: &Inner, known: bool) -> ConsumerBounds {
    let interval = inner.settings.consumer_heartbeat_interval;
    ConsumerBounds {
        members_max: GROUP_MEMBERS_MAX,
        bytes_max: CLASSIC_GROUP_MAX_BYTES,
        heartbeat_interval: interval,
        session_timeout: inner.settings.consumer_session_timeout,
        free_from: match known {
            true => interval + CONSUMER_RETURN_MARGIN,
            false => Duration::ZERO,
        },
    }
}

/// The calls of members of consumer groups, as a wire protocol's door needs them. Clones share
/// the broker.
#[derive(Clone, Debug)]
pub struct ConsumerGroups {
    inner: Arc<Inner>,
}

impl Broker {
    /// Groups among whose members the broker shares the partitions, as Apache Kafka's newer
    /// protocol has it.
    #[must_use]
    pub fn consumer_groups(&self) -> ConsumerGroups {
        let inner = Arc::clone(&self.inner);
        ConsumerGroups { inner }
    }
}

/// What the log, or the room that counts, says, in words for a member.
pub(crate) fn refused(error: ClassicError) -> ConsumerError {
    match error {
        ClassicError::Unavailable => ConsumerError::Unavailable,
        ClassicError::Indeterminate(why) => ConsumerError::Indeterminate(why),
        ClassicError::Protocol(why) => ConsumerError::OtherKind(why),
        ClassicError::Full(why) => ConsumerError::Full(why),
        other => ConsumerError::Other(other.to_string()),
    }
}

impl ConsumerGroups {
    fn open(&self) -> Result<&Consumers, ConsumerError> {
        match self.inner.closed.load(Ordering::Acquire) {
            true => Err(ConsumerError::Unavailable),
            false => Ok(&self.inner.consumers),
        }
    }

    fn hold(&self, group: &GroupName) -> Result<KindHold, ConsumerError> {
        self.open()?;
        let hold = self.inner.classics.kinds.hold(group, GroupKind::Consumer);
        hold.map_err(ConsumerError::OtherKind)
    }

    /// Whether the group is one of this kind: it has such members, or had them last.
    #[must_use]
    pub fn has(&self, group: &GroupName) -> bool {
        let kind = self.inner.classics.kinds.of(group);
        kind.or_else(|| self.inner.group_kind(group)) == Some(GroupKind::Consumer)
    }

    /// The group is one in the log, of this kind, before it has members. Answers whether it was
    /// one before.
    async fn keep(&self, group: &GroupName) -> Result<bool, ConsumerError> {
        if self.inner.group_kind(group) == Some(GroupKind::Consumer) {
            return Ok(true);
        }
        let operation = Operation::Positions {
            group: group.clone(),
            ask: Positions::Commit(GroupKind::Consumer, Vec::new()),
        };
        let kept = self.inner.submit(operation).await;
        kept.map(|_| false)
            .map_err(|why| refused(crate::classic::refused(why)))
    }

    /// A member joins a group, which is made where there is none, says that it lives, or leaves.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub async fn heartbeat(
        &self,
        group: &GroupName,
        beat: ConsumerHeartbeat,
    ) -> Result<ConsumerPlace, ConsumerError> {
        let inner = &self.inner;
        let pattern = self.matched(group, &beat).await?;
        let fresh = ByteString::from(Uuid::now_v7().to_string());
        let mut hold = None;
        let live = match beat.epoch {
            EPOCH_JOIN => {
                hold = Some(self.hold(group)?);
                // Who is refused leaves no group behind.
                self.would_take_in(group, &beat, (fresh.clone(), pattern.clone()))?;
                let known = self.keep(group).await?;
                self.open()?.live(inner, group, known)
            }
            _ => match self.open()?.get(group) {
                Some(live) => live,
                None => return Err(self.not_there(group)),
            },
        };
        let catalog = inner.durable.catalog();
        let mut reserved = None;
        let place = live.change(inner, hold, |coordinator, now| {
            let mut room = |bytes| {
                let room = inner.classics.reserve(bytes);
                reserved = Some(room.map_err(refused)?);
                Ok(())
            };
            let with = With {
                fresh,
                pattern,
                room: &mut room,
            };
            coordinator.heartbeat(now, &catalog, beat, with)
        });
        // By now it is counted with its group.
        drop(reserved);
        place
    }

    /// Whether somebody who joins would be taken in, as things are.
    fn would_take_in(
        &self,
        group: &GroupName,
        beat: &ConsumerHeartbeat,
        (fresh, pattern): (ByteString, Option<Arc<Pattern>>),
    ) -> Result<(), ConsumerError> {
        let inner = &self.inner;
        let mut room = |bytes| inner.classics.reserve(bytes).map(drop).map_err(refused);
        let with = With {
            fresh,
            pattern,
            room: &mut room,
        };
        let catalog = inner.durable.catalog();
        match self.open()?.get(group) {
            Some(live) => live
                .locked()
                .coordinator
                .would_take_in(&catalog, beat, with),
            None => Coordinator::new(bounds(inner, false)).would_take_in(&catalog, beat, with),
        }
    }

    /// Has the expressions of a group, and the one of a heartbeat, compared with the names of
    /// topics: beside the runtime's threads, while no group is locked.
    async fn matched(
        &self,
        group: &GroupName,
        beat: &ConsumerHeartbeat,
    ) -> Result<Option<Arc<Pattern>>, ConsumerError> {
        let consumers = self.open()?;
        let live = consumers.get(group);
        let text = beat.pattern.clone().filter(|text| !text.is_empty());
        if live.is_none() && beat.epoch != EPOCH_JOIN {
            return Ok(None);
        }
        let have = live.as_ref().zip(text.as_ref());
        let have = have.and_then(|(live, text)| live.pattern(text));
        let late = |live: &Arc<Live>| live.has_late_patterns(&self.inner.durable.catalog());
        let is_new = text.is_some() && have.is_none();
        if !is_new && !live.as_ref().is_some_and(late) {
            return Ok(have);
        }
        let one = Arc::clone(&consumers.matching).lock_owned().await;
        let catalog = self.inner.durable.catalog();
        let matched = tokio::task::spawn_blocking(move || {
            let _one = one;
            if let Some(live) = live {
                live.renew_patterns(&catalog);
            }
            match (have, text) {
                (None, Some(text)) => Pattern::of(&text, &catalog).map(|new| Some(Arc::new(new))),
                (have, _) => Ok(have),
            }
        });
        let matched = matched.await;
        matched.map_err(|why| ConsumerError::Other(why.to_string()))?
    }

    /// Why a group has no members of this kind: it has others, or none.
    fn not_there(&self, group: &GroupName) -> ConsumerError {
        match self.hold(group) {
            Err(why) => why,
            Ok(_) => ConsumerError::UnknownMember,
        }
    }

    /// A group of this kind as it is now; `None` where there is none.
    #[must_use]
    pub fn describe(&self, group: &GroupName) -> Option<ConsumerDescription> {
        if !self.has(group) {
            return None;
        }
        let live = self.inner.consumers.get(group);
        let empty = ConsumerDescription {
            state: ConsumerState::Empty,
            epoch: 0,
            assignment_epoch: 0,
            assignor: assign::Assignor::default().name(),
            members: Vec::new(),
        };
        Some(live.map_or(empty, |live| live.locked().coordinator.describe()))
    }
}
