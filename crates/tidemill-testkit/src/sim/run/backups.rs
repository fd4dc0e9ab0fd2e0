//! Backups of the log while it runs: a moment is pinned, the log goes on, the copy is made with
//! steps of the log between its files, and what is restored from it must be exactly what was
//! durable at that moment. Half of those that are broken off take the log with them: nobody gives
//! back what was pinned. May not know: how a backup is made.

use std::cell::RefCell;

use jiff::Timestamp;
use tidemill_log::backup::{BackedUp, BackupError, Pinned, Taking, restore, take};
use tidemill_log::{Lsn, PinId};
use uuid::Uuid;

use super::life::Pace;
use super::{Opening, Run, Simulated, files_of};
use crate::sim::checker::Broken;
use crate::sim::disk::SimDisk;
use crate::sim::ledger::Shared;

/// Steps of the log between the pin and the copy, between two files, and before it is released.
const STEPS_MAX: u64 = 12;

impl Run {
    /// Answers whether the log goes on: it may die in the middle.
    pub(super) fn back_up(&mut self, log: &mut Simulated, pace: &Pace) -> Result<bool, Broken> {
        if self.backing_up {
            return Ok(true);
        }
        // None while a superblock is being written.
        let Some((id, pinned)) = log.pin() else {
            return Ok(true);
        };
        self.backing_up = true;
        let expected = self.applied_through(pinned.through());
        if self.scenario.every_commit() && expected < self.checker.promised() {
            let promised = self.checker.promised();
            let what = format!("a pin holds {expected} operations, and {promised} were promised");
            return Err(Broken(what));
        }
        self.some_steps(log, pace, 4 * STEPS_MAX)?;
        let to = SimDisk::new(self.random.bits());
        let breaks = self.random.chance(250_000);
        let changes = self.random.below(120);
        to.fail_after(breaks.then_some(changes));
        let taken = self.copy(log, pace, &to, id, &pinned)?;
        let dies = taken.is_err() && breaks && changes.is_multiple_of(2);
        if dies {
            self.passed.tally.deaths_in_backups += 1;
        } else {
            self.some_steps(log, pace, STEPS_MAX)?;
            log.release(id);
        }
        self.backing_up = false;
        let to = to.lose_power();
        match taken {
            Ok(_) => self.restored_is_right(&to, expected)?,
            Err(_) if breaks => self.broken_off_is_refused(&to, expected)?,
            Err(error) => {
                return Err(Broken(format!("a backup of a sound disk failed: {error}")));
            }
        }
        Ok(!dies)
    }

    /// How many operations the entries up to this one are.
    fn applied_through(&self, through: Lsn) -> u64 {
        let history = self.shared.enter();
        let mut entries = history.entries.iter().rev();
        let last = entries.find(|(lsn, _)| *lsn <= through);
        last.map_or(0, |(_, applied)| *applied)
    }

    fn some_steps(&mut self, log: &mut Simulated, pace: &Pace, most: u64) -> Result<(), Broken> {
        for _ in 0..self.random.below(most) {
            self.step(log, pace)?;
        }
        Ok(())
    }

    /// Makes the copy; the log goes on between its files.
    fn copy(
        &mut self,
        log: &mut Simulated,
        pace: &Pace,
        to: &SimDisk,
        id: PinId,
        pinned: &Pinned,
    ) -> Result<Result<BackedUp, BackupError>, Broken> {
        let from = self.disk.clone();
        let seed = Uuid::from_u128(u128::from(self.random.bits()) << 64 | 1);
        let world = RefCell::new((self, log));
        let broken = RefCell::new(None);
        let mut watch = |_: tidemill_log::inspect::Progress<'_>| {
            let mut world = world.borrow_mut();
            let (run, log) = &mut *world;
            if broken.borrow().is_none()
                && let Err(why) = run.some_steps(log, pace, STEPS_MAX)
            {
                broken.replace(Some(why));
            }
        };
        let mut loosen = || world.borrow_mut().1.loosen(id);
        let how = Taking {
            taken: Timestamp::UNIX_EPOCH,
            seed,
            link: false,
            watch: &mut watch,
        };
        let taken = take(&from, pinned, to, how, &mut loosen);
        match broken.into_inner() {
            Some(why) => Err(why),
            None => Ok(taken),
        }
    }

    fn restored_is_right(&mut self, backup: &SimDisk, expected: u64) -> Result<(), Broken> {
        let wrong = |why: String| Broken(format!("a backup that was restored: {why}"));
        let target = SimDisk::new(self.random.bits());
        restore(backup, &target, &mut |_| {}).map_err(|error| wrong(error.to_string()))?;
        let target = target.lose_power();
        let (shared, files) = (Shared::default(), files_of(&target));
        let seed = u128::from(self.random.bits());
        let log = self.opening(&shared, seed).on(&files);
        let log = log.map_err(|error| wrong(error.to_string()))?;
        let found = log.machine().applied();
        if found != expected {
            return Err(wrong(format!("{found} operations instead of {expected}")));
        }
        let seen = self.holds(&log, &shared, &files, expected);
        self.seen.add(seen.map_err(|Broken(why)| wrong(why))?);
        self.passed.tally.backups += 1;
        Ok(())
    }

    fn opening<'a>(&'a self, shared: &'a Shared, seed: u128) -> Opening<'a> {
        Opening {
            scenario: &self.scenario,
            fault: self.fault,
            shared,
            now: self.clock.now(),
            seed,
        }
    }

    /// A backup that was broken off is refused, but where its last bytes came through: then it is
    /// whole.
    fn broken_off_is_refused(&mut self, backup: &SimDisk, expected: u64) -> Result<(), Broken> {
        let target = SimDisk::new(self.random.bits());
        if restore(backup, &target, &mut |_| {}).is_ok() {
            return self.restored_is_right(backup, expected);
        }
        self.passed.tally.broken_backups += 1;
        Ok(())
    }
}
