//! What the disk itself can do, to stand beside what Tidemill does on it: overwrites of one block
//! in a file that was written before, each followed by `fdatasync`, one at a time.
//!
//! `cargo run --release -p tidemill-bench --bin raw-sync -- DIR [SECONDS]` prints a line a block
//! size. DIR must be on the disk in question; the file in it is removed at the end.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Bytes of the file that is written again and again.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// The sizes of one write, in bytes.
const BLOCKS_BYTES: [usize; 3] = [4096, 64 * 1024, 1024 * 1024];
/// How long each size is measured, unless told otherwise.
const SECONDS: u64 = 3;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder on the disk to measure")?;
    let seconds = args.next().map_or(Ok(SECONDS), |text| text.parse())?;
    let path = PathBuf::from(dir).join("raw-sync.tmp");
    let measured = measure(&path, Duration::from_secs(seconds));
    fs::remove_file(&path).ok();
    measured
}

fn measure(path: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let zeros = vec![0u8; 1024 * 1024];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    println!(
        "{:>10} {:>12} {:>10} {:>10} {:>10}",
        "bytes", "syncs/s", "MB/s", "p50 ms", "p99 ms"
    );
    for size in BLOCKS_BYTES {
        let mut took = overwrite(&file, size, time)?;
        took.sort_unstable();
        let at = |share: usize| {
            let place = took.len() * share / 100;
            took.get(place.min(took.len() - 1))
                .map_or(0.0, |d| d.as_secs_f64() * 1000.0)
        };
        let rate = took.len() as f64 / took.iter().sum::<Duration>().as_secs_f64();
        let megabytes = rate * size as f64 / 1e6;
        println!(
            "{size:>10} {rate:>12.0} {megabytes:>10.1} {:>10.3} {:>10.3}",
            at(50),
            at(99)
        );
    }
    Ok(())
}

/// Overwrites block after block until `time` is over; answers how long each took.
fn overwrite(file: &File, size: usize, time: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let block = vec![0x5au8; size];
    let mut took = Vec::new();
    let begun = Instant::now();
    let mut at = 0;
    while begun.elapsed() < time || took.is_empty() {
        let start = Instant::now();
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        took.push(start.elapsed());
        at = (at + size as u64) % FILE_BYTES;
    }
    Ok(took)
}
