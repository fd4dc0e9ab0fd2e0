//! The simulator, from a fixed first seed on, for at least a minute. `TIDEMILL_SEED=n` runs one
//! seed instead.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use tidemill_testkit::sim::Random;
use tidemill_testkit::sim::scenario::Scenario;
use tidemill_testkit::sim::simulator::{Effort, Passed, run, run_scenario};

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
    let mut seed = FIRST_SEED;
    while begun.elapsed() < SMOKE || seed < FIRST_SEED + SEEDS_MIN {
        let passed = run(seed, None).unwrap_or_else(|failed| panic!("{failed}"));
        all.tally.add(&passed.tally);
        all.seen.add(passed.seen);
        all.disk.add(&passed.disk);
        all.crash_states.extend(passed.crash_states);
        seed += 1;
    }
    let seeds = seed - FIRST_SEED;
    let happened = all.tally.all().into_iter();
    let happened = happened.chain([
        ("failed syncs", all.disk.syncs_failed),
        ("failed writes", all.disk.writes_failed),
        ("short writes", all.disk.writes_short),
        ("writes to a full disk", all.disk.writes_full),
        ("names taken back", all.disk.names_vanished),
        ("sectors that vanished", all.disk.fate.vanished),
        ("sectors that tore", all.disk.fate.torn),
        ("events fenced off", all.seen.fenced),
        ("events compacted away", all.seen.compacted),
        ("records without a value forgotten", all.seen.forgotten),
        ("settled events in holes", all.seen.dropped),
    ]);
    let happened: Vec<_> = happened.collect();
    let states = all.crash_states.len() as u64;
    println!("{seeds} seeds, {states} distinct crash states, {happened:?}");
    assert!(states > SEEDS_MIN, "only {states} crash states");
    let never: Vec<_> = happened.iter().filter(|(_, count)| *count == 0).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 1..=3 {
        let (one, two) = (run(seed, None).unwrap(), run(seed, None).unwrap());
        assert_eq!(one.trail, two.trail, "seed {seed}");
        assert_eq!(one.crash_states, two.crash_states, "seed {seed}");
    }
}

#[test]
fn images_are_looked_at_beside_a_run_and_change_nothing_of_it() {
    let scenario = Scenario::draw(&mut Random::new(2));
    let none = Effort {
        points_per_million: 0,
        images: 0,
    };
    let run = |effort| run_scenario(2, scenario.clone(), None, effort, None).unwrap();
    let (with, without) = (run(Effort::SMOKE), run(none));
    assert_eq!(with.trail, without.trail);
    assert!(with.tally.images > 0 && without.tally.images == 0);
    assert!(with.crash_states.is_superset(&without.crash_states));
}
