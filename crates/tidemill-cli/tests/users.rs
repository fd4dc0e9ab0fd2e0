//! `tidemill user`: users come, get other passwords and go, beside a running server and without
//! one.

#![cfg(all(feature = "kafka", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::{Ended, Server, run, run_with_input, tidemill};

fn user(data: &Path, words: &[&str]) -> Ended {
    run(&[&["user"], words, &["--data", data.to_str().unwrap()]].concat())
}

fn with_password(data: &Path, words: &[&str], password: &str) -> Ended {
    let data = data.to_str().unwrap();
    let words = [&["user"], words, &["--password-stdin", "--data", data]].concat();
    run_with_input(&words, password.as_bytes())
}

fn kept(data: &Path) -> String {
    std::fs::read_to_string(data.join("private/users.json")).unwrap()
}

#[test]
fn a_server_whose_users_cannot_be_read_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    with_password(data, &["add", "alice"], "one\n").done();
    std::fs::write(data.join("private/users.json"), "{").unwrap();
    let data = data.to_str().unwrap();
    let serve = ["serve", "--data", data, "--http", "127.0.0.1:0"];
    let kafka = ["--kafka", "127.0.0.1:0", "--kafka-sasl", "required"];
    let error = run(&[&serve[..], &kafka].concat()).failed();
    assert!(error.contains("users.json"), "{error}");
}

#[test]
fn users_are_there_before_the_log_and_beside_its_server() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    with_password(data, &["add", "alice"], "one\n").done();
    assert!(!kept(data).contains("one"));
    let options = ["--kafka", "127.0.0.1:0", "--kafka-sasl", "required"];
    let server = Server::start_with(data, &options);
    with_password(data, &["add", "bob, jr="], "two").done();
    let before = kept(data);
    with_password(data, &["password", "alice"], "three\r\n").done();
    assert_ne!(kept(data), before);
    let listed = user(data, &["list", "--json"]).done();
    let told: Vec<serde_json::Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = told.iter().map(|user| &user["name"]).collect();
    assert_eq!(names, ["alice", "bob, jr="]);
    // The table and the lines say the same.
    let table = user(data, &["list"]).done();
    for (user, row) in told.iter().zip(table.lines().skip(1)) {
        let words = user["mechanisms"].as_array().unwrap().iter();
        let words: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
        assert!(words.contains(&"PLAIN") && words.len() > 1, "{user}");
        assert!(row.ends_with(&words.join(",")), "{table}");
    }
    user(data, &["delete", "alice"]).done();
    assert!(!user(data, &["list"]).done().contains("alice"));
    assert!(server.running.stop("TERM").out.contains("closed"));
    // The log does not mind.
    let verified = run(&["log", "verify", "--data", data.to_str().unwrap()]).done();
    assert!(!verified.contains("private"), "{verified}");
    assert!(!data.join("aside").exists());
}

#[test]
fn what_cannot_be_is_refused_and_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    with_password(data, &["add", "alice"], "one").done();
    let exists = with_password(data, &["add", "alice"], "two").failed();
    assert!(exists.contains("tidemill user password"), "{exists}");
    let unknown = user(data, &["delete", "eve"]).failed();
    assert!(unknown.contains("tidemill user list"), "{unknown}");
    with_password(data, &["password", "eve"], "two").failed();
    with_password(data, &["add", "eve"], "").misused();
    with_password(data, &["add", "eve"], "two\nlines").misused();
    with_password(data, &["add", ""], "two").misused();
    let nowhere = user(&data.join("nowhere"), &["list"]).failed();
    assert!(nowhere.contains("tidemill serve"), "{nowhere}");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("letter.txt"), "dear").unwrap();
    with_password(other.path(), &["add", "eve"], "two").failed();
    assert!(!other.path().join("private").exists());
}

