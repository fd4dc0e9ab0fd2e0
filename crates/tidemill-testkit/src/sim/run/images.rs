//! Images: what might be on the media if the power went now, many for each moment. Each is made
//! of a copy of the disk, opened, and held to what was promised; the run itself goes on as if
//! nothing had been. May not know: how the log keeps its files.

use std::sync::Arc;

use tidemill_log::{Files, OpenError, Step};

use super::{Opening, Run, Simulated, files_of};
use crate::sim::checker::{Broken, Seen};
use crate::sim::disk::{Faults, SimDisk};
use crate::sim::ledger::{Operation, Shared};
use crate::sim::random::{Random, mix};
use crate::sim::simulator::CRASH_STATE_MIN_OPERATIONS;

/// Images in a row that were met before, after which a moment has no others.
const STALE_MAX: u64 = 3;

/// What an image is put through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ordeal {
    /// It is opened.
    Opened,
    /// The power goes again while it is opened, and then it is opened.
    DiesTwice,
    /// A bit of it is flipped first.
    Flipped,
}

impl Ordeal {
    fn draw(random: &mut Random) -> Self {
        match random.below(16) {
            0 | 1 => Ordeal::Flipped,
            2 | 3 => Ordeal::DiesTwice,
            _ => Ordeal::Opened,
        }
    }
}

impl Run {
    /// At some steps, looks at what a loss of power might leave.
    pub(super) fn look_at_images(&mut self) -> Result<(), Broken> {
        let enough = self.operations() >= CRASH_STATE_MIN_OPERATIONS;
        if !enough || !self.image_random.chance(self.effort.points_per_million) {
            return Ok(());
        }
        let mut stale = 0;
        for _ in 0..self.effort.images {
            let mut random = self.image_random.fork();
            let disk = self.image(&mut random);
            let ordeal = Ordeal::draw(&mut random);
            if ordeal == Ordeal::Flipped {
                self.flipped(disk, &mut random)?;
                continue;
            }
            if !self.passed.crash_states.insert(disk.image_hash()) {
                stale += 1;
                if stale == STALE_MAX {
                    break;
                }
                continue;
            }
            self.recovers(disk, ordeal, &mut random)?;
        }
        Ok(())
    }

    /// A disk as a loss of power leaves it now: what is under way gets somewhere, or not.
    fn image(&self, random: &mut Random) -> SimDisk {
        let disk = self.disk.copy(random.bits());
        disk.set_faults(Faults {
            flip_unsynced: self.scenario.faults.flip_unsynced,
            ..Faults::default()
        });
        disk.fail_after(None);
        let files = files_of(&disk);
        for job in &self.jobs {
            let left = job.left() as u64;
            let count = random.below(left + 1);
            job.advance_copy(count as usize, &files);
        }
        disk.lose_power()
    }

    fn recovers(
        &mut self,
        mut disk: SimDisk,
        ordeal: Ordeal,
        random: &mut Random,
    ) -> Result<(), Broken> {
        self.passed.tally.images += 1;
        let hash = disk.image_hash();
        if ordeal == Ordeal::DiesTwice {
            disk.fail_after(Some(random.below(60)));
            let first = self.open_image(&disk, random);
            if let Err(error) = &first.0
                && !matches!(error, OpenError::Io { .. })
            {
                return Err(Broken(format!("image {hash:x} does not open: {error}")));
            }
            drop(first);
            disk = disk.lose_power();
            self.passed.tally.images_twice += 1;
        }
        let (opened, shared, files) = self.open_image(&disk, random);
        let mut log =
            opened.map_err(|error| Broken(format!("image {hash:x} does not open: {error}")))?;
        let floor = self.checker.durable_floor();
        let seen = self.holds(&log, &shared, &files, floor);
        let seen = seen.map_err(|Broken(why)| Broken(format!("image {hash:x}: {why}")))?;
        self.seen.add(seen);
        if random.chance(250_000) {
            takes_an_operation(&mut log, &files)
                .map_err(|why| Broken(format!("image {hash:x} {why}")))?;
        }
        Ok(())
    }

