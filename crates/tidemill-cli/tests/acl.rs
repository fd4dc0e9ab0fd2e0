//! `tidemill acl`: rules come and go, beside a running server and without one.

#![cfg(all(feature = "kafka", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;

use support::{Ended, Server, run};

fn acl(data: &Path, words: &[&str]) -> Ended {
    run(&[&["acl"], words, &["--data", data.to_str().unwrap()]].concat())
}

#[test]
fn rules_are_there_before_the_log_and_beside_its_server() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let added = acl(
        data,
        &[
            "add",
            "alice",
            "--operation",
            "read",
            "--operation",
            "write",
            "--topic",
            "orders",
        ],
    );
    let note = "note: there is no user alice yet; `tidemill user add alice --data ";
    assert!(added.err.contains(note), "{added:?}");
    assert!(added.done().contains("added 2 rules"));
    let options = ["--kafka", "127.0.0.1:0", "--kafka-acls", "open"];
    let mut server = Server::start_with(data, &options);
    let kafka = server.running.line("kafka ");
    assert!(kafka.contains("(what no rule is about is open)"), "{kafka}");
    let deny = [
        "add",
        "*",
        "--operation",
        "all",
        "--topic",
        "ord",
        "--prefixed",
        "--deny",
    ];
    let deny = [&deny[..], &["--host", "10.0.0.7", "--group", "g"]].concat();
    let denied = acl(data, &deny);
    assert!(!denied.err.contains("no user"), "{denied:?}");
    assert!(denied.done().contains("added 2 rules"));
    assert!(acl(data, &deny).done().contains("added 0 rules"));
    let listed = acl(data, &["list", "--topic", "orders"]).done();
    assert_eq!(listed.matches("User:alice").count(), 2, "{listed}");
    let matching = acl(data, &["list", "--topic", "orders", "--matching", "--json"]).done();
    let lines: Vec<serde_json::Value> = matching
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let denied = lines.iter().find(|rule| rule["effect"] == "deny").unwrap();
    assert_eq!(denied["principal"], "User:*");
    assert_eq!(denied["host"], "10.0.0.7");
    assert_eq!(denied["resource"]["match"], "prefixed");
    let deleted = acl(
        data,
        &["delete", "--principal", "alice", "--operation", "read"],
    );
    assert!(deleted.done().contains("deleted 1 rule"));
    assert!(
        acl(data, &["delete", "--all"])
            .done()
            .contains("deleted 3 rules")
    );
    assert!(!acl(data, &["list"]).done().contains("User:"));
    let again = acl(data, &["delete", "--principal", "alice"]).failed();
    assert!(again.contains("acl list"), "{again}");
    // Nothing that was named is missing.
    assert_eq!(acl(data, &["delete", "--all"]).done(), "deleted 0 rules\n");
    assert!(server.running.stop("TERM").out.contains("closed"));
    // The log does not mind.
    let verified = run(&["log", "verify", "--data", data.to_str().unwrap()]).done();
    assert!(!verified.contains("private"), "{verified}");
}

#[test]
fn what_cannot_be_is_refused_and_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let read = ["add", "alice", "--operation", "read"];
    let with = |words: &[&str]| acl(data, &[&read[..], words].concat());
    assert!(with(&[]).misused().contains("--topic"));
    let wrong = with(&["--cluster"]).misused();
    assert!(wrong.contains("create"), "{wrong}");
    let host = with(&["--topic", "a", "--host", "example.org"]).misused();
    assert!(host.contains("IP address"), "{host}");
    with(&["--topic", ""]).misused();
    let star = with(&["--topic", "ord*"]).misused();
    assert!(star.contains("--prefixed"), "{star}");
    for nobody in ["Group:devs", "user:alice", "User:", ""] {
        let words = ["add", nobody, "--operation", "read", "--topic", "a"];
        let refused = acl(data, &words).misused();
        assert!(refused.contains("User:"), "{nobody}: {refused}");
    }
    let group = acl(
        data,
        &["add", "alice", "--operation", "create", "--group", "g"],
    )
    .misused();
    assert!(group.contains("one of all, read, delete"), "{group}");
    let word = acl(
        data,
        &["add", "alice", "--operation", "raed", "--topic", "a"],
    )
    .misused();
    assert!(word.contains("describe"), "{word}");
    let none = acl(data, &["delete"]).misused();
    assert!(none.contains("--all"), "{none}");
    acl(data, &["delete", "--all", "--topic", "a"]).misused();
    assert!(!data.join("private").exists());
    let nowhere = acl(&data.join("nowhere"), &["list"]).failed();
    assert!(nowhere.contains("tidemill serve"), "{nowhere}");
}

#[test]
fn settings_that_shut_everybody_out_are_refused_before_anything_is_made() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("new");
    let serve = |words: &[&str]| {
        let all = [
            "serve",
            "--http",
            "127.0.0.1:0",
            "--kafka",
            "127.0.0.1:0",
            "--data",
        ];
        run(&[&all[..], &[data.to_str().unwrap()], words].concat())
    };
    let closed = serve(&["--kafka-acls", "closed"]).misused();
    assert!(closed.contains("--kafka-sasl required"), "{closed}");
    let alone = serve(&["--kafka-super-user", "root"]).misused();
    assert!(alone.contains("--kafka-acls"), "{alone}");
    assert!(!data.exists());
    std::fs::create_dir_all(data.join("private")).unwrap();
    std::fs::write(data.join("private/acls.json"), "{}").unwrap();
    let nonsense = serve(&["--kafka-acls", "open"]).failed();
    assert!(nonsense.contains("acls.json"), "{nonsense}");
}
