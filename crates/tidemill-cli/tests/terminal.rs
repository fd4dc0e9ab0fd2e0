//! What others published on a terminal: control characters of it must not command the terminal,
//! and a pipe gets them as they are.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs::File;
use std::io::Read;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{run, tidemill};

/// Runs a command on a terminal and gives what the terminal was sent.
fn on_a_terminal(arguments: &[&str]) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap());
    let terminal = terminal.unwrap();
    let out = terminal.try_clone().unwrap();
    let status = tidemill().args(arguments).stdout(out).status().unwrap();
    assert!(status.success(), "{status}");
    // It is less than the terminal holds, and the terminal is open still.
    let mut sent = [0; 4096];
    let read = File::from(master).read(&mut sent).unwrap();
    drop(terminal);
    String::from_utf8(sent[..read].to_vec()).unwrap()
}

#[test]
fn control_characters_are_escaped_on_a_terminal_and_nowhere_else() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let evil = "a\u{1b}[31mred\u{9b}";
    run(&["publish", "t", evil, "--data", path]).done();
    let read = [
        "sub",
        "t",
        "--from",
        "beginning",
        "--max",
        "1",
        "--data",
        path,
    ];
    let piped = run(&read).done();
    assert_eq!(piped, format!("t/0@0 event {evil}\n"));
    let shown = on_a_terminal(&read);
    assert_eq!(shown, "t/0@0 event a\\u{1b}[31mred\\u{9b}\r\n");
    // What is said of an error is for people, wherever it goes.
    let unknown = run(&["topic", "show", "t", "--data", "no\u{1b}[2Jfolder"]).failed();
    assert!(unknown.contains("no\\u{1b}[2Jfolder"), "{unknown}");
    let json = on_a_terminal(&[&read[..], &["--json"]].concat());
    assert!(json.contains("a\\u001b[31mred\\u009b"), "{json}");
}
