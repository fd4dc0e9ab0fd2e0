//! A handler that aborts its process on one event among healthy ones: the process is started again
//! and again, until that event is a dead letter; all others are handled, each key's in order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg(feature = "broker")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidemill::core::dead_letter::DeadLetter;
use tidemill::core::{Attempt, Fetch, GroupName};
use tidemill::{
    Event, EventId, EventType, Handler as _, Key, Offset, Partition, Router, Source, State,
    TopicName, serve,
};
use tidemill_broker::Broker;
use tidemill_broker::limits::CRASHES_MAX;

const FOLDER: &str = "TIDEMILL_CRASH_FOLDER";
const EVENTS: u32 = 60;
const KEYS: u32 = 6;
const POISON: &str = "20";

fn key(number: u32) -> String {
    format!("k{}", number % KEYS)
}

async fn handle(State(seen): State<Arc<File>>, attempt: Attempt, event: Event) {
    let line = format!("{} {}\n", event.id(), attempt.0);
    (&*seen).write_all(line.as_bytes()).unwrap();
    if event.id().as_str() == POISON {
        std::process::abort();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn group() -> GroupName {
    GroupName::new("billing").unwrap()
}

async fn handle_all(folder: &Path) {
    let broker = Broker::open(folder.join("data")).await.unwrap();
    let mut seen = OpenOptions::new();
    let seen = seen.append(true).create(true).open(folder.join("seen"));
    let router = Router::new()
        .on_pattern("work", "job", handle.id("handle"))
        .with_state(Arc::new(seen.unwrap()));
    let done = {
        let broker = broker.clone();
        async move {
            while broker.group(&group()).is_none_or(|group| group.lag() > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    serve(broker.bus(), router)
        .group("billing")
        .with_graceful_shutdown(done)
        .await
        .unwrap();
    broker.close().await;
}

/// What the child does: handles everything, or dies. A test only so that the test's own program
/// can be started as the child.
#[test]
fn child_handles_everything_or_dies() {
    if let Ok(folder) = std::env::var(FOLDER) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(handle_all(Path::new(&folder)));
    }
}

/// Answers whether it ended well.
fn run_child(folder: &Path) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["child_handles_everything_or_dies", "--exact"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    child.status().unwrap().success()
}

async fn publish(folder: &Path) {
    let broker = Broker::open(folder.join("data")).await.unwrap();
    let events = (0..EVENTS).map(|number| {
        let id = EventId::new(number.to_string()).unwrap();
        let (source, ty) = (Source::new("/test"), EventType::new("job"));
        let event = Event::builder(id, source.unwrap(), ty.unwrap());
        event.key(&Key::new(key(number)).unwrap()).build().unwrap()
    });
    let work = TopicName::new("work").unwrap();
    broker.bus().publish(work, events.collect()).await.unwrap();
    broker.close().await;
}

async fn dead_letters(folder: &Path) -> Vec<DeadLetter> {
    let broker = Broker::open(folder.join("data")).await.unwrap();
    let bus = broker.bus();
    let fetched = bus.fetch(Fetch {
        topic: TopicName::new("billing.deadletter").unwrap(),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 9,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    });
    let events = fetched.await.unwrap().events;
    assert_eq!(broker.group(&group()).unwrap().lag(), 0);
    broker.close().await;
    let letters = events.iter().map(|(_, of)| DeadLetter::from_event(of));
    letters.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_handler_aborts_the_process_becomes_a_dead_letter_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path()).await;
    let mut deaths = 0;
    while !run_child(folder.path()) {
        deaths += 1;
        assert!(deaths <= CRASHES_MAX + 1, "it dies for ever");
    }
    assert_eq!(deaths, CRASHES_MAX + 1, "the first one marks nothing");

    let letters = dead_letters(folder.path()).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].event.id().as_str(), POISON);
    let failure = &letters[0].failure;
    assert_eq!(failure.reason, "crash");
    assert_eq!(failure.attempts, CRASHES_MAX);
    assert!(failure.error.contains("ended 3 times"), "{failure:?}");

    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    let lines = seen.lines().map(|line| line.split_once(' ').unwrap());
    let lines: Vec<(&str, u32)> = lines.map(|(id, n)| (id, n.parse().unwrap())).collect();
    let poison = lines.iter().filter(|(id, _)| *id == POISON);
    let attempts: Vec<u32> = poison.map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [1; 4], "no retry of a handler's is spent on it");
    let handled: BTreeSet<&str> = lines.iter().map(|(id, _)| *id).collect();
    assert_eq!(handled.len(), EVENTS as usize);
    // An event may be handled again after a death, but none before those of its key.
    let mut last = BTreeMap::new();
    for number in lines.iter().map(|(id, _)| id.parse::<u32>().unwrap()) {
        let before = last.entry(key(number)).or_insert(number);
        assert!(number <= *before + KEYS, "{number} overtakes");
        *before = number.max(*before);
    }
}
