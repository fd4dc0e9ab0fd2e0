//! The steps of `cargo xtask check` and `cargo xtask test`: one table, and how it is run.
//!
//! This room may not know how a step does its work; that is `tools.rs`, `readme.rs`, `doors.rs`,
//! `guides.rs` and `tidy`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::limits::{BINARY_MAX_BYTES, FUZZ_SECONDS};
use crate::metadata::Metadata;
use crate::skips::Skips;
use crate::{doors, fuzz, guides, readme, tidy, tools};

/// How a step ended, when it did not fail.
pub(crate) enum Done {
    Passed,
    /// Not run, and why.
    Skipped(String),
}

type Run = fn(&Path) -> Result<Done, String>;

/// One step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    what: &'static str,
    run: Run,
}

const fn step(name: &'static str, what: &'static str, run: Run) -> Step {
    Step { name, what, run }
}

const FMT: Step = step("fmt", "rustfmt has nothing to change", fmt);
const CLIPPY: Step = step(
    "clippy",
    "clippy without a warning, all targets and features",
    clippy,
);
const TIDY: Step = step("tidy", "the house limits, arrows and rooms", tidy_step);
const UNIT: Step = step("unit", "unit tests of all crates", unit);

/// Everything, in the order in which it runs: the quick and the likely to fail first.
const ALL: [Step; 15] = [
    FMT,
    TIDY,
    CLIPPY,
    step(
        "clients",
        "the stock clients and Kafka tools that tests use are installed",
        clients,
    ),
    step(
        "tests",
        "all tests but the simulator's, documentation included",
        tests,
    ),
    step(
        "simulator",
        "the simulator's smoke, and the planted faults that it must catch",
        simulator,
    ),
    step(
        "fuzz",
        "every decoder, with bytes of a fuzzer's making",
        fuzz_step,
    ),
    step("doc", "cargo doc without a warning", doc),
    step("features", "each feature of each crate alone", features),
    step(
        "deny",
        "licences, bans and sources of all dependencies",
        deny,
    ),
    step(
        "advisories",
        "no known advisory against a dependency",
        advisories,
    ),
    step(
        "release",
        "the release build, and the binary below its bound",
        release,
    ),
    step(
        "readme",
        "the README's commands do what it says",
        readme_step,
    ),
    step(
        "doors",
        "the commands of docs/HTTP.md, QUEUES.md and SHOP.md are answered as they say",
        doors_step,
    ),
    step(
        "guides",
        "the guides' code in every language runs and prints what they show",
        guides_step,
    ),
];

/// The steps of `cargo xtask check`.
pub(crate) fn quick() -> Vec<Step> {
    vec![FMT, TIDY, CLIPPY, UNIT]
}

/// The steps with these names; without names, all of them.
///
/// # Errors
/// When there is no step of a name.
pub(crate) fn named(names: &[&str]) -> Result<Vec<Step>, String> {
    if let Some(unknown) = names.iter().find(|n| ALL.iter().all(|s| s.name != **n)) {
        return Err(format!(
            "no step is called {unknown:?}; see cargo xtask test --list"
        ));
    }
    let wanted = |step: &Step| names.is_empty() || names.contains(&step.name);
    Ok(ALL.into_iter().filter(wanted).collect())
}

/// Prints the table.
pub(crate) fn list() {
    for step in ALL {
        println!("{:12} {}", step.name, step.what);
    }
}

/// Runs `steps` one after another, all of them even when one fails, and prints the closing lines.
/// Answers whether all went well.
///
/// # Errors
/// When the list of standing skips cannot be read.
pub(crate) fn run(root: &Path, steps: &[Step]) -> Result<bool, String> {
    let skips = Skips::read(root)?;
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    let mut rows = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name, step.what);
        let begun = Instant::now();
        let ended = (step.run)(root).and_then(|done| match done {
            Done::Passed => Ok(None),
            Done::Skipped(why) => skips.allow(step.name, &why, ci).map(|()| Some(why)),
        });
        if let Err(why) = &ended {
            println!("{why}");
        }
        rows.push((step.name, begun.elapsed(), ended));
    }
    Ok(close(&rows))
}

