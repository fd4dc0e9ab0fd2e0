//! `tidemill bench` as a user meets it: in memory, on disk and over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::{Server, run};

fn clean(text: &str) -> Value {
    let report: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(report["clean"], true, "{report}");
    for count in ["lost", "doubled", "out_of_order"] {
        assert_eq!(report[count], 0, "{report}");
    }
    assert!(report["accepted"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["accepted"], report["delivered"]);
    report
}

#[test]
fn a_run_in_memory_is_clean_and_keeps_its_rate() {
    let ended = run(&[
        "bench",
        "--for",
        "2s",
        "--rate",
        "200",
        "--partitions",
        "2",
        "--json",
    ]);
    let report = clean(&ended.done());
    let accepted = report["accepted"].as_u64().unwrap();
    assert!((350..=450).contains(&accepted), "{report}");
    assert!(report["samples"].as_array().unwrap().len() >= 2, "{report}");
    assert!(
        report["end_to_end_us"]["p99"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn a_run_on_disk_is_clean_and_leaves_no_topic() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let arguments = [
        "bench", "--for", "1s", "--data", path, "--batch", "10", "--keys", "3",
    ];
    let text = run(&arguments).done();
    assert!(text.contains("lost                     0"), "{text}");
    assert_eq!(run(&["topic", "list", "--json", "--data", path]).done(), "");
    assert_eq!(run(&["group", "list", "--json", "--data", path]).done(), "");
}

#[test]
fn a_run_over_http_is_clean() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let ended = server.run(&["bench", "--for", "1s", "--partitions", "3", "--json"]);
    clean(&ended.done());
    assert_eq!(server.run(&["topic", "list", "--json"]).done(), "");
}

#[test]
fn nonsense_is_wrong_use() {
    for (arguments, part) in [
        (&["--for", "0s"][..], "longer"),
        (&["--rate", "0"], "0.1"),
        (&["--keys", "0"], "--keys"),
        (&["--size", "99999999999"], "bytes"),
        (&["--publishers", "0"], "--publishers"),
        (&["--data", "d", "--server", "http://a"], "--server"),
        (&["--memory", "5", "--data", "d"], "--memory"),
    ] {
        let error = run(&[&["bench"], arguments].concat()).misused();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}
