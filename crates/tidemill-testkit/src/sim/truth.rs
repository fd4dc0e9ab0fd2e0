//! What may be on a disk after some operations, whatever happened to it: a beginning of them,
//! and of that exactly what is true. May not know: how the log keeps its files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidemill_core::Offset;
use tidemill_log::{Batch, Disk, OpenError, Options, Read, ReadError, Reader};

use crate::sim::by_hand::ByHand;
use crate::sim::checker::Model;
use crate::sim::ledger::{EventRef, Operation, partition_id};

/// Bytes that one read asks for.
const READ_MAX_BYTES: usize = 4096;

/// What a log said and gave when it was opened and read from end to end.
#[derive(Debug)]
pub enum Found {
    /// It refused to open, and said why.
    Refused(OpenError),
    /// It has the first `operations`; `fenced` of their events are named as damaged.
    Open {
        /// How many operations.
        operations: usize,
        /// How many events cannot be read.
        fenced: u64,
    },
}

/// Some operations, and the models of all their beginnings.
#[derive(Clone, Debug)]
pub struct Truth {
    models: Vec<Model>,
}

impl Truth {
    /// The truth after `operations` in this order.
    #[must_use]
    pub fn of(operations: &[Operation]) -> Self {
        let mut model = Model::default();
        let mut models = vec![model.clone()];
        for operation in operations {
            model.perform(operation);
            models.push(model.clone());
        }
        Self { models }
    }

    /// Opens the log on a disk, reads all of it, and goes on writing to it.
    ///
    /// # Errors
    /// In words: a panic, a record that is not true, a state that no beginning has, a log that
    /// opens and takes nothing.
    pub fn look(&self, disk: &Arc<dyn Disk>, options: &Options) -> Result<Found, String> {
        let look = catch_unwind(AssertUnwindSafe(|| self.look_inside(disk, options)));
        look.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(format!("a panic: {}", text.unwrap_or_default()))
        })
    }

    fn look_inside(&self, disk: &Arc<dyn Disk>, options: &Options) -> Result<Found, String> {
        let mut log = match ByHand::open(disk, options, u128::MAX) {
            Ok(log) => log,
            Err(error) => return Ok(Found::Refused(error)),
        };
        let operations = usize::try_from(log.recovered.applied).unwrap_or(usize::MAX);
        let model = self.models.get(operations);
        let model = model.ok_or_else(|| format!("{operations} operations came back"))?;
        if log.recovered != model.state {
            let (is, is_to) = (&log.recovered, &model.state);
            return Err(format!("the state is {is:?} instead of {is_to:?}"));
        }
        let reader = log.reader();
        let mut fenced = 0;
        for number in self.models.iter().flat_map(|m| m.partitions.keys()) {
            if !model.partitions.contains_key(number)
                && reader.bounds(partition_id(*number)).is_some()
            {
                return Err(format!("partition {number} should not be there"));
            }
        }
        for (number, events) in &model.partitions {
            fenced += read_around(&reader, *number, events)?;
        }
        let probe = Operation {
            number: u64::MAX,
            parts: Vec::new(),
        };
        match log.run(&[probe]).as_slice() {
            [(_, Ok(_))] => Ok(Found::Open { operations, fenced }),
            other => Err(format!("it opened and answered {other:?}")),
        }
    }
}

/// Reads a partition around its damage; answers how many events cannot be read.
fn read_around(reader: &Reader, partition: u64, events: &[EventRef]) -> Result<u64, String> {
    let id = partition_id(partition);
    let end = reader.bounds(id).map(|bounds| bounds.end.0);
    if end != Some(events.len() as u64) {
        let count = events.len();
        return Err(format!(
            "partition {partition} ends at {end:?} of {count} events"
        ));
    }
    let (mut at, mut lost) = (0, 0);
    loop {
        let batches = match reader.read(id, Offset(at), READ_MAX_BYTES) {
            Read::AtEnd => return Ok(lost),
            Read::Batches(batches) => batches,
            Read::Disk(read) => match read.run() {
                Ok(batches) => batches,
                Err(ReadError::Damaged { resume, .. }) if resume.0 > at => {
                    lost += resume.0 - at;
                    at = resume.0;
                    continue;
                }
                Err(error) => return Err(format!("partition {partition} at {at}: {error}")),
            },
            other => return Err(format!("partition {partition} at {at}: {other:?}")),
        };
        let next = compare(&batches, events)?;
        if next <= at {
            return Err(format!(
                "a read of partition {partition} at {at} gave nothing"
            ));
        }
        at = next;
    }
}

fn compare(batches: &[Batch], events: &[EventRef]) -> Result<u64, String> {
    let mut next = 0;
    for record in batches.iter().flat_map(Batch::records) {
        let record = record.map_err(|error| format!("a record is not one: {error}"))?;
        let offset = record.offset.0;
        let event = events.get(usize::try_from(offset).unwrap_or(usize::MAX));
        let true_one = event.is_some_and(|event| event.is(&record));
        if !true_one {
            return Err(format!("a wrong record at {offset}: {record:?}"));
        }
        next = offset + 1;
    }
    Ok(next)
}
