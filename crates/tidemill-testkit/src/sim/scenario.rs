//! What kind of run a seed gives: the log's options, the disk's faults, how often what is done.
//! May not know: the log's state, the checker.

use std::time::Duration;

use tidemill_log::{FlushPolicy, Options};

use crate::sim::disk::Faults;
use crate::sim::ledger::{Operation, Part};
use crate::sim::random::Random;

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The log's options, small enough that files roll and checkpoints happen.
    pub options: Options,
    /// Faults while the log runs; in every second life there are none.
    pub faults: Faults,
    /// How many lives the log has, each ended by a crash.
    pub lives: u64,
    /// Acknowledged operations after which a life may end.
    pub life_min_operations: u64,
    /// Most crashes in the middle of one recovery.
    pub recovery_crashes_max: u64,
    /// Most operations under way at once.
    pub open_max: u64,
    /// Largest value of a record in bytes.
    pub value_max_bytes: u64,
    /// Whether the log is told how much space is left, or meets a full disk unprepared.
    pub tells_space: bool,
}

fn one_of<T: Copy>(random: &mut Random, items: &[T], otherwise: T) -> T {
    random.pick(items).copied().unwrap_or(otherwise)
}

impl Scenario {
    /// The run of a seed.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let mut options = Options::default();
        options.flush = match random.below(10) {
            0..=5 => FlushPolicy::EveryCommit,
            6 | 7 => FlushPolicy::Interval(Duration::from_millis(random.between(5, 200))),
            _ => FlushPolicy::Os,
        };
        let kib = 1024;
        options.journal_file_first_bytes = one_of(random, &[16, 32, 64], 16) * kib;
        options.journal_file_max_bytes = one_of(random, &[64, 128, 256], 64) * kib;
        options.journal_max_bytes = one_of(random, &[1024, 2048, 4096], 2048) * kib;
        options.checkpoint_after_bytes = one_of(random, &[32, 64, 256], 64) * kib;
        options.segment_max_bytes = one_of(random, &[4, 16, 128], 16) * kib;
        options.segment_write_after_bytes = one_of(random, &[1, 4, 16], 4) as usize * kib as usize;
        options.space_reserve_bytes = 32 * kib;
        options.tail_max_bytes = one_of(random, &[32, 128, 1024], 128) as usize * kib as usize;
        let tells_space = options.tail_max_bytes != 32 * 1024;
        options.look_every = Duration::from_millis(one_of(random, &[20, 200, 1000], 200));
        Self {
            options,
            faults: draw_faults(random),
            lives: random.between(2, 5),
            life_min_operations: one_of(random, &[100, 100, 100, 150, 300], 100),
            recovery_crashes_max: 2,
            open_max: one_of(random, &[1, 4, 16, 64], 16),
            value_max_bytes: one_of(random, &[64, 300, 2000, 6000], 300),
            tells_space,
        }
    }

    /// Whether an acknowledgement means synced.
    #[must_use]
    pub fn every_commit(&self) -> bool {
        self.options.flush == FlushPolicy::EveryCommit
    }
}

fn draw_faults(random: &mut Random) -> Faults {
    let none = Faults::default();
    match random.below(10) {
        0 => Faults {
            sync_failure: 4_000,
            ..none
        },
        1 => Faults {
            write_failure: 5_000,
            ..none
        },
        2 => Faults {
            short_write: 5_000,
            ..none
        },
        3 => Faults {
            space_max_bytes: Some(random.between(150, 600) * 1024),
            ..none
        },
        4 => Faults {
            flip_unsynced: 50_000,
            ..none
        },
        _ => none,
    }
}

/// Makes operations.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Operations made so far.
    operations: u64,
    /// Partitions made so far.
    partitions: u64,
    /// Those that were not deleted yet.
    alive: Vec<u64>,
}

/// What the wall clock shows first: later than any event's own timestamp.
pub const WALL_BEGINS_MS: u64 = 10_000_000;

/// Most partitions alive at once.
const ALIVE_MAX: usize = 8;

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
        let some = random.pick(&self.alive).copied();
        let draw = random.below(1000);
        match some {
            Some(partition) if draw < 600 => Part::Publish {
                partition,
                count: if random.chance(200_000) {
                    random.between(2, 20)
                } else {
                    1
                } as u32,
                size: random.between(16, value_max_bytes) as u32,
            },
            Some(partition) if draw < 850 => {
                // Sometimes beyond the end, which is refused.
                let to = random.between(0, end(partition) + 1);
                Part::Settle {
                    partition,
                    from: to.saturating_sub(random.between(1, 5)),
                    to,
                }
            }
            Some(partition) if draw < 865 => Part::Trim {
                partition,
                // Sometimes beyond the end, which is refused.
                before: random.between(0, end(partition) + 1),
            },
            Some(partition) if draw < 880 => Part::Retain {
                partition,
                retention_ms: random
                    .chance(500_000)
                    .then(|| WALL_BEGINS_MS + random.below(10_000)),
                retention_bytes: random.chance(500_000).then(|| random.between(0, 40_000)),
            },
            Some(_) if draw < 960 => Part::Add {
                key: random.below(20),
                by: random.below(100),
            },
            Some(partition) if draw < 975 && self.alive.len() > 2 => {
                self.alive.retain(|alive| *alive != partition);
                Part::Delete(partition)
            }
            _ if self.alive.len() < ALIVE_MAX => {
                let partition = self.partitions;
                self.partitions += 1;
                self.alive.push(partition);
                Part::Create(partition)
            }
            _ => Part::Add { key: 0, by: 1 },
        }
    }

    /// The next life begins with what there is.
    pub fn begin_again(&mut self, alive: impl Iterator<Item = u64>) {
        self.alive = alive.collect();
    }

    /// A partition that is alive or was asked for.
    pub fn some(&self, random: &mut Random) -> Option<u64> {
        random.pick(&self.alive).copied()
    }
}
