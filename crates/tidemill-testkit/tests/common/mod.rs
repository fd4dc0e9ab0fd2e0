//! A log on a simulated disk that is driven by hand, one operation after the other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_log::limits::OPEN_FILES_MAX;
use tidemill_log::{Files, Lane, Log, Now, OpenError, Options, Step};
use tidemill_testkit::sim::SimDisk;
use tidemill_testkit::sim::checker::{Checker, Death};
use tidemill_testkit::sim::ledger::{Ledger, Operation, Part, Shared};
use uuid::Uuid;

/// See the module.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) options: Options,
    pub(crate) shared: Shared,
    pub(crate) checker: Checker,
    opened: u128,
    operations: u64,
    /// Background steps so far.
    pub(crate) background: u64,
    /// Operations that come while these background steps are under way.
    pub(crate) during: BTreeMap<u64, Vec<Part>>,
}

pub(crate) type Opened = (Log<Ledger, u64>, Arc<Files>);

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
    pub(crate) fn new(seed: u64) -> Self {
        let shared = Shared::default();
        Self {
            disk: SimDisk::new(seed),
            options: options(),
            checker: Checker::new(shared.clone(), true),
            shared,
            opened: 0,
            operations: 0,
            background: 0,
            during: BTreeMap::new(),
        }
    }

    pub(crate) fn open(&mut self) -> Result<Opened, OpenError> {
        self.opened += 1;
        let files = Arc::new(Files::new(Arc::new(self.disk.clone()), OPEN_FILES_MAX));
        let machine = Ledger::new(self.shared.clone());
        let seed = Uuid::from_u128(self.opened);
        let log = Log::recover(&files, self.options.clone(), machine, now(), seed)?;
        Ok((log, files))
    }

    /// Opens the log and holds it to what was promised.
    pub(crate) fn open_and_check(&mut self, death: Death) -> Opened {
        let (log, files) = self.open().expect("a sound disk opens");
        let reader = log.reader(Arc::clone(&files));
        let checked = self.checker.recovered(&reader, death);
        checked.unwrap_or_else(|broken| panic!("{}", broken.0));
        (log, files)
    }

    /// Does the next operations, each to its end.
    pub(crate) fn work(&mut self, (log, files): &mut Opened, count: u64) {
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
            self.submit(log, number, part);
            self.run(log, files);
        }
    }

    /// Does what was put off until this background step, while the step waits.
    fn inject(&mut self, log: &mut Log<Ledger, u64>, files: &Files) {
        let due = self.during.remove(&self.background);
        for part in due.into_iter().flatten() {
            self.operations += 1;
            self.submit(log, self.operations, part);
            self.run(log, files);
        }
    }

    fn submit(&mut self, log: &mut Log<Ledger, u64>, number: u64, part: Part) {
        let operation = Operation {
            number,
            parts: vec![part],
        };
        self.checker.submitted(number);
        log.submit(operation, number);
    }

    /// Does everything that the log wants done now.
    pub(crate) fn run(&mut self, log: &mut Log<Ledger, u64>, files: &Files) {
        loop {
            match log.poll() {
                Step::Io(io) => {
                    if io.lane == Lane::Background {
                        self.background += 1;
                        self.inject(log, files);
                    }
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
