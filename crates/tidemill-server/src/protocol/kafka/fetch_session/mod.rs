//! Sessions of fetches (KIP-227): what a client asked for before and was told. It says what has
//! changed since, and is answered what has.
//!
//! The time and the numbers of sessions arrive as arguments. What is kept is
//! bounded by places, partitions and memory; who finds none of it free asks for everything each
//! time. As with Apache Kafka, a session makes way that was not used for long, and one that is
//! not new any more for one that is larger.
//!
//! The table of all sessions is locked for a look at one of them, or at how large each is. What a
//! session knows of its partitions has a lock of its own, which only its round takes: so one of
//! thousands of them holds up nobody else. The table is locked within that one, never the other way
//! round.
//!
//! This room may not know connections, nor how partitions are read.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kafka_protocol::protocol::StrBytes;
use tidemill_core::TopicName;
use tidemill_core::budget::{Budget, Class, Share};
use tokio::time::Instant;
use uuid::Uuid;

use super::error::Code;
use crate::limits::{
    KAFKA_FETCH_SESSION_KEEP, KAFKA_FETCH_SESSION_PARTITION_BYTES,
    KAFKA_FETCH_SESSION_PARTITIONS_MAX, KAFKA_FETCH_SESSIONS_MAX, KAFKA_FETCH_SESSIONS_PART,
};

/// The epoch of a request that names all its partitions, and begins a session with them.
const FIRST: i32 = 0;

/// The epoch of a request that names all its partitions, and wants no session.
const LAST: i32 = -1;

/// Whose a session is: others do not find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) principal: String,
    pub(super) client_id: Option<StrBytes>,
}

impl Owner {
    /// Bytes that a session counts for it.
    fn bytes(&self) -> usize {
        self.principal.len() + self.client_id.as_ref().map_or(0, |id| id.len())
    }

    /// In memory of its own, not of the request.
    fn kept(&self) -> Self {
        let own = |text: &StrBytes| StrBytes::from_string(text.to_string());
        Self {
            principal: self.principal.clone(),
            client_id: self.client_id.as_ref().map(own),
        }
    }
}

/// A topic as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Named {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) topic: Named,
    pub(super) index: i32,
}

impl Key {
    /// Bytes that a session counts for it.
    pub(super) fn bytes(&self) -> usize {
        KAFKA_FETCH_SESSION_PARTITION_BYTES
            + match &self.topic {
                Named::Name(name) => name.len(),
                Named::Id(_) => 0,
            }
    }
}

/// What a client wants of a partition.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
    /// The name of a topic that is named by its id, where it was found before.
    pub(super) name: Option<TopicName>,
    /// Where a session has it.
    place: u64,
}

impl Wanted {
    pub(super) fn new(key: Key, offset: i64, max_bytes: i32) -> Self {
        Self {
            key,
            offset,
            max_bytes,
            name: None,
            place: 0,
        }
    }
}

/// What a request says.
pub(super) struct Asked {
    pub(super) session: i32,
    pub(super) epoch: i32,
    /// It names topics by their ids.
    pub(super) by_id: bool,
    /// Each partition once.
    pub(super) wanted: Vec<Wanted>,
    pub(super) forgotten: Vec<Key>,
}

/// What a request is to its session, from its beginning to its answer.
#[derive(Debug)]
pub(super) enum Round {
    /// There is none.
    Alone,
    /// It is to begin with what is answered.
    First { owner: Owner, by_id: bool },
    /// It goes on. No other goes on with it while this is there.
    Next { session: i32, under_way: Arc<()> },
}

/// Where a partition begins, where everything is decided, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) earliest: i64,
    pub(super) stable_end: i64,
    pub(super) high_watermark: i64,
}

/// What is to be answered of a partition.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) wanted: Wanted,
    pub(super) bounds: Bounds,
    /// An error is told.
    pub(super) failed: bool,
    /// There are records.
    pub(super) records: bool,
}

/// How an answer is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The session's number, 0 for none.
    pub(super) session: i32,
    /// Which partitions it tells of, in their order.
    pub(super) news: Vec<bool>,
}

/// A partition that a session has.
struct Kept {
    wanted: Wanted,
    /// What its client knows of it; `None` where it has to be told whatever comes.
    told: Option<Bounds>,
}

struct Session {
    owner: Owner,
    by_id: bool,
    /// Of the request that comes next.
    epoch: i32,
    /// The round that is under way, where one is.
    under_way: Weak<()>,
    begun: Instant,
    used: Instant,
    /// How many partitions it has.
    len: usize,
    share: Share,
    parts: Arc<Mutex<Parts>>,
}

