//! Share groups, as Apache Kafka has them (KIP-932): members take single records of the same
//! partitions, and settle, release or reject each.
//!
//! ```text
//! types.rs       what is said and answered
//! settings.rs    what may be set for one group
//! membership.rs  who is a member, and which partitions each reads: pure
//! records.rs     what of one partition is out, and whose it is: pure
//! parts.rs       that of all partitions, by whom and when it concerns
//! live.rs        both with their time
//! read.rs        giving records out, and waiting for them
//! hold.rs        what is on its way to its member
//! settle.rs      settling them, and dead letters
//! offsets.rs     where a group goes on, for those who run it
//! ```
//!
//! What is settled is a group's position with the ranges above it, as it is of groups of this
//! broker's own members. Members, whose a record is, and how often it was given out are in memory
//! alone: a restart ends them all. Records are given out as batches, which the members decode. This
//! room may not know the types of a wire protocol.

mod hold;
mod live;
mod membership;
#[cfg(test)]
mod membership_tests;
mod offsets;
mod parts;
mod read;
#[cfg(test)]
mod read_tests;
mod records;
#[cfg(test)]
mod records_tests;
mod settings;
mod settle;
mod types;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::{GroupName, Partition, TopicId};
use tidemill_log::CommitError;

pub use self::hold::ShareHold;
use self::live::Live;
use self::membership::Membership;
pub use self::offsets::ShareOffsetsError;
use self::parts::Part;
use self::read::Taker;
use self::records::Wrong;
pub use self::settings::ShareSettings;
use self::settle::{settle, settle_later};
pub use self::types::{
    ShareAcknowledgement, ShareAcquired, ShareBounds, ShareError, ShareHeartbeat, SharePart,
    ShareRecords, ShareVerdict,
};
use crate::broker::{Broker, Inner};
use crate::classic::KindHold;
use crate::consumer::{
    ConsumerBounds, ConsumerDescription, ConsumerError, ConsumerPlace, EPOCH_JOIN, EPOCH_LEAVE,
    refused,
};
use crate::limits::{CLASSIC_GROUP_MAX_BYTES, GROUP_MEMBERS_MAX, REROUTES_MAX};
use crate::machine::{GroupKind, JoinTopic, Operation, Positions, Refusal};

/// The share groups that were used since the broker was opened. Of what kinds groups are, and the
/// bytes of their members, they share with the classic ones.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Locked for a look-up.
    groups: Mutex<HashMap<GroupName, Arc<Live>>>,
}

impl Shares {
    fn groups(&self) -> MutexGuard<'_, HashMap<GroupName, Arc<Live>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group that is in the log under this name, if it was used.
    fn get(&self, inner: &Inner, name: &GroupName) -> Option<Arc<Live>> {
        let id = inner.durable.state().group_id(name)?;
        let live = self.groups().get(name).cloned();
        live.filter(|live| live.id == id)
    }

    /// The group that is in the log under this name, made in memory where it was not used yet;
    /// `None` where there is none. One that was deleted before under the same name ends here.
    fn live(&self, inner: &Inner, name: &GroupName) -> Option<Arc<Live>> {
        let id = inner.durable.state().group_id(name)?;
        let mut groups = self.groups();
        match groups.get(name) {
            Some(have) if have.id == id => return Some(Arc::clone(have)),
            // It was deleted and made again meanwhile.
            Some(have) if have.id > id => return None,
            _ => {}
        }
        let total = inner.classics.counted();
        let live = Arc::new(Live::new((id, name.clone()), bounds(inner), total));
        let before = groups.insert(name.clone(), Arc::clone(&live));
        drop(groups);
        if let Some(before) = before {
            before.end(inner);
        }
        Some(live)
    }

    /// How many members the group has.
    pub(crate) fn member_count(&self, inner: &Inner, name: &GroupName) -> usize {
        let live = self.get(inner, name);
        live.map_or(0, |live| live.locked().membership.count())
    }

    /// How many records members have of each partition.
    pub(crate) fn in_flight(
        &self,
        inner: &Inner,
        name: &GroupName,
    ) -> HashMap<(TopicId, Partition), usize> {
        let Some(live) = self.get(inner, name) else {
            return HashMap::new();
        };
        let locked = live.locked();
        let parts = locked.parts.iter();
        let parts = parts.map(|(id, part)| ((id.topic, id.partition), part.records.in_flight()));
        parts.collect()
    }

