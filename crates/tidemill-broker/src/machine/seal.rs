//! The decisions: each operation against the sealed state. Everything is checked before anything
//! is changed, so that a refusal leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use tidemill_core::cursor::Cursor;
use tidemill_core::error::OutOfRange;
use tidemill_core::{GroupName, Offset, Partition, Start, TopicId, TopicName};
use tidemill_log::{Batch, Demand, Draft, Now, PartitionId, PartitionSettings};

use super::effect::Change;
use super::heard::Heard;
use super::operation::{
    Append, Client, JoinTopic, Marks, Operation, Receipt, Refusal, SeekTo, Settled,
};
use super::producer_effect::ProducerChange;
use super::seal_commit::positions_bytes;
use super::state::{GroupId, GroupKind, GroupState, State, Topic};
use super::transaction_effect::TransactionChange;
use crate::limits::{
    GROUP_STATE_MAX_BYTES, GROUPS_MAX, PARTITIONS_MAX, PRODUCERS_FORGOTTEN_AT_ONCE,
    TOPIC_PARTITIONS_MAX, TOPICS_MAX,
};
use crate::producer::Header;
use crate::transaction::{Ask, BEGIN_BYTES, TransactionOperation, ask_bytes};

/// Bytes that an effect or a partition needs of the journal at most, without texts and ranges.
pub(super) const SMALL_BYTES: usize = 160;

/// Bytes of the effects by which producers are forgotten for one batch.
const FORGOTTEN_BYTES: usize = SMALL_BYTES * (PRODUCERS_FORGOTTEN_AT_ONCE + 1);

/// Bytes of the records that an operation brings along.
fn records_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Publish(one) | Operation::PublishAdded(one) | Operation::Enqueue(one) => {
            one.records_bytes()
        }
        Operation::GiveBack { append, .. } => append.records_bytes(),
        Operation::Commit { appends, .. } => appends.iter().map(Append::records_bytes).sum(),
        Operation::Transaction(operation) => operation.bytes_max,
        _ => 0,
    }
}

/// Bytes by which a topic is made: each partition, which may be given settings.
fn created(topic: Topic) -> usize {
    SMALL_BYTES * (topic.partitions as usize + 1) + 256
}

/// Bytes of batches, and of what comes with them.
fn append(append: &Append) -> usize {
    let batches = append.batches.iter();
    let record = |(_, batch): &(_, Batch)| {
        let forgets = batch.producer().is_some();
        let forgotten = if forgets { FORGOTTEN_BYTES } else { 0 };
        let begins = batch.is_transactional();
        let begun = if begins { BEGIN_BYTES } else { 0 };
        batch.as_bytes().len() + 128 + forgotten + begun
    };
    let records: usize = batches.map(record).sum();
    let made = append.create.then(|| created(append.route));
    records + made.unwrap_or(0)
}

