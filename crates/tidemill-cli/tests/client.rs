//! The client commands as a user meets them, against a server and on a folder.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::{Ended, Running, Server, run, run_with_input, tidemill};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs `check` with a server, and with a folder that nobody has open.
fn on_both(check: impl Fn(&dyn Fn(&[&str]) -> Ended)) {
    let data = folder();
    let server = Server::start(data.path());
    check(&|arguments| server.run(arguments));
    let data = folder();
    let path = data.path().to_str().unwrap();
    check(&|arguments| run(&[arguments, &["--data", path]].concat()));
}

#[test]
fn what_is_published_can_be_read() {
    on_both(|run| {
        let said = run(&[
            "publish",
            "orders",
            "{\"id\":1}",
            "-t",
            "order_created",
            "-k",
            "7",
        ]);
        assert!(said.done().contains("orders/0@0"));
        run(&["pub", "orders", "plain text", "--header", "region=eu"]).done();
        let read = run(&["subscribe", "orders", "--from", "beginning", "--max", "2"]).done();
        let lines: Vec<&str> = read.lines().collect();
        assert_eq!(lines[0], "orders/0@0 order_created key=7 {\"id\":1}");
        assert_eq!(lines[1], "orders/0@1 event plain text");
        let json = run(&["sub", "orders", "--from", "1", "--max", "1", "--json"]).done();
        let event: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
        assert_eq!(
            (event["region"].as_str(), event["data"].as_str()),
            (Some("eu"), Some("plain text"))
        );
    });
}

#[test]
fn many_events_keep_their_number_and_order() {
    on_both(|run| {
        let accepted = run(&["publish", "load", "x", "--count", "700", "--json"]).done();
        assert_eq!(accepted.lines().count(), 700);
        let first: serde_json::Value =
            serde_json::from_str(accepted.lines().next().unwrap()).unwrap();
        assert_eq!(
            (first["topic"].as_str(), first["offset"].as_u64()),
            (Some("load"), Some(0))
        );
        let read = run(&["sub", "load", "--from", "beginning", "--max", "700"]).done();
        let offsets = read
            .lines()
            .map(|line| line.split([' ', '@']).nth(1).unwrap().to_owned());
        assert!(offsets.eq((0..700).map(|n| n.to_string())));
    });
}

#[test]
fn topics_are_created_listed_shown_and_deleted() {
    on_both(|run| {
        run(&["topic", "create", "a", "--partitions", "3"]).done();
        run(&["publish", "b", "x"]).done();
        let listed = run(&["topic", "list"]).done();
        let rows: Vec<Vec<&str>> = listed
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["TOPIC", "PARTITIONS", "EVENTS", "BYTES"]);
        assert_eq!(rows[1][..3], ["a", "3", "0"]);
        assert_eq!(rows[2][..3], ["b", "1", "1"]);
        let json = run(&["topic", "list", "--json"]).done();
        let topic: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
        assert_eq!(run(&["topic", "show", "a"]).done().lines().count(), 4);
        let json = run(&["topic", "create", "c", "--json"]).done();
        let topic: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
        assert_eq!(
            (&topic["name"], &topic["partitions"][0]["end"]),
            (&"c".into(), &0.into())
        );
        run(&["topic", "delete", "c"]).done();
        let error = run(&["topic", "create", "a"]).failed();
        assert!(error.contains("exists"), "{error}");
        run(&["topic", "delete", "a"]).done();
        for gone in [
            &["topic", "show", "a"][..],
            &["topic", "delete", "a"],
            &["sub", "a"],
        ] {
            let error = run(gone).failed();
            assert!(error.contains("unknown topic a"), "{error}");
            assert!(!error.contains("create it first"), "{error}");
        }
    });
}

#[test]
fn what_was_said_of_a_topic_is_shown_by_the_options_that_say_it() {
    on_both(|run| {
        let options = [
            ["--keep-for", "7d"],
            ["--keep-bytes", "1GiB"],
            ["--compression", "lz4"],
            ["--segment-for", "12h"],
            ["--segment-bytes", "64KiB"],
            ["--compact-after", "1m"],
            ["--compact-within", "90m"],
            ["--keep-tombstones", "0s"],
            ["--batch-max-bytes", "1000"],
            ["--time-before-max", "1h"],
            ["--time-after-max", "1500ms"],
        ];
        let create = ["topic", "create", "a", "--compact", "--append-time"];
        run(&[&create[..], &options.concat()].concat()).done();
        let shown = run(&["topic", "show", "a"]).done();
        let words = shown.lines().map(|line| line.split_whitespace().collect());
        let words: Vec<Vec<&str>> = words.collect();
        for [option, value] in options {
            let line = [option.trim_start_matches("--"), value];
            assert!(words.contains(&line.to_vec()), "{option} {value}: {shown}");
        }
        assert!(words.contains(&vec!["compact", "yes"]), "{shown}");
        assert!(words.contains(&vec!["append-time", "yes"]), "{shown}");
        assert!(
            shown.ends_with("0\n") && words[14][0] == "PARTITION",
            "{shown}"
        );
        let set = [
            "topic",
            "set",
            "a",
            "--time-before-max",
            "default",
            "--json",
        ];
        let topic: serde_json::Value = serde_json::from_str(run(&set).done().trim()).unwrap();
        assert!(
            topic
                .get("time_before_max_ms")
                .is_none_or(|ms| ms.is_null())
        );
        assert_eq!(topic["time_after_max_ms"], 1_500);
    });
}

