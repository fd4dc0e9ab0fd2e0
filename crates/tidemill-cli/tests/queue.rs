//! The commands of queues as a user meets them, against a server and on a folder; and what a
//! killed server leaves of a queue.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::{Server, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

#[test]
fn messages_go_in_and_out_of_a_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let run = |arguments: &[&str]| server.run(arguments);
    let made = run(&[
        "queue",
        "create",
        "jobs",
        "--lease",
        "1m",
        "--max-deliveries",
        "3",
        "--json",
    ]);
    let made = json(&made.done());
    assert_eq!(
        (&made["lease_ms"], &made["max_deliveries"]),
        (&60_000.into(), &3.into())
    );
    assert_eq!(
        run(&["queue", "enqueue", "jobs", r#"{"n":1}"#]).done(),
        "jobs@0\n"
    );
    let second = run(&[
        "queue", "enqueue", "jobs", "two", "--type", "word", "--json",
    ])
    .done();
    assert_eq!(json(&second)["offset"], 1);
    assert_eq!(
        run(&["queue", "peek", "jobs", "--max", "2"]).done(),
        "0 {\"n\":1}\n1 two\n"
    );
    assert_eq!(run(&["queue", "length", "jobs"]).done(), "2\n");

    let taken = lines(&run(&["queue", "dequeue", "jobs", "--max", "2", "--json"]).done());
    assert_eq!(taken[1]["event"]["type"], "word");
    let lease = |n: usize| taken[n]["lease"].as_str().unwrap();
    let done = run(&["queue", "ack", "jobs", lease(0)]).done();
    assert_eq!(done, "1 message is acknowledged\n");
    let late = run(&["queue", "ack", "jobs", lease(0), lease(1)]).failed();
    assert!(
        late.contains(lease(0)) && !late.contains(lease(1)),
        "{late}"
    );
    run(&["queue", "requeue", "jobs", lease(1)]).done();
    let plain = run(&["queue", "dequeue", "jobs", "--wait", "1s"]).done();
    let words: Vec<&str> = plain.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("1", "two"));
    let length = json(&run(&["queue", "length", "jobs", "--json"]).done());
    assert_eq!(
        (&length["length"], &length["in_flight"]),
        (&1.into(), &1.into())
    );

    run(&["queue", "create", "fleeting", "--transient"]).done();
    let listed = lines(&run(&["queue", "list", "--json"]).done());
    let names: Vec<_> = listed.iter().map(|queue| &queue["name"]).collect();
    assert_eq!(names, ["fleeting", "jobs"]);
    let table = run(&["queue", "list"]).done();
    assert!(
        table.contains("in memory") && table.contains("on disk"),
        "{table}"
    );
    assert!(run(&["queue", "show", "jobs"]).done().contains("jobs"));
    run(&["queue", "delete", "jobs"]).done();
    let gone = run(&["queue", "show", "jobs"]).failed();
    assert!(
        gone.contains("unknown queue jobs") && gone.contains("queue list"),
        "{gone}"
    );
}

#[test]
fn who_deletes_a_queues_group_or_topic_is_told_of_the_queue() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let folder = ["--data", other.path().to_str().unwrap()];
    server
        .run(&["queue", "create", "fleeting", "--transient"])
        .done();
    server.run(&["queue", "create", "jobs"]).done();
    run(&[&["queue", "create", "jobs"], &folder[..]].concat()).done();
    let commands: [&[&str]; 5] = [
        &["group", "delete", "jobs"],
        &["group", "delete", "jobs", "--force"],
        &["topic", "delete", "jobs"],
        &["topic", "delete", "fleeting"],
        &["group", "delete", "fleeting"],
    ];
    for command in commands {
        let error = server.run(command).failed();
        let instead = format!("`tidemill queue delete {} --server ", command[2]);
        assert!(error.contains(&instead), "{error}");
    }
    for command in &commands[..3] {
        let error = run(&[command, &folder[..]].concat()).failed();
        let instead = "`tidemill queue delete jobs --data ";
        assert!(error.contains(instead), "{error}");
    }
}

#[test]
fn messages_go_in_and_out_of_a_folder() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let run = |arguments: &[&str]| run(&[arguments, &["--data", path]].concat());
    run(&["queue", "create", "jobs"]).done();
    for n in 0..3 {
        run(&["queue", "enqueue", "jobs", &n.to_string()]).done();
    }
    let leased = run(&["queue", "dequeue", "jobs"]).misused();
    assert!(leased.contains("--lease 0s"), "{leased}");
    let removed = run(&["queue", "dequeue", "jobs", "--lease", "0s", "--max", "2"]).done();
    assert_eq!(removed, "0 0\n1 1\n");
    assert_eq!(
        run(&["queue", "peek", "jobs", "--json"])
            .done()
            .lines()
            .count(),
        1
    );
    assert_eq!(run(&["queue", "length", "jobs"]).done(), "1\n");
    let acked = run(&["queue", "ack", "jobs", "00000000000000001"]).misused();
    assert!(acked.contains("leases end"), "{acked}");
    run(&["queue", "create", "t", "--transient"]).misused();
    run(&["queue", "delete", "jobs"]).done();
    run(&["queue", "length", "jobs"]).failed();
}

