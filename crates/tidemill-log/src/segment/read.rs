//! Reads batches from a segment, checking everything: the line's checksum, the header's, the
//! batch's own, and that offsets and positions follow each other without a gap.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::Offset;

use super::SegmentView;
use super::sidecar::{LINE_BYTES, Line, header_crc};
use crate::batch::Batch;
use crate::disk::{DiskFile, read_exact_at};
use crate::error::ReadError;
use crate::io::Files;
use crate::limits::DISK_READ_MAX_BYTES;
use crate::machine::PartitionId;

/// Lines that are read at once.
const LINES_AT_ONCE: u32 = 512;

/// One look into one segment.
pub(crate) struct SegmentRead<'a> {
    pub(crate) id: PartitionId,
    pub(crate) segment: &'a SegmentView,
    pub(crate) files: &'a Files,
}

/// Why a look ended without the batch it was for.
enum Stop {
    Error(ReadError),
    /// The line with this number is unreadable.
    Line(u32),
}

impl SegmentRead<'_> {
    /// Batches from the one that holds `offset` on, until `max_bytes` are reached.
    ///
    /// # Errors
    /// As [`ReadError`] has them; damage after at least one good batch ends the answer before
    /// it.
    pub(crate) fn run(&self, offset: Offset, max_bytes: usize) -> Result<Vec<Batch>, ReadError> {
        let read = self.run_within(offset, max_bytes, |_| true)?;
        Ok(read.expect("there is always room"))
    }

    /// As [`SegmentRead::run`]; `None` where the first batch alone has more than `max_bytes` and
    /// `room`, which is told how much, has none for it.
    ///
    /// # Errors
    /// As [`SegmentRead::run`].
    pub(crate) fn run_within(
        &self,
        offset: Offset,
        max_bytes: usize,
        room: impl FnOnce(usize) -> bool,
    ) -> Result<Option<Vec<Batch>>, ReadError> {
        let sums = self.open(&self.segment.sum_path)?;
        let first = match self.find(sums.as_ref(), offset) {
            Ok(first) => first,
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Line(number)) => {
                return self.around_line(sums.as_ref(), number, offset).map(Some);
            }
        };
        let (lines, behind) = self.run_of_lines(sums.as_ref(), first, max_bytes)?;
        // Where even the first line lies behind the offset, it is not this segment's.
        let Some(line) = lines.first().filter(|line| line.base <= offset) else {
            return self.around_line(sums.as_ref(), first, offset).map(Some);
        };
        let log = self.open(&self.segment.log_path)?;
        let length: u64 = lines.iter().map(|line| u64::from(line.size_bytes)).sum();
        let length = usize::try_from(length).expect("a run of lines is bounded");
        if length > max_bytes && !room(length) {
            return Ok(None);
        }
        let why = "the file ends too early".to_owned();
        let Ok(bytes) = read_exact_at(log.as_ref(), u64::from(line.position), length) else {
            return Err(self.damaged(sums.as_ref(), first, offset, why));
        };
        let mut batches = Vec::with_capacity(lines.len());
        let (mut rest, mut expected) = (bytes, line.base);
        let ends = lines.iter().skip(1).map(|line| Some(line.base));
        let ends = ends.chain([behind]);
        for ((line, end), number) in lines.iter().zip(ends).zip(first..) {
            match check(line, &mut rest, expected, end) {
                Ok(batch) if batch.last_offset() < offset && batches.is_empty() => {
                    let why = "batches are missing".to_owned();
                    return Err(self.damaged(sums.as_ref(), number, offset, why));
                }
                Ok(batch) => {
                    expected = batch.next_offset();
                    batches.push(batch);
                }
                Err(why) if batches.is_empty() => {
                    let from = offset.max(line.base);
                    return Err(self.damaged(sums.as_ref(), number, from, why));
                }
                Err(_) => break,
            }
        }
        Ok(Some(batches))
    }

    pub(super) fn open(&self, path: &Arc<str>) -> Result<Arc<dyn DiskFile>, ReadError> {
        self.files.get(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => ReadError::Gone(self.id),
            _ => ReadError::Io {
                path: path.to_string(),
                source,
            },
        })
    }

    /// The number of the last line whose batch begins at or before `offset`.
    fn find(&self, sums: &dyn DiskFile, offset: Offset) -> Result<u32, Stop> {
        let (mut low, mut high) = (0, self.segment.written.lines);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.lines(sums, middle, 1).map_err(Stop::Error)?.first() {
                Some(Some(line)) if line.base <= offset => low = middle,
                Some(Some(_)) => high = middle,
                _ => return Err(Stop::Line(middle)),
            }
        }
        Ok(low)
    }

    /// As [`Self::find`]; `None` where a line that it needs is unreadable.
    pub(super) fn line_of(
        &self,
        sums: &dyn DiskFile,
        offset: Offset,
    ) -> Result<Option<u32>, ReadError> {
        match self.find(sums, offset) {
            Ok(number) => Ok(Some(number)),
            Err(Stop::Line(_)) => Ok(None),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// Line `number`; `None` where it is unreadable.
    pub(super) fn line(&self, sums: &dyn DiskFile, number: u32) -> Result<Option<Line>, ReadError> {
        Ok(self.lines(sums, number, 1)?.into_iter().next().flatten())
    }

    /// Up to `count` lines from number `first` on; `None` for one that is damaged or missing.
    fn lines(
        &self,
        sums: &dyn DiskFile,
        first: u32,
        count: u32,
    ) -> Result<Vec<Option<Line>>, ReadError> {
        let count = count.min(self.segment.written.lines.saturating_sub(first));
        let mut bytes = vec![0; count as usize * LINE_BYTES];
        let position = u64::from(first) * LINE_BYTES as u64;
        let read = sums
            .read_at(position, &mut bytes)
            .map_err(|source| ReadError::Io {
                path: self.segment.sum_path.to_string(),
                source,
            })?;
        let whole = bytes.get(..read).unwrap_or_default();
        let mut lines: Vec<_> = whole.chunks_exact(LINE_BYTES).map(Line::get).collect();
        lines.resize(count as usize, None);
        Ok(lines)
    }

    /// Good lines from `first` on that lie one after the other, up to `max_bytes` of batches,
    /// and the offset of what lies behind them where that is known.
    fn run_of_lines(
        &self,
        sums: &dyn DiskFile,
        first: u32,
        max_bytes: usize,
    ) -> Result<(Vec<Line>, Option<Offset>), ReadError> {
        let max_bytes = max_bytes.min(DISK_READ_MAX_BYTES) as u64;
        let mut run: Vec<Line> = Vec::new();
        let mut bytes = 0;
        let lines = self.lines(sums, first, LINES_AT_ONCE)?;
        let is_last = first + lines.len() as u32 == self.segment.written.lines;
        for line in &lines {
            let Some(line) = *line else { break };
            let end = u64::from(line.position) + u64::from(line.size_bytes);
            let follows = run.last().is_none_or(|last| {
                last.position + last.size_bytes == line.position && last.base < line.base
            });
            let wanted = run.is_empty() || bytes + u64::from(line.size_bytes) <= max_bytes;
            if !follows || !wanted || end > self.segment.written.bytes {
                break;
            }
            bytes += u64::from(line.size_bytes);
            run.push(line);
        }
        if run.len() > 1 && run.len() == lines.len() && !is_last {
            // What lies behind the last one was not read.
            run.pop();
        }
        let behind = match lines.get(run.len()) {
            Some(line) => line.map(|line| line.base),
            None => is_last.then_some(self.segment.written.end),
        };
        Ok((run, behind))
    }

    /// Line `number` is unreadable: goes through all lines to see whether `offset` lies in the
    /// damage, and reads on from the good ones where it does not.
    fn around_line(
        &self,
        sums: &dyn DiskFile,
        number: u32,
        offset: Offset,
    ) -> Result<Vec<Batch>, ReadError> {
        let lines = self.lines(sums, 0, self.segment.written.lines)?;
        let good = lines.iter().flatten();
        let before = good.take_while(|line| line.base <= offset).last();
        let resume = self.resume(lines.iter().flatten(), offset);
        if let Some(line) = before {
            let log = self.open(&self.segment.log_path)?;
            let position = u64::from(line.position);
            if let Ok(mut bytes) = read_exact_at(log.as_ref(), position, line.size_bytes as usize)
                && let Ok(batch) = check(line, &mut bytes, line.base, Some(resume))
                && batch.last_offset() >= offset
            {
                return Ok(vec![batch]);
            }
        }
        Err(ReadError::Damaged {
            id: self.id,
            offset,
            resume,
            why: format!("line {number} of {} is unreadable", self.segment.sum_path),
        })
    }

    /// Where to go on behind damage at `offset`: at the first line that lies behind it in this
    /// segment, whatever else lines say.
    fn resume<'a>(&self, mut lines: impl Iterator<Item = &'a Line>, offset: Offset) -> Offset {
        let end = self.segment.written.end;
        let behind = lines.find(|line| offset < line.base && line.base < end);
        behind.map_or(end, |line| line.base)
    }

    /// The batch of line `number` is unreadable from `offset` on.
    fn damaged(&self, sums: &dyn DiskFile, number: u32, offset: Offset, why: String) -> ReadError {
        let next = self.lines(sums, number + 1, LINES_AT_ONCE);
        let next = next.unwrap_or_default();
        ReadError::Damaged {
            id: self.id,
            offset,
            resume: self.resume(next.iter().flatten(), offset),
            why: format!("{}: {why}", self.segment.log_path),
        }
    }
}

/// Takes the line's batch from the front of `bytes`. `end` is the offset of what lies behind it,
/// where that is known.
pub(crate) fn check(
    line: &Line,
    bytes: &mut Bytes,
    expected: Offset,
    end: Option<Offset>,
) -> Result<Batch, String> {
    if bytes.len() < line.size_bytes as usize {
        return Err("the file ends too early".to_owned());
    }
    let own = bytes.split_to(line.size_bytes as usize);
    if header_crc(&own) != line.header_crc {
        return Err("the batch header's checksum does not hold".to_owned());
    }
    let (batch, rest) = Batch::parse(own).map_err(|error| error.to_string())?;
    if batch.base_offset() != line.base || line.base != expected || !rest.is_empty() {
        return Err("the batch is not the one that belongs here".to_owned());
    }
    if end.is_some_and(|end| batch.next_offset() > end) {
        return Err("the batch claims offsets of the one behind it".to_owned());
    }
    Ok(batch)
}
