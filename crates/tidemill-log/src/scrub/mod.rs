//! Scrubbing: closed segments are read again, slowly, and every checksum is checked, so that
//! damage is known before somebody needs what it hit.
//!
//! A state machine without I/O beside the log's own: [`Scrubber::poll`] says what to read or how
//! long to wait, [`ScrubRead::run`] reads, [`Scrubber::finish`] takes what was found. It sees
//! what readers see and writes nothing, so the log neither waits for it nor learns from it.
//! Nothing here ends the log, mends anything, or knows a thread.

mod read;
mod report;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::limits::{SCRUB_DAMAGE_MAX, SCRUB_PASS_EVERY};
use crate::machine::{Now, PartitionId};
use crate::reader::Reader;
use crate::segment::SegmentView;
use crate::stats::{self, Counters};
use crate::view::Registry;

pub use read::{ScrubFound, ScrubRead};
pub use report::{Damage, ScrubReport, Verified};

use read::Place;
use report::Record;

/// What [`Scrubber::poll`] wants done.
#[derive(Debug)]
pub enum ScrubStep {
    /// Run this and hand its answer to [`Scrubber::finish`].
    Read(ScrubRead),
    /// Nothing for so long.
    Wait(Duration),
}

/// What is shared with whoever asks how the scrubbing goes.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Record>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Record> {
        // Each change of the record is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it goes.
    pub(crate) fn report(&self) -> ScrubReport {
        self.lock().report()
    }
}

/// A partition that is gone through.
#[derive(Debug)]
struct Walk {
    id: PartitionId,
    segments: Arc<Vec<SegmentView>>,
    index: usize,
    at: Place,
}

/// See the module.
#[derive(Debug)]
pub struct Scrubber {
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    bytes_per_second: u64,
    now: Now,
    /// The next read may begin then.
    next_at: Duration,
    /// When the pass that goes on has begun; `None` between two.
    began: Option<(Duration, Timestamp)>,
    next_pass_at: Duration,
    /// Partitions that this pass has still to go through.
    left: VecDeque<PartitionId>,
    walk: Option<Walk>,
}

impl Scrubber {
    /// Goes through what `reader` sees, reading at most so many bytes a second on the average.
    /// It counts in `counters`, as of [`crate::Log::counters`].
    #[must_use]
    pub fn new(reader: &Reader, counters: Arc<Counters>, bytes_per_second: u64) -> Self {
        Self {
            registry: reader.registry().clone(),
            counters,
            shared: Arc::default(),
            bytes_per_second: bytes_per_second.max(1),
            now: Now {
                wall: Timestamp::UNIX_EPOCH,
                monotonic: Duration::ZERO,
            },
            next_at: Duration::ZERO,
            began: None,
            next_pass_at: Duration::ZERO,
            left: VecDeque::new(),
            walk: None,
        }
    }

    /// How it goes.
    #[must_use]
    pub fn report(&self) -> ScrubReport {
        self.shared.report()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Says what is to be done next. Time never goes back.
    pub fn poll(&mut self, now: Now) -> ScrubStep {
        if now.monotonic >= self.now.monotonic {
            self.now = now;
        }
        let now = self.now.monotonic;
        if now < self.next_at {
            return ScrubStep::Wait(self.next_at - now);
        }
        if self.began.is_none() {
            if now < self.next_pass_at {
                return ScrubStep::Wait(self.next_pass_at - now);
            }
            self.begin();
        }
        match self.next_read() {
            Some(read) => ScrubStep::Read(read),
            None => ScrubStep::Wait(self.end()),
        }
    }

    fn begin(&mut self) {
        self.began = Some((self.now.monotonic, self.now.wall));
        self.left = self.registry.ids().into();
        self.shared.lock().begin(&self.left);
    }

    /// Everything was gone through; answers how long it is to the next pass.
    fn end(&mut self) -> Duration {
        if let Some((began, _)) = self.began.take() {
            self.next_pass_at = began + SCRUB_PASS_EVERY;
            let damaged = self.shared.lock().end();
            stats::set(&self.counters.scrub_damaged, damaged);
            stats::add(&self.counters.scrub_passes, 1);
        }
        self.next_pass_at
            .saturating_sub(self.now.monotonic)
            .max(Duration::from_millis(1))
    }

    fn next_read(&mut self) -> Option<ScrubRead> {
        loop {
            if let Some(walk) = &self.walk {
                if let Some(segment) = walk.segments.get(walk.index) {
                    return Some(ScrubRead::new(walk.id, segment.clone(), walk.at));
                }
                let id = walk.id;
                self.walk = None;
                if let Some((_, began)) = self.began {
                    self.shared.lock().passed(id, began);
                }
            }
            let id = self.left.pop_front()?;
            let Some(view) = self.registry.get(id) else {
                continue;
            };
            let segments = view.closed();
            let Some(first) = segments.first() else {
                continue;
            };
            let at = Place::first(first);
            self.walk = Some(Walk {
                id,
                segments,
                index: 0,
                at,
            });
        }
    }

    /// Takes what a read has found.
    pub fn finish(&mut self, found: ScrubFound) {
        let cost = found.bytes.saturating_mul(1_000_000) / self.bytes_per_second;
        self.next_at = self.now.monotonic + Duration::from_micros(cost);
        stats::add(&self.counters.scrubbed_bytes, found.bytes);
        let Some(walk) = self.walk.as_mut().filter(|walk| walk.id == found.id) else {
            return;
        };
        let Some(segment) = walk.segments.get(walk.index) else {
            return;
        };
        let kept = self.registry.get(walk.id).is_some_and(|view| {
            let is_it = |other: &SegmentView| other.log_path == segment.log_path;
            view.closed().iter().any(is_it)
        });
        match found.next {
            Some(next) if kept => walk.at = next,
            _ => {
                walk.index += 1;
                if let Some(next) = walk.segments.get(walk.index) {
                    walk.at = Place::first(next);
                }
            }
        }
        let mut record = self.shared.lock();
        record.bytes += found.bytes;
        if !kept {
            // It was deleted meanwhile: what is missing of it is no damage.
            return;
        }
        record.verified(found.id, found.through);
        for damage in found.damage {
            if record.add(&damage, SCRUB_DAMAGE_MAX) {
                tracing::error!(
                    file = %damage.file,
                    byte = damage.byte,
                    partition = %damage.id,
                    from = damage.offsets.start.0,
                    until = damage.offsets.end.0,
                    why = %damage.why,
                    "a closed segment is damaged; restore it from a backup, or see `tidemill log \
                     verify`"
                );
            }
        }
        stats::set(&self.counters.scrub_damaged, record.damaged());
    }
}
