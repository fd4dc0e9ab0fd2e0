//! What many partitions cost: a publish among 1, 100 and 10,000 topics, and 10,000 partitions
//! that nobody uses.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use tidemill_log::Options;

use crate::machine::{Operation, ask, batch, open, partition, submit};
use crate::report::{median, memory_bytes, processor_time};

const PUBLISHES: usize = 200_000;
const WAITING: usize = 64;
const TURNS: usize = 3;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("{PUBLISHES} publishes of 1 KiB a run, {WAITING} on their way at any time\n");
    println!("| topics | processor time a publish, us | per second |\n|---|---|---|");
    let counts = [1, 100, 10_000];
    let mut costs = [const { Vec::new() }; 3];
    let mut rates = [const { Vec::new() }; 3];
    for turn in 0..TURNS {
        for ((count, costs), rates) in counts.iter().zip(&mut costs).zip(&mut rates) {
            let folder = crate::Folder::new(dir.join(format!("{count}-{turn}")))?;
            let (cost, rate) = publish_among(&folder.0, *count)?;
            costs.push(cost);
            rates.push(rate);
        }
    }
    for ((count, costs), rates) in counts.iter().zip(costs).zip(rates) {
        println!("| {count} | {:.2} | {:.0} |", median(costs), median(rates));
    }
    Ok(())
}

fn publish_among(dir: &Path, topics: u128) -> Result<(f64, f64), Box<dyn Error>> {
    let log = open(dir, &Options::default())?;
    let ids: Vec<_> = (1..=topics).map(partition).collect();
    for some in ids.chunks(1000) {
        ask(&log, Operation::Create(some.to_vec()))?;
    }
    let value = batch(1, 1024);
    let (begun, before) = (Instant::now(), processor_time());
    let mut waiting = VecDeque::new();
    for id in ids.iter().cycle().take(PUBLISHES) {
        waiting.push_back(submit(&log, Operation::Append(*id, value.clone())));
        if waiting.len() == WAITING
            && let Some(first) = waiting.pop_front()
        {
            first.recv()?.map_err(|why| format!("{why:?}"))?;
        }
    }
    for last in waiting {
        last.recv()?.map_err(|why| format!("{why:?}"))?;
    }
    let cost = (processor_time() - before).as_secs_f64() * 1e6 / PUBLISHES as f64;
    let rate = PUBLISHES as f64 / begun.elapsed().as_secs_f64();
    log.close();
    Ok((cost, rate))
}

pub(crate) fn idle(dir: &Path) -> Result<(), Box<dyn Error>> {
    const PARTITIONS: u128 = 10_000;
    let descriptors = || fs::read_dir("/proc/self/fd").map(Iterator::count);
    {
        let log = open(dir, &Options::default())?;
        let ids: Vec<_> = (1..=PARTITIONS).map(partition).collect();
        for some in ids.chunks(1000) {
            ask(&log, Operation::Create(some.to_vec()))?;
        }
        for id in &ids {
            ask_later(&log, *id)?;
        }
        log.close();
    }
    let (memory, files) = (memory_bytes("VmRSS"), descriptors()?);
    let log = open(dir, &Options::default())?;
    let more = memory_bytes("VmRSS").saturating_sub(memory);
    println!(
        "{PARTITIONS} partitions with one event each, opened again and not used: {} bytes of \
         memory each (at most; what was freed before may be used again), {} descriptors in all",
        more / PARTITIONS as u64,
        descriptors()?.saturating_sub(files)
    );
    log.close();
    Ok(())
}

fn ask_later(
    log: &tidemill_log::driver::Handle<crate::machine::Plain>,
    id: tidemill_log::PartitionId,
) -> Result<(), Box<dyn Error>> {
    Ok(ask(log, Operation::Append(id, batch(1, 100)))?)
}
