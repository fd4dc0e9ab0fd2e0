//! Repairs a data folder that nobody has open: what would be done, and doing it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::{Offset, Partition, TopicId, TopicName};
use tidemill_log::driver::FileDisk;
use tidemill_log::inspect::{Meaning, Progress};
use tidemill_log::repair as log;
pub use tidemill_log::repair::RepairError;
use tidemill_log::{Disk, Effect, PartitionId};
use uuid::Uuid;

use super::names::Names;
use super::{Span, lock};
use crate::machine::{Change, take_change};

/// What a repair does, or has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Repair {
    /// There is nothing to repair.
    pub clean: bool,
    /// It was carried out; else nothing was changed.
    pub done: bool,
    /// A superblock is unreadable, so both are written again.
    pub superblocks: bool,
    /// The journal has damage, and ends before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalEnd>,
    /// Segments that are written anew.
    pub segments: Vec<MendedSegment>,
    /// Events that are lost.
    pub lost: Vec<LostEvents>,
    /// Where the files are that were replaced, relative to the folder.
    pub aside: Vec<String>,
}

/// Where the journal ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JournalEnd {
    /// The file with the first unreadable commit.
    pub file: String,
    /// Where in it, in bytes.
    pub byte: u64,
    /// The entries that are lost, with what they settled and created.
    pub entries: Span,
}

/// A segment that is written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MendedSegment {
    /// Its file.
    pub file: String,
    /// Whether it loses events; else its sidecar alone is made again.
    pub loses: bool,
}

/// Events that are lost. Their offsets stay empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostEvents {
    /// The topic, where its name is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// Its part.
    pub partition: Partition,
    /// The offsets.
    pub offsets: Span,
    /// The file that held them.
    pub file: String,
}

/// Says what a repair of the data in a folder would do, and changes nothing. Blocks: not for an
/// async worker.
///
/// # Errors
/// [`RepairError`], where it is in use, there is no log, or none that can be repaired.
pub fn plan_repair(
    folder: &Path,
    mut watch: impl FnMut(Progress<'_>),
) -> Result<Repair, RepairError> {
    let disk = FileDisk::read_only(folder);
    let _lock = lock(&disk)?;
    let mut mender = Mender::default();
    let plan = log::plan(&disk, &mut mender, &mut watch);
    disk.permitted()?;
    Ok(told(&plan?, &mender.names))
}

/// Repairs the data in a folder. Files that are replaced are moved to `aside/` in it, never
/// deleted. Blocks: not for an async worker.
///
/// # Errors
/// As [`plan_repair`], and what the disk says.
pub fn repair(folder: &Path, mut watch: impl FnMut(Progress<'_>)) -> Result<Repair, RepairError> {
    let files = FileDisk::new(folder);
    let _lock = lock(&files)?;
    let mut mender = Mender::default();
    let plan = log::plan(&files, &mut mender, &mut watch);
    // What it may not read would look as damaged as what it is there for.
    files.permitted()?;
    let plan = plan?;
    let disk: Arc<dyn Disk> = Arc::new(files);
    let told = told(&plan, &mender.names);
    if plan.is_empty() {
        return Ok(told);
    }
    let aside = log::apply(&disk, &plan, Uuid::now_v7())?;
    Ok(Repair {
        done: true,
        aside,
        ..told
    })
}

fn told(plan: &log::Plan, names: &Names) -> Repair {
    let segments = plan.segments.iter().map(|segment| MendedSegment {
        file: segment.file.clone(),
        loses: segment.loses,
    });
    let lost = plan.lost.iter().map(|lost| LostEvents {
        topic: names.topic(lost.id.topic).cloned(),
        topic_id: lost.id.topic,
        partition: lost.id.partition,
        offsets: Span {
            from: lost.offsets.start.0,
            until: lost.offsets.end.0,
        },
        file: lost.file.clone(),
    });
    Repair {
        clean: plan.is_empty(),
        done: false,
        superblocks: plan.superblocks,
        journal: plan.journal.as_ref().map(|journal| JournalEnd {
            file: journal.file.clone(),
            byte: journal.byte,
            entries: Span {
                from: journal.entries.start.0,
                until: journal.entries.end.0,
            },
        }),
        segments: segments.collect(),
        lost: lost.collect(),
        aside: Vec::new(),
    }
}

/// What the effects name, and how far groups have ever settled.
#[derive(Default)]
struct Mender {
    names: Names,
    reach: BTreeMap<PartitionId, Offset>,
}

impl Mender {
    fn learn(&mut self, change: Change) {
        let (partition, reached) = match change {
            Change::CursorSet {
                partition, cursor, ..
            } => {
                let above = cursor.ranges().map(|range| range.end).max();
                (partition, cursor.position().max(above.unwrap_or_default()))
            }
            Change::Settled {
                partition, range, ..
            } => (partition, range.end),
            _ => return,
        };
        let furthest = self.reach.entry(partition).or_default();
        *furthest = reached.max(*furthest);
    }
}

impl Meaning for Mender {
    fn effect(&mut self, effect: Effect<'_>) -> Result<(), String> {
        self.names.effect(effect)?;
        self.learn(Change::decode(effect.kind, effect.bytes)?);
        Ok(())
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.names.chunk(chunk)?;
        let mut rest = chunk;
        while !rest.is_empty() {
            let (change, after) = take_change(rest)?;
            self.learn(change);
            rest = after;
        }
        Ok(())
    }
}

impl log::Mend for Mender {
    fn reach(&self) -> Vec<(PartitionId, Offset)> {
        self.reach.iter().map(|(id, end)| (*id, *end)).collect()
    }
}
