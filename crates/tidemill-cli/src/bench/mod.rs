//! A run of `tidemill bench`: publishers make load, handlers count what comes, and the report
//! says whether anything was lost, doubled or out of order, and how long it took.
//!
//! This room may not know how options are typed or how a report is shown.

mod ledger;
mod load;
mod meter;
mod pace;
mod payload;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidemill::{Bus, Event, GroupName, Handler, Order, Router, State, TopicName};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub(crate) use load::Door;
use load::{Load, Shared, TYPE};
use report::Ended;
pub(crate) use report::{Plan, Report, Sample};

use crate::failure::Failure;
use crate::limits::{BENCH_LISTEN_ON, BENCH_SILENCE};
use crate::target::Reader;

/// How often the run looks whether all has come.
const LOOK: Duration = Duration::from_millis(20);

/// Who takes the events in.
pub(crate) enum Intake {
    /// A dispatcher on the bus, in a consumer group of its own.
    Dispatcher(Bus, GroupName),
    /// Readers of all partitions: groups do not reach over the network yet.
    Readers(Reader),
}

/// Makes the load of `plan` and reports what became of it. `seen` is shown each second.
///
/// # Errors
/// When publishing or taking in could not begin; what breaks later stands in the report.
pub(crate) async fn run(
    plan: Plan,
    topic: TopicName,
    door: Door,
    intake: Intake,
    mut seen: impl FnMut(&Sample),
) -> Result<Report, Failure> {
    let shared = Arc::new(Shared {
        topic,
        begun: Instant::now(),
        ledger: ledger::Ledger::new(plan.keys),
        acks: meter::Meter::new(),
        handled: meter::Meter::new(),
        pushed_back: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        full: AtomicBool::new(false),
    });
    let (end_intake, ended) = oneshot::channel::<()>();
    let taking = take_in(&shared, &plan, intake, ended);
    let mut publishers = publishers(&shared, &plan, &door);
    let mut errors = Vec::new();
    let mut samples = Vec::new();
    let stop_at = shared.begun + plan.time;
    let mut quiet = Quiet::new();
    let mut published_at = None;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            Some(ended) = publishers.join_next() => errors.extend(failed(ended)),
        }
        let now = Instant::now();
        if now >= stop_at || plan.interrupted() || taking.is_finished() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        let second = samples.len() as u64 + 1;
        if now >= shared.begun + Duration::from_secs(second) {
            samples.push(Sample::take(second, &shared));
            samples.iter().next_back().into_iter().for_each(&mut seen);
        }
        if publishers.is_empty() {
            published_at.get_or_insert(now);
            if taking.is_finished() || quiet.over(&shared, now) {
                break;
            }
        }
    }
    // Nobody told it to: then nobody knows what would have come.
    let broke_off = taking.is_finished();
    let _ = end_intake.send(());
    errors.extend(ended_in_time(taking).await);
    samples.push(Sample::take(samples.len() as u64 + 1, &shared));
    let published_for = published_at.unwrap_or(stop_at) - shared.begun;
    let ended = Ended {
        published_for,
        broke_off,
        errors,
    };
    Ok(Report::new(plan, &shared, samples, ended))
}

/// Whether the intake is over: all has come and nothing came after it for a while, or nothing
/// more comes.
struct Quiet {
    delivered: u64,
    since: Instant,
    /// Since when all has come.
    complete: Option<Instant>,
}

impl Quiet {
    fn new() -> Self {
        Self {
            delivered: 0,
            since: Instant::now(),
            complete: None,
        }
    }

    fn over(&mut self, shared: &Shared, now: Instant) -> bool {
        let delivered = shared.ledger.delivered();
        if delivered >= shared.ledger.accepted() {
            // A double may still be on its way.
            return now - *self.complete.get_or_insert(now) > BENCH_LISTEN_ON;
        }
        if delivered != self.delivered {
            self.delivered = delivered;
            self.since = now;
        }
        now - self.since > BENCH_SILENCE
    }
}

/// Waits for the intake's end, and calls it off when it does not end.
async fn ended_in_time(mut taking: JoinHandle<Result<(), String>>) -> Option<String> {
    match tokio::time::timeout(BENCH_SILENCE, &mut taking).await {
        Ok(ended) => failed(ended),
        Err(_) => {
            taking.abort();
            let seconds = BENCH_SILENCE.as_secs();
            Some(format!(
                "the handlers' commits did not end within {seconds} s"
            ))
        }
    }
}

fn failed(ended: Result<Result<(), String>, tokio::task::JoinError>) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(why) => Some(why.to_string()),
    }
}

fn publishers(shared: &Arc<Shared>, plan: &Plan, door: &Door) -> JoinSet<Result<(), String>> {
    let mut set = JoinSet::new();
    let count = u32::from(plan.publishers);
    for n in 0..count {
        let keys = (n..plan.keys).step_by(count as usize);
        let rate = plan.rate.map(|rate| rate / f64::from(count));
        // The publishers take turns, so that a rate begins evenly too.
        let turn = plan.rate.map_or(0.0, |rate| f64::from(n) / rate);
        let begun = shared.begun + Duration::from_secs_f64(turn);
        let load = Load {
            shared: Arc::clone(shared),
            door: door.clone(),
            keys: keys.map(|key| (key, 0)).collect(),
            pace: pace::Pace::new(begun, rate, plan.batch),
            size_bytes: plan.size_bytes,
        };
        set.spawn(load.run());
    }
    set
}

fn take_in(
    shared: &Arc<Shared>,
    plan: &Plan,
    intake: Intake,
    ended: oneshot::Receiver<()>,
) -> JoinHandle<Result<(), String>> {
    let shared = Arc::clone(shared);
    let concurrency = plan.concurrency;
    let ended = async {
        let _ = ended.await;
    };
    match intake {
        Intake::Dispatcher(bus, group) => tokio::spawn(async move {
            let router = Router::new()
                .on_pattern(shared.topic.to_string(), TYPE, count.id("bench"))
                .with_state(shared);
            let served = tidemill::serve(bus, router)
                .group(group.as_str())
                .concurrency(concurrency)
                .ordering(Order::PerKey)
                .with_graceful_shutdown(ended)
                .await;
            served.map(|_| ()).map_err(|e| e.to_string())
        }),
        Intake::Readers(reader) => tokio::spawn(async move {
            let mut readers = JoinSet::new();
            for partition in reader.partitions() {
                readers.spawn(read_all(reader.only(partition), Arc::clone(&shared)));
            }
            tokio::select! {
                () = ended => Ok(()),
                Some(broken) = readers.join_next() => match broken {
                    Ok(Err(why)) => Err(why.to_string()),
                    Ok(Ok(never)) => match never {},
                    Err(why) => Err(why.to_string()),
                },
            }
        }),
    }
}

async fn count(State(shared): State<Arc<Shared>>, event: Event) {
    shared.handle(event.data().map_or(&[], |data| data));
}

async fn read_all(
    mut reader: Reader,
    shared: Arc<Shared>,
) -> Result<std::convert::Infallible, Failure> {
    loop {
        for read in reader.read().await? {
            shared.handle(read.event.data().map_or(&[], |data| data));
        }
    }
}
