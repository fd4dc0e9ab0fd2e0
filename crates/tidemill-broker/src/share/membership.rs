//! Who is a member of one share group, and which partitions each reads:
//! `(state, now, heartbeat) -> answer`, as Apache Kafka's clients expect it (KIP-932).
//!
//! Several members may read one partition, so nothing has to be given back before somebody else
//! gets it: a member is in the group's epoch as soon as it is heard of. Pure: time and topics come
//! in. It may not know records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::{TopicId, TopicName};

use super::types::ShareHeartbeat;
use crate::catalog::Catalog;
use crate::consumer::{
    ConsumerBounds, ConsumerDescription, ConsumerError, ConsumerMember, ConsumerParts,
    ConsumerPlace, ConsumerSight, ConsumerState, EPOCH_JOIN, EPOCH_LEAVE, PART_BYTES, Reader,
    brief, named, racked, spread,
};
use crate::limits::SUBSCRIPTION_TOPICS_MAX;

/// How the partitions are shared, as Kafka calls it.
const ASSIGNOR: &str = "simple";

/// The topics that are there, with how many partitions they have.
type Found = BTreeMap<TopicId, u32>;

/// Makes room for so many bytes, or says that there is none.
pub(super) type Room<'a> = dyn FnMut(usize) -> Result<(), ConsumerError> + 'a;

#[derive(Debug)]
struct Member {
    /// Its place among all that ever were in the group.
    number: u64,
    rack: Option<ByteString>,
    client_id: ByteString,
    client_host: ByteString,
    topics: BTreeSet<TopicName>,
    sight: Option<ConsumerSight>,
    found: Arc<Found>,
    epoch: i32,
    /// The epoch before: its answer with the new one may have been lost.
    previous: i32,
    assigned: ConsumerParts,
    /// It was not told yet what it is to read.
    news: bool,
    /// When it was silent for too long.
    expires: Duration,
    /// Bytes that are counted for it.
    counted: usize,
}