    /// Opens an image: the log, what its machine was told, its files.
    fn open_image(
        &self,
        disk: &SimDisk,
        random: &mut Random,
    ) -> (Result<Simulated, OpenError>, Shared, Arc<Files>) {
        let (shared, files) = (Shared::default(), files_of(disk));
        let opening = Opening {
            scenario: &self.scenario,
            fault: self.fault,
            shared: &shared,
            now: self.clock.now(),
            seed: u128::from(random.bits()) << 64 | u128::from(mix(random.bits())),
        };
        (opening.on(&files), shared, files)
    }

    /// Holds what was opened on a copy of the disk to the history.
    pub(super) fn holds(
        &self,
        log: &Simulated,
        shared: &Shared,
        files: &Arc<Files>,
        floor: u64,
    ) -> Result<Seen, Broken> {
        let state = shared.enter().recovered.take();
        let state =
            state.ok_or_else(|| Broken("the machine was not told that it recovered".to_owned()))?;
        let model = self.checker.beginning(state.applied, floor)?;
        self.checker
            .copy(&log.reader(files.clone()), &state, &model)
    }

    /// A bit is flipped in any file of an image: it may be refused, and what opens is true as far
    /// as it goes.
    fn flipped(&mut self, disk: SimDisk, random: &mut Random) -> Result<(), Broken> {
        let files = disk.durable_files();
        // Segments are most of the files, and other damage ends otherwise.
        let outside = random.chance(500_000);
        let wanted = |path: &str| !outside || !path.starts_with("topics/");
        let files: Vec<_> = files.iter().filter(|(path, _)| wanted(path)).collect();
        let Some((path, _)) = random.pick(&files) else {
            return Ok(());
        };
        disk.decay(path)
            .map_err(|error| Broken(error.to_string()))?;
        let partition = self.partition_of(path);
        let (opened, shared, files) = self.open_image(&disk, random);
        let log = match opened {
            Ok(log) => log,
            Err(_) if partition.is_none() => {
                self.passed.tally.flipped_refused += 1;
                return Ok(());
            }
            Err(error) => return Err(Broken(format!("{path} is no reason to refuse: {error}"))),
        };
        // Damage to the end of the journal may read as a torn end. What the lost entries gave up
        // may have gone from the disk already: then that is named where it is read.
        let (floor, harmed) = match partition {
            Some(partition) => (self.checker.durable_floor(), vec![partition]),
            None => (0, self.checker.ever().collect()),
        };
        let new = harmed.into_iter();
        let new = new.filter(|partition| !self.checker.is_decayed(*partition));
        let new: Vec<u64> = new.collect();
        new.iter().for_each(|new| self.checker.decayed(*new));
        let seen = self.holds(&log, &shared, &files, floor);
        new.iter().for_each(|new| self.checker.mended(*new));
        let seen = seen.map_err(|Broken(why)| Broken(format!("{path} flipped: {why}")))?;
        self.seen.add(seen);
        self.passed.tally.flipped_open += 1;
        Ok(())
    }
}

/// What was opened goes on: an operation is handed in and acknowledged.
pub(super) fn takes_an_operation(log: &mut Simulated, files: &Files) -> Result<(), String> {
    let number = u64::MAX;
    let parts = Vec::new();
    log.submit(Operation { number, parts }, number);
    loop {
        match log.poll() {
            Step::Io(io) => {
                let result = io.run(files);
                log.finish(io.id, result);
            }
            Step::Done { outcome: Ok(_), .. } => return Ok(()),
            Step::Advanced { .. } => {}
            Step::Done { outcome, .. } => {
                return Err(format!("opened and answered {outcome:?}"));
            }
            Step::Failed(why) => return Err(format!("opened and failed: {why}")),
            Step::Idle { .. } | Step::Closed => return Err("opened and does nothing".to_owned()),
        }
    }
}
