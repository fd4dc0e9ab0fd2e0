//! Commands that are broken off: what they say of what is done, and how to go on from there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::fake::{Fake, Lie};
use support::{Running, Server, run, tidemill};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn publish(url: &str, more: &[&str]) -> support::Ended {
    let first = ["publish", "t", "x", "--server", url];
    run(&[&first[..], more].concat())
}

fn start(arguments: &[&str]) -> Running {
    let mut command = tidemill();
    command.args(arguments);
    Running::start(command)
}

/// The command that a hint names, as its words.
fn command(hint: &str) -> Vec<&str> {
    let (_, command) = hint.trim_end().split_once("go on with: tidemill ").unwrap();
    command.split(' ').collect()
}

#[test]
fn a_refused_publish_says_how_many_are_acknowledged() {
    let fake = Fake::start(Lie::RefusesAfter(2));
    let error = publish(&fake.url, &["--count", "1000"]).failed();
    let said = "the disk is full (HTTP 503); 512 of 1000 events are acknowledged, the last at \
                t/0@511; go on with --count 488";
    assert!(error.contains(said), "{error}");
    let error = publish(&fake.url, &[]).failed();
    assert_eq!(error, "error: the disk is full (HTTP 503)\n");
}

#[test]
fn a_publish_whose_server_goes_says_what_is_not_known() {
    let fake = Fake::start(Lie::BreaksAfter(2));
    let ended = publish(&fake.url, &["--count", "1000", "--json"]);
    assert_eq!(ended.out.lines().count(), 512);
    let error = ended.failed();
    for part in [
        "512 of 1000 events are acknowledged, the last at t/0@511",
        "256 more may have been kept",
        &format!("`tidemill subscribe t --from 0:512 --server {}`", fake.url),
        "go on with --count 488, or less",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = publish(&fake.url, &[]).failed();
    assert!(error.contains("the event may have been kept"), "{error}");
}

#[test]
fn a_publish_whose_output_takes_nothing_says_what_is_kept() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let data = folder();
    let path = data.path().to_str().unwrap();
    for (more, part) in [
        (&[][..], "the event is kept all the same, at t/0@0"),
        (
            &["-n", "3"],
            "all 3 events are kept all the same, the last at t/0@3",
        ),
        (
            &["-n", "999", "--json"],
            "256 of 999 events are kept, the last at t/0@259; go on with --count 743",
        ),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = tidemill();
        command
            .args(["publish", "t", "x", "--data", path])
            .args(more);
        let output = command.stdout(full.unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(part), "{more:?}: {error}");
    }
}

#[test]
fn a_publish_that_waits_for_its_data_hears_ctrl_c() {
    let data = folder();
    let mut command = tidemill();
    command.args(["publish", "t", "-", "--data", data.path().to_str().unwrap()]);
    command.stdin(std::process::Stdio::piped());
    let publishing = Running::start(command);
    publishing.hears_ctrl_c();
    let error = publishing.stop("INT").failed();
    assert!(error.contains("nothing was published"), "{error}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupted_publish_says_how_many_are_acknowledged() {
    let fake = Fake::start(Lie::HangsAfter(2));
    let count = ["--count", "1000", "--json", "--server", &fake.url];
    let mut publishing = start(&[&["publish", "t", "x"], &count[..]].concat());
    for n in 0..512 {
        let line = publishing.line("");
        assert!(line.contains(&format!("\"offset\":{n}}}")), "{line}");
    }
    let error = publishing.stop("INT").failed();
    for part in ["interrupted", "512 of 1000", "256 more may have been kept"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_subscriber_whose_server_dies_says_how_to_go_on() {
    let data = folder();
    let server = Server::start(data.path());
    server.run(&["topic", "create", "t", "-p", "2"]).done();
    for key in ["a", "b", "c", "d"] {
        server.run(&["publish", "t", key, "--key", key]).done();
    }
    let from = ["--from", "0:1,1:0", "--max", "9"];
    let target = ["--server", &server.url];
    let mut subscriber = start(&[&["subscribe", "t", "--json"], &from[..], &target].concat());
    let seen: Vec<String> = (0..3).map(|_| subscriber.line("{")).collect();
    server.running.stop("KILL");
    let error = subscriber.end().failed();
    let hint = error.lines().nth(1).unwrap();
    assert!(hint.contains("read up to before t/0@3, t/1@1"), "{error}");
    let words = command(hint);
    let expected = [
        "subscribe",
        "t",
        "--from",
        "0:3,1:1",
        "--max",
        "6",
        "--json",
    ];
    assert_eq!(words[..7], expected);
    assert_eq!(seen.len(), 3);

    // The command that it names reads what comes next, and nothing twice.
    let server = Server::start(data.path());
    server.run(&["publish", "t", "new", "--key", "a"]).done();
    let read = server.run(&[&words[..4], &["--max", "1"]].concat()).done();
    assert!(read.contains("key=a new"), "{read}");
}

#[test]
fn a_subscriber_at_ctrl_c_says_how_to_go_on_and_is_done() {
    let data = folder();
    let server = Server::start(data.path());
    server.run(&["publish", "t", "x", "--count", "3"]).done();
    let at = ["sub", "t", "--from", "1", "--server", &server.url];
    let mut subscriber = start(&at);
    subscriber.line("t/0@1");
    subscriber.line("t/0@2");
    let ended = subscriber.stop("INT");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(command(&ended.err)[..4], ["subscribe", "t", "--from", "3"]);
}

#[test]
fn a_subscriber_ends_at_once_when_nobody_reads_it_any_more() {
    let data = folder();
    let server = Server::start(data.path());
    server.run(&["publish", "t", "x"]).done();
    let folder_of_its_own = folder();
    let path = folder_of_its_own.path().to_str().unwrap();
    run(&["publish", "t", "x", "--data", path]).done();
    for target in [["--server", &server.url], ["--data", path]] {
        let from = ["sub", "t", "--from", "beginning"];
        let mut subscriber = start(&[&from[..], &target].concat());
        subscriber.line("t/0@0");
        // Nothing more is published.
        let ended = subscriber.hang_up();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    }
}

#[test]
fn listings_and_scripts_end_quietly_when_nobody_reads_them() {
    let data = folder();
    let server = Server::start(data.path());
    server.run(&["publish", "t", "x"]).done();
    for arguments in [
        &["topic", "list", "--server", &server.url][..],
        &["topic", "list", "--json", "--server", &server.url],
        &["publish", "t", "x", "--server", &server.url],
        &["completions", "bash"],
        &["bench", "--for", "100ms"],
        &["--help"],
    ] {
        let ended = start(arguments).hang_up();
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full");
    if let Ok(full) = full {
        let mut command = tidemill();
        command.args(["topic", "list", "--server", &server.url]);
        let output = command.stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("cannot write to standard output"), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_start_beyond_the_end_is_refused_with_the_end() {
    let data = folder();
    let server = Server::start(data.path());
    server.run(&["publish", "t", "x", "--count", "3"]).done();
    let error = server.run(&["sub", "t", "--from", "4"]).failed();
    for part in ["t/0 ends at 3", "nothing at 4", "end for what comes next"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = server.run(&["sub", "t", "--from", "1:0"]).failed();
    assert!(error.contains("no partition 1"), "{error}");
}
