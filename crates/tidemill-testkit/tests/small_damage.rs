//! Every file of a small log, cut at every byte and with every single bit flipped: a clear error
//! or a true answer, never a panic, never a wrong record. `cargo xtask soak damage` leaves out no
//! byte of what is zeros between zeros, as these tests do to end in seconds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use tidemill_testkit::sim::damage::{Specimen, Tally};

fn tried(specimen: &Specimen, prefix: &str) -> Tally {
    let tally = specimen.try_all(prefix, true);
    let tally = tally.unwrap_or_else(|broken| panic!("{broken}"));
    println!("{tally}");
    tally
}

fn ends(tally: &Tally) -> BTreeSet<(&'static str, &'static str)> {
    tally.ends.keys().copied().collect()
}

#[test]
fn every_small_damage_is_told_or_harmless_and_never_served() {
    let specimen = Specimen::make(true).unwrap();
    let tally = tried(&specimen, "");
    // What segments have behind the last checkpoint is written anew, so damage there is harmless.
    let all = [
        ("journal", "harmless"),
        ("journal", "refused"),
        ("segment", "fenced"),
        ("segment", "harmless"),
        ("sidecar", "fenced"),
        ("sidecar", "harmless"),
        ("snapshot", "refused"),
        ("superblock", "harmless"),
    ];
    assert_eq!(ends(&tally), BTreeSet::from(all));
}

/// The one exception, and how far it goes.
#[test]
fn only_damage_inside_the_last_commit_without_a_witness_reads_as_a_torn_end() {
    let specimen = Specimen::make(false).unwrap();
    let tally = tried(&specimen, "journal/");
    let all = [
        ("journal", "harmless"),
        ("journal", "last commit torn"),
        ("journal", "refused"),
    ];
    assert_eq!(ends(&tally), BTreeSet::from(all));
}
