//! Stock clients of Kafka against the door: produce, consume, administration, transactions, and
//! that there is one log for Kafka and HTTP. Consumer groups have tests of their own.
//!
//! The clients are installed into the target folder. Where that is not possible the tests are
//! skipped and say why, except under `CI=true`, where that is a failure.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use support::{Running, stock};
use tidemill_core::{Event, EventId, EventType, Source, TopicName};
use tidemill_server::{Config, KafkaConfig, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// No script takes longer.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(150);

fn scripts() -> PathBuf {
    stock::scripts("clients/kafka")
}

fn must_not_skip() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

/// Where the clients are; `None` after saying why they are not there.
async fn installed() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    stock::installed(&INSTALLED, "clients/kafka", "kafka-clients").await
}

/// A server with the door, and where to find that.
async fn server() -> (Running, String) {
    let broker = support::broker().await;
    let mut config = Config::at("127.0.0.1:0".parse().unwrap());
    config.kafka = Some(KafkaConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..KafkaConfig::default()
    });
    let server = Server::bind(broker.clone(), config).await.unwrap();
    let address = server.kafka_addr().unwrap().to_string();
    (Running::of(broker, server), address)
}

/// Runs a script that checks by itself, and asks for at least `holding` behaviours.
async fn check(script: Command, holding: usize) {
    checked(script, holding).await.stop().await;
}

/// The same, and the server goes on.
async fn checked(mut script: Command, holding: usize) -> Running {
    let (server, address) = server().await;
    script
        .arg(&address)
        .arg(format!("http://{}", server.address));
    let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, script).await;
    let output = output.expect("the script hangs").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{error}");
    assert_eq!(told.matches("holds: ").count(), holding, "{told}");
    server
}

/// Fetches that went on with a session.
async fn incremental(server: &Running) -> u64 {
    let metrics = server.client().get("/metrics").await.text;
    let name = "tidemill_kafka_fetches_incremental_total ";
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(name));
    count.unwrap().parse().unwrap()
}

fn python(folder: &Path, which: &str, script: &str) -> Command {
    let mut command = Command::new(folder.join(which).join("bin/python"));
    command.arg(scripts().join(script));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_produces_consumes_administers_and_does_transactions() {
    let Some(folder) = installed().await else {
        return;
    };
    check(python(&folder, "new", "door_confluent.py"), 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_and_a_new_kafka_python_produce_and_consume() {
    let Some(folder) = installed().await else {
        return;
    };
    for which in ["old", "new"] {
        let server = checked(python(&folder, which, "door_kafka_python.py"), 2).await;
        // The old one knows no sessions.
        assert_eq!(incremental(&server).await > 0, which == "new");
        server.stop().await;
    }
}

/// Runs kcat with what it reads, and answers what it prints; `None` where there is none.
async fn kcat(address: &str, words: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("kcat");
    command.arg("-b").arg(address).args(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let Ok(mut child) = command.spawn() else {
        assert!(!must_not_skip(), "kcat is not installed");
        eprintln!("skipped: kcat is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, child.wait_with_output());
    let output = output.await.expect("kcat hangs").unwrap();
    assert!(output.status.success(), "{words:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kcat_produces_http_shows_and_what_is_published_kcat_reads() {
    let (server, address) = server().await;
    let produce = ["-P", "-t", "worlds", "-K", ":"];
    let Some(_) = kcat(&address, &produce, "a:one\nb:two\n").await else {
        return;
    };
    let seen = server.client().get("/v1/topics/worlds/events").await;
    let events = seen.json()["events"].as_array().unwrap().clone();
    let keys = events
        .iter()
        .map(|event| event["event"]["partitionkey"].as_str().unwrap());
    assert_eq!(keys.collect::<Vec<_>>(), ["a", "b"]);

    let id = EventId::new("7").unwrap();
    let builder = Event::builder(
        id,
        Source::new("/t").unwrap(),
        EventType::new("paid").unwrap(),
    );
    let event = builder.data("text/plain", "three").build().unwrap();
    let topic = TopicName::new("worlds").unwrap();
    server
        .broker
        .bus()
        .publish(topic, vec![event])
        .await
        .unwrap();
    let consume = [
        "-C",
        "-t",
        "worlds",
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        "%o %s %h\n",
    ];
    let read = kcat(&address, &consume, "").await.unwrap();
    let lines: Vec<_> = read.lines().collect();
    assert_eq!(lines[..2], ["0 one ", "1 two "]);
    assert!(lines[2].starts_with("2 three "), "{read}");
    assert!(lines[2].contains("ce_type=paid"), "{read}");
    server.stop().await;
}

/// Sends bytes and reads until the server ends the connection.
async fn answer(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // It may be reset, with bytes of ours unread.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_ends_its_connection_and_nothing_else() {
    let (server, address) = server().await;
    let metadata = |body: &[u8]| {
        let mut frame = vec![0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff];
        frame.extend(body);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        [&length[..], &frame].concat()
    };
    let lie = metadata(&0x7fff_ffff_u32.to_be_bytes());
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nhost: here\r\n\r\n",
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff],
        // A key that nobody serves.
        &[0, 0, 0, 10, 3, 231, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &lie,
    ];
    for case in cases {
        assert_eq!(answer(&address, case).await.len(), 0, "{case:?}");
    }
    // What is well-formed is answered on a new connection.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&metadata(&[0, 0, 0, 0])).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    assert_eq!(stream.read_u32().await.unwrap(), 9);
    assert!(length > 8);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_nobody_knows_yet_is_told_what_is_served() {
    let (server, address) = server().await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = [0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff];
    stream.write_all(&request).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    // The correlation id, UNSUPPORTED_VERSION, and the keys in the layout of version 0.
    assert_eq!(answer[..6], [0, 0, 0, 5, 0, 35]);
    let keys = u32::from_be_bytes(answer[6..10].try_into().unwrap());
    assert_eq!(answer.len(), 10 + 6 * usize::try_from(keys).unwrap());
    server.stop().await;
}
