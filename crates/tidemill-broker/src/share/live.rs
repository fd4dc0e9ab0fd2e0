//! A share group with its time: the shell around who its members are and what these have. It says
//! to others of what kind the group's members are.
//!
//! Invariant: nothing waits while a group is locked, and nothing is read then. Who comes touches
//! what is his: his own place among the members, the partitions that he names, and those of which
//! he has records; not those of others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::budget::Class;
use tidemill_core::{GroupName, Offset, TopicId};
use tidemill_log::PartitionId;
use tokio::sync::Notify;

use super::membership::Membership;
use super::parts::{Part, Parts};
use super::records::{Plan, Records};
use super::settle::{Place, settle_later};
use super::types::{ShareAcquired, ShareError};
use crate::broker::Inner;
use crate::classic::KindHold;
use crate::consumer::ConsumerBounds;
use crate::machine::{GroupId, GroupKind};
use crate::watch::Bell;

#[derive(Debug)]
pub(super) struct Locked {
    pub(super) membership: Membership,
    pub(super) parts: Parts,
    /// The topics in which the group has a position in so many partitions.
    pub(super) placed: BTreeMap<TopicId, u32>,
    /// Held while there are members.
    hold: Option<KindHold>,
    /// Who waits for records, by a number.
    waiting: BTreeMap<u64, Arc<Notify>>,
    /// How many there ever were.
    numbers: u64,
    /// Rung when there may be something for those who wait for a partition.
    bells: HashMap<PartitionId, Arc<Bell>>,
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
                parts: Parts::default(),
                placed: BTreeMap::new(),
                hold: None,
                waiting: BTreeMap::new(),
                numbers: 0,
                bells: HashMap::new(),
                armed: None,
                bytes: 0,
            }),
            changed: Notify::new(),
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
        let mut plans = locked.parts.tick(now);
        for member in &gone {
            plans.extend(locked.parts.release(member));
        }
        locked.count(&self.total);
        drop(locked);
        for member in gone {
            tracing::info!(group = %self.name, %member, "a member was silent for too long");
        }
        self.after(inner, plans);
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

    /// Has what was given up made durable; what else was taken back is for who waits.
    fn after(self: &Arc<Self>, inner: &Arc<Inner>, plans: Vec<(Place, Plan)>) {
        for (place, plan) in plans {
            if !plan.is_empty() {
                settle_later(inner, self, place, plan);
            }
            self.ring(place.0);
        }
    }

    /// Takes back all that a member has, so that others get it at once.
    pub(super) fn release(self: &Arc<Self>, inner: &Arc<Inner>, member: &ByteString) {
        let plans = self.change(inner, None, |locked, _| locked.parts.release(member));
        self.after(inner, plans);
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
        let have = self.locked().parts.get(id).map(|part| part.records.epoch());
        let cursor = {
            let state = inner.durable.state();
            let group = state.group(self.id).ok_or(ShareError::UnknownGroup)?;
            let Some(cursor) = group.cursors.get(&id) else {
                return Ok(None);
            };
            (have != Some(cursor.epoch())).then(|| cursor.clone())
        };
        Ok(self.change(inner, None, |locked, now| {
            if let Some(cursor) = cursor {
                let have = locked.parts.get(id);
                // Somebody may have come before.
                if have.is_none_or(|have| have.records.epoch() < cursor.epoch()) {
                    let memory = inner.settings.memory.empty(Class::Deliveries);
                    let part = Part::new(Records::new(cursor), memory);
                    locked.parts.put(id, part);
                }
            }
            locked.parts.with(id, |part| with(part, now))
        }))
    }

    /// What a member was given never came to it: others may have it.
    pub(super) fn not_sent(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        place: Place,
        whose: (&ByteString, Duration),
        acquired: &[ShareAcquired],
    ) {
        self.change(inner, None, |locked, _| {
            locked.parts.with_in(place, |part| {
                let each = acquired.iter();
                each.for_each(|of| part.records.not_sent(whose, *of));
            })
        });
        self.ring(place.0);
    }

    /// These are settled, and that is durable, in this epoch of the position.
    pub(super) fn settled(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        place: Place,
        ranges: &[Range<Offset>],
    ) {
        self.change(inner, None, |locked, _| {
            locked.parts.with_in(place, |part| {
                ranges
                    .iter()
                    .for_each(|range| part.records.settled(range.clone()));
                part.fit();
            })
        });
        // There may be room for more now.
        self.ring(place.0);
    }

    /// Nothing was kept of what was being settled: it is for so long the member's again whose it
    /// was, or waits for the next try where it was given up.
    pub(super) fn unsettled(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        place: Place,
        ranges: &[Range<Offset>],
        back: Option<&(ByteString, Duration)>,
    ) {
        self.change(inner, None, |locked, now| {
            locked.parts.with_in(place, |part| {
                for range in ranges.iter().cloned() {
                    match back {
                        Some((who, lock)) => {
                            let until = now.saturating_add(*lock);
                            part.records.unsettled(range, who, until);
                        }
                        None => part.records.put_off(range, now),
                    }
                }
            })
        });
    }

    /// What is known of a partition in this epoch of the position is not what the log knows: it
    /// begins anew. What is known of a later epoch stays.
    pub(super) fn restart(&self, place: Place) {
        let mut locked = self.locked();
        if locked.parts.with_in(place, |_| ()).is_some() {
            locked.parts.forget(place.0);
        }
    }

    /// Somebody waits for records from now on.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        let notify = Arc::new(Notify::new());
        let mut locked = self.locked();
        locked.numbers += 1;
        let number = locked.numbers;
        locked.waiting.insert(number, Arc::clone(&notify));
        drop(locked);
        Waiting {
            live: Arc::clone(self),
            number,
            notify,
            parts: BTreeSet::new(),
        }
    }

    /// There may be something of a partition for those who wait for it.
    pub(super) fn ring(&self, id: PartitionId) {
        let bell = self.locked().bells.get(&id).cloned();
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    /// There may be something for everybody who waits.
    pub(super) fn ring_all(&self) {
        let locked = self.locked();
        locked.waiting.values().for_each(|who| who.notify_one());
    }

    /// A topic was deleted: nothing of it is to be given up any more.
    pub(super) fn topic_gone(&self, topic: TopicId) {
        self.locked().forget_topic(topic);
        self.ring_all();
    }

    /// Nobody is served any longer.
    pub(super) fn end(&self, inner: &Inner) {
        let mut locked = self.locked();
        locked.membership.end();
        locked.forget_all();
        locked.count(&self.total);
        let bells = std::mem::take(&mut locked.bells);
        drop(locked);
        let ours = |id, bell: &Arc<Bell>| {
            let have = bells.get(&id);
            have.is_some_and(|have| Arc::ptr_eq(have, bell))
        };
        inner.listening.forget(|id, bell| !ours(id, bell));
        self.changed.notify_one();
        self.ring_all();
    }
}

