//! Where a share group goes on, as those who run it look at it, set it and forget it.

use tidemill_core::cursor::Cursor;
use tidemill_core::{GroupName, Offset, TopicId};
use tidemill_log::PartitionId;

use super::types::SharePart;
use super::{ShareGroups, Shares};
use crate::classic::KindHold;
use crate::consumer::{ConsumerError, refused};
use crate::machine::{CommitNote, CommitOffset, GroupKind, Operation, Positions};

/// Why the positions of a share group were not set or forgotten.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ShareOffsetsError {
    /// There is no such group, or it is of another kind.
    #[error("there is no share group {0}; its first member makes it")]
    UnknownGroup(GroupName),
    /// It has members.
    #[error("the group {group} has {members} members; stop them first")]
    InUse {
        /// The group.
        group: GroupName,
        /// How many.
        members: usize,
    },
    /// The broker said no.
    #[error(transparent)]
    Refused(#[from] ConsumerError),
}

impl ShareGroups {
    /// The first offset that a group has not settled in each partition in which it has a position,
    /// ascending; `None` where there is no such group.
    #[must_use]
    pub fn positions(&self, group: &GroupName) -> Option<Vec<(SharePart, Offset)>> {
        let state = self.inner.durable.state();
        let found = state.group(state.group_id(group)?)?;
        let position = |(id, cursor): (&PartitionId, &Cursor)| {
            let part = SharePart {
                topic: id.topic,
                partition: id.partition,
            };
            (part, cursor.position())
        };
        let is_share = found.kind == GroupKind::Share;
        is_share.then(|| found.cursors.iter().map(position).collect())
    }

    /// Has a group without members go on at these offsets: all before them is settled, and nothing
    /// else. Resolves when that is durable.
    ///
    /// # Errors
    /// See [`ShareOffsetsError`].
    pub async fn seek(
        &self,
        group: &GroupName,
        places: &[(SharePart, Offset)],
    ) -> Result<(), ShareOffsetsError> {
        let _hold = self.hold_empty(group)?;
        let places = places.iter().map(|(part, offset)| CommitOffset {
            partition: part.id(),
            offset: *offset,
            note: CommitNote::default(),
        });
        let ask = Positions::Commit(GroupKind::Share, places.collect());
        self.ask(group, ask).await
    }

    /// Forgets where a group without members is in these topics. Its next member begins there as
    /// in topics that are new to the group. Resolves when that is durable.
    ///
    /// # Errors
    /// See [`ShareOffsetsError`].
    pub async fn forget(
        &self,
        group: &GroupName,
        topics: &[TopicId],
    ) -> Result<(), ShareOffsetsError> {
        let _hold = self.hold_empty(group)?;
        let known = self.positions(group).unwrap_or_default().into_iter();
        let known = known.filter(|(part, _)| topics.contains(&part.topic));
        let known: Vec<_> = known.map(|(part, _)| part.id()).collect();
        let asked = self.ask(group, Positions::Remove(known)).await;
        // What is remembered of where it is and what is out is not true any longer.
        if let Some(live) = self.inner.shares.get(&self.inner, group) {
            live.begin_anew();
        }
        asked
    }

    async fn ask(&self, group: &GroupName, ask: Positions) -> Result<(), ShareOffsetsError> {
        let group = group.clone();
        let asked = self.inner.submit(Operation::Positions { group, ask }).await;
        let asked = asked.map_err(|why| refused(crate::classic::refused(why)));
        asked.map(drop).map_err(Into::into)
    }

    /// Keeps members of other kinds away from a group of this kind that has no members.
    fn hold_empty(&self, group: &GroupName) -> Result<KindHold, ShareOffsetsError> {
        let shares: &Shares = self.open()?;
        if self.inner.group_kind(group) != Some(GroupKind::Share) {
            return Err(ShareOffsetsError::UnknownGroup(group.clone()));
        }
        let hold = self.hold(group)?;
        match shares.member_count(&self.inner, group) {
            0 => Ok(hold),
            members => Err(ShareOffsetsError::InUse {
                group: group.clone(),
                members,
            }),
        }
    }
}
