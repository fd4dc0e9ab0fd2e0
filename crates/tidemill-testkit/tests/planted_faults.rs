//! Faults planted at their real sites are caught, each within a bounded number of seeds of the
//! simulator, and the seed that catches one passes without it. What no loss of power shows is
//! caught by damage, and a skipped sync also in what the real driver does (`recorded.rs`). The
//! table of what was caught after how much is in `docs/RELIABILITY.md`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_log::options::Fault;
use tidemill_testkit::sim::damage::Specimen;
use tidemill_testkit::sim::simulator::run;

const FIRST_SEED: u64 = 1;
const SEEDS_MAX: u64 = 40;

fn caught_after(fault: Fault) -> u64 {
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
    for fault in [
        Fault::NameSnapshotEarly,
        Fault::MoveHeadTooFar,
        Fault::RemoveEarly,
    ] {
        caught_after(fault);
    }
}

#[test]
fn a_recovery_that_takes_damage_for_a_torn_end_is_caught() {
    let specimen = Specimen::make(true).unwrap();
    let careless = specimen.with_fault(Fault::IgnoreWitnesses);
    let broken = careless.try_all("journal/", true).unwrap_err();
    println!("{broken}");
    assert!(broken.contains("operations are there"), "{broken}");
}