impl Member {
    fn bytes(&self) -> usize {
        let topics = self.topics.iter();
        let topics: usize = topics.map(|name| 64 + name.as_str().len()).sum();
        let rack = self.rack.as_ref().map_or(0, |rack| rack.len());
        let texts = self.client_id.len() + self.client_host.len() + rack;
        size_of::<Self>() + texts + topics + (self.assigned.len() + self.found.len()) * PART_BYTES
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Membership {
    bounds: ConsumerBounds,
    /// Rises when members come and go, when they read something else, and when topics change.
    epoch: i32,
    members: BTreeMap<ByteString, Member>,
    /// The topics as they were at the last look.
    catalog: Arc<Catalog>,
    /// Members that there ever were.
    numbers: u64,
    /// When each was silent for too long.
    expiries: BTreeSet<(Duration, ByteString)>,
    /// Bytes that the members need, roughly.
    bytes: usize,
    /// It was deleted, or the broker is closing.
    ended: bool,
}

impl Membership {
    /// A group without members.
    pub(super) fn new(bounds: ConsumerBounds) -> Self {
        Self {
            bounds,
            epoch: 0,
            members: BTreeMap::new(),
            catalog: Arc::default(),
            numbers: 0,
            expiries: BTreeSet::new(),
            bytes: 0,
            ended: false,
        }
    }

    /// How many members it has.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// Nobody is served any longer.
    pub(super) fn end(&mut self) {
        *self = Self::new(self.bounds);
        self.ended = true;
    }

    /// When something is to be done if nobody is heard of before.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    /// Bytes that the members need in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The topics that a member reads, with how many partitions they have.
    pub(super) fn read_by(&self, id: &ByteString) -> impl Iterator<Item = (&TopicId, &u32)> {
        let member = self.members.get(id).into_iter();
        member.flat_map(|member| member.found.iter())
    }

    fn remove(&mut self, id: &ByteString) {
        if let Some(member) = self.members.remove(id) {
            self.expiries.remove(&(member.expires, id.clone()));
            self.bytes = self.bytes.saturating_sub(member.counted);
        }
    }

    /// A member is heard of.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub(super) fn heartbeat(
        &mut self,
        now: Duration,
        catalog: &Arc<Catalog>,
        beat: ShareHeartbeat,
        room: &mut Room<'_>,
    ) -> Result<ConsumerPlace, ConsumerError> {
        self.would_take(&beat, room)?;
        self.look(catalog);
        if beat.epoch == EPOCH_LEAVE {
            self.remove(&beat.member);
            self.share_out();
            return Ok(ConsumerPlace {
                member: beat.member,
                epoch: EPOCH_LEAVE,
                heartbeat_interval: self.bounds.heartbeat_interval,
                assignment: None,
            });
        }
        let joins = beat.epoch == EPOCH_JOIN;
        let comes = !self.members.contains_key(&beat.member);
        if comes {
            self.numbers += 1;
            self.members
                .insert(beat.member.clone(), Member::new(self.numbers));
        }
        let id = beat.member.clone();
        let late = self.members.get(&id).is_some_and(|m| beat.epoch != m.epoch);
        let tells = joins || late || beat.topics.is_some();
        if self.update(beat) || comes {
            self.share_out();
        }
        let epoch = self.epoch;
        let expires = now.saturating_add(self.bounds.session_timeout);
        let member = self.members.get_mut(&id);
        let member = member.ok_or(ConsumerError::UnknownMember)?;
        self.expiries.remove(&(member.expires, id.clone()));
        self.expiries.insert((expires, id.clone()));
        member.expires = expires;
        self.bytes -= member.counted;
        member.counted = id.len() + member.bytes();
        self.bytes += member.counted;
        if joins {
            (member.previous, member.epoch) = (EPOCH_JOIN, epoch);
        } else if member.epoch != epoch {
            member.previous = std::mem::replace(&mut member.epoch, epoch);
        }
        let tells = tells | std::mem::take(&mut member.news);
        Ok(ConsumerPlace {
            member: id,
            epoch,
            heartbeat_interval: self.bounds.heartbeat_interval,
            assignment: tells.then(|| member.assigned.clone()),
        })
    }

    /// Looks whether a heartbeat would be taken now, and changes nothing.
    ///
    /// # Errors
    /// As [`Membership::heartbeat`].
    pub(super) fn would_take(
        &self,
        beat: &ShareHeartbeat,
        room: &mut Room<'_>,
    ) -> Result<(), ConsumerError> {
        if self.ended {
            return Err(ConsumerError::Unavailable);
        }
        checked(beat)?;
        let have = self.members.get(&beat.member);
        match (beat.epoch, have) {
            (EPOCH_JOIN, None) if self.members.len() >= self.bounds.members_max => {
                return Err(ConsumerError::Full("it has as many members as it may have"));
            }
            (EPOCH_JOIN, _) => {}
            (_, None) => return Err(ConsumerError::UnknownMember),
            (EPOCH_LEAVE, Some(_)) => return Ok(()),
            (epoch, Some(have)) if epoch != have.epoch && epoch != have.previous => {
                return Err(ConsumerError::FencedEpoch);
            }
            _ => {}
        }
        if beat.topics.is_none() {
            return Ok(());
        }
        // What it reads, and what it has of that.
        let topics = beat.topics.iter().flatten();
        let found = topics.filter_map(|name| self.catalog.topic(name));
        let parts: usize = found.map(|topic| topic.partitions as usize + 1).sum();
        let more = beat.bytes() + parts * PART_BYTES;
        if self.bytes() + more > self.bounds.bytes_max {
            return Err(ConsumerError::Full("its members say or have too much"));
        }
        room(more)
    }

    /// Topics that came, went or grew since the last look are taken into account.
    fn look(&mut self, catalog: &Arc<Catalog>) {
        if Arc::ptr_eq(catalog, &self.catalog) {
            return;
        }
        self.catalog = Arc::clone(catalog);
        let mut now: HashMap<*const Found, Arc<Found>> = HashMap::new();
        let mut changed = false;
        for member in self.members.values_mut() {
            let fresh = || Arc::new(find(catalog, &member.topics, member.sight.as_ref()));
            let found = now.entry(Arc::as_ptr(&member.found)).or_insert_with(fresh);
            changed |= *found != member.found;
            member.found = Arc::clone(found);
        }
        if changed {
            self.share_out();
        }
    }

    /// Takes over what a heartbeat says. Answers whether the member reads something else now.
    fn update(&mut self, beat: ShareHeartbeat) -> bool {
        let Some(member) = self.members.get(&beat.member) else {
            return false;
        };
        let same = |other: &Member| {
            other.sight == beat.sight
                && other.topics == *beat.topics.as_ref().unwrap_or(&member.topics)
        };
        let found = match same(member) {
            true => Arc::clone(&member.found),
            // Those who read the same have it once.
            false => match self.members.values().find(|other| same(other)) {
                Some(other) => Arc::clone(&other.found),
                None => {
                    let topics = beat.topics.as_ref().unwrap_or(&member.topics);
                    Arc::new(find(&self.catalog, topics, beat.sight.as_ref()))
                }
            },
        };
        let Some(member) = self.members.get_mut(&beat.member) else {
            return false;
        };
        let changed = member.found != found;
        member.found = found;
        member.sight = beat.sight;
        member.topics = beat.topics.unwrap_or(std::mem::take(&mut member.topics));
        member.rack = beat.rack.or(member.rack.take());
        member.client_id = brief(beat.client_id);
        member.client_host = brief(beat.client_host);
        changed
    }

    /// The group is in its next epoch: says anew who reads what.
    fn share_out(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        let mut members: Vec<_> = self.members.values_mut().collect();
        // Who comes last changes least for the others.
        members.sort_unstable_by_key(|member| member.number);
        let readers = members.iter().map(|member| Reader {
            topics: Arc::clone(&member.found),
            had: None,
        });
        let readers: Vec<_> = readers.collect();
        for (member, parts) in members.into_iter().zip(spread(&readers)) {
            member.news |= member.assigned != parts;
            member.assigned = parts;
        }
        // What all of them have may have changed.
        self.bytes = 0;
        for (id, member) in &mut self.members {
            member.counted = id.len() + member.bytes();
            self.bytes += member.counted;
        }
    }

    /// Takes members out that were silent for too long. Answers who went.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<ByteString> {
        let gone = self.expiries.iter();
        let gone = gone.take_while(|(expires, _)| *expires <= now);
        let gone: Vec<_> = gone.map(|(_, id)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id));
        if !gone.is_empty() {
            self.share_out();
        }
        gone
    }

    /// The group as it is now.
    pub(super) fn describe(&self) -> ConsumerDescription {
        let one = |(id, member): (&ByteString, &Member)| ConsumerMember {
            member: id.clone(),
            instance: None,
            rack: member.rack.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: member.topics.iter().cloned().collect(),
            pattern: None,
            assigned: named(&self.catalog, &member.assigned),
            target: named(&self.catalog, &member.assigned),
        };
        ConsumerDescription {
            state: match self.members.is_empty() {
                true => ConsumerState::Empty,
                false => ConsumerState::Stable,
            },
            epoch: self.epoch,
            assignment_epoch: self.epoch,
            assignor: ASSIGNOR,
            members: self.members.iter().map(one).collect(),
        }
    }
}

