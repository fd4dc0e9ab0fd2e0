//! The demo's source at work: publishes a file or generated traffic, at a pace, and never more
//! than the shop keeps up with. Knows no service.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemill::Bus;
use tidemill::core::PublishError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::MissedTickBehavior;

use super::DemoError;
use super::flight::Flight;
use super::input::Input;
use super::report::Replayed;
use crate::limits::{CHANGED_MAX, FLIGHT_MAX, SOURCE_BATCH_MAX};
use crate::replay::{Invoice, Invoices, ReplayError, Tally};
use crate::source::{Source, Traffic, Waiting, publish};

/// How often traffic is generated.
const TICK: Duration = Duration::from_millis(20);

/// How long a bus that is full is given before the next try.
const FULL_WAIT: Duration = Duration::from_millis(100);

/// How long a bus that takes nothing is tried once no more orders are wanted.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// How long a shop in which no order ends is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a feed needs.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) bus: Bus,
    pub(super) source: Source,
    pub(super) flight: Arc<Flight>,
    /// Orders that were on the bus before this process began. They may end, or have ended, before
    /// they are published again; what of them had not ended then is under way since then.
    pub(super) known: Arc<BTreeSet<i64>>,
    pub(super) published: Arc<AtomicU64>,
    /// How far a file came; a std lock that is never held across an await.
    pub(super) replayed: Arc<Mutex<Replayed>>,
    /// Why the bus took nothing at the last try; as above.
    pub(super) refusal: Arc<Mutex<Option<String>>>,
    /// True once no more orders are wanted. What was begun is finished first: an order that is
    /// waited for must have been published.
    pub(super) stop: watch::Receiver<bool>,
}

impl Feed {
    /// Publishes what the last process left over.
    pub(super) async fn left_over(&self) -> Result<(), DemoError> {
        let waiting = self.source.left_over().await?;
        for batch in waiting.chunks(SOURCE_BATCH_MAX) {
            self.send(batch).await?;
        }
        Ok(())
    }

