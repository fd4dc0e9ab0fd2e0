//! A subscriber that meets damage: what it says, and that the command it names goes on behind it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::data::{file, written};
use support::{Ended, Server, run};

/// The command that a hint names, as its words.
fn command(error: &str) -> Vec<&str> {
    let (_, command) = error
        .trim_end()
        .split_once("go on with: tidemill ")
        .unwrap();
    command.split(' ').collect()
}

fn check(ended: Ended) -> Vec<String> {
    let error = ended.failed();
    assert!(
        error.contains("orders/0: the log is damaged at offset 0"),
        "{error}"
    );
    let (_, resume) = error.split_once("read on from ").unwrap();
    let resume = resume.split_whitespace().next().unwrap();
    assert_ne!(resume, "0", "{error}");
    assert!(error.contains("what is readable up to before"), "{error}");
    let words = command(&error);
    assert_eq!(words[..4], ["subscribe", "orders", "--from", resume]);
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_hint_of_a_subscriber_leads_past_damage() {
    let data = written();
    let segment = file(data.path(), ".log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let path = data.path().to_str().unwrap();
    let from = ["subscribe", "orders", "--from", "beginning", "--max", "40"];
    let go_on = |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let read = run(&words).done();
        assert_eq!(read.lines().count(), 40, "{read}");
    };
    go_on(check(run(&[&from[..], &["--data", path]].concat())));
    let server = Server::start(data.path());
    go_on(check(server.run(&from)));
}

#[test]
fn what_the_other_partitions_have_comes_before_damage() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run(&["topic", "create", "t", "-p", "2"]).done();
    for key in ["a", "b", "c", "d"] {
        server.run(&["publish", "t", key, "--key", key]).done();
    }
    server.running.stop("TERM").done();
    let topics = std::fs::read_dir(data.path().join("topics")).unwrap();
    let topic = topics.map(|topic| topic.unwrap().path()).next().unwrap();
    let segment = file(&topic.join("1"), ".log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let path = data.path().to_str().unwrap();
    let from = ["sub", "t", "--from", "beginning", "--max", "9"];
    let on_folder = run(&[&from[..], &["--data", path]].concat());
    let server = Server::start(data.path());
    for ended in [on_folder, server.run(&from)] {
        let read = ended.out.lines().count();
        assert!(read > 0, "{ended:?}");
        let of_zero = ended.out.lines().all(|line| line.starts_with("t/0@"));
        assert!(of_zero, "{ended:?}");
        let error = ended.failed();
        assert!(
            error.contains("t/1: the log is damaged at offset 0"),
            "{error}"
        );
        let place = command(&error)[3];
        let (zero, one) = place.split_once(',').unwrap();
        assert_eq!(zero, format!("0:{read}"), "{error}");
        assert!(one.starts_with("1:") && one != "1:0", "{error}");
    }
}
