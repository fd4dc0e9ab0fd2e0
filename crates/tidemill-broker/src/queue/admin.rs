//! Queues for those who run the broker: create, list, show, delete.

use tidemill_core::delivery::{dead_letter_topic, is_for_dead_letters};
use tidemill_core::{GroupName, TopicId, TopicName};
use tidemill_log::{Cleanup, PartitionSettings};
use uuid::Uuid;

use super::QueueError;
use super::info::{CreateQueue, QueueInfo};
use super::live::Live;
use super::peek::disk_info;
use super::settings::QueueSettings;
use crate::broker::Broker;
use crate::limits::QUEUE_SEGMENT_BYTES;
use crate::machine::{Operation, Receipt, Topic};

/// The group that reads a queue has its name.
fn group_of(name: &TopicName) -> Result<GroupName, QueueError> {
    GroupName::new(name.as_str().to_owned()).map_err(|error| QueueError::Limit(error.to_string()))
}

impl Broker {
    /// Makes a queue. Resolves when that is durable, unless it is kept in memory alone.
    ///
    /// # Errors
    /// [`QueueError::Exists`] where a queue or a topic has the name, [`QueueError::GroupExists`]
    /// where a group has it, and [`QueueError::Limit`], also where a queue would have a name as
    /// topics of dead letters have them (it ends with `.deadletter`).
    pub async fn create_queue(
        &self,
        name: TopicName,
        how: CreateQueue,
    ) -> Result<QueueInfo, QueueError> {
        let settings = how.settings.checked()?;
        self.apart_from_dead_letters(&name)?;
        if how.transient {
            self.create_transient(name.clone(), settings)?;
        } else {
            self.create_durable(name.clone(), settings).await?;
        }
        Ok(self.queue(&name)?.info().await)
    }

    /// Dead letters go to a topic, and a queue of its name would keep them out: those of queues,
    /// and of groups that there are or will be. Older versions made queues of such names.
    fn apart_from_dead_letters(&self, name: &TopicName) -> Result<(), QueueError> {
        let letters = dead_letter_topic(&group_of(name)?);
        if self.is_queue(&letters) {
            let why = format!(
                "the dead letters of {name} would go to the topic {letters}, but that is a queue; \
                 delete it first, or use another name"
            );
            return Err(QueueError::Limit(why));
        }
        if is_for_dead_letters(name) {
            let why = format!(
                "a name that ends like {name} is one of topics for the dead letters of groups; use \
                 another name"
            );
            return Err(QueueError::Limit(why));
        }
        Ok(())
    }

    async fn create_durable(
        &self,
        name: TopicName,
        settings: QueueSettings,
    ) -> Result<(), QueueError> {
        if self.inner.queues.in_memory(&name) {
            return Err(QueueError::Exists(name));
        }
        let mut partitions = PartitionSettings::default();
        partitions.cleanup = Cleanup::Settled;
        partitions.segment_bytes = Some(QUEUE_SEGMENT_BYTES);
        let operation = Operation::CreateQueue {
            group: group_of(&name)?,
            name,
            topic: Topic {
                id: TopicId(Uuid::now_v7()),
                partitions: 1,
            },
            partitions,
            settings,
        };
        self.inner.submit(operation).await?;
        Ok(())
    }

    fn create_transient(&self, name: TopicName, settings: QueueSettings) -> Result<(), QueueError> {
        let taken = || self.inner.durable.catalog().topic(&name).is_some();
        if taken() {
            return Err(QueueError::Exists(name));
        }
        let group = group_of(&name)?;
        if self.inner.durable.state().group_id(&group).is_some() {
            return Err(QueueError::GroupExists(group));
        }
        let live = Live::in_memory(name.clone(), group, settings);
        let live = self.inner.queues.insert(live)?;
        if settings.ttl.is_some() {
            live.expires(&self.inner);
        }
        if taken() {
            // A topic was made meanwhile.
            self.inner.queues.remove(&name);
            return Err(QueueError::Exists(name));
        }
        Ok(())
    }

    /// Deletes a queue with all its messages, those in flight included; its dead letters stay.
    /// Whoever waits for it is told. Resolves when that is durable.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], and [`QueueError::IsTopic`] where it is none.
    pub async fn delete_queue(&self, name: &TopicName) -> Result<(), QueueError> {
        if self.inner.queues.in_memory(name) {
            self.inner.queues.remove(name);
            return Ok(());
        }
        let catalog = self.inner.durable.catalog();
        let topic = catalog.topic(name);
        if topic.is_some_and(|topic| !catalog.is_queue(topic.id)) {
            return Err(QueueError::IsTopic(name.clone()));
        }
        let operation = Operation::DeleteQueue { name: name.clone() };
        if let Receipt::Topic(topic) = self.inner.submit(operation).await? {
            let group = self.inner.groups().remove(&group_of(name)?);
            if let Some(group) = group {
                group.group_gone();
            }
            self.inner.listening.forget(|id, _| id.topic != topic.id);
            self.inner.queues.remove(name);
        }
        Ok(())
    }

    /// The names of the queues, sorted.
    #[must_use]
    pub fn queue_names(&self) -> Vec<TopicName> {
        let catalog = self.inner.durable.catalog();
        let queues = catalog.iter().filter(|(_, of)| catalog.is_queue(of.id));
        let mut names: Vec<TopicName> = queues.map(|(name, _)| name.clone()).collect();
        names.extend(self.inner.queues.transient_names());
        names.sort_unstable();
        names
    }

    /// A queue as it is now.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], and [`QueueError::IsTopic`] where it is none.
    pub async fn queue_info(&self, name: &TopicName) -> Result<QueueInfo, QueueError> {
        let catalog = self.inner.durable.catalog();
        match catalog.topic(name) {
            Some(topic) if catalog.is_queue(topic.id) => {
                Ok(disk_info(&self.inner, name, topic).await)
            }
            _ => Ok(self.queue(name)?.info().await),
        }
    }

    /// The queues, sorted by name.
    pub async fn queues(&self) -> Vec<QueueInfo> {
        let mut all = Vec::new();
        for name in self.queue_names() {
            // One that is deleted meanwhile is left out.
            all.extend(self.queue_info(&name).await);
        }
        all
    }

    /// Whether a queue has this name.
    #[must_use]
    pub fn is_queue(&self, name: &TopicName) -> bool {
        self.inner.is_queue(&self.inner.durable.catalog(), name)
    }
}
