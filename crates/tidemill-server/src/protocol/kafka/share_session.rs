//! Sessions of members of share groups: which partitions each takes records of, and which request
//! is its next one (KIP-932). Pure: time comes in.
//!
//! A session is a member's of a group, and says nothing of the records that it has: those are the
//! broker's to know.
//!
//! The table of all sessions is locked for a look at one of them, or at how large each is. What a
//! session has is behind a lock of its own, which only its requests take: one of thousands of
//! partitions holds up nobody else. The table is locked within that one, never the other way round.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytestring::ByteString;
use tidemill_broker::SharePart;
use tidemill_core::GroupName;
use tokio::time::Instant;

use super::error::Code;
use crate::limits::{
    KAFKA_SHARE_SESSION_IDLE, KAFKA_SHARE_SESSION_PARTS_MAX, KAFKA_SHARE_SESSIONS_MAX,
};

/// The epoch of the first request of a session.
pub(super) const FIRST: i32 = 0;
/// The epoch of the last one.
pub(super) const LAST: i32 = -1;

/// Whose a session is.
pub(super) type Owner = (GroupName, ByteString);

#[derive(Debug)]
struct Session {
    /// The epoch of its next request.
    next: i32,
    parts: BTreeSet<SharePart>,
}

/// A session as the table has it.
#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    /// How many partitions it has.
    len: usize,
    used: Instant,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<Owner, Entry>,
    /// Partitions of all of them.
    parts: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ShareSessions {
    table: Mutex<Table>,
}

/// What a request says of its session.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) epoch: i32,
    /// What is taken from now on, too.
    pub(super) more: Vec<SharePart>,
    /// What is not, any longer.
    pub(super) less: Vec<SharePart>,
}

impl ShareSessions {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many partitions a session has; none where there is no such session.
    pub(super) fn len(&self, owner: &Owner) -> usize {
        self.table().all.get(owner).map_or(0, |entry| entry.len)
    }

    /// A request begins, goes on with, or ends a session. Answers what is to be taken records of,
    /// each time beginning with another partition.
    ///
    /// # Errors
    /// There is no such session, it waits for another request, or there are too many. What was
    /// there before stays then.
    pub(super) fn go_on(
        &self,
        now: Instant,
        owner: &Owner,
        said: Said,
    ) -> Result<Vec<SharePart>, Code> {
        let epoch = said.epoch;
        let parts = match epoch {
            FIRST => self.begin(now, owner, said)?,
            LAST => {
                let ended = self.table().end(owner);
                ended.ok_or(Code::ShareSessionNotFound)?;
                return Ok(Vec::new());
            }
            _ => self.next(now, owner, said)?,
        };
        let mut parts: Vec<_> = parts.into_iter().collect();
        if !parts.is_empty() {
            let first = usize::try_from(epoch).unwrap_or(0) % parts.len();
            parts.rotate_left(first);
        }
        Ok(parts)
    }

    /// Begins a session, in the place of the one that its owner had.
    fn begin(&self, now: Instant, owner: &Owner, said: Said) -> Result<BTreeSet<SharePart>, Code> {
        let mut parts: BTreeSet<_> = said.more.into_iter().collect();
        for part in &said.less {
            parts.remove(part);
        }
        let entry = Entry {
            len: parts.len(),
            used: now,
            session: Arc::new(Mutex::new(Session {
                next: FIRST + 1,
                parts: parts.clone(),
            })),
        };
        let mut table = self.table();
        table.make_room(now, owner, parts.len())?;
        // What was is freed when nothing is locked.
        let before = table.end(owner);
        table.parts += entry.len;
        table.all.insert(owner.clone(), entry);
        drop(table);
        drop(before);
        Ok(parts)
    }

    /// Goes on with a session.
    fn next(&self, now: Instant, owner: &Owner, said: Said) -> Result<BTreeSet<SharePart>, Code> {
        let session = {
            let mut table = self.table();
            let entry = table.all.get_mut(owner);
            let entry = entry.ok_or(Code::ShareSessionNotFound)?;
            entry.used = now;
            Arc::clone(&entry.session)
        };
        let mut locked = session.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.next != said.epoch {
            return Err(Code::InvalidShareSessionEpoch);
        }
        let less: BTreeSet<_> = said.less.into_iter().collect();
        let more = said.more.into_iter().filter(|part| !less.contains(part));
        let more: BTreeSet<_> = more.filter(|part| !locked.parts.contains(part)).collect();
        let gone = less.iter().filter(|part| locked.parts.contains(part));
        let len = locked.parts.len() + more.len() - gone.count();
        self.table().resize((owner, &session), len)?;
        locked.parts.extend(more);
        for part in &less {
            locked.parts.remove(part);
        }
        // After the highest one comes the second.
        locked.next = said.epoch.checked_add(1).unwrap_or(1);
        Ok(locked.parts.clone())
    }
}

