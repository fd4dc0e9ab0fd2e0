//! The handle on an open log.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tidemill_core::error::Unavailable;
use uuid::Uuid;

use super::Observer;
use super::clock::Clock;
use super::inbox::{Inbox, NotTaken};
use super::scrub;
use super::threads::{LogThread, Submission, background};
use crate::disk::DiskLock;
use crate::error::{CommitError, OpenError};
use crate::io::Files;
use crate::log::{Entrance, Health, Log, Outcome};
use crate::machine::Machine;
use crate::reader::Reader;
use crate::scrub::{ScrubReport, Scrubber, Shared};
use crate::stats::{Counters, Stats};

/// An open log. Clones share it; when the last one is dropped without [`Handle::close`], what
/// was submitted is still done, and the log ends by itself.
pub struct Handle<M: Machine>(Arc<Inner<M>>);

struct Inner<M: Machine> {
    inbox: Arc<Inbox<Submission<M>>>,
    entrance: Entrance,
    clock: Clock,
    reader: Reader,
    epoch: u64,
    after_bad_end: bool,
    /// Something was handled in this life.
    handling: Arc<AtomicBool>,
    id: Uuid,
    counters: Arc<Counters>,
    /// Written by the log's thread, read without a lock.
    health: Arc<ArcSwap<Health>>,
    scrub: Option<Arc<Shared>>,
    /// The scrubbing ends when this is dropped.
    scrub_on: Mutex<Option<mpsc::Sender<()>>>,
    /// Taken by the first to close, who waits for them.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<M: Machine> Handle<M> {
    pub(super) fn start(
        log: Log<M, super::threads::Done<M>>,
        reader: Reader,
        files: Arc<Files>,
        clock: Clock,
        lock: DiskLock,
        observer: Arc<dyn Observer>,
        scrubber: Option<Scrubber>,
    ) -> Result<Self, OpenError> {
        let inbox = Arc::new(Inbox::new());
        let health = Arc::new(ArcSwap::from_pointee(log.health()));
        let (epoch, id) = (log.epoch(), log.id());
        let after_bad_end = lock.after_bad_end();
        let handling = Arc::new(AtomicBool::new(false));
        let entrance = log.entrance().clone();
        let counters = log.counters();
        let (sender, steps) = mpsc::channel();
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let start = OpenError::io("start the log's threads");
        let readers = reader.files().clone();
        let (their_files, their_inbox) = (files.clone(), inbox.clone());
        let worker = named("tidemill-segments")
            .spawn(move || background::<M>(&steps, &their_files, &readers, &their_inbox));
        let thread = LogThread {
            log,
            inbox: inbox.clone(),
            files,
            clock,
            observer,
            health: health.clone(),
            background: sender,
            lock,
            handling: handling.clone(),
        };
        let scrub = scrubber.as_ref().map(Scrubber::shared);
        let (scrub_on, off) = mpsc::channel();
        let scrub_disk = reader.files().disk().clone();
        let threads = worker.and_then(|worker| {
            let log = named("tidemill-log").spawn(move || thread.run())?;
            let mut threads = vec![log, worker];
            if let Some(scrubber) = scrubber {
                let run = move || scrub::run(scrubber, scrub_disk.as_ref(), clock, &off);
                threads.push(named("tidemill-scrub").spawn(run)?);
            }
            Ok(threads)
        });
        Ok(Self(Arc::new(Inner {
            inbox,
            entrance,
            clock,
            reader,
            epoch,
            after_bad_end,
            handling,
            id,
            counters,
            health,
            scrub,
            scrub_on: Mutex::new(Some(scrub_on)),
            threads: Mutex::new(threads.map_err(start)?),
        })))
    }

    /// Hands in an operation. `done` is called exactly once, on the log's thread or, where too
    /// much waits (see [`Log::submit`]) or the log is closed, at once on this one: it must be short
    /// and must not block. Operations of one lane are sealed in the order in which one thread
    /// hands them in.
    pub fn submit(&self, operation: M::Operation, done: impl FnOnce(Outcome<M>) + Send + 'static) {
        let now = || self.0.clock.now().monotonic;
        let Some(place) = self.0.entrance.enter(&M::demand(&operation), now) else {
            let why = match self.0.inbox.is_closed() {
                true => Unavailable::Closed,
                false => Unavailable::Overloaded,
            };
            return done(Err(CommitError::Unavailable(why)));
        };
        let submission = Submission {
            operation,
            done: Box::new(done),
            place,
        };
        if let Err(NotTaken(submission)) = self.0.inbox.push(submission) {
            (submission.done)(Err(CommitError::Unavailable(Unavailable::Closed)));
        }
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox<Submission<M>>> {
        &self.0.inbox
    }

    /// Reads what is committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    /// Whether the log takes writes.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::clone(&self.0.health.load())
    }

    /// What the log has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.read()
    }

    /// How the scrubbing goes; `None` where it is off.
    #[must_use]
    pub fn scrub(&self) -> Option<ScrubReport> {
        self.0.scrub.as_ref().map(|shared| shared.report())
    }

    /// The incarnation: how often this log was opened, this time included.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Whether the process that wrote before this one died, or went away without closing the
    /// log, as far as the disk knows. It stays so over good ends of those who did not say
    /// [`Handle::handling`] what they had it for: they have not shown that it goes well.
    #[must_use]
    pub fn after_bad_end(&self) -> bool {
        self.0.after_bad_end
    }

    /// From now on this life does what the one before may have died of: its good end counts.
    pub fn handling(&self) {
        self.0.handling.store(true, Ordering::Release);
    }

    /// The identity of the log's data, the same at every opening.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// Does what was submitted, makes a checkpoint, gives the disk free. Blocks until then.
    /// Reads go on afterwards. Must not be called from a receipt's callback.
    pub fn close(&self) {
        self.0.inbox.close();
        self.0.join();
    }
}

impl<M: Machine> Inner<M> {
    fn join(&self) {
        let mut scrub_on = self.scrub_on.lock().unwrap_or_else(PoisonError::into_inner);
        drop(scrub_on.take());
        // Held while waiting, so that every caller returns after the end.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log has panicked");
            }
        }
    }
}

impl<M: Machine> Drop for Inner<M> {
    fn drop(&mut self) {
        self.inbox.close();
        // However the threads end, this one shall.
        drop(
            self.scrub_on
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let threads = self
            .threads
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let own = thread::current().id();
        // The last handle may be held by a receipt's callback: the threads end by themselves.
        if threads.iter().all(|thread| thread.thread().id() != own) {
            self.join();
        }
    }
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
