//! Faults that the simulator once found in the log, each with the kind of run that showed it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_log::FlushPolicy;
use tidemill_testkit::sim::Random;
use tidemill_testkit::sim::scenario::Scenario;
use tidemill_testkit::sim::simulator::{Effort, run_scenario};

const KIB: u64 = 1024;

/// A sound disk, files as small as they may be, and many checkpoints.
fn small() -> Scenario {
    let mut scenario = Scenario::draw(&mut Random::new(1));
    scenario.faults = Default::default();
    scenario.lives = 3;
    scenario.life_min_operations = 100;
    scenario.open_max = 16;
    scenario.value_max_bytes = 2000;
    let options = &mut scenario.options;
    options.flush = FlushPolicy::EveryCommit;
    options.journal_file_first_bytes = 32 * KIB;
    options.journal_file_max_bytes = 64 * KIB;
    options.journal_max_bytes = 2048 * KIB;
    options.checkpoint_after_bytes = 32 * KIB;
    options.tail_max_bytes = 1024 * KIB as usize;
    options.segment_max_bytes = 16 * KIB;
    options.segment_write_after_bytes = 4 * KIB as usize;
    scenario
}

fn holds(scenario: &Scenario, seeds: std::ops::RangeInclusive<u64>) {
    for seed in seeds {
        if let Err(failed) = run_scenario(seed, scenario.clone(), None, Effort::SMOKE, None) {
            panic!("{failed}");
        }
    }
}

/// It waited for the tails to shrink, and nothing made them shrink.
#[test]
fn an_operation_as_large_as_the_tails_is_not_stuck() {
    let mut scenario = small();
    scenario.options.tail_max_bytes = 32 * KIB as usize;
    scenario.options.segment_write_after_bytes = 64 * KIB as usize;
    scenario.value_max_bytes = 6000;
    holds(&scenario, 1..=4);
}

/// A segment that a compaction wrote while a checkpoint was under way is named by the snapshot, and
/// by the journal as well: it was to be copied twice, and the backup was given up.
#[test]
fn a_segment_that_snapshot_and_journal_both_name_is_backed_up_once() {
    let mut scenario = small();
    scenario.backup_per_million = 20_000;
    holds(&scenario, 1..=4);
}
