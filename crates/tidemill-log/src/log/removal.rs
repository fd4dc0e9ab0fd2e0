//! What is to be removed from the disk, and what was removed but may come back with a power
//! cut: a snapshot lists both, so that the next opening removes them for good.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidemill_core::Offset;

use crate::io::Action;
use crate::limits::CHECKPOINT_FOLDERS_MAX;
use crate::machine::{Lsn, PartitionId};
use crate::segment::{partition_dir, paths, topic_dir};

/// Something that the journal has deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gone {
    /// A partition with all its files.
    Partition(PartitionId),
    /// One segment of a partition that is there.
    Segment {
        id: PartitionId,
        base: Offset,
        generation: u32,
    },
}

impl Gone {
    /// The partition that it is, or belongs to.
    pub(crate) fn id(self) -> PartitionId {
        match self {
            Self::Partition(id) | Self::Segment { id, .. } => id,
        }
    }

    /// What removes it.
    pub(crate) fn actions(self) -> Vec<Action> {
        match self {
            Self::Partition(id) => vec![Action::RemoveDir(partition_dir(id))],
            Self::Segment {
                id,
                base,
                generation,
            } => paths(id, base, generation).map(Action::Remove).into(),
        }
    }

    /// The folder that its names are gone from.
    pub(crate) fn folder(self) -> Arc<str> {
        match self {
            Self::Partition(id) => topic_dir(id),
            Self::Segment { id, .. } => partition_dir(id),
        }
    }
}

/// One thing to be removed.
#[derive(Clone, Debug)]
pub(super) enum Removal {
    /// A file that the next opening knows by its name.
    File(Arc<str>),
    /// See [`Gone`].
    Gone(Gone),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// Each may go once this entry is synced: a power cut must not find the files gone and the
    /// entry that deleted them lost.
    waiting: VecDeque<(Lsn, Removal)>,
    under_way: Option<Removal>,
    /// Removed, but the folder was not synced since.
    unsynced: BTreeSet<Gone>,
    /// The disk would not remove these; the next opening tries again.
    stuck: BTreeSet<Gone>,
    /// A checkpoint syncs the folders of these.
    syncing: Vec<Gone>,
}

impl Removals {
    /// A file is not needed any more.
    pub(super) fn file(&mut self, path: Arc<str>) {
        self.waiting.push_back((Lsn(0), Removal::File(path)));
    }

    /// The entry `lsn` deleted something.
    pub(super) fn gone(&mut self, lsn: Lsn, gone: Gone) {
        if let Gone::Partition(id) = gone {
            let other = |gone: &Gone| gone.id() != id;
            self.waiting.retain(|(_, removal)| match removal {
                Removal::Gone(gone) => other(gone),
                Removal::File(_) => true,
            });
            self.unsynced.retain(other);
            self.stuck.retain(other);
            self.syncing.retain(other);
        }
        self.waiting.push_back((lsn, Removal::Gone(gone)));
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next one that may go.
    pub(super) fn next(&mut self, synced: Lsn) -> Option<Vec<Action>> {
        let may_go = |(after, _): &(Lsn, Removal)| *after <= synced;
        let at = self.waiting.iter().position(may_go)?;
        let (_, removal) = self.waiting.remove(at)?;
        let actions = match &removal {
            Removal::File(path) => vec![Action::Remove(path.clone())],
            Removal::Gone(gone) => gone.actions(),
        };
        self.under_way = Some(removal);
        Some(actions)
    }

    /// The one under way has ended.
    pub(super) fn finished(&mut self, removed: bool) {
        if let Some(Removal::Gone(gone)) = self.under_way.take() {
            let list = if removed {
                &mut self.unsynced
            } else {
                &mut self.stuck
            };
            list.insert(gone);
        }
    }

    /// What makes removals of up to [`CHECKPOINT_FOLDERS_MAX`] folders durable.
    pub(super) fn sync(&mut self) -> Vec<Action> {
        let mut folders = BTreeSet::new();
        for gone in &self.unsynced {
            if folders.len() < CHECKPOINT_FOLDERS_MAX || folders.contains(&gone.folder()) {
                folders.insert(gone.folder());
                self.syncing.push(*gone);
            }
        }
        let actions = folders.into_iter().flat_map(|folder| {
            // A topic that nothing was ever written to has no folder yet.
            [Action::MakeDir(folder.clone()), Action::SyncDir(folder)]
        });
        actions.collect()
    }

    /// What [`Removals::sync`] said was done.
    pub(super) fn synced(&mut self) {
        for gone in self.syncing.drain(..) {
            self.unsynced.remove(&gone);
        }
    }

    /// The checkpoint ended before its syncs were done.
    pub(super) fn not_synced(&mut self) {
        self.syncing.clear();
    }

    /// Everything that the next opening may find on the disk, of what is deleted up to `lsn`.
    pub(super) fn listed(&self, lsn: Lsn) -> impl Iterator<Item = Gone> + '_ {
        let waiting = self.waiting.iter().filter(move |(at, _)| *at <= lsn);
        let waiting = waiting.map(|(_, removal)| removal).chain(&self.under_way);
        let waiting = waiting.filter_map(|removal| match removal {
            Removal::Gone(gone) => Some(*gone),
            Removal::File(_) => None,
        });
        let done = self.unsynced.iter().chain(&self.stuck).copied();
        waiting.chain(done)
    }

    /// Takes what an opening could not remove.
    pub(super) fn stuck(&mut self, gone: impl IntoIterator<Item = Gone>) {
        self.stuck.extend(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::{Partition, TopicId};
    use uuid::Uuid;

    fn segment(partition: u32) -> Gone {
        let topic = TopicId(Uuid::from_u128(1));
        let partition = Partition(partition);
        Gone::Segment {
            id: PartitionId { topic, partition },
            base: Offset(7),
            generation: 0,
        }
    }

    #[test]
    fn a_removal_waits_for_its_entry_and_is_listed_until_its_folder_is_synced() {
        let mut removals = Removals::default();
        let listed = |removals: &Removals| removals.listed(Lsn(9)).count();
        removals.gone(Lsn(5), segment(0));
        removals.gone(Lsn(6), segment(1));
        assert!(removals.next(Lsn(4)).is_none());
        assert_eq!(removals.next(Lsn(5)).unwrap().len(), 2);
        assert!(removals.next(Lsn(5)).is_none());
        assert_eq!(listed(&removals), 2);
        removals.finished(true);
        assert_eq!(listed(&removals), 2);
        assert_eq!(removals.sync().len(), 2);
        removals.not_synced();
        assert_eq!(removals.sync().len(), 2);
        removals.synced();
        assert_eq!(listed(&removals), 1);
        assert!(removals.next(Lsn(6)).is_some());
        removals.finished(false);
        assert!(removals.sync().is_empty());
        assert_eq!(listed(&removals), 1, "what stays on the disk stays listed");
    }

    #[test]
    fn a_deleted_partition_takes_its_segments_along() {
        let mut removals = Removals::default();
        removals.gone(Lsn(1), segment(0));
        removals.gone(Lsn(2), segment(1));
        removals.gone(Lsn(3), Gone::Partition(segment(0).id()));
        let listed: Vec<_> = removals.listed(Lsn(3)).collect();
        assert_eq!(listed, [segment(1), Gone::Partition(segment(0).id())]);
    }
}
