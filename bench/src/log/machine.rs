//! A log whose machine knows nothing but partitions, so that the log alone is measured.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use tidemill_core::{Offset, Partition, TopicId};
use tidemill_log::driver::{self, FileDisk, Handle};
use tidemill_log::{
    Batch, BatchBuilder, Demand, Draft, Dump, Effect, LoadError, Lsn, Machine, Now, OpenError,
    Options, Outcome, PartitionId,
};
use uuid::Uuid;

/// What it is asked for.
pub(crate) enum Operation {
    Create(Vec<PartitionId>),
    Append(PartitionId, Batch),
}

/// See the module.
pub(crate) struct Plain;

impl Machine for Plain {
    type Operation = Operation;
    type Receipt = Offset;
    type Refusal = ();

    fn demand(operation: &Operation) -> Demand {
        match operation {
            Operation::Create(ids) => Demand {
                bytes: 128 * ids.len(),
                records: 0,
                appends: true,
                lane: 0,
            },
            // Topics take turns, as the broker's do.
            Operation::Append(id, batch) => Demand {
                bytes: batch.size_bytes() + 128,
                records: batch.size_bytes(),
                appends: true,
                lane: id.topic.0.as_u64_pair().1,
            },
        }
    }

    fn seal(&mut self, operation: Operation, _: Now, draft: &mut Draft<'_>) -> Result<Offset, ()> {
        match operation {
            Operation::Create(ids) => {
                ids.into_iter().for_each(|id| draft.create_partition(id));
                Ok(Offset(0))
            }
            Operation::Append(id, batch) => draft.append(id, batch).ok_or(()),
        }
    }

    fn apply(&mut self, _: Lsn, _: Effect<'_>) {}

    fn dump(&self) -> Dump {
        Box::new(std::iter::empty())
    }

    fn load(&mut self, _: &[u8]) -> Result<(), LoadError> {
        Ok(())
    }

    fn recovered(&mut self) {}
}

/// The partition of this number, of a topic of its own.
pub(crate) fn partition(number: u128) -> PartitionId {
    PartitionId {
        topic: TopicId(Uuid::from_u128(number)),
        partition: Partition(0),
    }
}

/// A batch of `records` records of `bytes` bytes each.
pub(crate) fn batch(records: usize, bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let value: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    for _ in 0..records {
        let pushed = builder.push(1, None, Some(&value), std::iter::empty());
        pushed.expect("the batch is smaller than the largest");
    }
    builder.finish().expect("it has records")
}

/// Opens the log in a folder.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Handle<Plain>, OpenError> {
    let disk = Arc::new(FileDisk::new(dir));
    driver::open(disk, options.clone(), Plain, Arc::new(()))
}

/// Submits; the end comes through the receiver.
pub(crate) fn submit(log: &Handle<Plain>, operation: Operation) -> mpsc::Receiver<Outcome<Plain>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    log.submit(operation, move |outcome| {
        let _ = sender.send(outcome);
    });
    receiver
}

/// Submits and waits.
pub(crate) fn ask(log: &Handle<Plain>, operation: Operation) -> Result<(), String> {
    let ended = submit(log, operation).recv();
    let outcome = ended.map_err(|_| "the log has ended".to_owned())?;
    outcome.map(drop).map_err(|why| format!("{why:?}"))
}
