//! Segments: what a partition's records are kept in for good. Record batches one after the
//! other, as Kafka has them, and beside each file a sidecar with a line for every batch.
//!
//! This room may not know the journal, or what a record says.

pub(crate) mod merge;
pub(crate) mod read;
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
    /// The offset of its first record.
    pub(crate) base: Offset,
    /// What was written.
    pub(crate) written: Extent,
    /// What was synced; a snapshot names this.
    pub(crate) synced: Extent,
    /// Whether its files were made.
    pub(crate) exists: bool,
    pub(crate) log_path: Arc<str>,
    pub(crate) sum_path: Arc<str>,
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
}

impl Segment {
    /// A segment without files.
    pub(crate) fn new(id: PartitionId, base: Offset) -> Self {
        let empty = Extent {
            end: base,
            bytes: 0,
            lines: 0,
        };
        Self::with_extent(id, base, empty, false)
    }

    /// A segment that a snapshot names.
    pub(crate) fn with_extent(id: PartitionId, base: Offset, at: Extent, exists: bool) -> Self {
        let dir = partition_dir(id);
        Self {
            base,
            written: at,
            synced: at,
            exists,
            log_path: format!("{dir}/{:020}.log", base.0).into(),
            sum_path: format!("{dir}/{:020}.sum", base.0).into(),
        }
    }

    /// What readers need of it.
    pub(crate) fn view(&self) -> SegmentView {
        SegmentView {
            base: self.base,
            written: self.written,
            log_path: self.log_path.clone(),
            sum_path: self.sum_path.clone(),
        }
    }
}

/// A segment as readers know it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentView {
    pub(crate) base: Offset,
    pub(crate) written: Extent,
    pub(crate) log_path: Arc<str>,
    pub(crate) sum_path: Arc<str>,
}