type Row = (&'static str, Duration, Result<Option<String>, String>);

/// Prints one line a step and the closing count.
fn close(rows: &[Row]) -> bool {
    println!();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, took, ended) in rows {
        let seconds = took.as_secs_f64();
        match ended {
            Ok(None) => {
                passed += 1;
                println!("passed   {name:12} {seconds:7.1} s");
            }
            Ok(Some(why)) => {
                skipped += 1;
                println!("skipped  {name:12} {seconds:7.1} s  {why}");
            }
            Err(why) => {
                failed += 1;
                let first = why.lines().next().unwrap_or("");
                println!("FAILED   {name:12} {seconds:7.1} s  {first}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}

fn passed(result: Result<(), String>) -> Result<Done, String> {
    result.map(|()| Done::Passed)
}

fn fmt(root: &Path) -> Result<Done, String> {
    passed(tools::cargo(root, &["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> Result<Done, String> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
    ];
    passed(tools::cargo(
        root,
        &[&args[..], &["-D", "warnings"]].concat(),
    ))
}

fn tidy_step(root: &Path) -> Result<Done, String> {
    println!("{}", tidy::check(root)?);
    Ok(Done::Passed)
}

fn unit(root: &Path) -> Result<Done, String> {
    passed(tools::cargo(
        root,
        &["test", "--workspace", "--lib", "--bins", "--locked"],
    ))
}

/// Tests that drive clients of other languages find them installed; where that cannot be, they
/// say so and pass, and this step names the skip.
fn clients(root: &Path) -> Result<Done, String> {
    Ok(match tools::install_clients(root) {
        Ok(()) => Done::Passed,
        Err(why) => Done::Skipped(why),
    })
}

fn tests(root: &Path) -> Result<Done, String> {
    let args = [
        "test",
        "--workspace",
        "--exclude",
        "tidemill-testkit",
        "--no-fail-fast",
    ];
    passed(tools::cargo(root, &[&args[..], &["--locked"]].concat()))
}

fn simulator(root: &Path) -> Result<Done, String> {
    let args = [
        "test",
        "--package",
        "tidemill-testkit",
        "--no-fail-fast",
        "--locked",
    ];
    passed(tools::cargo(root, &args))
}

/// Builds what users run, and holds its size.
fn release(root: &Path) -> Result<Done, String> {
    tools::cargo(root, &["build", "--release", "--locked"])?;
    let binary = std::fs::metadata(root.join("target/release/tidemill"))
        .map_err(|e| format!("the release build left no binary: {e}"))?;
    let size = binary.len();
    println!("the binary has {:.1} MB", size as f64 / 1e6);
    if size > BINARY_MAX_BYTES {
        return Err(format!(
            "the binary has {size} bytes, more than {BINARY_MAX_BYTES}"
        ));
    }
    Ok(Done::Passed)
}

fn readme_step(root: &Path) -> Result<Done, String> {
    passed(readme::check(root))
}

fn doors_step(root: &Path) -> Result<Done, String> {
    passed(doors::check(root))
}

/// Needs the stock clients; where they cannot be installed, the step is skipped.
fn guides_step(root: &Path) -> Result<Done, String> {
    match tools::install_stock_clients(root) {
        Ok(()) => passed(guides::check(root)),
        Err(why) => Ok(Done::Skipped(why)),
    }
}

fn fuzz_step(root: &Path) -> Result<Done, String> {
    passed(fuzz::run(root, Duration::from_secs(FUZZ_SECONDS)))
}

fn doc(root: &Path) -> Result<Done, String> {
    let args = ["doc", "--workspace", "--no-deps", "--locked"];
    passed(tools::cargo_with(
        root,
        &args,
        &[("RUSTDOCFLAGS", "-D warnings")],
    ))
}

/// Checks each feature of each crate alone, and each crate without any.
fn features(root: &Path) -> Result<Done, String> {
    for package in Metadata::read(root)?.packages {
        let base = [
            "check",
            "--quiet",
            "--locked",
            "--no-default-features",
            "--package",
        ];
        let names = package.features.keys().map(|name| Some(name.as_str()));
        let sets = std::iter::once(None).chain(names.filter(|n| *n != Some("default")));
        for set in sets {
            println!("{}: {}", package.name, set.unwrap_or("without features"));
            let mut args = [&base[..], &[package.name.as_str()]].concat();
            args.extend(set.map(|s| ["--features", s]).into_iter().flatten());
            tools::cargo(root, &args)?;
        }
    }
    Ok(Done::Passed)
}

fn deny(root: &Path) -> Result<Done, String> {
    tools::ensure_cargo_deny(root)?;
    passed(tools::cargo(
        root,
        &[
            "deny",
            "--log-level",
            "error",
            "check",
            "licenses",
            "bans",
            "sources",
        ],
    ))
}

/// The advisory database is fetched from outside; where that cannot be, the step is skipped.
fn advisories(root: &Path) -> Result<Done, String> {
    tools::ensure_cargo_deny(root)?;
    let (good, text) = tools::cargo_output(root, &["deny", "check", "advisories"])?;
    if good {
        return Ok(Done::Passed);
    }
    if text.contains("failed to fetch advisory database") {
        return Ok(Done::Skipped(
            "the advisory database is out of reach".to_owned(),
        ));
    }
    Err(text)
}
