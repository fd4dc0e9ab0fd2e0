//! The coordinator of one consumer group: `(state, now, heartbeat) -> answer`, as Apache Kafka's
//! clients expect it (KIP-848). It shares the partitions out by itself, and leads each member to
//! its part in steps of which none leaves a partition with two members.
//!
//! Pure: time, ids and topics come in. It may not know offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::assign::{Assignor, Reader, assign};
use super::member::{Member, Owners, PART_BYTES};
use super::patterns::Pattern;
use super::reads::{AllReads, Reads};
use super::types::{
    ConsumerBounds, ConsumerCaller, ConsumerDescription, ConsumerError, ConsumerHeartbeat,
    ConsumerMember, ConsumerParts, ConsumerPlace, ConsumerState, ConsumerTopicParts, EPOCH_JOIN,
    EPOCH_LEAVE, EPOCH_LEAVE_FOR_A_WHILE, racked,
};
use crate::catalog::Catalog;
use crate::limits::{CONSUMER_HEARTBEAT_INTERVAL_MIN, SUBSCRIPTION_TOPICS_MAX};

/// Makes room for so many bytes, or says that there is none.
pub(crate) type Room<'a> = dyn FnMut(usize) -> Result<(), ConsumerError> + 'a;

/// What a heartbeat brings with it that is no part of it.
pub(super) struct With<'a> {
    /// The id of a member that comes without.
    pub(super) fresh: ByteString,
    /// What its expression matches, where it has one.
    pub(super) pattern: Option<Arc<Pattern>>,
    /// Is asked whether so many more bytes may be held.
    pub(super) room: &'a mut Room<'a>,
}

