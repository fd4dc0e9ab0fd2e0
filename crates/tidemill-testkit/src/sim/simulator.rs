//! The simulator: drives the real log, sans I/O, on the simulated disk, from one seed. What a run
//! is asked for, and what it answers. May not know: how a run goes.

use std::collections::HashSet;
use std::fmt;

use tidemill_log::options::Fault;

use crate::sim::checker::{Broken, Seen};
use crate::sim::disk::Counts;
use crate::sim::random::Random;
use crate::sim::run::Run;
use crate::sim::scenario::Scenario;

/// Keeps the draws of a scenario apart from those of its run.
const SCENARIO: u64 = 0x5ce4_a210;

/// Acknowledged operations of a life that make its end count as a crash state.
pub const CRASH_STATE_MIN_OPERATIONS: u64 = 100;

/// How often something happened in a run, for tests that show that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Crashes of any kind that ended a life.
    pub crashes: u64,
    /// Crashes in the middle of a recovery.
    pub crashes_in_recovery: u64,
    /// Acknowledged operations.
    pub acknowledged: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Segments begun.
    pub segments: u64,
    /// Partitions whose files were removed.
    pub removals: u64,
    /// Segments that retention or a trim has deleted.
    pub expired: u64,
    /// Events deleted by offset, as far as acknowledged.
    pub trims: u64,
    /// Segments that were written anew and took their place.
    pub swaps: u64,
    /// Compactions that ended.
    pub compactions: u64,
    /// Transactions that were committed, as far as acknowledged.
    pub commits: u64,
    /// Transactions that were aborted, as far as acknowledged.
    pub aborts: u64,
    /// Lives that began with an open transaction.
    pub open_at_openings: u64,
    /// Backups that were taken, restored and found to be right.
    pub backups: u64,
    /// Backups that were broken off and refused.
    pub broken_backups: u64,
    /// Deaths in the middle of a backup.
    pub deaths_in_backups: u64,
    /// The wall clock leapt ahead.
    pub leaps_ahead: u64,
    /// The wall clock leapt back.
    pub leaps_back: u64,
    /// Bits flipped in a segment or its sidecar while the log lives on.
    pub decayed: u64,
    /// Sidecars that were replaced by another one's.
    pub lies: u64,
    /// Searches for a time.
    pub searches: u64,
    /// Images that were recovered and checked beside the run.
    pub images: u64,
    /// Of them, those whose recovery was cut off by another loss of power first.
    pub images_twice: u64,
    /// Images with a flipped bit that opened, and were right as far as they went.
    pub flipped_open: u64,
    /// Images with a flipped bit that were refused.
    pub flipped_refused: u64,
    /// Steps.
    pub steps: u64,
}

impl Tally {
    /// Every count, with its name.
    fn named(&mut self) -> [(&'static str, &mut u64); 26] {
        let Self {
            crashes,
            crashes_in_recovery,
            acknowledged,
            snapshots,
            segments,
            removals,
            expired,
            trims,
            swaps,
            compactions,
            commits,
            aborts,
            open_at_openings,
            backups,
            broken_backups,
            deaths_in_backups,
            leaps_ahead,
            leaps_back,
            decayed,
            lies,
            searches,
            images,
            images_twice,
            flipped_open,
            flipped_refused,
            steps,
        } = self;
        [
            ("crashes", crashes),
            ("crashes in a recovery", crashes_in_recovery),
            ("acknowledged operations", acknowledged),
            ("snapshots", snapshots),
            ("segments", segments),
            ("removals", removals),
            ("segments expired", expired),
            ("trims", trims),
            ("swaps", swaps),
            ("compactions", compactions),
            ("transactions committed", commits),
            ("transactions aborted", aborts),
            ("openings with an open transaction", open_at_openings),
            ("backups restored", backups),
            ("backups broken off", broken_backups),
            ("deaths in a backup", deaths_in_backups),
            ("leaps ahead", leaps_ahead),
            ("leaps back", leaps_back),
            ("bits decayed", decayed),
            ("lying sidecars", lies),
            ("searches for a time", searches),
            ("images", images),
            ("images that died twice", images_twice),
            ("flipped images that opened", flipped_open),
            ("flipped images refused", flipped_refused),
            ("steps", steps),
        ]
    }

    /// Everything with its name.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 26] {
        self.clone().named().map(|(name, count)| (name, *count))
    }

