//! Makes operations: which, on what, how often. May not know: the log's state, but how far its
//! partitions reach.

use crate::sim::checker::Model;
use tidemill_log::Cleanup;

use crate::sim::ledger::{Operation, Part, settings_of};
use crate::sim::random::Random;
use crate::sim::scenario::WALL_BEGINS_MS;

/// Most partitions alive at once.
const ALIVE_MAX: usize = 8;

/// Most transactions open at once.
const OPEN_MAX: usize = 3;

/// Makes operations.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Operations made so far.
    operations: u64,
    /// Partitions made so far.
    partitions: u64,
    /// Those that were not deleted yet.
    alive: Vec<u64>,
    /// Transactions begun so far.
    transactions: u64,
    /// Those that were not ended yet.
    open: Vec<u64>,
}

impl Workload {
    /// The next operation. `end` tells how many events of a partition are durable.
    pub fn next(
        &mut self,
        random: &mut Random,
        value_max_bytes: u64,
        end: impl Fn(u64) -> u64,
    ) -> Operation {
        self.operations += 1;
        let count = if random.chance(100_000) {
            random.between(2, 5)
        } else {
            1
        };
        let parts = (0..count)
            .map(|_| self.part(random, value_max_bytes, &end))
            .collect();
        Operation {
            number: self.operations,
            parts,
        }
    }

    fn part(
        &mut self,
        random: &mut Random,
        value_max_bytes: u64,
        end: &impl Fn(u64) -> u64,
    ) -> Part {
        let young = self.alive.len() < ALIVE_MAX && random.chance(150_000);
        let Some(partition) = random.pick(&self.alive).copied().filter(|_| !young) else {
            return self.create();
        };
        let count = if random.chance(200_000) {
            random.between(2, 20)
        } else {
            1
        } as u32;
        let size = random.between(16, value_max_bytes) as u32;
        match random.below(1000) {
            0..520 => Part::Publish {
                partition,
                count,
                size,
            },
            520..620 => Part::Join {
                transaction: self.transaction(random),
                partition,
                count,
                size,
            },
            620..660 => self.end(random),
            660..860 => {
                // Sometimes beyond the end, which is refused.
                let to = random.between(0, end(partition) + 1);
                // Whole segments where these go then.
                let goes = settings_of(partition).cleanup == Cleanup::Settled;
                let most = if goes { 60 } else { 5 };
                Part::Settle {
                    partition,
                    from: to.saturating_sub(random.between(1, most)),
                    to,
                }
            }
            860..870 => Part::Trim {
                partition,
                // Sometimes beyond the end, which is refused.
                before: random.between(0, end(partition) + 1),
            },
            870..885 => retain(partition, random),
            885..970 => Part::Add {
                key: random.below(20),
                by: random.below(100),
            },
            970..980 if self.alive.len() > 2 => {
                self.alive.retain(|alive| *alive != partition);
                Part::Delete(partition)
            }
            _ if self.alive.len() < ALIVE_MAX => self.create(),
            _ => Part::Add { key: 0, by: 1 },
        }
    }

    fn create(&mut self) -> Part {
        let partition = self.partitions;
        self.partitions += 1;
        self.alive.push(partition);
        Part::Create(partition)
    }

    /// One that is open, or a new one.
    fn transaction(&mut self, random: &mut Random) -> u64 {
        let some = random.pick(&self.open).copied();
        match some {
            Some(open) if self.open.len() == OPEN_MAX || random.chance(700_000) => open,
            _ => {
                self.transactions += 1;
                self.open.push(self.transactions);
                self.transactions
            }
        }
    }

    /// Ends a transaction; one that was never begun is refused.
    fn end(&mut self, random: &mut Random) -> Part {
        let index = random.index(self.open.len());
        let transaction = match self.open.is_empty() {
            true => self.transactions,
            false => self.open.swap_remove(index),
        };
        Part::End {
            transaction,
            commits: random.chance(600_000),
        }
    }

    /// The next life begins with what there is.
    pub fn begin_again(&mut self, model: &Model) {
        self.alive = model.partitions.keys().copied().collect();
        self.open = model.state.open.keys().copied().collect();
    }

    /// A partition that is alive or was asked for.
    pub fn some(&self, random: &mut Random) -> Option<u64> {
        random.pick(&self.alive).copied()
    }
}

fn retain(partition: u64, random: &mut Random) -> Part {
    Part::Retain {
        partition,
        retention_ms: random
            .chance(500_000)
            .then(|| WALL_BEGINS_MS + random.below(10_000)),
        retention_bytes: random.chance(500_000).then(|| random.between(0, 40_000)),
    }
}