/// What is known of a heartbeat before anything is changed.
type Prepared = (Option<Assignor>, Arc<Reads>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Coordinator {
    bounds: ConsumerBounds,
    /// Rises when members come and go, when they read something else, and when topics change.
    pub(super) epoch: i32,
    /// The epoch for which the partitions are shared.
    pub(super) target_epoch: i32,
    /// How they are.
    assignor: Assignor,
    pub(super) members: BTreeMap<ByteString, Member>,
    /// The member of each instance's name.
    instances: HashMap<ByteString, ByteString>,
    /// Who has each partition.
    pub(super) owners: Owners,
    pub(super) reads: AllReads,
    /// The topics as they were at the last look.
    catalog: Arc<Catalog>,
    /// Members that there ever were.
    numbers: u32,
    /// It was deleted, or the broker is closing.
    ended: bool,
}

impl Coordinator {
    /// A group without members.
    pub(crate) fn new(bounds: ConsumerBounds) -> Self {
        Self {
            bounds,
            epoch: 0,
            target_epoch: 0,
            assignor: Assignor::default(),
            members: BTreeMap::new(),
            instances: HashMap::new(),
            owners: Owners::new(bounds.free_from),
            reads: AllReads::default(),
            catalog: Arc::default(),
            numbers: 0,
            ended: false,
        }
    }

    /// How many members it has.
    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Nobody is served any longer.
    pub(crate) fn end(&mut self) {
        let bounds = self.bounds;
        *self = Self::new(bounds);
        self.ended = true;
    }

    /// When something is to be done if nobody is heard of before.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.members.values().map(Member::deadline).min()
    }

    /// Bytes that the members need in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let members = self.members.iter();
        let members: usize = members.map(|(id, member)| id.len() + member.bytes()).sum();
        members + self.owners.len() * PART_BYTES + self.reads.bytes()
    }

    /// A member is heard of.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub(super) fn heartbeat(
        &mut self,
        now: Duration,
        catalog: &Arc<Catalog>,
        beat: ConsumerHeartbeat,
        with: With<'_>,
    ) -> Result<ConsumerPlace, ConsumerError> {
        if self.ended {
            return Err(ConsumerError::Unavailable);
        }
        checked(&beat)?;
        self.look(catalog);
        match beat.epoch {
            EPOCH_LEAVE | EPOCH_LEAVE_FOR_A_WHILE => self.leave(now, beat),
            EPOCH_JOIN => self.join(now, beat, with),
            _ => self.go_on(now, beat, with),
        }
    }

    /// Looks whether somebody who joins would be taken in now, and changes nothing.
    ///
    /// # Errors
    /// As [`Coordinator::heartbeat`] would.
    pub(super) fn would_take_in(
        &mut self,
        catalog: &Arc<Catalog>,
        beat: &ConsumerHeartbeat,
        mut with: With<'_>,
    ) -> Result<(), ConsumerError> {
        if self.ended {
            return Err(ConsumerError::Unavailable);
        }
        checked(beat)?;
        self.look(catalog);
        let prepared = self.prepared_to_join(beat, &mut with);
        let would = prepared.map(|_| ());
        self.reads.keep();
        would
    }

    /// Topics that came, went or grew since the last look are taken into account.
    fn look(&mut self, catalog: &Arc<Catalog>) {
        if Arc::ptr_eq(catalog, &self.catalog) {
            return;
        }
        self.catalog = Arc::clone(catalog);
        let others = self.reads.look(catalog);
        let mut changed = false;
        for member in self.members.values_mut() {
            if let Some(other) = others.get(&Arc::as_ptr(&member.reads)) {
                member.reads = Arc::clone(other);
                changed = true;
            }
        }
        if changed {
            self.raise();
        }
    }

    /// The group is in its next epoch.
    fn raise(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    fn join(
        &mut self,
        now: Duration,
        beat: ConsumerHeartbeat,
        mut with: With<'_>,
    ) -> Result<ConsumerPlace, ConsumerError> {
        let (id, holder, prepared) = self.prepared_to_join(&beat, &mut with)?;
        if let Some(holder) = holder.filter(|holder| *holder != id) {
            self.rename(&holder, &id);
        }
        // One that has another instance's name now is another member.
        let have = self.members.get(&id);
        if have.is_some_and(|have| have.instance != beat.instance) {
            self.take_out(&id);
        }
        let comes = !self.members.contains_key(&id);
        if comes {
            self.numbers = self.numbers.wrapping_add(1);
            let mut member = Member::new(self.numbers);
            member.instance = beat.instance.clone();
            if let Some(instance) = &beat.instance {
                self.instances.insert(instance.clone(), id.clone());
            }
            self.members.insert(id.clone(), member);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.begin_anew(&mut self.owners);
        }
        self.update(now, id, beat, prepared, comes)
    }

    /// The id of somebody who joins, and the member whose place it takes, if it does.
    fn prepared_to_join(
        &mut self,
        beat: &ConsumerHeartbeat,
        with: &mut With<'_>,
    ) -> Result<(ByteString, Option<ByteString>, Prepared), ConsumerError> {
        let id = match beat.member.is_empty() {
            true => with.fresh.clone(),
            false => beat.member.clone(),
        };
        let holder = self.holder(beat, &id)?;
        let more = holder.is_none() && !self.members.contains_key(&id);
        if more && self.members.len() >= self.bounds.members_max {
            return Err(ConsumerError::Full("it has as many members as it may have"));
        }
        let have = self.members.get(holder.as_ref().unwrap_or(&id));
        let have = have.filter(|have| have.instance == beat.instance);
        let have = have.map(|have| Arc::clone(&have.reads));
        let prepared = self.prepared(beat, &have.unwrap_or_default(), with)?;
        Ok((id, holder, prepared))
    }

    /// The member that has the instance's name of somebody who joins.
    fn holder(
        &self,
        beat: &ConsumerHeartbeat,
        id: &ByteString,
    ) -> Result<Option<ByteString>, ConsumerError> {
        let holder = beat.instance.as_ref();
        let Some(holder) = holder.and_then(|instance| self.instances.get(instance)) else {
            return Ok(None);
        };
        let left = |member: &Member| member.epoch == EPOCH_LEAVE_FOR_A_WHILE;
        match holder == id || self.members.get(holder).is_some_and(left) {
            true => Ok(Some(holder.clone())),
            false => Err(ConsumerError::UnreleasedInstance),
        }
    }

    /// Another process has an instance's name, and all that belongs to it.
    fn rename(&mut self, from: &ByteString, to: &ByteString) {
        self.take_out(to);
        if let Some(member) = self.members.remove(from) {
            if let Some(instance) = &member.instance {
                self.instances.insert(instance.clone(), to.clone());
            }
            self.members.insert(to.clone(), member);
        }
    }

    /// Looks at what a heartbeat names before anything is changed, and whether there is room.
    fn prepared(
        &mut self,
        beat: &ConsumerHeartbeat,
        have: &Arc<Reads>,
        with: &mut With<'_>,
    ) -> Result<Prepared, ConsumerError> {
        let assignor = beat.assignor.as_ref().map(|name| {
            let known = Assignor::of(name);
            known.ok_or_else(|| ConsumerError::UnknownAssignor(name.to_string()))
        });
        let assignor = assignor.transpose()?;
        let pattern = with.pattern.as_ref();
        let reads = self.reads.of(have, beat, pattern, &self.catalog)?;
        if beat.topics.is_some() || beat.pattern.is_some() {
            let parts: usize = reads.found.values().map(|count| *count as usize).sum();
            // As target, as what it has, and with its owner. What is read is counted already.
            let more = beat.bytes() + 3 * PART_BYTES * parts;
            if self.bytes() + more > self.bounds.bytes_max {
                return Err(ConsumerError::Full("its members say or have too much"));
            }
            (with.room)(more + reads.bytes())?;
        }
        Ok((assignor, reads))
    }

    /// A member that is one already says that it lives.
    fn go_on(
        &mut self,
        now: Duration,
        beat: ConsumerHeartbeat,
        mut with: With<'_>,
    ) -> Result<ConsumerPlace, ConsumerError> {
        let id = beat.member.clone();
        let member = self.known(&id, beat.instance.as_ref())?;
        let may_be_late = |owned: &ConsumerParts| {
            beat.epoch == member.previous && owned.is_subset(&member.assigned)
        };
        let late = beat.epoch < member.epoch && beat.owned.as_ref().is_some_and(may_be_late);
        if beat.epoch != member.epoch && !late {
            return Err(ConsumerError::FencedEpoch);
        }
        let have = Arc::clone(&member.reads);
        let prepared = self.prepared(&beat, &have, &mut with)?;
        drop(have);
        self.update(now, id, beat, prepared, false)
    }

    fn known(
        &self,
        id: &ByteString,
        instance: Option<&ByteString>,
    ) -> Result<&Member, ConsumerError> {
        if let Some(instance) = instance {
            let holder = self.instances.get(instance);
            if holder.ok_or(ConsumerError::UnknownMember)? != id {
                return Err(ConsumerError::FencedInstance);
            }
        }
        self.members.get(id).ok_or(ConsumerError::UnknownMember)
    }

    fn update(
        &mut self,
        now: Duration,
        id: ByteString,
        beat: ConsumerHeartbeat,
        prepared: Prepared,
        comes: bool,
    ) -> Result<ConsumerPlace, ConsumerError> {
        let tells_all = beat.epoch == EPOCH_JOIN || beat.is_whole();
        let owned = beat.owned.clone();
        let Some(member) = self.members.get_mut(&id) else {
            return Err(ConsumerError::UnknownMember);
        };
        member.expires = now.saturating_add(self.bounds.session_timeout);
        let had = member.assigned.clone();
        if member.update(beat, prepared) || comes {
            self.raise();
        }
        self.reads.keep();
        if self.target_epoch < self.epoch {
            self.share_out();
        }
        let (target_epoch, owners) = (self.target_epoch, &mut self.owners);
        let Some(member) = self.members.get_mut(&id) else {
            return Err(ConsumerError::UnknownMember);
        };
        member.reconcile(now, target_epoch, owned.as_ref(), owners);
        let tells = tells_all || member.assigned != had;
        Ok(ConsumerPlace {
            member: id,
            epoch: member.epoch,
            heartbeat_interval: self.bounds.again_after(now),
            assignment: tells.then(|| member.assigned.clone()),
        })
    }

    /// Says anew who is to have what.
    fn share_out(&mut self) {
        self.assignor = self.wanted_assignor();
        let readers = self.members.values().map(|member| Reader {
            topics: Arc::clone(&member.reads.found),
            had: Some(&member.target),
        });
        let readers: Vec<_> = readers.collect();
        let shared = assign(self.assignor, &readers);
        drop(readers);
        for (member, target) in self.members.values_mut().zip(shared) {
            member.target = target;
        }
        self.target_epoch = self.epoch;
    }

    /// The way of sharing that most members want who want one.
    fn wanted_assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(assignor, _)| assignor).unwrap_or_default()
    }

    fn leave(
        &mut self,
        now: Duration,
        beat: ConsumerHeartbeat,
    ) -> Result<ConsumerPlace, ConsumerError> {
        let id = beat.member.clone();
        self.known(&id, beat.instance.as_ref())?;
        if beat.epoch == EPOCH_LEAVE {
            self.take_out(&id);
            self.reads.keep();
            self.raise();
        } else if let Some(member) = self.members.get_mut(&id) {
            member.leave_for_a_while(&mut self.owners);
            member.expires = now.saturating_add(self.bounds.session_timeout);
        }
        Ok(ConsumerPlace {
            member: id,
            epoch: beat.epoch,
            heartbeat_interval: self.bounds.heartbeat_interval,
            assignment: None,
        })
    }

    /// The topics that members read, with how many partitions they have.
    #[cfg(test)]
    pub(super) fn topics(&self) -> BTreeMap<tidemill_core::TopicId, u32> {
        let each = self.members.values();
        let each = each.flat_map(|member| member.reads.found.iter());
        each.map(|(id, count)| (*id, *count)).collect()
    }

    /// Lets a member go with all that it has.
    fn take_out(&mut self, id: &ByteString) {
        let Some(gone) = self.members.remove(id) else {
            return;
        };
        self.owners.release(&gone.assigned);
        self.owners.release(&gone.revoking);
        if let Some(instance) = gone.instance {
            self.instances.remove(&instance);
        }
    }

    /// Does what time has brought: members that were silent for too long go, and those that did
    /// not give back in time what they were told to. Answers who went.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<ByteString> {
        let due = |member: &Member| member.deadline() <= now;
        let gone = self.members.iter().filter(|(_, member)| due(member));
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.take_out(id);
        }
        if !gone.is_empty() {
            self.reads.keep();
            self.raise();
        }
        gone
    }

    /// Whether the caller may commit, or see positions that are decided.
    ///
    /// # Errors
    /// [`ConsumerError::UnknownMember`] and [`ConsumerError::StaleEpoch`].
    pub(crate) fn may_commit(&self, caller: &ConsumerCaller) -> Result<(), ConsumerError> {
        if self.ended {
            return Err(ConsumerError::Unavailable);
        }
        if caller.is_nobody() && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&caller.member);
        let member = member.ok_or(ConsumerError::UnknownMember)?;
        match member.epoch == caller.epoch {
            true => Ok(()),
            false => Err(ConsumerError::StaleEpoch),
        }
    }

    fn state(&self) -> ConsumerState {
        let mut members = self.members.values();
        match () {
            () if self.members.is_empty() => ConsumerState::Empty,
            () if self.target_epoch < self.epoch => ConsumerState::Assigning,
            () if members.all(|member| member.is_settled(self.target_epoch)) => {
                ConsumerState::Stable
            }
            () => ConsumerState::Reconciling,
        }
    }

    /// The group as it is now.
    pub(crate) fn describe(&self) -> ConsumerDescription {
        let one = |(id, member): (&ByteString, &Member)| {
            let mut has = member.assigned.clone();
            has.extend(&member.revoking);
            ConsumerMember {
                member: id.clone(),
                instance: member.instance.clone(),
                rack: member.rack.clone(),
                epoch: member.epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topics: member.reads.topics.iter().cloned().collect(),
                pattern: member.reads.pattern.clone(),
                assigned: named(&self.catalog, &has),
                target: named(&self.catalog, &member.target),
            }
        };
        ConsumerDescription {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: self.assignor.name(),
            members: self.members.iter().map(one).collect(),
        }
    }
}

