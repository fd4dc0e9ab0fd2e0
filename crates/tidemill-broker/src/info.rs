//! What the broker tells about itself: topics, groups, health.

use serde::Serialize;
use tidemill_core::{Generation, GroupName, Offset, Partition, TopicId, TopicName};

use crate::machine::GroupKind;
use crate::topic_settings::TopicSettings;

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// Its identity: a topic made again under the name has another.
    pub id: TopicId,
    /// What is kept of it, and how.
    #[serde(flatten)]
    pub settings: TopicSettings,
    /// Its partitions, ascending.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition and what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Which one.
    pub partition: Partition,
    /// The first offset kept.
    pub earliest: Offset,
    /// Where what readers get ends: the high watermark, or the first offset of the oldest
    /// transaction that is open.
    pub end: Offset,
    /// The offset that the next durable record gets.
    pub high_watermark: Offset,
    /// Bytes of its record batches.
    pub size_bytes: u64,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GroupInfo {
    /// Its name.
    pub name: GroupName,
    /// What sort of members it has.
    pub kind: GroupKind,
    /// The topics that its members read; for a group without members those that it has
    /// positions in.
    pub topics: Vec<TopicName>,
    /// The order that its members keep (`per_key`, `per_partition`, `none`); `None` while it
    /// has had no member since the broker was opened.
    pub order: Option<&'static str>,
    /// Rises when members come and go. Never the same again, also after a restart.
    pub generation: Generation,
    /// Its members, in the order in which they came.
    pub members: Vec<MemberInfo>,
    /// How many key slots each topic's work is shared in; 0 where it is not shared by key.
    pub slots: u32,
    /// Its positions.
    pub partitions: Vec<GroupPartitionInfo>,
}

impl GroupInfo {
    /// How many durable events are not settled, over all partitions.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lag).sum()
    }

    /// Why partitions are not read on although there is something to read.
    pub fn paused(&self) -> impl Iterator<Item = &str> {
        self.partitions.iter().filter_map(|p| p.paused.as_deref())
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its number in the group; never used again while the broker is open.
    pub id: u64,
    /// How many slots are its, over all its topics.
    pub slots: u32,
    /// How many events it has and has not settled.
    pub in_flight: usize,
    /// The topics that it reads.
    pub topics: Vec<TopicName>,
}

/// A group's position in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct GroupPartitionInfo {
    /// The topic.
    pub topic: TopicName,
    /// Its part.
    pub partition: Partition,
    /// Everything before this offset is settled.
    pub position: Offset,
    /// How many offsets above the position are settled.
    pub settled_above: u64,
    /// Where what readers get ends, as in [`PartitionInfo::end`]. The position is behind it where
    /// the group was told so, or read what is not decided: never behind the high watermark.
    pub end: Offset,
    /// The offset that the next durable record gets.
    pub high_watermark: Offset,
    /// How many offsets below the end are not settled.
    pub lag: u64,
    /// How many events members have and have not settled.
    pub in_flight: usize,
    /// Why it is not read on although there is something to read.
    pub paused: Option<String>,
    /// What was passed because it could not be read, or what cannot be read now; the newest.
    pub damage: Option<String>,
}

/// Whether the broker takes writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", content = "why", rename_all = "snake_case")]
pub enum Health {
    /// Reads and writes.
    Ready,
    /// There is no space: it reads and settles, refuses new events, and goes on by itself when
    /// there is space.
    Full(String),
    /// Reads only, for this reason; a restart is needed.
    ReadOnly(String),
    /// Neither: it was closed.
    Closed,
}
