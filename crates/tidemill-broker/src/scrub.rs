//! How the scrubbing goes, with the names that the broker knows: closed segments are read again
//! in the background, and what is damaged in them is named before somebody needs it.

use serde::Serialize;
use tidemill_core::{Offset, Partition, TopicName};
use tidemill_log::PartitionId;
use tidemill_log::scrub::{Damage, ScrubReport};

use crate::broker::Broker;
use crate::catalog::Catalog;

/// How the scrubbing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ScrubInfo {
    /// Bytes of closed segments that were read again and checked since the broker was opened.
    pub bytes: u64,
    /// Passes over all closed segments.
    pub passes: u64,
    /// When the pass began that has verified the partition which waits the longest, in
    /// milliseconds since 1970; `None` while one was never gone through, or there is none.
    pub oldest_pass_ms: Option<i64>,
    /// Damaged places that are known; more than are listed where there are very many.
    pub damaged: u64,
    /// How far each partition with closed segments is verified.
    pub verified: Vec<VerifiedInfo>,
    /// The damaged places.
    pub damage: Vec<DamageInfo>,
}

/// How far a partition is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifiedInfo {
    /// The topic; one that is being deleted has no name.
    pub topic: Option<TopicName>,
    /// Its part.
    pub partition: Partition,
    /// Everything before this offset was read by the pass that goes on, or by the last one.
    pub through: Offset,
    /// When the last pass began that has gone through all of it, in milliseconds since 1970.
    pub passed_ms: Option<i64>,
}

/// Bytes of a closed segment that are not those that were written. Reads of these offsets name
/// it too; everything else is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DamageInfo {
    /// The topic; one that is being deleted has no name.
    pub topic: Option<TopicName>,
    /// Its part.
    pub partition: Partition,
    /// The file, relative to the data folder.
    pub file: String,
    /// Where in the file, in bytes.
    pub byte: u64,
    /// The first offset that cannot be read.
    pub from: Offset,
    /// The first one behind it that can.
    pub until: Offset,
    /// What the check said.
    pub why: String,
}

impl Broker {
    /// How the scrubbing goes; `None` where it is off, see
    /// [`Builder::scrub_bytes_per_second`](crate::Builder::scrub_bytes_per_second).
    #[must_use]
    pub fn scrub(&self) -> Option<ScrubInfo> {
        let report = self.inner.handle.scrub()?;
        Some(told(report, &self.inner.durable.catalog()))
    }
}

fn told(report: ScrubReport, catalog: &Catalog) -> ScrubInfo {
    let name = |id: PartitionId| catalog.name(id.topic).cloned();
    let verified = report.verified.iter().map(|(id, verified)| VerifiedInfo {
        topic: name(*id),
        partition: id.partition,
        through: verified.through,
        passed_ms: verified.passed_at.map(|at| at.as_millisecond()),
    });
    let damage = report.damage.into_iter().map(|damage: Damage| DamageInfo {
        topic: name(damage.id),
        partition: damage.id.partition,
        file: damage.file,
        byte: damage.byte,
        from: damage.offsets.start,
        until: damage.offsets.end,
        why: damage.why,
    });
    ScrubInfo {
        bytes: report.bytes,
        passes: report.passes,
        oldest_pass_ms: report.oldest_pass.map(|at| at.as_millisecond()),
        damaged: report.damaged,
        verified: verified.collect(),
        damage: damage.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use tidemill_core::TopicId;
    use tidemill_log::scrub::Verified;
    use uuid::Uuid;

    use crate::machine::{State, Topic};

    #[test]
    fn damage_and_positions_have_their_topics_names() {
        let topic = TopicName::new("orders").unwrap();
        let id = TopicId(Uuid::from_u128(7));
        let mut state = State::default();
        state
            .topics
            .insert(topic.clone(), Topic { id, partitions: 1 });
        let partition = |topic| PartitionId {
            topic,
            partition: Partition(0),
        };
        let other = partition(TopicId(Uuid::from_u128(8)));
        let damage = |id| Damage {
            id,
            file: "a.log".to_owned(),
            byte: 9,
            offsets: Offset(3)..Offset(5),
            why: "torn".to_owned(),
        };
        let verified = Verified {
            through: Offset(12),
            passed_at: Some(Timestamp::from_millisecond(77).unwrap()),
        };
        let report = ScrubReport {
            oldest_pass: verified.passed_at,
            verified: [(partition(id), verified)].into(),
            damaged: 2,
            damage: vec![damage(partition(id)), damage(other)],
            ..ScrubReport::default()
        };
        let info = told(report, &Catalog::of(&state));
        assert_eq!(info.verified[0].topic, Some(topic.clone()));
        assert_eq!(info.verified[0].passed_ms, Some(77));
        let names: Vec<_> = info.damage.iter().map(|damage| &damage.topic).collect();
        assert_eq!(names, [&Some(topic), &None]);
        assert_eq!(
            (info.damage[0].from, info.damage[0].until),
            (Offset(3), Offset(5))
        );
    }
}
