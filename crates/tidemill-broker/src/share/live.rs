//! A share group with its time: the shell around who its members are and what these have. It says
//! to others of what kind the group's members are.
//!
//! Invariant: nothing waits while a group is locked, and nothing is read then.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::budget::{Class, Share};
use tidemill_core::{GroupName, Offset, TopicId};
use tidemill_log::PartitionId;
use tokio::sync::Notify;

use super::membership::Membership;
use super::records::{Plan, Records};
use super::settle::{Place, settle_later};
use super::types::{ShareAcquired, ShareError};
use crate::broker::Inner;
use crate::classic::KindHold;
use crate::consumer::ConsumerBounds;
use crate::limits::SHARE_RECORD_BYTES;
use crate::machine::{GroupId, GroupKind};
use crate::watch::Bell;

/// What of a partition is out, and the memory of that.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) records: Records,
    pub(super) memory: Share,
}

impl Part {
    /// Gives memory back that is not needed any longer.
    pub(super) fn fit(&mut self) {
        let needs = self.records.len() * SHARE_RECORD_BYTES;
        self.memory
            .shrink(self.memory.bytes().saturating_sub(needs));
    }
}

#[derive(Debug)]
pub(super) struct Locked {
    pub(super) membership: Membership,
    pub(super) parts: HashMap<PartitionId, Part>,
    /// The topics in which the group has a position in so many partitions.
    pub(super) placed: BTreeMap<TopicId, u32>,
    /// Held while there are members.
    hold: Option<KindHold>,
    /// Who waits for records.
    waiting: Vec<Arc<Notify>>,
    /// Until when a task waits that keeps the time.
    armed: Option<Duration>,
    /// Bytes that are counted for it.
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    /// A group that is deleted and made again is another one.
    pub(super) id: GroupId,
    pub(super) name: GroupName,
    locked: Mutex<Locked>,
    /// The time of the next deadline may be an earlier one.
    changed: Notify,
    /// Rung when there may be something for those who wait.
    bell: Arc<Bell>,
    /// Bytes of all groups' members.
    total: Arc<AtomicUsize>,
}

