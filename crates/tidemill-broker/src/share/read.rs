//! Giving records out: what lies in the log for a member, and waiting for it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::budget::Class;
use tidemill_core::error::Unavailable;
use tidemill_core::{FetchError, Offset, TopicName};
use tidemill_log::{Batch, PartitionId};
use tokio::time::Instant;

use super::hold::ShareHold;
use super::live::Live;
use super::parts::Part;
use super::records::{Given, Span};
use super::settings::ShareSettings;
use super::types::{ShareBounds, ShareError, SharePart, ShareRecords};
use crate::broker::Inner;
use crate::fetch::{Trouble, read_batches};
use crate::fetch_batches::Isolation;
use crate::limits::{MEMORY_AGAIN_AFTER, SHARE_WINDOW};
use crate::machine::Operation;
use crate::metrics::add;
use crate::transaction::Stable;

/// How often one look reads a partition where others take what it has read.
const LOOKS_MAX: usize = 8;

/// Is told of how many bytes the batches of an answer are in all, also where they get less again;
/// `false` where there is no memory for more.
pub(super) type Room<'a> = dyn FnMut(usize) -> bool + Send + 'a;

/// The memory of one look.
struct Memory<'a> {
    room: &'a mut Room<'a>,
    /// Bytes of the batches that were taken.
    had: usize,
    /// There was none for more.
    short: bool,
}

impl Memory<'_> {
    /// Whether there is memory for so many bytes beside those of what was taken.
    fn fits(&mut self, bytes: usize) -> bool {
        let fits = (self.room)(self.had + bytes);
        self.short |= !fits;
        fits
    }

    /// So many bytes were taken; what else there was room for is not needed.
    fn took(&mut self, bytes: usize) {
        self.had += bytes;
        (self.room)(self.had);
    }
}

/// Who wants records of a group.
pub(super) struct Taker {
    pub(super) inner: Arc<Inner>,
    pub(super) live: Arc<Live>,
    pub(super) member: ByteString,
    pub(super) settings: ShareSettings,
}

type Answer = Vec<Result<ShareRecords, ShareError>>;

impl Taker {
    /// Takes records of these partitions, in their order; waits for the first ones so long.
    pub(super) async fn take(
        &self,
        parts: &[SharePart],
        bounds: ShareBounds,
        wait: Duration,
        room: &mut Room<'_>,
    ) -> Result<Answer, ShareError> {
        let deadline = Instant::now() + wait;
        let mut waiting = self.live.wait();
        loop {
            // Before it is looked at, so that nothing comes in between.
            if !wait.is_zero() {
                let each = parts.iter().map(SharePart::id);
                each.for_each(|id| waiting.listen(&self.inner, id));
            }
            let (answer, short) = self.look(parts, bounds, room).await?;
            let enough = |one: &Result<ShareRecords, _>| {
                one.as_ref()
                    .map_or(true, |records| !records.acquired.is_empty())
            };
            let now = Instant::now();
            if answer.iter().any(enough) || now >= deadline || parts.is_empty() {
                return Ok(answer);
            }
            // Rung since the look began, this is over at once.
            let until = match short {
                true => deadline.min(now + MEMORY_AGAIN_AFTER),
                false => deadline,
            };
            let _ = tokio::time::timeout_at(until, waiting.notify.notified()).await;
        }
    }

