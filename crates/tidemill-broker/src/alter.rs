//! Topics that change while they are used: other settings, more partitions, and how everybody who
//! reads the topic comes to read those.

use std::sync::Arc;

use tidemill_core::error::Unavailable;
use tidemill_core::{TopicId, TopicName};
use tidemill_log::CommitError;

use crate::admin::topic_info;
use crate::broker::{Broker, Inner};
use crate::error::TopicError;
use crate::group::Group;
use crate::info::TopicInfo;
use crate::limits::WIDEN_AGAIN_AFTER;
use crate::machine::{Operation, Receipt};
use crate::topic_settings::AlterTopic;

impl Broker {
    /// How many partitions a topic has; `None` where there is no such topic. Quicker than
    /// [`Broker::topic`].
    #[must_use]
    pub fn partition_count(&self, name: &TopicName) -> Option<u32> {
        let topic = self.inner.durable.catalog().topic(name);
        topic.map(|topic| topic.partitions)
    }

    /// Changes what a topic was made with; what the change does not name stays. Resolves when that
    /// is durable, with the topic as it is then. From then on nothing is deleted or compacted by
    /// the settings that were before.
    ///
    /// Partitions that are added begin empty, with the settings of the others. Groups that read
    /// the topic, also those without members now, read them from their beginning. **Keys move:**
    /// a key's partition is `murmur2(key) mod n`, so with another count the next events of a key
    /// may go elsewhere than the ones before. A group that keeps the order of keys keeps it within
    /// each partition; between the last events of a key in the old one and the first ones in the
    /// new one it keeps none.
    ///
    /// # Errors
    /// [`TopicError::Unknown`], [`TopicError::IsQueue`], and [`TopicError::Limit`] where there
    /// would be fewer partitions or too many, or the settings are none.
    pub async fn alter_topic(
        &self,
        name: &TopicName,
        change: AlterTopic,
    ) -> Result<TopicInfo, TopicError> {
        let inner = &self.inner;
        if inner.queues.in_memory(name) {
            return Err(TopicError::IsQueue(name.clone()));
        }
        let operation = Operation::AlterTopic {
            name: name.clone(),
            change,
        };
        let shared = Arc::clone(inner);
        // Also where nobody waits for the answer any longer.
        let altered = inner.submit_then(operation, move |answer| {
            if let Ok(Receipt::Topic(topic)) = answer {
                let groups: Vec<_> = shared.groups().values().cloned().collect();
                for group in groups {
                    group.topic_changed(topic.id);
                }
                // Long polls answer: who reads by offsets looks at the partitions again.
                shared.listening.wake_topic(topic.id);
            }
        });
        match altered.await? {
            Receipt::Topic(topic) => Ok(topic_info(inner, name, topic)),
            _ => Err(TopicError::Unknown(name.clone())),
        }
    }
}

/// Has a group read the partitions that one of its topics has got; again where the log takes
/// nothing at the moment.
pub(crate) fn widen(inner: &Arc<Inner>, group: &Arc<Group>, name: TopicName, id: TopicId) {
    let (inner, group) = (Arc::clone(inner), Arc::clone(group));
    tokio::spawn(async move {
        loop {
            let catalog = inner.durable.catalog();
            // Another one of this name has a position where who joins says.
            let Some(topic) = catalog.topic(&name).filter(|topic| topic.id == id) else {
                return;
            };
            drop(catalog);
            let operation = Operation::Widen {
                group: group.id,
                topic: (name.clone(), id),
                partitions_max: topic.partitions,
            };
            match inner.submit(operation).await {
                Ok(Receipt::Joined { topics, .. }) => return group.grow(&inner, topics),
                Err(CommitError::Unavailable(Unavailable::Overloaded | Unavailable::Full(_))) => {
                    tokio::time::sleep(WIDEN_AGAIN_AFTER).await;
                }
                Ok(_) => return,
                // Told when the group or the topic is deleted, too; nothing is lost by it.
                Err(why) => {
                    tracing::warn!(
                        group = %group.name, topic = %name, %why,
                        "the group does not read the partitions that were added; it will when \
                         somebody joins it"
                    );
                    return;
                }
            }
        }
    });
}
