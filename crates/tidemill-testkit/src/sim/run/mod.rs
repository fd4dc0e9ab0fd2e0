//! One run of the simulator: lives of the log on the simulated disk, each ended by a crash.
//! Actions of the two lanes interleave in any order, take any time, and are cut off in the middle
//! by a crash. May not know: the log's inside, the clock, anything that does not follow from the
//! seed.

mod backups;
mod clock;
mod decay;
mod images;
mod job;
mod life;

use std::sync::Arc;

use tidemill_log::limits::OPEN_FILES_MAX;
use tidemill_log::options::Fault;
use tidemill_log::{Files, Log, Now, OpenError, Stats};
use uuid::Uuid;

use crate::sim::checker::{Broken, Checker, Death, Seen};
use crate::sim::disk::{Faults, SimDisk};
use crate::sim::ledger::{Ledger, Shared};
use crate::sim::random::{Random, mix};
use crate::sim::scenario::Scenario;
use crate::sim::simulator::{Effort, Observer, Passed};
use crate::sim::workload::Workload;
use clock::Clock;
use job::Job;

/// The log that is simulated.
type Simulated = Log<Ledger, u64>;

/// See the module.
pub(crate) struct Run {
    random: Random,
    /// Draws images, so that how many of them are looked at changes nothing else.
    image_random: Random,
    pub(crate) scenario: Scenario,
    fault: Option<Fault>,
    effort: Effort,
    workload: Workload,
    shared: Shared,
    checker: Checker,
    disk: SimDisk,
    files: Arc<Files>,
    jobs: Vec<Job>,
    clock: Clock,
    pub(crate) life: u64,
    /// What was acknowledged before this life.
    life_began: u64,
    /// Failures of the disk before this life.
    failures_before: u64,
    /// What the log has counted in this life, as last looked at.
    counted: Stats,
    /// A backup is being taken.
    backing_up: bool,
    /// What images have shown.
    seen: Seen,
    /// Is told what happens, in words.
    observer: Option<Observer>,
    pub(crate) passed: Passed,
}

/// Opens the log on a disk.
struct Opening<'a> {
    scenario: &'a Scenario,
    fault: Option<Fault>,
    shared: &'a Shared,
    now: Now,
    seed: u128,
}

impl Opening<'_> {
    fn on(&self, files: &Files) -> Result<Simulated, OpenError> {
        let mut options = self.scenario.options.clone();
        if let Some(fault) = self.fault {
            options = options.with_fault(fault);
        }
        let machine = Ledger::new(self.shared.clone());
        Log::recover(
            files,
            options,
            machine,
            self.now,
            Uuid::from_u128(self.seed),
        )
    }
}

impl Run {
    pub(crate) fn new(
        seed: u64,
        scenario: Scenario,
        fault: Option<Fault>,
        effort: Effort,
        observer: Option<Observer>,
    ) -> Self {
        let disk = SimDisk::new(mix(seed));
        let shared = Shared::default();
        Self {
            random: Random::new(seed),
            image_random: Random::new(mix(!seed)),
            fault,
            effort,
            workload: Workload::default(),
            checker: Checker::new(shared.clone(), scenario.every_commit()),
            shared,
            files: files_of(&disk),
            disk,
            jobs: Vec::new(),
            clock: Clock::new(),
            life: 0,
            life_began: 0,
            failures_before: 0,
            counted: Stats::default(),
            backing_up: false,
            seen: Seen::default(),
            observer,
            passed: Passed::default(),
            scenario,
        }
    }

    pub(crate) fn all_lives(&mut self) -> Result<(), Broken> {
        let mut death = Death::PowerLost;
        for _ in 0..self.scenario.lives {
            self.life += 1;
            let log = self.recover(&mut death)?;
            death = self.live(log)?;
        }
        let log = self.recover(&mut death)?;
        drop(log);
        Ok(())
    }

