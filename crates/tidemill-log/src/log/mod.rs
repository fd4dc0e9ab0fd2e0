//! The log as a state machine that never calls the disk, the clock or a thread: operations come
//! in by [`Log::submit`], time by [`Log::tick`], and [`Log::poll`] says what is to be done.
//!
//! One commit is under way at a time, and beside it one background step. What a group of
//! operations does to readers and to the machine's durable state happens when its commit has
//! ended as the flush policy asks, before any of its receipts is handed out.

mod background;
mod checkpoint;
mod claims;
mod commit;
mod compaction;
mod entrance;
mod partition;
mod pin;
mod queue;
pub(crate) mod removal;
mod retention;
mod seal;
mod settled;
mod space;
mod store;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::Offset;
use tidemill_core::budget::{Class, Share};
use tidemill_core::error::Unavailable;

use crate::draft::Outlines;
use crate::error::CommitError;
use crate::io::{Action, Files, Io, IoFailure, IoId, Lane};
use crate::journal::writer::{JournalWriter, Wanted};
use crate::limits::{FULL_RETRY_AFTER, MARKER_AFTER};
use crate::machine::{Lsn, Machine, Now, PartitionId};
use crate::options::{FlushPolicy, Options};
use crate::reader::Reader;
use crate::stats::Counters;
use crate::superblock::Superblock;

use background::BackgroundJob;
use checkpoint::Checkpoint;
use commit::JournalJob;
use compaction::Compacting;
pub(crate) use entrance::{Entrance, Place};
pub use pin::PinId;
use pin::Pins;
use queue::{Queue, Waiting};
use removal::{Gone, Removals};
pub(crate) use retention::AgeClock;
use space::Space;
pub(crate) use store::Store;

/// How one operation ended.
pub type Outcome<M> = Result<<M as Machine>::Receipt, CommitError<<M as Machine>::Refusal>>;

/// What [`Log::poll`] wants done.
pub enum Step<M: Machine, T> {
    /// Run this and report its end with [`Log::finish`].
    Io(Io),
    /// An operation has ended.
    Done {
        /// What was given with it.
        token: T,
        /// How.
        outcome: Outcome<M>,
    },
    /// Readers see a partition up to here.
    Advanced {
        /// The partition.
        id: PartitionId,
        /// Its high watermark.
        end: Offset,
    },
    /// The log takes no more writes until it is opened again. Reads go on.
    Failed(Unavailable),
    /// Nothing until something is submitted or finished, or until this monotonic time.
    Idle {
        /// When to call [`Log::tick`] and [`Log::poll`] at the latest.
        wake_at: Option<Duration>,
    },
    /// Everything has ended after [`Log::close`].
    Closed,
}

/// Whether the log takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// There is no space for records; reads, and operations without records, go on. It ends by
    /// itself when there is space.
    Full(String),
    /// It takes nothing until it is opened again; reads go on.
    ReadOnly(Unavailable),
}

/// There was no space.
struct Full {
    why: String,
    retry_at: Duration,
}

