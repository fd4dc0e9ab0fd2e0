//! The broker's state: topics, groups and their positions. Held twice by the machine, sealed
//! and durable; changed only by [`Change`]s.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};
use std::sync::Arc;

use tidemill_core::cursor::{Cursor, CursorBounds};
use tidemill_core::{GroupName, Offset, Partition, TopicId, TopicName};
use tidemill_log::PartitionId;

use super::commit_effect::{CommitChange, Committed};
use super::effect::Change;
use super::mark_effect::{Mark, MarkChange};
use super::operation::Marked;
use super::producer_effect::ProducerChange;
use super::transaction_effect::TransactionChange;
use crate::producer::Producers;
use crate::queue::QueueSettings;
use crate::share::ShareSettings;
use crate::transaction::Transactions;

/// The identity of a group: a group deleted and made again under its name has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u64);

/// What sort of members a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Members of this broker's own protocol, which share the work by key slots.
    Native,
    /// Members that share the partitions among themselves, as Kafka's classic protocol has it.
    Classic,
    /// Members among which the broker shares the partitions, as Kafka's newer protocol has it.
    Consumer,
    /// Members that share single records, as Kafka's share groups have it.
    Share,
    /// A queue's: the broker itself is its one member.
    Queue,
}

impl GroupKind {
    /// The kind in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Classic => "Kafka classic",
            Self::Consumer => "Kafka consumer",
            Self::Share => "Kafka share",
            Self::Queue => "queue",
        }
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Native => 0,
            Self::Classic => 1,
            Self::Consumer => 2,
            Self::Share => 3,
            Self::Queue => 4,
        }
    }

    /// How much a position of such a group may hold. A queue's oldest message may stay unsettled
    /// for ever while the others go on.
    pub(crate) fn bounds(self) -> CursorBounds {
        let bounds = CursorBounds::default();
        match self {
            Self::Native | Self::Classic | Self::Consumer | Self::Share => bounds,
            Self::Queue => CursorBounds {
                window_max: u64::MAX,
                ..bounds
            },
        }
    }

    pub(crate) fn from_number(number: u64) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Native),
            1 => Ok(Self::Classic),
            2 => Ok(Self::Consumer),
            3 => Ok(Self::Share),
            4 => Ok(Self::Queue),
            _ => Err(format!("the group kind {number} is unknown")),
        }
    }
}

/// A topic's identity and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

impl Topic {
    pub(crate) fn partition_ids(self) -> impl Iterator<Item = PartitionId> {
        (0..self.partitions).map(move |number| PartitionId {
            topic: self.id,
            partition: Partition(number),
        })
    }
}

/// A group's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) name: GroupName,
    pub(crate) kind: GroupKind,
    pub(crate) cursors: BTreeMap<PartitionId, Cursor>,
    /// What clients committed last, each for a partition with a position.
    pub(crate) commits: BTreeMap<PartitionId, Committed>,
    /// What was given out since the process last died and is not settled: at most
    /// [`MARKS_MAX`](crate::limits::MARKS_MAX).
    pub(crate) marks: BTreeMap<PartitionId, BTreeMap<Offset, Mark>>,
    /// What is set for it as a share group.
    pub(crate) share: ShareSettings,
    /// Settled ranges of all cursors together.
    ranges: usize,
    /// Bytes that the commits need.
    commit_bytes: usize,
}

impl GroupState {
    /// Bytes that one more cursor without ranges needs.
    pub(crate) const CURSOR_BYTES: usize = size_of::<PartitionId>() + size_of::<Cursor>();