impl Live {
    pub(super) fn new(
        (id, name): (GroupId, GroupName),
        bounds: ConsumerBounds,
        total: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            id,
            name,
            locked: Mutex::new(Locked {
                membership: Membership::new(bounds),
                parts: HashMap::new(),
                placed: BTreeMap::new(),
                hold: None,
                waiting: Vec::new(),
                armed: None,
                bytes: 0,
            }),
            changed: Notify::new(),
            bell: Arc::default(),
            total,
        }
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the group. `hold` is kept for as long as it has members.
    pub(super) fn change<T>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        hold: Option<KindHold>,
        change: impl FnOnce(&mut Locked, Duration) -> T,
    ) -> T {
        let mut locked = self.locked();
        let changed = change(&mut locked, inner.now());
        locked.hold = locked.hold.take().or(hold);
        locked.count(&self.total);
        let due = locked.deadline();
        let earlier = due.is_some_and(|due| locked.armed.is_none_or(|armed| due < armed));
        let begins = earlier && locked.armed.is_none();
        if earlier {
            locked.armed = due;
        }
        drop(locked);
        if begins {
            let (live, inner) = (Arc::clone(self), Arc::downgrade(inner));
            tokio::spawn(async move { live.keep_time(inner).await });
        } else if earlier {
            self.changed.notify_one();
        }
        changed
    }

    /// Has deadlines kept until there are none.
    async fn keep_time(self: Arc<Self>, inner: Weak<Inner>) {
        loop {
            let due = {
                let mut locked = self.locked();
                locked.armed = locked.deadline();
                locked.armed
            };
            let (Some(due), Some(strong)) = (due, inner.upgrade()) else {
                return;
            };
            let wait = due.saturating_sub(strong.now());
            drop(strong);
            let changed = tokio::time::timeout(wait, self.changed.notified()).await;
            if changed.is_ok() {
                continue;
            }
            let Some(inner) = inner.upgrade() else {
                return;
            };
            self.tick(&inner);
        }
    }

    /// Does what time has brought.
    fn tick(self: &Arc<Self>, inner: &Arc<Inner>) {
        let ours = self.is_ours(inner);
        let mut locked = self.locked();
        let now = inner.now();
        let gone = locked.membership.tick(now);
        if !ours {
            // Members of another kind have them, and say what becomes of them.
            locked.forget_all();
        }
        let mut plans = Vec::new();
        for (id, part) in &mut locked.parts {
            plans.push((*id, part.records.epoch(), part.records.tick(now)));
            for member in &gone {
                plans.push((*id, part.records.epoch(), part.records.release(member)));
            }
        }
        locked.count(&self.total);
        drop(locked);
        for member in gone {
            tracing::info!(group = %self.name, %member, "a member was silent for too long");
        }
        self.after(inner, plans);
        self.bell.ring();
    }

    /// Whether the group is one of this kind: members of another one settle what they have, and
    /// what is known here of that is not so any longer.
    fn is_ours(&self, inner: &Inner) -> bool {
        let kind = inner.classics.kinds.of(&self.name);
        let here = kind.is_none_or(|kind| kind == GroupKind::Share);
        let state = inner.durable.state();
        let kept = state.group(self.id).map(|group| group.kind);
        here && kept == Some(GroupKind::Share)
    }

    /// Keeps members of other kinds away while something is settled for nobody; `None` where the
    /// group is theirs.
    pub(super) fn hold(&self, inner: &Inner) -> Option<KindHold> {
        let ours = self.is_ours(inner);
        let hold = ours.then(|| inner.classics.kinds.hold(&self.name, GroupKind::Share))?;
        hold.ok()
    }

    /// Members of another kind had the group: nothing is known of what is out or where it is.
    pub(super) fn begin_anew(&self) {
        self.locked().forget_all();
    }

    /// Has what was given up made durable.
    fn after(self: &Arc<Self>, inner: &Arc<Inner>, plans: Vec<(PartitionId, u64, Plan)>) {
        for (id, epoch, plan) in plans {
            if !plan.is_empty() {
                settle_later(inner, self, (id, epoch), plan);
            }
        }
    }

    /// Takes back all that a member has, so that others get it at once.
    pub(super) fn release(self: &Arc<Self>, inner: &Arc<Inner>, member: &ByteString) {
        let plans = self.change(inner, None, |locked, _| {
            let each = locked.parts.iter_mut();
            let each = each.map(|(id, part)| {
                let plan = part.records.release(member);
                (*id, part.records.epoch(), plan)
            });
            each.collect()
        });
        self.after(inner, plans);
        self.bell.ring();
    }

    /// Does something with a partition in which the group has a position: what is out of one that
    /// is looked at for the first time, or was sought, begins anew at that. `None` where it has
    /// none.
    ///
    /// # Errors
    /// There is no such topic (any longer), or the group was deleted or is of another kind by now.
    pub(super) fn with_part<T>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        id: PartitionId,
        with: impl FnOnce(&mut Part, Duration) -> T,
    ) -> Result<Option<T>, ShareError> {
        let catalog = inner.durable.catalog();
        if catalog.name(id.topic).is_none() {
            self.locked().forget_topic(id.topic);
            return Err(ShareError::UnknownTopic);
        }
        if !self.is_ours(inner) {
            return Err(ShareError::UnknownGroup);
        }
        let have = self
            .locked()
            .parts
            .get(&id)
            .map(|part| part.records.epoch());
        let cursor = {
            let state = inner.durable.state();
            let group = state.group(self.id).ok_or(ShareError::UnknownGroup)?;
            let Some(cursor) = group.cursors.get(&id) else {
                return Ok(None);
            };
            (have != Some(cursor.epoch())).then(|| cursor.clone())
        };
        Ok(self.change(inner, None, |locked, now| {
            let fresh = |cursor| Part {
                records: Records::new(cursor),
                memory: inner.settings.memory.empty(Class::Deliveries),
            };
            if let Some(cursor) = cursor {
                let have = locked.parts.get(&id);
                // Somebody may have come before.
                if have.is_none_or(|have| have.records.epoch() < cursor.epoch()) {
                    inner.listening.listen(std::iter::once(id), &self.bell);
                    locked.parts.insert(id, fresh(cursor));
                }
            }
            locked.parts.get_mut(&id).map(|part| with(part, now))
        }))
    }

    /// What a member was given never came to it: others may have it.
    pub(super) fn not_sent(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        (id, epoch): Place,
        whose: (&ByteString, Duration),
        acquired: &[ShareAcquired],
    ) {
        self.change(inner, None, |locked, _| {
            if let Some(part) = locked.part_in(id, epoch) {
                let each = acquired.iter();
                each.for_each(|of| part.records.not_sent(whose, *of));
            }
        });
        self.bell.ring();
    }

    /// These are settled, and that is durable, in this epoch of the position.
    pub(super) fn settled(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        (id, epoch): (PartitionId, u64),
        ranges: &[Range<Offset>],
    ) {
        self.change(inner, None, |locked, _| {
            if let Some(part) = locked.part_in(id, epoch) {
                ranges
                    .iter()
                    .for_each(|range| part.records.settled(range.clone()));
                part.fit();
            }
        });
        // There may be room for more now.
        self.bell.ring();
    }

    /// Nothing was kept of what was being settled: it is for so long the member's again whose it
    /// was, or waits for the next try where it was given up.
    pub(super) fn unsettled(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        (id, epoch): (PartitionId, u64),
        ranges: &[Range<Offset>],
        back: Option<&(ByteString, Duration)>,
    ) {
        self.change(inner, None, |locked, now| {
            let Some(part) = locked.part_in(id, epoch) else {
                return;
            };
            for range in ranges.iter().cloned() {
                match back {
                    Some((who, lock)) => {
                        let until = now.saturating_add(*lock);
                        part.records.unsettled(range, who, until);
                    }
                    None => part.records.put_off(range, now),
                }
            }
        });
    }

    /// What is known of a partition in this epoch of the position is not what the log knows: it
    /// begins anew. What is known of a later epoch stays.
    pub(super) fn restart(&self, (id, epoch): Place) {
        let mut locked = self.locked();
        if locked.part_in(id, epoch).is_some() {
            locked.parts.remove(&id);
        }
    }

    /// Somebody waits for records from now on.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        let notify = Arc::new(Notify::new());
        let mut locked = self.locked();
        locked.waiting.push(Arc::clone(&notify));
        self.bell.set(locked.waiting.clone());
        drop(locked);
        Waiting {
            live: Arc::clone(self),
            notify,
        }
    }

    /// There may be something for those who wait.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// A topic was deleted: nothing of it is to be given up any more.
    pub(super) fn topic_gone(&self, topic: TopicId) {
        self.locked().forget_topic(topic);
        self.bell.ring();
    }

    /// Nobody is served any longer.
    pub(super) fn end(&self, inner: &Inner) {
        let mut locked = self.locked();
        locked.membership.end();
        locked.forget_all();
        locked.count(&self.total);
        drop(locked);
        inner
            .listening
            .forget(|_, bell| !Arc::ptr_eq(bell, &self.bell));
        self.changed.notify_one();
        self.bell.ring();
    }
}

