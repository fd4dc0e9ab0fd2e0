//! Programs whose bus is `tidemill serve`: the server is killed and started again while they
//! publish and handle, and several of them share the work of one group. Nothing is lost, and
//! nothing is there twice.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Running, tidemill};
use tidemill::core::{
    Commit, Effects, Event, EventId, EventType, Fetch, GroupName, Key, Offset, Order, Outcome,
    Partition, SettleError, Source, Start, Subscription, TopicName,
};
use tidemill::{Bus, open};

/// How long anything may take that must come to an end.
const PATIENCE: Duration = Duration::from_secs(60);

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).unwrap()
}

fn event(id: String, key: String) -> Event {
    let builder = Event::builder(
        EventId::new(id).unwrap(),
        Source::new("/remote").unwrap(),
        EventType::new("counted").unwrap(),
    );
    builder.key(&Key::new(key).unwrap()).build().unwrap()
}

/// `tidemill serve` on a port that it gets again.
fn serve(data: &Path, address: &str) -> (Running, String) {
    let mut command = tidemill();
    command
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(["--http", address]);
    let mut running = Running::start(command);
    let url = running.line("http ");
    (running, url.trim_start_matches("http://").to_owned())
}

fn subscription(name: &str) -> Subscription {
    Subscription {
        topics: vec![topic(name)],
        group: GroupName::new("g").unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    }
}

async fn ids(bus: &Bus, name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut offset = Offset(0);
    loop {
        let fetch = Fetch {
            topic: topic(name),
            partition: Partition(0),
            offset,
            max_events: 1000,
            max_bytes: 1 << 20,
            wait: Duration::ZERO,
        };
        let fetched = bus.fetch(fetch).await.unwrap();
        if fetched.events.is_empty() {
            return ids;
        }
        ids.extend(
            fetched
                .events
                .iter()
                .map(|(_, event)| event.id().to_string()),
        );
        offset = fetched.next;
    }
}