/// The partitions of a session.
#[derive(Default)]
struct Parts {
    /// By their turns: who gave records comes last the next time.
    order: BTreeMap<u64, Kept>,
    places: HashMap<Key, u64>,
    next_place: u64,
}

impl Parts {
    /// Of a session that begins with what is told in its first answer.
    fn of(told: Vec<Told>) -> Self {
        let mut parts = Self {
            places: HashMap::with_capacity(told.len()),
            ..Self::default()
        };
        for one in told {
            parts.put(one.wanted, (!one.failed).then_some(one.bounds));
        }
        parts
    }

    /// Takes what is wanted of a partition, from now on.
    fn put(&mut self, mut wanted: Wanted, told: Option<Bounds>) {
        if let Some(kept) = self.places.get(&wanted.key)
            && let Some(kept) = self.order.get_mut(kept)
        {
            kept.wanted.offset = wanted.offset;
            kept.wanted.max_bytes = wanted.max_bytes;
            return;
        }
        wanted.place = self.next_place;
        self.next_place += 1;
        self.places.insert(wanted.key.clone(), wanted.place);
        self.order.insert(wanted.place, Kept { wanted, told });
    }

    /// How many of these it does not have, and the bytes that they count for.
    fn new_ones(&self, wanted: &[Wanted]) -> Size {
        let new = |wanted: &&Wanted| !self.places.contains_key(&wanted.key);
        let sizes = wanted.iter().filter(new).map(|one| one.key.bytes());
        sizes.collect()
    }

    /// Forgets partitions; answers how many it had, and the bytes that they counted for.
    fn forget(&mut self, keys: &[Key]) -> Size {
        let forget = |key: &Key| {
            let place = self.places.remove(key)?;
            let kept = self.order.remove(&place)?;
            Some(kept.wanted.key.bytes())
        };
        keys.iter().filter_map(forget).collect()
    }

    /// Notes what is told of a partition; answers whether it is news.
    fn tell(&mut self, told: Told) -> bool {
        let Some(kept) = self.order.get_mut(&told.wanted.place) else {
            return false;
        };
        let news = told.failed || told.records || kept.told != Some(told.bounds);
        kept.told = (!told.failed).then_some(told.bounds);
        kept.wanted.name = told.wanted.name;
        if told.records
            && let Some(mut kept) = self.order.remove(&told.wanted.place)
        {
            kept.wanted.place = self.next_place;
            self.places.insert(kept.wanted.key.clone(), self.next_place);
            self.order.insert(self.next_place, kept);
            self.next_place += 1;
        }
        news
    }
}

/// Partitions, and the bytes that they count for.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    count: usize,
    bytes: usize,
}

impl FromIterator<usize> for Size {
    fn from_iter<T: IntoIterator<Item = usize>>(sizes: T) -> Self {
        sizes.into_iter().fold(Self::default(), |sum, bytes| Self {
            count: sum.count + 1,
            bytes: sum.bytes + bytes,
        })
    }
}

/// Every session that there is.
pub(super) struct Sessions {
    /// Locked for a moment, whatever a session has.
    table: Mutex<Table>,
    memory: Budget,
    slots: usize,
    /// Partitions of all sessions at most.
    partitions_max: usize,
}