    /// What the run was.
    pub(crate) fn end(mut self) -> Passed {
        self.passed.tally.acknowledged = self.checker.acknowledged();
        self.passed.disk = self.disk.counts();
        self.passed.seen = self.seen;
        self.passed.seen.add(self.checker.seen());
        self.passed
    }

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.observer.is_some() {
            let line = format!("{} {}", self.passed.tally.steps, what(self));
            self.observer.iter_mut().for_each(|tell| tell(line.clone()));
        }
    }

    fn trace(&mut self, what: u64) {
        self.passed.trail = mix(self.passed.trail ^ what);
    }

    fn show_time(&mut self) {
        let (age_max_ms, aged_max_ms) = (self.clock.age_max_ms(), self.clock.aged_max_ms());
        self.checker.time(age_max_ms, aged_max_ms);
    }

    /// Opens the log, sometimes only after crashes in the middle of it.
    fn recover(&mut self, death: &mut Death) -> Result<Simulated, Broken> {
        let mut crashes = self.random.below(self.scenario.recovery_crashes_max + 2);
        crashes = crashes.saturating_sub(1);
        loop {
            self.trouble(crashes > 0);
            match self.open() {
                Ok(log) => {
                    self.trouble(false);
                    self.tell(|run| format!("life {} opens: {log:?}", run.life));
                    self.begin_life(&log, *death)?;
                    return Ok(log);
                }
                Err(OpenError::Io { .. } | OpenError::Full { .. }) if crashes > 0 => {
                    crashes -= 1;
                    self.passed.tally.crashes_in_recovery += 1;
                    let again = self.crash();
                    if again == Death::PowerLost {
                        *death = again;
                    }
                }
                Err(error) => {
                    return Err(Broken(format!(
                        "the log does not open after {death:?}: {error}"
                    )));
                }
            }
        }
    }

    fn begin_life(&mut self, log: &Simulated, death: Death) -> Result<(), Broken> {
        self.trace(self.disk.image_hash());
        if log.machine().applied() == 0 {
            self.clock.believed();
        }
        self.show_time();
        let reader = log.reader(Arc::clone(&self.files));
        self.checker.recovered(&reader, death)?;
        let live = self.checker.live();
        self.passed.tally.open_at_openings += u64::from(!live.state.open.is_empty());
        self.workload.begin_again(live);
        self.life_began = self.checker.acknowledged();
        self.counted = Stats::default();
        Ok(())
    }

    /// The power may go in the middle of what follows, or the disk may fail it.
    fn trouble(&mut self, wanted: bool) {
        let mut faults = Faults {
            flip_unsynced: self.scenario.faults.flip_unsynced,
            ..Faults::default()
        };
        let mut changes_left = None;
        match self.random.below(6) {
            0 if wanted => faults.sync_failure = 150_000,
            1 if wanted => faults.short_write = 100_000,
            2 if wanted => faults.write_failure = 100_000,
            _ if wanted => changes_left = Some(self.random.below(80)),
            _ => {}
        }
        self.disk.set_faults(faults);
        self.disk.fail_after(changes_left);
    }

    fn open(&mut self) -> Result<Simulated, OpenError> {
        let seed = (u128::from(self.random.bits()) << 64) | u128::from(self.random.bits());
        let opening = Opening {
            scenario: &self.scenario,
            fault: self.fault,
            shared: &self.shared,
            now: self.clock.now(),
            seed,
        };
        opening.on(&self.files)
    }

    /// The process or the power goes: what is under way gets somewhere on the disk, or not.
    fn crash(&mut self) -> Death {
        let mut jobs = std::mem::take(&mut self.jobs);
        while !jobs.is_empty() {
            let index = self.random.index(jobs.len());
            let Some(job) = jobs.get_mut(index) else {
                break;
            };
            if job.is_over() || self.random.chance(400_000) {
                jobs.swap_remove(index);
            } else {
                let action = job.describe();
                job.advance(&self.files);
                self.tell(|_| format!("at the crash: {action}"));
            }
        }
        self.passed.tally.crashes += 1;
        self.failures_before = self.disk.counts().failures();
        let death = if self.random.chance(350_000) {
            self.disk = self.disk.kill();
            Death::Killed
        } else {
            self.disk = self.disk.lose_power();
            Death::PowerLost
        };
        self.files = files_of(&self.disk);
        self.trace(self.disk.image_hash());
        self.tell(|run| format!("{death:?}: {:?}", run.disk.durable_files()));
        death
    }
}

fn files_of(disk: &SimDisk) -> Arc<Files> {
    Arc::new(Files::new(Arc::new(disk.clone()), OPEN_FILES_MAX))
}
