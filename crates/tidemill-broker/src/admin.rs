//! Topics and groups for those who run the broker: list, create, trim, delete, seek.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use tidemill_core::cursor::Cursor;
use tidemill_core::delivery::is_for_dead_letters;
use tidemill_core::error::OutOfRange;
use tidemill_core::{FetchError, GroupName, Offset, Order, Partition, TopicId, TopicName};
use tidemill_log::{CommitError, PartitionId};
use uuid::Uuid;

use crate::broker::{Broker, Inner};
use crate::error::{GroupError, TopicError};
use crate::info::{GroupInfo, GroupPartitionInfo, PartitionInfo, TopicInfo};
use crate::machine::{GroupKind, GroupState, Operation, Receipt, Refusal, SeekTo, Topic};
use crate::topic_settings::TopicSettings;

/// How a topic is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// How many partitions it has, from 1 to
    /// [`TOPIC_PARTITIONS_MAX`](crate::limits::TOPIC_PARTITIONS_MAX); later it may become more,
    /// never less.
    pub partitions: u32,
    /// What is kept of it, and how.
    pub settings: TopicSettings,
}

impl Default for CreateTopic {
    fn default() -> Self {
        Self {
            partitions: 1,
            settings: TopicSettings::default(),
        }
    }
}

impl Broker {
    /// Makes a topic. Resolves when that is durable.
    ///
    /// # Errors
    /// [`TopicError::Exists`], and [`TopicError::Limit`] where it has too many or no partitions or
    /// its settings are none.
    pub async fn create_topic(
        &self,
        name: TopicName,
        how: CreateTopic,
    ) -> Result<TopicInfo, TopicError> {
        let topic = Topic {
            id: TopicId(Uuid::now_v7()),
            partitions: how.partitions,
        };
        if self.inner.queues.in_memory(&name) {
            return Err(TopicError::IsQueue(name));
        }
        let operation = Operation::CreateTopic {
            name: name.clone(),
            topic,
            settings: how.settings.checked()?,
        };
        self.inner.submit(operation).await?;
        Ok(topic_info(&self.inner, &name, topic))
    }

