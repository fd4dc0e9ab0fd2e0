//! Cuts the power, or fails a sync, at the first step of the disk, at the second, and so on until
//! everything runs through; in a life of the log, in the recovery after it, and in the recovery
//! after that one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_log::limits::OPEN_FILES_MAX;
use tidemill_log::{Files, Log, Now, OpenError, Options, Step};
use tidemill_testkit::sim::SimDisk;
use tidemill_testkit::sim::checker::{Checker, Death};
use tidemill_testkit::sim::ledger::{Ledger, Operation, Part, Shared};
use uuid::Uuid;

struct World {
    disk: SimDisk,
    options: Options,
    shared: Shared,
    checker: Checker,
    opened: u128,
    operations: u64,
}

type Opened = (Log<Ledger, u64>, Arc<Files>);

fn now() -> Now {
    Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic: Duration::ZERO,
    }
}

/// As small as it may be, so that a few operations make it roll and checkpoint.
fn options() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 16 * 1024;
    options.journal_file_max_bytes = 16 * 1024;
    options.journal_max_bytes = 1024 * 1024;
    options.checkpoint_after_bytes = 24 * 1024;
    options.segment_max_bytes = 4096;
    options.segment_write_after_bytes = 1024;
    options
}

impl World {
    fn new(seed: u64) -> Self {
        let shared = Shared::default();
        Self {
            disk: SimDisk::new(seed),
            options: options(),
            checker: Checker::new(shared.clone(), true),
            shared,
            opened: 0,
            operations: 0,
        }
    }

    fn open(&mut self) -> Result<Opened, OpenError> {
        self.opened += 1;
        let files = Arc::new(Files::new(Arc::new(self.disk.clone()), OPEN_FILES_MAX));
        let machine = Ledger::new(self.shared.clone());
        let seed = Uuid::from_u128(self.opened);
        let log = Log::recover(&files, self.options.clone(), machine, now(), seed)?;
        Ok((log, files))
    }

    /// Opens the log and holds it to what was promised.
    fn open_and_check(&mut self, death: Death) -> Opened {
        let (log, files) = self.open().expect("a sound disk opens");
        let reader = log.reader(Arc::clone(&files));
        let checked = self.checker.recovered(&reader, death);
        checked.unwrap_or_else(|broken| panic!("{}", broken.0));
        (log, files)
    }

    /// Does the next operations, each to its end.
    fn work(&mut self, (log, files): &mut Opened, count: u64) {
        for _ in 0..count {
            self.operations += 1;
            let number = self.operations;
            let part = match number {
                1..=3 => Part::Create(number),
                _ if number.is_multiple_of(5) => Part::Add { key: 1, by: number },
                _ => Part::Publish {
                    partition: 1 + number % 3,
                    count: 2,
                    size: 600,
                },
            };
            let operation = Operation {
                number,
                parts: vec![part],
            };
            self.checker.submitted(number);
            log.submit(operation, number);
            loop {
                match log.poll() {
                    Step::Io(io) => {
                        let result = io.run(files);
                        log.finish(io.id, result);
                    }
                    Step::Done { token, outcome } => {
                        let checked = self.checker.answered(token, &outcome, true);
                        checked.unwrap_or_else(|broken| panic!("{}", broken.0));
                    }
                    Step::Idle { .. } | Step::Closed => break,
                    Step::Advanced { .. } | Step::Failed(_) => {}
                }
            }
        }
    }
}

/// The power goes after every number of steps of a life, then of the recovery after it.
#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    let mut whole = false;
    for cut in 0.. {
        let mut world = World::new(cut);
        world.disk.fail_after(Some(cut));
        if let Ok(mut opened) = world.open() {
            world.work(&mut opened, 24);
            whole = opened.0.health() == tidemill_log::Health::Ready;
        }
        world.disk = world.disk.lose_power();
        world.disk.fail_after(Some(cut % 61));
        let reopened = world.open().is_ok();
        world.disk = world.disk.lose_power();
        let mut opened = world.open_and_check(Death::PowerLost);
        world.work(&mut opened, 3);
        if whole && reopened {
            println!("{cut} steps");
            break;
        }
    }
    assert!(whole);
}

/// A sync fails in a recovery, the process starts again and trusts nothing that it sees, and the
/// power goes at any step of that.
///
/// Once a superblock whose sync had failed was taken for durable, and the journal that the other
/// one names was overwritten.
#[test]
fn a_superblock_whose_sync_failed_is_written_again_before_its_elder_is_given_up() {
    for failing in 0..8 {
        for cut in 0..30 {
            let mut world = World::new(failing * 1000 + cut);
            // Large enough to be used again by the next recovery.
            world.options.journal_file_first_bytes = 256 * 1024;
            world.options.journal_file_max_bytes = 256 * 1024;
            world.options.checkpoint_after_bytes = 128 * 1024;
            let mut opened = world.open().unwrap();
            world.work(&mut opened, 6);
            drop(opened);
            world.disk = world.disk.kill();
            world.disk.fail_sync_after(failing);
            let failed = world.open().is_err();
            world.disk = world.disk.kill();
            world.disk.fail_after(Some(cut));
            drop(world.open());
            world.disk = world.disk.lose_power();
            let mut opened = world.open_and_check(Death::PowerLost);
            world.work(&mut opened, 2);
            assert!(
                failed || failing > 4,
                "sync {failing} is one of a recovery's"
            );
        }
    }
}
