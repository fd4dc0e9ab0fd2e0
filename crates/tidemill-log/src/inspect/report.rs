//! What an inspection answers with: counts, and what it found.

use std::ops::Range;

use tidemill_core::Offset;
use uuid::Uuid;

use crate::limits::FINDINGS_MAX;
use crate::machine::{Lsn, PartitionId};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost: it is what a killed process leaves, or a file that nothing names.
    Note,
    /// Bytes are not those that were written, or not there.
    Damage,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the folder.
    pub file: String,
    /// Where in the file, in bytes.
    pub byte: Option<u64>,
    /// The partition that the file belongs to, or that lost something.
    pub partition: Option<PartitionId>,
    /// The offsets that cannot be read.
    pub offsets: Option<Range<Offset>>,
    /// The journal's entries that it is about.
    pub entries: Option<Range<Lsn>>,
    /// What it is, and what to do.
    pub what: String,
}

impl Finding {
    pub(crate) fn damage(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Damage,
            file: file.into(),
            byte: None,
            partition: None,
            offsets: None,
            entries: None,
            what: what.into(),
        }
    }

    pub(crate) fn note(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::damage(file, what)
        }
    }

    pub(crate) fn at(mut self, byte: u64) -> Self {
        self.byte = Some(byte);
        self
    }

    pub(crate) fn of(mut self, id: PartitionId) -> Self {
        self.partition = Some(id);
        self
    }

    pub(crate) fn offsets(mut self, offsets: Range<Offset>) -> Self {
        self.offsets = Some(offsets);
        self
    }

    pub(crate) fn entries(mut self, entries: Range<Lsn>) -> Self {
        self.entries = Some(entries);
        self
    }
}

/// What was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readable superblocks, of two.
    pub superblocks: u64,
    /// Journal files.
    pub journal_files: u64,
    /// Commits from the head on.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of these commits, padding included.
    pub journal_bytes: u64,
    /// Chunks of the snapshot, its footer included.
    pub snapshot_chunks: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Segments of them.
    pub segments: u64,
    /// Whole batches in these.
    pub batches: u64,
    /// Records of these batches.
    pub records: u64,
    /// Bytes of segments and their sidecars.
    pub segment_bytes: u64,
}

impl Counts {
    /// Every count with its name, in the order of reading.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("superblocks", self.superblocks),
            ("snapshot_chunks", self.snapshot_chunks),
            ("snapshot_bytes", self.snapshot_bytes),
            ("journal_files", self.journal_files),
            ("commits", self.commits),
            ("entries", self.entries),
            ("journal_bytes", self.journal_bytes),
            ("partitions", self.partitions),
            ("segments", self.segments),
            ("batches", self.batches),
            ("records", self.records),
            ("segment_bytes", self.segment_bytes),
        ]
    }
}

/// The answer of [`verify`](super::verify()).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The log's identity, where a superblock is readable.
    pub log: Option<Uuid>,
    /// How often it was opened.
    pub epoch: u64,
    /// The first entry that the journal keeps, and the one after its last.
    pub entries: Range<Lsn>,
    /// What was there.
    pub counts: Counts,
    /// What was found, in the order of reading; at most [`FINDINGS_MAX`] are kept.
    pub findings: Vec<Finding>,
    /// How many findings are damage, those that were not kept included.
    pub damage: u64,
    /// How many are notes.
    pub notes: u64,
}

impl Report {
    /// Whether everything that was written is there.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage == 0
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Damage => self.damage += 1,
            Severity::Note => self.notes += 1,
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}