/// The log. `T` is whatever the caller wants back when its operation ends.
pub struct Log<M: Machine, T> {
    options: Options,
    now: Now,
    machine: M,
    /// How far partitions reach, and their settings, as sealed.
    outlines: Outlines,
    store: Store,
    journal: JournalWriter,
    superblock: Superblock,
    queue: Queue<M::Operation, T>,
    entrance: Entrance,
    /// The memory of the tails and of the group under way.
    tails: Share,
    /// Bytes of records of the group under way, as was said before they were sealed.
    sealing_bytes: usize,
    /// The number of the next entry to be sealed.
    next: Lsn,
    /// Every entry up to here satisfies the flush policy.
    committed: Lsn,
    /// Every entry up to here is synced.
    synced: Lsn,
    /// Counts what was handed out.
    ios: u64,
    journal_io: Option<(IoId, JournalJob<M, T>)>,
    /// A step of the journal's lane that is handed out next.
    held: Option<Step<M, T>>,
    background_io: Option<(IoId, BackgroundJob)>,
    checkpoint: Option<Checkpoint>,
    /// Bytes that were written to the journal when the last checkpoint began.
    checkpoint_from: u64,
    compacting: Option<Compacting>,
    /// Partitions in which a compaction may not have ended before the log was opened.
    leftovers: VecDeque<PartitionId>,
    /// The last step in the background wrote segments.
    segments_were_last: bool,
    /// Steps in the background since the last one of a compaction.
    steps_since_compaction: u32,
    /// The newest snapshot holds everything up to here.
    snapshot_lsn: Lsn,
    /// What is to be removed from the disk.
    removals: Removals,
    /// What ages are judged by.
    clock: AgeClock,
    /// When to look for segments whose time has come.
    next_look: Duration,
    /// From when on a checkpoint may begin for the sake of what is to be compacted alone.
    next_naming: Duration,
    /// The partition that a look under way has reached.
    looked: Option<PartitionId>,
    pins: Pins,
    steps: VecDeque<Step<M, T>>,
    /// An operation waits for this much room in the journal.
    want_room: Option<Wanted>,
    /// An operation waits for the tails to be written out.
    want_tail: bool,
    /// Something in the background waits for a sync of the journal.
    want_sync: bool,
    /// The last commit is a marker, or nothing was committed yet.
    marked: bool,
    last_commit_at: Duration,
    last_sync_at: Duration,
    full: Option<Full>,
    space: Space,
    failed: Option<Unavailable>,
    closing: bool,
    /// A checkpoint was made after everything submitted was done.
    last_checkpoint: bool,
    counters: Arc<Counters>,
}

/// What recovery hands over.
pub(crate) struct Recovered<M> {
    pub(crate) options: Options,
    pub(crate) now: Now,
    pub(crate) machine: M,
    pub(crate) store: Store,
    pub(crate) journal: JournalWriter,
    pub(crate) superblock: Superblock,
    pub(crate) next: Lsn,
    pub(crate) snapshot_lsn: Lsn,
    pub(crate) snapshot_bytes: u64,
    pub(crate) clock: AgeClock,
    /// What the opening could not remove.
    pub(crate) stuck: Vec<Gone>,
}

impl<M: Machine, T> Log<M, T> {
    pub(crate) fn new(recovered: Recovered<M>) -> Self {
        let last = Lsn(recovered.next.0 - 1);
        let mut removals = Removals::default();
        removals.stuck(recovered.stuck);
        let mut tails = recovered.options.memory.empty(Class::Tails);
        tails.grow_anyway(recovered.store.tail_bytes);
        let partitions = recovered.store.partitions.values();
        let compacts = partitions.filter(|one| one.settings.cleanup.compacts());
        let leftovers = compacts.map(|one| one.id).collect();
        Self {
            entrance: Entrance::new(&recovered.options.memory),
            tails,
            sealing_bytes: 0,
            options: recovered.options,
            now: recovered.now,
            machine: recovered.machine,
            outlines: recovered.store.outlines(),
            store: recovered.store,
            journal: recovered.journal,
            superblock: recovered.superblock,
            queue: Queue::new(),
            next: recovered.next,
            committed: last,
            synced: last,
            ios: 0,
            journal_io: None,
            held: None,
            background_io: None,
            checkpoint: None,
            checkpoint_from: 0,
            compacting: None,
            leftovers,
            segments_were_last: false,
            steps_since_compaction: 0,
            snapshot_lsn: recovered.snapshot_lsn,
            removals,
            clock: recovered.clock,
            next_look: recovered.now.monotonic,
            next_naming: recovered.now.monotonic,
            looked: None,
            pins: Pins::default(),
            steps: VecDeque::new(),
            want_room: None,
            want_tail: false,
            want_sync: false,
            marked: true,
            last_commit_at: recovered.now.monotonic,
            last_sync_at: recovered.now.monotonic,
            full: None,
            space: Space::new(recovered.snapshot_bytes),
            failed: None,
            closing: false,
            last_checkpoint: false,
            counters: Arc::default(),
        }
    }

    /// Hands in an operation. Its end comes as [`Step::Done`] with `token`; at once as
    /// [`Unavailable::Overloaded`] where too much waits already: what waits has a part of
    /// [`Options::memory`], of which no lane takes more than it leaves to others.
    pub fn submit(&mut self, operation: M::Operation, token: T) {
        let now = self.now.monotonic;
        let place = self.entrance.enter(&M::demand(&operation), || now);
        self.submit_at(operation, token, place);
    }

