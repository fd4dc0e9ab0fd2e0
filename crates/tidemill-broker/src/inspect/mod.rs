//! Looks into a data folder that nobody has open, with the names that the broker knows: what is
//! damaged, what is there, and what can be repaired.
//!
//! Reads, and changes nothing but by [`repair()`]. Blocks: not for an async worker. This room may
//! not know how a finding is shown.

mod effects;
mod mend;
mod names;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;
use tidemill_core::{Offset, Partition, TopicId, TopicName};
use tidemill_log::driver::FileDisk;
use tidemill_log::inspect as log;
pub use tidemill_log::inspect::{Dump, InspectError, Progress};
use tidemill_log::{Disk, OpenError};
use uuid::Uuid;

pub use mend::{JournalEnd, LostEvents, MendedSegment, Repair, RepairError, plan_repair, repair};

use names::Names;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is lost.
    Note,
    /// Bytes are not those that were written, or not there.
    Damage,
}

/// From the first number up to the one before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Span {
    /// The first.
    pub from: u64,
    /// The one after the last.
    pub until: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the folder.
    pub file: String,
    /// Where in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte: Option<u64>,
    /// The topic that lost something, where its name is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// The same topic's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<TopicId>,
    /// Its partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// The offsets that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Span>,
    /// The journal's entries that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<Span>,
    /// What it is, and what to do.
    pub what: String,
}

/// What a verification answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Report {
    /// Whether everything that was written is there.
    pub clean: bool,
    /// How many findings are damage; more than are listed where there are very many.
    pub damage: u64,
    /// How many are notes.
    pub notes: u64,
    /// The log's identity.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub log: Option<Uuid>,
    /// How often it was opened.
    pub epoch: u64,
    /// The entries that the journal keeps.
    pub entries: Span,
    /// What was there, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// What was found, in the order of reading.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// One value of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A count, a place, an offset, an entry's number.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// Words, names, identities.
    Text(String),
    /// Whether something is so.
    Flag(bool),
    /// A key or a value; `None` where there is none.
    Payload(Option<Bytes>),
    /// A record's headers with their values.
    Headers(Vec<(String, Option<Bytes>)>),
    /// Numbers in pairs.
    Pairs(Vec<(u64, u64)>),
}

/// One thing that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How deep it lies: a record is in a batch, in a part, in an entry, in a commit.
    pub depth: usize,
    /// What it is, as in `commit`.
    pub what: &'static str,
    /// Its fields.
    pub fields: Vec<(&'static str, Value)>,
}

/// Verifies the data in a folder. It is kept from being opened meanwhile.
///
/// # Errors
/// [`InspectError`]: it is in use, there is no log, or none of this version. Damage is no error.
pub fn verify(folder: &Path, mut watch: impl FnMut(Progress<'_>)) -> Result<Report, InspectError> {
    let disk = FileDisk::read_only(folder);
    let _lock = lock(&disk)?;
    let mut names = Names::default();
    let report = log::verify(&disk, &mut names, &mut watch);
    disk.permitted()?;
    Ok(told(report?, &names))
}

/// Calls `each` with every line of what a folder holds, until it answers `false`.
///
/// # Errors
/// As [`verify()`], and where there is no such file.
pub fn dump(
    folder: &Path,
    what: &Dump,
    mut each: impl FnMut(Line) -> bool,
) -> Result<(), InspectError> {
    let disk = FileDisk::read_only(folder);
    let _lock = lock(&disk)?;
    let mut names = Names::default();
    let learnt = log::learn(&disk, &mut names);
    disk.permitted()?;
    learnt?;
    let shown = log::dump(&disk, what, &mut |line| {
        effects::tell(line, &names, &mut each)
    });
    disk.permitted()?;
    shown
}

/// Whether a folder has a log, in whatever state. A folder that is not there has none.
#[must_use]
pub fn holds_log(folder: &Path) -> bool {
    log::is_there(&FileDisk::read_only(folder))
}

/// The data folder, or the backup, that a folder lies in, where it does: no log may begin there.
#[must_use]
pub fn outer_folder(folder: &Path) -> Option<PathBuf> {
    tidemill_log::driver::outer(folder)
}

/// Whether a folder has data of a log, and no superblock that it could be found by.
#[must_use]
pub fn lacks_superblocks(folder: &Path) -> bool {
    log::lacks_superblocks(&FileDisk::read_only(folder))
}

/// Keeps openings out while the folder is looked at.
pub(crate) fn lock(disk: &FileDisk) -> Result<tidemill_log::DiskLock, InspectError> {
    let locked = disk.lock();
    if !matches!(&locked, Err(error) if error.kind() == ErrorKind::WouldBlock) {
        disk.permitted()?;
    }
    Ok(locked.map_err(wrong_lock)?)
}

fn wrong_lock(error: std::io::Error) -> OpenError {
    match error.kind() {
        ErrorKind::WouldBlock => OpenError::Locked(error.to_string()),
        _ => OpenError::Io {
            what: "look at the folder's lock".to_owned(),
            source: error,
        },
    }
}

fn told(report: log::Report, names: &Names) -> Report {
    let entries = Span {
        from: report.entries.start.0,
        until: report.entries.end.0,
    };
    let findings = report.findings.into_iter();
    Report {
        clean: report.damage == 0,
        damage: report.damage,
        notes: report.notes,
        log: report.log,
        epoch: report.epoch,
        entries,
        counts: report.counts.named().into_iter().collect(),
        findings: findings.map(|finding| named(finding, names)).collect(),
    }
}

fn named(finding: log::Finding, names: &Names) -> Finding {
    let id = finding.partition;
    let offsets = finding.offsets.map(|of: std::ops::Range<Offset>| Span {
        from: of.start.0,
        until: of.end.0,
    });
    let entries = finding.entries.map(|of| Span {
        from: of.start.0,
        until: of.end.0,
    });
    Finding {
        severity: match finding.severity {
            log::Severity::Note => Severity::Note,
            log::Severity::Damage => Severity::Damage,
        },
        file: finding.file,
        byte: finding.byte,
        topic: id.and_then(|id| names.topic(id.topic)).cloned(),
        topic_id: id.map(|id| id.topic),
        partition: id.map(|id| id.partition),
        offsets,
        entries,
        what: finding.what,
    }
}
