//! Consumer groups of stock Kafka clients: kafka-python (an old and a new one), confluent-kafka
//! (librdkafka), aiokafka, kafkajs and kcat.
//!
//! The clients are installed into the target folder. Where that is not possible the tests are
//! skipped and say why, except under `CI=true`, where that is a failure.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use support::{Running, stock};
use tidemill_broker::{Broker, CreateTopic};
use tidemill_core::{
    Commit, Event, EventId, EventType, GroupName, Order, Source, Start, Subscription, TopicName,
};
use tidemill_server::{Config, KafkaConfig, Server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// No script takes longer.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(150);

const PARTITIONS: u32 = 4;
const EACH: usize = 25;

fn scripts() -> PathBuf {
    stock::scripts("clients/kafka")
}

/// Where the clients are; `None` after saying why they are not there.
async fn installed() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    stock::installed(&INSTALLED, "clients/kafka", "kafka-clients").await
}

fn config(kafka: SocketAddr) -> Config {
    let mut config = Config::at("127.0.0.1:0".parse().unwrap());
    config.kafka = Some(KafkaConfig {
        listen: kafka,
        ..KafkaConfig::default()
    });
    config
}

fn topic() -> TopicName {
    TopicName::new("groups").unwrap()
}

fn event(number: usize) -> Event {
    let id = EventId::new(number.to_string()).unwrap();
    let ty = EventType::new("made").unwrap();
    let builder = Event::builder(id, Source::new("/test").unwrap(), ty);
    builder
        .data("text/plain", format!("event-{number}"))
        .build()
        .unwrap()
}

/// A topic of four partitions with as many events in each.
async fn fill(broker: &Broker) {
    let how = CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic(), how).await.unwrap();
    // Events without keys go round, one publish after the other.
    for number in 0..PARTITIONS as usize * EACH {
        let published = broker.bus().publish(topic(), vec![event(number)]).await;
        published.unwrap();
    }
    let info = broker.topic(&topic()).unwrap();
    let ends: Vec<_> = info.partitions.iter().map(|part| part.end.0).collect();
    assert_eq!(ends, [EACH as u64; PARTITIONS as usize]);
}

/// A server with the Kafka door, where to find that, and the topic.
async fn server() -> (Running, String) {
    // Members of consumer groups come and go more quickly than by default.
    let broker = Broker::builder()
        .consumer_heartbeat_interval(Duration::from_millis(100))
        .consumer_session_timeout(Duration::from_secs(5));
    let broker = broker.open().await.unwrap();
    fill(&broker).await;
    let server = Server::bind(broker.clone(), config("127.0.0.1:0".parse().unwrap()));
    let server = server.await.unwrap();
    let address = server.kafka_addr().unwrap().to_string();
    (Running::of(broker, server), address)
}

/// Runs a script that checks by itself, and asks for at least `holding` behaviours.
async fn check(mut script: Command, holding: usize) {
    let (server, address) = server().await;
    script.arg(&address).arg(topic().as_str());
    let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, script).await;
    let output = output.expect("the script hangs").unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{wrong}");
    assert_eq!(told.matches("holds: ").count(), holding, "{told}\n{wrong}");
    server.stop().await;
}

