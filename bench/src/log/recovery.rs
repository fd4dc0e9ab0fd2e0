//! Opening after a crash: a folder is copied while its log is open, which is what a killed
//! process leaves, and the copy is opened, with nothing of it in the page cache.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use tidemill_log::Options;

use crate::machine::{Operation, ask, batch, open, partition, submit};

/// A log to be opened: what lies in segments, what in the tail, in how many partitions.
struct Case {
    settled_bytes: u64,
    tail_bytes: u64,
    partitions: u128,
}

const MB: u64 = 1_000_000;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let longest = Options::default().journal_max_bytes - 64 * MB;
    table(
        dir,
        &[
            case(10 * MB, 0, 1),
            case(10 * MB, 64 * MB, 1),
            case(10 * MB, longest, 1),
            case(10 * MB, 0, 10_000),
            case(10 * MB, 64 * MB, 10_000),
            case(1000 * MB, 64 * MB, 1),
        ],
    )
}

pub(crate) fn large(dir: &Path) -> Result<(), Box<dyn Error>> {
    let big = 10_000 * MB;
    table(dir, &[case(big, 0, 1), case(big, 64 * MB, 1)])
}

fn case(settled_bytes: u64, tail_bytes: u64, partitions: u128) -> Case {
    Case {
        settled_bytes,
        tail_bytes,
        partitions,
    }
}

fn table(dir: &Path, cases: &[Case]) -> Result<(), Box<dyn Error>> {
    println!("| in segments | tail | partitions | opened in | s per GB of tail |");
    println!("|---|---|---|---|---|");
    for (number, case) in cases.iter().enumerate() {
        let folder = crate::Folder::new(dir.join(number.to_string()))?;
        let took = opening(&folder.0, case)?.as_secs_f64();
        let per_gb = match case.tail_bytes {
            0 => "-".to_owned(),
            bytes => format!("{:.2}", took / (bytes as f64 / 1e9)),
        };
        println!(
            "| {} MB | {} MB | {} | {:.1} ms | {per_gb} |",
            case.settled_bytes / MB,
            case.tail_bytes / MB,
            case.partitions,
            took * 1e3
        );
    }
    Ok(())
}

fn opening(dir: &Path, case: &Case) -> Result<Duration, Box<dyn Error>> {
    let from = dir.join("log");
    let ids: Vec<_> = (1..=case.partitions).map(partition).collect();
    let log = open(&from, &Options::default())?;
    for some in ids.chunks(1000) {
        ask(&log, Operation::Create(some.to_vec()))?;
    }
    fill(&log, &ids, case.settled_bytes)?;
    log.close();
    let mut options = Options::default();
    options.checkpoint_after_bytes = options.journal_max_bytes;
    let log = open(&from, &options)?;
    fill(&log, &ids, case.tail_bytes)?;
    let to = dir.join("copy");
    copy(&from, &to)?;
    log.close();
    let begun = Instant::now();
    let log = open(&to, &Options::default())?;
    let took = begun.elapsed();
    log.close();
    Ok(took)
}

fn fill(
    log: &tidemill_log::driver::Handle<crate::machine::Plain>,
    ids: &[tidemill_log::PartitionId],
    bytes: u64,
) -> Result<(), Box<dyn Error>> {
    let value = batch(1, 16 * 1024);
    let mut waiting = VecDeque::new();
    let count = bytes / value.size_bytes() as u64;
    for id in ids.iter().cycle().take(count as usize) {
        waiting.push_back(submit(log, Operation::Append(*id, value.clone())));
        if waiting.len() == 64
            && let Some(first) = waiting.pop_front()
        {
            first.recv()?.map_err(|why| format!("{why:?}"))?;
        }
    }
    for last in waiting {
        last.recv()?.map_err(|why| format!("{why:?}"))?;
    }
    Ok(())
}

/// Copies a folder, makes the copy durable, and takes it out of the page cache.
fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            // A file that is removed meanwhile is one that nothing needs any more.
            if fs::copy(&path, &target).is_err() && path.exists() {
                return Err(format!("cannot copy {}", path.display()).into());
            }
            let file = File::options().write(true).open(&target)?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
