//! Shows what a log's files hold, line by line: superblocks, the snapshot's chunks, commits,
//! entries, parts, batches, records, the sidecar's lines.
//!
//! Memory holds one commit, chunk or batch. What an effect says is for whoever asked.

mod files;
mod lines;

use bytes::Bytes;
use tidemill_core::Offset;
use uuid::Uuid;

use super::journal::files as journal_files;
use super::superblocks::{newest, roots};
use super::{InspectError, snapshot};
use crate::disk::Disk;
use crate::journal::commit::CommitHeader;
use crate::journal::entry::decode;
use crate::journal::scan::{Found, Scan, read_payload};
use crate::journal::writer::journal_path;
use crate::machine::PartitionId;
use crate::segment::Segment;
use crate::snapshot::{TableEntry, snapshot_path};
use crate::superblock::Superblock;

/// One value of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A count, a place, an offset, an entry's number.
    Number(u64),
    /// A number that may be negative, as times are.
    Signed(i64),
    /// Words.
    Text(String),
    /// Whether something is so.
    Flag(bool),
    /// An identity.
    Id(Uuid),
    /// A partition.
    Partition(PartitionId),
    /// A key or a value; `None` where there is none.
    Payload(Option<Bytes>),
    /// A record's headers with their values.
    Headers(Vec<(String, Option<Bytes>)>),
    /// What the machine has to explain: a kind and its bytes.
    Effect(u16, Bytes),
    /// A chunk of the machine's snapshot.
    Chunk(Bytes),
    /// Numbers in pairs, as of epochs and their first offsets.
    Pairs(Vec<(u64, u64)>),
}

/// One thing that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How deep it lies: a record is in a batch, in a part, in an entry, in a commit.
    pub depth: usize,
    /// What it is, as in `commit`.
    pub what: &'static str,
    /// Its fields, in the order of the format.
    pub fields: Vec<(&'static str, Value)>,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// One file, as a path inside of the folder; the whole log where there is none.
    pub file: Option<String>,
    /// From which entry of the journal, or offset of a segment, on.
    pub from: u64,
}

/// Calls `each` with every line until it answers `false`. A place that is unreadable is a line
/// too.
///
/// # Errors
/// [`InspectError`], where there is nothing to show.
pub fn dump(
    disk: &dyn Disk,
    what: &Dump,
    each: &mut dyn FnMut(Line) -> bool,
) -> Result<(), InspectError> {
    let mut out = Out {
        disk,
        what,
        each,
        open: true,
    };
    match &what.file {
        Some(path) => files::one(&mut out, path),
        None => whole(&mut out),
    }
}

/// Where lines go, and what was asked for.
struct Out<'a> {
    disk: &'a dyn Disk,
    what: &'a Dump,
    each: &'a mut dyn FnMut(Line) -> bool,
    /// Nobody has said that it is enough.
    open: bool,
}

impl Out<'_> {
    fn line(&mut self, depth: usize, what: &'static str, fields: Vec<(&'static str, Value)>) {
        if self.open {
            self.open = (self.each)(Line {
                depth,
                what,
                fields,
            });
        }
    }

    fn unreadable(&mut self, path: &str, byte: u64, why: impl Into<String>) {
        let fields = vec![
            ("file", Value::Text(path.to_owned())),
            ("byte", Value::Number(byte)),
            ("why", Value::Text(why.into())),
        ];
        self.line(0, "unreadable", fields);
    }
}

/// Everything that the newest superblock leads to.
fn whole(out: &mut Out<'_>) -> Result<(), InspectError> {
    for path in crate::superblock::PATHS {
        files::superblock(out, path);
    }
    let Some(block) = newest(&roots(out.disk)) else {
        return Ok(());
    };
    let mut table = Vec::new();
    if block.snapshot > 0 {
        table = chunks(out, block.snapshot);
    }
    journal(out, &block)?;
    for entry in &table {
        for kept in &entry.segments {
            if out.open && kept.at.end.0 > out.what.from {
                let segment = Segment::kept(entry.id, kept);
                lines::segment(out, &segment.log_path, Some(&segment));
            }
        }
    }
    Ok(())
}

/// The chunks of a snapshot; answers the table of partitions.
fn chunks(out: &mut Out<'_>, number: u64) -> Vec<TableEntry> {
    let mut table = Vec::new();
    let path = snapshot_path(number);
    let disk = out.disk;
    let read = snapshot::read(disk, number, |at, chunk| {
        lines::chunk(out, &path, at, &chunk);
        if let snapshot::Chunk::Table(entries) = chunk {
            table.extend(entries);
        }
        out.open
    });
    if let Err((byte, why)) = read {
        out.unreadable(&path, byte, why);
    }
    table
}

/// The chain of commits from the head on.
fn journal(out: &mut Out<'_>, block: &Superblock) -> Result<(), InspectError> {
    let found = journal_files(out.disk)?;
    if !found.contains_key(&block.head.file) {
        out.unreadable(&journal_path(block.head.file), 0, "the file is missing");
        return Ok(());
    }
    let scan = Scan {
        files: &found,
        journal: block.journal,
    };
    let walked = scan.walk(block.head)?;
    for header in &walked.commits {
        if out.open {
            commit(out, &found, header);
        }
    }
    Ok(())
}

/// One commit, if some of it was asked for.
fn commit(out: &mut Out<'_>, found: &Found, header: &CommitHeader) {
    if header.next().0 <= out.what.from {
        return;
    }
    let path = journal_path(header.file);
    out.line(0, "commit", lines::commit(&path, header));
    let payload = match read_payload(found, header) {
        Ok(payload) => payload,
        Err(error) => return out.unreadable(&path, header.offset, error.to_string()),
    };
    let read = decode(payload, header.count, header.first, |lsn, parts| {
        if lsn.0 >= out.what.from && out.open {
            let fields = vec![
                ("entry", Value::Number(lsn.0)),
                ("parts", Value::Number(parts.len() as u64)),
            ];
            out.line(1, "entry", fields);
            parts.into_iter().for_each(|part| lines::part(out, part));
        }
        Ok(())
    });
    if let Err((lsn, why)) = read {
        out.unreadable(&path, header.offset, format!("entry {lsn}: {why}"));
    }
}

fn number(offset: Offset) -> Value {
    Value::Number(offset.0)
}
