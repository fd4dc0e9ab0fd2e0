//! One read of a scrubbing: some lines of a sidecar and their batches.

use std::io;
use std::ops::Range;

use tidemill_core::Offset;

use super::report::Damage;
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::limits::SCRUB_STEP_BYTES;
use crate::machine::PartitionId;
use crate::segment::SegmentView;
use crate::segment::read::check;
use crate::segment::sidecar::{LINE_BYTES, Line};

/// Lines that one read looks at, at most.
const LINES_AT_ONCE: u32 = 512;

/// Where a read begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    line: u32,
    /// The offset of the next batch.
    offset: Offset,
    /// Where it begins; `None` behind damage.
    position: Option<u64>,
}

impl Place {
    pub(super) fn first(segment: &SegmentView) -> Self {
        Self {
            line: 0,
            offset: segment.base,
            position: Some(0),
        }
    }
}

/// A read that is to be run where blocking is allowed. It opens the files by itself and keeps
/// none open, so that what is deleted meanwhile frees its space.
#[derive(Debug)]
pub struct ScrubRead {
    id: PartitionId,
    segment: SegmentView,
    at: Place,
}

/// What a read has found.
#[derive(Debug)]
pub struct ScrubFound {
    pub(super) id: PartitionId,
    pub(super) bytes: u64,
    pub(super) through: Offset,
    pub(super) damage: Vec<Damage>,
    /// Where the next read of this segment begins; `None` at its end.
    pub(super) next: Option<Place>,
}

impl ScrubRead {
    pub(super) fn new(id: PartitionId, segment: SegmentView, at: Place) -> Self {
        Self { id, segment, at }
    }

    /// Reads and checks; blocks as the disk does. What cannot be read is damage.
    #[must_use]
    pub fn run(&self, disk: &dyn Disk) -> ScrubFound {
        let mut check = Check {
            read: self,
            place: self.at,
            bytes: 0,
            damage: Vec::new(),
        };
        let whole = self.at.offset..self.segment.written.end;
        let sum = match disk.open(&self.segment.sum_path) {
            Ok(sum) => sum,
            Err(error) => {
                let byte = u64::from(self.at.line) * LINE_BYTES as u64;
                check.damaged(&self.segment.sum_path, byte, whole, unreadable(&error));
                return check.end(true);
            }
        };
        let log = match disk.open(&self.segment.log_path) {
            Ok(log) => log,
            Err(error) => {
                let byte = self.at.position.unwrap_or_default();
                check.damaged(&self.segment.log_path, byte, whole, unreadable(&error));
                return check.end(true);
            }
        };
        check.run(sum.as_ref(), log.as_ref())
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// One read while it goes on.
struct Check<'a> {
    read: &'a ScrubRead,
    place: Place,
    bytes: u64,
    damage: Vec<Damage>,
}

impl Check<'_> {
    fn run(mut self, sum: &dyn DiskFile, log: &dyn DiskFile) -> ScrubFound {
        let segment = &self.read.segment;
        let left = segment.written.lines.saturating_sub(self.place.line);
        // One more line says where the last one's offsets end.
        let count = left.min(LINES_AT_ONCE);
        let ahead = left.min(LINES_AT_ONCE + 1);
        let mut bytes = vec![0; ahead as usize * LINE_BYTES];
        let from = u64::from(self.place.line) * LINE_BYTES as u64;
        let read = sum.read_at(from, &mut bytes).unwrap_or_default();
        bytes.truncate(read);
        let mut lines: Vec<_> = bytes.chunks_exact(LINE_BYTES).map(Line::get).collect();
        lines.resize(ahead as usize, None);
        for index in 0..count as usize {
            let line = lines.get(index).copied().flatten();
            let next = lines.iter().skip(index + 1).flatten().next();
            self.line(log, line, next.map(|line| line.base));
            if self.bytes >= SCRUB_STEP_BYTES {
                return self.end(false);
            }
        }
        let done = self.place.line >= segment.written.lines;
        let at_end = self
            .place
            .position
            .is_none_or(|at| at == segment.written.bytes)
            && self.place.offset == segment.written.end;
        if done && !at_end && self.damage.is_empty() {
            let byte = self.place.position.unwrap_or_default();
            let offsets = self.place.offset..segment.written.end;
            let why = "the last batch is not the one that belongs here";
            self.damaged(&segment.log_path, byte, offsets, why.to_owned());
        }
        self.end(done)
    }

    /// Checks one line and its batch; `next` is the base offset of the next readable line.
    fn line(&mut self, log: &dyn DiskFile, line: Option<Line>, next: Option<Offset>) {
        let segment = &self.read.segment;
        let number = self.place.line;
        let end = next.unwrap_or(segment.written.end);
        self.bytes += LINE_BYTES as u64;
        self.place.line += 1;
        let Some(line) = line else {
            let byte = u64::from(number) * LINE_BYTES as u64;
            let why = format!("line {number} of the sidecar is unreadable");
            self.damaged(&segment.sum_path, byte, self.place.offset..end, why);
            self.place.offset = self.place.offset.max(end);
            self.place.position = None;
            return;
        };
        self.bytes += u64::from(line.size_bytes);
        let expected = match self.place.position {
            Some(_) => self.place.offset,
            None => line.base,
        };
        match self.batch(log, &line, expected, end) {
            Ok(after) => self.place.offset = after,
            Err(why) => {
                let (byte, from) = (u64::from(line.position), expected.min(line.base));
                self.damaged(&segment.log_path, byte, from..end.max(from), why);
                self.place.offset = end;
            }
        }
        let behind = u64::from(line.position) + u64::from(line.size_bytes);
        self.place.position = Some(behind);
    }

    /// Checks a line's batch; answers the offset behind it.
    fn batch(
        &self,
        log: &dyn DiskFile,
        line: &Line,
        expected: Offset,
        end: Offset,
    ) -> Result<Offset, String> {
        let at = u64::from(line.position);
        let behind = at + u64::from(line.size_bytes);
        let written = self.read.segment.written.bytes;
        if self.place.position.is_some_and(|own| own != at) || behind > written {
            return Err("the batch does not lie behind the one before".to_owned());
        }
        let read = read_exact_at(log, at, line.size_bytes as usize);
        let mut bytes = read.map_err(|error| unreadable(&error))?;
        check(line, &mut bytes, expected, Some(end)).map(|batch| batch.next_offset())
    }

    fn damaged(&mut self, file: &str, byte: u64, offsets: Range<Offset>, why: String) {
        self.damage.push(Damage {
            id: self.read.id,
            file: file.to_owned(),
            byte,
            offsets,
            why,
        });
    }

    fn end(self, done: bool) -> ScrubFound {
        let through = match done {
            true => self.read.segment.written.end,
            false => self.place.offset,
        };
        ScrubFound {
            id: self.read.id,
            bytes: self.bytes,
            through,
            damage: self.damage,
            next: (!done).then_some(self.place),
        }
    }
}
