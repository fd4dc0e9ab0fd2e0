//! Which command begins a log in a folder, and which leaves a folder as it is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;

use support::{Running, Server, run, run_with, tidemill};

/// The names in a folder.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Runs a command on a folder, which must be refused and left as it is.
#[track_caller]
fn refused(dir: &Path, command: &[&str]) -> String {
    let before = names(dir);
    let ended = run(&[command, &["--data", dir.to_str().unwrap()]].concat());
    assert_ne!(ended.code, Some(0), "{command:?}: {ended:?}");
    assert_eq!(names(dir), before, "{command:?}: {ended:?}");
    ended.err
}

const READING: [&[&str]; 9] = [
    &["topic", "list"],
    &["topic", "show", "t"],
    &["topic", "delete", "t"],
    &["group", "list"],
    &["group", "show", "g"],
    &["group", "delete", "g"],
    &["subscribe", "t"],
    &["log", "verify"],
    &["log", "dump"],
];

const BEGINNING: [&[&str]; 4] = [
    &["publish", "t", "x"],
    &["topic", "create", "t"],
    &["bench", "--for", "1s"],
    &["serve", "--http", "127.0.0.1:0"],
];

#[test]
fn a_command_that_reads_begins_no_log() {
    let empty = tempfile::tempdir().unwrap();
    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("letter.txt"), "dear").unwrap();
    for command in READING {
        for dir in [&empty, &full] {
            let error = refused(dir.path(), command);
            assert!(error.contains("there is no log in this folder"), "{error}");
        }
    }
}

#[test]
fn nobody_begins_a_log_beside_other_things() {
    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("letter.txt"), "dear").unwrap();
    for command in BEGINNING {
        let error = refused(full.path(), command);
        assert!(error.contains("but letter.txt is"), "{error}");
    }
}

#[test]
fn an_empty_folder_is_enough_to_begin_and_what_was_begun_is_read() {
    for command in [BEGINNING[0], BEGINNING[1], &["bench", "--for", "100ms"]] {
        let dir = tempfile::tempdir().unwrap();
        // A file system of its own has this from the beginning.
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        let data = ["--data", dir.path().to_str().unwrap()];
        run(&[command, &data].concat()).done();
        run(&[&["topic", "list"], &data[..]].concat()).done();
        assert!(dir.path().join("lost+found").is_dir(), "{command:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    Server::start(dir.path()).running.stop("TERM").done();
    run(&["group", "list", "--data", dir.path().to_str().unwrap()]).done();
}

#[test]
fn a_demos_folder_names_the_one_of_its_log() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let mut command = tidemill();
    let mut ports = vec!["--http", "127.0.0.1:0", "--shop", "127.0.0.1:0"];
    ports.extend(["--messages", "127.0.0.1:0"]);
    command
        .args(["demo", "--rate", "0", "--data", path])
        .args(ports);
    let mut demo = Running::start(command);
    demo.line("shop:");
    let ended = demo.stop("INT");
    assert!(ended.err.contains("Ctrl-C again"), "{ended:?}");
    ended.done();
    let bus = data.path().join("bus");
    let hint = format!("give --data {}", bus.display());
    for command in READING.iter().chain(&BEGINNING) {
        let error = refused(data.path(), command);
        assert!(error.contains(&hint), "{command:?}: {error}");
    }
    let topics = run(&["topic", "list", "--data", bus.to_str().unwrap()]).done();
    assert!(topics.contains("order_requests"), "{topics}");
}

#[test]
fn a_demo_begins_nothing_beside_a_servers_log() {
    let data = tempfile::tempdir().unwrap();
    Server::start(data.path()).running.stop("TERM").done();
    let error = refused(data.path(), &["demo", "--for", "1s"]);
    assert!(error.contains("name another folder"), "{error}");
}

#[test]
fn no_log_begins_in_a_folder_that_only_the_environment_names() {
    for command in [BEGINNING[0], BEGINNING[1]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let named = [("TIDEMILL_DATA", path)];
        let error = run_with(command, &named).failed();
        for part in [
            "there is no log in this folder",
            "TIDEMILL_DATA names the folder",
            "--data begins a log in it",
        ] {
            assert!(error.contains(part), "{command:?}: {error}");
        }
        assert_eq!(names(dir.path()), [""; 0], "{command:?}");
        // Typed it is meant, and then there is a log for the environment to name.
        run(&[command, &["--data", path]].concat()).done();
        run_with(&["publish", "t", "x"], &named).done();
    }
}

#[test]
fn a_hint_names_the_folder_or_the_server_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    run(&["topic", "create", "t", "--data", path]).done();
    let missing = ["topic", "show", "nowhere"];
    let hint = |environment: &[(&str, &str)]| run_with(&missing, environment).failed();
    let error = hint(&[("TIDEMILL_DATA", path)]);
    let whole = format!("`tidemill topic list --data {path}`");
    assert!(error.contains(&whole), "{error}");
    let server = Server::start(tempfile::tempdir().unwrap().path());
    let error = hint(&[("TIDEMILL_SERVER", &server.url), ("TIDEMILL_DATA", path)]);
    let whole = format!("`tidemill topic list --server {}`", server.url);
    assert!(error.contains(&whole), "{error}");
}

#[test]
fn nothing_begins_in_a_data_folder() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().to_str().unwrap();
    run(&["topic", "create", "t", "--data", path]).done();
    let inner = outer.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let others: [&[&str]; 2] = [
        &["demo", "--rate", "0", "--for", "1s"],
        &["user", "add", "ann", "--password-stdin"],
    ];
    for command in BEGINNING.iter().chain(&others) {
        let error = refused(&inner, command);
        let whole = format!("in the data folder {}", outer.path().display());
        assert!(error.contains(&whole), "{command:?}: {error}");
        assert!(
            error.contains("outside of that one"),
            "{command:?}: {error}"
        );
    }
    let backup = outer.path().join("backup").display().to_string();
    let other = tempfile::tempdir().unwrap();
    let data = other.path().to_str().unwrap();
    run(&["topic", "create", "t", "--data", data]).done();
    let error = run(&["log", "backup", "--to", &backup, "--data", data]).misused();
    assert!(error.contains("in the data folder"), "{error}");
}