impl Member {
    fn new(number: u64) -> Self {
        Self {
            number,
            rack: None,
            client_id: ByteString::new(),
            client_host: ByteString::new(),
            topics: BTreeSet::new(),
            sight: None,
            found: Arc::default(),
            epoch: EPOCH_JOIN,
            previous: EPOCH_JOIN,
            assigned: ConsumerParts::new(),
            news: false,
            expires: Duration::MAX,
            counted: 0,
        }
    }
}

#[cfg(test)]
impl Membership {
    /// What holds at every moment.
    pub(super) fn hold(&self) {
        let members = self.members.iter();
        let bytes: usize = members.map(|(id, member)| id.len() + member.bytes()).sum();
        assert_eq!(self.bytes, bytes);
        let expiries = self.members.iter();
        let expiries = expiries.map(|(id, member)| (member.expires, id.clone()));
        assert_eq!(self.expiries, expiries.collect());
    }
}

/// Those of these topics that are there, may be seen, and are no queues.
fn find(catalog: &Catalog, topics: &BTreeSet<TopicName>, sight: Option<&ConsumerSight>) -> Found {
    let seen = |name: &&TopicName| sight.is_none_or(|sight| sight.sees(name));
    let topics = topics.iter().filter(seen);
    let topics = topics.filter_map(|name| catalog.topic(name));
    let topics = topics.filter(|topic| !catalog.is_queue(topic.id));
    topics.map(|topic| (topic.id, topic.partitions)).collect()
}

/// Refuses what makes no sense, whatever the group is.
fn checked(beat: &ShareHeartbeat) -> Result<(), ConsumerError> {
    if beat.member.is_empty() {
        return Err(ConsumerError::Invalid("a member has an id"));
    }
    if beat.rack.as_ref().is_some_and(|rack| rack.is_empty()) {
        return Err(ConsumerError::Invalid("a rack has a name"));
    }
    racked(beat.rack.as_ref())?;
    if beat.epoch < EPOCH_LEAVE {
        return Err(ConsumerError::Invalid("there is no such epoch"));
    }
    if beat.epoch == EPOCH_JOIN && beat.topics.as_ref().is_none_or(BTreeSet::is_empty) {
        return Err(ConsumerError::Invalid("who joins says what it reads"));
    }
    let many = |topics: &&BTreeSet<_>| topics.len() > SUBSCRIPTION_TOPICS_MAX;
    match beat.topics.as_ref().filter(many) {
        Some(_) => Err(ConsumerError::Full("a member names too many topics")),
        None => Ok(()),
    }
}