    /// Roughly how many bytes this needs in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        self.name.as_str().len()
            + self.cursors.len() * Self::CURSOR_BYTES
            + self.ranges * size_of::<Range<Offset>>()
            + self.commit_bytes
    }

    /// Whether it has a position in a partition of this topic.
    pub(crate) fn reads(&self, topic: TopicId) -> bool {
        let first = PartitionId {
            topic,
            partition: Partition(0),
        };
        let next = self.cursors.range(first..).next();
        next.is_some_and(|(partition, _)| partition.topic == topic)
    }

    /// Every position, one after the other.
    fn each_cursor(self: Arc<Self>) -> impl Iterator<Item = (PartitionId, Cursor)> {
        let mut after = Bound::Unbounded;
        std::iter::from_fn(move || {
            let next = self.cursors.range((after, Bound::Unbounded)).next();
            let (partition, cursor) = next?;
            after = Bound::Excluded(*partition);
            Some((*partition, cursor.clone()))
        })
    }

    /// Every commit, one after the other.
    fn each_commit(self: Arc<Self>) -> impl Iterator<Item = (PartitionId, Committed)> {
        let mut after = Bound::Unbounded;
        std::iter::from_fn(move || {
            let next = self.commits.range((after, Bound::Unbounded)).next();
            let (partition, committed) = next?;
            after = Bound::Excluded(*partition);
            Some((*partition, committed.clone()))
        })
    }

    /// What was committed at the position that the group has now.
    pub(crate) fn committed(&self, partition: PartitionId) -> Option<&Committed> {
        let position = self.cursors.get(&partition)?.position();
        let committed = self.commits.get(&partition);
        committed.filter(|committed| committed.offset == position)
    }

    /// Every attempt marker, one after the other.
    fn each_mark(self: Arc<Self>) -> impl Iterator<Item = (PartitionId, Offset, Mark)> {
        let all = self.marks.iter().flat_map(|(partition, marks)| {
            let marks = marks.iter();
            marks.map(move |(offset, mark)| (*partition, *offset, *mark))
        });
        // There are few.
        all.collect::<Vec<_>>().into_iter()
    }

    /// What is known of an event.
    pub(super) fn mark(&self, partition: PartitionId, offset: Offset) -> Option<Mark> {
        self.marks.get(&partition)?.get(&offset).copied()
    }

    /// How many events something is known of.
    pub(super) fn mark_count(&self) -> usize {
        self.marks.values().map(BTreeMap::len).sum()
    }

    fn set_mark(&mut self, partition: PartitionId, offset: Offset, mark: Mark) {
        if mark.attempts == 0 {
            self.forget_marks(partition, offset..offset.next());
        } else if let Some(cursor) = self.cursors.get(&partition)
            && !cursor.is_settled(offset)
        {
            self.marks
                .entry(partition)
                .or_default()
                .insert(offset, mark);
        }
    }

    fn forget_marks(&mut self, partition: PartitionId, range: Range<Offset>) {
        let Some(marks) = self.marks.get_mut(&partition) else {
            return;
        };
        marks.retain(|offset, _| !range.contains(offset));
        if marks.is_empty() {
            self.marks.remove(&partition);
        }
    }

    fn commit(&mut self, partition: PartitionId, committed: Option<Committed>) {
        let bytes = committed.as_ref().map_or(0, Committed::size_bytes);
        let before = match committed {
            Some(committed) => self.commits.insert(partition, committed),
            None => self.commits.remove(&partition),
        };
        let before = before.as_ref().map_or(0, Committed::size_bytes);
        self.commit_bytes = (self.commit_bytes + bytes).saturating_sub(before);
    }

    /// Keeps the partitions for which this is so.
    fn retain(&mut self, keep: impl Fn(PartitionId) -> bool) {
        self.cursors.retain(|partition, _| keep(*partition));
        self.commits.retain(|partition, _| keep(*partition));
        self.marks.retain(|partition, _| keep(*partition));
        self.ranges = self.cursors.values().map(Cursor::range_count).sum();
        self.commit_bytes = self.commits.values().map(Committed::size_bytes).sum();
    }

    /// Changes one cursor, and keeps the number of ranges.
    fn change(&mut self, partition: PartitionId, change: impl FnOnce(&mut Cursor)) {
        if let Some(cursor) = self.cursors.get_mut(&partition) {
            let before = cursor.range_count();
            change(cursor);
            self.ranges = (self.ranges + cursor.range_count()).saturating_sub(before);
        }
    }
}

/// What makes a topic a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueState {
    /// The group that reads it, and nobody else.
    pub(crate) group: GroupId,
    pub(crate) settings: QueueSettings,
}

/// Topics, groups and positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<TopicName, Topic>,
    names: HashMap<TopicId, TopicName>,
    /// Copied one by one when they change, so that a clone of the state is quick.
    groups: HashMap<GroupId, Arc<GroupState>>,
    group_ids: BTreeMap<GroupName, GroupId>,
    next_group: GroupId,
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
    /// The topics that are queues.
    pub(crate) queues: BTreeMap<TopicId, QueueState>,
}

impl State {
    /// Whether a topic is a queue.
    pub(crate) fn is_queue(&self, id: TopicId) -> bool {
        self.queues.contains_key(&id)
    }

