//! One file of a log, whatever a superblock says of it.

use std::io::ErrorKind;

use super::{Out, Value, chunks, commit, lines};
use crate::inspect::InspectError;
use crate::inspect::journal::files as journal_files;
use crate::inspect::superblocks::{Root, roots};
use crate::journal::commit::CommitHeader;
use crate::journal::scan::Scan;
use crate::journal::writer::{JOURNAL_DIR, journal_number};
use crate::limits::BLOCK_BYTES;
use crate::segment::sidecar::{LINE_BYTES, Line};
use crate::snapshot::{SNAPSHOTS_DIR, snapshot_number};
use crate::superblock::is_superblock;

/// Shows the file at this path of the folder.
pub(super) fn one(out: &mut Out<'_>, path: &str) -> Result<(), InspectError> {
    let none = || InspectError::NoSuchFile(path.to_owned());
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    if is_superblock(path) {
        superblock(out, path);
        return Ok(());
    }
    let end = name.rsplit_once('.').map(|(_, end)| end);
    let is_named_so = matches!(end, Some("log" | "sum" | "snapshot" | "journal"));
    out.disk.open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound if is_named_so => InspectError::Missing(path.to_owned()),
        _ => none(),
    })?;
    match end {
        Some("log") => lines::segment(out, path, None),
        Some("sum") => sidecar(out, path),
        Some("snapshot") if dir == SNAPSHOTS_DIR => {
            chunks(out, snapshot_number(name).ok_or_else(none)?);
        }
        Some("journal") if dir == JOURNAL_DIR => {
            journal(out, path, journal_number(name).ok_or_else(none)?)?;
        }
        _ => return Err(none()),
    }
    Ok(())
}

pub(super) fn superblock(out: &mut Out<'_>, path: &str) {
    for (of, root) in roots(out.disk) {
        if of != path {
            continue;
        }
        match root {
            Root::Good(block) => out.line(0, "superblock", lines::superblock(path, &block)),
            Root::Missing => out.unreadable(path, 0, "the file is missing"),
            Root::Unreadable(why) => out.unreadable(path, 0, why),
            Root::Refused(refusal) => out.unreadable(path, 0, refusal.to_string()),
        }
    }
}

/// Every whole commit of a journal file, of whichever journal and lap.
fn journal(out: &mut Out<'_>, path: &str, number: u32) -> Result<(), InspectError> {
    let found = journal_files(out.disk)?;
    let Some((file, size)) = found.get(&number) else {
        return Ok(());
    };
    let (mut byte, mut any, mut is_new) = (0, false, *size > 0);
    let mut block = vec![0; BLOCK_BYTES];
    while byte < *size && out.open {
        let read = file.read_at(byte, &mut block).unwrap_or_default();
        let head = block.get(..read).unwrap_or_default();
        is_new &= head.iter().all(|byte| *byte == 0);
        let mut next = byte + BLOCK_BYTES as u64;
        if let Some((header, _)) = CommitHeader::decode(head) {
            let scan = Scan {
                files: &found,
                journal: header.journal,
            };
            if scan.is_whole(&header)? && header.offset == byte {
                commit(out, &found, &header);
                any = true;
                next = byte + header.padded_bytes();
            }
        }
        byte = next;
    }
    if !any && !is_new {
        out.unreadable(path, 0, "there is no whole commit in it");
    }
    Ok(())
}

/// Every line of a sidecar.
fn sidecar(out: &mut Out<'_>, path: &str) {
    let read = out.disk.open(path);
    let (file, size) = match read.and_then(|file| file.len().map(|size| (file, size))) {
        Ok(opened) => opened,
        Err(error) => return out.unreadable(path, 0, error.to_string()),
    };
    let fields = vec![
        ("file", Value::Text(path.to_owned())),
        ("bytes", Value::Number(size)),
    ];
    out.line(0, "sidecar", fields);
    let (mut byte, mut bytes) = (0, [0; LINE_BYTES]);
    while byte < size && out.open {
        let read = file.read_at(byte, &mut bytes).unwrap_or_default();
        match bytes.get(..read).and_then(Line::get) {
            Some(line) if line.base.0 < out.what.from => {}
            Some(line) => out.line(1, "line", lines::sidecar_line(&line, byte)),
            None => out.unreadable(path, byte, "the line's checksum does not hold"),
        }
        byte += LINE_BYTES as u64;
    }
}
