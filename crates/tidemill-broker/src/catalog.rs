//! The topics that are durable, as publishes and reads look them up: a copy that never changes,
//! replaced as a whole. It may not know groups.

use std::collections::{BTreeMap, HashMap, HashSet};

use tidemill_core::{TopicId, TopicName};

use crate::machine::{State, Topic};

/// Topics by name and by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    topics: BTreeMap<TopicName, Topic>,
    names: HashMap<TopicId, TopicName>,
    queues: HashSet<TopicId>,
}

impl Catalog {
    pub(crate) fn of(state: &State) -> Self {
        let names = state
            .topics
            .iter()
            .map(|(name, topic)| (topic.id, name.clone()));
        Self {
            names: names.collect(),
            topics: state.topics.clone(),
            queues: state.queues.keys().copied().collect(),
        }
    }

    /// Just these topics.
    #[cfg(test)]
    pub(crate) fn with(topics: &[(TopicName, Topic)]) -> Self {
        let topics = || topics.iter().cloned();
        Self {
            names: topics().map(|(name, topic)| (topic.id, name)).collect(),
            topics: topics().collect(),
            queues: HashSet::new(),
        }
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<Topic> {
        self.topics.get(name).copied()
    }

    /// Whether a topic is a queue.
    pub(crate) fn is_queue(&self, id: TopicId) -> bool {
        !self.queues.is_empty() && self.queues.contains(&id)
    }

    pub(crate) fn name(&self, id: TopicId) -> Option<&TopicName> {
        self.names.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicName, Topic)> {
        self.topics.iter().map(|(name, topic)| (name, *topic))
    }
}
