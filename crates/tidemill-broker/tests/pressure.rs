//! A broker with little memory, and much that wants it at once: what is taken never passes the
//! bound, nobody waits for ever, and everything that was acknowledged arrives.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{id, join, topic};
use tidemill_broker::Broker;
use tidemill_core::budget::{Budget, Class};
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Commit, Event, EventId, EventType, Fetch, FetchError, Offset, Order, Partition, PublishError,
    Source,
};
use tokio::task::JoinSet;

const KIB: usize = 1024;
const MEMORY: usize = 8 * 1024 * KIB;

fn event(id: String, bytes: usize) -> Event {
    let id = EventId::new(id).unwrap();
    let ty = EventType::new("made").unwrap();
    let builder = Event::builder(id, Source::new("/test").unwrap(), ty);
    builder.untyped_data(vec![b'x'; bytes]).build().unwrap()
}

/// The most that was ever seen of the memory.
#[derive(Clone)]
struct Watched {
    memory: Budget,
    most: Arc<AtomicUsize>,
}

impl Watched {
    fn look(&self) {
        let total = self.memory.total();
        assert!(total <= self.memory.limit(), "{total}");
        assert_eq!(self.memory.over(), 0);
        self.most.fetch_max(total, Ordering::Relaxed);
    }
}

/// Publishes events one by one until each is acknowledged; answers how many times it was refused.
async fn publish(
    broker: Broker,
    watched: Watched,
    to: &str,
    ids: Vec<String>,
    bytes: usize,
) -> u64 {
    let bus = broker.bus();
    let mut refused = 0;
    for id in ids {
        loop {
            let published = bus.publish(topic(to), vec![event(id.clone(), bytes)]).await;
            watched.look();
            match published {
                Ok(_) => break,
                Err(PublishError::Unavailable(Unavailable::Overloaded)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    }
    refused
}

/// Takes and settles until all these events were seen; holds some while it goes on.
async fn consume(broker: Broker, watched: Watched, name: String, of: &str, all: BTreeSet<String>) {
    let mut member = join(&broker, &name, of, Order::None).await;
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    while seen.len() < all.len() {
        // Holding what was taken before, as long as there is more.
        let pulled = tokio::time::timeout(Duration::from_millis(100), member.pull(3)).await;
        watched.look();
        if let Ok(more) = pulled {
            held.extend(more.unwrap());
        }
        let settle = if held.len() > 2 { 1 } else { held.len() };
        for (delivery, settlement) in held.drain(..settle) {
            seen.insert(id(&delivery));
            settlement.settle(Commit::ack()).await.unwrap();
            watched.look();
        }
    }
    assert_eq!(seen, all, "{name}");
}

/// Reads everything by offset.
async fn read(broker: Broker, watched: Watched, of: &str, all: BTreeSet<String>) {
    let bus = broker.bus();
    let mut seen = BTreeSet::new();
    let mut offset = Offset(0);
    while seen.len() < all.len() {
        let fetch = Fetch {
            topic: topic(of),
            partition: Partition(0),
            offset,
            max_events: 100,
            max_bytes: 1024 * KIB,
            wait: Duration::from_millis(100),
        };
        match bus.fetch(fetch).await {
            Ok(fetched) => {
                seen.extend(
                    fetched
                        .events
                        .iter()
                        .map(|(_, event)| event.id().to_string()),
                );
                offset = fetched.next;
            }
            Err(FetchError::UnknownTopic(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
        watched.look();
    }
    assert_eq!(seen, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_pressure_the_memory_stays_within_its_bound_and_everything_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Broker::builder().path(folder.path()).memory(MEMORY);
    let broker = builder.open().await.unwrap();
    let watched = Watched {
        memory: broker.memory().clone(),
        most: Arc::default(),
    };
    let large = |publisher: usize| -> Vec<String> {
        (0..12).map(|n| format!("large-{publisher}-{n}")).collect()
    };
    let small: Vec<String> = (0..300).map(|n| format!("small-{n}")).collect();
    let all_large: BTreeSet<String> = (0..6).flat_map(large).collect();
    let all_small: BTreeSet<String> = small.iter().cloned().collect();

    let mut tasks = JoinSet::new();
    for publisher in 0..6 {
        let (broker, watched) = (broker.clone(), watched.clone());
        let ids = large(publisher);
        tasks.spawn(async move {
            publish(broker, watched, "large", ids, 300 * KIB).await;
        });
    }
    let publishing = publish(broker.clone(), watched.clone(), "small", small, 100);
    tasks.spawn(async move {
        publishing.await;
    });
    for number in 0..8 {
        let (broker, watched) = (broker.clone(), watched.clone());
        let (name, all) = (format!("large-{number}"), all_large.clone());
        tasks.spawn(consume(broker, watched, name, "large", all));
    }
    for number in 0..4 {
        let (broker, watched) = (broker.clone(), watched.clone());
        let (name, all) = (format!("small-{number}"), all_small.clone());
        tasks.spawn(consume(broker, watched, name, "small", all));
    }
    for _ in 0..3 {
        let (broker, watched) = (broker.clone(), watched.clone());
        tasks.spawn(read(broker, watched, "large", all_large.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let most = watched.most.load(Ordering::Relaxed);
    assert!(most > MEMORY / 4, "there was no pressure: {most}");
    broker.close().await;
    drop(broker);
    for class in [Class::Writes, Class::Settlements, Class::Reads] {
        assert_eq!(watched.memory.used(class), 0, "{class:?}");
    }
}

#[tokio::test]
async fn a_publish_that_can_never_fit_is_too_large_and_says_how_large_it_may_be() {
    let broker = Broker::builder().memory(MEMORY).open().await.unwrap();
    let max_bytes = MEMORY / 64 * 3;
    let bus = broker.bus();
    let much = bus.publish(topic("t"), vec![event("1".into(), max_bytes + 1)]);
    let refused = much.await.unwrap_err();
    let too_large = PublishError::TooLarge {
        size_bytes: max_bytes + 1,
        max_bytes,
    };
    assert_eq!(refused, too_large);
    let fits = vec![event("1".into(), max_bytes - KIB)];
    bus.publish(topic("t"), fits).await.unwrap();
}

#[tokio::test]
async fn a_group_that_has_nothing_gets_the_memory_of_what_waits_in_others() {
    let broker = Broker::builder().memory(MEMORY).open().await.unwrap();
    let bus = broker.bus();
    for n in 0..200 {
        let event = event(n.to_string(), 60 * KIB);
        bus.publish(topic("t"), vec![event]).await.unwrap();
    }
    // These read ahead, settle one event each, and do not come again for long.
    let mut idle = Vec::new();
    for n in 0..40 {
        let mut member = join(&broker, &format!("idle-{n}"), "t", Order::None).await;
        let (delivery, settlement) = member.pull(1).await.unwrap().remove(0);
        assert_eq!(id(&delivery), "0");
        settlement.settle(Commit::ack()).await.unwrap();
        idle.push(member);
        let used = broker.memory().used(Class::Deliveries);
        assert!(used <= broker.memory().max(Class::Deliveries));
    }
    // What was given back is read again, and nothing of it is lost or doubled.
    for member in &mut idle {
        let (delivery, settlement) = member.pull(1).await.unwrap().remove(0);
        assert_eq!(id(&delivery), "1");
        settlement.settle(Commit::ack()).await.unwrap();
    }
    assert_eq!(broker.memory().over(), 0);
}

/// Time stands still but where everybody waits, so nothing here takes as long as it says.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_finds_no_memory_is_refused_after_a_while() {
    let disk = std::sync::Arc::new(tidemill_log::driver::MemoryDisk::new(64 << 20));
    let builder = Broker::builder().memory(MEMORY).disk(disk);
    let broker = builder.open_blocking().unwrap();
    let bus = broker.bus();
    let sent = event("a".to_owned(), KIB);
    bus.publish(topic("t"), vec![sent]).await.unwrap();
    let fetch = |wait| Fetch {
        topic: topic("t"),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 10,
        max_bytes: 100 * KIB,
        wait,
    };
    let taken = |broker: &Broker| {
        let mut share = broker.memory().empty(Class::Reads);
        while share.grow(KIB) {}
        share
    };
    let held = taken(&broker);
    let refused = FetchError::Unavailable(Unavailable::Overloaded);
    for wait in [Duration::ZERO, Duration::from_secs(3600)] {
        let began = tokio::time::Instant::now();
        let fetched = bus.fetch(fetch(wait)).await;
        assert_eq!(fetched.err(), Some(refused.clone()));
        let waited = began.elapsed();
        assert!(waited >= tidemill_broker::limits::FETCH_MEMORY_WAIT);
        assert!(waited < 2 * tidemill_broker::limits::FETCH_MEMORY_WAIT);
    }
    // Given back in time, it is read.
    let fetching = tokio::spawn({
        let (bus, fetch) = (bus.clone(), fetch(Duration::ZERO));
        async move { bus.fetch(fetch).await }
    });
    tokio::time::sleep(tidemill_broker::limits::FETCH_MEMORY_WAIT / 2).await;
    assert!(!fetching.is_finished());
    drop(held);
    assert_eq!(fetching.await.unwrap().unwrap().events.len(), 1);
    assert_eq!(broker.memory().used(Class::Reads), 0);
}

/// An event that came while there was more memory is more than all that groups may have, so it is
/// held beyond the limit. Its dead letter is no less, and was refused for as long as it was held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_larger_than_the_memory_of_deliveries_can_be_dead_lettered() {
    const BYTES: usize = 12 * 1024 * KIB;
    let disk = Arc::new(tidemill_log::driver::MemoryDisk::new(256 << 20));
    let open = |memory: usize| {
        let builder = Broker::builder().memory(memory).disk(disk.clone());
        builder.event_max_bytes(BYTES).open_blocking().unwrap()
    };
    let broker = open(512 * 1024 * KIB);
    let large = event("large".to_owned(), BYTES);
    broker.bus().publish(topic("t"), vec![large]).await.unwrap();
    broker.close().await;
    let broker = open(MEMORY);
    assert!(BYTES > broker.memory().max(Class::Deliveries));
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let (_, settlement) = support::take(&mut *member, 1).await.remove(0);
    assert!(broker.memory().over_in(Class::Deliveries) > 0);
    let settled = settlement.settle(support::dead_letter("poison")).await;
    assert_eq!(settled.unwrap().len(), 1);
    let letters = broker.topic(&topic("g.deadletter")).unwrap();
    assert_eq!(letters.partitions[0].end, Offset(1));
    assert_eq!(broker.group(&support::group("g")).unwrap().lag(), 0);
    drop(member);
    broker.close().await;
}
