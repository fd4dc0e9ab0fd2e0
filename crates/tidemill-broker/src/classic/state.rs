//! The coordinator of one classic group: `(state, now, input) -> answers`, as Apache Kafka's
//! clients expect it. Members join, the leader shares the work out, and everybody gets its part;
//! whoever comes, goes or falls silent begins the next generation.
//!
//! Pure: time and ids come in, answers for those who wait go out through
//! [`Coordinator::take_answers`]. It may not know topics, offsets or what members say.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::member::{Member, Token};
use super::types::{
    ClassicBounds, ClassicCaller, ClassicDescription, ClassicError, ClassicJoined, ClassicMember,
    ClassicState, ClassicSync, ClassicSynced, JoinedMember,
};

/// An answer for somebody who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Joined(Token, Result<ClassicJoined, ClassicError>),
    Synced(Token, Result<ClassicSynced, ClassicError>),
}

/// How far the group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty,
    /// Members join. Where the group was empty, `initial` is how much longer it may wait for
    /// more of them, and whether one came meanwhile.
    Preparing {
        until: Duration,
        initial: Option<(Duration, bool)>,
    },
    /// Members ask for their parts, which the leader has not brought yet.
    Completing,
    Stable,
    Dead,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(super) bounds: ClassicBounds,
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: ByteString,
    /// The way of sharing of this generation; empty for none.
    pub(super) protocol: ByteString,
    pub(super) leader: Option<ByteString>,
    pub(super) members: BTreeMap<ByteString, Member>,
    /// The member of each instance's name.
    pub(super) instances: HashMap<ByteString, ByteString>,
    /// Ids that were given out and not used yet, with the time when they are void.
    pub(super) pending: BTreeMap<ByteString, Duration>,
    /// When members that have not asked for their parts are taken out.
    pub(super) sync_until: Option<Duration>,
    answers: Vec<Answer>,
}

impl Coordinator {
    /// A group without members.
    pub(crate) fn new(bounds: ClassicBounds) -> Self {
        Self {
            bounds,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: ByteString::new(),
            protocol: ByteString::new(),
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: BTreeMap::new(),
            sync_until: None,
            answers: Vec::new(),
        }
    }

