//! The simulator: drives the real log, sans I/O, on the simulated disk, from one seed. Actions of
//! the two lanes interleave in any order, take any time, and are cut off in the middle by a
//! crash. May not know: the log's inside, the clock, anything that does not follow from the seed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_log::limits::OPEN_FILES_MAX;
use tidemill_log::options::Fault;
use tidemill_log::{Action, Files, Health, Io, IoFailure, Lane, Log, Now, OpenError, Step};
use uuid::Uuid;

use crate::sim::checker::{Broken, Checker, Death};
use crate::sim::disk::{Counts, Faults, SimDisk};
use crate::sim::ledger::{Ledger, Shared};
use crate::sim::random::{Random, mix};
use crate::sim::scenario::{Scenario, WALL_BEGINS_MS, Workload};

/// Keeps the draws of a scenario apart from those of its run.
const SCENARIO: u64 = 0x5ce4_a210;

/// Steps after which a life ends, however little was acknowledged.
const LIFE_MAX_STEPS: u64 = 20_000;

/// Steps that everything under way gets to end in, on a disk without faults.
const DRAIN_MAX_STEPS: u64 = 50_000;

/// Acknowledged operations of a life that make its end count as a crash state.
pub const CRASH_STATE_MIN_OPERATIONS: u64 = 100;

/// What a run without a broken promise was.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Images that losses of power left, each after enough acknowledged operations.
    pub crash_states: BTreeSet<u64>,
    /// Crashes of any kind.
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
    /// Segments whose files were removed while their partition lives on.
    pub expired: u64,
    /// Steps.
    pub steps: u64,
    /// What the disk did.
    pub disk: Counts,
    /// A hash over everything that happened: the same for the same seed.
    pub trail: u64,
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
    /// Whether that follows from the seed alone.
    pub drawn: bool,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}, life {}, step {}: {}\n{}",
            self.seed, self.life, self.step, self.broken, self.scenario
        )?;
        if self.drawn {
            let simulate = "cargo run -p tidemill-testkit --bin simulate";
            write!(f, "\nreproduce with: {simulate} -- --seed {}", self.seed)?;
        }
        Ok(())
    }
}

/// An [`Io`] on its way through the disk.
struct Job {
    io: Io,
    /// Actions done.
    done: usize,
    failure: Option<IoFailure>,
    /// What was promised when it was asked for.
    promised: u64,
}

impl Job {
    fn is_over(&self) -> bool {
        self.failure.is_some() || self.done == self.io.actions.len()
    }

    /// Does the next action. Answers it, where it succeeded.
    fn advance(&mut self, files: &Files) -> Option<Action> {
        let action = self.io.actions.get(self.done)?.clone();
        let one = Io {
            id: self.io.id,
            lane: self.io.lane,
            actions: vec![action.clone()],
        };
        self.done += 1;
        match one.run(files) {
            Ok(()) => Some(action),
            Err(failure) => {
                self.failure = Some(failure);
                None
            }
        }
    }
}

/// The next action of an [`Io`], in words.
fn describe(io: &Io, done: usize) -> String {
    match io.actions.get(done) {
        Some(Action::Write {
            path,
            position,
            pieces,
        }) => {
            let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
            format!("{:?} write {path} {bytes} bytes at {position}", io.lane)
        }
        other => format!("{:?} {other:?}", io.lane),
    }
}

/// How a life goes: how often what is done, in parts of a thousand.
struct Pace {
    submit: u64,
    work: u64,
    time: u64,
    crash_per_million: u32,
    faults: bool,
    least_operations: u64,
}

struct Run {
    random: Random,
    scenario: Scenario,
    fault: Option<Fault>,
    workload: Workload,
    shared: Shared,
    checker: Checker,
    disk: SimDisk,
    files: Arc<Files>,
    jobs: Vec<Job>,
    monotonic: Duration,
    life: u64,
    /// Failures of the disk before this life.
    failures_before: u64,
    /// Is told what happens, in words.
    observer: Option<Observer>,
    passed: Passed,
}

