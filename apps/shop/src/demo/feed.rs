//! The demo's source at work: publishes a file or generated traffic, at a pace, and never more
//! than the shop keeps up with. Knows no service.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill::Bus;
use tidemill::core::PublishError;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::DemoError;
use super::flight::Flight;
use crate::limits::{FLIGHT_MAX, SOURCE_BATCH_MAX};
use crate::replay::{Invoice, Invoices, ReplayError, Tally};
use crate::source::{Source, Traffic, Waiting, publish};

/// How often traffic is generated.
const TICK: Duration = Duration::from_millis(20);

/// How long a bus that is full is given before the next try.
const FULL_WAIT: Duration = Duration::from_millis(100);

/// How long a shop in which no order ends is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a feed needs.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) bus: Bus,
    pub(super) source: Source,
    pub(super) flight: Arc<Flight>,
    pub(super) published: Arc<AtomicU64>,
    /// True once no more orders are wanted. What was begun is finished first: an order that is
    /// waited for must have been published.
    pub(super) stop: watch::Receiver<bool>,
}

impl Feed {
    /// Publishes what the last process left over; what of it has not ended is under way already.
    pub(super) async fn again(&self, left_over: &[Waiting]) -> Result<(), DemoError> {
        for batch in left_over.chunks(SOURCE_BATCH_MAX) {
            self.publish(batch).await?;
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

    /// Publishes a file, whose rejected lines go to `rejects`, and waits for its orders to end.
    /// Its tally, unless it was stopped.
    pub(super) async fn replay(
        &self,
        file: &Path,
        rejects: &Path,
    ) -> Result<Option<Tally>, DemoError> {
        let (batches, mut read) = mpsc::channel(2);
        let (file, rejects) = (file.to_owned(), rejects.to_owned());
        let reading = tokio::task::spawn_blocking(move || read_file(&file, &rejects, &batches));
        let sent = self.send_batches(&mut read).await;
        // Whatever ended it: the reader has let go of its files before this returns.
        drop(read);
        let tally = reading
            .await
            .map_err(|error| DemoError::Ended(error.to_string()))?;
        if !sent? {
            return Ok(None);
        }
        let tally = tally?;
        tokio::select! {
            _ = self.flight.down_to(0, PATIENCE) => {}
            () = self.stopped() => {}
        }
        Ok(tally)
    }

    /// Publishes batch after batch; false when no more are wanted before the last one.
    async fn send_batches(
        &self,
        read: &mut mpsc::Receiver<Vec<Invoice>>,
    ) -> Result<bool, DemoError> {
        while let Some(batch) = read.recv().await {
            if !self.room().await? {
                return Ok(false);
            }
            let waiting = self.source.take(batch).await?;
            self.send(&waiting).await?;
        }
        Ok(true)
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

    /// Publishes what was never published before.
    async fn send(&self, waiting: &[Waiting]) -> Result<(), DemoError> {
        let now = Instant::now();
        for order_id in waiting.iter().filter_map(|w| w.request.order_id()) {
            self.flight.begin(order_id, now);
        }
        self.publish(waiting).await
    }

    async fn publish(&self, waiting: &[Waiting]) -> Result<(), DemoError> {
        let Some(last) = waiting.last() else {
            return Ok(());
        };
        while let Err(error) = publish(&self.bus, waiting).await {
            if !error.is_retriable() {
                return Err(PublishError::into(error));
            }
            tokio::time::sleep(FULL_WAIT).await;
        }
        self.published
            .fetch_add(waiting.len() as u64, Ordering::Relaxed);
        self.source.published(last.seq).await?;
        Ok(())
    }
}

/// Reads the whole file and hands its invoices on in batches; `None` when nobody takes them any
/// more. Blocks.
fn read_file(
    file: &Path,
    rejects: &Path,
    batches: &mpsc::Sender<Vec<Invoice>>,
) -> Result<Option<Tally>, ReplayError> {
    let from = BufReader::new(File::open(file)?);
    if let Some(folder) = rejects.parent() {
        fs::create_dir_all(folder)?;
    }
    // Written aside and then put in place: there is never half a reject file.
    let aside = aside(rejects);
    let mut invoices = Invoices::new(from, BufWriter::new(File::create(&aside)?))?;
    let mut batch = Vec::with_capacity(SOURCE_BATCH_MAX);
    loop {
        let next = invoices.next()?;
        let at_end = next.is_none();
        batch.extend(next);
        if batch.len() >= SOURCE_BATCH_MAX || (at_end && !batch.is_empty()) {
            let full = std::mem::take(&mut batch);
            if batches.blocking_send(full).is_err() {
                drop(invoices);
                fs::remove_file(&aside)?;
                return Ok(None);
            }
        }
        if at_end {
            break;
        }
    }
    let tally = invoices.tally();
    drop(invoices);
    fs::rename(&aside, rejects)?;
    Ok(Some(tally))
}

fn aside(rejects: &Path) -> PathBuf {
    let mut name = rejects.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