    /// What those who wait are answered, since the last call.
    pub(crate) fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// How many members it has.
    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether it has neither members nor ids that may become some.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// Bytes that the members need in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let members = self.members.iter();
        let members: usize = members.map(|(id, member)| id.len() + member.bytes()).sum();
        let pending: usize = self.pending.keys().map(|id| id.len() + 16).sum();
        members + pending
    }

    /// How far it is.
    pub(crate) fn state(&self) -> ClassicState {
        match self.phase {
            Phase::Empty => ClassicState::Empty,
            Phase::Preparing { .. } => ClassicState::PreparingRebalance,
            Phase::Completing => ClassicState::CompletingRebalance,
            Phase::Stable => ClassicState::Stable,
            Phase::Dead => ClassicState::Dead,
        }
    }

    /// The group as it is now.
    pub(crate) fn describe(&self) -> ClassicDescription {
        let shared = self.phase == Phase::Stable;
        let one = |(id, member): (&ByteString, &Member)| ClassicMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&self.protocol),
            assignment: match shared {
                true => member.assignment.clone(),
                false => Bytes::new(),
            },
        };
        ClassicDescription {
            state: self.state(),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            leader: self.leader.clone(),
            members: self.members.iter().map(one).collect(),
        }
    }

    pub(super) fn answer_join(
        &mut self,
        id: &ByteString,
        answer: Result<ClassicJoined, ClassicError>,
    ) {
        let member = self.members.get_mut(id);
        if let Some(token) = member.and_then(|member| member.joining.take()) {
            self.answers.push(Answer::Joined(token, answer));
        }
    }

    pub(super) fn answer_sync(
        &mut self,
        id: &ByteString,
        answer: Result<ClassicSynced, ClassicError>,
    ) {
        let member = self.members.get_mut(id);
        if let Some(token) = member.and_then(|member| member.syncing.take()) {
            self.answers.push(Answer::Synced(token, answer));
        }
    }

    pub(super) fn answer(&mut self, token: Token, answer: Result<ClassicJoined, ClassicError>) {
        self.answers.push(Answer::Joined(token, answer));
    }

    /// A member's own part.
    pub(super) fn synced(&self, member: &Member) -> ClassicSynced {
        ClassicSynced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }

    /// What a member is told of the generation.
    pub(super) fn joined(&self, id: &ByteString) -> ClassicJoined {
        let leads = self.leader.as_ref() == Some(id);
        let one = |(id, member): (&ByteString, &Member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(&self.protocol),
        };
        let members = self.members.iter().filter(|_| leads).map(one);
        ClassicJoined {
            generation: self.generation,
            member: id.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: members.collect(),
            skip_assignment: false,
        }
    }

    /// Whether the caller is a member, and the one that has its instance's name.
    pub(super) fn known(&self, member: &str, instance: Option<&str>) -> Result<(), ClassicError> {
        if let Some(instance) = instance {
            let holder = self.instances.get(instance);
            let holder = holder.ok_or(ClassicError::UnknownMember)?;
            if holder != member {
                return Err(ClassicError::Fenced);
            }
        }
        match self.members.contains_key(member) {
            true => Ok(()),
            false => Err(ClassicError::UnknownMember),
        }
    }

    fn in_generation(&self, caller: &ClassicCaller) -> Result<(), ClassicError> {
        self.known(&caller.member, caller.instance.as_deref())?;
        match caller.generation == self.generation {
            true => Ok(()),
            false => Err(ClassicError::Generation),
        }
    }

    pub(super) fn heard(&mut self, id: &str, now: Duration) {
        if let Some(member) = self.members.get_mut(id) {
            member.heard(now);
        }
    }

    /// A member asks for its part; the leader brings everybody's. The answer comes at once, or
    /// with [`Coordinator::take_answers`].
    pub(crate) fn sync(&mut self, now: Duration, token: Token, sync: ClassicSync) {
        if let Err(error) = self.try_sync(now, token, sync) {
            self.answers.push(Answer::Synced(token, Err(error)));
        }
    }

    fn try_sync(
        &mut self,
        now: Duration,
        token: Token,
        sync: ClassicSync,
    ) -> Result<(), ClassicError> {
        if self.phase == Phase::Dead {
            return Err(ClassicError::Unavailable);
        }
        self.in_generation(&sync.caller)?;
        let differs = |asked: &Option<ByteString>, have: &ByteString| {
            asked.as_ref().is_some_and(|asked| asked != have)
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            let why = format!("the group has {} {}", self.protocol_type, self.protocol);
            return Err(ClassicError::Protocol(why));
        }
        let id = sync.caller.member;
        match self.phase {
            Phase::Empty | Phase::Dead => Err(ClassicError::UnknownMember),
            Phase::Preparing { .. } => Err(ClassicError::Rebalancing),
            Phase::Completing => {
                let leads = self.takes_parts(&id);
                if leads {
                    self.fits(&sync.assignments)?;
                }
                self.wait_for_part(now, &id, token);
                if leads {
                    self.share_out(now, sync.assignments);
                }
                Ok(())
            }
            Phase::Stable => {
                self.wait_for_part(now, &id, token);
                self.give_part(&id);
                Ok(())
            }
        }
    }

    /// Whether what this member shares out would be kept now.
    pub(super) fn takes_parts(&self, id: &ByteString) -> bool {
        self.phase == Phase::Completing && self.leader.as_ref() == Some(id)
    }

    fn fits(&self, assignments: &[(ByteString, Bytes)]) -> Result<(), ClassicError> {
        match self.bytes() + parts_bytes(assignments) > self.bounds.bytes_max {
            true => Err(ClassicError::Full(
                "what the leader shares out is too large",
            )),
            false => Ok(()),
        }
    }

    fn wait_for_part(&mut self, now: Duration, id: &ByteString, token: Token) {
        // One that asks again does not wait for the first answer any longer.
        self.answer_sync(id, Err(ClassicError::Rebalancing));
        if let Some(member) = self.members.get_mut(id) {
            member.heard(now);
            member.unsynced = false;
            member.syncing = Some(token);
        }
    }

    fn give_part(&mut self, id: &ByteString) {
        if let Some(member) = self.members.get(id) {
            let part = self.synced(member);
            self.answer_sync(id, Ok(part));
        }
    }

    /// The leader has shared the work out.
    fn share_out(&mut self, now: Duration, assignments: Vec<(ByteString, Bytes)>) {
        self.phase = Phase::Stable;
        for (id, part) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = part;
            }
        }
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let waits = |member: &Member| member.syncing.is_some();
            if self.members.get(&id).is_some_and(waits) {
                self.give_part(&id);
                self.heard(&id, now);
            }
        }
    }

    /// A member says that it lives.
    ///
    /// # Errors
    /// [`ClassicError::Rebalancing`] where it is to join again; it lives all the same.
    pub(crate) fn heartbeat(
        &mut self,
        now: Duration,
        caller: &ClassicCaller,
    ) -> Result<(), ClassicError> {
        if self.phase == Phase::Dead {
            return Err(ClassicError::Unavailable);
        }
        self.in_generation(caller)?;
        self.heard(&caller.member, now);
        match self.phase {
            Phase::Preparing { .. } => Err(ClassicError::Rebalancing),
            Phase::Empty | Phase::Dead => Err(ClassicError::UnknownMember),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    /// Whether the caller may set the group's positions now. Without an id and a generation it
    /// may while there are no members.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn may_commit(
        &mut self,
        now: Duration,
        caller: &ClassicCaller,
        in_transaction: bool,
    ) -> Result<(), ClassicError> {
        if self.phase == Phase::Dead {
            return Err(ClassicError::Unavailable);
        }
        let named = !caller.member.is_empty() || caller.instance.is_some();
        if caller.generation < 0 && (self.phase == Phase::Empty || in_transaction && !named) {
            return Ok(());
        }
        self.in_generation(caller)?;
        match self.phase {
            Phase::Completing if !in_transaction => Err(ClassicError::Rebalancing),
            _ => {
                self.heard(&caller.member, now);
                Ok(())
            }
        }
    }

    /// When [`Coordinator::tick`] has something to do next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let members = self.members.values().filter_map(Member::deadline);
        let pending = self.pending.values().copied();
        let phase = match self.phase {
            Phase::Preparing { until, .. } => Some(until),
            _ => None,
        };
        let timers = phase.into_iter().chain(self.sync_until);
        members.chain(pending).chain(timers).min()
    }

    /// The group is deleted, or nobody serves it any longer: all who wait are told, and whoever
    /// comes later.
    pub(crate) fn end(&mut self, why: &ClassicError) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            self.answer_join(&id, Err(why.clone()));
            self.answer_sync(&id, Err(why.clone()));
        }
        self.members.clear();
        self.instances.clear();
        self.pending.clear();
        self.leader = None;
        self.sync_until = None;
        self.phase = Phase::Dead;
    }
}

/// Bytes of what a leader shares out.
pub(super) fn parts_bytes(assignments: &[(ByteString, Bytes)]) -> usize {
    assignments.iter().map(|(_, part)| part.len()).sum()
}
