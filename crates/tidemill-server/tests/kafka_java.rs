//! Kafka's own Java clients against the door: an old version and a new one, whose command line
//! tools too. The server is a process of its own, which is killed and started again at the end.
//!
//! The clients are installed into the target folder. Where that is not possible the tests are
//! skipped and say why, except under `CI=true`, where that is a failure.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use support::http::Client;
use tidemill_broker::Broker;
use tidemill_server::{Config, KafkaConfig, Server};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// The clients may be silent so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the child has its data, and where it listens.
const FOLDER: &str = "TIDEMILL_KAFKA_JAVA_FOLDER";
const ADDRESS: &str = "TIDEMILL_KAFKA_JAVA_ADDRESS";

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/kafka/java")
}

/// Where the clients are; `None` after saying why they are not there.
async fn installed() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-java");
    let install = || async {
        let install = Command::new("sh")
            .arg(programs().join("install.sh"))
            .arg(&folder)
            .stdin(Stdio::null())
            .output();
        let done = install.await.map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{}{}",
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            )),
        }
    };
    match INSTALLED.get_or_init(install).await {
        Ok(()) => Some(folder),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("Kafka's Java clients cannot be installed: {why}")
        }
        Err(why) => {
            eprintln!("skipped: Kafka's Java clients cannot be installed: {why}");
            None
        }
    }
}

/// What the child does: serves until it is killed, and says where. A test only so that the
/// test's own program can be started as the child.
#[tokio::test(flavor = "multi_thread")]
async fn child_serves_until_it_is_killed() {
    let (Ok(folder), Ok(address)) = (std::env::var(FOLDER), std::env::var(ADDRESS)) else {
        return;
    };
    // Members of consumer groups come and go more quickly than by default.
    let broker = Broker::builder()
        .path(folder)
        .consumer_heartbeat_interval(Duration::from_millis(100))
        .consumer_session_timeout(Duration::from_secs(5));
    let broker = broker.open().await.unwrap();
    let mut config = Config::at("127.0.0.1:0".parse().unwrap());
    config.kafka = Some(KafkaConfig {
        listen: address.parse().unwrap(),
        ..KafkaConfig::default()
    });
    let server = Server::bind(broker, config).await.unwrap();
    let (kafka, http) = (server.kafka_addr().unwrap(), server.http_addr());
    println!("\nserves {kafka} {http}");
    server.run(std::future::pending()).await;
}

/// The server as a process, and where it is reached: as Kafka, and by HTTP.
async fn server(folder: &Path, address: SocketAddr) -> (Child, [SocketAddr; 2]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["child_serves_until_it_is_killed", "--exact", "--nocapture"]);
    child.env(FOLDER, folder).env(ADDRESS, address.to_string());
    child.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = child.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let serves = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the child ended");
            if let Some((kafka, http)) = line
                .strip_prefix("serves ")
                .and_then(|at| at.split_once(' '))
            {
                return [kafka, http].map(|address| address.parse().unwrap());
            }
        }
    };
    let serves = tokio::time::timeout(PATIENCE, serves).await;
    (child, serves.expect("the child does not serve"))
}

/// Runs these cases in one JVM, kills the server whenever they ask for it, and wants so many
/// behaviours of them.
async fn check(version: &str, cases: &[&str], holding: usize) {
    let Some(clients) = installed().await else {
        return;
    };
    let clients = clients.join(version);
    let data = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let (mut serving, [address, mut http]) = server(data.path(), any).await;
    let paths = format!("{0}/classes:{0}/libs/*", clients.display());
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp"]);
    java.args([&paths, "Door", &address.to_string()])
        .args(cases);
    java.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut java = java
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = java.stdin.take().unwrap();
    let mut stderr = java.stderr.take().unwrap();
    let wrong = tokio::spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.map(|_| text)
    });
    let mut lines = BufReader::new(java.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("the clients hang: {told:#?}"));
        match line.unwrap() {
            Some(line) if line == "kill" => {
                serving.kill().await.unwrap();
                (serving, [_, http]) = server(data.path(), address).await;
                stdin.write_all(b"\n").await.unwrap();
            }
            Some(line) => told.push(line),
            None => break,
        }
    }
    let status = java.wait().await.unwrap();
    let wrong = wrong.await.unwrap().unwrap();
    assert!(status.success(), "{told:#?}\n{wrong}");
    let held = told.iter().filter(|line| line.starts_with("holds: "));
    assert_eq!(held.count(), holding, "{told:#?}\n{wrong}");
    println!("{}\n{wrong}", told.join("\n"));
    let metrics = Client::new(http).get("/metrics").await.text;
    let incremental = "tidemill_kafka_fetches_incremental_total ";
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(incremental));
    let count: u64 = count.unwrap().parse().unwrap();
    // Share groups have sessions of their own.
    let fetches = cases != ["Shares"];
    assert!(count > 0 || !fetches, "their fetches go on with sessions");
    serving.kill().await.unwrap();
}

const CLIENTS: [&str; 6] = [
    "Records",
    "Sessions",
    "Groups",
    "Transactions",
    "Administration",
    "Restart",
];

#[tokio::test(flavor = "multi_thread")]
async fn old_java_clients_do_what_they_do_with_kafka_and_lose_nothing_to_kills() {
    check("old", &CLIENTS, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_java_clients_do_what_they_do_with_kafka_and_lose_nothing_to_kills() {
    check("new", &CLIENTS, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_members_of_consumer_groups_share_hand_over_and_lose_nothing_to_kills() {
    check("new", &["Consumers"], 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_members_of_share_groups_settle_release_reject_and_outlive_kills() {
    check("new", &["Shares"], 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_command_line_tools_work_as_with_kafka() {
    check("new", &["Tools"], 6).await;
}