/// Is told what happens in a run, a line at a time.
pub type Observer = Box<dyn FnMut(String)>;

fn is_read_only(log: &Log<Ledger, u64>) -> bool {
    matches!(log.health(), Health::ReadOnly(_))
}

/// Runs one seed, with a planted fault where one is given.
///
/// # Errors
/// The first broken promise.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Passed, Failed> {
    watch(seed, fault, None)
}

/// As [`run`], and tells `observer` what happens.
///
/// # Errors
/// The first broken promise.
pub fn watch(
    seed: u64,
    fault: Option<Fault>,
    observer: Option<Observer>,
) -> Result<Passed, Failed> {
    let scenario = Scenario::draw(&mut Random::new(seed ^ SCENARIO));
    run_scenario(seed, scenario, fault, observer).map_err(|failed| Failed {
        drawn: fault.is_none(),
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
    observer: Option<Observer>,
) -> Result<Passed, Failed> {
    let mut run = Run::new(seed, scenario, fault);
    run.observer = observer;
    match run.all_lives() {
        Ok(()) => {
            run.passed.acknowledged = run.checker.acknowledged();
            run.passed.disk = run.disk.counts();
            Ok(run.passed)
        }
        Err(Broken(broken)) => Err(Failed {
            seed,
            life: run.life,
            step: run.passed.steps,
            broken,
            scenario: format!("{:?}", run.scenario),
            drawn: false,
        }),
    }
}

impl Run {
    fn new(seed: u64, scenario: Scenario, fault: Option<Fault>) -> Self {
        let random = Random::new(seed);
        let disk = SimDisk::new(mix(seed));
        let shared = Shared::default();
        Self {
            random,
            fault,
            workload: Workload::default(),
            checker: Checker::new(shared.clone(), scenario.every_commit()),
            shared,
            files: Arc::new(Files::new(Arc::new(disk.clone()), OPEN_FILES_MAX)),
            disk,
            jobs: Vec::new(),
            monotonic: Duration::ZERO,
            life: 0,
            failures_before: 0,
            observer: None,

            passed: Passed::default(),
            scenario,
        }
    }

    fn all_lives(&mut self) -> Result<(), Broken> {
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

    fn now(&self) -> Now {
        let wall = Timestamp::UNIX_EPOCH + Duration::from_millis(WALL_BEGINS_MS) + self.monotonic;
        Now {
            wall,
            monotonic: self.monotonic,
        }
    }

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.observer.is_some() {
            let line = format!("{} {}", self.passed.steps, what(self));
            self.observer.iter_mut().for_each(|tell| tell(line.clone()));
        }
    }

    fn trace(&mut self, what: u64) {
        self.passed.trail = mix(self.passed.trail ^ what);
    }

    /// Opens the log, sometimes only after crashes in the middle of it.
    fn recover(&mut self, death: &mut Death) -> Result<Log<Ledger, u64>, Broken> {
        let mut crashes = self.random.below(self.scenario.recovery_crashes_max + 2);
        crashes = crashes.saturating_sub(1);
        loop {
            self.trouble(crashes > 0);
            match self.open() {
                Ok(log) => {
                    self.trouble(false);
                    self.tell(|run| format!("life {} opens: {log:?}", run.life));
                    self.trace(self.disk.image_hash());
                    let reader = log.reader(Arc::clone(&self.files));
                    self.checker.time(self.now().wall.as_millisecond());
                    self.checker.recovered(&reader, *death)?;
                    let alive = self.checker.live().partitions.keys().copied();
                    self.workload.begin_again(alive);
                    return Ok(log);
                }
                Err(OpenError::Io { .. } | OpenError::Full { .. }) if crashes > 0 => {
                    crashes -= 1;
                    self.passed.crashes_in_recovery += 1;
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

    fn open(&mut self) -> Result<Log<Ledger, u64>, OpenError> {
        let mut options = self.scenario.options.clone();
        if let Some(fault) = self.fault {
            options = options.with_fault(fault);
        }
        let machine = Ledger::new(self.shared.clone());
        let seed = (u128::from(self.random.bits()) << 64) | u128::from(self.random.bits());
        Log::recover(
            &self.files,
            options,
            machine,
            self.now(),
            Uuid::from_u128(seed),
        )
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
                let action = describe(&job.io, job.done);
                job.advance(&self.files);
                self.tell(|_| format!("at the crash: {action}"));
            }
        }
        self.passed.crashes += 1;
        self.failures_before = self.disk.counts().failures();
        let death = if self.random.chance(350_000) {
            self.disk = self.disk.kill();
            Death::Killed
        } else {
            self.disk = self.disk.lose_power();
            Death::PowerLost
        };
        self.files = Arc::new(Files::new(Arc::new(self.disk.clone()), OPEN_FILES_MAX));
        self.trace(self.disk.image_hash());
        self.tell(|run| format!("{death:?}: {:?}", run.disk.durable_files()));
        death
    }

    fn pace(&mut self) -> Pace {
        let random = &mut self.random;
        let early = random.chance(250_000) || self.scenario.life_min_operations == 0;
        Pace {
            submit: random.between(100, 500),
            work: random.between(200, 800),
            time: random.between(5, 100),
            crash_per_million: if early { 20_000 } else { 5_000 },
            faults: random.chance(500_000),
            least_operations: if early {
                0
            } else {
                self.scenario.life_min_operations
            },
        }
    }

    fn live(&mut self, mut log: Log<Ledger, u64>) -> Result<Death, Broken> {
        let pace = self.pace();
        if pace.faults {
            self.disk.set_faults(self.scenario.faults);
        }
        let begun = self.checker.acknowledged();
        let mut failed_at = None;
        for step in 0..LIFE_MAX_STEPS {
            self.step(&mut log, &pace)?;
            let operations = self.checker.acknowledged() - begun;
            let enough = operations >= pace.least_operations;
            // A log that gave up has a few steps left to be looked at.
            failed_at = failed_at.or_else(|| is_read_only(&log).then_some(step));
            let over = failed_at.is_some_and(|at| step > at + 200);
            if over || enough && self.random.chance(pace.crash_per_million) {
                break;
            }
        }
        if failed_at.is_none() && self.random.chance(300_000) {
            self.drain(&mut log)?;
        }
        let operations = self.checker.acknowledged() - begun;
        drop(log);
        let death = self.crash();
        if death == Death::PowerLost && operations >= CRASH_STATE_MIN_OPERATIONS {
            self.passed.crash_states.insert(self.disk.image_hash());
        }
        Ok(death)
    }

    fn step(&mut self, log: &mut Log<Ledger, u64>, pace: &Pace) -> Result<(), Broken> {
        self.passed.steps += 1;
        let draw = self.random.below(1000);
        if draw < pace.submit {
            self.submit(log);
        } else if draw < pace.submit + pace.time {
            self.pass_time(log);
        } else if draw > 985 {
            self.read(log)?;
        }
        if self.random.below(1000) < pace.work {
            self.work(log)?;
        }
        self.pump(log)
    }

    fn submit(&mut self, log: &mut Log<Ledger, u64>) {
        if self.checker.open() as u64 >= self.scenario.open_max {
            return;
        }
        let events = &self.checker.live().partitions;
        let end = |partition| {
            events
                .get(&partition)
                .map_or(0, |events| events.len() as u64)
        };
        let size = self.scenario.value_max_bytes;
        let operation = self.workload.next(&mut self.random, size, end);
        self.checker.submitted(operation.number);
        self.tell(|_| format!("submit {operation:?}"));
        log.submit(operation.clone(), operation.number);
    }

    fn pass_time(&mut self, log: &mut Log<Ledger, u64>) {
        let millis = if self.random.chance(50_000) {
            2_000
        } else {
            20
        };
        self.monotonic += Duration::from_millis(self.random.below(millis));
        let now = self.now();
        self.checker.time(now.wall.as_millisecond());
        log.tick(now);
    }

    fn read(&mut self, log: &Log<Ledger, u64>) -> Result<(), Broken> {
        let Some(partition) = self.workload.some(&mut self.random) else {
            return Ok(());
        };
        let events = self.checker.live().partitions.get(&partition);
        let from = self
            .random
            .below(events.map_or(0, |events| events.len() as u64) + 1);
        let reads = self.random.between(1, 3);
        let reader = log.reader(Arc::clone(&self.files));
        self.checker.read(&reader, partition, from, reads)
    }

    /// The disk does something.
    fn work(&mut self, log: &mut Log<Ledger, u64>) -> Result<(), Broken> {
        let index = self.random.index(self.jobs.len());
        let Some(job) = self.jobs.get_mut(index) else {
            return Ok(());
        };
        let action = describe(&job.io, job.done);
        // The journal's lane syncs what was acknowledged before; the background's only files
        // that it makes.
        match job.advance(&self.files) {
            Some(Action::Sync(_)) if job.io.lane == Lane::Journal => {
                self.checker.synced(job.promised);
            }
            Some(Action::Create(path)) => {
                self.passed.snapshots += u64::from(path.starts_with("snapshots/"));
                self.passed.segments += u64::from(path.ends_with(".log"));
            }
            Some(Action::RemoveDir(_)) => self.passed.removals += 1,
            Some(Action::Remove(path)) if path.ends_with(".log") => self.passed.expired += 1,
            _ => {}
        }
        let failed = job.failure.as_ref().map(ToString::to_string);
        let over = job.is_over();
        self.tell(|_| format!("{action} {}", failed.unwrap_or_default()));
        if over && self.random.chance(700_000) {
            let job = self.jobs.swap_remove(index);
            self.trace(job.io.id.0 ^ u64::from(job.failure.is_some()) << 63);
            log.finish(job.io.id, job.failure.map_or(Ok(()), Err));
            if self.scenario.tells_space {
                log.space(self.files.disk().available_bytes());
            }
        }
        Ok(())
    }

    /// Takes everything that the log has to say.
    fn pump(&mut self, log: &mut Log<Ledger, u64>) -> Result<(), Broken> {
        loop {
            match log.poll() {
                Step::Io(io) => self.jobs.push(Job {
                    io,
                    done: 0,
                    failure: None,
                    promised: self.checker.promised(),
                }),
                Step::Done { token, outcome } => {
                    self.trace(token);
                    self.tell(|_| format!("operation {token}: {outcome:?}"));
                    let faulty = self.has_failed();
                    self.checker.answered(token, &outcome, faulty)?;
                }
                Step::Failed(why) if !self.has_failed() => {
                    return Err(Broken(format!("the log gave up on a sound disk: {why}")));
                }
                Step::Advanced { .. } | Step::Failed(_) => {}
                Step::Idle { .. } | Step::Closed => return Ok(()),
            }
        }
    }

    /// Whether the disk has failed since the last crash.
    fn has_failed(&self) -> bool {
        self.disk.counts().failures() > self.failures_before
    }

    /// Everything under way must end, once the disk has no faults.
    fn drain(&mut self, log: &mut Log<Ledger, u64>) -> Result<(), Broken> {
        self.disk.set_faults(Faults::default());
        for _ in 0..DRAIN_MAX_STEPS {
            self.work(log)?;
            self.pass_time(log);
            self.pump(log)?;
            if self.checker.open() == 0 && self.jobs.is_empty() {
                break;
            }
        }
        let open = self.checker.open();
        if open > 0 {
            return Err(Broken(format!(
                "{open} operations have no answer after {DRAIN_MAX_STEPS} steps of a sound disk, \
                 {:?}: {log:?}",
                log.health()
            )));
        }
        let partitions: Vec<u64> = self.checker.ever().collect();
        let reader = log.reader(Arc::clone(&self.files));
        for partition in partitions {
            self.checker.read(&reader, partition, 0, u64::MAX)?;
        }
        Ok(())
    }
}