#[test]
fn topics_are_changed_as_far_as_is_named() {
    on_both(|run| {
        run(&["topic", "create", "a", "--keep-for", "36h", "--compact"]).done();
        let set = |options: &[&str]| {
            let command = ["topic", "set", "a", "--json"];
            let json = run(&[&command[..], options].concat());
            serde_json::from_str::<serde_json::Value>(json.done().trim()).unwrap()
        };
        let topic = set(&["--keep-bytes", "1000000", "--compression", "lz4"]);
        assert_eq!(topic["retention_ms"], 36 * 3_600_000);
        assert_eq!(topic["retention_bytes"], 1_000_000);
        assert_eq!(topic["compression"], "lz4");
        assert_eq!(topic["compact"], true);
        let lifted = ["--keep-for", "forever", "--keep-bytes", "all"];
        let topic = set(&[&lifted[..], &["--no-compact", "--partitions", "3"]].concat());
        assert!(topic.get("retention_ms").is_none_or(|ms| ms.is_null()));
        assert!(topic.get("retention_bytes").is_none_or(|ms| ms.is_null()));
        assert_eq!(topic["compact"], false);
        assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
        let finer = ["--segment-for", "1h", "--segment-bytes", "65536"];
        let times = ["--compact-after", "1s", "--compact-within", "1m"];
        let topic = set(&[&finer[..], &times, &["--keep-tombstones", "0s"]].concat());
        assert_eq!(topic["append_time"], false);
        assert_eq!(topic["segment_ms"], 3_600_000);
        assert_eq!(topic["segment_bytes"], 65_536);
        assert_eq!(topic["compact_after_ms"], 1_000);
        assert_eq!(topic["compact_within_ms"], 60_000);
        assert_eq!(topic["tombstone_retention_ms"], 0);
        let topic = set(&["--append-time", "--batch-max-bytes", "5000"]);
        assert_eq!(
            (&topic["append_time"], &topic["batch_max_bytes"]),
            (&true.into(), &5_000.into())
        );
        let topic = set(&["--no-append-time", "--batch-max-bytes", "default"]);
        assert_eq!(topic["append_time"], false);
        let topic = set(&["--segment-for", "default", "--compact-within", "default"]);
        assert!(topic.get("segment_ms").is_none_or(|ms| ms.is_null()));
        assert!(topic.get("compact_within_ms").is_none_or(|ms| ms.is_null()));
        assert_eq!(topic["segment_bytes"], 65_536);
        let plain = run(&["topic", "set", "a", "--keep-for", "1h"]);
        assert_eq!(plain.done(), "changed a\n");
        let fewer = run(&["topic", "set", "a", "--partitions", "2"]).failed();
        assert!(fewer.contains("3 partitions"), "{fewer}");
        let unknown = run(&["topic", "set", "b", "--compact"]).failed();
        assert!(unknown.contains("unknown topic b"), "{unknown}");
    });
    let misused: [(&[&str], &str); 4] = [
        (&[], "nothing is to be changed"),
        (&["--compact", "--no-compact"], "cannot be used"),
        (&["--keep-for", "ever"], "or forever"),
        (&["--keep-bytes", "0"], "or all"),
    ];
    let place = tempfile::tempdir().unwrap();
    let data = place.path().to_str().unwrap();
    run(&["topic", "create", "a", "--data", data]).done();
    for (options, part) in misused {
        let command = ["topic", "set", "a", "--data", data];
        let error = run(&[&command[..], options].concat()).misused();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn creating_and_changing_a_topic_take_the_same_words_for_what_it_keeps() {
    on_both(|run| {
        for (name, bytes, kept) in [("a", "all", None), ("b", "2TiB", Some(2_u64 << 40))] {
            for command in ["create", "set"] {
                let keep = ["--keep-for", "forever", "--keep-bytes", bytes, "--json"];
                let json = run(&[&["topic", command, name][..], &keep].concat()).done();
                let topic: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
                assert!(topic["retention_ms"].is_null(), "{topic}");
                assert_eq!(topic["retention_bytes"].as_u64(), kept, "{topic}");
            }
        }
        let shown = run(&["topic", "show", "b"]).done();
        assert!(shown.contains("2TiB"), "{shown}");
    });
    for command in ["create", "set"] {
        let help = run(&["topic", command, "--help"]).done();
        assert!(
            help.contains("`forever`") && help.contains("`all`"),
            "{help}"
        );
        let wrong: [(&[&str], &str); 3] = [
            (&["--keep-for", "ever"], "or forever"),
            (
                &["--keep-bytes", "64MB"],
                "TiB or nothing behind it; or all",
            ),
            (
                &["--keep-bytes", "16777216TiB"],
                "more bytes than there can be",
            ),
        ];
        for (options, part) in wrong {
            let error = run(&[&["topic", command, "a"][..], options].concat()).misused();
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn topics_are_created_with_what_they_keep_and_trimmed() {
    on_both(|run| {
        let json = run(&[
            "topic",
            "create",
            "a",
            "--keep-for",
            "36h",
            "--keep-bytes",
            "1000000",
            "--compact",
            "--compression",
            "zstd",
            "--json",
        ]);
        let topic: serde_json::Value = serde_json::from_str(json.done().trim()).unwrap();
        assert_eq!(topic["retention_ms"], 36 * 3_600_000);
        assert_eq!(topic["retention_bytes"], 1_000_000);
        assert_eq!(topic["compression"], "zstd");
        assert_eq!(topic["compact"], true);
        for text in ["x", "y", "z"] {
            run(&["publish", "a", text]).done();
        }
        let trim = |topic: &str, partition: &str, before: &str| {
            let at = ["--partition", partition, "--before", before];
            run(&[&["topic", "trim", topic], &at[..]].concat())
        };
        assert_eq!(trim("a", "0", "2").done().trim(), "a/0 begins at 2");
        let read = run(&["sub", "a", "--from", "beginning", "--max", "1"]).done();
        assert_eq!(read.trim(), "a/0@2 event z");
        for (ended, part) in [
            (trim("a", "0", "4"), "ends at 3"),
            (trim("a", "1", "0"), "the topic has 1"),
            (trim("b", "0", "0"), "unknown topic b"),
        ] {
            let error = ended.failed();
            assert!(error.contains(part), "{error}");
        }
        let wrong = run(&["topic", "create", "c", "--compression", "gzip"]).misused();
        assert!(wrong.contains("none, lz4 or zstd"), "{wrong}");
    });
}

#[test]
fn groups_that_are_not_there_are_named() {
    on_both(|run| {
        run(&["topic", "create", "t"]).done();
        assert_eq!(run(&["group", "list", "--json"]).done(), "");
        for gone in [
            &["group", "show", "billing"][..],
            &["group", "delete", "billing"],
        ] {
            let error = run(gone).failed();
            assert!(error.contains("unknown group billing"), "{error}");
            assert!(error.contains("`tidemill group list --"), "{error}");
        }
    });
}

#[test]
fn data_comes_from_a_file_and_from_standard_input() {
    let data = folder();
    let server = Server::start(&data.path().join("d"));
    let file = data.path().join("event.bin");
    std::fs::write(&file, b"\xff\x00\x01").unwrap();
    server
        .run(&["publish", "t", "--file", file.to_str().unwrap()])
        .done();
    let piped = run_with_input(
        &["publish", "t", "-", "--server", &server.url],
        b"from a pipe\n",
    );
    piped.done();
    let read = server
        .run(&["sub", "t", "--from", "beginning", "--max", "2"])
        .done();
    assert!(
        read.contains("(3 bytes)") && read.contains("from a pipe"),
        "{read}"
    );
    let error = server
        .run(&["publish", "t", "--file", "/nowhere/x"])
        .failed();
    assert!(error.contains("--file /nowhere/x"), "{error}");
}

#[test]
fn a_subscriber_waits_for_what_comes() {
    let data = folder();
    let server = Server::start(data.path());
    server.run(&["topic", "create", "orders"]).done();
    let mut command = tidemill();
    command.args([
        "sub",
        "orders",
        "--from",
        "beginning",
        "--server",
        &server.url,
    ]);
    let mut subscriber = Running::start(command);
    for n in 0..3 {
        server
            .run(&["publish", "orders", &format!("event {n}")])
            .done();
        assert!(
            subscriber
                .line("orders/0@")
                .ends_with(&format!("event {n}"))
        );
    }
    assert_eq!(subscriber.stop("INT").code, Some(0));
}

#[test]
fn since_goes_by_when_an_event_was_published() {
    let data = folder();
    let server = Server::start(data.path());
    let old = r#"{"specversion":"1.0","id":"1","source":"/t","type":"old",
        "time":"2001-01-01T00:00:00Z"}"#;
    let posted = support::post(&server.url, "/v1/topics/t/events", old);
    assert!(posted.starts_with("HTTP/1.1 200"), "{posted}");
    server.run(&["publish", "t", "new"]).done();
    let read = server
        .run(&["sub", "t", "--since", "1h", "--max", "2"])
        .done();
    let lines: Vec<_> = read.lines().collect();
    assert!(lines[0].starts_with("t/0@0 old"), "{read}");
    assert!(lines[1].starts_with("t/0@1 event new"), "{read}");
}

#[test]
fn nobody_there_says_how_to_start_a_server() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for arguments in [
        &["publish", "t", "x"][..],
        &["sub", "t"],
        &["topic", "list"],
        &["group", "list"],
        &["bench", "--for", "1s"],
    ] {
        let error = run(&[arguments, &["--server", &url]].concat()).failed();
        assert!(
            error.contains(&url) && error.contains("tidemill serve"),
            "{error}"
        );
    }
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    for (arguments, part) in [
        (&["publish", "no topic", "x"][..], "topic name"),
        (&["publish"], "TOPIC"),
        (&["publish", "t", "x", "--header", "novalue"], "NAME=VALUE"),
        (&["publish", "t", "x", "-Ha=1", "-Ha=2"], "given twice"),
        (&["publish", "t", "x", "--header", "Upper=1"], "Upper"),
        (&["publish", "t", "x", "--file", "f"], "--file"),
        (&["publish", "t", "x", "--key", ""], "key"),
        (
            &["publish", "t", "x", "--count", "0"],
            "it must be at least 1",
        ),
        (
            &["topic", "create", "t", "--partitions", "0"],
            "from 1 to 1024",
        ),
        (&["publish", "t", "x", "--server", "nonsense"], "--server"),
        (
            &["topic", "list", "--server", "http://127.0.0.1:7575/base"],
            "leave out what follows the port",
        ),
        (
            &["publish", "t", "x", "--count", "-1"],
            "it must be at least 1",
        ),
        (&["sub", "t", "--max", "-1"], "it must be at least 1"),
        (&["sub", "t", "--from", "-1"], "beginning"),
        (
            &["topic", "trim", "t", "-p", "-1", "--before", "0"],
            "it must be at least 0",
        ),
        (
            &["topic", "create", "t", "--keep-bytes", "-5"],
            "it is 1 to",
        ),
        (&["bench", "--rate", "-1"], "at least 0.1"),
        (&["sub", "t", "--since", "-1h"], "no length of time"),
        (&["topic", "create", "t", "--keep-for", "-1s"], "as 500ms"),
        (&["sub", "t", "--from", "yesterday"], "beginning"),
        (&["sub", "t", "--max", "0"], "it must be at least 1"),
        (&["sub", "t", "--max", "x"], "whole number of at least 1"),
        (&["log", "dump", "--max", "0"], "it must be at least 1"),
        (&["log", "verify", "/nowhere"], "--data /nowhere"),
        (&["topic", "show", "--", "-x", "--json"], "before `--`"),
        (&["topic", "show", "-x"], "-- -x"),
        (
            &["topic", "list", "--data", "d", "--server", "http://a:1"],
            "do not go together",
        ),
        (&["sub", "t", "--since", "soon"], "1h"),
        (&["sub", "t", "--since", "1h", "--from", "end"], "--since"),
        (&["topic"], "Usage"),
        (
            &["topic", "create", "t", "--partitions", "none"],
            "--partitions",
        ),
        (&["group", "show"], "GROUP"),
        (&["completions", "cmd"], "cmd"),
    ] {
        let error = run(arguments).misused();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let missing = run(&["topic", "list", "--data", "/nowhere/data"]).failed();
    assert!(missing.contains("/nowhere/data"), "{missing}");
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "demo",
        "serve",
        "publish",
        "subscribe",
        "topic",
        "group",
        "topic list",
        "topic show",
        "topic create",
        "topic set",
        "topic trim",
        "topic delete",
        "group list",
        "group show",
        "group delete",
        "bench",
        "completions",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = run(&arguments).done();
        assert!(
            help.contains("Example") && help.contains("tidemill "),
            "{command}: {help}"
        );
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            run(&["completions", shell]).done().contains("tidemill"),
            "{shell}"
        );
    }
}
