//! Commands whose output takes nothing: what is done is told as done.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::{Ended, Server, run, tidemill};

/// Runs a command on an output that takes nothing.
fn full(arguments: &[&str]) -> Ended {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = tidemill().args(arguments).stdout(full.unwrap()).output();
    let output = output.unwrap();
    Ended {
        code: output.status.code(),
        out: String::new(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn says(error: &str, done: &str) {
    for part in ["cannot write to standard output", done, "all the same"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn topics_and_groups_say_what_is_done() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let ask = |arguments: &[&str]| full(&[arguments, &["--server", &server.url]].concat());
    says(&ask(&["topic", "create", "t"]).failed(), "t is created");
    let json = ask(&["topic", "create", "u", "--json"]).failed();
    says(&json, "u is created");
    server.run(&["publish", "t", "x"]).done();
    let trim = ["topic", "trim", "t", "--partition", "0", "--before", "1"];
    says(&ask(&trim).failed(), "t/0 begins at 1");
    says(&ask(&["topic", "delete", "t"]).failed(), "t is deleted");
    let topics = server.run(&["topic", "list", "--json"]).done();
    assert!(
        topics.contains("\"u\"") && !topics.contains("\"t\""),
        "{topics}"
    );
}

#[test]
fn copies_and_verifications_say_what_is_done() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (data, to, back) = (at("data"), at("backup"), at("back"));
    std::fs::create_dir(&data).unwrap();
    run(&["publish", "t", "x", "--data", &data]).done();
    let verified = full(&["log", "verify", "--data", &data]).misused();
    says(&verified, "is clean");
    let taken = full(&["log", "backup", "--data", &data, "--to", &to]).failed();
    says(&taken, "is taken");
    let restored = full(&["log", "restore", "--from", &to, "--data", &back]).failed();
    says(&restored, "is restored");
    run(&["log", "verify", "--data", &back]).done();
    full(&["log", "repair", "--data", &data]).misused();
}

#[test]
fn a_demo_says_that_it_ended_and_what_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let mut ports = vec!["--http", "127.0.0.1:0", "--shop", "127.0.0.1:0"];
    ports.extend(["--messages", "127.0.0.1:0"]);
    let demo = ["demo", "--for", "1s", "--data", path];
    let error = full(&[&demo[..], &ports].concat()).failed();
    for part in ["cannot write to standard output", "the demo ended", path] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn help_that_cannot_be_written_is_no_success() {
    for asked in [&["--help"][..], &["--version"], &["topic", "set", "--help"]] {
        let error = full(asked).failed();
        assert!(error.contains("cannot write to standard output"), "{error}");
    }
}
