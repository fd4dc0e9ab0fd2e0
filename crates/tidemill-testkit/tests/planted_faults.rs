//! Three faults planted at their real sites are caught by the checker, each within a bounded
//! number of seeds, and the same seeds pass without them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_log::options::Fault;
use tidemill_testkit::sim::simulator::run;

const FIRST_SEED: u64 = 1;
const SEEDS_MAX: u64 = 40;

fn caught_after(fault: Fault) -> u64 {
    for seed in FIRST_SEED..FIRST_SEED + SEEDS_MAX {
        if let Err(failed) = run(seed, Some(fault)) {
            let seeds = seed - FIRST_SEED + 1;
            println!(
                "{fault:?} was caught after {seeds} seeds: {}",
                failed.broken
            );
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
