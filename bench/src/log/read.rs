//! Sequential reading of a partition whose segments are in the page cache, beside `pread` and
//! CRC-32C of the same files.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tidemill_core::Offset;
use tidemill_log::{Options, Read};

use crate::machine::{Operation, ask, batch, open, partition};
use crate::report::median;

const BATCHES: usize = 8192;
const BATCH_BYTES: usize = 64 * 1024;
const TURNS: usize = 5;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let log = open(dir, &Options::default())?;
    let id = partition(1);
    ask(&log, Operation::Create(vec![id]))?;
    let value = batch(64, BATCH_BYTES / 64 - 10);
    for _ in 0..BATCHES {
        ask(&log, Operation::Append(id, value.clone()))?;
    }
    log.close();
    let segments = segments(&dir.join("topics"))?;
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let log = open(dir, &Options::default())?;
    for _ in 0..TURNS {
        let begun = Instant::now();
        let mut bytes = 0;
        let mut buf = vec![0; 1024 * 1024];
        for path in &segments {
            let (file, mut at) = (File::open(path)?, 0);
            loop {
                let count = file.read_at(&mut buf, at)?;
                let Some(part) = buf.get(..count).filter(|part| !part.is_empty()) else {
                    break;
                };
                std::hint::black_box(crc32c::crc32c(part));
                at += count as u64;
            }
            bytes += at;
        }
        raw.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let (mut offset, mut bytes) = (Offset(0), 0);
        loop {
            let batches = match log.reader().read(id, offset, 1024 * 1024) {
                Read::Batches(batches) => batches,
                Read::Disk(read) => read.run()?,
                Read::AtEnd => break,
                other => return Err(format!("a read at {offset} answered {other:?}").into()),
            };
            for batch in batches {
                bytes += batch.size_bytes();
                offset = batch.next_offset();
            }
        }
        ours.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
    }
    log.close();
    let (raw, ours) = (median(raw), median(ours));
    println!(
        "pread and CRC of the files {raw:.0} MB/s, the log's reader {ours:.0} MB/s, ratio {:.2}",
        ours / raw
    );
    Ok(())
}

/// All segments below a folder.
fn segments(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(segments(&path)?);
        } else if path.extension().is_some_and(|end| end == "log") {
            found.push(path);
        }
    }
    Ok(found)
}
