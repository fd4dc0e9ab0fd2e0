//! What kind of run a seed gives: the log's options, the disk's faults, how often what is done.
//! May not know: the log's state, the checker.

use std::time::Duration;

use tidemill_log::{FlushPolicy, Options};

use crate::sim::disk::Faults;
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
    /// Steps of a million at which a backup is taken.
    pub backup_per_million: u32,
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
        options.naming_every = options.look_every * 4;
        Self {
            options,
            faults: draw_faults(random),
            lives: random.between(2, 5),
            life_min_operations: one_of(random, &[100, 100, 100, 150, 300], 100),
            recovery_crashes_max: 2,
            open_max: one_of(random, &[1, 4, 16, 64], 16),
            value_max_bytes: one_of(random, &[64, 300, 1000, 4000], 300),
            backup_per_million: 1_000,
            tells_space,
        }
    }

    /// Whether an acknowledgement means synced.
    #[must_use]
    pub fn every_commit(&self) -> bool {
        self.options.flush == FlushPolicy::EveryCommit
    }
}

/// Each fault by itself, so that some runs have several and some none.
fn draw_faults(random: &mut Random) -> Faults {
    let mut some = |parts| if random.chance(150_000) { parts } else { 0 };
    let mut faults = Faults {
        sync_failure: some(2_000),
        write_failure: some(2_000),
        short_write: some(2_000),
        flip_unsynced: some(50_000),
        ..Faults::default()
    };
    faults.space_max_bytes = random
        .chance(150_000)
        .then(|| random.between(150, 600) * 1024);
    faults
}

/// What the wall clock shows first: later than any event's own timestamp.
pub const WALL_BEGINS_MS: u64 = 1_000_000_000;

/// The earliest time that the wall clock shows: later than any event's own timestamp.
pub const WALL_MIN_MS: i64 = WALL_BEGINS_MS as i64 / 2;
