//! `tidemill bench` as a user meets it: in memory, on disk and over HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::fake::{Fake, Lie};
use support::{Running, Server, patiently, run, tidemill};

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
fn a_run_of_less_than_a_second_tells_no_rate_of_whole_seconds() {
    let text = run(&["bench", "--for", "100ms", "--rate", "100"]).done();
    assert!(!text.contains("handled/s"), "{text}");
    let report = run(&["bench", "--for", "100ms", "--rate", "100", "--json"]).done();
    assert_eq!(clean(&report)["handled_per_second"], Value::Null);
}

#[test]
fn a_server_that_goes_away_loses_nothing_that_is_known() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut command = tidemill();
    let target = ["--server", &server.url];
    let plan = ["bench", "--for", "30s", "--keys", "9", "--json"];
    command.args(plan).args(target);
    let bench = Running::start(command);
    patiently("nothing is published", || {
        let topics = server.run(&["topic", "list", "--json"]).done();
        topics.lines().any(|topic| !topic.contains("\"end\":0"))
    });
    let url = server.url.clone();
    server.running.stop("KILL");
    let ended = bench.end();
    let report: Value = serde_json::from_str(ended.out.trim()).unwrap();
    assert_eq!(
        (&report["clean"], &report["lost"]),
        (&false.into(), &0.into())
    );
    let accepted = report["accepted"].as_u64().unwrap();
    let delivered = report["delivered"].as_u64().unwrap();
    assert!(accepted > 0, "{report}");
    let unread = accepted.saturating_sub(delivered);
    assert_eq!(report["unread"], unread, "{report}");
    let error = ended.failed();
    let read = match unread {
        0 => "all that was accepted was read".to_owned(),
        _ => format!("{unread} of the accepted events were not read"),
    };
    for part in [
        &format!("the server at {url} went away in the middle of the run: {read}"),
        "is not known",
        "`tidemill topic delete bench-",
        &format!("--server {url}`"),
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_run_that_is_ended_at_once_names_what_it_leaves() {
    for signal in ["INT", "TERM"] {
        let fake = Fake::start(Lie::HangsAfter(0));
        let mut command = tidemill();
        command.args(["bench", "--server", &fake.url]);
        let bench = Running::start(command);
        bench.hears_ctrl_c();
        let ended = bench.signal_until_the_end(signal);
        assert_eq!(ended.code, Some(130), "{ended:?}");
        let hint = format!("--server {}`", fake.url);
        assert!(
            ended.err.contains("`tidemill topic delete bench-"),
            "{ended:?}"
        );
        assert!(ended.err.contains(&hint), "{ended:?}");
    }
}

#[test]
fn nonsense_is_wrong_use() {
    for (arguments, part) in [
        (&["--for", "0s"][..], "longer"),
        (&["--rate", "0"], "0.1"),
        (&["--keys", "0"], "--keys"),
        (&["--size", "99999999999"], "bytes"),
        (&["--size", "63"], "from 64"),
        (&["--publishers", "0"], "--publishers"),
        (&["--publishers", "x"], "whole number from 1 to"),
        (&["--publishers", "3", "--keys", "2"], "a key of its own"),
        (&["--flush", "os"], "--data"),
        (&["--flush", "os", "--server", "http://a"], "--server"),
        (&["--concurrency", "1", "--server", "http://a"], "--server"),
        (&["--data", "d", "--server", "http://a"], "--server"),
        (&["--memory", "5", "--data", "d"], "--memory"),
    ] {
        let error = run(&[&["bench"], arguments].concat()).misused();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}
