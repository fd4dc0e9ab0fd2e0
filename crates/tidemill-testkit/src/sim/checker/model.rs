//! What there is when a beginning of the history is durable. May not know: how it is read.

use std::collections::BTreeMap;

use super::{Checked, promise};
use crate::sim::ledger::{EventRef, Kind, Operation, Part, State, events_of, marker};

/// The model of a beginning of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The machine's state.
    pub state: State,
    /// The events of every partition, by its number.
    pub partitions: BTreeMap<u64, Vec<EventRef>>,
    /// Of every partition the latest offset of each key, transactions left out.
    pub(super) latest: BTreeMap<u64, BTreeMap<[u8; 1], u64>>,
}

impl Model {
    /// The model after these operations.
    #[must_use]
    pub fn of<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Self {
        let mut model = Self::default();
        operations
            .into_iter()
            .for_each(|operation| model.perform(operation));
        model
    }

    /// The state that came back is the model's.
    pub(super) fn is(&self, state: &State) -> Checked {
        promise!(
            *state == self.state,
            "the state came back as {state:?} instead of {:?}",
            self.state
        );
        Ok(())
    }

    /// Does an operation, as the log should.
    pub fn perform(&mut self, operation: &Operation) {
        for (index, part) in (0u32..).zip(&operation.parts) {
            self.part(operation.number, index, part);
            self.state.perform(part);
        }
        self.state.seal(operation);
    }

    fn part(&mut self, operation: u64, index: u32, part: &Part) {
        match *part {
            Part::Create(partition) => {
                self.partitions.insert(partition, Vec::new());
            }
            Part::Delete(partition) => {
                self.partitions.remove(&partition);
                self.latest.remove(&partition);
            }
            Part::Publish {
                partition,
                count,
                size,
            } => {
                let events = events_of(operation, index, count, size, Kind::Plain);
                self.append(partition, events);
            }
            Part::Join {
                transaction,
                partition,
                count,
                size,
            } => {
                let events = events_of(operation, index, count, size, Kind::Of(transaction));
                self.append(partition, events);
            }
            Part::End {
                transaction,
                commits,
            } => {
                let reached = self.state.open.get(&transaction).cloned();
                for partition in reached.unwrap_or_default() {
                    let marker = marker(operation, index, transaction, commits);
                    self.append(partition, std::iter::once(marker));
                }
            }
            Part::Settle { .. } | Part::Add { .. } | Part::Trim { .. } | Part::Retain { .. } => {}
        }
    }

    fn append(&mut self, partition: u64, events: impl Iterator<Item = EventRef>) {
        let all = self.partitions.entry(partition).or_default();
        let latest = self.latest.entry(partition).or_default();
        for event in events {
            if event.kind == Kind::Plain
                && let Some(key) = event.key()
            {
                latest.insert(key, all.len() as u64);
            }
            all.push(event);
        }
    }
}
