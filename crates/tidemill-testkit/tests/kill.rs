//! `kill -9` of a broker under load, twenty times on one folder of the real file system: nothing
//! acknowledged is lost, changed or doubled, the order of every key is kept, and what was
//! settled stays settled.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidemill_broker::Broker;
use tidemill_core::{Fetch, GroupName, Offset, Order, Partition, Start, Subscription, TopicName};
use tidemill_testkit::sim::Random;

const ROUNDS: u64 = 20;

/// The variable that asks for other rounds.
const ROUNDS_VARIABLE: &str = "TIDEMILL_KILL_ROUNDS";

/// What the children were told.
#[derive(Default)]
struct Told {
    acked: BTreeMap<(u32, u64), String>,
    settled: BTreeSet<String>,
}

/// Runs a child until it has said `lines` lines, kills it, and reads what it said until then.
fn run_and_kill(folder: &Path, round: u64, lines: usize, told: &mut Told) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_publish_until_killed"))
        .arg(folder)
        .arg(round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = 0;
    let mut line = String::new();
    // A last line without an end was cut off by the kill: nobody was told.
    while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ready"] => {}
            ["acked", partition, offset, id] => {
                let place = (partition.parse().unwrap(), offset.parse().unwrap());
                let before = told.acked.insert(place, id.to_owned());
                assert_eq!(before, None, "an offset was given twice: {place:?}");
            }
            ["settled", id] => assert!(told.settled.insert(id.to_owned()), "{id} settled twice"),
            _ => panic!("the child said {line}"),
        }
        said += 1;
        if said == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    assert!(
        said >= lines,
        "the child ended by itself after {said} lines"
    );
    child.wait().unwrap();
}

/// Everything that the broker keeps, by place.
async fn kept(broker: &Broker, topic: &TopicName) -> BTreeMap<(u32, u64), String> {
    let mut kept = BTreeMap::new();
    for partition in 0..3 {
        let mut offset = Offset(0);
        loop {
            let fetch = Fetch {
                topic: topic.clone(),
                partition: Partition(partition),
                offset,
                max_events: 1000,
                max_bytes: 1 << 20,
                wait: Duration::ZERO,
            };
            let fetched = broker.bus().fetch(fetch).await.unwrap();
            for (offset, event) in &fetched.events {
                kept.insert((partition, offset.0), event.id().to_string());
            }
            if fetched.events.is_empty() {
                assert_eq!(fetched.next, fetched.end);
                break;
            }
            offset = fetched.next;
        }
    }
    kept
}

/// The order of every key is the order of its publisher, round by round, without doubles.
fn check_order(kept: &BTreeMap<(u32, u64), String>) {
    let mut last: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (place, id) in kept {
        let parts: Vec<&str> = id.split('-').collect();
        let now = (parts[0].parse().unwrap(), parts[2].parse().unwrap());
        if let Some(before) = last.insert(parts[1], now) {
            assert!(
                before < now,
                "publisher {}: {now:?} after {before:?} at {place:?}",
                parts[1]
            );
        }
    }
}

/// Pulls everything that is not settled: none of it was.
async fn check_settled(broker: &Broker, topic: &TopicName, told: &Told, all: usize) -> usize {
    let subscription = Subscription {
        topics: vec![topic.clone()],
        group: GroupName::new("settlers").unwrap(),
        order: Order::None,
        start: Start::Beginning,
    };
    let group = broker.bus();
    let mut member = group.subscribe(subscription).await.unwrap();
    let lag: u64 = broker.groups()[0]
        .partitions
        .iter()
        .map(|partition| partition.lag)
        .sum();
    assert!(
        lag as usize + told.settled.len() <= all,
        "{lag} of {all} are not settled"
    );
    let mut held = Vec::new();
    while held.len() < (lag as usize).min(500) {
        held.extend(member.pull(100).await.unwrap());
    }
    for (delivery, _) in &held {
        let id = delivery.event.id().as_str();
        assert!(
            !told.settled.contains(id),
            "{id} was settled and came again"
        );
    }
    held.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_and_double_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let topic = TopicName::new("load").unwrap();
    let mut told = Told::default();
    let mut random = Random::new(20_261_121);
    let rounds = std::env::var(ROUNDS_VARIABLE);
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    for round in 1..=rounds {
        let lines = random.between(20, 3000) as usize;
        run_and_kill(folder.path(), round, lines, &mut told);
        let broker = Broker::open(folder.path()).await.unwrap();
        let kept = kept(&broker, &topic).await;
        for (place, id) in &told.acked {
            assert_eq!(
                kept.get(place),
                Some(id),
                "round {round}: acknowledged at {place:?}"
            );
        }
        let distinct: BTreeSet<&String> = kept.values().collect();
        assert_eq!(
            distinct.len(),
            kept.len(),
            "round {round}: an event is there twice"
        );
        check_order(&kept);
        let unsettled = check_settled(&broker, &topic, &told, kept.len()).await;
        println!(
            "round {round}: killed after {lines} lines; {} acknowledged, {} kept, {} settled, \
             {unsettled} looked at",
            told.acked.len(),
            kept.len(),
            told.settled.len()
        );
        broker.close().await;
    }
    assert!(told.acked.len() > 1000 && !told.settled.is_empty());
}