    /// Takes what is there. Answers also whether there was no memory for more.
    async fn look(
        &self,
        parts: &[SharePart],
        bounds: ShareBounds,
        room: &mut Room<'_>,
    ) -> Result<(Answer, bool), ShareError> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(Unavailable::Closed.into());
        }
        let mut records = 0;
        let mut memory = Memory {
            room,
            had: 0,
            short: false,
        };
        let mut answer = Vec::with_capacity(parts.len());
        for part in parts {
            let bytes = memory.had;
            let full = records >= bounds.records_max || (bytes > 0 && bytes >= bounds.bytes_max);
            if full || memory.short {
                answer.push(Ok(ShareRecords::default()));
                continue;
            }
            let left = ShareBounds {
                records_max: bounds.records_max - records,
                bytes_max: bounds.bytes_max.saturating_sub(bytes).max(1),
            };
            let taken = self.look_at(*part, left, &mut memory).await;
            if let Err(ShareError::UnknownGroup) = taken {
                return Err(ShareError::UnknownGroup);
            }
            let mut bytes = 0;
            if let Ok(taken) = &taken {
                let each = taken.acquired.iter().map(|of| of.last.0 - of.first.0 + 1);
                records += each.sum::<u64>() as usize;
                bytes = taken.batches.iter().map(Batch::size_bytes).sum();
            }
            memory.took(bytes);
            answer.push(taken);
        }
        Ok((answer, memory.short))
    }

    async fn look_at(
        &self,
        part: SharePart,
        bounds: ShareBounds,
        memory: &mut Memory<'_>,
    ) -> Result<ShareRecords, ShareError> {
        let id = part.id();
        let name = {
            let catalog = self.inner.durable.catalog();
            let name = catalog
                .name(id.topic)
                .filter(|_| !catalog.is_queue(id.topic));
            let name = name.cloned().ok_or(ShareError::UnknownTopic)?;
            let topic = catalog.topic(&name).ok_or(ShareError::UnknownTopic)?;
            if id.partition.0 >= topic.partitions {
                return Err(ShareError::UnknownPartition);
            }
            name
        };
        for _ in 0..LOOKS_MAX {
            let next = |part: &mut Part, _| part.records.next();
            let next = self.live.with_part(&self.inner, id, next)?;
            let Some(from) = next.flatten() else {
                return Ok(ShareRecords::default());
            };
            match self.read((id, &name), from, bounds, memory).await? {
                // Whatever is there would be read in vain again.
                Some(records) if memory.short => return Ok(records),
                Some(records) if records.acquired.is_empty() => {}
                Some(records) => return Ok(records),
                None => return Ok(ShareRecords::default()),
            }
        }
        // Others took what was read, or nothing was in it: who waits goes on at once.
        self.live.ring(id);
        Ok(ShareRecords::default())
    }

    /// Reads once and takes of that; `None` where there is nothing to be read.
    async fn read(
        &self,
        (id, name): (PartitionId, &TopicName),
        from: Offset,
        bounds: ShareBounds,
        memory: &mut Memory<'_>,
    ) -> Result<Option<ShareRecords>, ShareError> {
        let inner = &self.inner;
        // Before the batches: what is decided only grows.
        let now = inner.handle.reader().bounds(id);
        let now = now.ok_or(ShareError::UnknownTopic)?;
        let stable = inner.durable.stability.stable(id, now);
        if from < stable.earliest {
            self.pass(id, |part| part.records.trim(stable.earliest))?;
            return Ok(Some(ShareRecords::default()));
        }
        if from >= now.end {
            return Ok(None);
        }
        let mut share = inner.settings.memory.empty(Class::Reads);
        let read = read_batches(inner, id, from, bounds.bytes_max, &stable, &mut share);
        let batches = match read.await {
            Ok(Some(batches)) => batches,
            Ok(None) => return Ok(None),
            // Deleted meanwhile: the next look knows.
            Err(Trouble::OutOfRange { earliest, .. }) if from < earliest => {
                return Ok(Some(ShareRecords::default()));
            }
            Err(trouble) => match trouble.of(name, from) {
                FetchError::Damaged { resume, why, .. } => {
                    tracing::error!(group = %self.live.name, %why, "passed what cannot be read");
                    add(&inner.counters.damaged_reads, 1);
                    let resume = resume.max(from.next());
                    self.pass(id, |part| part.records.skip(from..resume))?;
                    return Ok(Some(ShareRecords::default()));
                }
                FetchError::UnknownTopic(_) => return Err(ShareError::UnknownTopic),
                why => return Err(why.into()),
            },
        };
        let spans = self.spans(from, &batches, &stable);
        if !spans.iter().any(|span| span.counts) {
            let Some(last) = spans.last() else {
                return Ok(None);
            };
            let all = from..last.range.end;
            self.pass(id, |part| part.records.skip(all))?;
            return Ok(Some(ShareRecords::default()));
        }
        let size = batches.iter().map(Batch::size_bytes).sum();
        if !memory.fits(size) {
            return Ok(None);
        }
        let (records, most) = self.acquire(id, batches, &spans, bounds)?;
        memory.short |= most == 0;
        Ok(Some(records))
    }

    /// The batches as pieces of the log that follow each other.
    fn spans(&self, from: Offset, batches: &[Batch], stable: &Stable) -> Vec<Span> {
        let committed = self.settings.isolation() == Isolation::ReadCommitted;
        let passing = stable.passing(batches);
        let mut spans = Vec::with_capacity(batches.len());
        let mut at = from;
        for batch in batches {
            if committed && passing.is_undecided(batch) {
                break;
            }
            let (base, end) = (batch.base_offset(), batch.next_offset());
            let mut span = |range: Range<Offset>, counts| {
                if !range.is_empty() {
                    spans.push(Span { range, counts });
                }
            };
            span(at..base, false);
            let passes = match committed {
                true => passing.is_passed(batch),
                false => batch.is_control(),
            };
            span(base..end, !passes);
            at = end;
        }
        spans
    }

    /// Takes of what was read. Answers also for how many records there was memory.
    fn acquire(
        &self,
        id: PartitionId,
        mut batches: Vec<Batch>,
        spans: &[Span],
        bounds: ShareBounds,
    ) -> Result<(ShareRecords, usize), ShareError> {
        let lock = self.settings.lock();
        let given = self.live.with_part(&self.inner, id, |part, now| {
            // As many as there is memory for.
            let mut most = usize::try_from(SHARE_WINDOW).unwrap_or(usize::MAX);
            while most > 0 && !part.grow(most) {
                most /= 2;
            }
            let until = now.saturating_add(lock);
            let wanted = (bounds.records_max, most);
            let given = part.records.acquire(&self.member, until, wanted, spans);
            part.fit();
            let place = (id, part.records.epoch());
            let here = (&self.inner, &self.live);
            let hold = ShareHold::of(here, place, (&self.member, until), &given.acquired);
            (given, hold, most)
        });
        let none = || (Given::default(), ShareHold::default(), usize::MAX);
        let (Given { acquired, passed }, hold, most) = given?.unwrap_or_else(none);
        self.passed(id, passed);
        batches.retain(|batch| {
            let (base, last) = (batch.base_offset(), batch.last_offset());
            acquired
                .iter()
                .any(|of| of.first <= last && base <= of.last)
        });
        let records = ShareRecords {
            batches,
            acquired,
            hold,
        };
        Ok((records, most))
    }

    /// Passes what is not there.
    fn pass(
        &self,
        id: PartitionId,
        pass: impl FnOnce(&mut Part) -> Vec<Range<Offset>>,
    ) -> Result<(), ShareError> {
        let passed = self.live.with_part(&self.inner, id, |part, _| {
            let passed = pass(part);
            part.fit();
            passed
        });
        self.passed(id, passed?.unwrap_or_default());
        Ok(())
    }

    fn passed(&self, id: PartitionId, ranges: Vec<Range<Offset>>) {
        let group = self.live.id;
        for range in ranges {
            add(
                &self.inner.counters.passed,
                (range.end.0 - range.start.0) as usize,
            );
            let partition = id;
            let operation = Operation::Pass {
                group,
                partition,
                range,
            };
            // Where this is not kept, they are passed again after a restart.
            self.inner.handle.submit(operation, |_| {});
        }
    }
}
