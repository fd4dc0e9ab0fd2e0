//! The topics that are durable, as publishes and reads look them up: a copy that never changes,
//! replaced as a whole. It may not know groups.

use std::collections::{BTreeMap, HashMap};

use tidemill_core::{TopicId, TopicName};

use crate::machine::{State, Topic};

/// Topics by name and by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    topics: BTreeMap<TopicName, Topic>,
    names: HashMap<TopicId, TopicName>,
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
        }
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<Topic> {
        self.topics.get(name).copied()
    }

    pub(crate) fn name(&self, id: TopicId) -> Option<&TopicName> {
        self.names.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicName, Topic)> {
        self.topics.iter().map(|(name, topic)| (name, *topic))
    }
}