/// Four at a time, each in the order of its own numbers.
async fn publish(bus: Bus, of_each: usize, published: Arc<AtomicUsize>) {
    let tasks = (0..4).map(|writer| {
        let (bus, published) = (bus.clone(), Arc::clone(&published));
        tokio::spawn(async move {
            for n in 0..of_each {
                let event = event(format!("{writer}-{n}"), format!("k{writer}"));
                let positions = bus.publish(topic("in"), vec![event]).await.unwrap();
                assert_eq!(positions.len(), 1);
                published.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Settles each event with one that it makes of it, until `count` are made.
async fn handle(bus: Bus, count: usize, handled: Arc<AtomicUsize>) {
    let mut member = bus.subscribe(subscription("in")).await.unwrap();
    let mut made = BTreeSet::new();
    while made.len() < count {
        for (delivery, settlement) in member.pull(16).await.unwrap() {
            let id = delivery.event.id().to_string();
            let out = event(format!("of {id}"), delivery.event.key().unwrap().to_owned());
            let commit = Commit {
                outcome: Outcome::Ack,
                effects: Effects {
                    events: vec![(topic("out"), out)],
                    reply: None,
                },
            };
            match settlement.settle(commit).await {
                Ok(positions) => {
                    assert_eq!(positions.len(), 1);
                    assert!(made.insert(id.clone()), "{id} was handled twice");
                    handled.fetch_add(1, Ordering::Relaxed);
                }
                // Kept without an answer, or it comes again: what there is tells.
                Err(SettleError::Stale) => {
                    let there = ids(&bus, "out").await;
                    made = there
                        .iter()
                        .filter_map(|id| id.strip_prefix("of "))
                        .map(str::to_owned)
                        .collect();
                }
                Err(error) => panic!("{id} could not be settled: {error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_loses_and_doubles_nothing_of_its_clients() {
    const KILLS: usize = 8;
    const OF_EACH: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let (mut server, address) = serve(folder.path(), "127.0.0.1:0");
    let bus = open(format!("tidemill://{address}")).await.unwrap();
    let (published, handled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let publishing = tokio::spawn(publish(bus.clone(), OF_EACH, Arc::clone(&published)));
    let handling = tokio::spawn(handle(bus.clone(), 4 * OF_EACH, Arc::clone(&handled)));
    let mut killed = 0;
    for kill in 1..=KILLS {
        // In the middle of both, each time further on.
        let due = kill * 4 * OF_EACH / (KILLS + 2);
        while published.load(Ordering::Relaxed) < due && !publishing.is_finished() {
            tokio::task::yield_now().await;
        }
        killed += usize::from(!publishing.is_finished() && !handling.is_finished());
        // With SIGKILL.
        drop(server);
        (server, _) = serve(folder.path(), &address);
    }
    tokio::time::timeout(PATIENCE, publishing)
        .await
        .unwrap()
        .unwrap();
    tokio::time::timeout(PATIENCE, handling)
        .await
        .unwrap()
        .unwrap();
    assert!(
        killed >= KILLS / 2,
        "only {killed} kills came in the middle"
    );
    for (name, prefix) in [("in", ""), ("out", "of ")] {
        let ids = ids(&bus, name).await;
        assert_eq!(ids.len(), 4 * OF_EACH, "{name}");
        for writer in 0..4 {
            let begin = format!("{prefix}{writer}-");
            let numbers = ids.iter().filter_map(|id| id.strip_prefix(&begin));
            let numbers: Vec<usize> = numbers.map(|n| n.parse().unwrap()).collect();
            assert!(
                numbers.iter().copied().eq(0..OF_EACH),
                "{name}: {writer} is out of order"
            );
        }
    }
    drop(server);
}

/// The variable that makes [`the_other_program`] one; it holds the server's address.
const OTHER: &str = "REMOTE_TEST_OTHER";

/// Not a test by itself: what [`two_programs_share_one_partition_by_keys`] starts as another
/// process. Tells of each event that it settles.
#[tokio::test]
async fn the_other_program() {
    let Ok(address) = std::env::var(OTHER) else {
        return;
    };
    let bus = open(format!("tidemill://{address}")).await.unwrap();
    let mut member = bus.subscribe(subscription("shared")).await.unwrap();
    println!("joined");
    loop {
        for (delivery, settlement) in member.pull(8).await.unwrap() {
            println!(
                "handled {} {}",
                delivery.event.key().unwrap(),
                delivery.event.id()
            );
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
}

struct Other {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_other_program",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(OTHER, address)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Some(BufReader::new(child.stdout.take().unwrap()));
        let mut other = Self { child, lines };
        // The test's name may stand before it.
        while !other.line().ends_with("joined") {}
        other
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.as_mut().unwrap().read_line(&mut line);
        assert!(read.unwrap() > 0, "the other program ended");
        line.trim().to_owned()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_share_one_partition_by_keys() {
    const COUNT: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = serve(folder.path(), "127.0.0.1:0");
    let bus = open(format!("tidemill://{address}")).await.unwrap();
    let mut others = [Other::start(&address), Other::start(&address)];
    let events = (0..COUNT).map(|n| event(n.to_string(), format!("k{}", n % 40)));
    bus.publish(topic("shared"), events.collect())
        .await
        .unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut readers = Vec::new();
    for (other, program) in others.iter_mut().enumerate() {
        let lines = program.lines.take().unwrap();
        let tell = tell.clone();
        readers.push(std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(handled) = line.strip_prefix("handled ") {
                    let (key, id) = handled.split_once(' ').unwrap();
                    let _ = tell.send((other, key.to_owned(), id.parse::<usize>().unwrap()));
                }
            }
        }));
    }
    let mut seen: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..COUNT {
        let next = tokio::time::timeout(PATIENCE, told.recv()).await;
        let (other, key, id) = next.unwrap().unwrap();
        seen.entry(key.clone()).or_default().push(id);
        by.entry(other).or_default().insert(key);
    }
    for (key, ids) in &seen {
        assert!(ids.is_sorted(), "{key} came out of order: {ids:?}");
        assert_eq!(ids.len(), COUNT / 40, "{key}: {ids:?}");
    }
    assert_eq!(by.len(), 2, "one of them did nothing: {by:?}");
    assert!(
        by[&0].is_disjoint(&by[&1]),
        "a key was handled by both: {by:?}"
    );
    drop(others);
    for reader in readers {
        reader.join().unwrap();
    }
}
