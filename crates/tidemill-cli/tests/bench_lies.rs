//! `tidemill bench --server` against servers that are wrong on purpose: exit code and report of
//! the process must say so, and an honest one must pass.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::fake::{Fake, Lie};
use support::run;

/// Runs the bench against a server with this lie; its exit code and its report.
fn bench(lie: Lie) -> (i32, Value) {
    let fake = Fake::start(lie);
    // Two events of each key in a call, so that a page has two that can change places.
    let plan = [
        "--keys",
        "2",
        "--batch",
        "4",
        "--publishers",
        "1",
        "--rate",
        "400",
        "--for",
        "1s",
    ];
    let server = ["bench", "--json", "--server", &fake.url];
    let ended = run(&[&server[..], &plan].concat());
    let report: Value = serde_json::from_str(ended.out.trim()).unwrap();
    let told = ended.err.contains("the run was not clean");
    assert_eq!(told, ended.code != Some(0), "{lie:?}: {ended:?}");
    (ended.code.unwrap(), report)
}

#[track_caller]
fn caught(lie: Lie, count: &str) {
    let (code, report) = bench(lie);
    assert_eq!(
        (code, &report["clean"]),
        (1, &Value::Bool(false)),
        "{report}"
    );
    assert_eq!(report[count], 1, "{report}");
    let others = ["lost", "doubled", "out_of_order"];
    let others = others.iter().filter(|other| **other != count);
    // An event that never comes makes the rest of its key early.
    if lie != Lie::Drops {
        others.for_each(|other| assert_eq!(report[other], 0, "{report}"));
    }
}

#[test]
fn an_honest_server_is_clean() {
    let (code, report) = bench(Lie::Nothing);
    assert_eq!(code, 0, "{report}");
    assert!(report["accepted"].as_u64().unwrap() > 100, "{report}");
    assert_eq!(report["accepted"], report["delivered"]);
}

#[test]
fn an_event_that_is_left_out_is_lost() {
    caught(Lie::Drops, "lost");
}

#[test]
fn an_event_that_comes_twice_is_doubled() {
    caught(Lie::Doubles, "doubled");
}

#[test]
fn two_events_of_a_key_that_change_places_are_out_of_order() {
    caught(Lie::Swaps, "out_of_order");
}

#[test]
fn an_event_that_comes_again_after_all_have_come_is_doubled() {
    caught(Lie::DoublesLate(Duration::from_millis(1200)), "doubled");
}