    /// The position of a queue's group in one of its partitions.
    pub(crate) fn queue_cursor(&self, id: PartitionId) -> Option<&Cursor> {
        let queue = self.queues.get(&id.topic)?;
        self.group(queue.group)?.cursors.get(&id)
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<Topic> {
        self.topics.get(name).copied()
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions as usize)
            .sum()
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<&GroupState> {
        self.groups.get(&id).map(Arc::as_ref)
    }

    /// The group as it is now, whatever becomes of it.
    pub(crate) fn group_now(&self, id: GroupId) -> Option<Arc<GroupState>> {
        self.groups.get(&id).cloned()
    }

    pub(crate) fn group_id(&self, name: &GroupName) -> Option<GroupId> {
        self.group_ids.get(name).copied()
    }

    pub(crate) fn group_names(&self) -> impl Iterator<Item = (&GroupName, GroupId)> {
        self.group_ids.iter().map(|(name, id)| (name, *id))
    }

    /// The groups with attempt markers, and what makes those be forgotten.
    pub(crate) fn marked_groups(&self) -> Vec<(GroupId, Vec<Marked>)> {
        let marked = self.groups.iter().filter(|(_, of)| !of.marks.is_empty());
        let forgotten = |(partition, offset, _)| Marked {
            partition,
            offset,
            attempts: 0,
        };
        let groups = marked.map(|(id, of)| {
            let marks = Arc::clone(of).each_mark();
            (*id, marks.map(forgotten).collect())
        });
        groups.collect()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The id of the next group; 0 is none.
    pub(crate) fn next_group(&self) -> GroupId {
        self.next_group.max(GroupId(1))
    }

    /// Makes a change. One that names what is not there (any more) changes nothing.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::TopicCreated {
                id,
                partitions,
                name,
            } => {
                self.names.insert(id, name.clone());
                self.topics.insert(name, Topic { id, partitions });
            }
            Change::TopicDeleted { id } => self.delete_topic(id),
            Change::GroupCreated { id, kind, name } => self.create_group(id, kind, name),
            Change::GroupDeleted { id } => {
                if let Some(group) = self.groups.remove(&id) {
                    self.group_ids.remove(&group.name);
                    self.transactions.forget_group(id);
                }
            }
            Change::CursorSet {
                group,
                partition,
                cursor,
            } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    let group = Arc::make_mut(group);
                    group.cursors.entry(partition).or_default();
                    group.change(partition, |have| *have = cursor);
                    group.marks.remove(&partition);
                    group.commit(partition, None);
                }
            }
            Change::Settled {
                group,
                partition,
                range,
            } => {
                // The bounds were checked when this was sealed.
                let bounds = CursorBounds {
                    ranges_max: usize::MAX,
                    window_max: u64::MAX,
                };
                if let Some(group) = self.groups.get_mut(&group) {
                    let group = Arc::make_mut(group);
                    group.forget_marks(partition, range.clone());
                    group.change(partition, |cursor| {
                        let settled = cursor.settle(range, bounds);
                        settled.expect("a cursor without bounds takes everything");
                    });
                }
            }
            Change::QueueSet {
                id,
                group,
                settings,
            } => {
                self.queues.insert(id, QueueState { group, settings });
            }
            Change::NextGroup { id } => self.next_group = self.next_group.max(id),
            Change::Commit(change) => self.apply_commit(change),
            Change::Mark(change) => self.apply_mark(change),
            Change::Producer(change) => self.apply_producer(change),
            Change::Transaction(change) => self.apply_transaction(change),
        }
    }

    fn create_group(&mut self, id: GroupId, kind: GroupKind, name: GroupName) {
        self.next_group = self.next_group.max(GroupId(id.0 + 1));
        self.group_ids.insert(name.clone(), id);
        let empty = || GroupState {
            name,
            kind,
            cursors: BTreeMap::new(),
            commits: BTreeMap::new(),
            marks: BTreeMap::new(),
            share: ShareSettings::default(),
            ranges: 0,
            commit_bytes: 0,
        };
        let group = self.groups.entry(id);
        let group = group.or_insert_with(|| Arc::new(empty()));
        if group.kind != kind {
            let group = Arc::make_mut(group);
            group.kind = kind;
            group.marks.clear();
        }
    }

    fn delete_topic(&mut self, id: TopicId) {
        if let Some(name) = self.names.remove(&id) {
            self.topics.remove(&name);
        }
        self.queues.remove(&id);
        self.producers.forget_topic(id);
        self.transactions.forget_topic(id);
        let reads = |group: &&mut Arc<GroupState>| group.reads(id);
        for group in self.groups.values_mut().filter(reads) {
            let group = Arc::make_mut(group);
            group.retain(|partition| partition.topic != id);
        }
    }

    fn apply_commit(&mut self, change: CommitChange) {
        match change {
            CommitChange::Committed {
                group,
                partition,
                committed,
            } => {
                let group = self.groups.get_mut(&group).map(Arc::make_mut);
                if let Some(group) = group.filter(|group| group.cursors.contains_key(&partition)) {
                    group.commit(partition, Some(committed));
                }
            }
            CommitChange::Share { group, settings } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    Arc::make_mut(group).share = settings;
                }
            }
            CommitChange::Removed { group, partition } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    Arc::make_mut(group).retain(|id| id != partition);
                }
            }
        }
    }

    fn apply_mark(&mut self, change: MarkChange) {
        if let Some(group) = self.groups.get_mut(&change.group) {
            Arc::make_mut(group).set_mark(change.partition, change.offset, change.mark);
        }
    }

    fn apply_producer(&mut self, change: ProducerChange) {
        match change {
            ProducerChange::State {
                producer,
                partition,
                entry,
            } => self.producers.set(partition, producer, entry),
            ProducerChange::Forgotten {
                producer,
                partition,
            } => self.producers.forget(partition, producer),
            ProducerChange::Aborted { partition, range } => {
                self.producers.add_aborted(partition, range);
            }
        }
    }

    fn apply_transaction(&mut self, change: TransactionChange) {
        match change {
            TransactionChange::State { id, head } => self.transactions.set(id, head),
            TransactionChange::Partition {
                producer,
                partition,
            } => self.transactions.join(producer, partition),
            TransactionChange::Offset {
                producer,
                group,
                partition,
                given,
            } => self.transactions.offset(producer, group, partition, given),
            TransactionChange::Forgotten { id } => self.transactions.forget(&id),
        }
    }

    /// The changes that make this state out of an empty one. A clone of the state is quick, so
    /// that this may go on with one while the state changes.
    pub(crate) fn into_changes(self) -> impl Iterator<Item = Change> {
        let topics = self
            .topics
            .into_iter()
            .map(|(name, topic)| Change::TopicCreated {
                id: topic.id,
                partitions: topic.partitions,
                name,
            });
        let mut groups = self.groups;
        let groups = self.group_ids.into_iter().flat_map(move |(name, id)| {
            let group = groups.remove(&id);
            let created = group.as_ref().map(|group| Change::GroupCreated {
                id,
                kind: group.kind,
                name,
            });
            let group_settings = group.as_ref().map(|group| group.share);
            let commits = group.clone().into_iter().flat_map(GroupState::each_commit);
            let commits = commits.map(move |(partition, committed)| {
                Change::Commit(CommitChange::Committed {
                    group: id,
                    partition,
                    committed,
                })
            });
            let marks = group.clone().into_iter().flat_map(GroupState::each_mark);
            let marks = marks.map(move |(partition, offset, mark)| {
                Change::Mark(MarkChange {
                    group: id,
                    partition,
                    offset,
                    mark,
                })
            });
            let cursors = group.into_iter().flat_map(GroupState::each_cursor);
            let cursors = cursors.map(move |(partition, cursor)| Change::CursorSet {
                group: id,
                partition,
                cursor,
            });
            let set = group_settings.filter(|set| *set != ShareSettings::default());
            let set = set.map(|settings| {
                Change::Commit(CommitChange::Share {
                    group: id,
                    settings,
                })
            });
            let first = created.into_iter().chain(set);
            // Setting a position forgets the others of its partition.
            first.chain(cursors).chain(commits).chain(marks)
        });
        let next = Change::NextGroup {
            id: self.next_group,
        };
        let queues = self.queues.into_iter().map(|(id, queue)| Change::QueueSet {
            id,
            group: queue.group,
            settings: queue.settings,
        });
        let producers = self.producers.into_changes().map(Change::Producer);
        let transactions = self.transactions.into_changes().map(Change::Transaction);
        let first = std::iter::once(next).chain(topics);
        let first = first.chain(groups).chain(queues).chain(producers);
        first.chain(transactions)
    }
}
