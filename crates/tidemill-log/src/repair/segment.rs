//! Goes through one segment and tells its good batches from what is lost.
//!
//! A batch whose line of the sidecar is unreadable is good where it lies, holds by its own
//! checksum, and has the offsets that belong there.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use tidemill_core::Offset;

use crate::batch::{Batch, HEADER_BYTES};
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::segment::Segment;
use crate::segment::read::check;
use crate::segment::sidecar::{LINE_BYTES, Line};

/// Lines that are read at once.
const LINES_AT_ONCE: u32 = 512;

/// What a segment consists of, in the order of its offsets.
pub(super) enum Piece {
    Good(Batch),
    Lost(Range<Offset>),
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) lost: Vec<Range<Offset>>,
    /// Nothing has to be written anew.
    pub(super) is_whole: bool,
}

/// Goes through what was synced of a segment.
///
/// # Errors
/// What `each` says.
pub(super) fn walk(
    disk: &dyn Disk,
    segment: &Segment,
    each: &mut dyn FnMut(Piece) -> io::Result<()>,
) -> io::Result<Walked> {
    let at = segment.synced;
    let sum_bytes = u64::from(at.lines) * LINE_BYTES as u64;
    let open = |path: &Arc<str>, bytes| {
        let file = disk.open(path).ok()?;
        let whole = file.len().is_ok_and(|len| len >= bytes);
        Some((file, whole))
    };
    let (log, sum) = (
        open(&segment.log_path, at.bytes),
        open(&segment.sum_path, sum_bytes),
    );
    let whole = |file: &Option<(_, bool)>| file.as_ref().is_some_and(|(_, whole)| *whole);
    let mut walk = Walk {
        log: log.as_ref().map(|(log, _)| log.as_ref()),
        segment,
        each,
        expected: segment.base,
        position: 0,
        walked: Walked {
            lost: Vec::new(),
            is_whole: whole(&log) && whole(&sum),
        },
    };
    let mut number = 0;
    while number < at.lines {
        let count = LINES_AT_ONCE.min(at.lines - number);
        let mut bytes = vec![0; count as usize * LINE_BYTES];
        let place = u64::from(number) * LINE_BYTES as u64;
        let read = sum.as_ref().map(|(sum, _)| sum.read_at(place, &mut bytes));
        bytes.truncate(read.and_then(Result::ok).unwrap_or_default());
        let mut lines = bytes.chunks_exact(LINE_BYTES).map(Line::get);
        for _ in 0..count {
            walk.line(lines.next().flatten())?;
        }
        number += count;
    }
    walk.end()
}

struct Walk<'a> {
    log: Option<&'a dyn DiskFile>,
    segment: &'a Segment,
    each: &'a mut dyn FnMut(Piece) -> io::Result<()>,
    /// The offset that the next batch begins with.
    expected: Offset,
    /// Where the next batch lies.
    position: u64,
    walked: Walked,
}

impl Walk<'_> {
    fn line(&mut self, line: Option<Line>) -> io::Result<()> {
        let (batch, at) = match line {
            Some(line) => {
                let at = u64::from(line.position);
                self.walked.is_whole &= at == self.position && line.base == self.expected;
                (self.named(&line), at)
            }
            None => {
                self.walked.is_whole = false;
                (self.unnamed(), self.position)
            }
        };
        let end = self.segment.synced.end;
        let belongs = |batch: &Batch| {
            batch.base_offset() >= self.expected
                && batch.next_offset() <= end
                && batch.check_records().is_ok()
        };
        let Some(batch) = batch.filter(belongs) else {
            self.walked.is_whole = false;
            if let Some(line) = line {
                // The next one lies behind it, whatever it is.
                self.position = at + u64::from(line.size_bytes);
            }
            return Ok(());
        };
        self.lost_until(batch.base_offset())?;
        self.expected = batch.next_offset();
        self.position = at + batch.size_bytes() as u64;
        (self.each)(Piece::Good(batch))
    }

    /// The batch that a line names.
    fn named(&self, line: &Line) -> Option<Batch> {
        let at = u64::from(line.position);
        if at + u64::from(line.size_bytes) > self.segment.synced.bytes {
            return None;
        }
        let read = read_exact_at(self.log?, at, line.size_bytes as usize);
        check(line, &mut read.ok()?, line.base, None).ok()
    }

    /// The batch that lies where the next one belongs.
    fn unnamed(&self) -> Option<Batch> {
        let batch = batch_at(self.log?, self.position, self.segment.synced.bytes)?;
        (batch.base_offset() == self.expected).then_some(batch)
    }

    fn lost_until(&mut self, offset: Offset) -> io::Result<()> {
        if self.expected < offset {
            let lost = self.expected..offset;
            self.walked.lost.push(lost.clone());
            self.walked.is_whole = false;
            (self.each)(Piece::Lost(lost))?;
        }
        Ok(())
    }

    fn end(mut self) -> io::Result<Walked> {
        let at = self.segment.synced;
        self.walked.is_whole &= self.position == at.bytes;
        self.lost_until(at.end)?;
        Ok(self.walked)
    }
}

/// The batch that lies at a place of a segment's file and ends before `until`, whatever its records
/// are.
pub(super) fn batch_at(log: &dyn DiskFile, position: u64, until: u64) -> Option<Batch> {
    let head = read_exact_at(log, position, HEADER_BYTES).ok()?;
    let size_bytes = Batch::size_from_front(&head).ok()?;
    if position + size_bytes as u64 > until {
        return None;
    }
    let bytes = read_exact_at(log, position, size_bytes).ok()?;
    let (batch, _) = Batch::parse(bytes).ok()?;
    Some(batch)
}