#[test]
fn what_cannot_be_served_safely_is_refused_before_anything_is_made() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("new");
    let serve = |words: &[&str]| {
        let all = ["serve", "--http", "127.0.0.1:0", "--data"];
        run(&[&all[..], &[data.to_str().unwrap()], words].concat())
    };
    let open = serve(&["--kafka", "0.0.0.0:0"]).misused();
    assert!(open.contains("--kafka-sasl required"), "{open}");
    let half = serve(&["--kafka", "127.0.0.1:0", "--kafka-tls-cert", "c.pem"]).misused();
    assert!(half.contains("--kafka-tls-key"), "{half}");
    let tls = ["--kafka-tls-cert", "no.pem", "--kafka-tls-key", "no.pem"];
    let missing = serve(&[&["--kafka", "0.0.0.0:0"], &tls[..]].concat()).misused();
    assert!(missing.contains("log in"), "{missing}");
    assert!(!data.exists());
    let missing = serve(&[&["--kafka", "127.0.0.1:0"], &tls[..]].concat()).failed();
    assert!(missing.contains("--kafka-tls-cert no.pem: "), "{missing}");
}

/// Types on a terminal of its own, and gives how the command ended and what the terminal showed.
fn typed(words: &[&str], keys: &str) -> (bool, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
    };
    let terminal = open().unwrap();
    let program = tidemill().get_program().to_owned();
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(program).args(words);
    let (out, err) = (Stdio::null(), Stdio::null());
    let child = command.stdin(open().unwrap()).stdout(out).stderr(err);
    let mut child = child.spawn().unwrap();
    let mut master = File::from(master);
    let mut shown = String::new();
    for line in keys.split_inclusive('\r') {
        // Keys that come before the prompt are thrown away.
        while !shown.ends_with(": ") {
            let mut some = [0; 64];
            let read = master.read(&mut some).unwrap();
            shown.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
        shown.push('|');
        master.write_all(line.as_bytes()).unwrap();
    }
    let done = child.wait().unwrap().success();
    drop((terminal, command));
    let mut rest = Vec::new();
    // It ends with an error, as nobody has the other end.
    let _ = master.read_to_end(&mut rest);
    shown.push_str(std::str::from_utf8(&rest).unwrap());
    (done, shown)
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let add = ["user", "add", "alice", "--data", path];
    let shown = "password: |\r\nagain: |\r\n";
    assert_eq!(typed(&add, "secret\rsecrets\r"), (false, shown.into()));
    // A key is taken back.
    assert_eq!(typed(&add, "secret\rsecrex\u{7f}t\r"), (true, shown.into()));
    assert!(kept(data.path()).contains("alice"));
    let change = ["user", "password", "alice", "--data", path];
    let before = kept(data.path());
    let (done, shown) = typed(&change, "new\u{3}");
    assert!(!done && !shown.contains("new"), "{shown}");
    assert_eq!(kept(data.path()), before);
}

#[test]
fn names_that_mean_something_else_in_rules_are_no_users() {
    let data = tempfile::tempdir().unwrap();
    for name in ["*", "ANONYMOUS", "User:alice"] {
        let refused = with_password(data.path(), &["add", name], "").misused();
        assert!(refused.contains("use another"), "{name}: {refused}");
    }
    // Nobody sees what these end with; and no password is read for them.
    for name in ["", " ", "alice ", "\talice", "alice\u{a0}"] {
        let refused = with_password(data.path(), &["add", name], "").misused();
        assert!(
            refused.contains("is no name of a user"),
            "{name:?}: {refused}"
        );
    }
    assert!(!data.path().join("private").exists());
}

#[test]
fn the_rules_about_who_is_deleted_stay_unless_they_are_to_go() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let folder = ["--data", data.to_str().unwrap()];
    let rule = ["acl", "add", "bob", "--operation", "all", "--topic", "a"];
    let rules = || run(&[&["acl", "list", "--json"], &folder[..]].concat()).done();
    run(&[&rule, &folder[..]].concat()).done();
    with_password(data, &["add", "bob"], "one").done();
    let ended = user(data, &["delete", "bob"]);
    assert!(
        ended.err.contains("1 rule about User:bob left")
            && ended
                .err
                .contains("tidemill acl delete --principal User:bob --data"),
        "{ended:?}"
    );
    ended.done();
    assert_eq!(rules().lines().count(), 1);
    with_password(data, &["add", "bob"], "one").done();
    let deleted = user(data, &["delete", "bob", "--with-rules"]);
    assert_eq!(deleted.err, "");
    assert!(deleted.done().contains("deleted 1 rule about User:bob"));
    assert_eq!(rules(), "");
    // Nothing is said where there is nothing.
    with_password(data, &["add", "bob"], "one").done();
    assert_eq!(user(data, &["delete", "bob"]).err, "");
}