    /// Deletes a topic with all its events, and every group's position in it. Members that
    /// read it are told. Resolves when that is durable.
    ///
    /// # Errors
    /// [`TopicError::Unknown`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), TopicError> {
        let name = name.clone();
        if let Receipt::Topic(topic) = self.inner.submit(Operation::DeleteTopic { name }).await? {
            let groups: Vec<_> = self.inner.groups().values().cloned().collect();
            for group in groups {
                group.topic_gone(topic.id);
            }
            self.inner.shares.topic_gone(topic.id);
            self.inner.listening.wake_topic(topic.id);
            self.inner.listening.forget(|id, _| id.topic != topic.id);
        }
        Ok(())
    }

    /// Deletes the events of a partition below an offset, and answers where it begins then: not
    /// before `before`, and later where it did so already. Resolves when that is durable; the
    /// disk is given back later, a whole segment at a time. Groups that were not there yet go on
    /// at the new beginning; what their members have already stays theirs.
    ///
    /// # Errors
    /// [`TopicError::Unknown`], [`TopicError::UnknownPartition`], and [`TopicError::BeyondEnd`]
    /// where there is no such offset yet.
    pub async fn trim_topic(
        &self,
        name: &TopicName,
        partition: Partition,
        before: Offset,
    ) -> Result<Offset, TopicError> {
        let operation = Operation::Trim {
            topic: name.clone(),
            partition,
            before,
        };
        match self.inner.submit(operation).await? {
            Receipt::Trimmed(earliest) => Ok(earliest),
            _ => Ok(before),
        }
    }

    /// The topics, sorted by name; queues are none.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicInfo> {
        let catalog = self.inner.durable.catalog();
        let infos = catalog
            .iter()
            .filter(|(_, topic)| !catalog.is_queue(topic.id))
            .map(|(name, topic)| topic_info(&self.inner, name, topic));
        infos.collect()
    }

    /// One topic; `None` also where it is a queue.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<TopicInfo> {
        let catalog = self.inner.durable.catalog();
        let topic = catalog.topic(name)?;
        if catalog.is_queue(topic.id) {
            return None;
        }
        Some(topic_info(&self.inner, name, topic))
    }

    /// The name of the topic with this identity; `None` where there is none any more, or it is a
    /// queue.
    #[must_use]
    pub fn topic_name(&self, id: TopicId) -> Option<TopicName> {
        let catalog = self.inner.durable.catalog();
        let name = catalog.name(id).filter(|_| !catalog.is_queue(id));
        name.cloned()
    }

    /// One partition of a topic. Quicker than [`Broker::topic`], which looks at all of them.
    ///
    /// # Errors
    /// [`FetchError::UnknownTopic`], [`FetchError::UnknownPartition`] and [`FetchError::IsQueue`].
    pub fn partition(
        &self,
        name: &TopicName,
        partition: Partition,
    ) -> Result<PartitionInfo, FetchError> {
        let id = crate::fetch::partition_id(&self.inner, name, partition)?;
        Ok(partition_info(&self.inner, id))
    }

    /// What is kept of a topic, and how; `None` where there is none, or it is a queue. Quicker
    /// than [`Broker::topic`].
    #[must_use]
    pub fn topic_settings(&self, name: &TopicName) -> Option<TopicSettings> {
        let catalog = self.inner.durable.catalog();
        let topic = catalog
            .topic(name)
            .filter(|topic| !catalog.is_queue(topic.id))?;
        let settings = self
            .inner
            .handle
            .reader()
            .settings(topic.partition_ids().next()?);
        Some(TopicSettings::of(&settings?))
    }

    /// The groups, sorted by name, without those of queues.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupInfo> {
        let state = self.inner.durable.state();
        let queue = |id| state.group(id).map(|group| group.kind) == Some(GroupKind::Queue);
        let names = state.group_names().filter(|(_, id)| !queue(*id));
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        drop(state);
        names.iter().filter_map(|name| self.group(name)).collect()
    }

    /// One group.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<GroupInfo> {
        let inner = &self.inner;
        let state = inner.durable.state();
        let kept = state
            .group_id(name)
            .and_then(|id| state.group(id))
            .cloned()?;
        drop(state);
        let live = inner.groups().get(name).cloned();
        let mut info = GroupInfo {
            name: name.clone(),
            kind: kept.kind,
            topics: Vec::new(),
            order: None,
            generation: Default::default(),
            members: Vec::new(),
            slots: 0,
            partitions: kept_partitions(inner, &kept),
        };
        if let Some(group) = live {
            let overview = group.overview();
            info.order = Some(order_name(overview.order));
            info.generation = overview.generation;
            info.topics = overview.topics;
            info.members = overview.members;
            info.slots = overview.slots;
            for live in overview.partitions {
                let same = |have: &&mut GroupPartitionInfo| {
                    have.topic == live.topic && have.partition == live.partition
                };
                if let Some(have) = info.partitions.iter_mut().find(same) {
                    have.in_flight = live.in_flight;
                    have.damage = live.damage;
                    // Only what is there to be read can be held back.
                    have.paused = live.paused.filter(|_| live.end < have.end);
                }
            }
        }
        if kept.kind == GroupKind::Share {
            let in_flight = inner.shares.in_flight(inner, name);
            let catalog = inner.durable.catalog();
            for have in &mut info.partitions {
                let topic = catalog.topic(&have.topic);
                let id = topic.map(|topic| (topic.id, have.partition));
                have.in_flight = id.and_then(|id| in_flight.get(&id)).copied().unwrap_or(0);
            }
        }
        if info.topics.is_empty() {
            info.topics = info
                .partitions
                .iter()
                .map(|have| have.topic.clone())
                .collect();
            info.topics.dedup();
        }
        Some(info)
    }

    /// Of what kind a group is: that of the members it has, or had last. `None` where there is no
    /// such group.
    #[must_use]
    pub fn group_kind(&self, name: &GroupName) -> Option<GroupKind> {
        let held = self.inner.classics.kinds.of(name);
        held.or_else(|| self.inner.group_kind(name))
    }

    /// Deletes a group with its positions. Its members are told. Resolves when that is durable.
    ///
    /// # Errors
    /// [`GroupError::Unknown`], and [`GroupError::OfDeadLetters`] where letters would come back.
    pub async fn delete_group(&self, name: &GroupName) -> Result<(), GroupError> {
        if self.is_of_letters(name) {
            return Err(GroupError::OfDeadLetters(name.clone()));
        }
        let group = name.clone();
        match self.inner.submit(Operation::DeleteGroup { group }).await {
            Ok(_) => {}
            Err(CommitError::Refused(Refusal::UnknownGroup)) => {
                return Err(GroupError::Unknown(name.clone()));
            }
            Err(error) => return Err(error.into()),
        }
        let live = self.inner.groups().remove(name);
        if let Some(live) = live {
            live.group_gone();
        }
        self.inner.classics.group_gone(name);
        self.inner.consumers.group_gone(name);
        self.inner.shares.group_gone(&self.inner, name);
        Ok(())
    }

    /// Whether a group says which dead letters of a topic that is there are done with.
    fn is_of_letters(&self, name: &GroupName) -> bool {
        let topic = TopicName::new(name.as_str().to_owned());
        topic.is_ok_and(|topic| is_for_dead_letters(&topic) && self.topic(&topic).is_some())
    }

    /// Deletes a group as [`Broker::delete_group`] does, unless it has members. One that comes
    /// at the same moment may be taken in before, and is told then.
    ///
    /// # Errors
    /// [`GroupError::InUse`] and [`GroupError::Unknown`].
    pub async fn delete_group_without_members(&self, name: &GroupName) -> Result<(), GroupError> {
        let kind = {
            let state = self.inner.durable.state();
            let id = state.group_id(name);
            id.and_then(|id| state.group(id)).map(|group| group.kind)
        };
        if kind == Some(GroupKind::Queue) {
            return Err(GroupError::OfQueue(name.clone()));
        }
        let live = self.inner.groups().get(name).cloned();
        let members = live.map_or(0, |live| live.overview().members.len());
        let members = members + self.inner.kafka_members(name);
        if members > 0 {
            let group = name.clone();
            return Err(GroupError::InUse { group, members });
        }
        self.delete_group(name).await
    }

    /// Sets a group's position in several partitions of a topic, each as [`Broker::seek`] does.
    /// Where one of the offsets is not kept, all stay where they are. Answers the new positions.
    ///
    /// # Errors
    /// Those of [`Broker::seek`].
    pub async fn seek_each(
        &self,
        name: &GroupName,
        topic: &TopicName,
        places: &[(Partition, SeekTo)],
    ) -> Result<Vec<Offset>, GroupError> {
        if self.is_of_letters(name) {
            return Err(GroupError::OfDeadLetters(name.clone()));
        }
        for (partition, to) in places {
            self.is_place(topic, *partition, *to)?;
        }
        let mut positions = Vec::with_capacity(places.len());
        for (partition, to) in places {
            positions.push(self.seek(name, topic, *partition, *to).await?);
        }
        Ok(positions)
    }

    /// Refuses an offset that is not kept and is not the next one.
    fn is_place(
        &self,
        topic: &TopicName,
        partition: Partition,
        to: SeekTo,
    ) -> Result<(), GroupError> {
        let (SeekTo::Offset(offset), Ok(at)) = (to, self.partition(topic, partition)) else {
            return Ok(());
        };
        if (at.earliest..=at.high_watermark).contains(&offset) {
            return Ok(());
        }
        Err(GroupError::OutOfRange(Box::new(OutOfRange {
            topic: topic.clone(),
            partition,
            offset,
            earliest: at.earliest,
            end: at.high_watermark,
        })))
    }

    /// Sets a group's position in a partition, forward or back: everything before it is
    /// settled, nothing else. What its members have of the partition becomes stale. Answers
    /// the new position when it is durable.
    ///
    /// # Errors
    /// [`GroupError::Unknown`], [`GroupError::NotRead`] where it has no position there,
    /// [`GroupError::OutOfRange`] where that offset is not kept and is not the next one,
    /// [`GroupError::OfDeadLetters`] where letters would come back or be passed, and
    /// [`GroupError::InUse`] where it has classic members, which would not know.
    pub async fn seek(
        &self,
        name: &GroupName,
        topic: &TopicName,
        partition: Partition,
        to: SeekTo,
    ) -> Result<Offset, GroupError> {
        let unknown = || GroupError::Unknown(name.clone());
        let not_read = || GroupError::NotRead {
            group: name.clone(),
            topic: topic.clone(),
            partition,
        };
        if self.is_of_letters(name) {
            return Err(GroupError::OfDeadLetters(name.clone()));
        }
        let members = self.inner.kafka_members(name);
        if members > 0 {
            let group = name.clone();
            return Err(GroupError::InUse { group, members });
        }
        let group = self
            .inner
            .durable
            .state()
            .group_id(name)
            .ok_or_else(unknown)?;
        let found = self
            .inner
            .durable
            .catalog()
            .topic(topic)
            .ok_or_else(not_read)?;
        // Before anybody's deliveries are made stale for it.
        self.is_place(topic, partition, to)?;
        let partition = PartitionId {
            topic: found.id,
            partition,
        };
        let live = self.inner.groups().get(name).cloned();
        let seeking = live.as_ref().and_then(|live| live.begin_seek(partition));
        let operation = Operation::Seek {
            group,
            partition,
            to,
        };
        let (inner, of) = (Arc::clone(&self.inner), name.clone());
        let sought = self.inner.submit_then(operation, move |answer| {
            let Ok(Receipt::Sought(cursor)) = answer else {
                return;
            };
            if let Some(seeking) = seeking {
                seeking.done(cursor.clone());
                return;
            }
            // A member may have come meanwhile, to the position before.
            let live = inner.groups().get(&of).cloned();
            if let Some(live) = live.filter(|live| live.id == group) {
                live.follow([(partition, cursor.clone())]);
            }
        });
        match sought.await {
            Ok(Receipt::Sought(cursor)) => Ok(cursor.position()),
            Ok(_) => Err(GroupError::Other("the broker answered otherwise".into())),
            Err(CommitError::Refused(Refusal::UnknownGroup)) => Err(unknown()),
            Err(CommitError::Refused(Refusal::UnknownPartition(_))) => Err(not_read()),
            Err(error) => Err(error.into()),
        }
    }
}

