//! What the simulator's machine keeps, and the absolute changes of it that the journal holds. May
//! not know: the log, the disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::operation::{Operation, Part};
use crate::sim::random::mix;

/// Settled offsets: half-open ranges, ascending, not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Whether all of `from..to` is in it.
    #[must_use]
    pub fn holds(&self, from: u64, to: u64) -> bool {
        from >= to || self.0.iter().any(|(a, b)| *a <= from && to <= *b)
    }

    /// Adds `from..to`.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        self.0.retain(|(a, b)| {
            let apart = *b < from || to < *a;
            if !apart {
                (from, to) = (from.min(*a), to.max(*b));
            }
            apart
        });
        self.0.push((from, to));
        self.0.sort_unstable();
    }
}

/// What may be gone of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Everything below this offset must be.
    pub trimmed: u64,
    /// The shortest time that an event was to be kept for, in milliseconds.
    pub retention_ms: Option<u64>,
    /// The fewest bytes that were to be kept.
    pub retention_bytes: Option<u64>,
}

/// The lesser of both, where there are two.
fn least(have: Option<u64>, new: Option<u64>) -> Option<u64> {
    have.into_iter().chain(new).min()
}

/// What the machine keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How many operations were sealed.
    pub applied: u64,
    /// A hash over their numbers, in their order.
    pub chain: u64,
    /// The counters.
    pub counters: BTreeMap<u64, u64>,
    /// What is settled of each partition.
    pub settled: BTreeMap<u64, Ranges>,
    /// The partitions that there are.
    pub partitions: BTreeSet<u64>,
    /// What may be gone of them.
    pub limits: BTreeMap<u64, Limits>,
    /// Open transactions, and the partitions that each has reached.
    pub open: BTreeMap<u64, BTreeSet<u64>>,
}

/// One absolute change of the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Change {
    Sealed { applied: u64, chain: u64 },
    Created(u64),
    Deleted(u64),
    Settled { partition: u64, from: u64, to: u64 },
    Counter { key: u64, value: u64 },
    Limited { partition: u64, limits: Limits },
    Joined { transaction: u64, partition: u64 },
    Ended(u64),
}

impl Change {
    /// The kind of its effect.
    pub(super) fn kind(&self) -> u16 {
        match self {
            Change::Sealed { .. } => 1,
            Change::Created(_) => 2,
            Change::Deleted(_) => 3,
            Change::Settled { .. } => 4,
            Change::Counter { .. } => 5,
            Change::Limited { .. } => 6,
            Change::Joined { .. } => 7,
            Change::Ended(_) => 8,
        }
    }
}

impl State {
    pub(super) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Sealed { applied, chain } => (self.applied, self.chain) = (applied, chain),
            Change::Created(partition) => {
                self.partitions.insert(partition);
            }
            Change::Deleted(partition) => {
                self.partitions.remove(&partition);
                self.settled.remove(&partition);
                self.limits.remove(&partition);
                self.open.values_mut().for_each(|reached| {
                    reached.remove(&partition);
                });
            }
            Change::Settled {
                partition,
                from,
                to,
            } => {
                self.settled.entry(partition).or_default().insert(from, to);
            }
            Change::Counter { key, value } => {
                self.counters.insert(key, value);
            }
            Change::Limited { partition, limits } => {
                self.limits.insert(partition, limits);
            }
            Change::Joined {
                transaction,
                partition,
            } => {
                self.open.entry(transaction).or_default().insert(partition);
            }
            Change::Ended(transaction) => {
                self.open.remove(&transaction);
            }
        }
    }

    /// Whether all of `from..to` is settled in a partition.
    #[must_use]
    pub fn is_settled(&self, partition: u64, from: u64, to: u64) -> bool {
        let settled = self.settled.get(&partition);
        settled.is_some_and(|ranges| ranges.holds(from, to))
    }

    /// What may be gone of a partition.
    #[must_use]
    pub fn limits_of(&self, partition: u64) -> Limits {
        self.limits.get(&partition).copied().unwrap_or_default()
    }

    pub(super) fn change_of(&self, part: &Part) -> Option<Change> {
        Some(match *part {
            Part::Create(partition) => Change::Created(partition),
            Part::Delete(partition) => Change::Deleted(partition),
            Part::Publish { .. } => return None,
            Part::Join {
                transaction,
                partition,
                ..
            } => Change::Joined {
                transaction,
                partition,
            },
            Part::End { transaction, .. } => Change::Ended(transaction),
            Part::Settle {
                partition,
                from,
                to,
            } => Change::Settled {
                partition,
                from,
                to,
            },
            Part::Trim { partition, before } => {
                let mut limits = self.limits_of(partition);
                limits.trimmed = limits.trimmed.max(before);
                Change::Limited { partition, limits }
            }
            Part::Retain {
                partition,
                retention_ms,
                retention_bytes,
            } => {
                let mut limits = self.limits_of(partition);
                limits.retention_ms = least(limits.retention_ms, retention_ms);
                limits.retention_bytes = least(limits.retention_bytes, retention_bytes);
                Change::Limited { partition, limits }
            }
            Part::Add { key, by } => {
                let old = self.counters.get(&key).copied().unwrap_or(0);
                Change::Counter {
                    key,
                    value: old.wrapping_add(by),
                }
            }
        })
    }

    /// Does one part, as the model does it.
    pub fn perform(&mut self, part: &Part) {
        if let Some(change) = self.change_of(part) {
            self.apply(&change);
        }
    }

    /// Counts an operation whose parts are done.
    pub fn seal(&mut self, operation: &Operation) {
        let sealing = self.sealing(operation);
        self.apply(&sealing);
    }

    pub(super) fn sealing(&self, operation: &Operation) -> Change {
        Change::Sealed {
            applied: self.applied + 1,
            chain: mix(self.chain ^ operation.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_where_they_touch() {
        let mut ranges = Ranges::default();
        for (from, to) in [(5, 7), (1, 2), (9, 9), (2, 5), (10, 12)] {
            ranges.insert(from, to);
        }
        assert_eq!(ranges, Ranges(vec![(1, 7), (10, 12)]));
        assert!(ranges.holds(1, 7) && ranges.holds(3, 3) && !ranges.holds(6, 8));
    }
}
