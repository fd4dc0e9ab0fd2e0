//! From one generation to the next: who joins, who leaves, who is taken out, and which way of
//! sharing the members choose.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::member::{Member, Token, join_bytes};
use super::state::{Coordinator, Phase};
use super::types::{ClassicError, ClassicJoin};
use crate::limits::CLASSIC_PROTOCOLS_MAX;

impl Coordinator {
    /// Somebody joins. `fresh` is the id that a new member gets. The answer comes with
    /// [`Coordinator::take_answers`], in the end always.
    pub(crate) fn join(
        &mut self,
        now: Duration,
        token: Token,
        join: ClassicJoin,
        fresh: ByteString,
    ) {
        if let Err(error) = self.try_join(now, token, join, fresh) {
            self.answer(token, Err(error));
        }
    }

    fn try_join(
        &mut self,
        now: Duration,
        token: Token,
        join: ClassicJoin,
        fresh: ByteString,
    ) -> Result<(), ClassicError> {
        let (min, max) = (self.bounds.session_min, self.bounds.session_max);
        if self.phase == Phase::Dead {
            return Err(ClassicError::Unavailable);
        }
        if !(min..=max).contains(&join.session_timeout) {
            return Err(ClassicError::SessionTimeout { min, max });
        }
        self.speaks(&join)?;
        self.has_room(&join)?;
        if !join.member.is_empty() {
            return self.join_again(now, token, join);
        }
        let held = join
            .instance
            .as_ref()
            .and_then(|name| self.instances.get(name));
        if let Some(old) = held.cloned() {
            self.replace(now, token, join, &old, fresh);
            return Ok(());
        }
        if self.members.len() + self.pending.len() >= self.bounds.members_max {
            return Err(ClassicError::Full("it has too many members already"));
        }
        if join.asks_twice && join.instance.is_none() {
            let until = now.saturating_add(join.session_timeout);
            self.pending.insert(fresh.clone(), until);
            return Err(ClassicError::IdRequired(fresh));
        }
        self.add(now, token, join, fresh);
        Ok(())
    }

    /// Whether the members and this one could agree on a way of sharing.
    fn speaks(&self, join: &ClassicJoin) -> Result<(), ClassicError> {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(ClassicError::Protocol("it names none".into()));
        }
        if join.protocols.len() > CLASSIC_PROTOCOLS_MAX {
            let have = join.protocols.len();
            let why = format!("it names {have} of them, {CLASSIC_PROTOCOLS_MAX} are the most");
            return Err(ClassicError::Protocol(why));
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let instance = join.instance.as_ref();
        let held = instance.and_then(|name| self.instances.get(name));
        let own = |id: &ByteString| *id == join.member || Some(id) == held;
        let others = || {
            let others = self.members.iter().filter(|(id, _)| !own(id));
            others.map(|(_, member)| member)
        };
        if join.protocol_type != self.protocol_type {
            let (have, asked) = (&self.protocol_type, &join.protocol_type);
            let why = format!("the group's members are of the type {have}, not {asked}");
            return Err(ClassicError::Protocol(why));
        }
        let mut known = join.protocols.iter();
        let all = |name: &ByteString| others().all(|member| member.knows(name));
        match known.any(|protocol| all(&protocol.name)) {
            true => Ok(()),
            false => Err(ClassicError::Protocol("all others know other ones".into())),
        }
    }

    fn has_room(&self, join: &ClassicJoin) -> Result<(), ClassicError> {
        let had = self.members.get(&join.member).map_or(0, Member::bytes);
        match self.bytes().saturating_sub(had) + join_bytes(join) > self.bounds.bytes_max {
            true => Err(ClassicError::Full("its members say too much")),
            false => Ok(()),
        }
    }

    /// Somebody with an id joins: one that was given it just now, or a member.
    fn join_again(
        &mut self,
        now: Duration,
        token: Token,
        join: ClassicJoin,
    ) -> Result<(), ClassicError> {
        let id = join.member.clone();
        if self.pending.contains_key(&id) {
            if join.instance.is_some() {
                return Err(ClassicError::UnknownMember);
            }
            self.pending.remove(&id);
            self.add(now, token, join, id);
            return Ok(());
        }
        self.known(&id, join.instance.as_deref())?;
        let same = self
            .members
            .get(&id)
            .is_some_and(|member| member.protocols == join.protocols);
        let leads = self.leader.as_ref() == Some(&id);
        let stays = match self.phase {
            Phase::Completing => same,
            Phase::Stable => same && !leads,
            _ => false,
        };
        if stays {
            // Its answer was lost.
            self.heard(&id, now);
            let joined = self.joined(&id);
            self.answer(token, Ok(joined));
            return Ok(());
        }
        self.update(now, token, join, &id);
        self.rebalance(now);
        Ok(())
    }

