//! The dispatcher on the real engine in memory.

use std::collections::HashMap;
use std::time::Duration;

use tidemill::core::dead_letter::DeadLetter;
use tidemill::core::{Fetch, RequestError};
use tidemill::{
    Bus, Effects, Event, Fail, Handler as _, Offset, Partition, Reply, Retry, Router, State,
    TopicName,
};

use crate::tools::{Floor, job, publish, start, topic};

async fn memory() -> Bus {
    tidemill::open("memory:").await.unwrap()
}

/// The first `count` events of a topic of one partition; waits until there are so many.
async fn read(bus: &Bus, topic: &str, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let fetched = bus.fetch(Fetch {
            topic: TopicName::new(topic.to_owned()).unwrap(),
            partition: Partition(0),
            offset: Offset(events.len() as u64),
            max_events: count,
            max_bytes: 1 << 20,
            wait: Duration::from_secs(10),
        });
        let fetched = fetched.await.unwrap();
        events.extend(fetched.events.into_iter().map(|(_, e)| (*e).clone()));
    }
    events
}

async fn pass(State(floor): State<Floor>, event: Event) {
    floor.pass(&event).await;
}

fn router(floor: &Floor) -> Router {
    Router::new()
        .on_pattern("work", "job", pass.id("pass"))
        .with_state(floor.clone())
}

/// Each key's events began in the order of their numbers, and none ran beside another.
fn assert_ordered(state: &crate::tools::State, key: impl Fn(u32) -> String) {
    assert_eq!(state.clashes, Vec::<String>::new());
    let mut by_key = HashMap::<_, u32>::new();
    for id in &state.begun {
        let number: u32 = id.parse().unwrap();
        if let Some(before) = by_key.insert(key(number), number) {
            assert!(before < number, "{number} began after {before}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_members_share_a_group_and_keep_the_order_of_every_key() {
    const EVENTS: u32 = 2000;
    let key = |n: u32| format!("k{}", n * n % 23);
    let (bus, floor) = (memory().await, Floor::new(EVENTS as usize));
    publish(&bus, (0..10).map(|n| job(n, &key(n)))).await;
    let one = start(&bus, router(&floor), |s| s.concurrency(16));
    let two = start(&bus, router(&floor), |s| s.concurrency(16));
    for from in (10..EVENTS).step_by(10) {
        publish(&bus, (from..from + 10).map(|n| job(n, &key(n)))).await;
    }
    let state = floor.until(|s| s.ended.len() >= EVENTS as usize).await;
    assert_ordered(&state, key);
    let (one, two) = (one.stop().await.stats, two.stop().await.stats);
    assert_eq!(one.acknowledged + two.acknowledged, u64::from(EVENTS));
    assert_eq!(floor.state().ended.len(), EVENTS as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_that_drained_is_followed_without_loss_or_doubles() {
    const EVENTS: u32 = 600;
    let key = |n: u32| format!("k{}", n % 7);
    let (bus, floor) = (memory().await, Floor::new(EVENTS as usize));
    publish(&bus, (0..EVENTS).map(|n| job(n, &key(n)))).await;
    let mut acknowledged = 0;
    for stop_at in [100, 250, 400, EVENTS as usize] {
        let running = start(&bus, router(&floor), |s| s.concurrency(5));
        floor.until(|s| s.begun.len() >= stop_at).await;
        acknowledged += running.stop().await.stats.acknowledged;
    }
    let state = floor.state();
    assert_ordered(&state, key);
    assert_eq!(state.begun.len(), EVENTS as usize);
    assert_eq!(acknowledged, u64::from(EVENTS));
}

#[tokio::test]
async fn returned_events_reach_the_next_group_with_the_settlement() {
    async fn forward(event: Event) -> Effects {
        let out = TopicName::new("out").unwrap();
        Effects {
            events: vec![(out, event)],
            reply: None,
        }
    }
    let (bus, floor) = (memory().await, Floor::new(100));
    let first = Router::new().on_pattern("work", "job", forward.id("forward"));
    let second = Router::new()
        .on_pattern("out", "job", pass.id("pass"))
        .with_state(floor.clone());
    let first = start(&bus, first, |s| s.concurrency(4));
    let second = start(&bus, second, |s| s.group("second"));
    publish(&bus, (0..100).map(|n| job(n, "same"))).await;
    let state = floor.until(|s| s.ended.len() == 100).await;
    assert!(state.begun.into_iter().eq((0..100).map(|n| n.to_string())));
    assert_eq!(first.stop().await.stats.published, 100);
    second.stop().await;
}

#[tokio::test]
async fn a_poisoned_event_is_kept_as_a_dead_letter_and_its_key_goes_on() {
    async fn moody(State(floor): State<Floor>, event: Event) -> Result<(), Fail> {
        floor.begin(&event);
        floor.end(&event);
        match event.id().as_str() {
            "bad" => Err(Fail::transient("it rains")),
            _ => Ok(()),
        }
    }
    let (bus, floor) = (memory().await, Floor::new(0));
    let (first, max) = (Duration::from_millis(1), Duration::from_millis(2));
    let handler = moody.id("moody").retry(Retry::times(2).backoff(first, max));
    let router = Router::new()
        .on_pattern("work", "job", handler)
        .with_state(floor.clone());
    publish(&bus, [job("bad", "k"), job("good", "k")]).await;
    let running = start(&bus, router, |s| s);
    let state = floor.until(|s| s.ended.len() == 4).await;
    assert_eq!(state.begun, ["bad", "bad", "bad", "good"]);
    let kept = read(&bus, "workers.deadletter", 1).await;
    let dead = DeadLetter::from_event(&kept[0]).unwrap();
    assert_eq!(
        (dead.event.id().as_str(), dead.failure.attempts),
        ("bad", 3)
    );
    assert_eq!(dead.origin.topic, topic());
    assert_eq!(dead.failure.handler.as_deref(), Some("moody"));
    running.stop().await;
}

#[tokio::test]
async fn a_caller_gets_the_reply_or_the_reason_why_there_is_none() {
    async fn answer(event: Event) -> Result<Reply<u32>, Fail> {
        match event.id().as_str() {
            "good" => Ok(Reply(42)),
            _ => Err(Fail::permanent("no such order")),
        }
    }
    let bus = memory().await;
    let router = Router::new().on_pattern("work", "job", answer.id("answer"));
    publish(&bus, [job("first", "k")]).await;
    let running = start(&bus, router, |s| s);
    let wait = Duration::from_secs(10);
    let reply = bus.request(topic(), job("good", "k"), wait).await.unwrap();
    assert_eq!(reply.data().unwrap(), "42");
    let error = bus
        .request(topic(), job("bad", "k"), wait)
        .await
        .unwrap_err();
    assert!(matches!(&error, RequestError::DeadLettered(why) if why.contains("no such order")));
    running.stop().await;
}