    /// Who lets operations in for [`Log::submit_at`].
    pub(crate) fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// As [`Log::submit`], with the operation's place where it has one.
    pub(crate) fn submit_at(&mut self, operation: M::Operation, token: T, place: Option<Place>) {
        let refused = if let Some(why) = &self.failed {
            Some(why.clone())
        } else if self.closing {
            Some(Unavailable::Closed)
        } else {
            None
        };
        if let Some(why) = refused {
            return self.refuse(token, why);
        }
        let Some(place) = place else {
            return self.refuse(token, Unavailable::Overloaded);
        };
        self.queue.push(Waiting {
            demand: M::demand(&operation),
            operation,
            token,
            place,
        });
    }

    fn refuse(&mut self, token: T, why: Unavailable) {
        let outcome = Err(CommitError::Unavailable(why));
        self.steps.push_back(Step::Done { token, outcome });
    }

    /// Says what time it is. Time never goes back: an earlier monotonic time is ignored.
    pub fn tick(&mut self, now: Now) {
        if now.monotonic >= self.now.monotonic {
            self.now = now;
            self.clock.tick(now);
        }
    }

    /// Says what is to be done next. To be called until it answers [`Step::Idle`] or
    /// [`Step::Closed`].
    pub fn poll(&mut self) -> Step<M, T> {
        if let Some(step) = self.steps.pop_front() {
            return step;
        }
        if self.failed.is_none()
            && let Some(io) = self.next_io()
        {
            return io;
        }
        if let Some(step) = self.steps.pop_front() {
            return step;
        }
        if self.closing && self.has_ended() {
            return Step::Closed;
        }
        Step::Idle {
            wake_at: self.wake_at(),
        }
    }

