//! One life of the log: operations are handed in, the disk does this and that, time passes, and
//! in the end it dies. May not know: how it is opened again.

use std::sync::Arc;

use tidemill_log::{Action, Health, Lane, Step};

use super::job::Job;
use super::{Run, Simulated};
use crate::sim::checker::{Answer, Broken, Death};
use crate::sim::disk::Faults;
use crate::sim::ledger::Part;
use crate::sim::simulator::CRASH_STATE_MIN_OPERATIONS;

/// Steps after which a life ends, however little was acknowledged.
const LIFE_MAX_STEPS: u64 = 20_000;

/// Steps that everything under way gets to end in, on a disk without faults.
const DRAIN_MAX_STEPS: u64 = 50_000;

/// How a life goes: how often what is done, in parts of a thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    submit: u64,
    work: u64,
    time: u64,
    crash_per_million: u32,
    faults: bool,
    least_operations: u64,
}

fn is_read_only(log: &Simulated) -> bool {
    matches!(log.health(), Health::ReadOnly(_))
}

impl Run {
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

    /// What was acknowledged in this life.
    pub(super) fn operations(&self) -> u64 {
        self.checker.acknowledged() - self.life_began
    }

    pub(super) fn live(&mut self, mut log: Simulated) -> Result<Death, Broken> {
        let pace = self.pace();
        if pace.faults {
            self.disk.set_faults(self.scenario.faults);
        }
        let (mut failed_at, mut dead) = (None, false);
        for step in 0..LIFE_MAX_STEPS {
            self.step(&mut log, &pace)?;
            self.look_at_images()?;
            if self.random.chance(self.scenario.backup_per_million) {
                dead = !self.back_up(&mut log, &pace)?;
            }
            let enough = self.operations() >= pace.least_operations;
            // A log that gave up has a few steps left to be looked at.
            failed_at = failed_at.or_else(|| is_read_only(&log).then_some(step));
            let over = failed_at.is_some_and(|at| step > at + 200);
            if dead || over || enough && self.random.chance(pace.crash_per_million) {
                break;
            }
        }
        if !dead && failed_at.is_none() && self.random.chance(300_000) {
            self.drain(&mut log)?;
        }
        self.count(&log);
        drop(log);
        let death = self.crash();
        if death == Death::PowerLost && self.operations() >= CRASH_STATE_MIN_OPERATIONS {
            self.passed.crash_states.insert(self.disk.image_hash());
        }
        self.decay();
        Ok(death)
    }

    /// Adds what the log has counted itself.
    fn count(&mut self, log: &Simulated) {
        let now = log.counters().read();
        let tally = &mut self.passed.tally;
        tally.compactions += now.compactions - self.counted.compactions;
        tally.expired += now.expired_segments - self.counted.expired_segments;
        self.counted = now;
    }

    pub(super) fn step(&mut self, log: &mut Simulated, pace: &Pace) -> Result<(), Broken> {
        self.passed.tally.steps += 1;
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

    fn submit(&mut self, log: &mut Simulated) {
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

    fn pass_time(&mut self, log: &mut Simulated) {
        let millis = if self.random.chance(50_000) {
            2_000
        } else {
            20
        };
        if self.random.chance(20_000) {
            let by = self.clock.leap(&mut self.random);
            self.passed.tally.leaps_ahead += u64::from(by > 0);
            self.passed.tally.leaps_back += u64::from(by < 0);
        }
        // The log's clock takes the whole time since it was last looked at for the new wall's.
        self.clock.pass(self.random.below(millis));
        self.show_time();
        log.tick(self.clock.now());
    }

    fn read(&mut self, log: &Simulated) -> Result<(), Broken> {
        let Some(partition) = self.workload.some(&mut self.random) else {
            return Ok(());
        };
        let events = self.checker.live().partitions.get(&partition);
        let count = events.map_or(0, |events| events.len() as u64);
        let from = self.random.below(count + 1);
        let reader = log.reader(Arc::clone(&self.files));
        if self.random.chance(300_000) {
            let event = events.and_then(|events| events.get(from as usize));
            let since_ms = event.map_or(0, |event| event.timestamp_ms());
            let since_ms = since_ms + self.random.below(20) as i64 - 10;
            self.passed.tally.searches += 1;
            return self.checker.search(&reader, partition, since_ms);
        }
        let reads = self.random.between(1, 3);
        self.checker.read(&reader, partition, from, reads)
    }

    /// The disk does something.
    fn work(&mut self, log: &mut Simulated) -> Result<(), Broken> {
        let index = self.random.index(self.jobs.len());
        let Some(job) = self.jobs.get_mut(index) else {
            return Ok(());
        };
        let action = job.describe();
        let done = job.advance(&self.files);
        // The journal's lane syncs what was acknowledged before; the background's only files
        // that it makes.
        if job.io.lane == Lane::Journal && matches!(done, Some(Action::Sync(_))) {
            self.checker.synced(job.promised);
        }
        let failed = job.failure.as_ref().map(ToString::to_string);
        let over = job.is_over();
        self.note(done.as_ref());
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

    /// Counts what the disk did.
    fn note(&mut self, done: Option<&Action>) {
        let tally = &mut self.passed.tally;
        match done {
            Some(Action::Create(path)) => {
                tally.snapshots += u64::from(path.starts_with("snapshots/"));
                tally.segments += u64::from(path.ends_with(".log"));
            }
            Some(Action::Sync(path)) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                tally.swaps += u64::from(name.ends_with(".log") && name.contains('-'));
            }
            Some(Action::RemoveDir(_)) => tally.removals += 1,
            _ => {}
        }
    }

    /// Takes everything that the log has to say.
    fn pump(&mut self, log: &mut Simulated) -> Result<(), Broken> {
        loop {
            match log.poll() {
                Step::Io(io) => {
                    let promised = self.checker.promised();
                    self.jobs.push(Job::new(io, promised));
                }
                Step::Done { token, outcome } => {
                    self.trace(token);
                    self.tell(|_| format!("operation {token}: {outcome:?}"));
                    let faulty = self.has_failed();
                    self.checker.answered(token, &outcome, faulty)?;
                    self.acknowledged(token, &outcome);
                }
                Step::Failed(why) if !self.has_failed() => {
                    return Err(Broken(format!("the log gave up on a sound disk: {why}")));
                }
                Step::Advanced { .. } | Step::Failed(_) => {}
                Step::Idle { .. } | Step::Closed => return Ok(()),
            }
        }
    }

    /// Counts what an operation has done.
    fn acknowledged(&mut self, number: u64, answer: &Answer) {
        if answer.is_err() {
            return;
        }
        let history = self.shared.enter();
        let mut sealed = history.sealed.iter().rev();
        let sealed = sealed.find(|sealed| sealed.operation.number == number);
        let tally = &mut self.passed.tally;
        for part in sealed.iter().flat_map(|sealed| &sealed.operation.parts) {
            match part {
                Part::Trim { .. } => tally.trims += 1,
                Part::End { commits, .. } if *commits => tally.commits += 1,
                Part::End { .. } => tally.aborts += 1,
                _ => {}
            }
        }
    }

    /// Whether the disk has failed since the last crash.
    fn has_failed(&self) -> bool {
        self.disk.counts().failures() > self.failures_before
    }

    /// Everything under way must end, once the disk has no faults.
    fn drain(&mut self, log: &mut Simulated) -> Result<(), Broken> {
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
        let reader = log.reader(Arc::clone(&self.files));
        for partition in self.checker.ever() {
            self.checker.read(&reader, partition, 0, u64::MAX)?;
        }
        Ok(())
    }
}