pub(super) fn demand(operation: &Operation) -> Demand {
    let records = records_bytes(operation);
    let (bytes, appends) = match operation {
        Operation::CreateTopic { topic, .. } => (created(*topic), true),
        // With other settings a full disk may have room again.
        Operation::AlterTopic { change, .. } => (
            SMALL_BYTES * (TOPIC_PARTITIONS_MAX as usize + 1) + 256,
            change.partitions.is_some(),
        ),
        Operation::Widen { partitions_max, .. } => {
            (SMALL_BYTES * (*partitions_max as usize + 1), false)
        }
        // A group, its position and the settings more.
        Operation::CreateQueue { topic, .. } => (created(*topic) + 4 * SMALL_BYTES + 256, true),
        Operation::DeleteTopic { .. } | Operation::DeleteQueue { .. } => {
            (SMALL_BYTES * (TOPIC_PARTITIONS_MAX as usize + 1), false)
        }
        Operation::Publish(one) | Operation::PublishAdded(one) | Operation::Enqueue(one) => {
            (append(one), true)
        }
        Operation::Transaction(operation) => {
            let TransactionOperation { ask, bytes_max, .. } = &**operation;
            // Its markers may make that others are forgotten.
            let forgotten = if *bytes_max > 0 { FORGOTTEN_BYTES } else { 0 };
            let bytes = ask_bytes(ask) + bytes_max + forgotten;
            (bytes, !matches!(ask, Ask::Overdue))
        }
        Operation::GiveBack { append: one, .. } => (2 * SMALL_BYTES + append(one), true),
        Operation::Commit {
            settled, appends, ..
        } => {
            let records: usize = appends.iter().map(append).sum();
            (
                SMALL_BYTES * (settled.len() + 1) + records,
                !appends.is_empty(),
            )
        }
        Operation::Join { topics, .. } => {
            // Each partition may be made and get a position.
            let one = |topic: &JoinTopic| SMALL_BYTES * 2 * (topic.partitions_max as usize + 2);
            (topics.iter().map(one).sum::<usize>() + 512, true)
        }
        Operation::Positions { ask, .. } => (positions_bytes(ask), false),
        Operation::Mark(of) => (SMALL_BYTES * (of.marks.len() + 1), false),
        Operation::Pass { .. }
        | Operation::DeleteGroup { .. }
        | Operation::Seek { .. }
        | Operation::Trim { .. } => (SMALL_BYTES * 2, false),
    };
    Demand {
        bytes,
        records,
        appends,
        lane: lane(operation),
    }
}

/// What concerns one topic keeps its order, but for publishes of clients that are told apart: each
/// of these keeps its own. What concerns one group keeps its order, and all of them take turns. The
/// rest is one lane.
fn lane(operation: &Operation) -> u64 {
    let mut hasher = DefaultHasher::new();
    match operation {
        Operation::Publish(append)
        | Operation::PublishAdded(append)
        | Operation::Enqueue(append) => {
            append.topic.hash(&mut hasher);
            if append.client != Client::Any {
                append.client.hash(&mut hasher);
            }
        }
        Operation::CreateTopic { name, .. }
        | Operation::CreateQueue { name, .. }
        | Operation::DeleteQueue { name }
        | Operation::DeleteTopic { name }
        | Operation::AlterTopic { name, .. }
        | Operation::Trim { topic: name, .. } => {
            name.hash(&mut hasher);
        }
        Operation::GiveBack { reader: group, .. }
        | Operation::Commit { group, .. }
        | Operation::Pass { group, .. }
        | Operation::Mark(Marks { group, .. })
        | Operation::Widen { group, .. }
        | Operation::Seek { group, .. } => group.hash(&mut hasher),
        Operation::Positions { group, .. } => group.hash(&mut hasher),
        Operation::Transaction(_) | Operation::Join { .. } | Operation::DeleteGroup { .. } => {
            return 0;
        }
    }
    hasher.finish()
}

pub(super) fn seal(
    state: &mut State,
    heard: &mut Heard,
    now: Now,
    operation: Operation,
    draft: &mut Draft<'_>,
) -> Result<Receipt, Refusal> {
    let mut decision = Decision {
        state,
        draft,
        changes: Vec::new(),
        made: BTreeMap::new(),
        wrote: Vec::new(),
        begins: !matches!(operation, Operation::PublishAdded(_)),
        enqueues: matches!(
            operation,
            Operation::Enqueue(_) | Operation::GiveBack { .. }
        ),
        begun: false,
        joined: BTreeSet::new(),
        heard,
        now,
    };
    let receipt = decision.decide(operation)?;
    if !decision.wrote.is_empty() {
        decision.forget()?;
    }
    let Decision { changes, wrote, .. } = decision;
    for (id, header, base) in wrote {
        heard.heard(id, header.producer, now.monotonic);
        state.producers.appended(id, header, base);
    }
    let mut bytes = Vec::new();
    for change in changes {
        bytes.clear();
        let kind = change.encode(&mut bytes);
        draft.effect(kind, &bytes);
        match &change {
            Change::Producer(ProducerChange::Forgotten {
                producer,
                partition,
            }) => heard.forget(*partition, *producer),
            Change::Transaction(TransactionChange::State { id, head }) => {
                heard.transaction(id, *head, now.monotonic);
            }
            Change::Transaction(TransactionChange::Forgotten { id }) => heard.forget_id(id),
            Change::TopicDeleted { id } => heard.forget_topic(*id),
            _ => {}
        }
        state.apply(change);
    }
    Ok(receipt)
}