fn partition_info(inner: &Inner, id: PartitionId) -> PartitionInfo {
    let bounds = inner.handle.reader().bounds(id);
    PartitionInfo {
        partition: id.partition,
        earliest: bounds.map_or(Offset(0), |bounds| bounds.earliest),
        end: inner.stable(id).map_or(Offset(0), |stable| stable.end),
        high_watermark: bounds.map_or(Offset(0), |bounds| bounds.end),
        size_bytes: bounds.map_or(0, |bounds| bounds.size_bytes),
    }
}

pub(crate) fn topic_info(inner: &Inner, name: &TopicName, topic: Topic) -> TopicInfo {
    let partitions = topic.partition_ids().map(|id| partition_info(inner, id));
    let first = topic.partition_ids().next();
    let settings = first.and_then(|id| inner.handle.reader().settings(id));
    TopicInfo {
        name: name.clone(),
        id: topic.id,
        settings: TopicSettings::of(&settings.unwrap_or_default()),
        partitions: partitions.collect(),
    }
}

/// A group's durable positions, sorted by topic and partition.
fn kept_partitions(inner: &Inner, kept: &GroupState) -> Vec<GroupPartitionInfo> {
    let catalog = inner.durable.catalog();
    let one = |(id, cursor): (&PartitionId, &Cursor)| {
        let stable = inner.stable(*id);
        let bounds = inner.handle.reader().bounds(*id);
        let end = stable.as_ref().map_or(Offset(0), |stable| stable.end);
        let earliest = stable.map_or(Offset(0), |stable| stable.earliest);
        let from = cursor.position().max(earliest);
        let settled_above = cursor.settled_above();
        // What is not kept any more is no lag, settled or not.
        let kept = |range: Range<Offset>| range.end.0.saturating_sub(range.start.0.max(from.0));
        let settled_kept: u64 = cursor.ranges().map(kept).sum();
        Some(GroupPartitionInfo {
            topic: catalog.name(id.topic)?.clone(),
            partition: id.partition,
            position: cursor.position(),
            settled_above,
            end,
            high_watermark: bounds.map_or(end, |bounds| bounds.end),
            lag: end.0.saturating_sub(from.0).saturating_sub(settled_kept),
            in_flight: 0,
            paused: None,
            damage: None,
        })
    };
    let mut all: Vec<_> = kept.cursors.iter().filter_map(one).collect();
    // What was added to a topic since is the group's as a whole, once somebody joins it.
    let topics: BTreeSet<_> = kept.cursors.keys().map(|id| id.topic).collect();
    let topics = topics
        .iter()
        .filter_map(|id| catalog.topic(catalog.name(*id)?));
    let added = topics.flat_map(Topic::partition_ids);
    let added = added.filter(|id| !kept.cursors.contains_key(id));
    let at = Cursor::at(Offset(0));
    all.extend(added.filter_map(|id| one((&id, &at))));
    all.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    all
}

pub(crate) fn order_name(order: Order) -> &'static str {
    match order {
        Order::PerKey => "per_key",
        Order::PerPartition => "per_partition",
        Order::None => "none",
    }
}
