//! Sessions of members of share groups: which partitions each takes records of, and which request
//! is its next one (KIP-932). Pure: time comes in.
//!
//! A session is a member's of a group, and says nothing of the records that it has: those are the
//! broker's to know.

use std::collections::{BTreeSet, HashMap};

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
    used: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ShareSessions {
    all: HashMap<Owner, Session>,
    /// Partitions of all of them.
    parts: usize,
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
    /// A request begins, goes on with, or ends a session. Answers what is to be taken records of,
    /// each time beginning with another partition.
    ///
    /// # Errors
    /// There is no such session, it waits for another request, or there are too many.
    pub(super) fn go_on(
        &mut self,
        now: Instant,
        owner: &Owner,
        said: Said,
    ) -> Result<Vec<SharePart>, Code> {
        if said.epoch == FIRST {
            self.end(owner);
            self.make_room(now, said.more.len())?;
            let session = Session {
                next: FIRST,
                parts: BTreeSet::new(),
                used: now,
            };
            self.all.insert(owner.clone(), session);
        }
        let session = self.all.get_mut(owner).ok_or(Code::ShareSessionNotFound)?;
        if said.epoch == LAST {
            self.end(owner);
            return Ok(Vec::new());
        }
        if session.next != said.epoch {
            return Err(Code::InvalidShareSessionEpoch);
        }
        if self.parts + said.more.len() > KAFKA_SHARE_SESSION_PARTS_MAX {
            return Err(Code::ShareSessionLimitReached);
        }
        session.used = now;
        let had = session.parts.len();
        session.parts.extend(said.more);
        said.less.iter().for_each(|part| {
            session.parts.remove(part);
        });
        self.parts = (self.parts + session.parts.len()).saturating_sub(had);
        // After the highest one comes the second.
        session.next = said.epoch.checked_add(1).unwrap_or(1);
        let mut parts: Vec<_> = session.parts.iter().copied().collect();
        if !parts.is_empty() {
            let first = usize::try_from(said.epoch).unwrap_or(0) % parts.len();
            parts.rotate_left(first);
        }
        Ok(parts)
    }

    fn end(&mut self, owner: &Owner) {
        if let Some(gone) = self.all.remove(owner) {
            self.parts = self.parts.saturating_sub(gone.parts.len());
        }
    }

    /// Makes room for one more where there are as many as may be: those go that nobody uses.
    fn make_room(&mut self, now: Instant, parts: usize) -> Result<(), Code> {
        let fits = |all: &Self| {
            all.all.len() < KAFKA_SHARE_SESSIONS_MAX
                && all.parts + parts <= KAFKA_SHARE_SESSION_PARTS_MAX
        };
        if fits(self) {
            return Ok(());
        }
        let idle = |used: Instant| now.saturating_duration_since(used) > KAFKA_SHARE_SESSION_IDLE;
        self.all.retain(|_, session| !idle(session.used));
        self.parts = self.all.values().map(|session| session.parts.len()).sum();
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
        let (mut all, now, me) = (ShareSessions::default(), Instant::now(), owner("a"));
        let mut go_on = |said| all.go_on(now, &me, said);
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
        assert_eq!((all.all.len(), all.parts), (0, 0));
    }

    #[test]
    fn after_the_highest_epoch_comes_the_second() {
        let (mut all, now, me) = (ShareSessions::default(), Instant::now(), owner("a"));
        all.go_on(now, &me, said(0, &[0], &[])).unwrap();
        all.all.get_mut(&me).unwrap().next = i32::MAX;
        all.go_on(now, &me, said(i32::MAX, &[], &[])).unwrap();
        assert!(all.go_on(now, &me, said(1, &[], &[])).is_ok());
    }

    #[test]
    fn there_are_so_many_and_who_is_gone_makes_room() {
        let (mut all, now) = (ShareSessions::default(), Instant::now());
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
        assert_eq!((all.all.len(), all.parts), (2, 3));
        let many: Vec<u32> = (0..KAFKA_SHARE_SESSION_PARTS_MAX as u32).collect();
        assert_eq!(all.go_on(later, &new, said(1, &many, &[])), limit);
    }
}
