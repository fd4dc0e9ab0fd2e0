//! `tidemill demo` as a user meets it: traffic, a file, Ctrl-C, and starting again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use support::{Running, run, tidemill};

const ANY_PORT: [&str; 6] = [
    "--http",
    "127.0.0.1:0",
    "--shop",
    "127.0.0.1:0",
    "--messages",
    "127.0.0.1:0",
];

/// The shop's synthetic file.
const SMALL_FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../apps/shop/data/orders.csv"
);

fn demo<'a>(data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let data = ["demo", "--data", data.to_str().unwrap()];
    [&data[..], &ANY_PORT[..], more].concat()
}

fn summary(output: &str) -> Value {
    let last = output.lines().last().unwrap();
    let value: Value = serde_json::from_str(last).unwrap();
    value["summary"].clone()
}

#[test]
fn traffic_ends_by_itself_with_everything_added_up() {
    let data = tempfile::tempdir().unwrap();
    let output = run(&demo(data.path(), &["--for", "2s"])).done();
    assert!(output.contains("http: http://127.0.0.1:"), "{output}");
    assert!(output.contains("shop: http://127.0.0.1:"), "{output}");
    assert!(output.contains("    1s  published"), "{output}");
    assert!(
        output.ends_with("nothing lost, nothing doubled\n"),
        "{output}"
    );
}

#[test]
fn a_file_is_taken_in_once_however_often_it_is_replayed() {
    let data = tempfile::tempdir().unwrap();
    let arguments = demo(data.path(), &["--replay", SMALL_FILE, "--json"]);
    let first = summary(&run(&arguments).done());
    assert_eq!(first["replay"]["lines"], 38);
    assert_eq!(first["replay"]["accepted"], 27);
    let rejects = std::fs::read_to_string(data.path().join("rejects.csv")).unwrap();
    assert_eq!(rejects.lines().count(), 1 + 11);
    let again = summary(&run(&arguments).done());
    assert_eq!(again["balance"], first["balance"]);
    assert_eq!(again["log"], first["log"]);
}

#[test]
fn a_signal_drains_it_and_the_next_start_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for signal in ["INT", "TERM"] {
        let mut command = tidemill();
        command.args(demo(data.path(), &["--json", "--rate", "100"]));
        let mut running = Running::start(command);
        running.line("{\"second\":1,");
        let ended = summary(&running.stop(signal).done());
        let now = ended["log"]["accepted"].as_u64().unwrap();
        assert!(now > accepted, "{ended}");
        assert_eq!(ended["balance"]["unfinished"], 0);
        accepted = now;
    }
}

#[test]
fn a_pipe_whose_writer_pauses_keeps_nobody_from_ending_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let data = folder.path().join("data");
    let mut command = tidemill();
    command.args(demo(&data, &["--replay", pipe.to_str().unwrap()]));
    let mut running = Running::start(command);
    // Opens once the demo reads, and is held until its end.
    let mut writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    let text = std::fs::read_to_string(SMALL_FILE).unwrap();
    let half: Vec<_> = text.lines().take(12).collect();
    writeln!(writer, "{}", half.join("\n")).unwrap();
    running.line("    1s  published");
    let output = running.stop_in_time("TERM").done();
    assert!(output.contains("broken off"), "{output}");
    assert!(!data.join("rejects.csv.part").exists());
}

#[test]
fn files_without_lines_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    for (file, part) in [
        ("/dev/null", "the first line is not"),
        ("/dev/zero", "line 1 does not end within"),
    ] {
        let error = run(&demo(&new, &["--replay", file])).misused();
        assert!(error.contains(part) && error.contains(file), "{error}");
    }
    assert!(!new.exists());
}

#[test]
fn one_address_for_two_doors_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let data = ["demo", "--for", "1s", "--data", new.to_str().unwrap()];
    for (one, other) in [
        ("--http", "--shop"),
        ("--http", "--messages"),
        ("--kafka", "--shop"),
        ("--shop", "--messages"),
    ] {
        let both = [one, &address, other, &address];
        let error = run(&[&data[..], &both].concat()).misused();
        assert!(error.contains("an address of its own"), "{error}");
        assert!(error.contains(one) && error.contains(other), "{error}");
    }
    assert!(!new.exists());
}