/// Somebody who waits for records; dropped, he does not any more.
pub(super) struct Waiting {
    live: Arc<Live>,
    pub(super) notify: Arc<Notify>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut locked = self.live.locked();
        locked
            .waiting
            .retain(|have| !Arc::ptr_eq(have, &self.notify));
        self.live.bell.set(locked.waiting.clone());
    }
}

impl Locked {
    fn deadline(&self) -> Option<Duration> {
        let parts = self.parts.values();
        let parts = parts.filter_map(|part| part.records.deadline());
        parts.chain(self.membership.deadline()).min()
    }

    /// A partition, if it was not sought since.
    fn part_in(&mut self, id: PartitionId, epoch: u64) -> Option<&mut Part> {
        let part = self.parts.get_mut(&id);
        part.filter(|part| part.records.epoch() == epoch)
    }

    fn forget_all(&mut self) {
        self.parts.clear();
        self.placed.clear();
    }

    fn forget_topic(&mut self, topic: TopicId) {
        self.parts.retain(|id, _| id.topic != topic);
        self.placed.remove(&topic);
    }

    /// Counts what the members say and have.
    fn count(&mut self, total: &AtomicUsize) {
        if self.membership.count() == 0 {
            self.hold = None;
        }
        let bytes = self.membership.bytes();
        total.fetch_add(bytes, Ordering::Relaxed);
        total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}
