//! Checks one segment: every line of its sidecar, every batch, every record, and that they
//! follow each other without a gap up to where the snapshot says that they reach.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::Offset;

use super::journal::records;
use super::report::Finding;
use super::verify::Look;
use crate::batch::Batch;
use crate::disk::{DiskFile, read_exact_at};
use crate::machine::PartitionId;
use crate::segment::Segment;
use crate::segment::read::check;
use crate::segment::sidecar::{LINE_BYTES, Line};

/// Lines that are read at once.
const LINES_AT_ONCE: u32 = 512;

/// The check of one segment. Bad batches one after the other are one finding.
pub(super) struct SegmentCheck<'l, 'a> {
    look: &'l mut Look<'a>,
    id: PartitionId,
    segment: &'l Segment,
    /// The partition writes to it.
    is_last: bool,
    /// The offset that the next batch begins with; `None` behind damage.
    expected: Option<Offset>,
    /// Where the next batch begins.
    position: u64,
    /// Damage whose end is not known yet.
    open: Option<Finding>,
}

impl<'l, 'a> SegmentCheck<'l, 'a> {
    pub(super) fn new(
        look: &'l mut Look<'a>,
        id: PartitionId,
        segment: &'l Segment,
        is_last: bool,
    ) -> Self {
        Self {
            look,
            id,
            segment,
            is_last,
            expected: Some(segment.base),
            position: 0,
            open: None,
        }
    }

    pub(super) fn run(mut self) {
        let at = self.segment.synced;
        let sum_bytes = u64::from(at.lines) * LINE_BYTES as u64;
        let (log_path, sum_path) = (&self.segment.log_path, &self.segment.sum_path);
        let log = self.open(log_path, at.bytes);
        let sum = self.open(sum_path, sum_bytes);
        let (Some(log), Some(sum)) = (log, sum) else {
            return;
        };
        let mut number = 0;
        while number < at.lines {
            let count = LINES_AT_ONCE.min(at.lines - number);
            let mut bytes = vec![0; count as usize * LINE_BYTES];
            let read = sum.read_at(u64::from(number) * LINE_BYTES as u64, &mut bytes);
            bytes.truncate(read.unwrap_or_default());
            let mut lines = bytes.chunks_exact(LINE_BYTES).map(Line::get);
            for number in number..number + count {
                self.line(log.as_ref(), number, lines.next().flatten());
            }
            self.look.report.counts.segment_bytes += bytes.len() as u64;
            self.look.read(sum_path, bytes.len() as u64);
            number += count;
        }
        if let Some(open) = self.open.take() {
            self.close(open, at.end);
        } else if self.position != at.bytes || self.expected.is_some_and(|end| end != at.end) {
            let what = "the last batch is not the one that the snapshot says";
            let finding = Finding::damage(&**log_path, what).at(self.position);
            self.look.report.add(finding.of(self.id));
        }
    }

    /// Opens a file that must have so many bytes.
    fn open(&mut self, path: &Arc<str>, bytes: u64) -> Option<Arc<dyn DiskFile>> {
        let opened = self.look.disk.open(path);
        let opened = opened.and_then(|file| file.len().map(|len| (file, len)));
        let whole = self.segment.base..self.segment.synced.end;
        let (what, byte) = match opened {
            Ok((file, len)) if len == bytes || (self.is_last && len > bytes) => {
                return Some(file);
            }
            Ok((file, len)) if len > bytes => {
                let what = "bytes follow the last one that anything names; they are not read";
                self.look.report.add(Finding::note(&**path, what).at(bytes));
                return Some(file);
            }
            Ok((file, len)) => {
                let what = format!("the file has {len} bytes of {bytes}");
                let finding = Finding::damage(&**path, what).at(len).of(self.id);
                self.look.report.add(finding);
                return Some(file);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => ("the file is missing".into(), 0),
            Err(error) => (format!("cannot be read: {error}"), 0),
        };
        let finding = Finding::damage(&**path, what).at(byte).of(self.id);
        self.look.report.add(finding.offsets(whole));
        None
    }

    fn line(&mut self, log: &dyn DiskFile, number: u32, line: Option<Line>) {
        let Some(line) = line else {
            let byte = u64::from(number) * LINE_BYTES as u64;
            let what = format!("line {number} of the sidecar is unreadable");
            let path = self.segment.sum_path.clone();
            return self.damage(&path, byte, what);
        };
        if let Some(open) = self.open.take() {
            // Offsets are known again; where the damage was before them is told.
            self.close(open, line.base);
            self.expected = Some(line.base);
            self.position = u64::from(line.position);
        }
        let byte = u64::from(line.position);
        match self.batch(log, &line) {
            Ok(batch) => {
                self.look.report.counts.batches += 1;
                self.look.report.counts.records += u64::from(batch.record_count());
                self.look.report.counts.segment_bytes += u64::from(line.size_bytes);
                self.expected = Some(batch.next_offset());
                self.position = byte + u64::from(line.size_bytes);
                if let Err(why) = records(&batch) {
                    let path = self.segment.log_path.clone();
                    let finding = Finding::damage(&*path, why).at(byte).of(self.id);
                    let range = batch.base_offset()..batch.next_offset();
                    self.look.report.add(finding.offsets(range));
                }
            }
            Err(why) => {
                let path = self.segment.log_path.clone();
                let from = self.expected.map_or(line.base, |end| end.min(line.base));
                self.expected = Some(from);
                self.damage(&path, byte, why);
            }
        }
        let path = self.segment.log_path.clone();
        self.look.read(&path, u64::from(line.size_bytes));
    }

    /// The line's batch, checked.
    fn batch(&self, log: &dyn DiskFile, line: &Line) -> Result<Batch, String> {
        let end = u64::from(line.position) + u64::from(line.size_bytes);
        if u64::from(line.position) != self.position || end > self.segment.synced.bytes {
            return Err("the batch does not lie behind the one before".to_owned());
        }
        let read = read_exact_at(log, u64::from(line.position), line.size_bytes as usize);
        let mut bytes: Bytes = read.map_err(|error| error.to_string())?;
        // What the batch claims beyond the next one shows there.
        check(line, &mut bytes, self.expected.unwrap_or(line.base), None)
    }

    fn damage(&mut self, path: &str, byte: u64, what: String) {
        if self.open.is_some() {
            return;
        }
        let from = self.expected.take().unwrap_or(self.segment.base);
        let finding = Finding::damage(path, what).at(byte).of(self.id);
        self.open = Some(finding.offsets(from..from));
    }

    /// Damage reaches up to this offset.
    fn close(&mut self, open: Finding, end: Offset) {
        let from = open.offsets.clone().map_or(end, |offsets| offsets.start);
        self.look.report.add(open.offsets(from..end.max(from)));
    }
}