    /// Resolves when no more orders are wanted.
    pub(super) async fn stopped(&self) {
        // An error means that the demo is gone, which stops too.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Publishes `rate` generated orders a second until it is stopped.
    pub(super) async fn traffic(&self, traffic: Traffic, rate: u32) -> Result<(), DemoError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = Instant::now();
        let mut due = 0.0_f64;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.stopped() => return Ok(()),
            }
            let now = Instant::now();
            // A second that could not be kept up with is not caught up on.
            due = (due + last.elapsed().as_secs_f64() * f64::from(rate)).min(f64::from(rate));
            last = now;
            while due >= 1.0 {
                let most = SOURCE_BATCH_MAX.min(due as usize) as u64;
                due -= most as f64;
                if !self.room().await? {
                    return Ok(());
                }
                let waiting = self.source.generate(traffic, most).await?;
                self.send(&waiting).await?;
            }
        }
    }

    /// Publishes a file, whose refused lines go to `rejects`, and waits for its orders to end.
    /// How far it came is kept as it goes.
    pub(super) async fn replay(&self, file: &Path, rejects: &Path) -> Result<(), DemoError> {
        let (batches, mut read) = mpsc::channel(2);
        let (file, rejects) = (file.to_owned(), rejects.to_owned());
        let stop = self.stop.clone();
        let reading = move || read_file(&file, stop, &rejects, &batches);
        let reading = tokio::task::spawn_blocking(reading);
        let sent = self.send_batches(&mut read).await;
        // Whatever ended it: the reader has let go of its files before this returns.
        drop(read);
        let whole = joined(reading.await)?;
        // A reader that is told to stop fails.
        if !sent? || (whole.is_err() && *self.stop.borrow()) {
            return Ok(());
        }
        if let Some((tally, aside)) = whole? {
            let placed = joined(tokio::task::spawn_blocking(|| aside.put_in_place()).await)?;
            placed.map_err(ReplayError::Io)?;
            self.note(|replayed| replayed.tally = Some(tally));
        }
        tokio::select! {
            _ = self.flight.down_to(0, PATIENCE) => {}
            () = self.stopped() => {}
        }
        Ok(())
    }

    /// Why the bus takes nothing at present.
    pub(super) fn refusal(&self) -> Option<String> {
        let refusal = self.refusal.lock();
        refusal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused(&self, why: Option<String>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn note(&self, change: impl FnOnce(&mut Replayed)) {
        change(&mut self.replayed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Publishes batch after batch; false when no more are wanted before the last one.
    async fn send_batches(&self, read: &mut mpsc::Receiver<Batch>) -> Result<bool, DemoError> {
        loop {
            let batch = tokio::select! {
                biased;
                () = self.stopped() => return Ok(false),
                batch = read.recv() => batch,
            };
            let Some(batch) = batch else {
                return Ok(true);
            };
            if !self.room().await? {
                return Ok(false);
            }
            let invoices = batch.invoices.len() as u64;
            let taken = self.source.take(batch.invoices).await?;
            self.send(&taken.waiting).await?;
            self.note(|replayed| {
                replayed.invoices += invoices;
                replayed.line = batch.through;
                replayed.changed += taken.changed.len() as u64;
                let room = CHANGED_MAX.saturating_sub(replayed.changed_invoices.len());
                let named = taken.changed.iter().take(room).map(ToString::to_string);
                replayed.changed_invoices.extend(named);
            });
        }
    }

    /// Waits until there is room for more orders; false when no more are wanted.
    async fn room(&self) -> Result<bool, DemoError> {
        tokio::select! {
            biased;
            () = self.stopped() => Ok(false),
            room = self.flight.down_to(FLIGHT_MAX, PATIENCE) => match room {
                true => Ok(true),
                false => Err(DemoError::Stuck(self.flight.open())),
            },
        }
    }

    async fn send(&self, waiting: &[Waiting]) -> Result<(), DemoError> {
        let Some(last) = waiting.last() else {
            return Ok(());
        };
        let now = Instant::now();
        let orders = waiting.iter().filter_map(|w| w.request.order_id());
        let new = orders.filter(|id| !self.known.contains(id));
        new.for_each(|id| self.flight.begin(id, now));
        let mut last_try: Option<Instant> = None;
        while let Err(error) = publish(&self.bus, waiting).await {
            if *self.stop.borrow() && last_try.is_none() {
                last_try = Some(Instant::now() + LAST_TRIES);
            }
            if !error.is_retriable() || last_try.is_some_and(|last| Instant::now() > last) {
                // What was to be published is kept, and is the first thing of the next demo.
                return Err(PublishError::into(error));
            }
            self.refused(Some(error.to_string()));
            tokio::time::sleep(FULL_WAIT).await;
        }
        self.refused(None);
        self.published
            .fetch_add(waiting.len() as u64, Ordering::Relaxed);
        self.source.published(last.seq).await?;
        Ok(())
    }
}

fn joined<T>(task: Result<T, JoinError>) -> Result<T, DemoError> {
    task.map_err(|error| DemoError::Ended(error.to_string()))
}

/// Invoices that are published together.
struct Batch {
    invoices: Vec<Invoice>,
    /// The last line of the file that they reach to.
    through: u64,
}

/// Reads the whole file and hands its invoices on in batches; `None` when nobody takes them any
/// more, and an error once `stop` is true. Blocks.
fn read_file(
    file: &Path,
    stop: watch::Receiver<bool>,
    rejects: &Path,
    batches: &mpsc::Sender<Batch>,
) -> Result<Option<(Tally, Aside)>, ReplayError> {
    let from = BufReader::new(Input::open(file, stop)?);
    if let Some(folder) = rejects.parent() {
        fs::create_dir_all(folder)?;
    }
    let aside = Aside::of(rejects);
    let mut invoices = Invoices::new(from, BufWriter::new(File::create(&aside.path)?))?;
    let mut batch = Vec::with_capacity(SOURCE_BATCH_MAX);
    loop {
        let next = invoices.next()?;
        let at_end = next.is_none();
        batch.extend(next);
        if batch.len() >= SOURCE_BATCH_MAX || at_end {
            let full = Batch {
                invoices: std::mem::take(&mut batch),
                through: invoices.through(),
            };
            if batches.blocking_send(full).is_err() {
                return Ok(None);
            }
        }
        if at_end {
            return Ok(Some((invoices.tally(), aside)));
        }
    }
}

/// The reject file in the making, beside its place: there is never half a reject file. It is gone
/// when this is dropped.
struct Aside {
    path: PathBuf,
    place: PathBuf,
}

impl Aside {
    fn of(place: &Path) -> Self {
        let mut name = place.as_os_str().to_owned();
        name.push(".part");
        Self {
            path: name.into(),
            place: place.to_owned(),
        }
    }

    fn put_in_place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It is not there where it was put in place, or was never begun.
        let _ = fs::remove_file(&self.path);
    }
}
