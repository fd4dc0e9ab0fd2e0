//! The decisions about topics that change: other settings, more partitions, and what still comes
//! for the partitions that a topic had before.

use tidemill_core::cursor::Cursor;
use tidemill_core::{Offset, TopicName};
use tidemill_log::PartitionId;

use super::effect::Change;
use super::operation::{Append, Receipt, Refusal};
use super::seal::Decision;
use super::state::{GroupId, Topic};
use crate::limits::{PARTITIONS_MAX, TOPIC_PARTITIONS_MAX};
use crate::producer::{Entry, Header, Verdict, What};
use crate::topic_settings::AlterTopic;

impl Decision<'_, '_> {
    pub(super) fn alter_topic(
        &mut self,
        name: TopicName,
        change: AlterTopic,
    ) -> Result<Receipt, Refusal> {
        let topic = self.topic(&name);
        let mut topic = topic.ok_or_else(|| Refusal::UnknownTopic(name.clone()))?;
        self.is_for(topic, name.clone())?;
        // All partitions of a topic have the same ones.
        let first = topic.partition_ids().next();
        let settings = first.map(|first| self.draft.settings(first));
        let settings = change.over(settings.unwrap_or_default());
        let settings = settings.map_err(Refusal::Settings)?;
        let have = topic.partitions;
        let asked = change.partitions.unwrap_or(have);
        if asked < have {
            return Err(Refusal::FewerPartitions { asked, have });
        }
        if asked > have {
            self.check_room_for(asked, have)?;
            topic.partitions = asked;
            self.changes.push(Change::TopicCreated {
                id: topic.id,
                partitions: asked,
                name,
            });
        }
        for id in topic.partition_ids() {
            // Where it is there already, only the settings that it did not have are journaled.
            self.draft.create_partition(id);
            self.draft.configure(id, settings);
        }
        Ok(Receipt::Topic(topic))
    }

    fn check_room_for(&self, asked: u32, have: u32) -> Result<(), Refusal> {
        if asked > TOPIC_PARTITIONS_MAX {
            let max = TOPIC_PARTITIONS_MAX;
            return Err(Refusal::Partitions { asked, max });
        }
        let more = asked.saturating_sub(have) as usize;
        if self.state.partition_count() + more > PARTITIONS_MAX {
            let (what, max) = ("partitions", PARTITIONS_MAX);
            return Err(Refusal::TooMany { what, max });
        }
        Ok(())
    }

    /// Whether all of this is sent again, and was kept when the topic had fewer partitions: it
    /// has its place already.
    pub(super) fn was_kept(&self, topic: Topic, append: &Append) -> bool {
        if append.route.partitions > topic.partitions || append.batches.is_empty() {
            return false;
        }
        append.batches.iter().all(|(partition, batch)| {
            let id = PartitionId {
                topic: topic.id,
                partition: *partition,
            };
            let Some(Header {
                producer,
                what: What::Records(offered),
            }) = Header::of(batch)
            else {
                return false;
            };
            let have = self.state.producers.get(id, producer);
            matches!(Entry::check(have, offered), Ok(Verdict::Duplicate(_)))
        })
    }

    /// A group's position, also where the topic has got this partition since the group joined:
    /// then everything in it is new.
    pub(super) fn cursor_or_added(
        &self,
        group: GroupId,
        id: PartitionId,
    ) -> Result<Cursor, Refusal> {
        let found = self.cursor(group, id);
        let reads = |group| {
            self.state
                .group(group)
                .is_some_and(|group| group.reads(id.topic))
        };
        match found {
            Err(Refusal::UnknownPartition(_)) if reads(group) && self.draft.end(id).is_some() => {
                Ok(Cursor::at(Offset(0)))
            }
            found => found.cloned(),
        }
    }
}
