//! Measures the broker alone: how many events a second are published, and how many go from
//! publisher to a settled delivery, with 1 and with 64 publishers, in memory and on disk.
//!
//! `cargo run --release -p tidemill-broker --example flow -- [seconds] [folder]`
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill_broker::Broker;
use tidemill_core::{
    Bus, Commit, Event, EventId, EventType, GroupName, Key, Order, Source, Start, Subscription,
    TopicName,
};

/// One of 10,000 keys, spread so that neighbours in the log have different ones.
fn key(publisher: usize, number: u64) -> u64 {
    let mixed = (number << 8 | publisher as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) % 10_000
}

fn event(publisher: usize, number: u64) -> Event {
    let id = EventId::new(format!("{publisher}-{number}")).unwrap();
    let source = Source::new("/bench").unwrap();
    Event::builder(id, source, EventType::new("made").unwrap())
        .key(&Key::new(format!("k{}", key(publisher, number))).unwrap())
        .data(
            "application/json",
            &br#"{"order_id":12345,"total":"19.99"}"#[..],
        )
        .build()
        .unwrap()
}

async fn publish(bus: Bus, at: usize, batch: u64, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) {
    let topic = TopicName::new("bench").unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let events = (number..number + batch).map(|n| event(at, n)).collect();
        number += batch;
        match bus.publish(topic.clone(), events).await {
            Ok(_) => count.fetch_add(batch, Ordering::Relaxed),
            Err(error) if error.is_retriable() => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
    }
}

/// Takes events and settles them, at most `credit` at a time.
async fn consume(bus: Bus, credit: usize, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) {
    let subscription = Subscription {
        topics: vec![TopicName::new("bench").unwrap()],
        group: GroupName::new("bench").unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let mut member = bus.subscribe(subscription).await.unwrap();
    let credits = Arc::new(tokio::sync::Semaphore::new(credit));
    while !stop.load(Ordering::Relaxed) {
        let first = credits.acquire().await.unwrap();
        let more = credits.available_permits();
        first.forget();
        let taken = credits
            .try_acquire_many(more as u32)
            .map(|more| more.forget());
        let asked = 1 + if taken.is_ok() { more } else { 0 };
        let pulled = tokio::time::timeout(Duration::from_millis(50), member.pull(asked)).await;
        let held = pulled.map(Result::unwrap).unwrap_or_default();
        credits.add_permits(asked - held.len());
        for (_, settlement) in held {
            let (credits, count) = (Arc::clone(&credits), Arc::clone(&count));
            tokio::spawn(async move {
                // At the end the member leaves before its last settlements.
                if settlement.settle(Commit::ack()).await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                credits.add_permits(1);
            });
        }
    }
}

async fn measure(broker: Broker, what: &str, publishers: usize, batch: u64, secs: f64, take: bool) {
    let stop = Arc::new(AtomicBool::new(false));
    let (published, settled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for at in 0..publishers {
        let (stop, count) = (Arc::clone(&stop), Arc::clone(&published));
        tasks.push(tokio::spawn(publish(broker.bus(), at, batch, stop, count)));
    }
    if take {
        let (stop, count) = (Arc::clone(&stop), Arc::clone(&settled));
        tasks.push(tokio::spawn(consume(broker.bus(), 1024, stop, count)));
    }
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(secs)).await;
    let took = began.elapsed().as_secs_f64();
    let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / took;
    println!(
        "{what:<9} {publishers:>2} publishers x {batch:>3}: published {:>8.0}/s, settled {:>7.0}/s",
        rate(&published),
        rate(&settled),
    );
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    broker.close().await;
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let secs = args.next().map_or(3.0, |secs| secs.parse().unwrap());
    let folder = args.next().map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("tidemill-flow"));
    for take in [false, true] {
        for (publishers, batch) in [(1, 1), (64, 1), (1, 100), (64, 100)] {
            let memory = Broker::builder().in_memory(1 << 30).open().await.unwrap();
            measure(memory, "in memory", publishers, batch, secs, take).await;
            let _ = std::fs::remove_dir_all(&folder);
            let disk = Broker::open(&folder).await.unwrap();
            measure(disk, "on disk", publishers, batch, secs, take).await;
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}