/// Somebody who waits for records; dropped, he does not any more.
pub(super) struct Waiting {
    live: Arc<Live>,
    number: u64,
    pub(super) notify: Arc<Notify>,
    /// The partitions whose bells wake him.
    parts: BTreeSet<PartitionId>,
}

impl Waiting {
    /// He waits for what comes in this partition from now on, too.
    pub(super) fn listen(&mut self, inner: &Inner, id: PartitionId) {
        if !self.parts.insert(id) {
            return;
        }
        let mut locked = self.live.locked();
        let bell = locked.bells.entry(id).or_insert_with(|| {
            let bell = Arc::default();
            inner.listening.listen(std::iter::once(id), &bell);
            bell
        });
        bell.add(&self.notify);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut locked = self.live.locked();
        locked.waiting.remove(&self.number);
        for id in &self.parts {
            if let Some(bell) = locked.bells.get(id) {
                bell.remove(&self.notify);
            }
        }
    }
}

impl Locked {
    fn deadline(&self) -> Option<Duration> {
        let ends = [self.parts.deadline(), self.membership.deadline()];
        ends.into_iter().flatten().min()
    }

    fn forget_all(&mut self) {
        self.parts = Parts::default();
        self.placed.clear();
    }

    fn forget_topic(&mut self, topic: TopicId) {
        self.parts.forget_topic(topic);
        self.bells.retain(|id, _| id.topic != topic);
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
