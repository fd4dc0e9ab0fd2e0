//! What the disk itself can do, to stand beside what Tidemill does on it: overwrites of one block
//! in a file that was written before, each followed by `fdatasync`, one at a time.
//!
//! `cargo run --release -p tidemill-bench --bin raw-sync -- DIR [SECONDS]` prints a line a block
//! size. DIR must be on the disk in question; the file in it is removed at the end.

mod overwrite;
mod run;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use overwrite::{Raw, Way};

/// Bytes of the file that is written again and again.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// The sizes of one write, in bytes.
const BLOCKS_BYTES: [usize; 3] = [4096, 64 * 1024, 1024 * 1024];
/// How long each size is measured, unless told otherwise.
const SECONDS: u64 = 3;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder on the disk to measure")?;
    let seconds = args.next().map_or(Ok(SECONDS), |text| text.parse())?;
    println!(
        "{:>8} {:>10} {:>12} {:>10} {:>10} {:>10}",
        "way", "bytes", "syncs/s", "MB/s", "p50 ms", "p99 ms"
    );
    for (way, name) in [(Way::Cached, "cached"), (Way::Direct, "direct")] {
        let mut raw = Raw::new(Path::new(&dir), FILE_BYTES, way)?;
        for size in BLOCKS_BYTES {
            let mut run = raw.run(size, Duration::from_secs(seconds))?;
            let rate = run.per_second();
            let megabytes = rate * size as f64 / 1e6;
            println!(
                "{name:>8} {size:>10} {rate:>12.0} {megabytes:>10.1} {:>10.3} {:>10.3}",
                run.permille(500),
                run.permille(990)
            );
        }
    }
    Ok(())
}
