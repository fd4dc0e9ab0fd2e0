//! The project's chores: `cargo xtask tidy | check | test | soak | suite | bench`.
//!
//! This program may not know anything of Tidemill but its files, its crates and its commands.

mod doors;
mod fuzz;
mod guides;
mod limits;
mod metadata;
mod readme;
mod skips;
mod soak;
mod steps;
mod suite;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  tidy [--largest]     the house limits, the crate arrows, the rooms' rules
  check                the quick round before a commit: fmt, clippy, tidy, unit tests
  test [STEP...]       everything, or the named steps; `test --list` names them
  soak WHAT [ARG...]   the long proofs: simulate, damage, kill, fuzz
  suite NAME [ARG...]  another project's own tests against this server: kafka-python
  bench [ARG...]       `tidemill bench` from a release build";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = root();
    let done = match words.as_slice() {
        ["tidy", rest @ ..] => tidy_command(&root, rest),
        ["check"] => steps::run(&root, &steps::quick()),
        ["test", "--list"] => {
            steps::list();
            Ok(true)
        }
        ["test", names @ ..] => steps::named(names).and_then(|s| steps::run(&root, &s)),
        ["soak", name, rest @ ..] => soak::run(&root, name, rest).map(|()| true),
        ["suite", name, rest @ ..] => suite::run(&root, name, rest),
        ["bench", rest @ ..] => tools::bench(&root, rest).map(|()| true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn tidy_command(root: &Path, words: &[&str]) -> Result<bool, String> {
    match words {
        [] => {
            println!("{}", tidy::check(root)?);
            Ok(true)
        }
        ["--largest"] => {
            print!("{}", tidy::largest(root)?);
            Ok(true)
        }
        [other, ..] => Err(format!("tidy does not know {other:?}; it knows --largest")),
    }
}

/// The workspace's root: the parent of this crate's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
