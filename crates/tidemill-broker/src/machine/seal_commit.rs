//! The decisions about groups' positions that clients commit by themselves, and about the kind of
//! a group.

use tidemill_core::GroupName;
use tidemill_core::cursor::Cursor;
use tidemill_log::PartitionId;

use super::commit_effect::{CommitChange, CommitNote, Committed};
use super::effect::Change;
use super::operation::{CommitOffset, Positions, Receipt, Refusal};
use super::seal::{Decision, SMALL_BYTES};
use super::state::{GroupId, GroupKind, GroupState};
use crate::limits::GROUP_STATE_MAX_BYTES;
use crate::share::ShareSettings;
use crate::transaction::Given;

/// Bytes that a question about positions needs of the journal at most.
pub(super) fn positions_bytes(ask: &Positions) -> usize {
    let one = |commit: &CommitOffset| 2 * SMALL_BYTES + commit.note.metadata.len();
    let bytes = match ask {
        Positions::Commit(_, offsets) => offsets.iter().map(one).sum(),
        Positions::Remove(partitions) => SMALL_BYTES * partitions.len(),
        Positions::Expire(_) => 0,
        Positions::Share(_) => SMALL_BYTES,
    };
    bytes + 512
}

/// Bytes that a group needs more for a position with a note, beside what it has.
pub(super) fn more_bytes(
    have: Option<&GroupState>,
    partition: PartitionId,
    note: Option<&CommitNote>,
) -> usize {
    let known = have.is_some_and(|group| group.cursors.contains_key(&partition));
    let position = if known { 0 } else { GroupState::CURSOR_BYTES };
    let Some(note) = note else {
        return position;
    };
    let kept = have.and_then(|group| group.commits.get(&partition));
    let kept = kept.map_or(0, Committed::size_bytes);
    let new = size_of::<(PartitionId, Committed)>() + note.metadata.len();
    (position + new).saturating_sub(kept)
}

impl Decision<'_, '_> {
    pub(super) fn positions(
        &mut self,
        group: GroupName,
        ask: Positions,
    ) -> Result<Receipt, Refusal> {
        match ask {
            Positions::Commit(kind, offsets) => self.commit_offsets((group, kind), offsets),
            Positions::Remove(partitions) => self.remove_positions(&group, partitions),
            Positions::Expire(seen) => self.expire_group(&group, &seen),
            Positions::Share(settings) => self.set_share(group, settings),
        }
    }

    /// The group of this name as one of this kind: it is made where there is none, and turned
    /// where it is of another kind. That it has no members of that one, who asks has seen to.
    pub(super) fn group_of_kind(
        &mut self,
        name: GroupName,
        kind: GroupKind,
    ) -> Result<GroupId, Refusal> {
        let Some(id) = self.state.group_id(&name) else {
            return self.create_group(name, kind);
        };
        self.of_no_queue(id)?;
        if self.state.group(id).is_some_and(|have| have.kind != kind) {
            self.changes.push(Change::GroupCreated { id, kind, name });
        }
        Ok(id)
    }

    /// Sets a group's positions. One in a partition that is gone is passed over.
    fn commit_offsets(
        &mut self,
        (group, kind): (GroupName, GroupKind),
        offsets: Vec<CommitOffset>,
    ) -> Result<Receipt, Refusal> {
        let id = self.group_of_kind(group, kind)?;
        let have = self.state.group(id);
        let bytes = |commit: &CommitOffset| more_bytes(have, commit.partition, Some(&commit.note));
        let more: usize = offsets.iter().map(bytes).sum();
        let size_bytes = have.map_or(0, GroupState::size_bytes);
        if more > 0 && size_bytes + more > GROUP_STATE_MAX_BYTES {
            let max_bytes = GROUP_STATE_MAX_BYTES;
            return Err(Refusal::GroupState { max_bytes });
        }
        let moved = offsets.into_iter().filter_map(|commit| {
            let given = Given {
                offset: commit.offset,
                note: Some(commit.note),
            };
            self.move_to(id, commit.partition, given)
        });
        Ok(Receipt::Moved(moved.collect()))
    }

    /// Sets a group's position; everything before it is settled, nothing else. `None` where the
    /// partition is gone.
    pub(super) fn move_to(
        &mut self,
        group: GroupId,
        partition: PartitionId,
        given: Given,
    ) -> Option<(GroupId, PartitionId, Cursor)> {
        self.draft.end(partition)?;
        let have = self.state.group(group);
        let have = have.and_then(|have| have.cursors.get(&partition));
        let mut cursor = have.cloned().unwrap_or_default();
        cursor.seek(given.offset);
        self.changes.push(Change::CursorSet {
            group,
            partition,
            cursor: cursor.clone(),
        });
        let now_ms = self.now.wall.as_millisecond();
        let committed = given.note.map(|note| CommitChange::Committed {
            group,
            partition,
            committed: Committed {
                offset: given.offset,
                at_ms: u64::try_from(now_ms).unwrap_or(0),
                note,
            },
        });
        self.changes.extend(committed.map(Change::Commit));
        Some((group, partition, cursor))
    }

    /// A group has no position in these partitions any longer.
    fn remove_positions(
        &mut self,
        group: &GroupName,
        partitions: Vec<PartitionId>,
    ) -> Result<Receipt, Refusal> {
        let id = self.state.group_id(group).ok_or(Refusal::UnknownGroup)?;
        let group = self.of_no_queue(id)?;
        let removed = partitions.into_iter().map(|partition| {
            let removed = CommitChange::Removed { group, partition };
            Change::Commit(removed)
        });
        self.changes.extend(removed);
        Ok(Receipt::Done)
    }

    fn set_share(&mut self, name: GroupName, settings: ShareSettings) -> Result<Receipt, Refusal> {
        let group = match self.state.group_id(&name) {
            Some(group) => self.of_no_queue(group)?,
            None => self.create_group(name, GroupKind::Share)?,
        };
        let set = CommitChange::Share { group, settings };
        self.changes.push(Change::Commit(set));
        Ok(Receipt::Done)
    }

    /// Nobody has used a group of Kafka's clients for so long that its positions are not kept any
    /// longer. Whoever looked did so before: what was committed since then, and what a transaction
    /// was given, is kept.
    fn expire_group(&mut self, group: &GroupName, seen: &GroupState) -> Result<Receipt, Refusal> {
        let id = self.state.group_id(group).ok_or(Refusal::UnknownGroup)?;
        let pending = self.state.transactions.given_to(id).next().is_some();
        let as_seen = self.state.group(id) == Some(seen);
        let expires = matches!(seen.kind, GroupKind::Classic | GroupKind::Consumer);
        if pending || !as_seen || !expires {
            return Err(Refusal::Used);
        }
        self.changes.push(Change::GroupDeleted { id });
        Ok(Receipt::Done)
    }
}
