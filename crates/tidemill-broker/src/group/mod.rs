//! Consumer groups: the shell around the pure delivery state. It reads the log for its members,
//! waits for them, and commits what they settle.
//!
//! Invariant: nothing waits while the state is locked, and nothing is read or decoded then.

mod core;
mod flow;
mod guarded;
mod lanes;
mod member;
mod memory;
mod overview;
mod queue;
mod settle;
mod settler;
mod suspects;
#[cfg(test)]
mod suspects_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unreadable;
mod work;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_core::budget::Budget;
use tidemill_core::cursor::Cursor;
use tidemill_core::delivery::Settle;
use tidemill_core::slots::MemberId;
use tidemill_core::{
    Event, Generation, GroupName, Offset, Order, SettleError, Ticket, TopicId, TopicName,
};
use tidemill_log::{Batch, DiskRead, PartitionId, Read, ReadError};
use tokio::sync::Notify;

use self::core::Core;
pub(crate) use self::member::Member;
use self::memory::{Held, Memory};
use self::queue::FlowIndex;
use self::settle::{Begun, Ended};
use self::settler::Settler;
pub(crate) use self::settler::{DEAD_LETTER_MAX_BYTES, goes_round};
use self::suspects::Guard;
pub(crate) use self::work::Taken;
use self::work::{Loaded, ReadPlan};
use crate::alter::widen;
use crate::broker::Inner;
use crate::decode::{Want, decode};
use crate::info::{GroupPartitionInfo, MemberInfo};
use crate::limits::{
    GROUP_MEMBERS_MAX, GROUP_SLOTS, MEMORY_AGAIN_AFTER, READ_EVENTS_MAX_BYTES, READ_LEAST_BYTES,
    READ_TRIES_MAX,
};
use crate::machine::{GroupId, GroupKind, Operation, Topic};
use crate::metrics::add;
use crate::transaction::Stable;
use crate::watch::Bell;

/// How long a partition that the disk would not read is left alone.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Reads that one look for work makes at most before it takes what there is.
const READS_MAX: usize = 16;

/// A group with the deliveries of this process.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: GroupName,
    pub(crate) id: GroupId,
    memory: Memory,
    bell: Arc<Bell>,
    locked: Mutex<Locked>,
}

#[derive(Debug)]
struct Locked {
    core: Core,
    /// Up to which growth of topics it was looked for partitions that are new to the group.
    growths: u64,
    /// How each member is woken.
    notifies: HashMap<MemberId, Arc<Notify>>,
}

impl Locked {
    fn refuses(&self, order: Order) -> Option<JoinRefused> {
        if let Some(have) = self.core.order_in_use().filter(|have| *have != order) {
            return Some(JoinRefused::Order(have));
        }
        (self.notifies.len() >= GROUP_MEMBERS_MAX).then_some(JoinRefused::Members)
    }

    /// Wakes who has something to look at, but for one that looks right now.
    fn wake(&mut self, but: Option<MemberId>) {
        while let Some(member) = self.core.wake.pop_first() {
            if Some(member) != but
                && let Some(notify) = self.notifies.get(&member)
            {
                notify.notify_one();
            }
        }
    }
}

/// Why a member was not taken in.
#[derive(Debug)]
pub(crate) enum JoinRefused {
    /// The members that are there keep another order.
    Order(Order),
    /// There are too many.
    Members,
}

/// A group as it is now.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) order: Order,
    pub(crate) generation: Generation,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) members: Vec<MemberInfo>,
    pub(crate) slots: u32,
    pub(crate) partitions: Vec<GroupPartitionInfo>,
}

impl Group {
    /// A group without members. Its generations begin above `generation`.
    pub(crate) fn new(
        budget: &Budget,
        name: GroupName,
        id: GroupId,
        order: Order,
        generation: Generation,
    ) -> Self {
        Self {
            name,
            id,
            memory: Memory::new(budget),
            bell: Arc::new(Bell::default()),
            locked: Mutex::new(Locked {
                core: Core::new(order, generation),
                growths: 0,
                notifies: HashMap::new(),
            }),
        }
    }

    /// The same of another kind.
    pub(crate) fn of_kind(self, kind: GroupKind) -> Self {
        self.locked().core.bounds = kind.bounds();
        self
    }

    /// Settles what this group has given out, with the ticket alone.
    pub(crate) fn settler(self: &Arc<Self>, inner: &Arc<Inner>) -> Arc<dyn Settle> {
        Arc::new(Settler::new(Arc::clone(inner), Arc::clone(self)))
    }

