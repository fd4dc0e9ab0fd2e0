//! The long proofs: `cargo xtask soak WHAT`, from release builds, for as long as one likes. How
//! each works and what it has shown is in `docs/RELIABILITY.md`.
//!
//! This room may not know what a proof proves.

use std::path::Path;

use crate::tools;

/// What can be soaked, for the usage text.
pub(crate) const USAGE: &str = "  soak simulate [ARG...]  the simulator, for `--seconds N`
  soak damage          every small damage to every file of a small log, no byte left out";

/// Runs one.
///
/// # Errors
/// When it breaks, or there is none of this name.
pub(crate) fn run(root: &Path, name: &str, rest: &[&str]) -> Result<(), String> {
    match name {
        "simulate" => binary(root, "simulate", rest),
        "damage" => binary(root, "damage", rest),
        other => Err(format!("nothing to soak is called {other:?}\n{USAGE}")),
    }
}

/// A program of the test kit.
fn binary(root: &Path, name: &str, rest: &[&str]) -> Result<(), String> {
    let run = ["run", "--release", "--package", "tidemill-testkit", "--bin"];
    tools::cargo(root, &[&run[..], &[name, "--"], rest].concat())
}