/// Partitions by their topics, without those of topics that are gone.
pub(crate) fn named(catalog: &Catalog, parts: &ConsumerParts) -> Vec<ConsumerTopicParts> {
    let mut topics: Vec<ConsumerTopicParts> = Vec::new();
    for (id, partition) in parts {
        if let Some(last) = topics.last_mut().filter(|last| last.id == *id) {
            last.partitions.push(*partition);
            continue;
        }
        if let Some(name) = catalog.name(*id) {
            topics.push(ConsumerTopicParts {
                id: *id,
                name: name.clone(),
                partitions: vec![*partition],
            });
        }
    }
    topics
}

impl ConsumerBounds {
    /// When a member is to be heard of again: earlier where all wait for the same moment.
    fn again_after(&self, now: Duration) -> Duration {
        match self.free_from.saturating_sub(now) {
            Duration::ZERO => self.heartbeat_interval,
            wait => wait
                .max(CONSUMER_HEARTBEAT_INTERVAL_MIN)
                .min(self.heartbeat_interval),
        }
    }
}

/// Refuses what makes no sense, whatever the group is.
fn checked(beat: &ConsumerHeartbeat) -> Result<(), ConsumerError> {
    let empty = |text: &Option<ByteString>| text.as_ref().is_some_and(|text| text.is_empty());
    if empty(&beat.instance) || empty(&beat.rack) || empty(&beat.assignor) {
        return Err(ConsumerError::Invalid(
            "an instance, rack or assignor has a name",
        ));
    }
    racked(beat.rack.as_ref())?;
    let many = |topics: &&BTreeSet<_>| topics.len() > SUBSCRIPTION_TOPICS_MAX;
    if beat.topics.as_ref().filter(many).is_some() {
        return Err(ConsumerError::Full("a member names too many topics"));
    }
    let whole = beat.is_whole() && beat.owned.as_ref().is_some_and(ConsumerParts::is_empty);
    let why = match beat.epoch {
        EPOCH_JOIN if !whole => {
            "who joins says what it reads, how long it may take to give partitions back, and \
             that it has none"
        }
        EPOCH_LEAVE_FOR_A_WHILE if beat.instance.is_none() => {
            "only who has an instance's name leaves for a while"
        }
        epoch if epoch < EPOCH_LEAVE_FOR_A_WHILE => "there is no such epoch",
        epoch if epoch != EPOCH_JOIN && beat.member.is_empty() => "a member has an id",
        _ => return Ok(()),
    };
    Err(ConsumerError::Invalid(why))
}
