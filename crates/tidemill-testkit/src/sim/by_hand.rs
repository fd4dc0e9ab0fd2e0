//! The log driven step by step on any disk, each step to its end: for proofs that try every case
//! of something small. May not know: what a step means.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_log::limits::OPEN_FILES_MAX;
use tidemill_log::{Disk, Files, Log, Now, OpenError, Options, Reader, Step};
use uuid::Uuid;

use crate::sim::checker::Answer;
use crate::sim::ledger::{Ledger, Operation, Shared, State};

/// An open log.
#[derive(Debug)]
pub struct ByHand {
    /// The log.
    pub log: Log<Ledger, u64>,
    /// Its files.
    pub files: Arc<Files>,
    /// The state that the opening recovered.
    pub recovered: State,
    /// What its machine was told.
    pub shared: Shared,
}

fn at(monotonic: Duration) -> Now {
    Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic,
    }
}

impl ByHand {
    /// Opens the log that is on a disk. `seed` must differ each time.
    ///
    /// # Errors
    /// As the log has them.
    pub fn open(disk: &Arc<dyn Disk>, options: &Options, seed: u128) -> Result<Self, OpenError> {
        let files = Arc::new(Files::new(disk.clone(), OPEN_FILES_MAX));
        let shared = Shared::default();
        let log = Log::recover(
            &files,
            options.clone(),
            Ledger::new(shared.clone()),
            at(Duration::ZERO),
            Uuid::from_u128(seed),
        )?;
        let recovered = shared.enter().recovered.take().unwrap_or_default();
        Ok(Self {
            log,
            files,
            recovered,
            shared,
        })
    }

    /// Runs every step until nothing is left to do; answers what ended.
    pub fn settle(&mut self) -> Vec<(u64, Answer)> {
        let mut ended = Vec::new();
        loop {
            match self.log.poll() {
                Step::Io(io) => {
                    let result = io.run(&self.files);
                    self.log.finish(io.id, result);
                }
                Step::Done { token, outcome } => ended.push((token, outcome)),
                Step::Advanced { .. } | Step::Failed(_) => {}
                Step::Idle { .. } | Step::Closed => return ended,
            }
        }
    }

    /// Hands in operations at once, and runs until they have ended.
    pub fn run(&mut self, operations: &[Operation]) -> Vec<(u64, Answer)> {
        for operation in operations {
            self.log.submit(operation.clone(), operation.number);
        }
        self.settle()
    }

    /// Lets time pass, and does what that brings: the marker.
    pub fn pass(&mut self, time: Duration) {
        self.log.tick(at(time));
        self.settle();
    }

    /// A reader of what is committed.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.log.reader(self.files.clone())
    }
}
