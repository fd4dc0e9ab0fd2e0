//! The names of topics and groups, as effects tell them. Those that were deleted keep theirs.

use std::collections::HashMap;

use tidemill_core::{GroupName, TopicId, TopicName};
use tidemill_log::Effect;
use tidemill_log::inspect::Meaning;

use crate::machine::{Change, GroupId, take_change};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    topics: HashMap<TopicId, TopicName>,
    groups: HashMap<GroupId, GroupName>,
}

impl Names {
    pub(super) fn topic(&self, id: TopicId) -> Option<&TopicName> {
        self.topics.get(&id)
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&GroupName> {
        self.groups.get(&id)
    }

    fn learn(&mut self, change: Change) {
        match change {
            Change::TopicCreated { id, name, .. } => {
                self.topics.insert(id, name);
            }
            Change::GroupCreated { id, name, .. } => {
                self.groups.insert(id, name);
            }
            _ => {}
        }
    }
}

impl Meaning for Names {
    fn effect(&mut self, effect: Effect<'_>) -> Result<(), String> {
        self.learn(Change::decode(effect.kind, effect.bytes)?);
        Ok(())
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (change, after) = take_change(rest)?;
            self.learn(change);
            rest = after;
        }
        Ok(())
    }
}