    fn next_io(&mut self) -> Option<Step<M, T>> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let journal = self.next_journal_io();
        // The background's thread works beside the journal's, so it is sent off first: where
        // something always waits for a commit, it would never have its turn.
        if self.background_io.is_none()
            && let Some((job, actions)) = self.background_step()
        {
            let (id, io) = self.io(Lane::Background, actions);
            self.background_io = Some((id, job));
            self.held = journal;
            return Some(io);
        }
        // The background may have asked for a segment or a sync of the journal.
        journal.or_else(|| self.next_journal_io())
    }

    fn next_journal_io(&mut self) -> Option<Step<M, T>> {
        if self.journal_io.is_some() {
            return None;
        }
        let (job, actions) = self.journal_step()?;
        let (id, io) = self.io(Lane::Journal, actions);
        self.journal_io = Some((id, job));
        Some(io)
    }

    fn io(&mut self, lane: Lane, actions: Vec<Action>) -> (IoId, Step<M, T>) {
        self.ios += 1;
        let id = IoId(self.ios);
        (id, Step::Io(Io { id, lane, actions }))
    }

    /// Reports the end of an [`Io`]. One that is not under way is ignored.
    pub fn finish(&mut self, id: IoId, result: Result<(), IoFailure>) {
        if let Some((_, job)) = self.journal_io.take_if(|(own, _)| *own == id) {
            match result {
                Ok(()) => self.committed_job(job),
                Err(failure) => self.failed_job(job, &failure),
            }
        } else if let Some((_, job)) = self.background_io.take_if(|(own, _)| *own == id) {
            match result {
                Ok(()) => self.finished_background(job),
                Err(failure) if matches!(job, BackgroundJob::Remove) => {
                    // The next opening tries again; nothing depends on it.
                    tracing::warn!(%failure, "something that is no longer needed stays");
                    self.removals.finished(false);
                }
                Err(failure) if matches!(job, BackgroundJob::Leftovers) => {
                    tracing::warn!(%failure, "what a compaction did not end stays");
                }
                Err(failure) if failure.is_full() => self.background_full(&job, &failure),
                Err(failure) => self.fail(&failure.to_string()),
            }
        }
    }

    /// Ends the log: what was submitted is still done, a checkpoint is made, then
    /// [`Log::poll`] answers [`Step::Closed`].
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether the log takes writes.
    #[must_use]
    pub fn health(&self) -> Health {
        match (&self.failed, self.why_full()) {
            (Some(why), _) => Health::ReadOnly(why.clone()),
            (None, Some(why)) => Health::Full(why.to_owned()),
            (None, None) => Health::Ready,
        }
    }

    /// Why records are refused, if they are.
    fn why_full(&self) -> Option<&str> {
        let full = self.full.as_ref().map(|full| &full.why);
        let short = self.space.short.as_ref().map(|short| &short.why);
        full.or(short).map(String::as_str)
    }

    /// A reader of what is committed, with its own open files.
    #[must_use]
    pub fn reader(&self, files: Arc<Files>) -> Reader {
        Reader::new(self.store.registry.clone(), files)
    }

    /// What the log has done, to be read at any time.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// The incarnation: how often this log was opened, this time included.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.journal.epoch
    }

    /// The identity of this log: of its data, over all openings.
    pub fn id(&self) -> uuid::Uuid {
        self.superblock.log
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// A sync failed, or a write where there was space: nothing more is written.
    fn fail(&mut self, why: &str) {
        if self.failed.is_some() {
            return;
        }
        let sync_failed = Unavailable::SyncFailed(why.to_owned());
        self.failed = Some(sync_failed.clone());
        self.steps.push_back(Step::Failed(sync_failed.clone()));
        if self.held.take().is_some()
            && let Some((_, job)) = self.journal_io.take()
        {
            self.give_up_job(job, why);
        }
        while let Some(waiting) = self.queue.pop(true) {
            self.refuse(waiting.token, sync_failed.clone());
        }
    }

    fn background_full(&mut self, job: &BackgroundJob, failure: &IoFailure) {
        self.checkpoint = None;
        self.removals.not_synced();
        match job {
            BackgroundJob::Segments(parts) => self.store.requeue(parts),
            BackgroundJob::Compaction(_) => self.give_up_compaction(),
            BackgroundJob::Zero { .. } => {
                // What is in segments already may make room without it.
                if let Some(begun) = self.journal.give_up_making() {
                    self.removals.file(begun);
                }
            }
            _ => {}
        }
        self.full = Some(Full {
            why: failure.to_string(),
            retry_at: self.now.monotonic + FULL_RETRY_AFTER,
        });
    }

    /// Whether background writes are to be tried: not while a full disk was seen just now.
    fn may_write(&self) -> bool {
        self.full
            .as_ref()
            .is_none_or(|full| full.retry_at <= self.now.monotonic)
    }

    fn has_ended(&self) -> bool {
        let idle = self.journal_io.is_none() && self.background_io.is_none();
        let done = self.queue.is_empty() && self.checkpoint.is_none() && self.is_clean();
        idle && (self.failed.is_some() || self.full.is_some() || done)
    }

    /// Whether the newest snapshot and synced segments hold everything; or, where so many
    /// partitions have something to sync that it would take long, the snapshot alone does: the
    /// journal has the rest.
    fn is_clean(&self) -> bool {
        let in_segments = self.store.oldest_dirty().is_none() || self.last_checkpoint;
        self.snapshot_lsn >= self.committed && in_segments
    }

    fn wake_at(&self) -> Option<Duration> {
        if self.failed.is_some() {
            return None;
        }
        let journal_waits = self.journal_io.is_none();
        let marker = (journal_waits && !self.marked).then_some(self.last_commit_at + MARKER_AFTER);
        let sync = match self.options.flush {
            FlushPolicy::Interval(every) if journal_waits && self.synced < self.committed => {
                Some(self.last_sync_at + every)
            }
            _ => None,
        };
        let full = self.full.as_ref().map(|full| full.retry_at);
        let retry = full.or(self.space.look_at());
        let due = (!self.store.watched.is_empty()).then_some(self.next_look);
        let background = [retry, due].into_iter().flatten().min();
        let background = background.filter(|_| self.background_io.is_none());
        [marker, sync, background].into_iter().flatten().min()
    }
}

impl<M: Machine, T> fmt::Debug for Log<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("next", &self.next)
            .field("committed", &self.committed)
            .field("synced", &self.synced)
            .field("partitions", &self.store.partitions.len())
            .field("waiting", &self.queue.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