/// One operation while it is decided: what it would change is kept aside.
pub(super) struct Decision<'a, 'd> {
    pub(super) state: &'a State,
    pub(super) draft: &'a mut Draft<'d>,
    pub(super) changes: Vec<Change>,
    /// Topics that this operation makes.
    made: BTreeMap<TopicName, Topic>,
    /// Batches of producers that are appended: their headers and base offsets.
    pub(super) wrote: Vec<(PartitionId, Header, Offset)>,
    /// Whether a transactional batch begins a transaction, and adds its partition.
    pub(super) begins: bool,
    /// Whether it appends to queues, and to nothing else.
    pub(super) enqueues: bool,
    /// This operation begins a transaction.
    pub(super) begun: bool,
    /// The partitions and positions that it adds to one.
    pub(super) joined: BTreeSet<(Option<GroupId>, PartitionId)>,
    pub(super) heard: &'a Heard,
    pub(super) now: Now,
}

impl Decision<'_, '_> {
    fn decide(&mut self, operation: Operation) -> Result<Receipt, Refusal> {
        match operation {
            Operation::CreateTopic {
                name,
                topic,
                settings,
            } => self.create_configured(name, topic, settings),
            Operation::CreateQueue {
                name,
                group,
                topic,
                partitions,
                settings,
            } => self.create_queue(name, group, topic, partitions, settings),
            Operation::DeleteQueue { name } => self.delete_queue(name),
            Operation::Trim {
                topic,
                partition,
                before,
            } => self.trim(topic, partition, before),
            Operation::DeleteTopic { name } => self.delete_topic(name),
            Operation::AlterTopic { name, change } => self.alter_topic(name, change),
            Operation::Widen {
                group,
                topic,
                partitions_max,
            } => self.widen(group, topic, partitions_max),
            Operation::Transaction(operation) => self.transaction(*operation),
            Operation::Publish(append)
            | Operation::PublishAdded(append)
            | Operation::Enqueue(append) => self.publish(append),
            Operation::Commit {
                group,
                settled,
                appends,
            } => self.commit(group, settled, appends),
            Operation::GiveBack {
                reader,
                settled,
                append,
            } => self.commit(reader, vec![settled], vec![append]),
            Operation::Pass {
                group,
                partition,
                range,
            } => {
                self.cursor(group, partition)?;
                self.changes.push(Change::Settled {
                    group,
                    partition,
                    range,
                });
                Ok(Receipt::Done)
            }
            Operation::Mark(marks) => self.mark(marks),
            Operation::Join {
                group,
                kind,
                topics,
                start,
            } => self.join((group, kind), topics, start),
            Operation::DeleteGroup { group } => self.delete_group(&group),
            Operation::Seek {
                group,
                partition,
                to,
            } => self.seek(group, partition, to),
            Operation::Positions { group, ask } => self.positions(group, ask),
        }
    }

    fn commit(
        &mut self,
        group: GroupId,
        settled: Vec<Settled>,
        appends: Vec<Append>,
    ) -> Result<Receipt, Refusal> {
        for settled in settled {
            self.settle(group, settled)?;
        }
        let bases: Result<Vec<_>, _> = appends.into_iter().map(|a| self.append(a)).collect();
        Ok(Receipt::Appended(bases?))
    }

    fn delete_group(&mut self, group: &GroupName) -> Result<Receipt, Refusal> {
        let id = self.state.group_id(group).ok_or(Refusal::UnknownGroup)?;
        self.of_no_queue(id)?;
        self.changes.push(Change::GroupDeleted { id });
        Ok(Receipt::Done)
    }