    /// The position in a partition that the group reads, and what is in flight above it.
    pub(crate) fn held(&self, partition: PartitionId) -> Option<(Cursor, BTreeSet<Offset>)> {
        let locked = self.locked();
        let index = locked.core.flow_index(partition)?;
        let flow = locked.core.flows.get(index.0)?;
        let in_flight = flow.in_flight.keys().copied();
        Some((flow.cursor.clone(), in_flight.collect()))
    }

    fn locked(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a member that keeps this order would not be taken in now.
    pub(crate) fn refuses(&self, order: Order) -> Option<JoinRefused> {
        self.locked().refuses(order)
    }

    /// Takes a member in.
    pub(crate) fn join(
        &self,
        inner: &Inner,
        order: Order,
        topics: Vec<(TopicName, Topic, Vec<Cursor>)>,
    ) -> Result<(MemberId, Arc<Notify>), JoinRefused> {
        let mut locked = self.locked();
        if let Some(refused) = locked.refuses(order) {
            return Err(refused);
        }
        let ids: Vec<_> = topics.iter().map(|(_, topic, _)| *topic).collect();
        let member = locked.core.join(order, topics);
        // What it was told of the topics may be old by now.
        locked.growths = 0;
        let notify = Arc::new(Notify::new());
        locked.notifies.insert(member, Arc::clone(&notify));
        self.bell.set(locked.notifies.values().cloned().collect());
        let partitions = ids.into_iter().flat_map(Topic::partition_ids);
        inner.listening.listen(partitions, &self.bell);
        locked.wake(None);
        Ok((member, notify))
    }

    /// One of the topics may have more partitions by now: its members look.
    pub(crate) fn topic_changed(&self, topic: TopicId) {
        let mut locked = self.locked();
        if locked.core.read_topics().any(|(_, read)| read.id == topic) {
            locked.core.wake_all();
            locked.wake(None);
        }
    }

    /// Where topics have got partitions since the last look, has the group read those.
    fn look_for_growth(self: &Arc<Self>, inner: &Arc<Inner>) {
        let growths = inner.durable.growths();
        let mut locked = self.locked();
        if locked.growths == growths {
            return;
        }
        locked.growths = growths;
        let catalog = inner.durable.catalog();
        let grown = |(name, read): (&TopicName, Topic)| {
            let now = catalog.topic(name)?;
            (now.id == read.id && now.partitions > read.partitions).then(|| (name.clone(), read.id))
        };
        let grown: Vec<_> = locked.core.read_topics().filter_map(grown).collect();
        drop(locked);
        for (name, id) in grown {
            widen(inner, self, name, id);
        }
    }

    /// Takes in the positions in partitions that topics have got.
    pub(crate) fn grow(&self, inner: &Inner, topics: Vec<(TopicName, Topic, Vec<Cursor>)>) {
        let mut locked = self.locked();
        for (name, topic, cursors) in topics {
            if locked.core.grow(&name, topic, cursors) && !locked.notifies.is_empty() {
                inner.listening.listen(topic.partition_ids(), &self.bell);
            }
        }
        locked.wake(None);
    }

    /// Lets a member go.
    pub(crate) fn leave(&self, inner: &Inner, member: MemberId) {
        let mut locked = self.locked();
        locked.core.leave(member);
        locked.notifies.remove(&member);
        self.bell.set(locked.notifies.values().cloned().collect());
        locked.wake(None);
        if locked.notifies.is_empty() {
            inner
                .listening
                .forget(|_, bell| !Arc::ptr_eq(bell, &self.bell));
        }
    }

    /// The process died before this life, and a member handles here: what may have been in flight
    /// then is watched, as far as that is not so already.
    pub(crate) fn watch(&self, inner: &Inner) {
        let epoch = inner.handle.epoch();
        let state = inner.durable.state().group_now(self.id);
        let Some(state) = state else {
            return;
        };
        let mut locked = self.locked();
        let partitions: Vec<_> = locked.core.flows.iter().map(|flow| flow.id).collect();
        for id in partitions {
            let end = inner.stable(id).map_or(Offset(0), |stable| stable.end);
            let marks = state.marks.get(&id).into_iter().flatten();
            let before = marks.filter(|(_, mark)| mark.epoch < epoch);
            let before = before.map(|(offset, mark)| (*offset, *mark));
            locked.core.watch(id, end, before);
        }
    }

    /// Reads what a member could have, then gives it at most `credit` events.
    pub(crate) fn take(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        member: MemberId,
        credit: usize,
        guard: Option<&mut Guard>,
    ) -> Taken {
        self.take_where(inner, member, credit, None, guard)
    }

    /// The first event that waits for a member, as far as they are read.
    pub(crate) fn first(&self, member: MemberId) -> Option<Arc<Event>> {
        let locked = self.locked();
        let first = locked.core.first_item(member)?;
        Some(Arc::clone(&first.event))
    }

    /// As [`Group::take`], but only as long as the next event is one that `may` be taken.
    pub(crate) fn take_where(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        member: MemberId,
        credit: usize,
        may: Option<&dyn Fn(&Event) -> bool>,
        guard: Option<&mut Guard>,
    ) -> Taken {
        self.look_for_growth(inner);
        let mut reads = 0;
        let (mut short, mut starves) = (false, false);
        while reads < READS_MAX {
            let mut locked = self.locked();
            if locked.core.ready(member) >= credit {
                break;
            }
            let end = |id| inner.stable(id).map(|stable| stable.end);
            let Some(plan) = locked.core.plan_read(member, end) else {
                break;
            };
            let Some(held) = self.memory.reserve(locked.core.read_least) else {
                locked.core.unread(&plan);
                locked.core.short = true;
                (short, starves) = (true, self.memory.is_empty());
                break;
            };
            drop(locked);
            self.read(inner, member, plan, held);
            reads += 1;
        }
        if starves {
            inner.shed_for(self);
        }
        let mut locked = self.locked();
        let now = inner.now();
        let mut taken = locked
            .core
            .take_where(&self.name, member, credit, may, guard, now);
        if let Taken::Nothing { due, .. } = &mut taken
            && short
        {
            let again = now + MEMORY_AGAIN_AFTER;
            *due = Some(due.map_or(again, |due| due.min(again)));
        }
        // Where all that was read is for others, this one goes on after a break.
        let unfinished = reads == READS_MAX && matches!(taken, Taken::Nothing { .. });
        if unfinished {
            locked.core.wake.insert(member);
        }
        locked.wake((!unfinished).then_some(member));
        taken
    }

    /// Makes one read: at once where the records are in memory, else on a thread that may
    /// block.
    fn read(self: &Arc<Self>, inner: &Arc<Inner>, member: MemberId, plan: ReadPlan, held: Held) {
        if let Some((read, stable, held)) = self.look(inner, &plan, held, Some(member)) {
            add(&inner.counters.disk_reads, 1);
            let (group, inner) = (Arc::clone(self), Arc::clone(inner));
            let run = move || {
                group.read_disk(&inner, plan, read, stable, held);
                // Also where nothing came of it: somebody may wait for just that.
                let mut locked = group.locked();
                locked.core.wake_readers(plan.flow);
                locked.wake(None);
            };
            tokio::task::spawn_blocking(run);
        }
    }

    /// Takes in what can be known without blocking; answers what has to be read from the disk,
    /// and what was decided before.
    fn look(
        self: &Arc<Self>,
        inner: &Inner,
        plan: &ReadPlan,
        held: Held,
        member: Option<MemberId>,
    ) -> Option<(DiskRead, Stable, Held)> {
        // Before the batches: what is decided only grows, what was deleted is not read.
        let Some(stable) = inner.stable(plan.id) else {
            self.topic_gone(plan.id.topic);
            return None;
        };
        if plan.offset < stable.earliest {
            self.skip(inner, plan, stable.earliest, member);
            return None;
        }
        let reader = inner.handle.reader();
        match reader.read(plan.id, plan.offset, held.read_bytes()) {
            Read::Disk(read) => return Some((read, stable, held)),
            Read::Batches(batches) => {
                self.take_in(inner, plan, &batches, held, &stable, member);
            }
            Read::OutOfRange(bounds) if plan.offset < bounds.earliest => {
                self.skip(inner, plan, bounds.earliest, member);
            }
            Read::Unknown => self.topic_gone(plan.id.topic),
            Read::OutOfRange(_) | Read::AtEnd => self.locked().core.unread(plan),
        }
        None
    }

    /// Reads from the disk; again where that was deleted meanwhile, since it is known by then
    /// what is there instead.
    fn read_disk(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        plan: ReadPlan,
        mut read: DiskRead,
        mut stable: Stable,
        mut held: Held,
    ) {
        let mut tries = 1;
        loop {
            let mut needs = 0;
            let room = |bytes| {
                needs = bytes;
                held.takes(bytes)
            };
            match read.run_within(room) {
                Err(ReadError::Gone(_)) if tries < READ_TRIES_MAX => tries += 1,
                Err(error) => return self.unreadable(inner, plan, error),
                Ok(None) => return self.read_with_room(&plan, needs + READ_LEAST_BYTES),
                Ok(Some(batches)) => {
                    return self.take_in(inner, &plan, &batches, held, &stable, None);
                }
            }
            match self.look(inner, &plan, held, None) {
                Some(again) => (read, stable, held) = again,
                None => return,
            }
        }
    }

    /// Takes in what comes out of batches, as far as there is memory for it.
    fn take_in(
        self: &Arc<Self>,
        inner: &Inner,
        plan: &ReadPlan,
        batches: &[Batch],
        held: Held,
        stable: &Stable,
        member: Option<MemberId>,
    ) {
        match self.decode(batches, plan, held, inner, stable) {
            Ok(loaded) => self.loaded(inner, plan, loaded, member),
            Err(needs) => self.read_with_room(plan, needs),
        }
    }

    /// The next read needs so much memory, and it was not free: it is tried again a little later.
    fn read_with_room(self: &Arc<Self>, plan: &ReadPlan, needs: usize) {
        self.locked().core.read_least = needs;
        self.read_after(*plan, MEMORY_AGAIN_AFTER);
    }

    /// The events of batches, or how much memory the first one needs that is not free.
    fn decode(
        &self,
        batches: &[Batch],
        plan: &ReadPlan,
        mut held: Held,
        inner: &Inner,
        stable: &Stable,
    ) -> Result<Loaded, usize> {
        let catalog = inner.durable.catalog();
        let want = Want {
            from: plan.offset,
            events_max: plan.events_max,
            bytes_max: READ_EVENTS_MAX_BYTES.min(held.bytes()),
        };
        let Some(topic) = catalog.name(plan.id.topic) else {
            // Deleted meanwhile; what was read is of no use.
            return Ok(Loaded {
                next: plan.offset,
                ..Loaded::default()
            });
        };
        let mut decoded = decode(batches, topic, plan.id, want, &stable.passing(batches));
        let left_out = self.memory.fit(&mut held, &mut decoded.events, batches)?;
        Ok(Loaded {
            events: decoded.events,
            next: left_out.unwrap_or(decoded.next),
            damage: decoded.damage,
            deleted: false,
            held: Some(Arc::new(held)),
        })
    }

    /// The partition begins at `earliest` by now, and the group was not there yet: it goes on
    /// there, and what it did not settle before is counted.
    fn skip(&self, inner: &Inner, plan: &ReadPlan, earliest: Offset, member: Option<MemberId>) {
        tracing::warn!(
            group = %self.name, partition = %plan.id, at = %plan.offset, begins = %earliest,
            "passed what was deleted before it was settled"
        );
        let loaded = Loaded {
            next: earliest,
            deleted: true,
            ..Loaded::default()
        };
        self.loaded(inner, plan, loaded, member);
    }

    /// Takes in what was read, and has passed offsets settled in the background.
    fn loaded(&self, inner: &Inner, plan: &ReadPlan, loaded: Loaded, member: Option<MemberId>) {
        if let Some(damage) = &loaded.damage {
            add(&inner.counters.damaged_reads, 1);
            tracing::error!(group = %self.name, %damage, "passed what cannot be read");
        }
        let end = inner.stable(plan.id).map(|stable| stable.end);
        let more = end.is_some_and(|end| loaded.next < end);
        let counter = match loaded.deleted {
            true => &inner.counters.missed,
            false => &inner.counters.passed,
        };
        let mut locked = self.locked();
        locked.core.read_least = READ_LEAST_BYTES;
        let passed = locked.core.loaded(plan, loaded);
        if more {
            // Who looked meanwhile found it being read, and what was read may be nobody's.
            locked.core.wake_readers(plan.flow);
        }
        locked.wake(member);
        drop(locked);
        add(counter, passed.offsets as usize);
        for range in passed.ranges {
            let operation = Operation::Pass {
                group: self.id,
                partition: plan.id,
                range,
            };
            // Where this is not kept, they are passed again after a restart.
            inner.handle.submit(operation, |_| {});
        }
    }

    /// The disk did not give what it should have.
    fn unreadable(self: &Arc<Self>, inner: &Arc<Inner>, plan: ReadPlan, error: ReadError) {
        let why = error.to_string();
        match error {
            ReadError::Damaged { resume, .. } => {
                let loaded = Loaded {
                    next: resume.max(plan.offset.next()),
                    damage: Some(why),
                    ..Loaded::default()
                };
                self.loaded(inner, &plan, loaded, None);
            }
            ReadError::Gone(_) => match inner.handle.reader().bounds(plan.id) {
                None => self.topic_gone(plan.id.topic),
                Some(bounds) if plan.offset < bounds.earliest => {
                    self.skip(inner, &plan, bounds.earliest, None);
                }
                // Nobody of ours deleted that file.
                Some(_) => self.read_later(inner, plan, why),
            },
            ReadError::Io { .. } => self.read_later(inner, plan, why),
        }
    }

    /// The disk did not give what it should have, and may do so later.
    fn read_later(self: &Arc<Self>, inner: &Inner, plan: ReadPlan, why: String) {
        add(&inner.counters.damaged_reads, 1);
        tracing::error!(group = %self.name, %why, "cannot read, trying again");
        self.locked().core.note_damage(plan.flow, why);
        self.read_after(plan, READ_AGAIN_AFTER);
    }

    /// Has a read wait so long.
    fn read_after(self: &Arc<Self>, plan: ReadPlan, wait: Duration) {
        let group = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut locked = group.locked();
            locked.core.unread(&plan);
            locked.core.wake_all();
            locked.wake(None);
        });
    }

    /// Events that wait for members and could be read again.
    pub(crate) fn waiting(&self) -> usize {
        self.locked().core.waiting()
    }

    /// Gives back the memory of what waits.
    pub(crate) fn shed(&self) {
        let mut locked = self.locked();
        locked.core.shed();
        locked.wake(None);
    }

    fn begin_settle(&self, ticket: &Ticket) -> Result<Begun, SettleError> {
        self.locked().core.begin_settle(ticket)
    }

    fn end_settle(&self, partition: PartitionId, ticket: &Ticket, ended: Ended) {
        let mut locked = self.locked();
        locked.core.end_settle(partition, ticket, ended);
        locked.wake(None);
    }

    /// Gives an attempt back, to be tried again when `due` if that is given. Answers whether
    /// the ticket was not stale.
    fn retry(&self, ticket: &Ticket, due: Option<Duration>) -> bool {
        let mut locked = self.locked();
        let partition = locked.core.partition_id(&ticket.position);
        let retried = partition.is_some_and(|id| locked.core.retry(id, ticket, due));
        locked.wake(None);
        retried
    }

    /// An attempt did not end the process.
    fn outlived(&self, ticket: &Ticket) {
        let mut locked = self.locked();
        locked.core.outlived(ticket);
        locked.wake(None);
    }

    /// The dead letter of an event that ended the process could not be kept: it is given up again
    /// later. Answers how often that was so.
    fn letter_refused(&self, ticket: &Ticket, now: Duration) -> u32 {
        let mut locked = self.locked();
        let times = locked.core.letter_refused(ticket, now);
        locked.wake(None);
        times
    }

    /// Makes everything in flight of a partition stale, and stops its reads.
    pub(crate) fn begin_seek(self: &Arc<Self>, partition: PartitionId) -> Option<SeekGuard> {
        let mut locked = self.locked();
        let flow = locked.core.flow_index(partition)?;
        locked.core.begin_seek(flow);
        locked.wake(None);
        Some(SeekGuard {
            group: Arc::clone(self),
            flow,
            cursor: None,
        })
    }

    /// These positions are durable: follows the seeks that it was not told of.
    pub(crate) fn follow(&self, cursors: impl IntoIterator<Item = (PartitionId, Cursor)>) {
        let mut locked = self.locked();
        for (partition, cursor) in cursors {
            locked.core.follow(partition, &cursor);
        }
        locked.wake(None);
    }

    /// A topic was deleted.
    pub(crate) fn topic_gone(&self, topic: TopicId) {
        let mut locked = self.locked();
        locked.core.topic_gone(topic);
        locked.wake(None);
    }

    /// The group was deleted.
    pub(crate) fn group_gone(&self) {
        let mut locked = self.locked();
        locked.core.group_gone();
        locked.wake(None);
    }

    /// The group as it is now, with the partitions of the topics that somebody reads or read.
    pub(crate) fn overview(&self) -> Overview {
        let locked = self.locked();
        let core = &locked.core;
        Overview {
            order: core.order,
            generation: core.generation,
            topics: core.topics(),
            members: core.member_infos(),
            slots: match core.order {
                Order::PerKey => GROUP_SLOTS,
                _ => 0,
            },
            partitions: core.partition_infos(),
        }
    }
}

/// A seek under way; dropped, the partition goes on from where it is then.
pub(crate) struct SeekGuard {
    group: Arc<Group>,
    flow: FlowIndex,
    cursor: Option<Cursor>,
}

impl SeekGuard {
    /// The position is durable.
    pub(crate) fn done(mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }
}

impl Drop for SeekGuard {
    fn drop(&mut self) {
        let mut locked = self.group.locked();
        locked.core.end_seek(self.flow, self.cursor.take());
        locked.wake(None);
    }
}
