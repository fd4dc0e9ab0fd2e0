//! Faults planted at their real sites are caught, each within a bounded number of seeds of the
//! simulator, and the seed that catches one passes without it. What no loss of power shows is
//! caught by damage, and a skipped sync also in what the real driver does (`recorded.rs`). The
//! table of what was caught after how much is in `docs/RELIABILITY.md`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use tidemill_log::FlushPolicy;
use tidemill_log::options::Fault;
use tidemill_testkit::sim::Random;
use tidemill_testkit::sim::damage::Specimen;
use tidemill_testkit::sim::scenario::Scenario;
use tidemill_testkit::sim::simulator::{Effort, run_scenario};

const FIRST_SEED: u64 = 1;
const SEEDS_MAX: u64 = 120;

/// Answers how many seeds it took.
fn caught_after(fault: Fault) -> u64 {
    caught_in(fault, |_| {})
}

/// The same, in runs whose scenario is adjusted: not every run has what a fault needs.
fn caught_in(fault: Fault, adjust: fn(&mut Scenario)) -> u64 {
    let run = |seed, fault| {
        let mut scenario = Scenario::draw(&mut Random::new(seed));
        adjust(&mut scenario);
        run_scenario(seed, scenario, fault, Effort::SMOKE, None)
    };
    for seed in FIRST_SEED..FIRST_SEED + SEEDS_MAX {
        if let Err(failed) = run(seed, Some(fault)) {
            let seeds = seed - FIRST_SEED + 1;
            println!("{fault:?} | {seeds} | {}", failed.broken);
            run(seed, None).unwrap_or_else(|failed| panic!("without the fault: {failed}"));
            return seeds;
        }
    }
    panic!("{fault:?} was not caught by {SEEDS_MAX} seeds");
}

/// Operations are acknowledged before they are synced.
fn relaxed(scenario: &mut Scenario) {
    scenario.options.flush = FlushPolicy::Interval(Duration::from_millis(100));
}

#[test]
fn a_skipped_sync_is_caught() {
    assert!(caught_after(Fault::SkipSync) <= SEEDS_MAX);
}

#[test]
fn an_early_acknowledgement_is_caught() {
    assert!(caught_after(Fault::AcknowledgeEarly) <= SEEDS_MAX);
}

#[test]
fn trust_in_the_page_cache_is_caught() {
    assert!(caught_after(Fault::TrustPageCache) <= SEEDS_MAX);
}

#[test]
fn every_other_skipped_sync_is_caught() {
    for fault in [
        Fault::SkipSyncAtSwitch,
        Fault::SkipJournalName,
        Fault::SkipFreshName,
        Fault::SkipSegmentSync,
        Fault::SkipSnapshotSync,
        Fault::SkipSuperblockSync,
    ] {
        caught_after(fault);
    }
}

#[test]
fn whatever_is_done_before_its_time_is_caught() {
    caught_in(Fault::NameSnapshotEarly, relaxed);
    caught_after(Fault::MoveHeadTooFar);
    caught_after(Fault::RemoveEarly);
}

#[test]
fn a_checkpoint_that_gives_up_too_much_is_caught() {
    caught_after(Fault::PassOverFullSegment);
    caught_after(Fault::NeedByLaterDirt);
}

#[test]
fn a_compaction_that_loses_or_brings_back_something_is_caught() {
    for fault in [
        Fault::DropLatest,
        Fault::ForgetEarly,
        Fault::SwapUnsynced,
        Fault::SwapUnjournaled,
    ] {
        caught_after(fault);
    }
}

#[test]
fn retention_that_takes_too_much_and_a_backup_that_holds_nothing_are_caught() {
    caught_after(Fault::ExpireOneMore);
    caught_after(Fault::SkipPin);
}

#[test]
fn a_settled_segment_that_goes_before_its_time_is_caught() {
    caught_after(Fault::DropUnsettled);
    caught_after(Fault::DropUnnamed);
}

#[test]
fn a_transaction_that_is_applied_half_is_caught() {
    caught_after(Fault::HalfAnEntry);
}

#[test]
fn a_recovery_that_takes_damage_for_a_torn_end_is_caught() {
    let specimen = Specimen::make(true).unwrap();
    let careless = specimen.with_fault(Fault::IgnoreWitnesses);
    let broken = careless.try_all("journal/", true).unwrap_err();
    println!("{broken}");
    let lost = ["operations are there", "ends at"];
    assert!(lost.iter().any(|told| broken.contains(told)), "{broken}");
}
