//! The text messages through their HTTP door: what a sender and a receiver see, what is in the log,
//! and what becomes of messages that nobody handled at first.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Client;
use tidemill::core::{Fetch, Offset, Partition};
use tidemill::{Bus, BusExt as _, Event, TopicName};
use tidemill_messages::events::{SendMessage, TOPIC};
use tidemill_messages::{MessagesError, handlers, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest wait for a data folder, and for what follows from a request.
const PATIENCE: Duration = Duration::from_secs(20);

struct Open {
    bus: Bus,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), MessagesError>>,
}

impl Open {
    async fn on(bus: Bus) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async { stopped.await.unwrap() };
        let task = tokio::spawn(serve(bus.clone(), listener, until));
        Self {
            bus,
            address,
            stop,
            task,
        }
    }

    async fn new() -> Self {
        Self::on(tidemill::open("memory:").await.unwrap()).await
    }

    /// Runs a user off the async workers.
    async fn run(&self, user: impl FnOnce(&mut Client) + Send + 'static) {
        let mut client = Client::new(self.address);
        tokio::task::spawn_blocking(move || user(&mut client))
            .await
            .unwrap();
    }

    async fn close(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn disk_bus(folder: &Path) -> Bus {
    let begun = Instant::now();
    loop {
        match tidemill::open(folder.to_str().unwrap()).await {
            Ok(bus) => return bus,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn log(bus: &Bus) -> Vec<std::sync::Arc<Event>> {
    let fetch = Fetch {
        topic: TopicName::new(TOPIC).unwrap(),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10_000,
        max_bytes: 1 << 24,
        wait: Duration::ZERO,
    };
    let fetched = bus.fetch(fetch).await.unwrap();
    fetched.events.into_iter().map(|(_, event)| event).collect()
}

fn message(from: &str, to: &str, text: &str) -> Value {
    json!({"from": from, "to": to, "text": text, "more": 1})
}

fn texts(client: &mut Client, user: &str) -> Vec<String> {
    let (code, answer) = client.get(&format!("/messages?user={user}")).unwrap();
    assert_eq!(code, 200, "{answer}");
    assert!(answer["message"].is_string());
    let messages = answer["messages"].as_array().unwrap();
    let text = |m: &Value| m["text"].as_str().unwrap().to_owned();
    messages.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_received_processed_and_sent_and_its_sender_hears_so() {
    let open = Open::new().await;
    open.run(|client| {
        let new = message("ada", "bob", "  hello,\u{7} dear Bob \n");
        let (code, answer) = client.post("/messages", &new).unwrap();
        assert_eq!(code, 201, "{answer}");
        assert_eq!(
            (&answer["status"], &answer["text"]),
            (&json!("sent"), &json!("hello, dear Bob"))
        );
        assert_eq!(
            (&answer["words"], &answer["characters"]),
            (&json!(3), &json!(15))
        );
        assert!(answer["message"].is_string() && answer["id"].is_string());
        let (code, _) = client
            .post("/messages", &json!({"from": 7, "to": "bob", "text": "x"}))
            .unwrap();
        assert_eq!(code, 201);
        assert_eq!(texts(client, "bob"), ["hello, dear Bob", "x"]);
        assert_eq!(texts(client, "ada"), ["hello, dear Bob"]);
        assert_eq!(texts(client, "7"), ["x"]);
        assert!(texts(client, "eve").is_empty());
    })
    .await;
    let log = log(&open.bus).await;
    let types: Vec<&str> = log.iter().map(|event| event.ty().as_str()).collect();
    let each = ["message_received", "message_processed", "message_sent"];
    assert_eq!(types, [each, each].concat());
    let data = |event: &Event| -> Value { serde_json::from_slice(event.data().unwrap()).unwrap() };
    for three in log.chunks(3) {
        let ids: Vec<Value> = three
            .iter()
            .map(|event| data(event)["id"].clone())
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert!(three.iter().all(|event| event.key() == Some("bob")));
        let correlation = three[0].extension_str("correlationid").unwrap();
        assert!(
            three
                .iter()
                .all(|e| e.extension_str("correlationid") == Some(correlation))
        );
    }
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_leaves_nothing_in_the_log() {
    let open = Open::new().await;
    open.run(|client| {
        let long = "x".repeat(16 * 1024 + 1);
        let wrong = [
            String::new(),
            "{".to_owned(),
            "[]".to_owned(),
            json!(["a", "b", "hi"]).to_string(),
            message("a", "b", "\u{0}").to_string(),
            json!({"from": "a", "to": "b"}).to_string(),
            json!({"from": "a", "text": "x"}).to_string(),
            json!({"to": "a", "text": "x"}).to_string(),
            json!({"from": "a", "to": "b", "text": 1}).to_string(),
            json!({"from": 1.5, "to": "b", "text": "x"}).to_string(),
            message("a", "b", "").to_string(),
            message("a", "b", " \n ").to_string(),
            message("a", "b", &long).to_string(),
            message("", "b", "x").to_string(),
            message("a", " ", "x").to_string(),
            message("a", "b\n", "x").to_string(),
            message("a", &"b".repeat(129), "x").to_string(),
        ];
        for body in wrong {
            let (code, answer) = client.call("POST", "/messages", &body).unwrap();
            assert_eq!(
                (code, &answer["code"]),
                (422, &json!(422)),
                "{body} {answer}"
            );
            assert!(answer["message"].is_string());
        }
        for path in [
            "/messages",
            "/messages?user=",
            "/messages?user=a&user=b",
            "/messages?user=a&after=x",
        ] {
            let (code, answer) = client.get(path).unwrap();
            assert_eq!(code, 422, "{path}");
            assert!(answer["message"].is_string(), "{path} {answer}");
        }
        assert_eq!(client.get("/nothing").unwrap().0, 404);
        assert_eq!(client.call("DELETE", "/messages", "").unwrap().0, 405);
        let huge = " ".repeat(128 * 1024 + 1);
        assert_eq!(client.call("POST", "/messages", &huge).unwrap().0, 413);
        assert!(texts(client, "a").is_empty());
    })
    .await;
    let topics = open.bus.topics().await.unwrap();
    assert!(
        topics
            .iter()
            .all(|topic| topic.partitions.iter().all(|p| p.end == Offset(0)))
    );
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_senders_every_message_arrives_once_and_in_its_order() {
    let open = Open::new().await;
    let address = open.address;
    open.run(move |client| {
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                thread::spawn(move || {
                    let mut client = Client::new(address);
                    for number in 0..10 {
                        let new =
                            message(&format!("s{sender}"), "all", &format!("{sender}.{number}"));
                        let (code, answer) = client.post("/messages", &new).unwrap();
                        assert_eq!(code, 201, "{answer}");
                    }
                })
            })
            .collect();
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        assert_eq!(texts(client, "all").len(), 40);
        for sender in 0..4 {
            let expected: Vec<_> = (0..10).map(|number| format!("{sender}.{number}")).collect();
            assert_eq!(texts(client, &format!("s{sender}")), expected);
        }
    })
    .await;
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_the_history_and_what_waited_is_sent_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let open = Open::on(disk_bus(&path).await).await;
    open.run(|client| {
        assert_eq!(
            client
                .post("/messages", &message("a", "b", "one"))
                .unwrap()
                .0,
            201
        );
    })
    .await;
    open.close().await;
    // Taken in while no handler runs.
    let bus = disk_bus(&path).await;
    let waiting = SendMessage {
        from: "a".into(),
        to: "b".into(),
        text: "two".into(),
    };
    bus.send(&waiting).await.unwrap();
    drop(bus);
    let open = Open::on(disk_bus(&path).await).await;
    open.run(|client| {
        let begun = Instant::now();
        while texts(client, "b").len() < 2 {
            assert!(begun.elapsed() < PATIENCE, "the second one is not sent");
        }
        assert_eq!(texts(client, "b"), ["one", "two"]);
    })
    .await;
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_comes_in_pieces() {
    let open = Open::new().await;
    let all: Vec<SendMessage> = (0..1_200)
        .map(|number| SendMessage {
            from: "a".into(),
            to: format!("b{}", number % 10),
            text: number.to_string(),
        })
        .collect();
    open.bus.send_all(&all).await.unwrap();
    open.run(|client| {
        let begun = Instant::now();
        loop {
            let (mut seen, mut path) = (0, "/messages?user=a".to_owned());
            loop {
                let (code, answer) = client.get(&path).unwrap();
                assert_eq!(code, 200);
                let piece = answer["messages"].as_array().unwrap().len();
                assert!(piece <= 1_000);
                seen += piece;
                let Some(next) = answer["next"].as_str() else {
                    break;
                };
                path = format!("/messages?user=a&after={next}");
            }
            if seen == 1_200 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{seen} of them are there");
        }
    })
    .await;
    open.close().await;
}

#[test]
fn each_handler_says_what_it_takes_and_gives() {
    let app = handlers::router().finish().unwrap();
    let described = app.describe();
    let said: Vec<(&str, String)> = described
        .iter()
        .map(|info| {
            let outputs = info.outputs.iter().filter_map(|output| output.ty.clone());
            (info.ty.as_str(), outputs.collect::<Vec<_>>().join(" "))
        })
        .collect();
    let expected = [
        ("send_message", "message_received"),
        ("message_received", "message_processed"),
        ("message_processed", "message_sent"),
    ];
    for (input, output) in expected {
        let found = said.iter().find(|(ty, _)| *ty == input).unwrap();
        assert!(found.1.starts_with(output), "{said:?}");
    }
}