    /// What a member knows is this from now on, and it waits for the next generation.
    fn update(&mut self, now: Duration, token: Token, join: ClassicJoin, id: &ByteString) {
        self.answer_join(id, Err(ClassicError::Rebalancing));
        if let Some(member) = self.members.get_mut(id) {
            member.update(join);
            member.heard(now);
            member.joining = Some(token);
        }
    }

    /// A new member.
    fn add(&mut self, now: Duration, token: Token, join: ClassicJoin, id: ByteString) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        if let Some(instance) = join.instance.clone() {
            self.instances.insert(instance, id.clone());
        }
        let mut member = Member::new(join, now);
        member.joining = Some(token);
        self.members.insert(id.clone(), member);
        self.leader.get_or_insert(id);
        if let Phase::Preparing {
            initial: Some((_, more)),
            ..
        } = &mut self.phase
        {
            *more = true;
        }
        self.rebalance(now);
    }

    /// Another process comes with an instance's name: it is that member from now on, and the old
    /// one is shut out. What was shared out stays, where the way of sharing does.
    fn replace(
        &mut self,
        now: Duration,
        token: Token,
        join: ClassicJoin,
        old: &ByteString,
        fresh: ByteString,
    ) {
        self.answer_join(old, Err(ClassicError::Fenced));
        self.answer_sync(old, Err(ClassicError::Fenced));
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        let told_leader = self.leader.clone();
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(fresh.clone());
        }
        if let Some(instance) = join.instance.clone() {
            self.instances.insert(instance, fresh.clone());
        }
        let may_skip = join.may_skip;
        member.update(join);
        member.heard(now);
        member.joining = Some(token);
        member.is_new = false;
        self.members.insert(fresh.clone(), member);
        if self.phase == Phase::Stable && self.choose() == self.protocol {
            let mut joined = self.joined(&fresh);
            match may_skip {
                true => joined.skip_assignment = self.leader.as_ref() == Some(&fresh),
                // It would share the work out anew: it is told that another one leads.
                false => {
                    joined.leader = told_leader.unwrap_or_default();
                    joined.members.clear();
                }
            }
            self.answer_join(&fresh, Ok(joined));
            return;
        }
        self.rebalance(now);
    }

    /// The way of sharing for the members there are: each votes for the first of its own that
    /// all know.
    pub(super) fn choose(&self) -> ByteString {
        let Some(first) = self.members.values().next() else {
            return ByteString::new();
        };
        let known = first.protocols.iter().map(|protocol| &protocol.name);
        let all = |name: &&ByteString| self.members.values().all(|member| member.knows(name));
        let common: BTreeSet<&ByteString> = known.filter(all).collect();
        let votes = self.members.values().filter_map(|member| {
            let mut own = member.protocols.iter().map(|protocol| &protocol.name);
            own.find(|name| common.contains(name))
        });
        let votes: Vec<_> = votes.collect();
        let count = |name: &ByteString| votes.iter().filter(|vote| **vote == name).count();
        let best = common.iter().max_by_key(|name| count(name));
        best.map_or_else(ByteString::new, |name| (*name).clone())
    }

    fn rebalance_timeout(&self) -> Duration {
        let members = self.members.values();
        let longest = members.map(|member| member.rebalance_timeout).max();
        longest.unwrap_or_default()
    }

    /// The next generation begins, unless it is on its way already.
    fn rebalance(&mut self, now: Duration) {
        match self.phase {
            Phase::Dead => return,
            Phase::Preparing { .. } => {}
            Phase::Empty => {
                let delay = self.bounds.initial_delay;
                let rest = self.rebalance_timeout().saturating_sub(delay);
                self.phase = Phase::Preparing {
                    until: now.saturating_add(delay),
                    initial: (!delay.is_zero()).then_some((rest, false)),
                };
            }
            Phase::Completing | Phase::Stable => {
                let ids: Vec<_> = self.members.keys().cloned().collect();
                for id in ids {
                    self.answer_sync(&id, Err(ClassicError::Rebalancing));
                }
                let until = now.saturating_add(self.rebalance_timeout());
                self.phase = Phase::Preparing {
                    until,
                    initial: None,
                };
            }
        }
        self.sync_until = None;
        for member in self.members.values_mut() {
            member.unsynced = false;
        }
        self.complete_if_all_joined(now);
    }

    fn complete_if_all_joined(&mut self, now: Duration) {
        let Phase::Preparing { initial: None, .. } = self.phase else {
            return;
        };
        let all = self.members.values().all(|member| member.joining.is_some());
        if all && self.pending.is_empty() {
            self.complete(now);
        }
    }

    /// The members that have joined are the next generation.
    fn complete(&mut self, now: Duration) {
        let late = |member: &Member| member.joining.is_none() && member.instance.is_none();
        let late = self.members.iter().filter(|(_, member)| late(member));
        for id in late.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.take_out(&id, &ClassicError::UnknownMember);
        }
        if !self.elect() && !self.members.is_empty() {
            // Instances that may come back, and nobody who could share the work out.
            let wait = self.rebalance_timeout().max(self.bounds.session_min);
            let until = now.saturating_add(wait);
            self.phase = Phase::Preparing {
                until,
                initial: None,
            };
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.choose();
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            return;
        }
        self.phase = Phase::Completing;
        self.sync_until = Some(now.saturating_add(self.rebalance_timeout()));
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            self.answer_join(&id, Ok(joined));
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = Bytes::new();
                member.unsynced = true;
                member.is_new = false;
                member.heard(now);
            }
        }
    }

    /// The leader is one that has joined. Answers whether there is one.
    fn elect(&mut self) -> bool {
        let joins = |id: &ByteString| {
            let member = self.members.get(id);
            member.is_some_and(|member| member.joining.is_some())
        };
        if self.leader.as_ref().is_some_and(joins) {
            return true;
        }
        let first = self
            .members
            .iter()
            .find(|(_, member)| member.joining.is_some());
        let first = first.map(|(id, _)| id.clone());
        let there = first.is_some();
        if there || self.members.is_empty() {
            self.leader = first;
        }
        there
    }

    /// Lets a member go, and answers what it waits for. The others are not told.
    fn take_out(&mut self, id: &ByteString, why: &ClassicError) {
        self.answer_join(id, Err(why.clone()));
        self.answer_sync(id, Err(why.clone()));
        let Some(gone) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = gone.instance {
            self.instances.remove(&instance);
        }
        if self.leader.as_ref() == Some(id) {
            let mut others = self.members.keys();
            self.leader = others.next().cloned();
        }
    }

    /// Members are gone: the others share the work anew.
    fn without(&mut self, now: Duration) {
        match self.phase {
            Phase::Completing | Phase::Stable => self.rebalance(now),
            _ => self.complete_if_all_joined(now),
        }
    }

    /// Somebody leaves: a member, an instance by its name alone, or one that has an id and never
    /// used it.
    ///
    /// # Errors
    /// [`ClassicError::UnknownMember`] and [`ClassicError::Fenced`].
    pub(crate) fn leave(
        &mut self,
        now: Duration,
        member: &ByteString,
        instance: Option<&ByteString>,
    ) -> Result<(), ClassicError> {
        if self.phase == Phase::Dead {
            return Err(ClassicError::Unavailable);
        }
        if self.pending.remove(member).is_some() {
            self.complete_if_all_joined(now);
            return Ok(());
        }
        let id = match instance {
            Some(name) if member.is_empty() => {
                let held = self.instances.get(name).cloned();
                held.ok_or(ClassicError::UnknownMember)?
            }
            _ => member.clone(),
        };
        self.known(&id, instance.map(|name| &**name))?;
        self.take_out(&id, &ClassicError::UnknownMember);
        self.without(now);
        Ok(())
    }

    /// Does what time has brought: members that were silent for too long go, those who did not
    /// join or ask for their part in time, too.
    pub(crate) fn tick(&mut self, now: Duration) {
        let void = self.pending.len();
        self.pending.retain(|_, until| *until > now);
        let silent = |member: &Member| member.deadline().is_some_and(|until| until <= now);
        let mut gone: BTreeSet<ByteString> = self.ids_of(silent);
        if self.sync_until.is_some_and(|until| until <= now) {
            self.sync_until = None;
            gone.extend(self.ids_of(|member| member.unsynced));
        }
        for id in &gone {
            self.take_out(id, &ClassicError::UnknownMember);
        }
        if !gone.is_empty() || self.pending.len() < void {
            self.without_after(now, !gone.is_empty());
        }
        let Phase::Preparing { until, initial } = self.phase else {
            return;
        };
        if until > now {
            return;
        }
        match initial {
            Some((rest, true)) if !rest.is_zero() => {
                let delay = self.bounds.initial_delay.min(rest);
                self.phase = Phase::Preparing {
                    until: now.saturating_add(delay),
                    initial: Some((rest.saturating_sub(delay), false)),
                };
            }
            _ => self.complete(now),
        }
    }

    fn without_after(&mut self, now: Duration, members: bool) {
        match members {
            true => self.without(now),
            false => self.complete_if_all_joined(now),
        }
    }

    fn ids_of(&self, is: impl Fn(&Member) -> bool) -> BTreeSet<ByteString> {
        let those = self.members.iter().filter(|(_, member)| is(member));
        those.map(|(id, _)| id.clone()).collect()
    }
}
