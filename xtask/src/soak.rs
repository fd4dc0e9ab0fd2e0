//! The long proofs: `cargo xtask soak WHAT`, from release builds, for as long as one likes. How
//! each works and what it has shown is in `docs/RELIABILITY.md`.
//!
//! This room may not know what a proof proves.

use std::path::Path;
use std::time::Duration;

use crate::{fuzz, tools};

/// What can be soaked, for the usage text.
pub(crate) const USAGE: &str =
    "  soak simulate [ARG...]  the simulator: `--seconds N`, `--threads N`, `--from-seed N`
  soak damage          every small damage to every file of a small log, no byte left out
  soak kill [ROUNDS]   `kill -9` of a broker under load, 1000 times unless said otherwise
  soak fuzz [SECONDS]  every fuzz target, all together for four hours unless said otherwise";

/// Rounds of `soak kill` unless said otherwise.
const KILL_ROUNDS: &str = "1000";

/// Seconds of `soak fuzz` unless said otherwise.
const FUZZ_SECONDS: u64 = 4 * 60 * 60;

/// Runs one.
///
/// # Errors
/// When it breaks, or there is none of this name.
pub(crate) fn run(root: &Path, name: &str, rest: &[&str]) -> Result<(), String> {
    match name {
        "simulate" => binary(root, "simulate", rest),
        "damage" => binary(root, "damage", rest),
        "kill" => kill(root, rest.first().copied().unwrap_or(KILL_ROUNDS)),
        "fuzz" => fuzz(root, rest.first().copied()),
        other => Err(format!("nothing to soak is called {other:?}\n{USAGE}")),
    }
}

/// The test of `kill -9`, with more rounds.
fn kill(root: &Path, rounds: &str) -> Result<(), String> {
    let test = ["test", "--release", "--package", "tidemill-testkit"];
    let args = [&test[..], &["--test", "kill", "--", "--nocapture"]].concat();
    tools::cargo_with(root, &args, &[("TIDEMILL_KILL_ROUNDS", rounds)])
}

fn fuzz(root: &Path, seconds: Option<&str>) -> Result<(), String> {
    let seconds = match seconds {
        None => FUZZ_SECONDS,
        Some(text) => text
            .parse()
            .map_err(|_| format!("{text:?} is no number of seconds"))?,
    };
    fuzz::run_all(root, Duration::from_secs(seconds))
}

/// A program of the test kit.
fn binary(root: &Path, name: &str, rest: &[&str]) -> Result<(), String> {
    let run = ["run", "--release", "--package", "tidemill-testkit", "--bin"];
    tools::cargo(root, &[&run[..], &[name, "--"], rest].concat())
}