    fn publish(&mut self, append: Append) -> Result<Receipt, Refusal> {
        let mut batches = append.batches.iter();
        let of_producer = batches.any(|(_, batch)| batch.producer().is_some());
        let bases = self.append(append)?;
        Ok(match of_producer && self.wrote.is_empty() {
            true => Receipt::Repeated(bases),
            false => Receipt::Appended(vec![bases]),
        })
    }

    pub(super) fn topic(&self, name: &TopicName) -> Option<Topic> {
        let made = self.made.get(name).copied();
        made.or_else(|| self.state.topic(name))
    }

    /// Where what is decided ends.
    fn stable_end(&self, id: PartitionId) -> Offset {
        let end = self.draft.end(id).unwrap_or_default();
        let open = self.state.producers.first_open(id);
        open.map_or(end, |first| first.min(end))
    }

    pub(super) fn cursor(
        &self,
        group: GroupId,
        partition: PartitionId,
    ) -> Result<&Cursor, Refusal> {
        let group = self.state.group(group).ok_or(Refusal::UnknownGroup)?;
        let cursor = group.cursors.get(&partition);
        cursor.ok_or(Refusal::UnknownPartition(partition))
    }

    fn create_configured(
        &mut self,
        name: TopicName,
        topic: Topic,
        settings: PartitionSettings,
    ) -> Result<Receipt, Refusal> {
        if self.topic(&name).is_some() {
            return Err(Refusal::TopicExists(name));
        }
        let topic = self.create_topic(name, topic)?;
        for id in topic.partition_ids() {
            self.draft.configure(id, settings);
        }
        Ok(Receipt::Topic(topic))
    }