#[test]
fn wrong_use_is_told_with_what_is_right() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let run = |arguments: &[&str]| server.run(arguments);
    run(&["publish", "orders", "1"]).done();
    run(&["queue", "create", "jobs"]).done();
    let twice = run(&["queue", "create", "jobs"]).failed();
    assert!(twice.contains("already"), "{twice}");
    let topic = run(&["queue", "enqueue", "orders", "x"]).failed();
    assert!(topic.contains("is a topic"), "{topic}");
    let queue = run(&["publish", "jobs", "x"]).failed();
    assert!(queue.contains("is a queue"), "{queue}");
    let queue = run(&["subscribe", "jobs", "--max", "1"]).failed();
    assert!(queue.contains("is a queue"), "{queue}");
    let lease = run(&["queue", "ack", "jobs", "nonsense"]).misused();
    assert!(lease.contains("is no lease"), "{lease}");
    for (command, option, value, most) in [
        ("dequeue", "--wait", "31s", "30s"),
        ("dequeue", "--lease", "13h", "12h"),
        ("create", "--lease", "13h", "12h"),
        ("create", "--ttl", "3651d", "3650d"),
    ] {
        let error = run(&["queue", command, "jobs", option, value]).misused();
        let bound = format!("it is at most {most}");
        assert!(error.contains(option) && error.contains(&bound), "{error}");
    }
    let ttl = run(&["queue", "enqueue", "jobs", "1", "--ttl", "3651d"]).misused();
    assert!(ttl.contains("it is at most 3650d"), "{ttl}");
    let many = run(&["queue", "dequeue", "jobs", "--max", "1001"]).misused();
    assert!(many.contains("at most 1000"), "{many}");
    run(&["queue", "ack", "jobs"]).misused();
}

/// What was dequeued and not acknowledged comes back; what was acknowledged never does.
#[test]
fn a_killed_server_keeps_what_was_not_acknowledged_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let mut acked = Vec::new();
    let mut lease = String::new();
    for round in 0..4u64 {
        let server = Server::start(data.path());
        if round == 0 {
            server.run(&["queue", "create", "jobs"]).done();
        } else {
            let late = server.run(&["queue", "ack", "jobs", &lease]).failed();
            assert!(
                late.contains("is over"),
                "leases end with the server: {late}"
            );
        }
        for n in 0..3 {
            let data = (round * 3 + n).to_string();
            server.run(&["queue", "enqueue", "jobs", &data]).done();
        }
        let taken = server.run(&["queue", "dequeue", "jobs", "--max", "2", "--json"]);
        let taken = lines(&taken.done());
        let done = taken[0]["lease"].as_str().unwrap();
        server.run(&["queue", "ack", "jobs", done]).done();
        acked.push(taken[0]["offset"].as_u64().unwrap());
        lease = taken[1]["lease"].as_str().unwrap().to_owned();
        // It is killed where it is.
        drop(server);
    }
    let server = Server::start(data.path());
    let left = server.run(&["queue", "dequeue", "jobs", "--max", "100", "--json"]);
    let left = lines(&left.done());
    let left: Vec<u64> = left
        .iter()
        .map(|one| one["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(acked, [0, 1, 2, 3], "each time the oldest that was left");
    assert_eq!(left, (4..12).collect::<Vec<_>>());
}

#[test]
fn messages_of_a_queue_expire() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let run = |arguments: &[&str]| server.run(arguments);
    let made = run(&["queue", "create", "offers", "--ttl", "1h", "--json"]).done();
    assert_eq!(json(&made)["ttl_ms"], 3_600_000);
    let shown = run(&["queue", "show", "offers"]).done();
    let words = shown.lines().map(|line| line.split_whitespace().collect());
    let words: Vec<Vec<&str>> = words.collect();
    for line in [["ttl", "1h"], ["lease", "30s"], ["kept", "on"]] {
        assert!(
            words.iter().any(|words| words.starts_with(&line)),
            "{shown}"
        );
    }
    run(&["queue", "enqueue", "offers", "1", "--ttl", "1ms"]).done();
    run(&["queue", "enqueue", "offers", "2"]).done();
    let taken = run(&["queue", "dequeue", "offers", "--max", "9", "--lease", "0s"]).done();
    assert!(taken.starts_with("1 ") && taken.ends_with("2\n"), "{taken}");
}