fn python(folder: &Path, environment: &str, script: &str) -> Command {
    let python = folder.join(environment).join("bin/python");
    let mut command = Command::new(python);
    command.arg("-u").arg(scripts().join(script));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_pythons_groups() {
    let Some(folder) = installed().await else {
        return;
    };
    check(python(&folder, "new", "groups_kafka_python.py"), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kafka_pythons_groups() {
    let Some(folder) = installed().await else {
        return;
    };
    check(python(&folder, "old", "groups_kafka_python.py"), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafkas_groups() {
    let Some(folder) = installed().await else {
        return;
    };
    check(python(&folder, "new", "groups_confluent.py"), 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafkas_consumer_groups() {
    let Some(folder) = installed().await else {
        return;
    };
    let script = python(&folder, "new", "consumer_groups_confluent.py");
    check(script, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aiokafkas_groups() {
    let Some(folder) = installed().await else {
        return;
    };
    check(python(&folder, "new", "groups_aiokafka.py"), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkajs_groups() {
    let Some(folder) = installed().await else {
        return;
    };
    let mut script = Command::new("node");
    script.arg(scripts().join("groups_kafkajs.js"));
    script.env("NODE_PATH", folder.join("node/node_modules"));
    check(script, 3).await;
}

/// The sum of a group's positions.
fn read(broker: &Broker, group: &str) -> u64 {
    let group = GroupName::new(group).unwrap();
    let offsets = broker.classic_groups().offsets(&group);
    offsets
        .iter()
        .filter_map(|one| one.offset)
        .map(|at| at.0)
        .sum()
}

async fn has_kcat() -> bool {
    let has = Command::new("kcat").arg("-V").output().await.is_ok();
    if !has {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "kcat is not installed");
        eprintln!("skipped: kcat is not installed");
    }
    has
}

/// What kcat reads as a member of a group: so many values.
async fn kcat(address: &str, group: &str, take: usize) -> BTreeSet<String> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", address, "-G", group, "-c", &take.to_string(), "-q"]);
    kcat.args(["-X", "auto.offset.reset=earliest", topic().as_str()]);
    let output = kcat.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, output).await;
    let output = output.expect("kcat hangs").unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let seen: BTreeSet<_> = told.lines().map(str::to_owned).collect();
    assert_eq!(seen.len(), take, "{told}");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn kcats_group() {
    if !has_kcat().await {
        return;
    }
    let (server, address) = server().await;
    for (take, position) in [(30, 30), (70, 100)] {
        kcat(&address, "kc", take).await;
        assert_eq!(read(&server.broker, "kc"), position);
    }
    server.stop().await;
}

/// Has a native member settle so many events; answers their data.
async fn handle(broker: &Broker, count: usize) -> BTreeSet<String> {
    let subscription = Subscription {
        topics: vec![topic()],
        group: GroupName::new("both").unwrap(),
        order: Order::None,
        start: Start::Beginning,
    };
    let mut member = broker.bus().subscribe(subscription).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        for (delivery, settlement) in member.pull(count - seen.len()).await.unwrap() {
            settlement.settle(Commit::ack()).await.unwrap();
            let data = delivery.event.data().unwrap().to_vec();
            seen.insert(String::from_utf8(data).unwrap());
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_handlers_left_kcat_reads_on_and_the_other_way_round() {
    if !has_kcat().await {
        return;
    }
    let (server, address) = server().await;
    let mut seen = handle(&server.broker, 20).await;
    seen.extend(kcat(&address, "both", 50).await);
    assert_eq!(seen.len(), 70, "kcat reads on where the handlers were");
    seen.extend(handle(&server.broker, 30).await);
    assert_eq!(seen.len(), 100, "and they where it was");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_over_a_restart_of_the_server_and_misses_nothing() {
    let Some(folder) = installed().await else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let open = || Broker::open(data.path());
    let broker = open().await.unwrap();
    fill(&broker).await;
    let server = Server::bind(broker.clone(), config("127.0.0.1:0".parse().unwrap()));
    let server = server.await.unwrap();
    let address = server.kafka_addr().unwrap();
    let running = Running::of(broker, server);
    let mut script = python(&folder, "new", "groups_restart.py");
    script.arg(address.to_string()).arg(topic().as_str());
    let script = script.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut script = script.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut seen = BTreeSet::new();
    let mut next = async |seen: &mut BTreeSet<String>, count| {
        while seen.len() < count {
            let line = tokio::time::timeout(SCRIPT_TIMEOUT, lines.next_line()).await;
            let line = line.expect("nothing comes").unwrap();
            let line = line.expect("the script has ended");
            if line != "committed" {
                seen.insert(line);
            }
        }
    };
    next(&mut seen, 40).await;
    let shown = running.client().get("/v1/groups/restart").await.json();
    assert_eq!(shown["kind"], "classic", "{shown}");
    let classic = &shown["classic"];
    assert_eq!(
        (&classic["state"], &classic["protocol_type"]),
        (&"stable".into(), &"consumer".into())
    );
    let member = &classic["members"][0];
    assert_eq!(member["assignment"], "groups 0,1,2,3", "{shown}");
    assert_eq!(member["client_host"], "/127.0.0.1", "{shown}");
    assert!(shown["lag"].as_u64().unwrap() <= 61, "{shown}");
    let broker = running.broker.clone();
    running.stop().await;
    broker.close().await;
    drop(broker);
    let broker = open().await.unwrap();
    assert!(read(&broker, "restart") >= 39, "what was committed is kept");
    let server = Server::bind(broker.clone(), config(address)).await.unwrap();
    let running = Running::of(broker, server);
    let all = PARTITIONS as usize * EACH;
    let bus = running.broker.bus();
    for number in all..all + 20 {
        let published = bus.publish(topic(), vec![event(number)]);
        published.await.unwrap();
    }
    next(&mut seen, all + 20).await;
    let wanted: BTreeSet<_> = (0..all + 20).map(|n| format!("event-{n}")).collect();
    assert_eq!(seen, wanted);
    // What could not be committed while the server was away comes again, and is in the end.
    while read(&running.broker, "restart") < (all + 20) as u64 {
        let line = tokio::time::timeout(SCRIPT_TIMEOUT, lines.next_line()).await;
        line.expect("nothing is committed any longer").unwrap();
    }
    script.kill().await.unwrap();
    running.stop().await;
}
