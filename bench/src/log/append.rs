//! What the log takes in for good: commits of 64 KiB and 1 MiB until four times the journal's
//! size is written, the closing checkpoint included, beside the disk's own overwrites; and the
//! processor time of a million events.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tidemill_log::Options;

use crate::machine::{Operation, Plain, ask, batch, open, partition, submit};
use crate::overwrite::{Raw, Way};
use crate::report::{RAW_BYTES, Run, median, processor_time};

/// Where the end of an append comes.
type Waiting = Receiver<tidemill_log::Outcome<Plain>>;

const TURNS: usize = 3;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let options = Options::default();
    let all_bytes = 4 * options.journal_max_bytes;
    println!(
        "{} MB a run, journal of {} MB at most, medians of {TURNS} runs that took turns\n",
        all_bytes / 1_000_000,
        options.journal_max_bytes / 1_000_000
    );
    println!(
        "| commits | raw, cached MB/s | raw, direct MB/s | log MB/s | ratio to cached, direct \
         | p50 ms | p99 ms | p99.9 ms | max ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut cached = Raw::new(dir, RAW_BYTES, Way::Cached)?;
    let mut direct = Raw::new(dir, RAW_BYTES, Way::Direct)?;
    for bytes in [64 * 1024, 1024 * 1024] {
        let (mut of_cached, mut of_direct) = (Vec::new(), Vec::new());
        let (mut of_log, mut runs) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            let ways = [(&mut cached, &mut of_cached), (&mut direct, &mut of_direct)];
            for (raw, of) in ways {
                let overwrites = raw.run(bytes, Duration::from_secs(2))?;
                of.push(overwrites.per_second() * bytes as f64 / 1e6);
            }
            let run = sustained(
                &dir.join(format!("log-{bytes}-{turn}")),
                &options,
                bytes,
                all_bytes,
            )?;
            of_log.push(run.per_second() * bytes as f64 / 1e6);
            runs.push(run);
        }
        let mut of = |share| median(runs.iter_mut().map(|run| run.permille(share)).collect());
        let (p50, p99, p999, max) = (of(500), of(990), of(999), of(1000));
        let (cached, direct, log) = (median(of_cached), median(of_direct), median(of_log));
        println!(
            "| {} KiB | {cached:.0} | {direct:.0} | {log:.0} | {:.2}, {:.2} | {p50:.2} | {p99:.2} \
             | {p999:.2} | {max:.1} |",
            bytes / 1024,
            log / cached,
            log / direct
        );
    }
    Ok(())
}

/// Two batches are on their way at any time, so that one waits while the other is synced; the
/// time includes the closing checkpoint.
fn sustained(
    dir: &Path,
    options: &Options,
    bytes: usize,
    all_bytes: u64,
) -> Result<Run, Box<dyn Error>> {
    let folder = crate::Folder::new(dir.to_owned())?;
    let log = open(&folder.0, options)?;
    let id = partition(1);
    ask(&log, Operation::Create(vec![id]))?;
    // So that it is one commit of this size with its headers.
    let value = batch(1, bytes - 512);
    let mut run = Run::default();
    let begun = Instant::now();
    let mut before: Option<(Instant, Waiting)> = None;
    for _ in 0..all_bytes / bytes as u64 {
        let start = Instant::now();
        let next = submit(&log, Operation::Append(id, value.clone()));
        if let Some((start, waiting)) = before.replace((start, next)) {
            waiting.recv()?.map_err(|why| format!("{why:?}"))?;
            run.took.push(start.elapsed());
        }
    }
    if let Some((start, last)) = before {
        last.recv()?.map_err(|why| format!("{why:?}"))?;
        run.took.push(start.elapsed());
    }
    log.close();
    run.whole = begun.elapsed();
    Ok(run)
}

/// A million events of 1 KiB in batches of a thousand, all threads and the closing counted.
pub(crate) fn cpu(dir: &Path) -> Result<(), Box<dyn Error>> {
    let value = batch(1000, 1024);
    let mut times = Vec::new();
    for turn in 0..TURNS {
        let folder = crate::Folder::new(dir.join(turn.to_string()))?;
        let log = open(&folder.0, &Options::default())?;
        let id = partition(1);
        ask(&log, Operation::Create(vec![id]))?;
        let before = processor_time();
        let mut waiting = std::collections::VecDeque::new();
        for _ in 0..1000 {
            waiting.push_back(submit(&log, Operation::Append(id, value.clone())));
            if waiting.len() == 4
                && let Some(first) = waiting.pop_front()
            {
                first.recv()?.map_err(|why| format!("{why:?}"))?;
            }
        }
        for last in waiting {
            last.recv()?.map_err(|why| format!("{why:?}"))?;
        }
        log.close();
        times.push((processor_time() - before).as_secs_f64());
    }
    println!(
        "processor time of a million events of 1 KiB in batches of 1,000: {:.2} s",
        median(times)
    );
    Ok(())
}
