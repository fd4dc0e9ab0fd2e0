//! The decisions about queues: made and deleted with their group, and who may do what with a topic
//! that is one.

use tidemill_core::cursor::Cursor;
use tidemill_core::{GroupName, Offset, TopicName};
use tidemill_log::PartitionSettings;

use super::effect::Change;
use super::operation::{Receipt, Refusal};
use super::seal::Decision;
use super::state::{GroupId, GroupKind, Topic};
use crate::queue::QueueSettings;

impl Decision<'_, '_> {
    /// Whether a topic is of the sort that the operation is for.
    pub(super) fn is_for(&self, topic: Topic, name: TopicName) -> Result<(), Refusal> {
        match (self.state.is_queue(topic.id), self.enqueues) {
            (true, false) => Err(Refusal::IsQueue(name)),
            (false, true) => Err(Refusal::UnknownQueue(name)),
            _ => Ok(()),
        }
    }

    /// The group, unless it is a queue's.
    pub(super) fn of_no_queue(&self, id: GroupId) -> Result<GroupId, Refusal> {
        match self.state.group(id) {
            Some(group) if group.kind == GroupKind::Queue => {
                Err(Refusal::GroupOfQueue(group.name.clone()))
            }
            _ => Ok(id),
        }
    }

    pub(super) fn create_queue(
        &mut self,
        name: TopicName,
        group: GroupName,
        topic: Topic,
        partitions: PartitionSettings,
        settings: QueueSettings,
    ) -> Result<Receipt, Refusal> {
        if self.topic(&name).is_some() {
            return Err(Refusal::TopicExists(name));
        }
        if self.state.group_id(&group).is_some() {
            return Err(Refusal::GroupExists(group));
        }
        let topic = self.create_topic(name, topic)?;
        let group = self.create_group(group, GroupKind::Queue)?;
        for partition in topic.partition_ids() {
            self.draft.configure(partition, partitions);
            self.changes.push(Change::CursorSet {
                group,
                partition,
                cursor: Cursor::at(Offset(0)),
            });
        }
        self.changes.push(Change::QueueSet {
            id: topic.id,
            group,
            settings,
        });
        Ok(Receipt::Topic(topic))
    }

    pub(super) fn delete_queue(&mut self, name: TopicName) -> Result<Receipt, Refusal> {
        let topic = self.topic(&name);
        let queue = topic.and_then(|topic| Some((topic, self.state.queues.get(&topic.id)?)));
        let Some((topic, queue)) = queue else {
            return Err(Refusal::UnknownQueue(name));
        };
        let group = queue.group;
        self.changes.push(Change::GroupDeleted { id: group });
        self.delete_partitions(topic);
        Ok(Receipt::Topic(topic))
    }
}