    pub(super) fn create_topic(&mut self, name: TopicName, topic: Topic) -> Result<Topic, Refusal> {
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&topic.partitions) {
            return Err(Refusal::Partitions {
                asked: topic.partitions,
                max: TOPIC_PARTITIONS_MAX,
            });
        }
        if self.state.topics.len() + self.made.len() >= TOPICS_MAX {
            let (what, max) = ("topics", TOPICS_MAX);
            return Err(Refusal::TooMany { what, max });
        }
        let made: usize = self
            .made
            .values()
            .map(|topic| topic.partitions as usize)
            .sum();
        let partitions = self.state.partition_count() + made + topic.partitions as usize;
        if partitions > PARTITIONS_MAX {
            let (what, max) = ("partitions", PARTITIONS_MAX);
            return Err(Refusal::TooMany { what, max });
        }
        for id in topic.partition_ids() {
            self.draft.create_partition(id);
        }
        self.changes.push(Change::TopicCreated {
            id: topic.id,
            partitions: topic.partitions,
            name: name.clone(),
        });
        self.made.insert(name, topic);
        Ok(topic)
    }

    fn delete_topic(&mut self, name: TopicName) -> Result<Receipt, Refusal> {
        let topic = self.topic(&name);
        let topic = topic.ok_or_else(|| Refusal::UnknownTopic(name.clone()))?;
        self.is_for(topic, name)?;
        self.delete_partitions(topic);
        Ok(Receipt::Topic(topic))
    }

    pub(super) fn delete_partitions(&mut self, topic: Topic) {
        for id in topic.partition_ids() {
            self.draft.delete_partition(id);
        }
        self.changes.push(Change::TopicDeleted { id: topic.id });
    }

    fn trim(
        &mut self,
        topic: TopicName,
        partition: Partition,
        before: Offset,
    ) -> Result<Receipt, Refusal> {
        let found = self.topic(&topic);
        let found = found.ok_or_else(|| Refusal::UnknownTopic(topic.clone()))?;
        self.is_for(found, topic)?;
        let id = PartitionId {
            topic: found.id,
            partition,
        };
        let count = found.partitions;
        let end = self.draft.end(id).ok_or(Refusal::NoPartition { count })?;
        let earliest = self.draft.trim(id, before);
        earliest
            .map(Receipt::Trimmed)
            .ok_or(Refusal::BeyondEnd { end })
    }

    fn append(&mut self, append: Append) -> Result<Vec<Offset>, Refusal> {
        let topic = match self.topic(&append.topic) {
            Some(topic)
                if topic.partitions != append.route.partitions
                    && !self.was_kept(topic, &append) =>
            {
                return Err(Refusal::Rerouted {
                    topic: append.topic,
                    now: topic,
                });
            }
            Some(topic) => topic,
            None if append.create => self.create_topic(append.topic.clone(), append.route)?,
            None if self.enqueues => return Err(Refusal::UnknownQueue(append.topic)),
            None => return Err(Refusal::UnknownTopic(append.topic)),
        };
        self.is_for(topic, append.topic)?;
        let mut bases = Vec::with_capacity(append.batches.len());
        for (partition, batch) in append.batches {
            let id = PartitionId {
                topic: topic.id,
                partition,
            };
            bases.push(self.append_batch(id, batch)?);
        }
        Ok(bases)
    }

    fn settle(&mut self, group: GroupId, settled: Settled) -> Result<(), Refusal> {
        let Settled {
            partition,
            epoch,
            range,
        } = settled;
        let cursor = self.cursor(group, partition)?;
        if cursor.epoch() != epoch {
            return Err(Refusal::Sought);
        }
        let unsettled = cursor.next_unsettled(range.start);
        if unsettled != range.start {
            return Err(Refusal::Stale);
        }
        let kind = self.state.group(group).map(|group| group.kind);
        let bounds = kind.unwrap_or(GroupKind::Native).bounds();
        cursor.check(range.clone(), bounds)?;
        let size_bytes = self.state.group(group).map_or(0, GroupState::size_bytes);
        if size_bytes > GROUP_STATE_MAX_BYTES && range.start > cursor.position() {
            return Err(Refusal::GroupState {
                max_bytes: GROUP_STATE_MAX_BYTES,
            });
        }
        self.changes.push(Change::Settled {
            group,
            partition,
            range,
        });
        Ok(())
    }

    fn join(
        &mut self,
        (group, kind): (GroupName, GroupKind),
        topics: Vec<JoinTopic>,
        start: Start,
    ) -> Result<Receipt, Refusal> {
        let id = self.group_of_kind(group, kind)?;
        let mut joined = Vec::with_capacity(topics.len());
        let mut new_bytes = 0;
        let have = self.state.group(id);
        for joining in topics {
            let JoinTopic { name, create, .. } = joining;
            let topic = match (self.topic(&name), create) {
                (Some(now), _) if now.partitions > joining.partitions_max => {
                    return Err(Refusal::Rerouted { topic: name, now });
                }
                (Some(topic), _) => {
                    self.is_for(topic, name.clone())?;
                    topic
                }
                (None, Some(topic)) => self.create_topic(name.clone(), topic)?,
                (None, None) => return Err(Refusal::UnknownTopic(name)),
            };
            // What was added to a topic that it reads already is new as a whole.
            let start = match have.is_some_and(|have| have.reads(topic.id)) {
                true => Start::Beginning,
                false => start,
            };
            let mut cursors = Vec::with_capacity(topic.partitions as usize);
            let mut is_checked = false;
            for partition in topic.partition_ids() {
                if let Ok(cursor) = self.cursor(id, partition) {
                    cursors.push(cursor.clone());
                    continue;
                }
                let at = match start {
                    Start::Beginning => Offset(0),
                    Start::End => self.stable_end(partition),
                    Start::At(offset) => {
                        if !std::mem::replace(&mut is_checked, true) {
                            self.is_kept_somewhere(&name, topic, offset)?;
                        }
                        // Of a partition that has fewer nothing is passed over.
                        offset.min(self.draft.end(partition).unwrap_or_default())
                    }
                };
                let cursor = Cursor::at(self.kept(partition, at));
                new_bytes += GroupState::CURSOR_BYTES;
                self.changes.push(Change::CursorSet {
                    group: id,
                    partition,
                    cursor: cursor.clone(),
                });
                cursors.push(cursor);
            }
            joined.push((name, topic, cursors));
        }
        let have = have.map_or(0, GroupState::size_bytes);
        if new_bytes > 0 && have + new_bytes > GROUP_STATE_MAX_BYTES {
            return Err(Refusal::GroupState {
                max_bytes: GROUP_STATE_MAX_BYTES,
            });
        }
        Ok(Receipt::Joined {
            group: id,
            topics: joined,
        })
    }

    /// As joining once more: see [`Operation::Widen`].
    fn widen(
        &mut self,
        group: GroupId,
        (topic, id): (TopicName, TopicId),
        partitions_max: u32,
    ) -> Result<Receipt, Refusal> {
        let have = self.state.group(group);
        // Clients of another kind may have it since: they set its positions themselves.
        let have = have.filter(|have| have.kind == GroupKind::Native);
        let have = have.ok_or(Refusal::UnknownGroup)?;
        if self.topic(&topic).is_none_or(|now| now.id != id) {
            return Err(Refusal::UnknownTopic(topic));
        }
        let topic = JoinTopic {
            name: topic,
            partitions_max,
            create: None,
        };
        self.join(
            (have.name.clone(), have.kind),
            vec![topic],
            Start::Beginning,
        )
    }

    /// `at`, or where the partition begins by now if that is behind it.
    fn kept(&self, partition: PartitionId, at: Offset) -> Offset {
        at.max(self.draft.earliest(partition).unwrap_or_default())
    }

    /// Whether a group may begin at `offset` of each partition: at least one has it.
    fn is_kept_somewhere(
        &self,
        name: &TopicName,
        topic: Topic,
        offset: Offset,
    ) -> Result<(), Refusal> {
        let partitions = topic.partition_ids();
        let mut each = partitions.map(|id| self.is_kept(name, id, offset));
        let first = each.next().unwrap_or(Ok(()));
        match first.is_err() && each.any(|kept| kept.is_ok()) {
            true => Ok(()),
            false => first,
        }
    }

    /// Whether a group may go on at `offset`: with what is kept, or with the next event.
    fn is_kept(&self, topic: &TopicName, id: PartitionId, offset: Offset) -> Result<(), Refusal> {
        let earliest = self.draft.earliest(id).unwrap_or_default();
        let end = self.draft.end(id).unwrap_or_default();
        if (earliest..=end).contains(&offset) {
            return Ok(());
        }
        Err(Refusal::OutOfRange(Box::new(OutOfRange {
            topic: topic.clone(),
            partition: id.partition,
            offset,
            earliest,
            end,
        })))
    }

    pub(super) fn create_group(
        &mut self,
        name: GroupName,
        kind: GroupKind,
    ) -> Result<GroupId, Refusal> {
        if self.state.group_count() >= GROUPS_MAX {
            let (what, max) = ("groups", GROUPS_MAX);
            return Err(Refusal::TooMany { what, max });
        }
        let id = self.state.next_group();
        self.changes.push(Change::GroupCreated { id, kind, name });
        Ok(id)
    }

    fn seek(
        &mut self,
        group: GroupId,
        partition: PartitionId,
        to: SeekTo,
    ) -> Result<Receipt, Refusal> {
        self.of_no_queue(group)?;
        let mut cursor = self.cursor_or_added(group, partition)?;
        let at = match to {
            SeekTo::Beginning => Offset(0),
            SeekTo::End => self.stable_end(partition),
            SeekTo::Offset(offset) => {
                let mut topics = self.state.topics.iter();
                let of = topics.find(|(_, topic)| topic.id == partition.topic);
                let (name, _) = of.ok_or(Refusal::UnknownPartition(partition))?;
                self.is_kept(name, partition, offset)?;
                offset
            }
        };
        cursor.seek(self.kept(partition, at));
        self.changes.push(Change::CursorSet {
            group,
            partition,
            cursor: cursor.clone(),
        });
        Ok(Receipt::Sought(cursor))
    }
}
