//! Fuzzing: builds the targets of `fuzz/`, writes their seeds, runs each for its share of the
//! time. What they find lies in `fuzz/artifacts`, what they learned in `fuzz/corpus`.
//!
//! Without a sanitizer: no crate here has `unsafe` code, and the C code of zstd is not
//! instrumented by the compiler of Rust; so it would cost build time and find nothing.
//!
//! This room may not know what a target decodes.

use std::path::Path;
use std::time::Duration;

use crate::tools;

/// Memory that a target may take, in megabytes: a decoder that lets a few bytes ask for more has
/// a bug.
const MEMORY_MAX_MB: u32 = 2048;

/// Lets the stable compiler take the flags that fuzzing needs.
const ENV: [(&str, &str); 1] = [("RUSTC_BOOTSTRAP", "1")];

/// Where the targets are built, apart from everything else.
const TARGET_DIR: &str = "target/fuzz";

/// The feature of `fuzz/` with the target of the same name, which is most of the server and takes
/// minutes to build.
const DOOR: &str = "door";

/// Runs every target but the door's, all of them together for about `all`.
///
/// # Errors
/// The first target that found something, by name, or what cannot be built.
pub(crate) fn run(root: &Path, all: Duration) -> Result<(), String> {
    let mut targets = targets(root)?;
    targets.retain(|target| target != DOOR);
    these(root, &targets, &[], all)
}

/// The same with the door's.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_all(root: &Path, all: Duration) -> Result<(), String> {
    these(root, &targets(root)?, &["--features", DOOR], all)
}

fn these(root: &Path, targets: &[String], build: &[&str], all: Duration) -> Result<(), String> {
    tools::ensure_cargo_fuzz(root)?;
    cargo_fuzz(root, "build", build)?;
    let seeds = [
        "run",
        "--quiet",
        "--package",
        "tidemill-testkit",
        "--bin",
        "seeds",
        "--",
        "target/fuzz/seeds",
        "crates/tidemill-log/tests/golden",
    ];
    tools::cargo(root, &seeds)?;
    let share = all.as_secs() / targets.len().max(1) as u64;
    for target in targets {
        println!("-- {target}, {share} s");
        one(root, target, build, share.max(1))?;
    }
    Ok(())
}

fn one(root: &Path, target: &str, build: &[&str], seconds: u64) -> Result<(), String> {
    let corpus = format!("fuzz/corpus/{target}");
    let seeds = format!("target/fuzz/seeds/{target}");
    for folder in [&corpus, &seeds] {
        let made = std::fs::create_dir_all(root.join(folder));
        made.map_err(|e| format!("cannot make {folder}: {e}"))?;
    }
    let time = format!("-max_total_time={seconds}");
    let memory = format!("-rss_limit_mb={MEMORY_MAX_MB}");
    let args = [
        target,
        &corpus,
        &seeds,
        "--",
        &time,
        &memory,
        "-max_len=8192",
        "-timeout=10",
        "-verbosity=0",
        "-print_funcs=0",
        "-print_final_stats=1",
    ];
    cargo_fuzz(root, "run", &[build, &args].concat())
        .map_err(|why| format!("{target} found something, see fuzz/artifacts/{target}: {why}"))
}

fn cargo_fuzz(root: &Path, what: &str, rest: &[&str]) -> Result<(), String> {
    let target_dir = root.join(TARGET_DIR);
    let target_dir = target_dir.to_string_lossy();
    let first = [
        "fuzz",
        what,
        "--sanitizer",
        "none",
        "--target-dir",
        &target_dir,
    ];
    tools::cargo_with(root, &[&first[..], rest].concat(), &ENV)
}

/// The names of all targets, as the files in `fuzz/fuzz_targets` have them.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).map_err(|e| format!("cannot list fuzz targets: {e}"))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut names: Vec<String> = paths
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort_unstable();
    match names.is_empty() {
        true => Err("there are no fuzz targets".to_owned()),
        false => Ok(names),
    }
}
