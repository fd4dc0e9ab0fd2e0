//! What was asked of a run and what came out, as JSON and as a table for people.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::ledger::Counts;
use super::load::Shared;
use super::meter::Percentiles;

/// What a run is to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// Where: `memory`, a folder or a URL.
    pub(crate) place: String,
    #[serde(serialize_with = "seconds")]
    pub(crate) time: Duration,
    /// Events a second of all publishers together; flat out without.
    pub(crate) rate: Option<f64>,
    pub(crate) size_bytes: usize,
    pub(crate) keys: u32,
    pub(crate) partitions: u32,
    pub(crate) publishers: u16,
    /// Most events of one publishing call.
    pub(crate) batch: u64,
    /// Handlers at work at a time.
    pub(crate) concurrency: usize,
    /// Becomes true when the run is to end early.
    #[serde(skip)]
    pub(crate) interrupt: Arc<AtomicBool>,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

impl Plan {
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    /// From 1. The last one may be shorter than a second.
    pub(crate) second: u64,
    pub(crate) accepted: u64,
    pub(crate) handled: u64,
    /// Accepted and not handled yet, at the end of the second.
    pub(crate) waiting: u64,
    pub(crate) publish_us: Percentiles,
    pub(crate) end_to_end_us: Percentiles,
}

impl Sample {
    pub(super) fn take(second: u64, shared: &Shared) -> Self {
        let (accepted, publish_us) = shared.acks.tick();
        let (handled, end_to_end_us) = shared.handled.tick();
        Self {
            second,
            accepted,
            handled,
            waiting: shared
                .ledger
                .accepted()
                .saturating_sub(shared.ledger.delivered()),
            publish_us,
            end_to_end_us,
        }
    }
}

/// What came out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) clean: bool,
    plan: Plan,
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Accepted, and not read when reading broke off: what became of them is not known, so that
    /// they are not counted as lost. None, where reading came to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
    /// Publishing calls that were turned away for the moment and tried again.
    pushed_back: u64,
    /// The bus had no more space, so publishing ended early.
    filled: bool,
    /// From the first event to the last acceptance.
    seconds: f64,
    accepted_per_second: f64,
    accepted_mb_per_second: f64,
    publish_us: Percentiles,
    end_to_end_us: Percentiles,
    /// Handled in the slowest, the middle and the fastest whole second; none in a run of less.
    handled_per_second: Option<[u64; 3]>,
    errors: Vec<String>,
    samples: Vec<Sample>,
}

/// How a run came to its end.
pub(super) struct Ended {
    /// From the first event to the last acceptance.
    pub(super) published_for: Duration,
    /// Reading ended by itself.
    pub(super) broke_off: bool,
    /// What failed.
    pub(super) errors: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: Plan, shared: &Shared, samples: Vec<Sample>, ended: Ended) -> Self {
        let mut counts = shared.ledger.counts();
        let clean = counts.clean() && ended.errors.is_empty();
        let unread = ended.broke_off.then(|| std::mem::take(&mut counts.lost));
        let seconds = ended.published_for.as_secs_f64().max(1e-9);
        let accepted_per_second = counts.accepted as f64 / seconds;
        Self {
            clean,
            counts,
            unread,
            pushed_back: shared.pushed_back.load(Ordering::Relaxed),
            filled: shared.full.load(Ordering::Relaxed),
            seconds,
            accepted_per_second,
            accepted_mb_per_second: accepted_per_second * plan.size_bytes as f64 / 1e6,
            publish_us: shared.acks.whole(),
            end_to_end_us: shared.handled.whole(),
            handled_per_second: handled_per_second(&samples, ended.published_for),
            errors: counted(&ended.errors),
            samples,
            plan,
        }
    }

    /// How many accepted events were not read when reading broke off; `None` when it did not.
    pub(crate) fn unread(&self) -> Option<u64> {
        self.unread
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let Counts {
            accepted,
            delivered,
            lost,
            doubled,
            out_of_order,
        } = self.counts;
        let _ = writeln!(out, "accepted      {accepted:>12} in {:.1} s", self.seconds);
        let _ = writeln!(out, "delivered     {delivered:>12}");
        let _ = match self.unread {
            None => writeln!(out, "lost          {lost:>12}"),
            Some(unread) => writeln!(
                out,
                "not read      {unread:>12} when reading broke off: not known whether any is lost"
            ),
        };
        let _ = writeln!(out, "doubled       {doubled:>12}");
        let _ = writeln!(out, "out of order  {out_of_order:>12}");
        let _ = writeln!(
            out,
            "throughput    {:>12.0} events/s, {:.1} MB/s of data",
            self.accepted_per_second, self.accepted_mb_per_second
        );
        if let Some([slowest, middle, fastest]) = self.handled_per_second {
            let _ = writeln!(
                out,
                "handled/s     {middle:>12} in the middle second, {slowest} in the slowest, \
                 {fastest} in the fastest"
            );
        }
        percentiles(&mut out, "publish", &self.publish_us);
        percentiles(&mut out, "end to end", &self.end_to_end_us);
        if self.pushed_back > 0 {
            let _ = writeln!(
                out,
                "turned away   {:>12} times for the moment",
                self.pushed_back
            );
        }
        if self.filled {
            let _ = writeln!(out, "the bus was full, so publishing ended early");
        }
        for error in &self.errors {
            let _ = writeln!(out, "error: {error}");
        }
        out
    }
}

/// The slowest, the middle and the fastest of the whole seconds of publishing, if there was one.
fn handled_per_second(samples: &[Sample], published_for: Duration) -> Option<[u64; 3]> {
    let whole = samples
        .iter()
        .filter(|s| Duration::from_secs(s.second) <= published_for);
    let mut handled: Vec<u64> = whole.map(|s| s.handled).collect();
    handled.sort_unstable();
    let (slowest, fastest) = (handled.first()?, handled.last()?);
    let middle = handled.get(handled.len() / 2)?;
    Some([*slowest, *middle, *fastest])
}

/// Each text once, with how often it was there.
fn counted(errors: &[String]) -> Vec<String> {
    let mut texts: Vec<(&String, usize)> = Vec::new();
    for error in errors {
        match texts.iter_mut().find(|(text, _)| *text == error) {
            Some((_, count)) => *count += 1,
            None => texts.push((error, 1)),
        }
    }
    let told = texts.into_iter().map(|(text, count)| match count {
        1 => text.clone(),
        many => format!("{text} ({many} times)"),
    });
    told.collect()
}

fn percentiles(out: &mut String, name: &str, found: &Percentiles) {
    let ms = |us: u64| us as f64 / 1000.0;
    let _ = writeln!(
        out,
        "{name:<13} p50 {:.3} ms, p90 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}",
        ms(found.p50),
        ms(found.p90),
        ms(found.p99),
        ms(found.p999),
        ms(found.max)
    );
}
