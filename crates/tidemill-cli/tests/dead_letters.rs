//! Dead letters and the positions of groups from the command line, against a server and on a
//! folder.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Server, run};
use tidemill::broker::Broker;
use tidemill::core::{Order, Start, Subscription};
use tidemill::{GroupName, TopicName};

fn lines(text: &str) -> Vec<Value> {
    let json = |line| serde_json::from_str(line).unwrap();
    text.lines().map(json).collect()
}

/// A queue gives up what was taken once too often: the letters 0:0 and 0:1.
fn bury(run: impl Fn(&[&str]) -> String) {
    run(&["queue", "create", "jobs", "--max-deliveries", "1"]);
    for data in ["one", "two"] {
        run(&["queue", "enqueue", "jobs", data]);
        let taken = lines(&run(&["queue", "dequeue", "jobs", "--json"]));
        run(&[
            "queue",
            "requeue",
            "jobs",
            taken[0]["lease"].as_str().unwrap(),
        ]);
        // Nobody gets it any longer.
        run(&["queue", "dequeue", "jobs"]);
    }
}

#[test]
fn letters_are_listed_shown_given_back_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    assert_eq!(server.run(&["deadletter", "list", "--json"]).done(), "");
    bury(|arguments| server.run(arguments).done());
    let groups = lines(&server.run(&["deadletter", "list", "--json"]).done());
    assert_eq!(
        (&groups[0]["group"], &groups[0]["count"]),
        (&"jobs".into(), &2.into())
    );
    let letters = lines(&server.run(&["deadletter", "list", "jobs", "--json"]).done());
    assert_eq!((&letters[1]["letter"], letters.len()), (&"0:1".into(), 2));
    let table = server.run(&["deadletter", "list", "jobs"]).done();
    assert!(
        table.contains("0:0") && table.contains("jobs/0@0"),
        "{table}"
    );
    let shown = lines(&server.run(&["deadletter", "show", "jobs", "0:0"]).done());
    assert_eq!(shown[0]["event"]["data"], "one");
    let to = ["deadletter", "redrive", "jobs", "0:0", "--topic", "again"];
    server.run(&to).failed();
    server.run(&["topic", "create", "again"]).done();
    assert_eq!(server.run(&to).done(), "0:0 is again/0@0 now\n");
    let twice = server.run(&to).failed();
    assert!(twice.contains("no dead letter 0:0"), "{twice}");
    drop(server);

    // The rest is there in the folder, and a queue's own goes back into it.
    let folder = data.path().to_str().unwrap();
    let rest = run(&["deadletter", "list", "jobs", "--json", "--data", folder]).done();
    assert_eq!(lines(&rest)[0]["letter"], "0:1");
    let redrive = ["deadletter", "redrive", "jobs", "--data", folder];
    assert_eq!(run(&redrive).done(), "0:1 is jobs/0@2 now\n");
    assert_eq!(run(&redrive).done(), "jobs has no dead letters left\n");
    let server = Server::start(data.path());
    let taken = server.run(&["queue", "dequeue", "jobs", "--json"]).done();
    let lease = lines(&taken)[0]["lease"].as_str().unwrap().to_owned();
    server.run(&["queue", "requeue", "jobs", &lease]).done();
    let redrive = ["deadletter", "redrive", "jobs"];
    assert_eq!(server.run(&redrive).done(), "0:2 is jobs/0@3 now\n");
    let none = server.run(&redrive).done();
    assert_eq!(none, "jobs has no dead letters left\n");
    let taken = server.run(&["queue", "dequeue", "jobs", "--json"]).done();
    let lease = lines(&taken)[0]["lease"].as_str().unwrap().to_owned();
    server.run(&["queue", "requeue", "jobs", &lease]).done();
    drop(server);
    let gone = run(&["deadletter", "delete", "jobs", "0:3", "--data", folder]).done();
    assert_eq!(gone, "deleted 0:3\n");
    assert_eq!(
        run(&["deadletter", "list", "--json", "--data", folder]).done(),
        ""
    );
}

/// Has the group `billing` read nothing of `orders` yet.
fn subscribe(data: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let broker = Broker::open(data).await.unwrap();
        let subscription = Subscription {
            topics: vec![TopicName::new("orders").unwrap()],
            group: GroupName::new("billing").unwrap(),
            order: Order::PerKey,
            start: Start::Beginning,
        };
        drop(broker.bus().subscribe(subscription).await.unwrap());
        broker.close().await;
    });
}

#[test]
fn a_group_goes_on_where_it_is_told() {
    let data = tempfile::tempdir().unwrap();
    subscribe(data.path());
    let server = Server::start(data.path());
    for data in ["one", "two", "three"] {
        server.run(&["publish", "orders", data]).done();
    }
    let seek = |to| ["group", "seek", "billing", "--topic", "orders", "--to", to];
    let on_server = |to| server.run(&seek(to));
    assert_eq!(on_server("1").done(), "orders/0 goes on at 1\n");
    let late = on_server("2999-01-01T00:00:00Z").done();
    assert_eq!(late, "orders/0 goes on at 3\n");
    assert_eq!(on_server("beginning").done(), "orders/0 goes on at 0\n");
    let wrong = on_server("yesterday").misused();
    assert!(wrong.contains("beginning, end, an offset"), "{wrong}");
    let unknown = ["group", "seek", "none", "--topic", "orders", "--to", "end"];
    assert!(server.run(&unknown).failed().contains("unknown group"));
    drop(server);

    let folder = data.path().to_str().unwrap();
    let in_folder = |to| [&seek(to)[..], &["--data", folder]].concat();
    assert_eq!(run(&in_folder("end")).done(), "orders/0 goes on at 3\n");
    let time = run(&in_folder("2000-01-01T00:00:00Z")).done();
    assert_eq!(time, "orders/0 goes on at 0\n");
}
