//! What intake and workers share: the queue behind its lock, and who is woken when.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::{Delivery, GroupName, Order, Settlement};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backoff::jittered;
use super::delay::Delays;
use super::error::ServeError;
use super::hooks::{Counter, Counters, Hooks};
use super::queue::{LaneKey, LaneOf, Queue, Taken};
use crate::app::App;

/// One event on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) delivery: Delivery,
    pub(super) settlement: Settlement,
    /// When it was added to the queue.
    pub(super) added: Instant,
    /// When it was first tried; known once a try failed.
    pub(super) first_try: Option<Timestamp>,
}

/// What does not change while the dispatcher runs.
pub(crate) struct Settings {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) group: GroupName,
    pub(crate) order: Order,
    pub(crate) concurrency: usize,
    /// Most events taken in and not settled.
    pub(crate) capacity: usize,
    pub(crate) grace: Duration,
    pub(crate) jitter_seed: u64,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
}

/// The queue and who works on it.
#[derive(Debug, Default)]
struct Work {
    queue: Queue<Job>,
    /// Workers that there are.
    workers: usize,
    /// Workers that wait for work.
    idle: usize,
    /// Whether intake waits for room.
    intake_waits: bool,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) app: App,
    pub(super) counters: Counters,
    /// How many waits were planned: the jitter's counter.
    jitters: Counter,
    /// Settlements that wait before another try.
    pub(super) delays: Delays,
    /// A std lock, held for a few instructions and never across an await.
    work: Mutex<Work>,
    /// Tells one idle worker of work each time.
    work_there: Notify,
    /// Tells intake that there is room.
    room_there: Notify,
    /// Tells intake that more workers are of use.
    hands_needed: Notify,
    /// Tells the timer that an item with a time was put back.
    pub(super) delay_added: Notify,
    /// Whether the dispatcher is to end.
    stop: watch::Sender<bool>,
    /// The first error that ends it.
    fatal: Mutex<Option<ServeError>>,
    began: Instant,
}

