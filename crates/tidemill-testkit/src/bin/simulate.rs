//! Runs the simulator for a while, or one seed of it: `simulate --seconds 600 --from-seed 1`,
//! `simulate --seed 77`, which with `--trace 1` also tells what happens. Prints
//! what was run, and ends with 1 on the first broken promise.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tidemill_testkit::sim::simulator::{Observer, watch};

const USAGE: &str = "usage: simulate [--seconds N] [--from-seed S] | simulate --seed S [--trace 1]";

struct Wanted {
    seconds: u64,
    from_seed: u64,
    one: bool,
    trace: bool,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted {
        seconds: 60,
        from_seed: 1,
        one: false,
        trace: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a number"))?;
        let number = value
            .parse()
            .map_err(|_| format!("{value} is not a number"))?;
        match name.as_str() {
            "--seconds" => wanted.seconds = number,
            "--from-seed" => wanted.from_seed = number,
            "--seed" => (wanted.from_seed, wanted.one) = (number, true),
            "--trace" => wanted.trace = number > 0,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(wanted)
}

fn main() -> ExitCode {
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let mut states = BTreeSet::new();
    let (mut crashes, mut acknowledged, mut seeds) = (0, 0, 0u64);
    for seed in wanted.from_seed.. {
        let observer: Option<Observer> = wanted
            .trace
            .then(|| -> Observer { Box::new(|line| eprintln!("{line}")) });
        match watch(seed, None, observer) {
            Ok(passed) => {
                seeds += 1;
                crashes += passed.crashes;
                acknowledged += passed.acknowledged;
                states.extend(passed.crash_states);
            }
            Err(failed) => {
                eprintln!("{failed}");
                return ExitCode::FAILURE;
            }
        }
        if wanted.one || begun.elapsed() >= Duration::from_secs(wanted.seconds) {
            break;
        }
    }
    println!(
        "{seeds} seeds from {} on, {crashes} crashes, {} distinct crash states, {acknowledged} \
         acknowledged operations, nothing broken",
        wanted.from_seed,
        states.len()
    );
    ExitCode::SUCCESS
}