    /// The group was deleted: its members are told. One that was made since stays.
    pub(crate) fn group_gone(&self, inner: &Inner, name: &GroupName) {
        let now = inner.durable.state().group_id(name);
        let gone = {
            let mut groups = self.groups();
            let is_gone = groups.get(name).is_some_and(|live| Some(live.id) != now);
            is_gone.then(|| groups.remove(name)).flatten()
        };
        if let Some(gone) = gone {
            gone.end(inner);
        }
    }

    /// A topic was deleted.
    pub(crate) fn topic_gone(&self, topic: TopicId) {
        let all: Vec<_> = self.groups().values().cloned().collect();
        all.iter().for_each(|live| live.topic_gone(topic));
    }

    /// The broker is closing.
    pub(crate) fn close(&self, inner: &Inner) {
        let all: Vec<_> = self.groups().drain().map(|(_, live)| live).collect();
        all.iter().for_each(|live| live.end(inner));
    }
}

fn bounds(inner: &Inner) -> ConsumerBounds {
    ConsumerBounds {
        members_max: GROUP_MEMBERS_MAX,
        bytes_max: CLASSIC_GROUP_MAX_BYTES,
        heartbeat_interval: inner.settings.consumer_heartbeat_interval,
        session_timeout: inner.settings.consumer_session_timeout,
        free_from: Duration::ZERO,
    }
}

/// The calls of members of share groups, as a wire protocol's door needs them. Clones share the
/// broker.
#[derive(Clone, Debug)]
pub struct ShareGroups {
    inner: Arc<Inner>,
}

impl Broker {
    /// Groups whose members take single records of the same partitions.
    #[must_use]
    pub fn share_groups(&self) -> ShareGroups {
        let inner = Arc::clone(&self.inner);
        ShareGroups { inner }
    }
}

impl ShareGroups {
    fn open(&self) -> Result<&Shares, ConsumerError> {
        match self.inner.closed.load(Ordering::Acquire) {
            true => Err(ConsumerError::Unavailable),
            false => Ok(&self.inner.shares),
        }
    }

    fn hold(&self, group: &GroupName) -> Result<KindHold, ConsumerError> {
        self.open()?;
        let hold = self.inner.classics.kinds.hold(group, GroupKind::Share);
        hold.map_err(ConsumerError::OtherKind)
    }

    /// Whether the group is one of this kind: it has such members, or had them last.
    #[must_use]
    pub fn has(&self, group: &GroupName) -> bool {
        let kind = self.inner.classics.kinds.of(group);
        kind.or_else(|| self.inner.group_kind(group)) == Some(GroupKind::Share)
    }