impl Table {
    fn end(&mut self, owner: &Owner) -> Option<Entry> {
        let gone = self.all.remove(owner)?;
        self.parts = self.parts.saturating_sub(gone.len);
        Some(gone)
    }

    /// A session is to have so many partitions.
    fn resize(
        &mut self,
        (owner, session): (&Owner, &Arc<Mutex<Session>>),
        len: usize,
    ) -> Result<(), Code> {
        let entry = self.all.get_mut(owner);
        let entry = entry.filter(|entry| Arc::ptr_eq(&entry.session, session));
        // It made way, or its owner began another one.
        let entry = entry.ok_or(Code::ShareSessionNotFound)?;
        let parts = (self.parts + len).saturating_sub(entry.len);
        if len > entry.len && parts > KAFKA_SHARE_SESSION_PARTS_MAX {
            return Err(Code::ShareSessionLimitReached);
        }
        (entry.len, self.parts) = (len, parts);
        Ok(())
    }

    /// Makes room for one more in the place of the one that its owner has; where there are as many
    /// as may be, those of others go that nobody uses.
    fn make_room(&mut self, now: Instant, owner: &Owner, parts: usize) -> Result<(), Code> {
        let fits = |table: &Self| {
            let had = table.all.get(owner);
            let count = table.all.len() - usize::from(had.is_some());
            let had = had.map_or(0, |entry| entry.len);
            count < KAFKA_SHARE_SESSIONS_MAX
                && (table.parts + parts).saturating_sub(had) <= KAFKA_SHARE_SESSION_PARTS_MAX
        };
        if fits(self) {
            return Ok(());
        }
        let idle = |used: Instant| now.saturating_duration_since(used) > KAFKA_SHARE_SESSION_IDLE;
        self.all
            .retain(|whose, entry| whose == owner || !idle(entry.used));
        self.parts = self.all.values().map(|entry| entry.len).sum();
        match fits(self) {
            true => Ok(()),
            false => Err(Code::ShareSessionLimitReached),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill_core::{Partition, TopicId};
    use uuid::Uuid;

    use super::*;

    fn part(number: u32) -> SharePart {
        SharePart {
            topic: TopicId(Uuid::from_u128(1)),
            partition: Partition(number),
        }
    }

    impl ShareSessions {
        /// How many there are, and their partitions.
        fn sizes(&self) -> (usize, usize) {
            let table = self.table();
            let each = table.all.values();
            let parts: usize = each
                .map(|one| one.session.lock().unwrap().parts.len())
                .sum();
            assert_eq!(parts, table.parts);
            (table.all.len(), parts)
        }
    }

    fn owner(member: &str) -> Owner {
        (GroupName::new("g").unwrap(), member.into())
    }

    fn said(epoch: i32, more: &[u32], less: &[u32]) -> Said {
        Said {
            epoch,
            more: more.iter().copied().map(part).collect(),
            less: less.iter().copied().map(part).collect(),
        }
    }

    fn numbers(parts: Result<Vec<SharePart>, Code>) -> Vec<u32> {
        let parts = parts.unwrap();
        parts.iter().map(|part| part.partition.0).collect()
    }

    #[test]
    fn requests_of_a_session_follow_each_other_and_their_partitions_take_turns() {
        let (all, now, me) = (ShareSessions::default(), Instant::now(), owner("a"));
        let go_on = |said| all.go_on(now, &me, said);
        assert_eq!(go_on(said(1, &[], &[])), Err(Code::ShareSessionNotFound));
        assert_eq!(go_on(said(-1, &[], &[])), Err(Code::ShareSessionNotFound));
        assert_eq!(numbers(go_on(said(0, &[0, 1, 2], &[]))), [0, 1, 2]);
        assert_eq!(numbers(go_on(said(1, &[], &[]))), [1, 2, 0]);
        let wrong = Err(Code::InvalidShareSessionEpoch);
        assert_eq!(go_on(said(1, &[], &[])), wrong);
        assert_eq!(go_on(said(3, &[], &[])), wrong);
        assert_eq!(numbers(go_on(said(2, &[3], &[1, 2]))), [0, 3]);
        // One that begins anew forgets what was before.
        assert_eq!(numbers(go_on(said(0, &[7], &[]))), [7]);
        assert_eq!(numbers(go_on(said(1, &[8], &[8]))), [7]);
        assert!(numbers(go_on(said(-1, &[9], &[]))).is_empty());
        assert_eq!(go_on(said(2, &[], &[])), Err(Code::ShareSessionNotFound));
        assert_eq!(all.sizes(), (0, 0));
    }

    #[test]
    fn who_is_refused_keeps_what_it_had_and_nothing_counts_twice() {
        let (all, now) = (ShareSessions::default(), Instant::now());
        let (me, other) = (owner("a"), owner("b"));
        let most = KAFKA_SHARE_SESSION_PARTS_MAX as u32;
        all.go_on(now, &me, said(0, &[0, 0, 1], &[])).unwrap();
        let rest: Vec<u32> = (0..most - 3).collect();
        all.go_on(now, &other, said(0, &rest, &[])).unwrap();
        // One is left: named twice, had already and forgotten at once it is one.
        let limit = Err(Code::ShareSessionLimitReached);
        let again = all.go_on(now, &me, said(1, &[2, 2, 0, 9], &[9]));
        assert_eq!(numbers(again), [1, 2, 0]);
        assert_eq!(all.go_on(now, &me, said(2, &[3], &[])), limit);
        assert_eq!(all.go_on(now, &me, said(0, &[0, 1, 2, 3], &[])), limit);
        // It is as it was.
        assert_eq!(numbers(all.go_on(now, &me, said(2, &[3], &[0]))), [3, 1, 2]);
        assert_eq!(all.sizes(), (2, most as usize));
    }

    #[test]
    fn a_session_that_is_looked_at_holds_up_no_other() {
        let (all, now) = (ShareSessions::default(), Instant::now());
        let (me, other) = (owner("a"), owner("b"));
        all.go_on(now, &me, said(0, &[0], &[])).unwrap();
        let session = Arc::clone(&all.table().all[&me].session);
        let _locked = session.lock().unwrap();
        assert_eq!(numbers(all.go_on(now, &other, said(0, &[1], &[]))), [1]);
        assert_eq!(numbers(all.go_on(now, &other, said(1, &[2], &[]))), [2, 1]);
        // Also where its owner begins another one.
        assert_eq!(numbers(all.go_on(now, &me, said(0, &[5], &[]))), [5]);
    }

    #[test]
    fn after_the_highest_epoch_comes_the_second() {
        let (all, now, me) = (ShareSessions::default(), Instant::now(), owner("a"));
        all.go_on(now, &me, said(0, &[0], &[])).unwrap();
        let session = Arc::clone(&all.table().all[&me].session);
        session.lock().unwrap().next = i32::MAX;
        all.go_on(now, &me, said(i32::MAX, &[], &[])).unwrap();
        assert!(all.go_on(now, &me, said(1, &[], &[])).is_ok());
    }

    #[test]
    fn there_are_so_many_and_who_is_gone_makes_room() {
        let (all, now) = (ShareSessions::default(), Instant::now());
        for number in 0..KAFKA_SHARE_SESSIONS_MAX {
            let one = owner(&number.to_string());
            all.go_on(now, &one, said(0, &[0], &[])).unwrap();
        }
        let limit = Err(Code::ShareSessionLimitReached);
        let (new, first) = (owner("new"), owner("0"));
        assert_eq!(all.go_on(now, &new, said(0, &[0], &[])), limit);
        // Who has one may begin it anew.
        assert!(all.go_on(now, &first, said(0, &[0], &[])).is_ok());
        let later = now + KAFKA_SHARE_SESSION_IDLE;
        all.go_on(later, &first, said(1, &[], &[])).unwrap();
        let later = later + Duration::from_secs(1);
        assert!(all.go_on(later, &new, said(0, &[0, 1], &[])).is_ok());
        assert_eq!(all.sizes(), (2, 3));
        let many: Vec<u32> = (0..KAFKA_SHARE_SESSION_PARTS_MAX as u32).collect();
        assert_eq!(all.go_on(later, &new, said(1, &many, &[])), limit);
    }
}
