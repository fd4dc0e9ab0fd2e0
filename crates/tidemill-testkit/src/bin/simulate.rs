//! Runs the simulator from a seed on for as long as asked, on as many threads as asked, or one
//! seed. May not know: what the simulator does.

use std::collections::{BTreeSet, HashSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemill_testkit::sim::simulator::{Effort, Failed, Observer, Passed, Tally, watch};

const USAGE: &str = "usage: simulate [--seconds N] [--from-seed N] [--threads N] [--report N] \
                     [--seed N] [--smoke 1] [--trace 1]";

/// What the command line asks for.
struct Wanted {
    seconds: u64,
    from_seed: u64,
    threads: u64,
    /// Seconds between two lines that say how far it is.
    report: u64,
    one: bool,
    trace: bool,
    effort: Effort,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted {
        seconds: 60,
        from_seed: 1,
        threads: 1,
        report: 60,
        one: false,
        trace: false,
        effort: Effort::SOAK,
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
            "--threads" => wanted.threads = number,
            "--report" => wanted.report = number,
            "--seed" => (wanted.from_seed, wanted.one) = (number, true),
            "--smoke" if number > 0 => wanted.effort = Effort::SMOKE,
            "--trace" => wanted.trace = number > 0,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(wanted)
}

/// What all threads have done so far.
#[derive(Default)]
struct Done {
    seeds: u64,
    states: HashSet<u64>,
    tally: Tally,
    /// Seeds that were begun and have not ended.
    running: BTreeSet<u64>,
    next_seed: u64,
    failed: Option<Failed>,
}

impl Done {
    fn take(&mut self, seed: u64, ended: Result<Passed, Failed>) {
        self.running.remove(&seed);
        match ended {
            Ok(passed) => {
                self.seeds += 1;
                self.tally.add(&passed.tally);
                self.states.extend(passed.crash_states);
            }
            Err(failed) => self.failed = Some(failed),
        }
    }

    /// The seed to go on with: everything before has ended.
    fn goes_on_with(&self) -> u64 {
        let first = self.running.first().copied();
        first.unwrap_or(self.next_seed)
    }

    fn line(&self, begun: Instant) -> String {
        let seconds = begun.elapsed().as_secs_f64();
        let states = self.states.len();
        format!(
            "{seconds:.0} s: {} seeds, {} crashes, {states} distinct crash states, {:.0} of them \
             a second, {} acknowledged operations; go on with --from-seed {}",
            self.seeds,
            self.tally.crashes + self.tally.crashes_in_recovery + self.tally.images,
            states as f64 / seconds.max(0.001),
            self.tally.acknowledged,
            self.goes_on_with()
        )
    }
}

/// Takes seed after seed until the time is over.
fn work(wanted: &Wanted, next: &AtomicU64, over: &AtomicBool, done: &Mutex<Done>) {
    let enter = || done.lock().unwrap_or_else(PoisonError::into_inner);
    while !over.load(Ordering::Relaxed) {
        let seed = {
            let mut done = enter();
            let seed = next.fetch_add(1, Ordering::Relaxed);
            done.running.insert(seed);
            done.next_seed = seed + 1;
            seed
        };
        let observer: Option<Observer> = wanted
            .trace
            .then(|| -> Observer { Box::new(|line| eprintln!("{line}")) });
        let ended = watch(seed, None, wanted.effort, observer);
        let failed = ended.is_err();
        enter().take(seed, ended);
        if failed || wanted.one {
            over.store(true, Ordering::Relaxed);
        }
    }
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
    let next = AtomicU64::new(wanted.from_seed);
    let over = AtomicBool::new(false);
    let done = Mutex::new(Done {
        next_seed: wanted.from_seed,
        ..Done::default()
    });
    let enter = || done.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..wanted.threads.max(1) {
            scope.spawn(|| work(&wanted, &next, &over, &done));
        }
        let mut reported = begun;
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if begun.elapsed() >= Duration::from_secs(wanted.seconds) && !wanted.one {
                over.store(true, Ordering::Relaxed);
            }
            if reported.elapsed() >= Duration::from_secs(wanted.report.max(1)) {
                reported = Instant::now();
                println!("{}", enter().line(begun));
            }
        }
    });
    let done = enter();
    for (name, count) in done.tally.all() {
        println!("{count:>12} {name}");
    }
    println!("from seed {} on, {}", wanted.from_seed, done.line(begun));
    match &done.failed {
        Some(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
        None => {
            println!("nothing broken");
            ExitCode::SUCCESS
        }
    }
}