impl Shared {
    pub(super) fn new(settings: Settings, app: App) -> Self {
        Self {
            settings,
            app,
            counters: Counters::default(),
            jitters: Counter::default(),
            delays: Delays::default(),
            work: Mutex::default(),
            work_there: Notify::new(),
            room_there: Notify::new(),
            hands_needed: Notify::new(),
            delay_added: Notify::new(),
            stop: watch::Sender::new(false),
            fatal: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// `wait` and a little more, another each time.
    pub(super) fn jittered(&self, wait: Duration) -> Duration {
        let number = self.jitters.get();
        self.jitters.add(1);
        jittered(wait, self.settings.jitter_seed, number)
    }

    /// Nothing in there can be left half done by a panic: it has no code of others.
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that wait, and events that run.
    pub(super) fn lengths(&self) -> (usize, usize) {
        let work = self.work();
        (work.queue.waiting(), work.queue.running())
    }

    /// Step one: adds events to the queue and wakes who is needed.
    pub(super) fn add(&self, batch: Vec<(Delivery, Settlement)>) {
        let added = Instant::now();
        let count = batch.len();
        // A closed queue's items are dropped, and so given back, outside of the lock.
        let mut refused = Vec::new();
        let mut work = self.work();
        for (delivery, settlement) in batch {
            let key = LaneKey::of(self.settings.order, &delivery);
            let job = Job {
                delivery,
                settlement,
                added,
                first_try: None,
            };
            refused.extend(work.queue.push(key, job).err());
        }
        self.wake_workers(work);
        self.counters.added.add(count - refused.len());
        if let Some(hooks) = &self.settings.hooks {
            hooks.added(count - refused.len());
        }
    }

    /// How many events intake may ask for; none where it is better to wait for more room. It is
    /// told by [`Shared::room`] when that has changed.
    pub(super) fn credit(&self) -> usize {
        let mut work = self.work();
        let credit = self.credit_of(&work);
        work.intake_waits = credit == 0;
        credit
    }

    /// Pieces are asked for, not crumbs: at least a quarter of the capacity, or whatever is free
    /// when otherwise workers would be idle.
    fn credit_of(&self, work: &Work) -> usize {
        let free = self.settings.capacity.saturating_sub(work.queue.held());
        let enough = free >= (self.settings.capacity / 4).max(1);
        if enough || work.queue.ready() == 0 {
            free
        } else {
            0
        }
    }

    /// Resolves when [`Shared::credit`] may have more to give.
    pub(super) async fn room(&self) {
        self.room_there.notified().await;
    }

    /// Resolves when [`Shared::hire`] may answer more than 0.
    pub(super) async fn hands(&self) {
        self.hands_needed.notified().await;
    }

    /// How many workers are to be started now; they count from now on.
    pub(super) fn hire(&self) -> usize {
        let mut work = self.work();
        let wanted = work.queue.ready().saturating_sub(work.idle);
        let hired = wanted.min(self.settings.concurrency - work.workers);
        work.workers += hired;
        hired
    }

    /// Step two: the next event in line, once there is one; none when the dispatcher ends.
    pub(super) async fn next(&self) -> Option<Taken<Job>> {
        loop {
            let mut told = std::pin::pin!(self.work_there.notified());
            {
                let mut work = self.work();
                if let Some(taken) = self.take(&mut work) {
                    return Some(taken);
                }
                if work.queue.is_closed() {
                    work.workers -= 1;
                    return None;
                }
                // From here on a call of `wake_workers` reaches this one.
                told.as_mut().enable();
                work.idle += 1;
            }
            let idle = Idle(self);
            told.await;
            drop(idle);
        }
    }

    /// The event of `lane` is done with; answers the next one, if there is one.
    pub(super) fn done(&self, lane: LaneOf) -> Option<Taken<Job>> {
        let mut work = self.work();
        work.queue.done(lane);
        self.take(&mut work)
    }

    /// Takes the next event, and tells intake where that makes room: a free place counts as room
    /// once nothing is left that could run, so what is taken can make some, as what is done does.
    fn take(&self, work: &mut Work) -> Option<Taken<Job>> {
        let taken = work.queue.take();
        if work.intake_waits && self.credit_of(work) > 0 {
            work.intake_waits = false;
            self.room_there.notify_one();
        }
        taken
    }

    /// The event is to run again after `wait`; answers another one, if there is one.
    pub(super) fn put_back(&self, taken: Taken<Job>, wait: Duration) -> Option<Taken<Job>> {
        let due = self.began.elapsed().saturating_add(wait);
        let mut work = self.work();
        let refused = work.queue.put_back(taken, due);
        let next = self.take(&mut work);
        // Its settlement is given back outside of the lock.
        drop(work);
        if refused.is_ok() {
            self.delay_added.notify_one();
        }
        next
    }

    /// Frees what waited long enough; answers how long it is to the next one.
    pub(super) fn wake_delayed(&self) -> Option<Duration> {
        let now = self.began.elapsed();
        let mut work = self.work();
        let due = work.queue.wake(now);
        self.wake_workers(work);
        due.map(|due| due.saturating_sub(now))
    }

    fn wake_workers(&self, work: MutexGuard<'_, Work>) {
        let ready = work.queue.ready();
        let wake = ready.min(work.idle);
        let hire = ready > wake && work.workers < self.settings.concurrency;
        drop(work);
        for _ in 0..wake {
            self.work_there.notify_one();
        }
        if hire {
            self.hands_needed.notify_one();
        }
    }

    /// Ends the dispatcher because of `error`; the first one counts.
    pub(super) fn fail(&self, error: ServeError) {
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.get_or_insert(error);
        drop(fatal);
        self.stop.send_replace(true);
    }

    /// The error that ended the dispatcher, where one did.
    pub(super) fn take_error(&self) -> Option<ServeError> {
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.take()
    }

    /// Begins the end: nothing more is begun, what waits is given back to the bus.
    pub(super) fn close(&self) {
        self.stop.send_replace(true);
        let waiting = self.work().queue.close();
        drop(waiting);
        self.work_there.notify_waiters();
    }

    /// Resolves when the dispatcher is to end.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// Counts an idle worker down, also one that is cancelled while it waits.
struct Idle<'a>(&'a Shared);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.work().idle -= 1;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, running) = self.lengths();
        f.debug_struct("Dispatcher")
            .field("id", &self.settings.id)
            .field("name", &self.settings.name)
            .field("group", &self.settings.group)
            .field("waiting", &waiting)
            .field("running", &running)
            .finish_non_exhaustive()
    }
}
