//! Order, parallelism, first in first out, and the bounds.

use std::time::Duration;

use tidemill::{Event, Handler as _, Order, Router, State};

use crate::bus::TestBus;
use crate::tools::{Floor, job, publish, start};

async fn pass(State(floor): State<Floor>, event: Event) {
    floor.pass(&event).await;
}

fn router(floor: &Floor) -> Router {
    Router::new()
        .on_pattern("work", "job", pass.id("pass"))
        .with_state(floor.clone())
}

fn ids(ids: impl IntoIterator<Item = u32>) -> Vec<String> {
    ids.into_iter().map(|id| id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_of_a_key_are_handled_one_by_one_in_their_order() {
    const KEYS: u32 = 17;
    const EVENTS: u32 = 3000;
    let (bus, floor) = (TestBus::default(), Floor::new(EVENTS as usize));
    let key = |n: u32| format!("k{}", n * n % KEYS);
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(32).queue(300));
    for from in (0..EVENTS).step_by(100) {
        publish(&bus.bus(), (from..from + 100).map(|n| job(n, &key(n)))).await;
    }
    let state = floor.until(|s| s.ended.len() == EVENTS as usize).await;
    assert_eq!(state.clashes, Vec::<String>::new());
    let mut by_key = std::collections::HashMap::<_, u32>::new();
    for id in &state.begun {
        let number: u32 = id.parse().unwrap();
        if let Some(before) = by_key.insert(key(number), number) {
            assert!(before < number, "{number} began after {before}");
        }
    }
    let served = running.stop().await;
    assert_eq!(served.stats.acknowledged, u64::from(EVENTS));
    assert_eq!((served.stats.failed, served.cancelled), (0, 0));
}

#[tokio::test]
async fn a_busy_key_does_not_stop_others() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(8));
    let events = [
        (0, "a"),
        (1, "a"),
        (2, "b"),
        (3, "a"),
        (4, "c"),
        (5, ""),
        (6, ""),
    ];
    publish(&bus.bus(), events.map(|(id, key)| job(id, key))).await;
    let state = floor.until(|s| s.begun.len() == 5).await;
    assert_eq!(state.begun, ids([0, 2, 4, 5, 6]));
    assert_eq!(running.dispatcher.queue_len(), 2);
    assert_eq!(running.dispatcher.running(), 5);
    floor.open(7);
    let state = floor.until(|s| s.ended.len() == 7).await;
    assert_eq!(&state.begun[5..], ids([1, 3]));
    running.stop().await;
}

#[tokio::test]
async fn one_handler_at_a_time_takes_the_oldest_first() {
    let (bus, floor) = (TestBus::default(), Floor::new(100));
    let keys = ["a", "a", "b", "", "a", "b", ""];
    publish(&bus.bus(), (0..7).map(|n| job(n, keys[n]))).await;
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(1));
    let state = floor.until(|s| s.ended.len() == 7).await;
    assert_eq!(state.begun, ids(0..7));
    running.stop().await;
}

#[tokio::test]
async fn a_partition_is_handled_one_by_one_where_that_is_asked_for() {
    let (bus, floor) = (TestBus::default(), Floor::new(100));
    publish(&bus.bus(), (0..50).map(|n| job(n, ["a", "b", ""][n % 3]))).await;
    let running = start(&bus.bus(), router(&floor), |s| {
        s.ordering(Order::PerPartition)
    });
    let state = floor.until(|s| s.ended.len() == 50).await;
    assert_eq!((state.begun, state.most_at_once), (ids(0..50), 1));
    running.stop().await;
}

#[tokio::test]
async fn without_order_even_one_key_runs_in_parallel() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(&bus.bus(), (0..8).map(|n| job(n, "same"))).await;
    let running = start(&bus.bus(), router(&floor), |s| s.ordering(Order::None));
    floor.until(|s| s.begun.len() == 8).await;
    floor.open(8);
    running.stop().await;
}

#[tokio::test]
async fn concurrency_and_queue_are_bounded() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(&bus.bus(), (0..500).map(|n| job(n, ""))).await;
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(5).queue(20));
    floor.until(|s| s.begun.len() == 5).await;
    for more in 1..=495 {
        floor.open(1);
        floor.until(|s| s.begun.len() == 5 + more).await;
    }
    floor.open(5);
    let state = floor.until(|s| s.ended.len() == 500).await;
    assert_eq!(state.most_at_once, 5);
    assert_eq!(state.begun, ids(0..500), "first in, first out");
    assert_eq!(running.stop().await.stats.acknowledged, 500);
    assert_eq!(bus.state().most_held, 20);
}

#[tokio::test(start_paused = true)]
async fn the_last_free_handler_is_given_an_event_while_all_others_run() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(&bus.bus(), (0..7).map(|n| job(n, ""))).await;
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(8).queue(8));
    floor.until(|s| s.begun.len() == 7).await;
    publish(&bus.bus(), [job(7, "")]).await;
    let eighth = floor.until(|s| s.begun.len() == 8);
    let began = tokio::time::timeout(Duration::from_secs(60), eighth).await;
    began.expect("the eighth handler begins while seven still run");
    floor.open(8);
    assert_eq!(running.stop().await.stats.acknowledged, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_run_on_several_threads_at_once() {
    // Two handlers that block their threads until the other one is there.
    let meet = std::sync::Arc::new(std::sync::Barrier::new(2));
    let router = Router::new()
        .on_pattern(
            "work",
            "job",
            (|State(meet): State<std::sync::Arc<std::sync::Barrier>>, _: Event| async move {
                meet.wait();
            })
            .id("meet"),
        )
        .with_state(meet);
    let bus = TestBus::default();
    publish(&bus.bus(), [job(1, "a"), job(2, "b")]).await;
    let running = start(&bus.bus(), router, |s| s);
    while bus.state().acknowledged.len() < 2 {
        tokio::task::yield_now().await;
    }
    running.stop().await;
}
