//! What is typed wrongly ends with 2 and names the flag; what a server refuses is told with
//! commands instead of calls.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::{Server, run};

/// What is typed, and the flag and the bound that the error names.
const WRONG: [(&str, &str, &str); 17] = [
    ("topic create t --partitions 100000", "--partitions", "1024"),
    ("topic set orders --partitions 1025", "--partitions", "1024"),
    (
        "topic create t --segment-bytes 1",
        "--segment-bytes",
        "64KiB to 256MiB",
    ),
    (
        "topic set orders --batch-max-bytes 1TiB",
        "--batch-max-bytes",
        "32MiB",
    ),
    (
        "topic create t --keep-for 999999999999d",
        "--keep-for",
        "106751991167d",
    ),
    (
        "topic set orders --segment-for 999999999999d",
        "--segment-for",
        "106751991167d",
    ),
    (
        "topic create t --keep-bytes 16777215TiB",
        "--keep-bytes",
        "8388607TiB",
    ),
    (
        "topic create t --compact-after 2d --compact-within 1d",
        "--compact-within",
        "less",
    ),
    ("queue create q.deadletter", "<QUEUE>", "use another name"),
    ("webhook set shop", "--timeout", "nothing is to be changed"),
    ("webhook set shop --timeout 1h", "--timeout", "100ms to 30s"),
    ("webhook set shop --attempts 101", "--attempts", "100"),
    (
        "webhook set shop --retry-first 11m",
        "--retry-first",
        "10ms to 10m",
    ),
    (
        "webhook set shop --retry-max 1ms",
        "--retry-max",
        "10ms to 1d",
    ),
    (
        "webhook set shop --retry-first 5m --retry-max 1m",
        "--retry-first is",
        "--retry-max,",
    ),
    (
        "webhook create b http://me:x@h --topic orders",
        "--header",
        "authorization",
    ),
    ("webhook rotate shop --overlap 8d", "--overlap", "7d"),
];

#[test]
fn what_is_out_of_its_bounds_is_wrong_use_that_names_the_flag_and_the_bound() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run(&["topic", "create", "orders"]).done();
    let hook = ["webhook", "create", "shop", "http://127.0.0.1:1/"];
    server.run(&[&hook[..], &["--topic", "orders"]].concat());
    for (typed, flag, bound) in WRONG {
        let words: Vec<_> = typed.split(' ').collect();
        let wrong = server.run(&words).misused();
        assert!(
            wrong.contains(flag) && wrong.contains(bound),
            "{typed}: {wrong}"
        );
        // No member of a body, and no status.
        assert!(
            !wrong.contains("_ms") && !wrong.contains("HTTP"),
            "{typed}: {wrong}"
        );
    }
    // What is wrong only with what the topic has already.
    let after = ["topic", "set", "orders", "--compact-after", "2d"];
    server.run(&after).done();
    let within = ["topic", "set", "orders", "--compact-within", "1d"];
    let refused = server.run(&within).failed();
    assert!(
        refused.contains("--compact-within is at least --compact-after"),
        "{refused}"
    );
    drop(server);
    let folder = ["--data", data.path().to_str().unwrap()];
    let refused = run(&[&within[..], &folder].concat()).failed();
    assert!(
        refused.contains("--compact-within is at least --compact-after"),
        "{refused}"
    );
    assert_eq!(
        run(&[&["topic", "create", "e"][..], &folder].concat()).done(),
        "created e\n"
    );
}

#[test]
fn what_a_server_refuses_names_commands_and_no_calls() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run(&["topic", "create", "orders"]).done();
    server.run(&["queue", "create", "jobs"]).done();
    let hook = [
        "webhook",
        "create",
        "shop",
        "http://127.0.0.1:1/",
        "--topic",
        "orders",
    ];
    server.run(&hook).done();
    let list = |of: &str| format!("`tidemill {of} list --server {}` names all", server.url);
    for (typed, told) in [
        ("queue enqueue nosuch 1", list("queue")),
        ("queue dequeue nosuch", list("queue")),
        ("queue peek nosuch", list("queue")),
        (
            "queue enqueue orders 1",
            "orders is a topic, no queue; `tidemill publish".to_owned(),
        ),
        (
            "publish jobs 1",
            "jobs is a queue, no topic; `tidemill queue enqueue".to_owned(),
        ),
        ("group seek nosuch --topic orders --to end", list("group")),
        (
            "group seek webhook.shop --topic nosuch --to end",
            list("topic"),
        ),
        ("webhook set nosuch --attempts 3", list("webhook")),
        ("webhook delete nosuch", list("webhook")),
        (
            "webhook create shop http://h --topic orders",
            "`tidemill webhook set".to_owned(),
        ),
        (
            "group delete webhook.shop",
            format!("`tidemill webhook delete shop --server {}`", server.url),
        ),
    ] {
        let words: Vec<_> = typed.split(' ').collect();
        let refused = server.run(&words).failed();
        assert!(refused.contains(&told), "{typed}: {refused}");
        assert!(!refused.contains("/v1/"), "{typed}: {refused}");
        assert!(!refused.contains("--force"), "{typed}: {refused}");
    }
}

#[cfg(unix)]
#[test]
fn a_word_that_is_no_text_is_shown() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"al\xffice");
    let mut add = support::tidemill();
    let output = add.args(["user", "add"]).arg(name).output().unwrap();
    let wrong = support::ended(output).misused();
    assert!(wrong.contains("al\\xffice"), "{wrong}");
}
