//! `tidemill group show` with members and with a transaction that is open, and the headers of a
//! dead letter: a server in this process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::{Ended, run};
use tidemill::broker::{
    BatchBuilder, Begins, Broker, CreateTopic, Produce, SeekTo, TransactionalId,
};
use tidemill::core::delivery::{Commit, Failure, Outcome};
use tidemill::core::{Effects, Offset, Order, Partition, Start, Subscription};
use tidemill::{Event, EventId, EventType, GroupName, Source, TopicName};
use tidemill_server::{Config, Server};

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn billing() -> GroupName {
    GroupName::new("billing").unwrap()
}

fn subscription() -> Subscription {
    Subscription {
        topics: vec![topic()],
        group: billing(),
        order: Order::PerKey,
        start: Start::Beginning,
    }
}

async fn served(broker: &Broker) -> String {
    let config = Config::at("127.0.0.1:0".parse().unwrap());
    let server = Server::bind(broker.clone(), config).await.unwrap();
    let url = format!("http://{}", server.http_addr());
    tokio::spawn(server.run(std::future::pending()));
    url
}

async fn on(target: [&str; 2], arguments: &[&str]) -> Ended {
    let words = [arguments, &target].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let ended = tokio::task::spawn_blocking(move || {
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    });
    ended.await.unwrap()
}

async fn create(broker: &Broker) {
    let created = broker.create_topic(topic(), CreateTopic::default());
    created.await.unwrap();
}

fn event(id: &str) -> Event {
    let id = EventId::new(id.to_owned()).unwrap();
    let ty = EventType::new("made").unwrap();
    let event = Event::builder(id, Source::new("/test").unwrap(), ty);
    event.build().unwrap()
}

/// Gives up the two records that are there.
async fn give_up(broker: &Broker) {
    let mut member = broker.bus().subscribe(subscription()).await.unwrap();
    let mut given_up = 0;
    while given_up < 2 {
        for (_, settlement) in member.pull(2).await.unwrap() {
            let failure = Failure {
                reason: "error".into(),
                error: "no card".into(),
                ..Failure::default()
            };
            let outcome = Outcome::DeadLetter {
                failure: Box::new(failure),
            };
            let effects = Effects::default();
            let settled = settlement.settle(Commit { outcome, effects });
            settled.await.unwrap();
            given_up += 1;
        }
    }
}

/// The lines of tables, each as its words.
fn rows(shown: &str) -> Vec<Vec<&str>> {
    let lines = shown.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_shown_and_no_position_is_behind_the_end() {
    let broker = Broker::in_memory();
    create(&broker).await;
    let mut member = broker.bus().subscribe(subscription()).await.unwrap();
    let url = served(&broker).await;
    let server = ["--server", url.as_str()];
    let show = ["group", "show", "billing"];
    let shown = on(server, &show).await.done();
    let found = rows(&shown);
    assert_eq!(
        found[0],
        ["MEMBER", "READS", "KEY", "SLOTS", "IN", "FLIGHT"]
    );
    assert_eq!(found[1][1..], ["orders", "256", "0"], "{shown}");
    assert_eq!(found[3], ["orders", "0", "0", "0", "0", "0"], "{shown}");

    // Two events in a transaction, and one behind it that nobody gets before it has ended.
    let mine = TransactionalId::new("mine").unwrap();
    let mut open = broker
        .transactional(mine, Duration::from_secs(60))
        .await
        .unwrap();
    open.publish(&topic(), &[event("1"), event("2")])
        .await
        .unwrap();
    broker
        .bus()
        .publish(topic(), vec![event("3")])
        .await
        .unwrap();
    let shown = on(server, &show).await.done();
    let (heads, held) = (&rows(&shown)[2], &rows(&shown)[3]);
    assert_eq!(heads[5..], ["END", "HELD", "AT", "WAITING"], "{shown}");
    assert_eq!(
        held[..],
        ["orders", "0", "0", "0", "3", "0", "0"],
        "{shown}"
    );
    let of_topic = on(server, &["topic", "show", "orders"]).await.done();
    let of_topic = rows(&of_topic);
    assert_eq!(
        of_topic[0],
        ["PARTITION", "EARLIEST", "END", "HELD", "AT", "BYTES"]
    );
    assert_eq!(of_topic[1][..4], ["0", "0", "3", "0"]);
    // Whoever is told to is behind what is undecided, and not behind the end.
    drop(member);
    broker
        .seek(
            &billing(),
            &topic(),
            Partition(0),
            SeekTo::Offset(Offset(3)),
        )
        .await
        .unwrap();
    let shown = on(server, &show).await.done();
    assert_eq!(
        rows(&shown)[1],
        ["orders", "0", "3", "0", "3", "0", "0"],
        "{shown}"
    );
    open.commit().await.unwrap();
    member = broker.bus().subscribe(subscription()).await.unwrap();
    let shown = on(server, &show).await.done();
    assert!(!shown.contains("HELD AT"), "{shown}");
    drop(member);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_shown_with_the_headers_of_its_record() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::open(data.path()).await.unwrap();
    create(&broker).await;
    let mut batch = BatchBuilder::new();
    let headers = [
        ("trace", Some(&b"a\x1b[2J"[..])),
        ("raw", Some(&b"\xff"[..])),
        ("none", None),
    ];
    for value in [b"x", b"y"] {
        let pushed = batch.push(1, None, Some(value), headers.into_iter());
        pushed.unwrap();
    }
    let produce = Produce {
        topic: topic(),
        partition: Partition(0),
        batch: batch.finish().unwrap().try_into().unwrap(),
        begins: Begins::No,
    };
    broker.produce(produce).await.unwrap();
    give_up(&broker).await;
    let want = serde_json::json!([
        {"name": "trace", "value": "a\u{1b}[2J"},
        {"name": "raw", "value_base64": "/w=="},
        {"name": "none"},
    ]);
    let url = served(&broker).await;
    let show = ["deadletter", "show", "billing", "0:0"];
    let shown = on(["--server", &url], &show).await.done();
    // A terminal would have cleared itself.
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["headers"], want);
    // A redrive goes to a topic that is there.
    let mistyped = ["deadletter", "redrive", "billing", "--topic", "ordres"];
    let refused = on(["--server", &url], &mistyped).await.failed();
    for part in ["unknown topic ordres", "`tidemill topic create"] {
        assert!(refused.contains(part), "{refused}");
    }
    // Who says which letters are done with goes nowhere else.
    let delete = ["deadletter", "delete", "billing", "0:1"];
    on(["--server", &url], &delete).await.done();
    let letters = [
        "group",
        "seek",
        "billing.deadletter",
        "--topic",
        "billing.deadletter",
    ];
    let seek = [&letters[..], &["--to", "end"]].concat();
    let refused = on(["--server", &url], &seek).await.failed();
    assert!(refused.contains("which of them were redriven"), "{refused}");
    broker.close().await;

    let folder = ["--data", data.path().to_str().unwrap()];
    // In a folder too, once no server has it open any more.
    let shown = on(folder, &show).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.done()).unwrap();
    assert_eq!(shown["headers"], want);
    let refused = on(folder, &mistyped).await.failed();
    assert!(refused.contains("unknown topic ordres"), "{refused}");
}
