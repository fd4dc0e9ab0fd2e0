//! Segments: what a partition's records are kept in for good. Record batches one after the
//! other, as Kafka has them, and beside each file a sidecar with a line for every batch.
//!
//! This room may not know the journal, or what a record says.

pub(crate) mod compact;
pub(crate) mod merge;
pub(crate) mod read;
pub(crate) mod search;
pub(crate) mod sidecar;

use std::sync::Arc;

use tidemill_core::Offset;

use crate::machine::PartitionId;

/// The folder of all topics.
pub(crate) const TOPICS_DIR: &str = "topics";

/// The folder of a topic.
pub(crate) fn topic_dir(id: PartitionId) -> Arc<str> {
    format!("{TOPICS_DIR}/{}", id.topic).into()
}

/// The folder of a partition.
pub(crate) fn partition_dir(id: PartitionId) -> Arc<str> {
    format!("{TOPICS_DIR}/{}/{}", id.topic, id.partition).into()
}

/// A segment as its writer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The offset of its first record, or of the first that was there before a compaction.
    pub(crate) base: Offset,
    /// How often these offsets were written anew by a compaction; part of the files' names.
    pub(crate) generation: u32,
    pub(crate) times: Times,
    /// What was written.
    pub(crate) written: Extent,
    /// What was synced; a snapshot names this.
    pub(crate) synced: Extent,
    /// Whether its files were made.
    pub(crate) exists: bool,
    pub(crate) log_path: Arc<str>,
    pub(crate) sum_path: Arc<str>,
}

/// When things happened to a segment, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// When it was first written to.
    pub(crate) begun_ms: i64,
    /// When it was last written to.
    pub(crate) appended_ms: i64,
    /// When it was written by a compaction; -1 where it was not.
    pub(crate) compacted_ms: i64,
}

impl Times {
    /// Of a segment that was not written to yet.
    pub(crate) const NEVER: Self = Self {
        begun_ms: -1,
        appended_ms: -1,
        compacted_ms: -1,
    };
}

/// How far a segment reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The offset after the last record.
    pub(crate) end: Offset,
    /// Bytes of batches.
    pub(crate) bytes: u64,
    /// Lines of the sidecar.
    pub(crate) lines: u32,
    /// The largest timestamp of its records in milliseconds since 1970; -1 where there are
    /// none.
    pub(crate) largest_ms: i64,
}

impl Extent {
    /// Of a segment that begins here.
    pub(crate) fn empty(base: Offset) -> Self {
        Self {
            end: base,
            bytes: 0,
            lines: 0,
            largest_ms: -1,
        }
    }
}

impl Segment {
    /// A segment without files.
    pub(crate) fn new(id: PartitionId, base: Offset) -> Self {
        Self {
            exists: false,
            ..Self::kept(
                id,
                &Kept {
                    base,
                    generation: 0,
                    times: Times::NEVER,
                    at: Extent::empty(base),
                },
            )
        }
    }

    /// A segment that a snapshot, or a journaled swap, names.
    pub(crate) fn kept(id: PartitionId, kept: &Kept) -> Self {
        let [log_path, sum_path] = paths(id, kept.base, kept.generation);
        Self {
            base: kept.base,
            generation: kept.generation,
            times: kept.times,
            written: kept.at,
            synced: kept.at,
            exists: true,
            log_path,
            sum_path,
        }
    }

    /// How a snapshot has it: what is synced of it.
    pub(crate) fn as_kept(&self) -> Kept {
        Kept {
            base: self.base,
            generation: self.generation,
            times: self.times,
            at: self.synced,
        }
    }

    /// What readers need of it.
    pub(crate) fn view(&self) -> SegmentView {
        SegmentView {
            base: self.base,
            generation: self.generation,
            written: self.written,
            log_path: self.log_path.clone(),
            sum_path: self.sum_path.clone(),
        }
    }
}

/// The files of a segment: the log and its sidecar.
pub(crate) fn paths(id: PartitionId, base: Offset, generation: u32) -> [Arc<str>; 2] {
    let dir = partition_dir(id);
    let name = match generation {
        0 => format!("{dir}/{:020}", base.0),
        _ => format!("{dir}/{:020}-{generation}", base.0),
    };
    [format!("{name}.log").into(), format!("{name}.sum").into()]
}

/// Whether a file of a partition's folder has the name of one that a compaction writes.
pub(crate) fn is_rewritten(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let stem = name.strip_suffix(".log").or(name.strip_suffix(".sum"));
    let parts = stem.and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(base, generation)| base.len() == 20 && digits(base) && digits(generation))
}

/// A segment as snapshots and the journal name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) base: Offset,
    pub(crate) generation: u32,
    pub(crate) times: Times,
    /// What is synced of it.
    pub(crate) at: Extent,
}

/// A segment as readers know it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentView {
    pub(crate) base: Offset,
    pub(crate) generation: u32,
    pub(crate) written: Extent,
    pub(crate) log_path: Arc<str>,
    pub(crate) sum_path: Arc<str>,
}
