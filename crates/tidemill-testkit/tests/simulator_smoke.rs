//! The simulator, from a fixed first seed on, for at least a minute. `TIDEMILL_SEED=n` runs one
//! seed instead.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidemill_testkit::sim::simulator::run;

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
    let mut states = BTreeSet::new();
    let (mut crashes, mut in_recovery, mut acknowledged) = (0, 0, 0);
    let mut seed = FIRST_SEED;
    while begun.elapsed() < SMOKE || seed < FIRST_SEED + SEEDS_MIN {
        let passed = run(seed, None).unwrap_or_else(|failed| panic!("{failed}"));
        crashes += passed.crashes;
        in_recovery += passed.crashes_in_recovery;
        acknowledged += passed.acknowledged;
        states.extend(passed.crash_states);
        seed += 1;
    }
    println!(
        "{} seeds, {crashes} crashes, {in_recovery} of them in a recovery, {} distinct crash \
         states, {acknowledged} acknowledged operations",
        seed - FIRST_SEED,
        states.len()
    );
    assert!(
        states.len() as u64 > SEEDS_MIN,
        "only {} crash states",
        states.len()
    );
    assert!(in_recovery > 0);
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1..=3 {
        let (one, two) = (run(seed, None).unwrap(), run(seed, None).unwrap());
        assert_eq!(one.trail, two.trail, "seed {seed}");
        assert_eq!(one.crash_states, two.crash_states, "seed {seed}");
    }
}