    /// Counts another's.
    pub fn add(&mut self, other: &Self) {
        for ((_, own), (_, other)) in self.named().into_iter().zip(other.all()) {
            *own += other;
        }
    }
}

/// What a run without a broken promise was.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Images that losses of power left, each after enough acknowledged operations, and each
    /// recovered and checked.
    pub crash_states: HashSet<u64>,
    /// How often what happened.
    pub tally: Tally,
    /// What reads have met.
    pub seen: Seen,
    /// What the disk did.
    pub disk: Counts,
    /// A hash over everything that happened: the same for the same seed.
    pub trail: u64,
}

/// How many images of crashes are looked at beside those that end a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Steps of a million at which the power might go.
    pub points_per_million: u32,
    /// Images at each of these, at most.
    pub images: u64,
}

impl Effort {
    /// What a test has time for.
    pub const SMOKE: Self = Self {
        points_per_million: 4_000,
        images: 4,
    };
    /// What finds the most distinct images a second.
    pub const SOAK: Self = Self {
        points_per_million: 60_000,
        images: 24,
    };
}

/// A run in which a promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The seed that does it again.
    pub seed: u64,
    /// In which life.
    pub life: u64,
    /// At which step.
    pub step: u64,
    /// What was broken.
    pub broken: String,
    /// What kind of run it was.
    pub scenario: String,
    /// The effort, where that and the seed are all that it follows from.
    pub drawn: Option<Effort>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}, life {}, step {}: {}\n{}",
            self.seed, self.life, self.step, self.broken, self.scenario
        )?;
        let Some(effort) = self.drawn else {
            return Ok(());
        };
        let simulate = "cargo run -p tidemill-testkit --bin simulate";
        write!(f, "\nreproduce with: {simulate} -- --seed {}", self.seed)?;
        if effort == Effort::SMOKE {
            write!(f, " --smoke 1")?;
        }
        Ok(())
    }
}

/// Is told what happens in a run, a line at a time.
pub type Observer = Box<dyn FnMut(String)>;

/// Runs one seed as a test does, with a planted fault where one is given.
///
/// # Errors
/// The first broken promise.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Passed, Failed> {
    watch(seed, fault, Effort::SMOKE, None)
}

/// Runs one seed, and tells `observer` what happens.
///
/// # Errors
/// The first broken promise.
pub fn watch(
    seed: u64,
    fault: Option<Fault>,
    effort: Effort,
    observer: Option<Observer>,
) -> Result<Passed, Failed> {
    let scenario = Scenario::draw(&mut Random::new(seed ^ SCENARIO));
    run_scenario(seed, scenario, fault, effort, observer).map_err(|failed| Failed {
        drawn: fault.is_none().then_some(effort),
        ..failed
    })
}

/// As [`watch`], with a scenario of the caller's.
///
/// # Errors
/// The first broken promise.
pub fn run_scenario(
    seed: u64,
    scenario: Scenario,
    fault: Option<Fault>,
    effort: Effort,
    observer: Option<Observer>,
) -> Result<Passed, Failed> {
    let mut run = Run::new(seed, scenario, fault, effort, observer);
    run.all_lives().map_err(|Broken(broken)| Failed {
        seed,
        life: run.life,
        step: run.passed.tally.steps,
        broken,
        scenario: format!("{:?}", run.scenario),
        drawn: None,
    })?;
    Ok(run.end())
}
