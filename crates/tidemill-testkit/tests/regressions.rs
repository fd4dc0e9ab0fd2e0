//! Faults that the simulator once found in the log, each with the kind of run that showed it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_log::FlushPolicy;
use tidemill_testkit::sim::Random;
use tidemill_testkit::sim::scenario::Scenario;
use tidemill_testkit::sim::simulator::{run, run_scenario};

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
        if let Err(failed) = run_scenario(seed, scenario.clone(), None, None) {
            panic!("{failed}");
        }
    }
}

/// Runs a seed that fails where the fault is put back.
fn shown_by(seed: u64) {
    run(seed, None).unwrap_or_else(|failed| panic!("{failed}"));
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

/// A checkpoint passed over a full segment when the next one was begun and still empty.
#[test]
fn a_full_segment_before_an_empty_one_is_synced() {
    shown_by(12);
}

/// The journal's head passed records that the snapshot's table did not have, because their
/// partition was deleted between the snapshot and its naming.
#[test]
fn a_deletion_during_a_checkpoint_does_not_move_the_head_too_far() {
    shown_by(57);
}
