//! What many partitions cost: a publish among 1, 100 and 10,000 topics, and 10,000 partitions
//! that nobody uses.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use tidemill_log::driver::Handle;
use tidemill_log::{Options, PartitionId};

use crate::machine::{Operation, Plain, ask, batch, open, partition, submit};
use crate::report::{median, memory_bytes, processor_time};

const PUBLISHES: usize = 200_000;
const WAITING: usize = 64;
const TURNS: usize = 3;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "{PUBLISHES} publishes of 1 KiB to new topics, which get their files meanwhile, then as \
         many again; {WAITING} on their way at any time\n"
    );
    println!("| topics | processor time a publish, us | per second | then, us | per second |");
    println!("|---|---|---|---|---|");
    let counts = [1, 100, 10_000];
    let mut runs = [const { Vec::new() }; 3];
    // They stay until the end: a file system may pass over inodes that were freed a moment ago one
    // by one (ext4 does so for half a minute), which would be measured with the next turn.
    let mut folders = Vec::new();
    for turn in 0..TURNS {
        for (count, runs) in counts.iter().zip(&mut runs) {
            let folder = crate::Folder::new(dir.join(format!("{count}-{turn}")))?;
            runs.push(publish_among(&folder.0, *count)?);
            folders.push(folder);
        }
    }
    for (count, runs) in counts.iter().zip(runs) {
        let of = |what: fn(&[Cost; 2]) -> f64| median(runs.iter().map(what).collect());
        println!(
            "| {count} | {:.2} | {:.0} | {:.2} | {:.0} |",
            of(|run| run[0].processor_us),
            of(|run| run[0].per_second),
            of(|run| run[1].processor_us),
            of(|run| run[1].per_second),
        );
    }
    Ok(())
}

/// What a publish costs.
struct Cost {
    processor_us: f64,
    per_second: f64,
}

/// To new topics, and then again.
fn publish_among(dir: &Path, topics: u128) -> Result<[Cost; 2], Box<dyn Error>> {
    let log = open(dir, &Options::default())?;
    let ids: Vec<_> = (1..=topics).map(partition).collect();
    for some in ids.chunks(1000) {
        ask(&log, Operation::Create(some.to_vec()))?;
    }
    let costs = [publish_to(&log, &ids)?, publish_to(&log, &ids)?];
    log.close();
    Ok(costs)
}

fn publish_to(log: &Handle<Plain>, ids: &[PartitionId]) -> Result<Cost, Box<dyn Error>> {
    let value = batch(1, 1024);
    let (begun, before) = (Instant::now(), processor_time());
    let mut waiting = VecDeque::new();
    for id in ids.iter().cycle().take(PUBLISHES) {
        waiting.push_back(submit(log, Operation::Append(*id, value.clone())));
        if waiting.len() == WAITING
            && let Some(first) = waiting.pop_front()
        {
            first.recv()?.map_err(|why| format!("{why:?}"))?;
        }
    }
    for last in waiting {
        last.recv()?.map_err(|why| format!("{why:?}"))?;
    }
    Ok(Cost {
        processor_us: (processor_time() - before).as_secs_f64() * 1e6 / PUBLISHES as f64,
        per_second: PUBLISHES as f64 / begun.elapsed().as_secs_f64(),
    })
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

fn ask_later(log: &Handle<Plain>, id: PartitionId) -> Result<(), Box<dyn Error>> {
    Ok(ask(log, Operation::Append(id, batch(1, 100)))?)
}