    /// A member joins a group, which is made where there is none, says that it lives, or leaves.
    /// Resolves when the group has a position in all that it reads.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub async fn heartbeat(
        &self,
        group: &GroupName,
        beat: ShareHeartbeat,
    ) -> Result<ConsumerPlace, ConsumerError> {
        let inner = &self.inner;
        let mut hold = None;
        let live = match beat.epoch {
            EPOCH_JOIN => {
                hold = Some(self.hold(group)?);
                // Who is refused leaves no group behind.
                self.would_take(group, &beat)?;
                self.keep(group).await?;
                let live = self.open()?.live(inner, group);
                // Deleted at this moment: the client joins again.
                live.ok_or(ConsumerError::UnknownMember)?
            }
            _ => match self.open()?.get(inner, group) {
                Some(live) => live,
                None => return Err(self.not_there(group)),
            },
        };
        let catalog = inner.durable.catalog();
        let (leaves, member) = (beat.epoch == EPOCH_LEAVE, beat.member.clone());
        let mut reserved = None;
        let place = live.change(inner, hold, |locked, now| {
            let mut room = |bytes| {
                let room = inner.classics.reserve(bytes);
                reserved = Some(room.map_err(refused)?);
                Ok(())
            };
            locked.membership.heartbeat(now, &catalog, beat, &mut room)
        });
        // By now it is counted with its group.
        drop(reserved);
        let place = place?;
        match leaves {
            true => live.release(inner, &member),
            false => self.place(&live, &member).await?,
        }
        Ok(place)
    }

    fn would_take(&self, group: &GroupName, beat: &ShareHeartbeat) -> Result<(), ConsumerError> {
        let inner = &self.inner;
        let mut room = |bytes| inner.classics.reserve(bytes).map(drop).map_err(refused);
        match self.open()?.get(inner, group) {
            Some(live) => live.locked().membership.would_take(beat, &mut room),
            None => Membership::new(bounds(inner)).would_take(beat, &mut room),
        }
    }

    /// The group is one in the log, of this kind, before it has members.
    async fn keep(&self, group: &GroupName) -> Result<(), ConsumerError> {
        if self.inner.group_kind(group) == Some(GroupKind::Share) {
            return Ok(());
        }
        // Others had it, and settled what was out. Nothing is looked at until it is of this kind.
        if let Some(live) = self.open()?.get(&self.inner, group) {
            live.begin_anew();
        }
        let operation = Operation::Positions {
            group: group.clone(),
            ask: Positions::Commit(GroupKind::Share, Vec::new()),
        };
        let kept = self.inner.submit(operation).await;
        kept.map(drop)
            .map_err(|why| refused(crate::classic::refused(why)))
    }

    /// Why a group has no members of this kind: it has others, or none.
    fn not_there(&self, group: &GroupName) -> ConsumerError {
        match self.hold(group) {
            Err(why) => why,
            Ok(_) => ConsumerError::UnknownMember,
        }
    }

    /// Has the group a position in every partition of what a member reads.
    async fn place(&self, live: &Arc<Live>, member: &ByteString) -> Result<(), ConsumerError> {
        let inner = &self.inner;
        for _ in 0..REROUTES_MAX {
            let missing: Vec<_> = {
                let locked = live.locked();
                let read = locked.membership.read_by(member);
                let read = read.map(|(id, count)| (*id, *count));
                let placed = |id: &TopicId| locked.placed.get(id).copied().unwrap_or(0);
                read.filter(|(id, count)| placed(id) < *count).collect()
            };
            let catalog = inner.durable.catalog();
            let topic = |(id, count): &(TopicId, u32)| {
                let name = catalog.name(*id)?.clone();
                Some(JoinTopic {
                    name,
                    partitions_max: *count,
                    create: None,
                })
            };
            let topics: Vec<_> = missing.iter().filter_map(topic).collect();
            if topics.is_empty() {
                return Ok(());
            }
            let operation = Operation::Join {
                group: live.name.clone(),
                kind: GroupKind::Share,
                topics,
                start: self.settings(&live.name).start(),
            };
            match inner.submit(operation).await {
                Ok(_) => {
                    live.locked().placed.extend(missing);
                    live.ring_all();
                    return Ok(());
                }
                // Topics came, went or grew: the next heartbeat knows.
                Err(CommitError::Refused(Refusal::Rerouted { .. } | Refusal::UnknownTopic(_))) => {}
                Err(why) => return Err(refused(crate::classic::refused(why))),
            }
        }
        Ok(())
    }

    /// A group of this kind as it is now; `None` where there is none.
    #[must_use]
    pub fn describe(&self, group: &GroupName) -> Option<ConsumerDescription> {
        if !self.has(group) {
            return None;
        }
        let live = self.inner.shares.get(&self.inner, group);
        let described = live.map(|live| live.locked().membership.describe());
        let empty = || Membership::new(bounds(&self.inner)).describe();
        Some(described.unwrap_or_else(empty))
    }

    /// How many records a member has and has not settled.
    #[must_use]
    pub fn held_by(&self, group: &GroupName, member: &ByteString) -> usize {
        let live = self.inner.shares.get(&self.inner, group);
        live.map_or(0, |live| live.locked().parts.held_by(member))
    }

    /// What is set for a group, whether it is there or not.
    #[must_use]
    pub fn settings(&self, group: &GroupName) -> ShareSettings {
        let state = self.inner.durable.state();
        let id = state.group_id(group);
        let group = id.and_then(|id| state.group(id));
        group.map_or_else(ShareSettings::default, |group| group.share)
    }

    /// Sets this for a group, which is made where there is none. Resolves when that is durable.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub async fn set(
        &self,
        group: &GroupName,
        settings: ShareSettings,
    ) -> Result<(), ConsumerError> {
        self.open()?;
        let operation = Operation::Positions {
            group: group.clone(),
            ask: Positions::Share(settings),
        };
        let set = self.inner.submit(operation).await;
        set.map(drop)
            .map_err(|why| refused(crate::classic::refused(why)))
    }

    /// The group for somebody who takes or settles records.
    fn used(&self, group: &GroupName) -> Result<Arc<Live>, ShareError> {
        let shares = self.open();
        let shares = shares.map_err(|_| tidemill_core::error::Unavailable::Closed)?;
        if !self.has(group) {
            return Err(ShareError::UnknownGroup);
        }
        shares
            .live(&self.inner, group)
            .ok_or(ShareError::UnknownGroup)
    }

    /// Gives a member records of these partitions, in their order, until `bounds` are reached;
    /// waits for the first ones so long. `room` is asked before batches are given: it is told of
    /// how many bytes those of the answer would be in all, and says whether there is memory for
    /// them. Where an answer has less after all it is told so, too.
    ///
    /// Dropped while it waits, this has given nothing; nor has what it answers where that is
    /// dropped before [`ShareHold::sent`].
    ///
    /// # Errors
    /// Of the group as a whole, also where it is deleted meanwhile; or of a partition.
    pub async fn take(
        &self,
        group: &GroupName,
        member: &ByteString,
        parts: &[SharePart],
        bounds: ShareBounds,
        wait: Duration,
        room: &mut (dyn FnMut(usize) -> bool + Send),
    ) -> Result<Vec<Result<ShareRecords, ShareError>>, ShareError> {
        let taker = Taker {
            inner: Arc::clone(&self.inner),
            live: self.used(group)?,
            member: member.clone(),
            settings: self.settings(group),
        };
        taker.take(parts, bounds, wait, room).await
    }

    /// A member says what becomes of records that it has: for each partition all is done, or
    /// nothing. Resolves when it is durable.
    ///
    /// # Errors
    /// Of the group as a whole, also where it is deleted meanwhile; or of a partition.
    pub async fn acknowledge(
        &self,
        group: &GroupName,
        member: &ByteString,
        parts: Vec<(SharePart, Vec<ShareAcknowledgement>)>,
    ) -> Result<Vec<Result<(), ShareError>>, ShareError> {
        let live = self.used(group)?;
        let lock = self.settings(group).lock();
        let begun = parts.into_iter().map(|(part, said)| {
            let (place, plan) = self.judge(&live, member, part, &said)?;
            // What was released may be for somebody.
            live.ring(place.0);
            let back = (member.clone(), lock);
            let settling =
                (!plan.is_empty()).then(|| settle(&self.inner, &live, place, plan, Some(back)));
            Ok(settling)
        });
        let begun: Vec<_> = begun.collect();
        let mut done = Vec::with_capacity(begun.len());
        for one in begun {
            done.push(match one {
                Ok(Some(settling)) => settling.await,
                Ok(None) => Ok(()),
                Err(why) => Err(why),
            });
        }
        let is_gone = |one: &Result<(), _>| matches!(one, Err(ShareError::UnknownGroup));
        match done.iter().any(is_gone) {
            true => Err(ShareError::UnknownGroup),
            false => Ok(done),
        }
    }

    fn judge(
        &self,
        live: &Arc<Live>,
        member: &ByteString,
        part: SharePart,
        said: &[ShareAcknowledgement],
    ) -> Result<(settle::Place, records::Plan), ShareError> {
        let id = part.id();
        let judged = live.with_part(&self.inner, id, |part: &mut Part, now| {
            let late = part.records.tick(now);
            let plan = part.records.acknowledge(member, said);
            (part.records.epoch(), late, plan)
        });
        let (epoch, late, plan) = judged?.ok_or(ShareError::UnknownPartition)?;
        if !late.is_empty() {
            settle_later(&self.inner, live, (id, epoch), late);
        }
        let plan = plan.map_err(|wrong| match wrong {
            Wrong::NotAcquired => ShareError::NotAcquired,
            Wrong::Invalid => ShareError::Invalid(
                "acknowledgements ascend, and have a verdict for each record, or one for all",
            ),
        });
        Ok(((id, epoch), plan?))
    }

    /// Takes back all that a member has, so that others get it at once.
    ///
    /// # Errors
    /// There is no such group.
    pub fn release(&self, group: &GroupName, member: &ByteString) -> Result<(), ShareError> {
        self.used(group)?.release(&self.inner, member);
        Ok(())
    }
}
