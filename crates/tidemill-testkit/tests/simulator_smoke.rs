//! The simulator, from a fixed first seed on, for at least a minute. `TIDEMILL_SEED=n` runs one
//! seed instead.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidemill_testkit::sim::simulator::{Passed, run};

const SMOKE: Duration = Duration::from_secs(60);
const SEEDS_MIN: u64 = 30;
const FIRST_SEED: u64 = 1;

#[test]
fn nothing_acknowledged_is_lost_for_a_minute_of_seeds() {
    if let Ok(seed) = std::env::var("TIDEMILL_SEED") {
        let seed = seed.parse().expect("TIDEMILL_SEED is a number");
        run(seed, None).unwrap_or_else(|failed| panic!("{failed}"));
        return;
    }
    let begun = Instant::now();
    let mut all = Passed::default();
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    let mut seed = FIRST_SEED;
    while begun.elapsed() < SMOKE || seed < FIRST_SEED + SEEDS_MIN {
        let passed = run(seed, None).unwrap_or_else(|failed| panic!("{failed}"));
        all.crashes += passed.crashes;
        all.crashes_in_recovery += passed.crashes_in_recovery;
        all.acknowledged += passed.acknowledged;
        all.snapshots += passed.snapshots;
        all.segments += passed.segments;
        all.removals += passed.removals;
        all.expired += passed.expired;
        for (name, count) in [
            ("failed syncs", passed.disk.syncs_failed),
            ("failed writes", passed.disk.writes_failed),
            ("short writes", passed.disk.writes_short),
            ("writes to a full disk", passed.disk.writes_full),
            ("names taken back", passed.disk.names_vanished),
            ("sectors that vanished", passed.disk.fate.vanished),
            ("sectors that tore", passed.disk.fate.torn),
        ] {
            *faults.entry(name).or_default() += count;
        }
        all.crash_states.extend(passed.crash_states);
        seed += 1;
    }
    println!(
        "{} seeds, {} crashes, {} of them in a recovery, {} distinct crash states, {} \
         acknowledged operations, {} snapshots, {} segments, {} removals, {} segments expired, \
         {faults:?}",
        seed - FIRST_SEED,
        all.crashes,
        all.crashes_in_recovery,
        all.crash_states.len(),
        all.acknowledged,
        all.snapshots,
        all.segments,
        all.removals,
        all.expired
    );
    let states = all.crash_states.len() as u64;
    assert!(states > SEEDS_MIN, "only {states} crash states");
    let happened = [
        all.crashes_in_recovery,
        all.snapshots,
        all.segments,
        all.removals,
        all.expired,
    ];
    assert!(happened.iter().all(|count| *count > 0), "{happened:?}");
    assert!(faults.values().all(|count| *count > 0), "{faults:?}");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1..=3 {
        let (one, two) = (run(seed, None).unwrap(), run(seed, None).unwrap());
        assert_eq!(one.trail, two.trail, "seed {seed}");
        assert_eq!(one.crash_states, two.crash_states, "seed {seed}");
    }
}