#[test]
fn a_killed_demo_is_finished_by_the_next_one() {
    let data = tempfile::tempdir().unwrap();
    let mut command = tidemill();
    command.args(demo(data.path(), &["--json", "--rate", "200"]));
    let mut running = Running::start(command);
    running.line("{\"second\":1,");
    running.stop("KILL");
    let arguments = demo(data.path(), &["--rate", "0", "--for", "1s", "--json"]);
    let ended = summary(&run(&arguments).done());
    assert!(ended["log"]["accepted"].as_u64().unwrap() > 0);
    assert_eq!(ended["balance"]["unfinished"], 0);
}

#[test]
fn a_topic_that_was_deleted_between_two_runs_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let arguments = demo(data.path(), &["--replay", SMALL_FILE]);
    run(&arguments).done();
    let bus = data.path().join("bus");
    let delete = ["topic", "delete", "payments", "--data"];
    run(&[&delete[..], &[bus.to_str().unwrap()]].concat()).done();
    let ended = run(&arguments);
    assert!(
        ended.out.contains("lost      payments/0 was deleted"),
        "{ended:?}"
    );
    assert!(!ended.out.contains("nothing lost"), "{ended:?}");
    let error = ended.failed();
    assert!(error.contains("payments/0 was deleted"), "{error}");
}

#[test]
fn databases_that_are_older_than_the_log_are_refused_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let arguments = demo(data.path(), &["--replay", SMALL_FILE]);
    run(&arguments).done();
    std::fs::remove_dir_all(data.path().join("shop")).unwrap();
    // Being refused makes nothing whole.
    for _ in 0..2 {
        let ended = run(&arguments);
        assert!(!ended.out.contains("after "), "{ended:?}");
        let error = ended.failed();
        assert!(error.contains("older than it or gone; restore"), "{error}");
    }
}

#[test]
fn a_taken_port_is_left_for_a_free_one_where_nobody_named_it() {
    // Whoever has it.
    let _taken = [7575, 7580, 7581].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)));
    let output = run(&["demo", "--bus", "memory:", "--for", "1s"]).done();
    for port in [7575, 7580, 7581] {
        let said = format!("127.0.0.1:{port} is taken");
        assert!(output.contains(&said), "{output}");
    }
}

#[test]
fn a_named_port_that_is_taken_is_refused_before_anything_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    let data = ["--data", new.to_str().unwrap(), "--for", "1s"];
    for (flag, other) in [
        ("--http", "--shop"),
        ("--shop", "--http"),
        ("--messages", "--http"),
        ("--kafka", "--http"),
    ] {
        let ports = [flag, &address, other, "127.0.0.1:0"];
        let error = run(&[&["demo"], &data[..], &ports].concat()).failed();
        assert!(error.contains(&address) && error.contains(flag), "{error}");
        assert!(!new.exists(), "{error}");
    }
}

#[test]
fn wrong_use_says_what_is_wrong() {
    let error = run(&["demo", "--replay", "/no/such/file.csv"]).misused();
    assert!(error.contains("/no/such/file.csv"), "{error}");
    for flag in ["--shop", "--messages"] {
        let error = run(&["demo", flag, "0.0.0.0:0"]).misused();
        assert!(
            error.contains("--insecure") && error.contains(flag),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let new = folder.path().join("new");
    let replay = ["--replay", file.to_str().unwrap()];
    let error = run(&demo(&new, &replay)).misused();
    assert!(error.contains("the first line is not"), "{error}");
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    let error = run(&demo(&file, &["--for", "1s"])).misused();
    assert!(error.contains("it is a file; name a folder"), "{error}");
    let new = new.to_str().unwrap();
    for (arguments, part) in [
        (
            &["--replay", folder.path().to_str().unwrap()][..],
            "is a folder",
        ),
        (&["--bus", "nonsense"], "memory:"),
        (&["--bus", "kafka://localhost"], "memory:"),
        (&["--bus", "memory:"], "--data has no use"),
        (&["--rate", "x"], "whole number from 0 to"),
        (&["--seed", "x"], "whole number"),
    ] {
        let error = run(&[&["demo", "--data", new], arguments].concat()).misused();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    assert!(!Path::new(new).exists(), "wrong use made a folder");
}