#[derive(Default)]
struct Table {
    by_number: HashMap<i32, Session>,
    /// Partitions of all sessions.
    partitions: usize,
    evicted: u64,
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// Partitions of sessions that are gone: freed when nothing is locked.
type Gone = Vec<Arc<Mutex<Parts>>>;

fn locked(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// None yet. Their memory is a part of that for requests, which they are of a kind.
    pub(super) fn new(memory: &Budget) -> Self {
        let bytes = memory.max(Class::Requests) / KAFKA_FETCH_SESSIONS_PART;
        let partitions = bytes / KAFKA_FETCH_SESSION_PARTITION_BYTES;
        Self {
            table: Mutex::default(),
            memory: memory.clone(),
            slots: KAFKA_FETCH_SESSIONS_MAX,
            partitions_max: partitions.min(KAFKA_FETCH_SESSION_PARTITIONS_MAX),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table().by_number.len()
    }

    /// Partitions of all.
    pub(super) fn partitions(&self) -> usize {
        self.table().partitions
    }

    /// How many made way for others since it was asked last.
    pub(super) fn take_evicted(&self) -> u64 {
        std::mem::take(&mut self.table().evicted)
    }

    /// Bytes that a session would count for all that a request is about: for what it names, and
    /// for what is kept.
    pub(super) fn bytes(&self, owner: &Owner, asked: &Asked) -> usize {
        let named = asked.wanted.iter().map(|one| one.key.bytes());
        let named = named.sum::<usize>();
        if asked.epoch == FIRST || asked.epoch == LAST {
            return named;
        }
        let table = self.table();
        let there = table.by_number.get(&asked.session);
        let there = there.filter(|session| session.owner == *owner);
        named + there.map_or(0, |session| session.share.bytes())
    }

    /// Takes a request: what it is to its session, and the partitions to read, in their order.
    ///
    /// # Errors
    /// There is no such session of this owner, it is in another epoch, it names topics otherwise,
    /// it is gone on with already, or it would be larger than there is room.
    pub(super) fn begin(
        &self,
        now: Instant,
        owner: &Owner,
        asked: Asked,
    ) -> Result<(Round, Vec<Wanted>), Code> {
        if asked.epoch == FIRST || asked.epoch == LAST {
            let _gone = self.table().end(asked.session, owner);
            let begins = asked.epoch == FIRST && !asked.wanted.is_empty();
            let round = match begins {
                true => Round::First {
                    owner: owner.clone(),
                    by_id: asked.by_id,
                },
                false => Round::Alone,
            };
            return Ok((round, asked.wanted));
        }
        let number = asked.session;
        let (under_way, parts) = self.table().go_on(now, owner, &asked)?;
        let mut parts = locked(&parts);
        let more = parts.new_ones(&asked.wanted);
        self.grow(number, &under_way, more)?;
        asked
            .wanted
            .into_iter()
            .for_each(|one| parts.put(one, None));
        let less = parts.forget(&asked.forgotten);
        let wanted = parts.order.values().map(|kept| kept.wanted.clone());
        let wanted: Vec<_> = wanted.collect();
        drop(parts);
        let mut table = self.table();
        let _gone = table.shrink(number, &under_way, less);
        drop(table);
        let round = match wanted.is_empty() {
            true => Round::Alone,
            false => Round::Next {
                session: number,
                under_way,
            },
        };
        Ok((round, wanted))
    }

    /// Takes room for more partitions of a session; it ends where there is none.
    fn grow(&self, number: i32, under_way: &Arc<()>, more: Size) -> Result<(), Code> {
        let mut table = self.table();
        let fits = table.partitions + more.count <= self.partitions_max;
        let session = table.of_round(number, under_way);
        let session = session.ok_or(Code::FetchSessionIdNotFound)?;
        if fits && session.share.grow(more.bytes) {
            session.len += more.count;
            table.partitions += more.count;
            return Ok(());
        }
        // Its partitions are the caller's to free, who has them.
        drop(table.remove(number));
        Err(Code::FetchSessionIdNotFound)
    }

    /// Takes what was read, in the order of [`Sessions::begin`]. A new session takes a number of
    /// `numbers`.
    ///
    /// # Errors
    /// The session is gone.
    pub(super) fn end(
        &self,
        now: Instant,
        round: Round,
        told: Vec<Told>,
        numbers: impl FnMut() -> i32,
    ) -> Result<Answer, Code> {
        let all = |session| Answer {
            session,
            news: vec![true; told.len()],
        };
        match round {
            Round::Alone => Ok(all(0)),
            Round::First { owner, by_id } => {
                let mut answer = all(0);
                let number = self.insert(now, owner, by_id, told, numbers);
                answer.session = number.unwrap_or(0);
                Ok(answer)
            }
            Round::Next { session, under_way } => {
                let mut table = self.table();
                if !table.by_number.contains_key(&session) {
                    return Err(Code::FetchSessionIdNotFound);
                }
                // Another one may have its number.
                let mine = table.of_round(session, &under_way);
                let mine = mine.ok_or(Code::InvalidFetchSessionEpoch)?;
                let parts = Arc::clone(&mine.parts);
                drop(table);
                let mut parts = locked(&parts);
                let news = told.into_iter().map(|told| parts.tell(told));
                Ok(Answer {
                    session,
                    news: news.collect(),
                })
            }
        }
    }

    /// A new session with what is told in its first answer, where there is room.
    fn insert(
        &self,
        now: Instant,
        owner: Owner,
        by_id: bool,
        told: Vec<Told>,
        mut numbers: impl FnMut() -> i32,
    ) -> Option<i32> {
        let sizes = told.iter().map(|told| told.wanted.key.bytes());
        let size: Size = sizes.collect();
        let parts = Arc::new(Mutex::new(Parts::of(told)));
        // Before the table, which is locked behind it: freed when that is not any more.
        let mut gone = Gone::new();
        let mut table = self.table();
        if table.by_number.len() >= self.slots && !table.evict(now, Some(size.count), &mut gone) {
            return None;
        }
        let share = loop {
            let fits = table.partitions + size.count <= self.partitions_max;
            let bytes = size.bytes + owner.bytes();
            let share = fits.then(|| self.memory.take(Class::Requests, bytes));
            match share.flatten() {
                Some(share) => break share,
                None if table.evict(now, None, &mut gone) => {}
                None => return None,
            }
        };
        let session = Session {
            owner: owner.kept(),
            by_id,
            epoch: next_epoch(FIRST),
            under_way: Weak::new(),
            begun: now,
            used: now,
            len: size.count,
            share,
            parts,
        };
        let number = loop {
            let number = numbers();
            if number > 0 && !table.by_number.contains_key(&number) {
                break number;
            }
        };
        table.partitions += size.count;
        table.by_number.insert(number, session);
        Some(number)
    }
}

impl Table {
    /// The session, if it is the one of this round.
    fn of_round(&mut self, number: i32, under_way: &Arc<()>) -> Option<&mut Session> {
        let session = self.by_number.get_mut(&number)?;
        let same = session.under_way.ptr_eq(&Arc::downgrade(under_way));
        same.then_some(session)
    }

    /// Ends a session, if it is this owner's.
    fn end(&mut self, number: i32, owner: &Owner) -> Option<Arc<Mutex<Parts>>> {
        let there = self.by_number.get(&number)?;
        (there.owner == *owner).then(|| self.remove(number))?
    }

    /// Begins the next round of a session.
    fn go_on(
        &mut self,
        now: Instant,
        owner: &Owner,
        asked: &Asked,
    ) -> Result<(Arc<()>, Arc<Mutex<Parts>>), Code> {
        let there = self.by_number.get_mut(&asked.session);
        let there = there.filter(|session| session.owner == *owner);
        let session = there.ok_or(Code::FetchSessionIdNotFound)?;
        // Each round has all its partitions in memory: one of each session at a time.
        if session.epoch != asked.epoch || session.under_way.strong_count() > 0 {
            return Err(Code::InvalidFetchSessionEpoch);
        }
        if session.by_id != asked.by_id {
            return Err(Code::FetchSessionTopicIdError);
        }
        let under_way = Arc::new(());
        session.under_way = Arc::downgrade(&under_way);
        session.epoch = next_epoch(session.epoch);
        session.used = now;
        Ok((under_way, Arc::clone(&session.parts)))
    }

    /// A session has fewer partitions; it ends where none is left.
    fn shrink(
        &mut self,
        number: i32,
        under_way: &Arc<()>,
        less: Size,
    ) -> Option<Arc<Mutex<Parts>>> {
        let session = self.of_round(number, under_way)?;
        session.len -= less.count;
        session.share.shrink(less.bytes);
        let is_empty = session.len == 0;
        self.partitions -= less.count;
        is_empty.then(|| self.remove(number))?
    }

    /// Ends one that was not used for long, or, where the room is for one of so many partitions,
    /// the smallest of those that are smaller and not new. Answers whether there was one.
    fn evict(&mut self, now: Instant, larger: Option<usize>, gone: &mut Gone) -> bool {
        let old = |since: Instant| now.saturating_duration_since(since) > KAFKA_FETCH_SESSION_KEEP;
        let all = || self.by_number.iter();
        let unused = all().min_by_key(|(_, session)| session.used);
        let unused = unused.filter(|(_, session)| old(session.used));
        let small = || {
            let not_new = all().filter(|(_, session)| old(session.begun));
            let small = not_new.min_by_key(|(number, session)| (session.len, **number));
            small.filter(|(_, session)| larger.is_some_and(|count| count > session.len))
        };
        let Some((&number, _)) = unused.or_else(small) else {
            return false;
        };
        gone.extend(self.remove(number));
        self.evicted += 1;
        true
    }

    /// Ends a session, and gives its memory back. Its partitions are the caller's to free.
    fn remove(&mut self, number: i32) -> Option<Arc<Mutex<Parts>>> {
        let session = self.by_number.remove(&number)?;
        self.partitions -= session.len;
        Some(session.parts)
    }
}
