//! Measures the log on a disk, beside what the disk itself can do and beside other engines.
//!
//! `cargo run --release -p tidemill-bench --bin log -- DIR [MEASURE...]` runs the named measures,
//! or all but `long`, which takes an hour, in DIR, which must be on the disk in question; what they
//! make there is removed.
//! Each ratio compares runs that took turns.

mod append;
mod long;
mod machine;
#[path = "../overwrite.rs"]
mod overwrite;
mod peers;
mod read;
mod recovery;
mod report;
#[path = "../run.rs"]
mod run;
mod topics;
mod waiting;
mod writers;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Outcome = Result<(), Box<dyn Error>>;

/// One measure: its name, what it says of itself, what it does in an empty folder.
type Measure = (&'static str, &'static str, fn(&Path) -> Outcome);

/// Left out unless it is named: it takes an hour.
const LONG: &str = "long";

const MEASURES: [Measure; 11] = [
    (
        "waiting",
        "1 and 64 that wait for a synced 1 KiB",
        waiting::run,
    ),
    (
        "writers",
        "ways to bring commits into segments, without the log",
        writers::run,
    ),
    (
        "append",
        "sustained commits of 64 KiB and 1 MiB",
        append::run,
    ),
    (
        "cpu",
        "processor time of a million batched events",
        append::cpu,
    ),
    (
        "topics",
        "the cost of a publish among many topics",
        topics::run,
    ),
    (
        "idle",
        "memory and descriptors of idle partitions",
        topics::idle,
    ),
    ("read", "sequential reading of warm segments", read::run),
    ("recovery", "opening after a crash", recovery::run),
    (
        "large",
        "opening a log of 10 GB after a crash",
        recovery::large,
    ),
    (
        LONG,
        "an hour at a steady rate with retention and compaction",
        long::run,
    ),
    (
        "peers",
        "the same beside redb, fjall and SQLite",
        peers::run,
    ),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder on the disk to measure")?;
    let wanted: Vec<String> = args.collect();
    let known = |name: &String| MEASURES.iter().any(|(known, ..)| known == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<_> = MEASURES.iter().map(|(name, ..)| *name).collect();
        return Err(format!("no measure {unknown}; there are {}", names.join(", ")).into());
    }
    for (name, what, measure) in MEASURES {
        let all = wanted.is_empty() && name != LONG;
        if all || wanted.iter().any(|wanted| wanted == name) {
            println!("\n## {name}: {what}\n");
            let folder = Folder::new(Path::new(&dir).join(format!("tidemill-bench-{name}")))?;
            measure(&folder.0)?;
        }
    }
    Ok(())
}

/// A folder that is removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
